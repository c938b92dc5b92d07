package app_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// The target of a one-way link that lost its data is emptied and filled again
// while the origin takes writes, wherever the worker is killed meanwhile.
func TestCrashWhileTheTargetOfAOneWayLinkIsFilledAgain(t *testing.T) {
	for _, p := range []struct {
		point string
		pass  int
	}{{"reseeded", 1}, {"snapshot-event", 1}, {"snapshot-event", 500}, {"applied", 1}, {"applied", 3}} {
		t.Run(p.point, func(t *testing.T) {
			t.Parallel()
			l := newLink(t, linkOptions{directions: oneWay, argsA: wideBacklog()})
			l.sets(l.a, "a", 1000, "1")
			l.run()
			load := l.load("w", l.a)
			load.more(500)
			l.worker.Kill()
			empties(t, l.b)
			l.sets(l.b, "rubbish", 100, "1")
			l.worker.Start(testkit.Failpoint(p.point, p.pass))
			if why := l.failed("sink-b"); !strings.Contains(why, again) {
				t.Fatalf("the sink says %q", why)
			}
			if code, out, talk := l.worker.Run(t.Context(), "resync", "--site", "b"); code == 0 == (p.point == "reseeded") {
				t.Fatalf("twinlog resync: exit code %d: %s%s", code, out, talk)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := l.worker.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(seedOf(t), 7))
			l.worker.Start()
			<-time.After(time.Duration(random.Int64N(int64(600 * time.Millisecond))))
			l.worker.Kill()
			l.run()
			load.stop()
			l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
			if err := load.all[0].Verify(t.Context(), l.b.Client()); err != nil {
				t.Error(err)
			}
			l.reads(l.b, "rubbish:0", "")
			l.reads(l.b, "a:999", "1")
		})
	}
}

// A site that lost nothing is emptied all the same. A worker that is killed
// before the other site was asked for its values does it again, and nothing
// that was emptied is taken for a deletion.
func TestCrashWhileAHealthySiteIsFilledAgain(t *testing.T) {
	for name, s := range map[string]string{"all": "", "keys": ", include: [in:*], exclude: [in:tmp:*]"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog(), directions: "  - {from: a, to: b" + s + "}\n  - {from: b, to: a, snapshot: no_data}\n"})
			l.sets(l.a, "in:a", 1000, "1")
			l.run()
			l.sets(l.b, "in:b", 1000, "1")
			l.endEqual(grace)
			l.worker.Kill()
			l.run(testkit.Failpoint("reseeded", 1))
			if code, out, talk := l.worker.Run(t.Context(), "resync", "--site", "b"); code != 0 {
				t.Fatalf("twinlog resync: exit code %d: %s%s", code, out, talk)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := l.worker.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			l.reads(l.b, "in:a:999", "") // it was emptied before the worker was killed
			l.run()
			l.sets(l.b, "in:own", 100, "1")
			l.endEqual(grace)
			for _, r := range []*testkit.Redis{l.a, l.b} {
				l.reads(r, "in:a:999", "1")
				l.reads(r, "in:b:999", "1")
				l.reads(r, "in:own:99", "1")
			}
		})
	}
}
