package stream

import (
	"bytes"
	"testing"

	"twinlog/offsets"
	"twinlog/schema"
)

// BenchmarkTurn makes events of small units.
func BenchmarkTurn(b *testing.B) {
	in := bytes.Repeat([]byte(raw("SET key:123456 "+string(bytes.Repeat([]byte("v"), 100)))), 10_000)
	turner := &Turner{Site: "a", Filter: NewFilter("l", "b-to-a", "0"), Due: NewDue(1<<20, true), MaxEventBytes: 900 << 10}
	emit := func([]schema.Event, offsets.Position, bool) error { return nil }
	pos := offsets.Position{}
	b.ReportAllocs()
	b.SetBytes(int64(len(in) / 10_000))
	for b.Loop() {
		r := NewReader(bytes.NewReader(in), 0, 0, 1<<20)
		for range 10_000 {
			u, err := r.Next()
			if err != nil {
				b.Fatal(err)
			}
			if _, err := turner.Turn(u, &pos, emit); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/unit")
}
