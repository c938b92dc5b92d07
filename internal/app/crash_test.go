package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/admin"
	"twinlog/internal/testkit"
	"twinlog/offsets"
)

// wideBacklog makes a Redis keep more of its stream than any test writes.
func wideBacklog(more ...string) []string {
	return append([]string{"--repl-backlog-size", "256mb"}, more...)
}

// loadRate is what each site gets a second: enough for every batch to hold
// something, little enough for two cores.
const loadRate = 1000

// loads are the clients of a link's sites, each with keys of its own.
type loads struct {
	l   *link
	all []*testkit.Workload
}

// load begins to write at the given Redis.
func (l *link) load(prefix string, at ...*testkit.Redis) *loads {
	ls := &loads{l: l}
	for i, r := range at {
		ls.all = append(ls.all, testkit.StartWorkload(l.t, testkit.WorkloadOptions{
			Addr: r.Addr(), Prefix: fmt.Sprintf("%s-%d", prefix, i), Seed: uint64(i) + 1, Rate: loadRate,
		}))
	}
	return ls
}

// more waits until so many further operations were acknowledged.
func (ls *loads) more(n int64) {
	ls.l.t.Helper()
	count := func() (sum int64) {
		for _, w := range ls.all {
			sum += w.Operations()
		}
		return sum
	}
	goal := count() + n
	testkit.Eventually(ls.l.t, time.Minute, func() error {
		if at := count(); at < goal {
			return fmt.Errorf("%d operations, want %d", at, goal)
		}
		return nil
	})
}

func (ls *loads) stop() {
	ls.l.t.Helper()
	for _, w := range ls.all {
		if err := w.Stop(); err != nil {
			ls.l.t.Error(err)
		}
	}
}

// exact holds both sites against what the clients know.
func (ls *loads) exact() {
	ls.l.t.Helper()
	for _, w := range ls.all {
		for name, r := range map[string]*testkit.Redis{"a": ls.l.a, "b": ls.l.b} {
			if err := w.Verify(ls.l.t.Context(), r.Client()); err != nil {
				ls.l.t.Errorf("site %s does not hold what its clients wrote: %v", name, err)
			}
		}
	}
}

// needsRealKafka ends a test that freezes or kills the broker where there is
// only the embedded one, which cannot be. Under CI=true there never is.
func (l *link) needsRealKafka() {
	l.t.Helper()
	if !l.kafka.Real() {
		l.t.Skip("this test freezes Apache Kafka: it needs Java and Maven")
	}
}

// mark reads how far a direction is applied at its target.
func (l *link) mark(direction string) offsets.Mark {
	l.t.Helper()
	r := l.b
	if direction == "b-to-a" {
		r = l.a
	}
	text, err := r.Client().Get(l.t.Context(), offsets.MarkKey(linkName, direction, "0")).Result()
	if errors.Is(err, goredis.Nil) {
		return offsets.Mark{}
	}
	if err != nil {
		l.t.Fatal(err)
	}
	mark, err := offsets.ParseMark(text)
	if err != nil {
		l.t.Fatal(err)
	}
	return mark
}

// applied waits until so many further events of a direction took effect.
func (l *link) applied(direction string, more int64) {
	l.t.Helper()
	goal := l.mark(direction).Seq + more
	testkit.Eventually(l.t, time.Minute, func() error {
		if at := l.mark(direction).Seq; at < goal {
			return fmt.Errorf("%s is applied up to seq %d, want %d", direction, at, goal)
		}
		return nil
	})
}

// status asks a worker what it does.
func status(p *testkit.Process) (st admin.Status, err error) {
	code, body, err := p.Get("/status")
	if err == nil && code != 200 {
		err = fmt.Errorf("/status: %d %s", code, body)
	}
	if err == nil {
		err = json.Unmarshal(body, &st)
	}
	return st, err
}

// metric reads the sum of a metric over all its labels that hold with.
func metric(t testing.TB, p *testkit.Process, name, with string) float64 {
	t.Helper()
	sum, err := readMetric(p, name, with)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func readMetric(p *testkit.Process, name, with string) (sum float64, err error) {
	_, body, err := p.Get("/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		labels, ok := strings.CutPrefix(line, name)
		if !ok || !strings.Contains(line, with) || labels[0] != '{' && labels[0] != ' ' {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(labels[strings.LastIndexByte(labels, ' ')+1:], &v); err != nil {
			return 0, fmt.Errorf("metric %q: %w", line, err)
		}
		sum += v
	}
	return sum, nil
}

// logged waits until the worker has written text so often since its start.
func logged(t *testing.T, p *testkit.Process, text string, times int) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() error {
		log, err := os.ReadFile(p.LogFile())
		if err == nil && strings.Count(string(log), text) < times {
			err = fmt.Errorf("the worker did not say %q %d times", text, times)
		}
		return err
	})
}

// dies starts the worker, waits until a failpoint kills it and fails the test
// if it ends in another way.
func (l *link) dies(point string, nth int) {
	l.t.Helper()
	l.worker.Start(testkit.Failpoint(point, nth))
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	code, err := l.worker.Wait(ctx)
	if err != nil {
		l.t.Fatalf("the failpoint %s did not kill the worker at pass %d: %v", point, nth, err)
	}
	if code != -1 { // not by a signal
		l.t.Fatalf("the worker ended with exit code %d before it passed %s %d times", code, point, nth)
	}
}

func TestCrashAtEveryFailpointLosesAndDoublesNothing(t *testing.T) {
	points := []struct {
		name   string
		passes []int
	}{
		{"ring-opened", []int{1, 2}},     // ids fenced, position not read
		{"position-read", []int{1, 2}},   // of the first source, of the second
		{"produced", []int{1, 2, 40}},    // acknowledged, not committed
		{"commit-sent", []int{1, 3, 40}}, // the answer is lost
		{"committed", []int{1, 2, 40}},   // not acknowledged to the Redis
		{"mark-read", []int{1, 2}},
		{"exec-sent", []int{1, 3, 40}}, // the answer is lost
		{"applied", []int{1, 3, 40}},   // not mirrored to the group
	}
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
	seed(t, l.a)
	l.start()
	l.a.Equal(l.b, 20*time.Second, testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true})
	l.worker.Kill()
	ls := l.load("w", l.a, l.b)
	for _, p := range points {
		for _, n := range p.passes {
			l.dies(p.name, n)
		}
	}
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	ls.more(100)
	ls.stop()
	l.settled(time.Minute)
	ls.exact()
}

// A snapshot that is cut leaves keys in the topic, and at the target, that
// the origin may have deleted before the next one: SNAPSHOT_END removes them.
func TestCrashBetweenSnapshotEventsLeavesNoKeyThatTheOriginDeleted(t *testing.T) {
	const keys = 20_000
	// Values are larger together than what the worker may keep, in memory and
	// on disk: far inside the snapshot, some of it is in Kafka for certain.
	l := newLink(t, linkOptions{
		argsA: wideBacklog(), argsB: wideBacklog(),
		extra: fmt.Sprintf("limits: {memory: 16MiB, max_transaction_bytes: 2MiB}\nspool: {dir: %q, max_bytes: 1MiB}\n", t.TempDir()),
	})
	write := func(pass string) {
		pipe := l.a.Client().Pipeline()
		value := strings.Repeat(pass, 1<<10)
		for i := range keys {
			pipe.Set(t.Context(), fmt.Sprintf("key:%d", i), value, 0)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	drop := func(from, step int) {
		pipe := l.a.Client().Pipeline()
		for i := from; i < keys; i += step {
			pipe.Unlink(t.Context(), fmt.Sprintf("key:%d", i))
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	write("x")
	l.record(l.siteA(), l.siteB())
	ls := l.load("w", l.a)
	l.dies("snapshot-event", keys/2)
	drop(0, 3)
	l.dies("snapshot-event", keys/3)
	l.dies("position-read", 1)
	l.dies("snapshot-event", 1)
	drop(1, 3)
	l.dies("produced", 3)
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	ls.more(100)
	ls.stop()
	l.settled(time.Minute)
	ls.exact()
	if removed := metric(t, l.worker, "twinlog_sink_snapshot_removed_total", ""); removed == 0 {
		t.Error("SNAPSHOT_END removed nothing, so no interrupted snapshot was in the topic")
	}
	if l.keys(l.b) < keys/3 {
		t.Error("nothing was copied")
	}
}

// keys counts the keys of a Redis's database 0, reserved ones too.
func (l *link) keys(r *testkit.Redis) int64 {
	l.t.Helper()
	n, err := r.Client().DBSize(l.t.Context()).Result()
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}
