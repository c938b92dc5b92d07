package rdb

import "strconv"

// step bounds the memory taken for a length that is only claimed: more is
// taken as the bytes really arrive.
const step = 1 << 20

// arena holds the bytes of one part. Slices stay valid until reset.
type arena struct {
	buf   []byte
	block int // largest block that is kept for the next part
}

func (a *arena) reset() { a.buf = a.buf[:0] }

// room makes n bytes available behind a.buf. What is in use already stays
// where it is.
func (a *arena) room(n int) {
	if cap(a.buf)-len(a.buf) < n {
		const least = 64 << 10
		a.buf = make([]byte, 0, max(n, least, min(2*cap(a.buf), a.block)))
	}
}

// take returns n bytes to be filled in.
func (a *arena) take(n int) []byte {
	a.room(n)
	at := len(a.buf)
	a.buf = a.buf[:at+n]
	return a.buf[at : at+n : at+n]
}

// decimal returns v as text.
func (a *arena) decimal(v int64) []byte {
	a.room(20)
	at := len(a.buf)
	a.buf = strconv.AppendInt(a.buf, v, 10)
	return a.buf[at:len(a.buf):len(a.buf)]
}

// grow returns b with room for more, never more than twice what it holds nor
// above total.
func grow(b []byte, total uint64) []byte {
	c := min(uint64(max(step, 2*cap(b))), total)
	return append(make([]byte, 0, c), b...)
}
