package rdb

import "encoding/binary"

// The special encodings of a string; plain: the length of raw bytes follows.
const (
	plain    = -1
	encInt8  = 0
	encInt16 = 1
	encInt32 = 2
	encLZF   = 3
)

// lengthOrEncoding reads a length, or which special encoding a string has.
func (r *Reader) lengthOrEncoding() (n uint64, enc int, err error) {
	b, err := r.in.byte()
	if err != nil {
		return 0, 0, err
	}
	switch b >> 6 {
	case 0:
		return uint64(b), plain, nil
	case 1:
		low, err := r.in.byte()
		return uint64(b&0x3f)<<8 | uint64(low), plain, err
	case 3:
		if b&0x3f > encLZF {
			return 0, 0, corrupt("unknown string encoding 0x%02x", b)
		}
		return 0, int(b & 0x3f), nil
	}
	switch b {
	case 0x80:
		low, err := r.in.take(4)
		if err != nil {
			return 0, 0, err
		}
		return uint64(binary.BigEndian.Uint32(low)), plain, nil
	case 0x81:
		all, err := r.in.take(8)
		if err != nil {
			return 0, 0, err
		}
		return binary.BigEndian.Uint64(all), plain, nil
	}
	return 0, 0, corrupt("unknown length encoding 0x%02x", b)
}

// length reads a length; what says of what.
func (r *Reader) length(what string) (uint64, error) {
	n, enc, err := r.lengthOrEncoding()
	if err == nil && enc != plain {
		return 0, corrupt("%s is no number", what)
	}
	return n, err
}

// string reads a whole string that must not be longer than MaxElementBytes.
// It stays valid as long as the part it belongs to.
func (r *Reader) string(what string) ([]byte, error) {
	n, enc, err := r.lengthOrEncoding()
	if err != nil {
		return nil, err
	}
	switch enc {
	case plain:
		if err := r.checkSize(what, n); err != nil {
			return nil, err
		}
		return r.bytes(n)
	case encLZF:
		z, err := r.lzf()
		if err != nil {
			return nil, err
		}
		if err := r.checkSize(what, z.out); err != nil {
			return nil, err
		}
		return r.inflate(z)
	}
	return r.integer(enc)
}

func (r *Reader) checkSize(what string, n uint64) error {
	if n > uint64(r.opts.MaxElementBytes) {
		return &LimitError{What: what, Size: n, Limit: r.opts.MaxElementBytes}
	}
	return nil
}

// bytes takes n bytes; n is not trusted.
func (r *Reader) bytes(n uint64) ([]byte, error) {
	if n <= step {
		p := r.arena().take(int(n))
		return p, r.in.read(p)
	}
	var p []byte
	for uint64(len(p)) < n {
		if len(p) == cap(p) {
			p = grow(p, n)
		}
		at := len(p)
		p = p[:cap(p)]
		if err := r.in.read(p[at:]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// integer reads a string that is stored as a number.
func (r *Reader) integer(enc int) ([]byte, error) {
	v, err := r.in.fixed(1 << enc)
	if err != nil {
		return nil, err
	}
	unused := 64 - 8<<enc
	return r.arena().decimal(int64(v<<unused) >> unused), nil
}

// stringDecoder hands out a string value in parts, so that a value of any
// length costs no more memory than one part.
type stringDecoder struct {
	left uint64 // raw bytes to come
	lzf  lzf    // or compressed ones
	buf  []byte // inflated: history, then this part
}

func startString(r *Reader) (decoder, error) {
	n, enc, err := r.lengthOrEncoding()
	if err != nil {
		return nil, err
	}
	d := &r.str
	d.left, d.lzf, d.buf = 0, lzf{}, d.buf[:0]
	switch enc {
	case plain:
		if n <= uint64(r.opts.ChunkBytes) {
			r.entry.Value.Data, err = r.bytes(n)
			return nil, err
		}
		d.left = n
	case encLZF:
		if d.lzf, err = r.lzf(); err != nil {
			return nil, err
		}
		if d.lzf.out <= uint64(r.opts.ChunkBytes) {
			r.entry.Value.Data, err = r.inflate(d.lzf)
			return nil, err
		}
	default:
		r.entry.Value.Data, err = r.integer(enc)
		return nil, err
	}
	return d, nil
}

func (d *stringDecoder) next(r *Reader) (done bool, err error) {
	if d.left > 0 {
		n := min(d.left, uint64(r.opts.ChunkBytes))
		d.left -= n
		r.entry.Value.Data, err = r.bytes(n)
		return d.left == 0, err
	}
	history := min(len(d.buf), lzfWindow)
	d.buf = append(d.buf[:0], d.buf[len(d.buf)-history:]...)
	d.buf, err = d.lzf.inflate(&r.in, d.buf, history+r.opts.ChunkBytes)
	r.entry.Value.Data = d.buf[history:len(d.buf):len(d.buf)]
	return d.lzf.out == 0, err
}
