package rdb

import "encoding/binary"

// The frame of a ziplist: total bytes, offset of the last element, number of
// elements, …, end byte.
const ziplistHead = 10

// ziplist walks one ziplist.
type ziplist struct {
	b        []byte // without the end byte
	pos      int
	previous int // bytes of the element before
	left     int // elements to come; negative: unknown
}

func (z *ziplist) open(b []byte) error {
	if len(b) <= ziplistHead || b[len(b)-1] != packEnd || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) {
		return corrupt("a ziplist of %d bytes has no valid frame", len(b))
	}
	z.b, z.pos, z.previous, z.left = b[:len(b)-1], ziplistHead, 0, int(binary.LittleEndian.Uint16(b[8:]))
	if z.left == countUnknown {
		z.left = -1
	}
	return nil
}

func (z *ziplist) more() bool { return z.pos < len(z.b) }

func (z *ziplist) next() (e element, ok bool, err error) {
	if z.pos == len(z.b) {
		if z.left > 0 {
			return e, false, corrupt("a ziplist ends %d elements early", z.left)
		}
		return e, false, nil
	}
	if z.left == 0 {
		return e, false, corrupt("a ziplist has more elements than it says")
	}
	z.left--
	b := z.b[z.pos:]
	start := 1
	previous := int(b[0])
	if b[0] == 0xfe {
		if start = 5; len(b) >= start {
			previous = int(binary.LittleEndian.Uint32(b[1:]))
		}
	}
	if len(b) <= start {
		return e, false, corrupt("an element runs past the end of its ziplist")
	}
	if previous != z.previous {
		return e, false, corrupt("an element of a ziplist gives %d bytes for the one before, which has %d", previous, z.previous)
	}
	e, n, err := ziplistElement(b[start:])
	z.previous = start + n
	z.pos += z.previous
	return e, err == nil, err
}

// ziplistElement reads the element that b, which is not empty, begins with,
// and its length.
func ziplistElement(b []byte) (e element, n int, err error) {
	var head, size int // bytes of the encoding, and of what follows
	isText := true
	switch c := b[0]; {
	case c < 0x40: // 6-bit length
		head, size = 1, int(c)
	case c < 0x80: // 14-bit length
		if head = 2; len(b) >= head {
			size = int(c&0x3f)<<8 | int(b[1])
		}
	case c < 0xc0: // 32-bit length
		if head = 5; len(b) >= head {
			size = int(binary.BigEndian.Uint32(b[1:]))
		}
	default:
		isText = false
		switch {
		case c == 0xc0:
			head = 3
		case c == 0xd0:
			head = 5
		case c == 0xe0:
			head = 9
		case c == 0xf0:
			head = 4
		case c == 0xfe:
			head = 2
		case c > 0xf0 && c <= 0xfd: // the number is in the encoding
			return element{number: int64(c&0xf) - 1}, 1, nil
		default:
			return e, 0, corrupt("unknown encoding 0x%02x in a ziplist", c)
		}
	}
	n = head + size
	if n > len(b) {
		return e, 0, corrupt("an element runs past the end of its ziplist")
	}
	if isText {
		e.text = b[head:n:n]
	} else {
		e.number = signed(b[1:head])
	}
	return e, n, nil
}
