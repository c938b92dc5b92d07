package rdb

import "encoding/binary"

// lzfWindow is how far back a copy can reach.
const lzfWindow = 8 << 10

// lzf is a compressed string under way. Both counts come from the file and
// are checked with each step.
type lzf struct {
	in, out uint64 // bytes still to read, and to produce
}

// lzf reads the two lengths of a compressed string.
func (r *Reader) lzf() (lzf, error) {
	in, err := r.length("the length of a compressed string")
	if err != nil {
		return lzf{}, err
	}
	out, err := r.length("the length of an inflated string")
	if err != nil {
		return lzf{}, err
	}
	// Three bytes make 264 at most.
	if in == 0 || out == 0 || out/88 > in {
		return lzf{}, corrupt("a string of %d bytes cannot be compressed to %d", out, in)
	}
	return lzf{in, out}, nil
}

// inflate inflates a whole string whose size was checked.
func (r *Reader) inflate(z lzf) ([]byte, error) {
	if z.out <= step {
		return z.inflate(&r.in, r.arena().take(int(z.out))[:0], int(z.out))
	}
	return z.inflate(&r.in, nil, int(z.out))
}

// The most bytes that one step of a compressed string takes and makes.
const (
	stepIn  = 1 + 1<<5
	stepOut = 2 + 7 + 255
)

// inflate appends to dst until it holds stop bytes or a little more, or
// nothing is left. Copies reach back into what dst holds.
func (z *lzf) inflate(in *input, dst []byte, stop int) ([]byte, error) {
	for len(dst) < stop && z.out > 0 {
		if z.in == 0 {
			return dst, z.endsShort()
		}
		if err := in.need(int(min(z.in, stepIn))); err != nil {
			return dst, err
		}
		if cap(dst)-len(dst) < stepOut && uint64(cap(dst)-len(dst)) < z.out {
			dst = grow(dst, uint64(len(dst))+z.out)
		}
		src := in.window[in.pos:]
		src = src[:min(uint64(len(src)), z.in)]
		had := len(dst)
		var taken int
		var err error
		if dst, taken, err = z.steps(src, dst, stop); err != nil {
			return dst, err
		}
		in.pos += taken
		z.in -= uint64(taken)
		z.out -= uint64(len(dst) - had)
	}
	if z.out == 0 && z.in != 0 {
		return dst, corrupt("a compressed string is %d bytes longer than its content", z.in)
	}
	return dst, nil
}

// steps inflates from src as long as the next step is sure to be all in src
// and to have room in dst.
func (z *lzf) steps(src, dst []byte, stop int) (inflated []byte, taken int, err error) {
	end := len(src) - stepIn // where a step may still begin
	if uint64(len(src)) == z.in {
		end = len(src) - 1
	}
	full := min(stop-1, cap(dst)-stepOut) // as long as dst is not longer
	if left := uint64(cap(dst) - len(dst)); z.out <= left {
		full = min(stop, len(dst)+int(z.out)) - 1
	}
	most := len(dst) + int(min(z.out, uint64(cap(dst)-len(dst))))
	at := 0
	for at <= end && len(dst) <= full {
		ctrl := int(src[at])
		at++
		if ctrl < 1<<5 { // bytes as they are
			n := ctrl + 1
			if n > len(src)-at || n > most-len(dst) {
				return dst, at, corrupt("a literal of %d bytes runs past the end of a compressed string", n)
			}
			if wide := dst[len(dst):cap(dst)]; n <= short && len(wide) >= short && len(src)-at >= short {
				copyShort(wide, src[at:])
				dst = dst[:len(dst)+n]
			} else {
				dst = append(dst, src[at:at+n]...)
			}
			at += n
			continue
		}
		n := ctrl>>5 + 2 // bytes again that dst has
		if n == 2+7 && at < len(src) {
			n += int(src[at])
			at++
		}
		if at >= len(src) {
			return dst, at, z.endsShort()
		}
		from := len(dst) - (ctrl&0x1f<<8 | int(src[at])) - 1
		at++
		if from < 0 || n > most-len(dst) {
			return dst, at, corrupt("a copy of %d bytes reaches outside of a compressed string", n)
		}
		to := len(dst)
		if wide := dst[:cap(dst)]; n <= short && n <= to-from && len(wide)-to >= short {
			copyShort(wide[to:], wide[from:])
			dst = dst[:to+n]
			continue
		}
		dst = dst[:to+n]
		for to < len(dst) { // the source may overlap what it makes
			to += copy(dst[to:], dst[from:to])
		}
	}
	return dst, at, nil
}

// Most copies are short: a fixed number of bytes, which may be more than are
// wanted but never more than there are, takes no call.
const short = 16

func copyShort(dst, src []byte) {
	a, b := binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint64(src[8:])
	binary.LittleEndian.PutUint64(dst, a)
	binary.LittleEndian.PutUint64(dst[8:], b)
}

func (z *lzf) endsShort() error {
	return corrupt("a compressed string ends before the %d bytes that are left of its content", z.out)
}
