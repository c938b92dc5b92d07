package schema

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// maxKept is the largest capacity, in items, that a reused slice keeps for
// the next event, so that one large value does not stay in memory for ever.
const maxKept = 1024

// reader reads Avro's primitive types from b. The first error sticks: every
// later read gives a zero value, so that callers check it once, at the end.
// A Decoder has one for all its events: on the stack it would not stay.
type reader struct {
	b     []byte
	off   int
	err   error
	names names
}

// fail records what is wrong with a field that begins at byte at.
func (r *reader) fail(field string, at int, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s at byte %d: %w", field, at, fmt.Errorf(format, args...))
	}
	r.b, r.off = nil, 0
}

// left is how many bytes are not read yet.
func (r *reader) left() int { return len(r.b) - r.off }

// long reads an Avro int or long. The loop ends before the last byte that 64
// bits may need; what it leaves over, binary.Varint judges.
func (r *reader) long(field string) int64 {
	var u uint64
	b := r.b[r.off:]
	for i := 0; i < len(b) && i < binary.MaxVarintLen64-1; i++ {
		c := b[i]
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.off += i + 1
			return int64(u>>1) ^ -int64(u&1)
		}
	}
	n, size := binary.Varint(b)
	switch {
	case size > 0:
		r.off += size
		return n
	case size == 0:
		r.fail(field, r.off, "number is cut off")
	default:
		r.fail(field, r.off, "number has more than 64 bits")
	}
	return 0
}

func (r *reader) int(field string) int32 {
	at := r.off
	n := r.long(field)
	if n < math.MinInt32 || n > math.MaxInt32 {
		r.fail(field, at, "%d does not fit into 32 bits", n)
		return 0
	}
	return int32(n)
}

// bytes gives a slice of b: never nil unless there is an error, and capped,
// so that appending to it cannot overwrite what follows.
func (r *reader) bytes(field string) []byte {
	at := r.off
	n := r.long(field)
	if uint64(n) > uint64(r.left()) { // negative ones too
		r.fail(field, at, "length %d, but %d bytes are left", n, r.left())
		return nil
	}
	s := r.b[r.off : r.off+int(n) : r.off+int(n)]
	r.off += int(n)
	return s
}

func (r *reader) bool(field string) bool {
	if r.left() < 1 || r.b[r.off] > 1 {
		r.fail(field, r.off, "want a boolean, 0 or 1")
		return false
	}
	r.off++
	return r.b[r.off-1] == 1
}

func (r *reader) double(field string) float64 {
	if r.left() < 8 {
		r.fail(field, r.off, "want 8 bytes, but %d are left", r.left())
		return 0
	}
	r.off += 8
	return math.Float64frombits(binary.LittleEndian.Uint64(r.b[r.off-8:]))
}

// branch reads the index of a union with n branches.
func (r *reader) branch(field string, n int64) int64 {
	at := r.off
	i := r.long(field)
	if i < 0 || i >= n {
		r.fail(field, at, "branch %d of a union of %d", i, n)
		return 0
	}
	return i
}

// some reads the index of a union of null and one other type.
func (r *reader) some(field string) bool { return r.branch(field, 2) == 1 }

func (r *reader) optLong(field string) OptInt64 {
	if !r.some(field) {
		return OptInt64{}
	}
	return OptInt64{Set: true, Int64: r.long(field)}
}

func (r *reader) streamID(field string) StreamID {
	at := r.off
	text := r.bytes(field)
	if r.err != nil {
		return StreamID{}
	}
	id, err := ParseStreamID(text)
	if err != nil {
		r.fail(field, at, "%w", err)
	}
	return id
}

// block reads the head of an array's next block and returns its number of
// items, 0 at the end of the array. An item takes at least size bytes, so the
// number is safe to take memory for.
func (r *reader) block(field string, size int) int {
	at := r.off
	n := r.long(field)
	if n < 0 { // a block that tells its size in bytes, for readers that skip it
		if bytes := r.long(field); uint64(bytes) > uint64(r.left()) {
			r.fail(field, at, "block of %d bytes, but %d are left", bytes, r.left())
			return 0
		}
		n = -n
	}
	if n < 0 || n > int64(r.left()/size) { // -MinInt64 is negative
		r.fail(field, at, "block of %d items, but %d bytes are left", n, r.left())
		return 0
	}
	return int(n)
}

// byteses reads an array of bytes into s, overwriting it.
func (r *reader) byteses(field string, s [][]byte) [][]byte {
	s = reuse(s)
	for n := r.block(field, 1); n > 0; n = r.block(field, 1) {
		s = slices.Grow(s, n)
		for range n {
			s = append(s, r.bytes(field))
		}
	}
	return s
}

// array reads an array into s, overwriting it, with item reading each of its
// items into what the slot held before: nested slices keep their capacity.
func array[T any](r *reader, field string, size int, s []T, item func(*reader, *T)) []T {
	s = reuse(s)
	for n := r.block(field, size); n > 0; n = r.block(field, size) {
		s = slices.Grow(s, n)
		for range n {
			s = s[:len(s)+1]
			item(r, &s[len(s)-1])
			if r.err != nil {
				return s
			}
		}
	}
	return s
}

// reuse empties s, keeping a moderate capacity.
func reuse[T any](s []T) []T {
	if cap(s) > maxKept {
		return nil
	}
	return s[:0]
}
