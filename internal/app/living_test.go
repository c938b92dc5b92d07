package app_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// rulesOff makes a worker take what comes, as if nobody else wrote: it shows
// what the rules for living sites are there for.
const rulesOff = "TWINLOG_RULES=off"

// living says what is not as usual with two sites that both write.
type living struct {
	linkOptions
	clock bool // site a's can be stepped
}

// newLivingLink prepares a link whose Kafka is at a distance from the worker.
// The clock is nil without living.clock.
func newLivingLink(t testing.TB, o living) (*link, *testkit.Clock) {
	t.Helper()
	l := &link{t: t, kafka: testkit.StartDistantKafka(t)}
	var clock *testkit.Clock
	if o.clock {
		l.a, clock = testkit.StartRedisWithClock(t, o.argsA...)
	} else {
		l.a = testkit.StartRedis(t, o.argsA...)
	}
	l.b = testkit.StartRedis(t, o.argsB...)
	l.config = fmt.Sprintf("link: %s\nkafka: {brokers: [%q]}\nsites:\n  a: {redis: {addrs: [%q]}}\n  b: {redis: {addrs: [%q]}}\ndirections:\n%s%s",
		linkName, l.kafka.Distant()[0], l.a.Addr(), l.b.Addr(), twoWay, o.extra)
	l.worker = testkit.NewProcess(t, l.config)
	t.Cleanup(l.tell)
	return l, clock
}

// tell shows what the worker says of itself when a test has failed.
func (l *link) tell() {
	if l.t.Failed() && l.worker.Running() {
		_, body, err := l.worker.Get("/status")
		l.t.Logf("status of the worker: %s %v", body, err)
	}
}

// run starts the worker without an audit: what both sites write at once is
// published as values too, which the audit knows nothing of.
func (l *link) run(env ...string) {
	l.t.Helper()
	l.worker.Start(env...)
	l.worker.AwaitReady(time.Minute)
}

// pauseBoth stops what is applied at either site, so that all that is written
// until resumeBoth is written at the same moment.
func (l *link) pauseBoth() {
	l.t.Helper()
	l.pause("sink-a")
	l.pause("sink-b")
}

func (l *link) resumeBoth() {
	l.t.Helper()
	l.resume("sink-a")
	l.resume("sink-b")
}

// endTime is how long two sites may take to be equal once writes stop.
const endTime = 30 * time.Second

// endEqual waits until both sites are equal, until nothing is under way any
// more, and holds that they are equal still.
func (l *link) endEqual(grace time.Duration) {
	l.t.Helper()
	l.endEqualWithin(endTime, grace)
}

func (l *link) endEqualWithin(limit, grace time.Duration) {
	l.t.Helper()
	started := time.Now()
	l.equal(limit, grace)
	l.t.Logf("equal after %v", time.Since(started).Round(time.Millisecond))
	l.quiet()
	l.equal(endTime, grace)
}

// quiet waits until each site has applied all that the other has captured,
// and that this is so for a while.
func (l *link) quiet() {
	l.t.Helper()
	const while = 300 * time.Millisecond
	var last [2]int64
	since := time.Now()
	testkit.Eventually(l.t, time.Minute, func() error {
		now, err := l.captured()
		if err == nil {
			err = l.hasApplied(now)
		}
		if err != nil || now != last {
			last, since = now, time.Now()
			return errors.Join(err, errors.New("events are under way"))
		}
		if time.Since(since) < while {
			return errors.New("it is quiet for a moment only")
		}
		return nil
	})
}

// captured returns the seq of the last event of each direction.
func (l *link) captured() (seqs [2]int64, err error) {
	st, err := status(l.worker)
	if err != nil {
		return seqs, err
	}
	for i, d := range st.Directions {
		seqs[i] = d.Source.Seq
	}
	return seqs, nil
}

func (l *link) hasApplied(seqs [2]int64) error {
	st, err := status(l.worker)
	if err != nil {
		return err
	}
	for i, d := range st.Directions {
		if d.Sink.Seq < seqs[i] {
			return fmt.Errorf("%s is applied up to %d, want %d (%s %s)", d.Name, d.Sink.Seq, seqs[i], d.Sink.State, d.Reason)
		}
	}
	return nil
}

// caughtUp waits until all that has been written so far is applied.
func (l *link) caughtUp() {
	l.t.Helper()
	l.caughtUpWithin(time.Minute)
}

func (l *link) caughtUpWithin(timeout time.Duration) {
	l.t.Helper()
	for range 2 { // what was in a socket at the first time has been captured at the second
		var seqs [2]int64
		testkit.Eventually(l.t, timeout, func() (err error) {
			seqs, err = l.captured()
			return err
		})
		testkit.Eventually(l.t, timeout, func() error { return l.hasApplied(seqs) })
	}
}

// numberOf is an environment variable's number, for runs longer than CI's.
func numberOf(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is not a number", name, text)
	}
	return n
}
