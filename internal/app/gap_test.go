package app_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinlog/internal/admin"
	"twinlog/internal/testkit"
)

// forgetful keeps so little of the replication stream that a short absence of
// its source is a gap.
func forgetful() []string {
	return []string{"--repl-backlog-size", "16kb", "--client-output-buffer-limit", "replica 0 0 0"}
}

// sites returns the site of a name, and the other one.
func (l *link) sites(name string) (site, peer *testkit.Redis) {
	if name == "b" {
		return l.b, l.a
	}
	return l.a, l.b
}

// sets sets keys prefix:0 to prefix:n-1 at a site.
func (l *link) sets(r *testkit.Redis, prefix string, n int, value string) {
	l.t.Helper()
	pipe := r.Client().Pipeline()
	for i := range n {
		pipe.Set(l.t.Context(), fmt.Sprintf("%s:%d", prefix, i), value, 0)
	}
	if _, err := pipe.Exec(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// drop deletes keys prefix:from, prefix:from+step, … below prefix:n.
func (l *link) drop(r *testkit.Redis, prefix string, from, step, n int) {
	l.t.Helper()
	pipe := r.Client().Pipeline()
	for i := from; i < n; i += step {
		pipe.Unlink(l.t.Context(), fmt.Sprintf("%s:%d", prefix, i))
	}
	if _, err := pipe.Exec(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// reads checks a key's value at a site; empty: that there is none.
func (l *link) reads(r *testkit.Redis, key, want string) {
	l.t.Helper()
	if got := r.Client().Get(l.t.Context(), key).Val(); got != want {
		l.t.Errorf("%s holds %q at %s, want %q", key, got, r.Addr(), want)
	}
}

func TestAGapOfAOneWayLinkIsHealedByASnapshotAndNothingUnprovedIsRemoved(t *testing.T) {
	l := newLink(t, linkOptions{directions: "  - {from: a, to: b, existing: ignore}\n", argsA: forgetful()})
	l.sets(l.b, "old", 10, "of b alone")
	l.sets(l.a, "key", 1000, "1")
	l.run()
	testkit.Eventually(t, time.Minute, func() error { return l.sameValue("key:999") })
	l.sets(l.a, "later", 100, "1") // by the stream, not by the snapshot
	testkit.Eventually(t, time.Minute, func() error { return l.sameValue("later:99") })
	l.worker.Kill()
	l.sets(l.a, "key", 1000, strings.Repeat("2", 100))
	l.drop(l.a, "key", 0, 3, 1000)
	l.drop(l.a, "later", 0, 2, 100)
	l.sets(l.b, "new", 10, "of b alone")
	l.run()
	testkit.Eventually(t, time.Minute, func() error {
		if n, err := readMetric(l.worker, "twinlog_sink_unproven_keys", `site="b"`); err != nil || n != 20 {
			return fmt.Errorf("%v keys are told as not proved, want 20: %w", n, err)
		}
		return nil
	})
	for i := range 10 {
		l.reads(l.b, fmt.Sprintf("old:%d", i), "of b alone")
		l.reads(l.b, fmt.Sprintf("new:%d", i), "of b alone")
	}
	if n := metric(t, l.worker, "twinlog_source_gaps_total", `site="a"`); n != 1 {
		t.Errorf("%v gaps were counted", n)
	}
	l.drop(l.b, "old", 0, 1, 10)
	l.drop(l.b, "new", 0, 1, 10)
	l.settled(time.Minute)
}

// sameValue tells whether b holds a key as a does.
func (l *link) sameValue(key string) error {
	at, err := l.a.Client().Get(l.t.Context(), key).Result()
	if err != nil {
		return err
	}
	if copied := l.b.Client().Get(l.t.Context(), key).Val(); copied != at {
		return fmt.Errorf("%s is %q at b, want %q", key, copied, at)
	}
	return nil
}

func TestAGapOfOneSiteIsHealedAndDeletionsInItAreNotLost(t *testing.T) {
	for _, forgets := range []string{"a", "b"} {
		t.Run(forgets, func(t *testing.T) {
			o := linkOptions{argsA: forgetful(), argsB: wideBacklog()}
			if forgets == "b" {
				o.argsA, o.argsB = o.argsB, o.argsA
			}
			l := newLink(t, o)
			site, peer := l.sites(forgets)
			l.sets(l.a, "a", 1000, "1")
			l.run()
			l.sets(l.b, "b", 1000, "1")
			l.endEqual(grace)
			for round := range 3 {
				l.worker.Kill()
				value := strings.Repeat(fmt.Sprint(round), 200)
				l.sets(site, "a", 1000, value)
				l.drop(site, "a", round, 7, 1000) // what was born at either
				l.drop(site, "b", round, 7, 1000)
				l.sets(site, "new", 10, value)
				l.sets(peer, fmt.Sprintf("b:%d", round+7), 1, "not seen") // b:7:0, …
				l.run()
				l.endEqual(grace)
				for _, r := range []*testkit.Redis{site, peer} {
					l.reads(r, fmt.Sprintf("a:%d", round), "")
					l.reads(r, fmt.Sprintf("b:%d", round), "")
					l.reads(r, fmt.Sprintf("b:%d:0", round+7), "not seen")
					l.reads(r, "new:9", value)
				}
			}
			if n := metric(t, l.worker, "twinlog_source_gaps_total", ""); n != 1 {
				t.Errorf("%v gaps were counted since the last start, want 1", n)
			}
		})
	}
}

// A key that one site deleted in its gap comes back if the other, in a gap of
// its own, still had it: nothing proves which is newer. Nothing else is lost.
func TestGapsOfBothSitesAtOnceEndEqual(t *testing.T) {
	l := newLink(t, linkOptions{argsA: forgetful(), argsB: forgetful()})
	l.sets(l.a, "a", 1000, "1")
	l.run()
	l.sets(l.b, "b", 1000, "1")
	l.endEqual(grace)
	for round := range 3 {
		l.worker.Kill()
		value := strings.Repeat(fmt.Sprint(round), 200)
		l.sets(l.a, "a", 1000, value)
		l.sets(l.b, "b", 1000, value)
		l.drop(l.a, "b", round, 7, 1000) // each deletes what the other has just written
		l.drop(l.b, "a", round, 7, 1000)
		l.sets(l.a, fmt.Sprintf("new:a:%d", round), 10, "1")
		l.sets(l.b, fmt.Sprintf("new:b:%d", round), 10, "1")
		l.run()
		l.endEqual(grace)
		for _, r := range []*testkit.Redis{l.a, l.b} {
			l.reads(r, fmt.Sprintf("a:%d", round), value)
			l.reads(r, fmt.Sprintf("b:%d", round), value)
			l.reads(r, fmt.Sprintf("new:a:%d:9", round), "1")
			l.reads(r, fmt.Sprintf("new:b:%d:9", round), "1")
		}
	}
}

func TestCrashOfASnapshotBehindAGapTenTimesEndsEqual(t *testing.T) {
	l := newLink(t, linkOptions{argsA: forgetful(), argsB: forgetful(), extra: "limits: {memory: 32MiB, max_transaction_bytes: 2MiB}\n"})
	const keys = 5000
	l.sets(l.a, "a", keys, strings.Repeat("x", 1000))
	l.run()
	l.endEqual(grace)
	l.worker.Kill()
	for round := range 10 {
		l.sets(l.a, "a", keys, strings.Repeat(fmt.Sprint(round), 1000))
		l.drop(l.a, "a", round, 11, keys)
		l.sets(l.b, "b", 100, fmt.Sprint(round))
		l.dies("snapshot-event", 1+keys*round/12)
	}
	l.run()
	l.endEqual(grace)
	for i := range 10 {
		l.reads(l.b, fmt.Sprintf("a:%d", i+11*9), l.a.Client().Get(t.Context(), fmt.Sprintf("a:%d", i+11*9)).Val())
	}
}

func TestASiteThatCameBackOlderGetsWhatItLost(t *testing.T) {
	for _, older := range []string{"a", "b"} { // home, and the other site
		t.Run(older, func(t *testing.T) {
			l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
			site, peer := l.sites(older)
			l.sets(l.a, "key", 1000, "1")
			l.run()
			l.endEqual(grace)
			if err := site.Client().Save(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			l.sets(site, "lost", 1000, "1") // published, and lost at the site
			l.sets(site, "key", 500, "2")
			l.drop(site, "key", 500, 2, 1000)
			l.endEqual(grace)
			l.worker.Signal(syscall.SIGSTOP) // so that it can be seen what is lost
			site.Kill()
			site.Restart()
			if n := site.Client().Exists(t.Context(), "lost:0").Val(); n != 0 {
				t.Fatal("the site has lost nothing")
			}
			l.worker.Signal(syscall.SIGCONT)
			l.sets(site, "after", 100, "1")
			l.sets(peer, "meanwhile", 100, "1")
			testkit.Eventually(t, time.Minute, func() error {
				if n := site.Client().Exists(t.Context(), "lost:999").Val(); n == 0 {
					return fmt.Errorf("what the site had published has not come back")
				}
				return nil
			})
			l.endEqual(grace)
			for _, r := range []*testkit.Redis{site, peer} {
				l.reads(r, "lost:999", "1")
				l.reads(r, "key:499", "2")
				l.reads(r, "key:500", "")
				l.reads(r, "key:501", "1")
				l.reads(r, "after:99", "1")
				l.reads(r, "meanwhile:99", "1")
			}
			logged(t, l.worker, "the site went back: it lost what it had published", 1)
		})
	}
}

// empties makes a site come back without any data.
func empties(t *testing.T, r *testkit.Redis) {
	t.Helper()
	r.Kill()
	if err := os.Remove(filepath.Join(r.Dir(), "dump.rdb")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	r.Restart()
}

func TestASiteThatCameBackEmptyStopsBothDirectionsUntilItIsFilledAgain(t *testing.T) {
	for _, empty := range []string{"a", "b"} {
		t.Run(empty, func(t *testing.T) {
			l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
			site, peer := l.sites(empty)
			l.sets(l.a, "a", 1000, "1")
			l.run()
			l.sets(l.b, "b", 1000, "1")
			l.endEqual(grace)
			before := l.keys(peer)
			empties(t, site)
			why := l.failed("source-" + empty)
			for _, part := range []string{"site " + empty, "has no mark", "Nothing of site", "twinlog resync --site " + empty} {
				if !strings.Contains(why, part) {
					t.Errorf("the reason does not say %q: %s", part, why)
				}
			}
			testkit.Eventually(t, time.Minute, func() error { return l.allFailed() })
			if after := l.keys(peer); after != before {
				t.Errorf("the peer of the site that lost its data has %d keys, it had %d", after, before)
			}
			if n := l.keys(site); n != 0 {
				t.Errorf("%d keys were written to a site that lost its data", n)
			}
			l.sets(peer, "meanwhile", 100, "1")
			l.sets(site, "rubbish", 100, "1")
			l.refusesToEmpty(other(empty), "that lost its data")
			l.twinlog("resync", "--site", empty)
			load := l.load("during", peer)
			random := rand.New(rand.NewPCG(seedOf(t), 5))
			for range 4 {
				<-time.After(time.Duration(random.Int64N(int64(600 * time.Millisecond))))
				l.worker.Kill()
				l.worker.Start()
			}
			testkit.Eventually(t, time.Minute, func() error {
				if err := l.allFailed(); err == nil { // killed before it had begun
					l.twinlog("resync", "--site", empty)
				}
				if n := site.Client().Exists(t.Context(), "a:999", "b:999", "meanwhile:99").Val(); n != 3 {
					return fmt.Errorf("%d of 3 keys have come", n)
				}
				return nil
			})
			l.worker.AwaitReady(time.Minute)
			l.sets(site, "own", 100, "1")
			load.stop()
			l.endEqualWithin(time.Minute, grace)
			load.exact()
			for _, r := range []*testkit.Redis{site, peer} {
				l.reads(r, "rubbish:0", "")
				l.reads(r, "own:99", "1")
			}
		})
	}
}

// refusesToEmpty checks that a site that fills the other one is not emptied.
func (l *link) refusesToEmpty(name, why string) {
	l.t.Helper()
	site, _ := l.sites(name)
	before := l.keys(site)
	if code, out, talk := l.worker.Run(l.t.Context(), "resync", "--site", name); code != 1 || !strings.Contains(string(talk), why) {
		l.t.Errorf("twinlog resync --site %s: exit code %d, want 1 with %q: %s%s", name, code, why, out, talk)
	}
	if after := l.keys(site); after < before {
		l.t.Errorf("site %s has %d keys, it had %d", name, after, before)
	}
}

func other(site string) string {
	if site == "a" {
		return "b"
	}
	return "a"
}

// While a site waits for the values of the other one, that one is not emptied.
func TestASiteThatFillsTheOtherIsNotEmptied(t *testing.T) {
	for _, empty := range []string{"a", "b"} {
		t.Run(empty, func(t *testing.T) {
			t.Parallel()
			slow := wideBacklog("--repl-diskless-sync-delay", "5") // until a copy begins
			l := newLink(t, linkOptions{argsA: slow, argsB: slow})
			l.sets(l.a, "a", 1000, "1")
			l.run()
			l.sets(l.b, "b", 1000, "1")
			l.endEqual(grace)
			l.twinlog("resync", "--site", empty)
			l.refusesToEmpty(other(empty), "is being filled again")
			l.endEqual(grace)
			l.reads(l.a, "b:999", "1")
			l.reads(l.b, "a:999", "1")
			l.twinlog("resync", "--site", other(empty))
			l.endEqual(grace)
			l.reads(l.a, "b:999", "1")
			l.reads(l.b, "a:999", "1")
		})
	}
}

// A Redis that nobody follows has no backlog, so it takes a while until its
// stream can be read. What is written there meanwhile is published or emptied.
func TestASiteThatIsWrittenToWhileItIsFilledAgainEndsEqual(t *testing.T) {
	for _, empty := range []string{"a", "b"} {
		t.Run(empty, func(t *testing.T) {
			o := linkOptions{argsA: wideBacklog("--repl-diskless-sync-delay", "1"), argsB: wideBacklog("--repl-diskless-sync-delay", "1")}
			l := newLink(t, o)
			site, _ := l.sites(empty)
			l.sets(l.a, "a", 100, "1")
			l.run()
			l.endEqual(grace)
			empties(t, site)
			l.failed("source-" + empty)
			load := testkit.StartWorkload(t, testkit.WorkloadOptions{Addr: site.Addr(), Prefix: "w", Seed: seedOf(t), Rate: loadRate, Outages: true})
			l.twinlog("resync", "--site", empty)
			l.worker.AwaitReady(time.Minute)
			if err := load.Stop(); err != nil {
				t.Fatal(err)
			}
			l.endEqual(grace)
			l.reads(site, "a:99", "1")
		})
	}
}

// allFailed tells whether every connector has stopped for what was found.
func (l *link) allFailed() error {
	st, err := status(l.worker)
	if err != nil {
		return err
	}
	for _, d := range st.Directions {
		if d.Source.State != admin.StateFailed || d.Sink.State != admin.StateFailed {
			return fmt.Errorf("%s goes on: source %s, sink %s", d.Name, d.Source.State, d.Sink.State)
		}
	}
	return nil
}
