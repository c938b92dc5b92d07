package command

import (
	"fmt"
	"strconv"

	"twinlog/schema"
)

// Kind is what a change does to its keys, as far as it matters when both
// sites change them at once.
type Kind byte

// The kinds. What is none of the others overwrites, moves or alters.
const (
	Overwrite  Kind = iota // any other change
	Deletion               // removes a whole key
	Increment              // INCR and its like, of integers: any order gives the same
	Addition               // SADD: any order gives the same
	PutFields              // HSET: of different fields any order gives the same
	PutMembers             // ZADD, unconditional: of different members any order gives the same
	Removal                // removes named elements and does nothing else
	Pop                    // removes elements that it does not name: LPOP, LTRIM, ZREMRANGEBYRANK, LMOVE
	Whole                  // the value of an r event
	Wipe                   // FLUSHDB, FLUSHALL: a deletion of every key
	Swap                   // SWAPDB
)

// KeyTouch is one key that a change reads or writes.
type KeyTouch struct {
	DB      int32
	Name    []byte
	Written bool
}

// Touch is what a change reads and writes. Its slices alias the event's.
type Touch struct {
	Kind Kind
	Keys []KeyTouch // written ones first
	// Elements are those that the change names: fields, members, list values,
	// stream ids. None: it may concern all of them.
	Elements [][]byte
	// DBs are the databases of a Wipe or Swap; none: all.
	DBs []int32

	keys Keys
}

// Clear makes t the touch of what changes nothing.
func (t *Touch) Clear() {
	t.Kind, t.Keys, t.Elements, t.DBs = Overwrite, t.Keys[:0], t.Elements[:0], t.DBs[:0]
}

// Of makes t the touch of e. Events without keys (PUBLISH, FUNCTION, control)
// touch nothing; VALUE_DUE stands for a write of its key.
func (t *Touch) Of(e *schema.Event) error {
	t.Clear()
	switch e.Op {
	case schema.OpDelete:
		t.Kind = Deletion
		t.write(e.DB, e.Key)
	case schema.OpValue:
		if t.Kind = Whole; e.Value.Kind == schema.KindNone && !e.Part.Set {
			t.Kind = Deletion
		}
		t.write(e.DB, e.Key)
	case schema.OpWrite:
		if e.Part.Set { // all its keys are the event's own
			t.write(e.DB, e.Key)
			for _, k := range e.OtherKeys {
				t.write(e.DB, k)
			}
			return nil
		}
		return t.command(e)
	case schema.OpTruncate:
		return t.truncate(e)
	case schema.OpControl:
		if e.Command == schema.ValueDue {
			t.write(e.DB, e.Key)
		}
	case schema.OpMessage, schema.OpFunction:
	}
	return nil
}

// Multi tells whether the change touches more than one key.
func (t *Touch) Multi() bool { return len(t.Keys) > 1 }

func (t *Touch) write(db int32, key []byte) {
	t.Keys = append(t.Keys, KeyTouch{DB: db, Name: key, Written: true})
}

func (t *Touch) truncate(e *schema.Event) error {
	if e.Command != "SWAPDB" {
		if t.Kind = Wipe; e.DB != schema.NoDB {
			t.DBs = append(t.DBs, e.DB)
		}
		return nil
	}
	t.Kind = Swap
	for _, a := range e.Args {
		db, err := strconv.ParseInt(string(a), 10, 32)
		if err != nil {
			return fmt.Errorf("SWAPDB: %q is not a database", shown(a))
		}
		t.DBs = append(t.DBs, int32(db))
	}
	return nil
}

func (t *Touch) command(e *schema.Event) error {
	c := byName[e.Command] // in effect form, so in upper case
	if c == nil {
		return &UnknownError{Name: e.Command}
	}
	if k := &c.keys; k.find == nil && k.first == 1 && k.last == 1 && c.subs == nil {
		t.write(e.DB, e.Key)
	} else if err := t.several(c, e); err != nil {
		return err
	}
	if c.touches == nil {
		return nil
	}
	return c.touches(t, e.Args)
}

// several adds the keys of a command that may have more than one.
func (t *Touch) several(c *Command, e *schema.Event) error {
	t.keys.Reset()
	if err := c.AppendKeys(&t.keys, e.Args); err != nil {
		return err
	}
	db := e.DB
	if c.Name == "COPY" {
		for i := 2; i+1 < len(e.Args); i++ {
			if !is(e.Args[i], "DB") {
				continue
			}
			n, err := strconv.ParseInt(string(e.Args[i+1]), 10, 32)
			if err != nil {
				return fmt.Errorf("COPY: %q is not a database", shown(e.Args[i+1]))
			}
			db = int32(n)
		}
	}
	for _, k := range t.keys.Written {
		t.write(db, k)
	}
	for _, k := range t.keys.Read {
		t.Keys = append(t.Keys, KeyTouch{DB: e.DB, Name: k})
	}
	if db != e.DB && len(t.keys.Read) == 0 { // COPY k k DB 1: one name, two keys
		t.Keys = append(t.Keys, KeyTouch{DB: e.DB, Name: e.Args[0]})
	}
	return nil
}

// touches completes the touch of a command from its arguments.
type touches func(t *Touch, args [][]byte) error

// touchesOf says of each command that is more than an overwrite of all its
// keys hold what it is. Commands are in effect form.
var touchesOf = map[string]touches{
	"INCR": kind(Increment), "INCRBY": kind(Increment), "DECR": kind(Increment), "DECRBY": kind(Increment),
	"SADD": named(Addition, 1, 1),
	"HSET": named(PutFields, 1, 2), "HMSET": named(PutFields, 1, 2),
	"ZADD": touchZADD,

	"HINCRBY": one(Overwrite, 1), "HINCRBYFLOAT": one(Overwrite, 1), "ZINCRBY": one(Overwrite, 2),
	"LPUSH": named(Overwrite, 1, 1), "RPUSH": named(Overwrite, 1, 1), "LINSERT": one(Overwrite, 3), "LSET": one(Overwrite, 2),
	"HPEXPIREAT": touchFields, "HPERSIST": touchFields, "HSETEX": touchPairs,
	"XADD": touchXADD,

	"HDEL": named(Removal, 1, 1), "SREM": named(Removal, 1, 1), "ZREM": named(Removal, 1, 1), "XDEL": named(Removal, 1, 1),
	"LREM": one(Removal, 2), "VREM": one(Removal, 1),

	"LPOP": kind(Pop), "RPOP": kind(Pop), "LTRIM": kind(Pop), "XTRIM": kind(Pop), "ZPOPMIN": kind(Pop), "ZPOPMAX": kind(Pop),
	"ZREMRANGEBYLEX": kind(Pop), "ZREMRANGEBYRANK": kind(Pop), "ZREMRANGEBYSCORE": kind(Pop),
	"LMOVE": kind(Pop), "RPOPLPUSH": kind(Pop),

	"MOVE": touchMove,
}

func kind(k Kind) touches {
	return func(t *Touch, _ [][]byte) error { t.Kind = k; return nil }
}

// named is for commands whose arguments from the one at first on, step apart,
// are elements.
func named(k Kind, first, step int) touches {
	return func(t *Touch, args [][]byte) error {
		t.Kind = k
		for i := first; i < len(args); i += step {
			t.Elements = append(t.Elements, args[i])
		}
		return nil
	}
}

// one is for commands with one element.
func one(k Kind, at int) touches {
	return func(t *Touch, args [][]byte) error {
		if at >= len(args) {
			return errArgs
		}
		t.Kind, t.Elements = k, append(t.Elements, args[at])
		return nil
	}
}

// touchZADD tells the plain form, which sets scores, from the conditional ones.
func touchZADD(t *Touch, args [][]byte) error {
	at := 1
	for at < len(args) && isAny(args[at], "NX", "XX", "GT", "LT", "CH", "INCR") {
		at++
	}
	if at == 1 {
		t.Kind = PutMembers
	}
	for i := at + 1; i < len(args); i += 2 {
		t.Elements = append(t.Elements, args[i])
	}
	return nil
}

// touchFields is for … FIELDS n field ….
func touchFields(t *Touch, args [][]byte) error {
	return t.fields(args, 1)
}

// touchPairs is for … FIELDS n field value ….
func touchPairs(t *Touch, args [][]byte) error {
	return t.fields(args, 2)
}

// fields adds what follows FIELDS n, which stands behind the key, step apart.
func (t *Touch) fields(args [][]byte, step int) error {
	at := 1
	for at < len(args) && !is(args[at], "FIELDS") {
		at++
	}
	if at+2 >= len(args) {
		return errArgs
	}
	return named(t.Kind, at+2, step)(t, args)
}

// touchXADD: the id is the first argument that begins with a digit and is
// no option's.
func touchXADD(t *Touch, args [][]byte) error {
	at := 1
	for at < len(args) {
		switch {
		case isAny(args[at], "KEEPREF", "DELREF", "ACKED"):
			at++
			continue
		case isAny(args[at], "MAXLEN", "MINID"):
			if at++; at < len(args) && isAny(args[at], "=", "~") {
				at++
			}
			at++
			continue
		}
		t.Elements = append(t.Elements, args[at])
		return nil
	}
	return errArgs
}

// touchMove adds the key in the other database.
func touchMove(t *Touch, args [][]byte) error {
	if len(args) != 2 {
		return errArgs
	}
	db, err := strconv.ParseInt(string(args[1]), 10, 32)
	if err != nil {
		return fmt.Errorf("MOVE: %q is not a database", shown(args[1]))
	}
	t.write(int32(db), args[0])
	return nil
}

// OnlyRemoves tells whether a command in effect form does nothing but remove
// elements.
func OnlyRemoves(name string) bool { return onlyRemoves[name] }

var onlyRemoves = removing()

func removing() map[string]bool {
	m := map[string]bool{}
	for name, f := range touchesOf {
		t := Touch{}
		if err := f(&t, [][]byte{{'k'}, {'1'}, {'1'}}); err == nil && (t.Kind == Removal || t.Kind == Pop) {
			m[name] = true
		}
	}
	return m
}
