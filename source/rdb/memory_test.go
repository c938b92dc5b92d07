package rdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"

	"twinlog/schema"
)

// generated is an RDB that never is in memory whole.
type generated struct {
	head  file
	item  func(f file, i uint64) file // appends element i
	items uint64

	next uint64
	buf  file
	rest []byte // of buf
	crc  uint64
	over bool
}

func (g *generated) Read(p []byte) (int, error) {
	if len(g.rest) == 0 {
		g.buf = g.buf[:0]
		if err := g.fill(); err != nil {
			return 0, err
		}
		g.rest = g.buf
	}
	n := copy(p, g.rest)
	g.rest = g.rest[n:]
	return n, nil
}

func (g *generated) fill() error {
	switch {
	case g.over:
		return io.EOF
	case g.next == 0 && len(g.head) > 0:
		g.buf, g.head = append(g.buf, g.head...), nil
	case g.next < g.items:
		for len(g.buf) < 8<<10 && g.next < g.items {
			g.buf = g.item(g.buf, g.next)
			g.next++
		}
	default:
		g.buf, g.over = append(g.buf, opEOF), true
		g.crc = updateCRC(g.crc, g.buf)
		g.buf = binary.LittleEndian.AppendUint64(g.buf, g.crc)
		return nil
	}
	g.crc = updateCRC(g.crc, g.buf)
	return nil
}

// However many elements a value has, it takes the memory of a few parts. All
// allocations count here, not only those that are alive.
func TestReaderReadsValuesOfAnySizeInTheMemoryOfAFewParts(t *testing.T) {
	const (
		n    = 1_000_000
		some = 300_000 // the race detector is slow
	)
	key := func(typ byte) file { return newFile("REDIS0011").key(typ, "k") }
	name := func(b []byte, i uint64) []byte {
		return binary.BigEndian.AppendUint64(append(b, "field:"...), i)
	}
	nameIs := func(b []byte, i uint64) bool {
		var want [14]byte
		return bytes.Equal(b, name(want[:0], i))
	}
	field := func(f file, i uint64) file { return name(f.length(14), i) }
	pack := packListpack(1, "two")
	for _, c := range []struct {
		name  string
		file  generated
		want  uint64                                        // elements
		right func(v *schema.Value, from uint64) (n uint64) // counts those of a part that are right
	}{
		{
			"a hash of a million fields",
			generated{head: key(4).length(n), items: n, item: func(f file, i uint64) file { return field(field(f, i), i+1) }},
			n,
			func(v *schema.Value, from uint64) (n uint64) {
				for _, h := range v.Hash {
					if nameIs(h.Field, from+n) && nameIs(h.Value, from+n+1) {
						n++
					}
				}
				return n
			},
		},
		{
			"a sorted set of 300,000 members",
			generated{head: key(5).length(some), items: some, item: func(f file, i uint64) file { return field(f, i).le64(int64(math.Float64bits(float64(i)))) }},
			some,
			func(v *schema.Value, from uint64) (n uint64) {
				for _, m := range v.ZSet {
					if nameIs(m.Member, from+n) && m.Score == float64(from+n) {
						n++
					}
				}
				return n
			},
		},
		{
			"a quicklist of 600,000 elements",
			generated{head: key(18).length(some), items: some, item: func(f file, _ uint64) file { return f.lengths(nodePacked).strings(pack) }},
			2 * some,
			func(v *schema.Value, from uint64) (n uint64) {
				for _, e := range v.Elements {
					if want := [2]string{"1", "two"}[(from+n)%2]; string(e) == want {
						n++
					}
				}
				return n
			},
		},
		{
			"a string of 16 MiB",
			generated{head: key(0).length(16 << 20), items: 2 << 20, item: func(f file, i uint64) file { return binary.BigEndian.AppendUint64(f, i) }},
			2 << 20,
			func(v *schema.Value, from uint64) (n uint64) {
				for at := 0; at+8 <= len(v.Data); at += 8 {
					if binary.BigEndian.Uint64(v.Data[at:]) == from+n {
						n++
					}
				}
				return n
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(bufio.NewReaderSize(&c.file, 64<<10), Options{ChunkBytes: 32 << 10})
			var right, parts uint64
			taken := allocated(func() {
				for {
					e, err := r.Next()
					if errors.Is(err, io.EOF) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					right += c.right(&e.Value, right)
					parts++
				}
			})
			if right != c.want {
				t.Errorf("%d elements are right, want %d", right, c.want)
			}
			if parts < 100 {
				t.Errorf("%d parts", parts)
			}
			if taken > 4<<20 {
				t.Errorf("%d bytes were taken", taken)
			}
		})
	}
}
