package app_test

import (
	"testing"
	"time"
)

// A SWAPDB at the target moves the mark into another database, and a second
// one brings an old mark back. Neither may make the sink apply anything twice.
func TestSwapDBAtTheTargetBringsNoOldMarkBack(t *testing.T) {
	l := newLink(t, linkOptions{directions: oneWay})
	ctx := t.Context()
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	incr := func(n int) {
		t.Helper()
		for range n {
			if err := l.a.Client().Do(ctx, "INCR", "counter").Err(); err != nil {
				t.Fatal(err)
			}
		}
		l.until("twinlog_sink_seq", l.metric("twinlog_source_seq"))
	}
	swap := func() {
		t.Helper()
		if err := l.b.Client().Do(ctx, "SWAPDB", "0", "1").Err(); err != nil {
			t.Fatal(err)
		}
	}
	incr(50)
	swap() // counter = 50 and the mark lie in db 1
	incr(30)
	swap() // counter = 50 and the old mark are back
	incr(7)
	if got, want := l.b.Client().Get(ctx, "counter").Val(), "57"; got != want {
		t.Errorf("counter = %s, want %s", got, want)
	}
	swap()
	if got, want := l.b.Client().Get(ctx, "counter").Val(), "30"; got != want {
		t.Errorf("counter in the other database = %s, want %s", got, want)
	}
}
