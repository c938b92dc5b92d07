package app_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"twinlog/internal/admin"
	"twinlog/internal/testkit"
)

// bigSeed writes so much that a worker with little memory cannot have it in
// Kafka at once.
func bigSeed(t *testing.T, r *testkit.Redis, prefix string, megabytes int) {
	t.Helper()
	value := strings.Repeat("v", 4<<10)
	pipe := r.Client().Pipeline()
	for i := range megabytes << 8 {
		pipe.Set(t.Context(), fmt.Sprintf("%s:%d", prefix, i), value, 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// replicaState returns what INFO says of the worker's replication link.
func replicaState(t *testing.T, r *testkit.Redis) (offset string, attached bool) {
	t.Helper()
	info, err := r.Client().Info(t.Context(), "replication").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if strings.HasPrefix(line, "slave0:") {
			_, after, _ := strings.Cut(line, "offset=")
			offset, _, _ = strings.Cut(after, ",")
			return offset, true
		}
	}
	return "", false
}

func TestWaitCountsASourceOnlyForWhatIsInKafka(t *testing.T) {
	l := newLink(t, linkOptions{directions: oneWay, argsA: wideBacklog(), extra: "limits: {memory: 16MiB, max_transaction_bytes: 2MiB}\n"})
	l.needsRealKafka()
	bigSeed(t, l.a, "big", 64)
	client := l.a.Client().Conn() // WAIT is about the writes of its connection
	defer client.Close()
	write := func() {
		t.Helper()
		if err := client.Incr(t.Context(), "counter").Err(); err != nil {
			t.Fatal(err)
		}
	}
	wait := func(timeout time.Duration) int64 {
		t.Helper()
		n, err := client.Do(t.Context(), "WAIT", 1, timeout.Milliseconds()).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}

	// Inside the snapshot nothing counts.
	l.worker.Start()
	testkit.Eventually(t, time.Minute, func() error {
		st, err := status(l.worker)
		if err == nil && (len(st.Directions) == 0 || st.Directions[0].Phase != admin.PhaseSnapshot) {
			err = fmt.Errorf("no snapshot yet: %+v", st)
		}
		return err
	})
	l.kafka.Freeze()
	write()
	if n := wait(1500 * time.Millisecond); n != 0 {
		t.Errorf("WAIT answers %d inside the snapshot", n)
	}
	if offset, attached := replicaState(t, l.a); !attached || offset != "0" {
		t.Errorf("the source has acknowledged %q inside the snapshot (attached: %v)", offset, attached)
	}
	if st, err := status(l.worker); err != nil || st.Directions[0].Phase != admin.PhaseSnapshot {
		t.Errorf("the snapshot was over before Kafka stood still: %v %+v", err, st)
	}
	l.kafka.Thaw()
	l.worker.AwaitReady(time.Minute)
	if n := wait(30 * time.Second); n != 1 {
		t.Errorf("WAIT answers %d behind the snapshot", n)
	}

	// In the stream, what Kafka has.
	write()
	if n := wait(30 * time.Second); n != 1 {
		t.Errorf("WAIT answers %d while Kafka takes everything", n)
	}
	l.kafka.Freeze()
	write()
	if n := wait(1500 * time.Millisecond); n != 0 {
		t.Errorf("WAIT answers %d while Kafka stands still", n)
	}
	l.kafka.Thaw()
	if n := wait(30 * time.Second); n != 1 {
		t.Errorf("WAIT answers %d when Kafka goes on", n)
	}
	l.settled(time.Minute)
}

// residentLimit is what a worker with limits.memory at its least may take of
// the machine: the limit, as much again for what is under way in clients and
// the garbage collector, and the program itself.
const residentLimit = 160 << 20

func TestCrashOfKafkaUnderLoadKeepsMemoryBounded(t *testing.T) {
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog(), extra: "limits: {memory: 16MiB, max_transaction_bytes: 2MiB}\n"})
	l.needsRealKafka()
	seed(t, l.a)
	l.start()
	ls := l.load("w", l.a, l.b)
	l.applied("a-to-b", 200)
	l.kafka.Freeze()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	most := make(chan float64, 1)
	go func() { most <- peak(ctx, l.worker) }()
	for i := range 4 { // four times what the worker may keep, at each site
		bigSeed(t, l.a, fmt.Sprintf("a:%d", i), 16)
		bigSeed(t, l.b, fmt.Sprintf("b:%d", i), 16)
	}
	testkit.Eventually(t, time.Minute, func() error {
		for _, site := range []string{"a", "b"} {
			n, err := readMetric(l.worker, "twinlog_source_spool_bytes", `site="`+site+`"`)
			if err != nil {
				return err
			}
			if n < 48<<20 {
				return fmt.Errorf("site %s: %.0f bytes are on disk", site, n)
			}
		}
		return nil
	})
	l.kafka.Thaw()
	ls.more(500)
	ls.stop()
	l.settled(time.Minute)
	cancel()
	ls.exact()
	if got := <-most; got == 0 || got > residentLimit {
		t.Errorf("the worker took %.0f MB of the machine", got/(1<<20))
	} else {
		t.Logf("the worker took %.0f MB of the machine at most", got/(1<<20))
	}
	if n, err := l.b.Client().Exists(t.Context(), "a:3:100", "b:3:100").Result(); err != nil || n != 2 {
		t.Errorf("%d of 2 keys arrived: %v", n, err)
	}
}

// peak reads the worker's resident memory until ctx is done and returns the
// most that was seen.
func peak(ctx context.Context, p *testkit.Process) (most float64) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return most
		case <-tick.C:
			if now, err := readMetric(p, "process_resident_memory_bytes", ""); err == nil {
				most = max(most, now)
			}
		}
	}
}
