package command

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"twinlog/schema"
)

// UnknownError stops a direction (G5): the keys of a command that is not
// known cannot be told, so it can neither be carried nor be left out.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("command %q is not known, so which keys it writes cannot be told and the direction stops before it. "+
		"If a module brought it, keep the module's data in a Redis of its own, outside the link, and start the direction anew; "+
		"if a newer Redis did, run a newer twinlog", e.Name)
}

// AppendChanges appends what one replicated command, argv with its name run
// in database db, is as events, with Op, DB, Key, OtherKeys, Command and Args
// set and all else zero. Most commands are one event; MSET, DEL and their
// like are one per key, MOVE is two, and what changes nothing is none.
//
// Events are in effect form: the command names are upper case, times are
// absolute, and a condition that held at the origin is left out where that
// is exact, which is where it was all or nothing.
//
// Key, OtherKeys and Args alias argv and words that nobody may write to.
// They are full slices: appending to one never reaches its neighbour.
//
// What a replication stream cannot hold is an error, as is its plumbing
// (SELECT, MULTI, PING, …), which the stream's reader handles. On error dst
// is returned as it was.
func AppendChanges(dst []schema.Event, db int32, argv [][]byte) ([]schema.Event, error) {
	if len(argv) == 0 {
		return dst, errors.New("a command without a name")
	}
	c, args := Lookup(argv[0]), argv[1:len(argv):len(argv)]
	if c == nil {
		return dst, &UnknownError{Name: shown(argv[0])}
	}
	c = c.sub(args)
	if err := c.checkArity(args); err != nil {
		return dst, fmt.Errorf("%s: %w", c.Name, err)
	}
	changes, err := c.effect(c, dst, db, args)
	if err != nil {
		return dst, fmt.Errorf("%s: %w", c.Name, err)
	}
	return changes, nil
}

// Pieces hands out a command in several that together have the same changes,
// of at most so many keys each, if it is one change for each key; any other
// command as it is.
func Pieces(argv [][]byte, keys int) iter.Seq[[][]byte] {
	return func(yield func([][]byte) bool) {
		c, step := Lookup(argv[0]), 0
		if c != nil {
			step = argsOfKey[c.Name]
		}
		args := argv[1:]
		if step == 0 || len(args)%step != 0 {
			yield(argv)
			return
		}
		for some := range slices.Chunk(args, keys*step) {
			if !yield(append([][]byte{argv[0]}, some...)) {
				return
			}
		}
	}
}

// argsOfKey is how many arguments each key has, in commands of nothing else
// that are one change for each key.
var argsOfKey = map[string]int{"MSET": 2, "MSETNX": 2, "DEL": 1, "UNLINK": 1}

// NeedsRefresh tells that e cannot be applied by running its command again:
// what SORT … STORE leaves behind depends on keys that it does not name and
// on the order in which its source was filled. The destination's value has
// to follow, read from the origin.
func NeedsRefresh(e *schema.Event) bool {
	return e.Op == schema.OpWrite && e.Command == "SORT"
}

// effect appends what a command of the stream is as events. The number of
// args, which are without the name, is checked already.
type effect func(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error)

// asIs is the effect of commands that mean the same wherever they are run.
func asIs(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	return c.write(dst, db, c.verb, args)
}

// as is the effect of commands that another one, with the same arguments,
// does without their condition or reply.
func as(verb string) effect {
	return func(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
		return c.write(dst, db, verb, args)
	}
}

// write appends the write that verb makes of args, whose keys stand where
// they stand for c.
func (c *Command) write(dst []schema.Event, db int32, verb string, args [][]byte) ([]schema.Event, error) {
	written, _, err := c.spans(args)
	if err != nil {
		return nil, err
	}
	if written.n == 0 {
		return nil, errReads
	}
	e := schema.Event{Op: schema.OpWrite, DB: db, Key: args[written.first], Command: verb, Args: args}
	if written.n > 1 { // adjacent in all commands that are one event
		end := written.first + written.n
		e.OtherKeys = args[written.first+1 : end : end]
	}
	return append(dst, e), nil
}

var (
	errReads     = errors.New("it writes no key, so it does not belong in a replication stream")
	errPlumbing  = errors.New("it steers the connection and is no change: the reader of the stream handles it")
	errRewritten = errors.New("servers since 7.0 replicate what this command did, never the command itself: upgrade the server")
	errRelative  = errors.New("its expiry counts from a moment that the stream does not tell; servers since 7.0 replicate absolute times: upgrade the server")
)

// Effects of commands that a stream cannot hold.

func notSent(*Command, []schema.Event, int32, [][]byte) ([]schema.Event, error) {
	return nil, errReads
}

func plumbing(*Command, []schema.Event, int32, [][]byte) ([]schema.Event, error) {
	return nil, errPlumbing
}

func rewritten(*Command, []schema.Event, int32, [][]byte) ([]schema.Event, error) {
	return nil, errRewritten
}

func relative(*Command, []schema.Event, int32, [][]byte) ([]schema.Event, error) {
	return nil, errRelative
}

// unknownSub is the effect of a container whose subcommand has no row.
func unknownSub(c *Command, _ []schema.Event, _ int32, args [][]byte) ([]schema.Event, error) {
	return nil, &UnknownError{Name: c.Name + " " + shown(args[0])}
}

// noChange is the effect of commands that leave what the site holds as it was.
func noChange(_ *Command, dst []schema.Event, _ int32, _ [][]byte) ([]schema.Event, error) {
	return dst, nil
}

const maxShown = 64

// shown shortens what an error names.
func shown(b []byte) string { return string(b[:min(len(b), maxShown)]) }
