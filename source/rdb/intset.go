package rdb

import "encoding/binary"

// The frame of an intset: bytes of a number, count.
const intsetHead = 8

// intset walks one intset.
type intset struct {
	b     []byte // the numbers to come
	width int
}

func (s *intset) open(b []byte) error {
	if len(b) < intsetHead {
		return corrupt("an intset of %d bytes has no valid frame", len(b))
	}
	width, count := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
	if width != 2 && width != 4 && width != 8 {
		return corrupt("unknown width %d of an intset", width)
	}
	if count*width != uint64(len(b)-intsetHead) {
		return corrupt("an intset of %d bytes cannot have %d numbers of %d bytes", len(b), count, width)
	}
	s.b, s.width = b[intsetHead:], int(width)
	return nil
}

func (s *intset) more() bool { return len(s.b) > 0 }

func (s *intset) next() (e element, ok bool, err error) {
	if len(s.b) == 0 {
		return e, false, nil
	}
	e.number = signed(s.b[:s.width])
	s.b = s.b[s.width:]
	return e, true, nil
}
