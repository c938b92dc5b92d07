package command

import (
	"errors"
	"fmt"

	"twinlog/schema"
)

// set is SET key value [options].
func set(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	if isPlain(args[2:]) {
		return asIs(c, dst, db, args)
	}
	ttl, err := parseExpiry(args[2:])
	if err != nil {
		return nil, err
	}
	return asIs(c, dst, db, append(args[:2:2], ttl...))
}

// getex is GETEX key and PERSIST or an absolute time.
func getex(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	if len(args) == 1 {
		return nil, errReads
	}
	if is(args[1], "PERSIST") {
		return c.write(dst, db, "PERSIST", args[:1:1])
	}
	ttl, err := parseExpiry(args[1:])
	if err != nil {
		return nil, err
	}
	if len(ttl) != 2 {
		return nil, unknownOption(args[1])
	}
	return c.write(dst, db, "PEXPIREAT", [][]byte{args[0], ttl[1]})
}

// mset is MSET and MSETNX key value …: one SET a pair.
func mset(_ *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	if len(args)%2 != 0 {
		return nil, errArgs
	}
	return setPairs(dst, db, args, nil), nil
}

// msetex is MSETEX numkeys key value … [NX|XX] [expiry].
func msetex(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	keys, _, err := c.spans(args)
	if err != nil {
		return nil, err
	}
	end := keys.at(keys.n)
	ttl, err := parseExpiry(args[end:])
	if err != nil {
		return nil, err
	}
	return setPairs(dst, db, args[1:end], ttl), nil
}

func setPairs(dst []schema.Event, db int32, pairs [][]byte, ttl [][]byte) []schema.Event {
	for i := 0; i < len(pairs); i += 2 {
		args := pairs[i : i+2 : i+2]
		args = append(args, ttl...)
		dst = append(dst, schema.Event{Op: schema.OpWrite, DB: db, Key: args[0], Command: "SET", Args: args})
	}
	return dst
}

// isPlain tells that options are in effect form already, as servers send
// them almost always.
func isPlain(options [][]byte) bool {
	switch len(options) {
	case 0:
		return true
	case 1:
		return string(options[0]) == "KEEPTTL"
	case 2:
		return string(options[0]) == "PXAT"
	}
	return false
}

// parseExpiry reads the options of SET, MSETEX and HSETEX and returns what is
// left when the conditions, which held, are gone: nothing, KEEPTTL, or PXAT
// and a time.
func parseExpiry(options [][]byte) ([][]byte, error) {
	var ttl [][]byte
	for i := 0; i < len(options); i++ {
		w := options[i]
		switch {
		case isAny(w, "NX", "XX", "GET", "FNX", "FXX"):
			continue
		case is(w, "KEEPTTL"):
			ttl = [][]byte{wordKeepTTL}
			continue
		case isAny(w, "EX", "PX"):
			return nil, errRelative
		}
		if i++; i == len(options) {
			return nil, unknownOption(w)
		}
		switch {
		case isAny(w, "IFEQ", "IFNE", "IFDEQ", "IFDNE"):
		case is(w, "PXAT"):
			ttl = [][]byte{wordPXAT, options[i]}
		case is(w, "EXAT"):
			ms, err := milliseconds(options[i])
			if err != nil {
				return nil, err
			}
			ttl = [][]byte{wordPXAT, ms}
		default:
			return nil, unknownOption(w)
		}
	}
	return ttl, nil
}

// Effects on lists.

// lmove is LMOVE source destination LEFT|RIGHT LEFT|RIGHT, and BLMOVE with a
// timeout behind. Redis 7.0 sends what a blocked BLMOVE did as it was spelled.
func lmove(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	args = args[:4:4]
	if !isEnd(args[2]) || !isEnd(args[3]) {
		args = [][]byte{args[0], args[1], end(args[2]), end(args[3])}
	}
	if !isEnd(args[2]) || !isEnd(args[3]) {
		return nil, errors.New("an end of a list is neither LEFT nor RIGHT")
	}
	return c.write(dst, db, "LMOVE", args)
}

func isEnd(w []byte) bool { return string(w) == "LEFT" || string(w) == "RIGHT" }

func end(w []byte) []byte {
	switch {
	case is(w, "LEFT"):
		return wordLeft
	case is(w, "RIGHT"):
		return wordRight
	}
	return nil
}

// rpoplpush is BRPOPLPUSH source destination timeout.
func rpoplpush(c *Command, dst []schema.Event, db int32, args [][]byte) ([]schema.Event, error) {
	return c.write(dst, db, "RPOPLPUSH", args[:2:2])
}

func unknownOption(w []byte) error { return fmt.Errorf("option %q is not known", shown(w)) }
