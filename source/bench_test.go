package source

import "testing"

// BenchmarkLane takes small units in and batches out.
func BenchmarkLane(b *testing.B) {
	r := newRig(nil, 1<<20)
	r.cfg.MaxMemory = 64 << 20
	events, headers := unit("a value of some forty bytes, as they are."), newHeaders("a")
	b.ReportAllocs()
	n := int64(0)
	for b.Loop() {
		n++
		if err := r.append(events, at(n)); err != nil {
			b.Fatal(err)
		}
		if n%5000 > 0 {
			continue
		}
		batch, err := r.next()
		if err != nil {
			b.Fatal(err)
		}
		for range batch.pieces("t", headers, nil) {
			r.commit()
		}
	}
}
