package app_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"twinlog/internal/admin"
	"twinlog/internal/testkit"
)

// A link that only copies has ended when its snapshot is applied, also for a
// worker that is started again, or was killed when an EXEC had taken effect.
func TestInitialOnlyStaysEnded(t *testing.T) {
	l := newLink(t, linkOptions{directions: "  - {from: a, to: b, snapshot: initial_only}\n"})
	l.sets(l.a, "k", 10, "v")
	ended := func() {
		t.Helper()
		testkit.Eventually(t, 30*time.Second, func() error {
			st, err := status(l.worker)
			if err != nil {
				return err
			}
			if d := st.Directions[0]; d.Source.State != admin.StateStopped || d.Sink.State != admin.StateStopped {
				return fmt.Errorf("the source is %s, the sink %s", d.Source.State, d.Sink.State)
			}
			return nil
		})
	}
	l.worker.Start(testkit.Failpoint("applied", 1))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if code, err := l.worker.Wait(ctx); err != nil || code != -1 { // not by a signal
		t.Fatalf("the worker ended with exit code %d (%v)", code, err)
	}
	for range 2 {
		l.worker.Start()
		ended()
		if code := l.worker.Stop(); code != 0 {
			t.Errorf("exit code %d after SIGTERM", code)
		}
	}
	l.reads(l.b, "k:0", "v")
}
