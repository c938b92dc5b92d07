package command

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Keys are the keys that a command names. They alias the command's arguments.
type Keys struct {
	Written [][]byte // changed, also if read as well
	Read    [][]byte // only read
}

// Reset empties k and keeps its memory.
func (k *Keys) Reset() { k.Written, k.Read = k.Written[:0], k.Read[:0] }

// AppendKeys appends the keys that c names in args, its arguments without the
// name. A key that stands in both places counts as written.
func (c *Command) AppendKeys(k *Keys, args [][]byte) error {
	c = c.sub(args)
	if err := c.checkArity(args); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	written, read, err := c.spans(args)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	from := len(k.Written)
	for i := range written.n {
		k.Written = append(k.Written, args[written.at(i)])
	}
	for i := range read.n {
		key := args[read.at(i)]
		// No command that reads keys writes more than one other.
		if written.n != 1 || !bytes.Equal(key, k.Written[from]) {
			k.Read = append(k.Read, key)
		}
	}
	return nil
}

// access says which of a command's keys it writes; the others it reads.
type access byte

const (
	readsAll access = iota
	writesAll
	writesOne // the first
	readsOne  // the first; the others are written
)

// keys says where a command's keys stand, counted as COMMAND counts: the
// name is 0, a negative last counts from the end.
type keys struct {
	first, last, step int
	access            access
	find              finder // of a command whose keys move with its arguments
}

// Columns of the table.
var none = keys{}

func writes(first, last, step int) keys      { return keys{first, last, step, writesAll, nil} }
func reads(first, last, step int) keys       { return keys{first, last, step, readsAll, nil} }
func writesFirst(first, last, step int) keys { return keys{first, last, step, writesOne, nil} }
func readsFirst(first, last, step int) keys  { return keys{first, last, step, readsOne, nil} }
func movable(f finder) keys                  { return keys{find: f} }

// partly is for commands whose first key stands still and others move.
func partly(first int, f finder) keys { return keys{first: first, last: first, step: 1, find: f} }

// span is where keys stand in the arguments (without the name): n of them,
// step apart.
type span struct{ first, n, step int }

func (s span) at(i int) int { return s.first + i*s.step }

// finder finds the keys of one command, whose number of args is checked. Its
// spans lie within args.
type finder func(args [][]byte) (written, read span, err error)

var errKeys = errors.New("a key is missing")

// spans says where the keys that c writes and reads stand in args.
func (c *Command) spans(args [][]byte) (written, read span, err error) {
	k := &c.keys
	if k.find != nil {
		return k.find(args)
	}
	if k.first == 0 {
		return span{}, span{}, nil
	}
	first, last := k.first-1, k.last-1
	if k.last < 0 {
		last = len(args) + k.last
	}
	if first > last || last >= len(args) {
		return span{}, span{}, errKeys
	}
	all := span{first, (last-first)/k.step + 1, k.step}
	one := span{first, 1, 1}
	rest := span{first + k.step, all.n - 1, k.step}
	switch k.access {
	case writesAll:
		return all, span{}, nil
	case writesOne:
		return one, rest, nil
	case readsOne:
		return rest, one, nil
	default:
		return span{}, all, nil
	}
}

// numKeys finds keys that follow their number, which stands at args[at].
func numKeys(args [][]byte, at, step int) (span, error) {
	if at >= len(args) {
		return span{}, errKeys
	}
	n, err := strconv.Atoi(string(args[at]))
	if err != nil || n < 1 || n > (len(args)-at-1)/step {
		return span{}, fmt.Errorf("%q is not the number of keys that follow", shown(args[at]))
	}
	return span{at + 1, n, step}, nil
}

func readsCounted(at int) finder {
	return func(args [][]byte) (span, span, error) {
		s, err := numKeys(args, at, 1)
		return span{}, s, err
	}
}

func writesCounted(at, step int) finder {
	return func(args [][]byte) (span, span, error) {
		s, err := numKeys(args, at, step)
		return s, span{}, err
	}
}

// storeCounted: destination numkeys key [key …].
func storeCounted(args [][]byte) (written, read span, err error) {
	read, err = numKeys(args, 1, 1)
	return span{0, 1, 1}, read, err
}

// storeOption: key … [STORE destination], options beginning at args[from].
// Like the server, the last destination counts.
func storeOption(from int, valued ...string) finder {
	return func(args [][]byte) (written, read span, err error) {
		for i := from; i < len(args); i++ {
			switch {
			case isAny(args[i], "STORE", "STOREDIST"):
				if i++; i == len(args) {
					return span{}, span{}, errKeys
				}
				written = span{i, 1, 1}
			case isAny(args[i], valued...):
				i++
			case is(args[i], "LIMIT"):
				i += 2
			}
		}
		return written, span{0, 1, 1}, nil
	}
}

// streams: … STREAMS key … id …, half of what follows are keys.
func streams(args [][]byte) (span, error) {
	for i := 0; i < len(args); i++ {
		switch {
		case isAny(args[i], "BLOCK", "COUNT", "CLAIM"):
			i++
		case is(args[i], "GROUP"):
			i += 2
		case is(args[i], "STREAMS"):
			if rest := len(args) - i - 1; rest > 0 && rest%2 == 0 {
				return span{i + 1, rest / 2, 1}, nil
			}
			return span{}, errKeys
		}
	}
	return span{}, errKeys
}

func readsStreams(args [][]byte) (span, span, error) {
	s, err := streams(args)
	return span{}, s, err
}

// writesStreams: XREADGROUP moves the group on.
func writesStreams(args [][]byte) (span, span, error) {
	s, err := streams(args)
	return s, span{}, err
}

// migrated: host port key|"" db timeout … [KEYS key …]
func migrated(args [][]byte) (span, span, error) {
	if len(args[2]) > 0 {
		return span{2, 1, 1}, span{}, nil
	}
	for i := 5; i < len(args); i++ {
		switch {
		case is(args[i], "AUTH"):
			i++
		case is(args[i], "AUTH2"):
			i += 2
		case is(args[i], "KEYS"):
			return span{i + 1, len(args) - i - 1, 1}, span{}, nil
		}
	}
	return span{}, span{}, errKeys
}
