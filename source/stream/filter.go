package stream

import (
	"bytes"
	"fmt"

	"twinlog/offsets"
)

// Filter tells what of a unit was born at the site (G3).
type Filter struct {
	mark    string // key that the link's sink at this site writes
	barrier string
	born    []Command
}

// NewFilter returns the filter of link at a site; peerDirection is the
// direction whose sink writes there ("b-to-a" at site a).
func NewFilter(link, peerDirection, lane string) *Filter {
	return &Filter{mark: offsets.MarkKey(link, peerDirection, lane), barrier: offsets.BarrierKey(link)}
}

// MarkKey is the key of the mark that the link's own sink writes at the site.
func (f *Filter) MarkKey() string { return f.mark }

// Verdict says what a unit is.
type Verdict struct {
	// Born are the commands to publish. In an echo these are the deletions
	// that the site made by itself inside the applied block; they come before
	// the mark (rule E of convergence.md).
	Born []Command
	// Echo tells that the link's own sink wrote the unit; Mark is what it wrote.
	Echo bool
	Mark offsets.Mark
	// Barrier is the id of a barrier in the unit, nil without one.
	Barrier []byte
}

// Judge classifies a unit. The verdict is valid until the next call. A mark
// that cannot be read is an error: guessing would double changes or lose them.
func (f *Filter) Judge(u *Unit) (Verdict, error) {
	var v Verdict
	for _, c := range u.Commands {
		if len(c.Args) < 3 || !isWord(c.Args[0], "SET") || !offsets.IsReserved(c.Args[1]) {
			continue
		}
		switch string(c.Args[1]) {
		case f.mark:
			mark, err := offsets.ParseMark(string(c.Args[2]))
			if err != nil {
				return Verdict{}, fmt.Errorf("unit at replication offset %d writes %s: %w; nothing but twinlog may write this key", u.Offset, f.mark, err)
			}
			v.Echo, v.Mark = true, mark
		case f.barrier:
			v.Barrier = c.Args[2]
		}
	}
	if !v.Echo {
		v.Born = u.Commands
		return v, nil
	}
	f.born = f.born[:0]
	for _, c := range u.Commands {
		if deletedByItself(c.Args) {
			f.born = append(f.born, c)
		}
	}
	v.Born = f.born
	return v, nil
}

// deletedByItself tells an expiry's deletion inside an applied block from the
// sink's own: the sink names a second key, or one field twice.
func deletedByItself(args [][]byte) bool {
	if len(args) < 2 || offsets.IsReserved(args[1]) {
		return false
	}
	switch {
	case isWord(args[0], "DEL"), isWord(args[0], "UNLINK"):
		return len(args) == 2
	case isWord(args[0], "HDEL"):
		fields := args[2:]
		return len(fields) < 2 || !bytes.Equal(fields[0], fields[len(fields)-1])
	}
	return false
}
