package stream

import (
	"bytes"
	"strings"

	"twinlog/schema"
)

// fold appends a command that makes one key of many others as several: the
// first one makes it of some, each further one of itself and some more. It
// tells false, and appends nothing, where that is not exact or not needed: the
// sums of ZUNIONSTORE depend on the order of its keys, for instance.
func fold(dst []schema.Event, e *schema.Event, limit int) ([]schema.Event, bool) {
	before, ok := foldable(e)
	if !ok {
		return dst, false
	}
	room := limit - eventOverhead - len(e.Command) - len(e.Key) - bytesOf(e.Args[:before]) - 2*(argOverhead+len(e.Key))
	keys := ownFirst(e.Args[before+1:], e.Key)
	from := len(dst)
	for len(keys) > 0 {
		n, left := 0, room
		for n < len(keys) && len(keys[n])+argOverhead <= left {
			left -= len(keys[n]) + argOverhead
			n++
		}
		first := len(dst) == from
		if n == 0 || first && contains(keys[n:], e.Key) {
			return dst[:from], false
		}
		piece := *e
		piece.Args = append(append([][]byte{}, e.Args[:before]...), e.Key)
		if !first {
			piece.Args = append(piece.Args, e.Key)
		}
		piece.Args = append(piece.Args, keys[:n]...)
		dst, keys = append(dst, piece), keys[n:]
	}
	return dst, true
}

// foldable tells how many arguments stand before the key that e writes; behind
// it are the keys that it is made of.
func foldable(e *schema.Event) (before int, ok bool) {
	if e.Op != schema.OpWrite || len(e.OtherKeys) > 0 {
		return 0, false
	}
	switch e.Command {
	case "SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE", "PFMERGE":
	case "BITOP":
		switch strings.ToUpper(string(e.Args[0])) {
		case "AND", "OR", "XOR":
			before = 1
		default:
			return 0, false
		}
	default:
		return 0, false
	}
	return before, len(e.Args) > before+1
}

// ownFirst returns keys with those that are own right behind the first one,
// which SDIFFSTORE subtracts the others from: what own holds is used before it
// is written.
func ownFirst(keys [][]byte, own []byte) [][]byte {
	if !contains(keys[1:], own) {
		return keys
	}
	sorted := append(make([][]byte, 0, len(keys)), keys[0])
	for _, isOwn := range []bool{true, false} {
		for _, k := range keys[1:] {
			if bytes.Equal(k, own) == isOwn {
				sorted = append(sorted, k)
			}
		}
	}
	return sorted
}

func contains(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if bytes.Equal(k, key) {
			return true
		}
	}
	return false
}
