package rdb

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

// inflate appends to dst until it holds stop bytes or a little more, or
// nothing is left. Copies reach back into what dst holds.
func (z *lzf) inflate(in *input, dst []byte, stop int) ([]byte, error) {
	for len(dst) < stop && z.out > 0 {
		ctrl, err := z.byte(in)
		if err != nil {
			return dst, err
		}
		if cap(dst)-len(dst) < 264 && uint64(cap(dst)-len(dst)) < z.out {
			dst = grow(dst, uint64(len(dst))+z.out)
		}
		if ctrl < 1<<5 {
			dst, err = z.literal(in, dst, uint64(ctrl)+1)
		} else {
			dst, err = z.copy(in, dst, ctrl)
		}
		if err != nil {
			return dst, err
		}
	}
	if z.out == 0 && z.in != 0 {
		return dst, corrupt("a compressed string is %d bytes longer than its content", z.in)
	}
	return dst, nil
}

func (z *lzf) byte(in *input) (byte, error) {
	if z.in == 0 {
		return 0, corrupt("a compressed string ends %d bytes short of its content", z.out)
	}
	z.in--
	return in.byte()
}

// literal takes n bytes as they are.
func (z *lzf) literal(in *input, dst []byte, n uint64) ([]byte, error) {
	if n > z.in || n > z.out {
		return dst, corrupt("a literal of %d bytes runs past the end of a compressed string", n)
	}
	z.in -= n
	z.out -= n
	at := len(dst)
	dst = dst[:at+int(n)]
	return dst, in.read(dst[at:])
}

// copy repeats bytes of what dst holds.
func (z *lzf) copy(in *input, dst []byte, ctrl byte) ([]byte, error) {
	n := uint64(ctrl>>5) + 2
	if n == 7+2 {
		more, err := z.byte(in)
		if err != nil {
			return dst, err
		}
		n += uint64(more)
	}
	low, err := z.byte(in)
	if err != nil {
		return dst, err
	}
	from := len(dst) - (int(ctrl&0x1f)<<8 | int(low)) - 1
	if from < 0 || n > z.out {
		return dst, corrupt("a copy of %d bytes reaches outside of a compressed string", n)
	}
	z.out -= n
	if from+int(n) <= len(dst) {
		return append(dst, dst[from:from+int(n)]...), nil
	}
	for i := range int(n) { // the source overlaps what it produces
		dst = append(dst, dst[from+i])
	}
	return dst, nil
}
