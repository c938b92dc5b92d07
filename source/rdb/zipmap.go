package rdb

import "encoding/binary"

// zipmap walks one zipmap: fields and values, with unused bytes behind values.
type zipmap struct {
	b     []byte // to come, without the end byte
	left  int    // fields to come; negative: unknown
	value bool   // a value comes next
}

func (z *zipmap) open(b []byte) error {
	if len(b) < 2 || b[len(b)-1] != packEnd {
		return corrupt("a zipmap of %d bytes has no valid frame", len(b))
	}
	z.b, z.left, z.value = b[1:len(b)-1], int(b[0]), false
	if b[0] >= 254 {
		z.left = -1
	}
	return nil
}

func (z *zipmap) more() bool { return len(z.b) > 0 }

func (z *zipmap) next() (e element, ok bool, err error) {
	if len(z.b) == 0 {
		if z.left > 0 {
			return e, false, corrupt("a zipmap ends %d fields early", z.left)
		}
		return e, false, nil
	}
	if !z.value {
		if z.left == 0 {
			return e, false, corrupt("a zipmap has more fields than it says")
		}
		z.left--
	}
	head, size := 1, uint64(z.b[0])
	if z.b[0] >= 254 {
		if head = 5; z.b[0] == 255 || len(z.b) < head {
			return e, false, corrupt("invalid length in a zipmap")
		}
		size = uint64(binary.LittleEndian.Uint32(z.b[1:]))
	}
	unused := uint64(0)
	if z.value {
		if head++; len(z.b) < head {
			return e, false, corrupt("an element runs past the end of its zipmap")
		}
		unused = uint64(z.b[head-1])
	}
	if uint64(head)+size+unused > uint64(len(z.b)) {
		return e, false, corrupt("an element runs past the end of its zipmap")
	}
	end := head + int(size)
	e.text = z.b[head:end:end]
	z.b = z.b[end+int(unused):]
	z.value = !z.value
	return e, true, nil
}
