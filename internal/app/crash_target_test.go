package app_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/admin"
	"twinlog/internal/testkit"
	"twinlog/offsets"
)

func TestTargetThatWentBackInTimeGetsTheLostPartAgain(t *testing.T) {
	l := newLink(t, linkOptions{directions: oneWay, argsA: wideBacklog()})
	seed(t, l.a)
	l.record(l.siteA())
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	ls := l.load("w", l.a)
	for round := range 2 {
		l.applied("a-to-b", 500)
		if err := l.b.Client().Save(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		saved := l.mark("a-to-b")
		l.applied("a-to-b", 1500)
		if round > 0 { // so that it can be seen that the mark is back
			l.worker.Signal(syscall.SIGSTOP)
		}
		l.b.Kill()
		ls.more(200)
		l.b.Restart()
		if at := l.mark("a-to-b"); round > 0 && at.After(saved) {
			t.Errorf("the target came back with %v, it was saved at %v", at, saved)
		}
		l.worker.Signal(syscall.SIGCONT)
		l.applied("a-to-b", 2000)
	}
	ls.stop()
	l.settled(time.Minute)
	ls.exact()
}

func TestCrashOfConnectionsWhileABatchIsInFlight(t *testing.T) {
	random := rand.New(rand.NewPCG(seedOf(t), 5))
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
	l.start()
	ls := l.load("w", l.a)
	atA, atB := l.a.Client().Conn(), l.b.Client().Conn() // not killed: SKIPME
	defer atA.Close()
	defer atB.Close()
	do := func(c *goredis.Conn, args ...any) {
		t.Helper()
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	seq := func() int64 {
		text, err := atB.Get(t.Context(), offsets.MarkKey(linkName, "a-to-b", "0")).Result()
		if err != nil && err != goredis.Nil { //nolint:errorlint // never wrapped
			t.Fatal(err)
		}
		if err != nil {
			return 0
		}
		mark, err := offsets.ParseMark(text)
		if err != nil {
			t.Fatal(err)
		}
		return mark.Seq
	}
	advance := func(n int64) {
		t.Helper()
		goal := seq() + n
		testkit.Eventually(t, time.Minute, func() error {
			if at := seq(); at < goal {
				return fmt.Errorf("a-to-b is applied up to seq %d, want %d", at, goal)
			}
			return nil
		})
	}
	for range 20 {
		advance(1 + random.Int64N(200))
		switch random.IntN(4) {
		case 0: // the batch waits at the server, and the connection with it
			do(atB, "CLIENT", "PAUSE", 200, "WRITE")
			ls.more(1 + random.Int64N(100))
			do(atB, "CLIENT", "KILL", "TYPE", "normal")
		case 1: // the replication links of the source and of the audit
			do(atA, "CLIENT", "KILL", "TYPE", "replica")
			do(atB, "CLIENT", "KILL", "TYPE", "replica")
		default:
			do(atB, "CLIENT", "KILL", "TYPE", "normal")
		}
	}
	ls.stop()
	testkit.Eventually(t, 10*time.Second, func() error { return l.b.Client().Ping(t.Context()).Err() }) // its idle connections were killed
	l.settled(time.Minute)
	ls.exact()
	if restarts := metric(t, l.worker, "twinlog_sink_restarts_total", `site="b"`); restarts < 10 {
		t.Errorf("the sink's connection was cut %v times only", restarts)
	}
}

// The mark is a key like others for whoever clears a Redis.
func TestCrashOfTheMarkGoesOnFromWhatTheSourceSaw(t *testing.T) {
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
	l.start()
	both := l.load("x", l.a, l.b)
	for range 10 {
		l.applied("a-to-b", 300)
		if err := l.b.Client().Del(t.Context(), offsets.MarkKey(linkName, "a-to-b", "0")).Err(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, time.Minute, func() error {
			if l.mark("a-to-b").IsZero() {
				return fmt.Errorf("the mark is not back")
			}
			return nil
		})
	}
	both.stop()
	l.settled(time.Minute)
	both.exact()

	// FLUSHALL while its site is written to: what was there is gone at both.
	pipe := l.b.Client().Pipeline()
	const writes = 20_000
	for i := range writes {
		pipe.Incr(t.Context(), fmt.Sprintf("y:counter:%d", i%100))
		pipe.RPush(t.Context(), fmt.Sprintf("y:list:%d", i%100), i)
		if i == writes/2 {
			pipe.FlushAll(t.Context())
		}
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.settled(time.Minute)
	if n, err := l.a.Client().Get(t.Context(), "y:counter:99").Int(); err != nil || n != writes/2/100 {
		t.Errorf("a counter that was written behind FLUSHALL is %d (%v), want %d", n, err, writes/2/100)
	}
	after := l.load("z", l.a, l.b)
	after.more(2000)
	after.stop()
	l.settled(time.Minute)
	after.exact()
}

func TestCrashOfASourceThatSavedGoesOnAndOfOneThatDidNotStopsTheDirection(t *testing.T) {
	// A server that ends in good order waits for replicas that acknowledge;
	// the audit's never does.
	l := newLink(t, linkOptions{argsA: wideBacklog("--shutdown-timeout", "1"), argsB: wideBacklog()})
	seed(t, l.a)
	l.start()
	before := l.load("x", l.a, l.b)
	before.more(2000)
	before.stop()
	_ = l.a.Client().Do(t.Context(), "SHUTDOWN", "SAVE").Err() // the server ends instead of answering
	l.a.Stop()
	l.a.Restart()
	after := l.load("y", l.a, l.b)
	after.more(2000)
	after.stop()
	l.settled(time.Minute)
	before.exact()
	after.exact()
	if n := metric(t, l.worker, "twinlog_source_full_syncs_total", `site="a"`); n != 1 {
		t.Errorf("%v full synchronisations of site a, want the first one alone", n)
	}

	l.a.Kill()
	if err := os.Remove(filepath.Join(l.a.Dir(), "dump.rdb")); err != nil {
		t.Fatal(err)
	}
	l.a.Restart()
	why := l.failed("source-a")
	for _, part := range []string{"site a is not where it was", "has no mark", "Both directions stop", "twinlog resync --site a"} {
		if !strings.Contains(why, part) {
			t.Errorf("the reason does not say %q: %s", part, why)
		}
	}
	for _, w := range append(before.all, after.all...) {
		if err := w.Verify(t.Context(), l.b.Client()); err != nil {
			t.Errorf("the peer of the site that lost its data does not hold what it held: %v", err)
		}
	}
	if n := l.keys(l.a); n != 0 {
		t.Errorf("%d keys were written to a site that lost its data", n)
	}
}

// failed waits until a connector has failed and returns why.
func (l *link) failed(connector string) string {
	l.t.Helper()
	trace := ""
	testkit.Eventually(l.t, time.Minute, func() error {
		st, err := status(l.worker)
		if err != nil {
			return err
		}
		for _, d := range st.Directions {
			switch {
			case d.Source.Name == connector && d.Source.State == admin.StateFailed:
				trace = d.Source.Trace
				return nil
			case d.Sink.Name == connector && d.Sink.State == admin.StateFailed:
				trace = d.Sink.Trace
				return nil
			}
		}
		return fmt.Errorf("%s has not failed: %+v", connector, st.Directions)
	})
	if code, body, err := l.worker.Get("/readyz"); err != nil || code == http.StatusOK || !strings.Contains(string(body), connector) {
		l.t.Errorf("/readyz: %d %s %v, but %s has failed", code, body, err, connector)
	}
	return trace
}
