package command

import (
	"fmt"
	"strconv"

	"twinlog/schema"
)

// del is DEL and UNLINK: one deletion a key.
func del(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	for i, key := range args {
		dst = append(dst, schema.Event{Op: schema.OpDelete, DB: db, Key: key, Command: c.verb, Args: args[i : i+1 : i+1]})
	}
	return dst, nil
}

// toDel is GETDEL, DELEX, DELIFEQ: a deletion whose reply or condition is over.
func toDel(_ *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	return append(dst, schema.Event{Op: schema.OpDelete, DB: db, Key: args[0], Command: "DEL", Args: args[:1:1]}), nil
}

// move is MOVE key db. It fails if the key exists there: that is removed first.
func move(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	to, err := strconv.ParseInt(string(args[1]), 10, 32)
	if err != nil || to < 0 || to == int64(db) {
		return nil, fmt.Errorf("%q is not another database", shown(args[1]))
	}
	dst, err = toDel(c, dst, int32(to), args)
	if err != nil {
		return nil, err
	}
	return asIs(c, dst, db, args)
}

// copyKey is COPY source destination [DB n] [REPLACE].
func copyKey(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	for i := 2; i < len(args); i++ {
		switch {
		case is(args[i], "REPLACE"):
			return asIs(c, dst, db, args)
		case is(args[i], "DB"):
			i++
		default:
			return nil, unknownOption(args[i])
		}
	}
	return asIs(c, dst, db, append(args, wordReplace))
}

// restore is RESTORE key time payload [REPLACE] [ABSTTL] [IDLETIME s] [FREQ n].
func restore(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	replace, absolute := false, false
	for i := 3; i < len(args); i++ {
		switch {
		case is(args[i], "REPLACE"):
			replace = true
		case is(args[i], "ABSTTL"):
			absolute = true
		case isAny(args[i], "IDLETIME", "FREQ"):
			i++
		default:
			return nil, unknownOption(args[i])
		}
	}
	if !absolute && !isZero(args[1]) {
		return nil, errRelative
	}
	if !replace {
		args = append(args, wordReplace)
	}
	return asIs(c, dst, db, args)
}

// expireAt is PEXPIREAT key ms and EXPIREAT key s, [NX|XX|GT|LT].
func expireAt(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	for _, w := range args[2:] {
		if !isAny(w, "NX", "XX", "GT", "LT") {
			return nil, unknownOption(w)
		}
	}
	if c.verb == "PEXPIREAT" {
		return asIs(c, dst, db, args[:2:2])
	}
	ms, err := milliseconds(args[1])
	if err != nil {
		return nil, err
	}
	return c.write(dst, db, "PEXPIREAT", [][]byte{args[0], ms})
}

// Effects on a whole database, or none at all.

func flushDB(c *Command, dst []schema.Event, db int32, _ [][]byte) ([]schema.Event, error) {
	return append(dst, schema.Event{Op: schema.OpTruncate, DB: db, Command: c.verb}), nil
}

func flushAll(c *Command, dst []schema.Event, _ int32, _ [][]byte) ([]schema.Event, error) {
	return flushDB(c, dst, schema.NoDB, nil)
}

func swapDB(c *Command, dst []schema.Event, _ int32, args [][]byte) ([]schema.Event, error) {
	return append(dst, schema.Event{Op: schema.OpTruncate, DB: schema.NoDB, Command: c.verb, Args: args}), nil
}

// sentinelHello is the channel on which the Sentinels of a master find each
// other. At another site it would make those of both sites one group, which
// takes the nodes of one for replicas of the other.
const sentinelHello = "__sentinel__:hello"

func message(c *Command, dst []schema.Event, _ int32, args [][]byte) ([]schema.Event, error) {
	if string(args[0]) == sentinelHello {
		return dst, nil
	}
	return append(dst, schema.Event{Op: schema.OpMessage, DB: schema.NoDB, Command: c.verb, Args: args}), nil
}

// Effects of FUNCTION.

// functionLoad is FUNCTION LOAD [REPLACE] code.
func functionLoad(c *Command, dst []schema.Event, _ int32, args [][]byte) ([]schema.Event, error) {
	if len(args) > 2 && !is(args[1], "REPLACE") || len(args) > 3 {
		return nil, unknownOption(args[1])
	}
	return c.function(dst, wordLoad, wordReplace, args[len(args)-1])
}

// functionRestore is FUNCTION RESTORE payload [FLUSH|APPEND|REPLACE]. APPEND,
// the default, fails where a library exists: the origin had none of them.
func functionRestore(c *Command, dst []schema.Event, _ int32, args [][]byte) ([]schema.Event, error) {
	policy := wordReplace
	switch {
	case len(args) == 2 || len(args) == 3 && isAny(args[2], "APPEND", "REPLACE"):
	case len(args) == 3 && is(args[2], "FLUSH"):
		policy = wordFlush
	default:
		return nil, unknownOption(args[2])
	}
	return c.function(dst, wordRestore, args[1], policy)
}

func functionDelete(c *Command, dst []schema.Event, _ int32, args [][]byte) ([]schema.Event, error) {
	return c.function(dst, wordDelete, args[1])
}

// functionFlush is FUNCTION FLUSH [ASYNC|SYNC].
func functionFlush(c *Command, dst []schema.Event, _ int32, _ [][]byte) ([]schema.Event, error) {
	return c.function(dst, wordFlush)
}

func (c *Command) function(dst []schema.Event, args ...[]byte) ([]schema.Event, error) {
	return append(dst, schema.Event{Op: schema.OpFunction, DB: schema.NoDB, Command: c.verb, Args: args}), nil
}
