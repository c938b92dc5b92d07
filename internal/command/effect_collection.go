package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"twinlog/schema"
)

// hexpireAt is HPEXPIREAT key ms and HEXPIREAT key s, [NX|XX|GT|LT] FIELDS n
// field …. Servers differ in whether they name fields that did not meet the
// condition, so it goes only where there is one field.
func hexpireAt(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	at := 2
	if !is(args[at], "FIELDS") {
		if !isAny(args[at], "NX", "XX", "GT", "LT") {
			return nil, unknownOption(args[at])
		}
		at++
	}
	n, err := countFields(args, at, 1)
	if err != nil {
		return nil, err
	}
	if at == 3 && n == 1 {
		args = slices.Concat(args[:2], args[3:])
	}
	if c.verb == "HPEXPIREAT" {
		return asIs(c, dst, db, args)
	}
	ms, err := milliseconds(args[1])
	if err != nil {
		return nil, err
	}
	return c.write(dst, db, "HPEXPIREAT", slices.Concat(args[:1], [][]byte{ms}, args[2:]))
}

// hsetex is HSETEX key [NX|XX] [FNX|FXX] [expiry] FIELDS n field value ….
// Its conditions are all or nothing.
func hsetex(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	at := 1 + slices.IndexFunc(args[1:], func(w []byte) bool { return is(w, "FIELDS") })
	if _, err := countFields(args, at, 2); err != nil {
		return nil, err
	}
	if isPlain(args[1:at]) {
		return asIs(c, dst, db, args)
	}
	ttl, err := parseExpiry(args[1:at])
	if err != nil {
		return nil, err
	}
	return asIs(c, dst, db, slices.Concat(args[:1], ttl, args[at:]))
}

// hgetdel is HGETDEL key FIELDS n field …, which Valkey sends as it is.
func hgetdel(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	if _, err := countFields(args, 1, 1); err != nil {
		return nil, err
	}
	return c.write(dst, db, "HDEL", slices.Concat(args[:1], args[3:]))
}

// countFields reads FIELDS n, which stands at args[at], behind it n fields
// of step words each and nothing more.
func countFields(args [][]byte, at, step int) (int, error) {
	if at < 1 || at+2 >= len(args) || !is(args[at], "FIELDS") {
		return 0, fmt.Errorf("%w: FIELDS is missing", errArgs)
	}
	n, err := strconv.Atoi(string(args[at+1]))
	if rest := len(args) - at - 2; err != nil || rest%step != 0 || n != rest/step {
		return 0, fmt.Errorf("%q is not the number of fields that follow", shown(args[at+1]))
	}
	return n, nil
}

// zadd is ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member …. With several
// members a condition may have held for some only: then it stays.
func zadd(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	at, changed, incr := 1, false, false
	conditions := make([][]byte, 0, 2)
options:
	for ; at < len(args); at++ {
		switch w := args[at]; {
		case isAny(w, "NX", "XX", "GT", "LT"):
			conditions = append(conditions, w)
		case is(w, "CH"):
			changed = true
		case is(w, "INCR"):
			incr = true
		default:
			break options
		}
	}
	pairs := args[at:]
	switch {
	case len(pairs) == 0 || len(pairs)%2 != 0 || incr && len(pairs) != 2:
		return nil, errArgs
	case incr:
		return c.write(dst, db, "ZINCRBY", [][]byte{args[0], pairs[0], pairs[1]})
	case len(pairs) == 2:
		conditions = nil
	}
	if at == 1 || len(conditions) > 0 && !changed {
		return asIs(c, dst, db, args)
	}
	return asIs(c, dst, db, slices.Concat(args[:1], conditions, pairs))
}

// xadd is XADD key [options] id field value …. The id is the one that the
// origin chose, trimming is exact already. Of the options go: NOMKSTREAM,
// since the stream existed; LIMIT, which no client may send with an exact
// trim; IDMP, since only the origin knows which ids it has seen. A duplicate
// that IDMP caught stands in the stream with the id "*", and is no change.
func xadd(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	at, idempotent := 1, false
	kept := append(make([][]byte, 0, 8), args[0])
options:
	for ; at < len(args); at++ {
		from := at
		switch w := args[at]; {
		case is(w, "NOMKSTREAM"):
			continue
		case is(w, "LIMIT"):
			at++
			continue
		case is(w, "IDMPAUTO"):
			idempotent = true
			at++
			continue
		case is(w, "IDMP"):
			idempotent = true
			at += 2
			continue
		case isAny(w, "KEEPREF", "DELREF", "ACKED"):
		case isAny(w, "MAXLEN", "MINID"):
			if at++; at < len(args) && isAny(args[at], "=", "~") {
				at++
			}
		default:
			break options
		}
		if at < len(args) {
			kept = append(kept, args[from:at+1]...)
		}
	}
	if fields := len(args) - at - 1; fields < 2 || fields%2 != 0 {
		return nil, errArgs
	}
	if id := string(args[at]); strings.Contains(id, "*") {
		if idempotent {
			return dst, nil
		}
		return nil, fmt.Errorf("the id %q is left to the server to choose; %w", shown(args[at]), errRewritten)
	}
	if len(kept) == at {
		return asIs(c, dst, db, args)
	}
	return asIs(c, dst, db, slices.Concat(kept, args[at:]))
}

// xtrim is XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT n] […]: without LIMIT,
// as in xadd.
func xtrim(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	i := 3 + slices.IndexFunc(args[3:], func(w []byte) bool { return is(w, "LIMIT") })
	if i < 3 {
		return asIs(c, dst, db, args)
	}
	if i+1 == len(args) {
		return nil, errArgs
	}
	return asIs(c, dst, db, slices.Concat(args[:i], args[i+2:]))
}
