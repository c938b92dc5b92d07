package rdb

import "encoding/binary"

// The frame of a listpack: total bytes, number of elements, …, end byte.
const (
	listpackHead = 6
	packEnd      = 0xff
	countUnknown = 0xffff // in the 16-bit counts of listpack and ziplist
)

// listpack walks one listpack.
type listpack struct {
	b    []byte // without the end byte
	pos  int
	left int // elements to come; negative: unknown
}

func (l *listpack) open(b []byte) error {
	if len(b) <= listpackHead || b[len(b)-1] != packEnd || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) {
		return corrupt("a listpack of %d bytes has no valid frame", len(b))
	}
	l.b, l.pos, l.left = b[:len(b)-1], listpackHead, int(binary.LittleEndian.Uint16(b[4:]))
	if l.left == countUnknown {
		l.left = -1
	}
	return nil
}

func (l *listpack) more() bool { return l.pos < len(l.b) }

func (l *listpack) next() (e element, ok bool, err error) {
	if l.pos == len(l.b) {
		if l.left > 0 {
			return e, false, corrupt("a listpack ends %d elements early", l.left)
		}
		return e, false, nil
	}
	if l.left == 0 {
		return e, false, corrupt("a listpack has more elements than it says")
	}
	l.left--
	b := l.b[l.pos:]
	var head, size int // bytes of the encoding, and of what follows
	switch c := b[0]; {
	case c < 0x80: // 7-bit number
		e.number, head = int64(c), 1
	case c < 0xc0: // string with a 6-bit length
		head, size = 1, int(c&0x3f)
	case c < 0xe0: // 13-bit number
		if head = 2; len(b) >= head {
			e.number = int64(int16(uint16(c&0x1f)<<11|uint16(b[1])<<3)) >> 3
		}
	case c < 0xf0: // string with a 12-bit length
		if head = 2; len(b) >= head {
			size = int(c&0xf)<<8 | int(b[1])
		}
	case c == 0xf0: // string with a 32-bit length
		if head = 5; len(b) >= head {
			size = int(binary.LittleEndian.Uint32(b[1:]))
		}
	case c <= 0xf4: // number of 16, 24, 32 or 64 bits
		head = 1 + [...]int{2, 3, 4, 8}[c-0xf1]
		if len(b) >= head {
			e.number = signed(b[1:head])
		}
	default:
		return e, false, corrupt("unknown encoding 0x%02x in a listpack", c)
	}
	n := head + size
	if n > len(b) {
		return e, false, corrupt("an element runs past the end of its listpack")
	}
	if c := b[0]; c >= 0x80 && c < 0xc0 || c >= 0xe0 && c <= 0xf0 {
		e.text = b[head:n:n]
	}
	back := backLength(n)
	if n+back > len(b) || (back > 1 || b[n] != byte(n)) && !isBackLength(b[n:n+back], n) {
		return e, false, corrupt("the length behind an element of a listpack is not its length")
	}
	l.pos += n + back
	return e, true, nil
}

// backLength is the size of the length that stands behind n bytes.
func backLength(n int) int {
	switch {
	case n <= 127:
		return 1
	case n < 16383:
		return 2
	case n < 2097151:
		return 3
	case n < 268435455:
		return 4
	default:
		return 5
	}
}

// isBackLength tells whether b says n: seven bits a byte, to be read from its
// end, where all but the first byte are marked.
func isBackLength(b []byte, n int) bool {
	for i := len(b) - 1; i >= 0; i-- {
		want := byte(n & 0x7f)
		if i > 0 {
			want |= 0x80
		}
		// The last byte read is the first of b, which has no mark.
		if b[i] != want {
			return false
		}
		n >>= 7
	}
	return n == 0
}

// signed reads a little-endian two's complement number of up to eight bytes.
func signed(b []byte) int64 {
	var v uint64
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	unused := 64 - 8*len(b)
	return int64(v<<unused) >> unused
}
