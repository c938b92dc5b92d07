package app_test

import (
	"fmt"
	"strings"
	"testing"

	"twinlog/internal/testkit"
)

// What a site flushes goes at the other too, but for what that one has
// written since and the flush had not seen.
func TestFlushTakesNothingThatItHadNotSeen(t *testing.T) {
	l, _ := newLivingLink(t, living{})
	l.run()
	a, b := site{l.a, "a"}, site{l.b, "b"}
	for _, way := range [][2]site{{a, b}, {b, a}} {
		flushing, other := way[0], way[1]
		for _, tt := range []struct{ name, run, left string }{
			{"FLUSHALL", "FLUSHALL", "[None,None] [None,None]"},
			{"FLUSHDB", "FLUSHDB", "[None,None] [3,4]"},
			{"FLUSHDB of another", "SELECT 3 ; FLUSHDB ASYNC", "[1,2] [None,None]"},
			{"FLUSHALL in MULTI", "MULTI ; SET k1 10 ; FLUSHALL ; SET k2 20 ; EXEC", "[None,20] [None,None]"},
			{"FLUSHDB in a script", `EVAL "redis.call('set', 'k1', 10) redis.call('flushdb') redis.call('set', 'k2', 20)" 0`, "[None,20] [3,4]"},
		} {
			t.Run(tt.name+" at "+flushing.name, func(t *testing.T) {
				client(t, flushing.Redis, "MSET k1 1 k2 2 ; SELECT 3 ; MSET k3 3 k4 4")
				l.endEqual(grace)
				client(t, other.Redis, "SET __twinlog:other:a-to-b:0 kept") // another link's
				l.pauseBoth()
				client(t, flushing.Redis, tt.run)
				client(t, other.Redis, "SET fresh v ; SADD fresh2 v ; SELECT 3 ; SET fresh3 v")
				l.resumeBoth()
				l.endEqual(grace)
				l.holdsAll("GET fresh ; SMEMBERS fresh2 ; SELECT 3 ; GET fresh3", "v [v] OK v")
				l.holdsAll("MGET k1 k2 ; SELECT 3 ; MGET k3 k4", strings.Replace(tt.left, "] [", "] OK [", 1))
				if got := client(t, other.Redis, "GET __twinlog:other:a-to-b:0")[0]; got != "kept" {
					t.Errorf("the other link's key is %v", got)
				}
				client(t, other.Redis, "DEL fresh fresh2 k1 k2 ; SELECT 3 ; DEL fresh3 k3 k4")
				l.endEqual(grace)
			})
		}
	}
}

// holdsAll is holds for lines whose replies are told one behind another.
func (l *link) holdsAll(lines, want string) {
	l.t.Helper()
	for name, r := range map[string]*testkit.Redis{"a": l.a, "b": l.b} {
		var texts []string
		for _, reply := range client(l.t, r, lines) {
			texts = append(texts, textOf(reply))
		}
		if got := strings.Join(texts, " "); got != want {
			l.t.Errorf("%s at %s: %s, want %s", lines, name, got, want)
		}
	}
}

// A flush of many keys goes in pieces, while the other site writes. The worker
// dies in the middle, more than once.
func TestFlushOfManyKeysSurvivesTheWorker(t *testing.T) {
	const many = 50_000
	l, _ := newLivingLink(t, living{linkOptions: linkOptions{argsA: wideBacklog(), argsB: wideBacklog()}})
	l.run()
	l.set(l.a, keysOf("k", many), "old", 0)
	l.equal(endTime, grace)
	load := testkit.StartWorkload(t, testkit.WorkloadOptions{Addr: l.b.Addr(), Prefix: "w", Seed: 1, Rate: loadRate})
	client(t, l.a, "FLUSHALL ; SET later 1")
	for _, left := range []int64{many * 3 / 4, many / 4} {
		testkit.Eventually(t, endTime, func() error {
			if n := l.keys(l.b); n > left {
				return fmt.Errorf("%d keys are left at b", n)
			}
			return nil
		})
		l.worker.Kill()
		l.worker.Start()
	}
	if err := load.Stop(); err != nil {
		t.Fatal(err)
	}
	l.endEqual(grace)
	l.holds("EXISTS k:0 k:49999", "0")
	l.holds("GET later", "1")
}

// Home has written more keys than its memory of keys in conflict holds, when
// the other site flushes; then both write the same ones.
func TestMoreKeysInConflictThanMemoryHolds(t *testing.T) {
	const many = 20_000 // there is room for 3,000
	l, _ := newLivingLink(t, living{linkOptions: linkOptions{argsA: wideBacklog(), argsB: wideBacklog(), extra: "limits: {memory: 16MiB}\n"}})
	l.run()
	l.set(l.a, keysOf("old", 10), "v", 0)
	l.endEqual(grace)
	syncs := func() float64 {
		return metric(t, l.worker, "twinlog_source_full_syncs_total", `site="a"`)
	}
	before := syncs()
	l.pauseBoth()
	l.set(l.a, keysOf("k", many), "v", 0)
	client(t, l.b, "FLUSHALL ; SET fresh v")
	l.resumeBoth()
	l.endEqual(grace)
	l.holds("EXISTS k:0 k:19999 fresh old:0", "3")
	if n := syncs() - before; n != 1 {
		t.Errorf("site a published all its values %v times, want once", n)
	}
	l.pauseBoth()
	l.set(l.a, keysOf("k", many), "at a", 0)
	l.set(l.b, keysOf("k", many), "at b", 0)
	l.resumeBoth()
	l.endEqual(grace)
	if n := syncs() - before; n != 1 {
		t.Errorf("site a published all its values %v times, want once", n)
	}
}
