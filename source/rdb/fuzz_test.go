package rdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/schema"
)

// Whatever stands in an RDB: no panic, memory as bounded as Options say, an
// error of a kind that is promised, and the same values however they are cut.
func FuzzReader(f *testing.F) {
	f.Add(everything().end(), uint16(0))
	f.Add(everything().endUnchecked(), uint16(1))
	for _, c := range encodings() {
		if len(c.file) <= 2000 {
			f.Add(append(newFile("REDIS0011"), c.file...).endUnchecked(), uint16(7))
		}
	}
	for _, typ := range []byte{15, 19, 21, 26} {
		f.Add(append(newFile("REDIS0013"), streamFile(typ)...).endUnchecked(), uint16(50))
	}
	for _, c := range expiringHashes() {
		f.Add(append(newFile(c.magic), c.file...).endUnchecked(), uint16(7))
	}
	f.Add(append(newFile("REDIS0013"), opSlotInfo).lengths(5, 2, 1).key(0, "k").strings("v").endUnchecked(), uint16(7))
	f.Add(append(newFile("REDIS0013"), opMetadata).lengths(1).raw("abcd").endUnchecked(), uint16(7))
	f.Add(append(newFile("VALKEY080"), opMetadata).strings("a").endUnchecked(), uint16(7))
	f.Add(newFile("REDIS0011").key(7, "k").raw(string(moduleValue("text"))).endUnchecked(), uint16(9))
	f.Add(append(newFile("REDIS0011").key(0, "k"), bomb(300)...).endUnchecked(), uint16(1000))
	f.Add(append(newFile("REDIS0011").key(1, "k").length(1), bomb(1000)...).endUnchecked(), uint16(1000))
	for _, n := range []uint64{1 << 20, math.MaxUint32, math.MaxUint64} {
		f.Add([]byte(newFile("REDIS0011").key(0, "k").length(n)), uint16(100))
		f.Add([]byte(newFile("REDIS0011").key(4, "k").length(n).strings("f", "v")), uint16(100))
		f.Add([]byte(newFile("REDIS0012").key(24, "k").le64(1).length(n).lengths(1).strings("f", "v")), uint16(100))
		f.Add([]byte(newFile("REDIS0012").key(24, "k").le64(1).length(1).length(n).strings("f", "v")), uint16(100))
		f.Add([]byte(newFile("VALKEY080").key(22, "k").length(n).strings("f", "v").le64(1)), uint16(100))
		f.Add([]byte(newFile("REDIS0011").key(18, "k").length(n).lengths(nodePlain).strings("v").lengths(nodePacked).strings(packListpack(1))), uint16(100))
		f.Add([]byte(emptyStream("k").length(1).strings("g").lengths(0, 0, 0).length(n).rawID(1, 1).le64(0).length(1)), uint16(100))
	}
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16) {
		o := Options{ChunkBytes: int(chunk), MaxElementBytes: 1 << 16}
		whole, err := fuzzRead(t, data, o, 4096)
		if err != nil {
			var limit *LimitError
			var corrupt *CorruptError
			var unsupported *UnsupportedError
			if !errors.As(err, &limit) && !errors.As(err, &corrupt) && !errors.As(err, &unsupported) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("an error of no promised kind: %v", err)
			}
		}
		o.ChunkBytes = 1 << 20
		again, errAgain := fuzzRead(t, data, o, MinBuffer)
		if (err == nil) != (errAgain == nil) {
			t.Fatalf("in parts of %d: %v; of %d: %v", chunk, err, o.ChunkBytes, errAgain)
		}
		if err == nil {
			if d := cmp.Diff(again, whole, cmp.AllowUnexported(digest{})); d != "" {
				t.Fatalf("in parts of %d the content is another:\n%s", chunk, d)
			}
		}
	})
}

// fuzzRead reads data and returns a digest of each value. Each part is within
// the limits.
func fuzzRead(t *testing.T, data []byte, o Options, buffer int) (sums []digest, err error) {
	t.Helper()
	r := NewReader(bufio.NewReaderSize(bytes.NewReader(data), buffer), o)
	for {
		e, err := r.Next()
		if r.BytesRead() > int64(len(data)) {
			t.Fatalf("%d bytes read of %d", r.BytesRead(), len(data))
		}
		if errors.Is(err, io.EOF) {
			return sums, nil
		}
		if err != nil {
			return sums, err
		}
		if size, most := payload(&e.Value), r.opts.ChunkBytes+3*int(r.opts.MaxElementBytes); size > most {
			t.Fatalf("part %d of a %s has %d bytes, more than %d", e.Index, e.Type, size, most)
		}
		if e.Kind != Value || e.Index == 0 {
			sums = append(sums, digest{group: "none", consumer: "none"})
		}
		sums[len(sums)-1].add(e)
	}
}

// payload is how many bytes of strings a part has.
func payload(v *schema.Value) int {
	n := len(v.Data)
	for _, e := range v.Elements {
		n += len(e)
	}
	for _, h := range v.Hash {
		n += len(h.Field) + len(h.Value)
	}
	for _, m := range v.ZSet {
		n += len(m.Member)
	}
	for _, e := range v.Stream {
		for _, f := range e.Fields {
			n += len(f)
		}
	}
	return n
}

// digest is a checksum of a value that does not see where parts begin: a group
// or a consumer that goes on in the next part counts once.
type digest struct {
	sum             uint64
	group, consumer string // the last ones
}

func (d *digest) add(e *Entry) {
	if e.Index == 0 {
		d.numbers(uint64(e.Kind), uint64(e.Value.Kind), uint64(e.DB), uint64(e.ExpireAt.Int64))
		d.strings(e.Name, e.Text, e.Key, []byte(e.Type))
	}
	v := &e.Value
	d.sum = updateCRC(d.sum, v.Data)
	d.strings(v.Elements...)
	for _, h := range v.Hash {
		d.strings(h.Field, h.Value)
		d.numbers(uint64(h.ExpireAt.Int64))
	}
	for _, m := range v.ZSet {
		d.strings(m.Member)
		d.numbers(math.Float64bits(m.Score))
	}
	for _, s := range v.Stream {
		d.numbers(s.ID.Ms, s.ID.Seq)
		d.strings(s.Fields...)
	}
	if v.Meta == nil {
		return
	}
	for _, g := range v.Meta.Groups {
		if name := string(g.Name); name != d.group {
			d.group, d.consumer = name, "none"
			d.strings(g.Name)
			d.numbers(g.LastID.Ms, g.LastID.Seq, uint64(g.EntriesRead))
		}
		for _, c := range g.Consumers {
			if name := string(c.Name); name != d.consumer {
				d.consumer = name
				d.strings(c.Name)
				d.numbers(uint64(c.SeenMs), uint64(c.ActiveMs))
			}
			for _, p := range c.Pending {
				d.numbers(p.ID.Ms, p.ID.Seq, uint64(p.DeliveredMs), uint64(p.Deliveries))
			}
		}
	}
}

func (d *digest) numbers(ns ...uint64) {
	for _, n := range ns {
		d.sum = updateCRC(d.sum, binary.LittleEndian.AppendUint64(nil, n))
	}
}

func (d *digest) strings(ss ...[]byte) {
	for _, s := range ss {
		d.numbers(uint64(len(s)))
		d.sum = updateCRC(d.sum, s)
	}
}
