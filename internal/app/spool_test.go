package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// hastyRedis gives a replica up that is 16 MB behind, and cannot continue with
// it afterwards.
func hastyRedis() []string {
	return []string{"--repl-backlog-size", "1mb", "--client-output-buffer-limit", "replica", "16mb", "16mb", "0"}
}

// outage is what is written while Kafka is away: more than such a Redis and
// the sockets in between hold.
const outage = 64 << 20

// spooling is a link whose worker has little memory and a disk.
type spooling struct {
	*link
	dir string // of the link's spool
}

func newSpooling(t *testing.T, maxBytes string, o linkOptions) *spooling {
	t.Helper()
	dir := t.TempDir()
	o.extra = fmt.Sprintf("limits: {memory: 16MiB, max_transaction_bytes: 1MiB}\nspool: {dir: %q, max_bytes: %s}\n", dir, maxBytes)
	l := &spooling{link: newLink(t, o), dir: filepath.Join(dir, linkName)}
	l.needsRealKafka()
	return l
}

// write writes n bytes at site a, 10 MB a second.
func (l *spooling) write(n int) {
	l.t.Helper()
	const value, chunk = 1000, 1000
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	text := strings.Repeat("v", value)
	for i := range n / value / chunk {
		pipe := l.a.Client().Pipeline()
		for j := range chunk {
			pipe.Set(l.t.Context(), fmt.Sprintf("spooled:%d", j), text+strconv.Itoa(i), 0)
		}
		if _, err := pipe.Exec(l.t.Context()); err != nil {
			l.t.Fatal(err)
		}
		<-tick.C
	}
}

// info reads one number of INFO at site a.
func (l *spooling) info(section, field string) int64 {
	l.t.Helper()
	text, err := l.a.Client().Info(l.t.Context(), section).Result()
	if err != nil {
		l.t.Fatal(err)
	}
	_, after, _ := strings.Cut(text, "\n"+field+":")
	n, err := strconv.ParseInt(strings.TrimSpace(strings.SplitN(after, "\n", 2)[0]), 10, 64)
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

// spooled waits until so many bytes of site a are on disk.
func (l *spooling) spooled(atLeast float64) {
	l.t.Helper()
	testkit.Eventually(l.t, time.Minute, func() error {
		n, err := readMetric(l.worker, "twinlog_source_spool_bytes", `site="a"`)
		if err == nil && n < atLeast {
			err = fmt.Errorf("%.0f bytes on disk, want %.0f", n, atLeast)
		}
		return err
	})
}

func (l *spooling) files() []string {
	l.t.Helper()
	names, err := filepath.Glob(filepath.Join(l.dir, "spool-*"))
	if err != nil {
		l.t.Fatal(err)
	}
	return names
}

// What a source may keep of 16 MiB, and one unit or batch more.
const (
	twoWayPart = 3<<20 + 1<<20
	oneWayPart = 8<<20 + 1<<20
)

// bounded holds the worker's memory against its limit, and what waits in the
// source against its part.
func (l *spooling) bounded(source float64) {
	l.t.Helper()
	if n := metric(l.t, l.worker, "twinlog_source_memory_bytes", `site="a"`); n > source {
		l.t.Errorf("%.0f bytes wait in memory", n)
	}
	if peak := peakMemory(l.t, l.worker.Pid()); peak > 160 {
		l.t.Errorf("the worker has used %.0f MiB", peak)
	}
}

// emptied waits until the disk is given back.
func (l *spooling) emptied() {
	l.t.Helper()
	testkit.Eventually(l.t, 20*time.Second, func() error {
		if left := l.files(); len(left) > 0 {
			return fmt.Errorf("left on disk: %q", left)
		}
		return nil
	})
}

// Kafka is away for as long as it takes to fill memory and spill, or longer:
// TWINLOG_OUTAGE_SECONDS=600.
func TestKafkaAwayUnderLoadCostsNoFullSync(t *testing.T) {
	atLeast := time.Duration(numberOf(t, "TWINLOG_OUTAGE_SECONDS", 1)) * time.Second
	l := newSpooling(t, "4GiB", linkOptions{argsA: hastyRedis()})
	seed(t, l.a)
	l.start()
	full := l.info("stats", "sync_full")
	for _, away := range []struct {
		name        string
		leave, back func()
	}{
		{"it hangs", l.kafka.Freeze, l.kafka.Thaw},
		{"it is killed", l.kafka.Kill, l.kafka.Restart},
	} {
		ls := l.load(away.name, l.a, l.b)
		away.leave()
		over := time.After(atLeast)
		l.write(outage)
		l.spooled(outage / 2)
		l.bounded(twoWayPart)
		// The site's own direction waits, and its source reads on all the same.
		if lag := l.info("replication", "master_repl_offset") - int64(l.captured()); lag > 16<<20 {
			t.Errorf("%s: the source is %d bytes behind the stream", away.name, lag)
		}
		<-over
		l.bounded(twoWayPart)
		away.back()
		ls.more(100)
		ls.stop()
		l.settled(2 * time.Minute)
		ls.exact()
		l.emptied()
		l.bounded(twoWayPart)
	}
	if now := l.info("stats", "sync_full"); now != full {
		t.Errorf("%d full synchronisations, %d before Kafka went away", now, full)
	}
}

// captured is how far the source of site a has read.
func (l *spooling) captured() int {
	l.t.Helper()
	st, err := status(l.worker)
	if err != nil {
		l.t.Fatal(err)
	}
	_, offset, _ := strings.Cut(st.Directions[0].Source.Position, ":")
	n, err := strconv.Atoi(offset)
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

// The snapshot is read at the Redis's speed, whatever Kafka does: meanwhile
// the Redis keeps all that is written.
func TestSlowSnapshotCostsNoSecondFullSync(t *testing.T) {
	l := newSpooling(t, "4GiB", linkOptions{argsA: hastyRedis()})
	const keys = 50_000
	for from := 0; from < keys; from += 1000 {
		pipe := l.a.Client().Pipeline()
		for i := range 1000 {
			pipe.Set(t.Context(), fmt.Sprintf("key:%d", from+i), fmt.Sprint(i, strings.Repeat("v", 1<<10)), 0)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.record(l.siteA(), l.siteB())
	full := l.info("stats", "sync_full")
	l.worker.Start()
	logged(t, l.worker, "snapshot begins", 1)
	l.kafka.Freeze()
	l.write(outage)
	logged(t, l.worker, "snapshot read", 1)
	l.spooled(outage / 2)
	l.bounded(twoWayPart)
	l.kafka.Thaw()
	l.worker.AwaitReady(time.Minute)
	l.settled(2 * time.Minute)
	if now := l.info("stats", "sync_full"); now != full+1 {
		t.Errorf("%d full synchronisations more", now-full)
	}
	l.emptied()
}

// What is on disk when the worker is killed is thrown away: the Redis tells it
// again.
func TestSpoolOfAKilledWorkerIsThrownAway(t *testing.T) {
	l := newSpooling(t, "4GiB", linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
	seed(t, l.a)
	l.start()
	full := l.info("stats", "sync_full")
	ls := l.load("w", l.a, l.b)
	for range 2 {
		l.kafka.Freeze()
		l.write(outage / 4)
		l.spooled(outage / 8)
		l.worker.Kill()
		left := l.files()
		if len(left) == 0 {
			t.Error("nothing was on disk")
		}
		l.kafka.Thaw()
		l.worker.Start()
		l.worker.AwaitReady(time.Minute)
		for _, name := range left {
			if _, err := os.Stat(name); err == nil {
				t.Errorf("%s is still there", name)
			}
		}
	}
	ls.more(100)
	ls.stop()
	l.settled(2 * time.Minute)
	ls.exact()
	l.emptied()
	if now := l.info("stats", "sync_full"); now != full {
		t.Errorf("%d full synchronisations, %d before", now, full)
	}
}

// This is what the spool is for: without room on disk the socket is not read,
// status says so, and such a Redis drops the link.
func TestFullSpoolIsToldAndTheRedisDropsTheLink(t *testing.T) {
	l := newSpooling(t, "1MiB", linkOptions{directions: oneWay, argsA: hastyRedis()})
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	l.kafka.Freeze()
	l.write(outage)
	testkit.Eventually(t, 20*time.Second, func() error {
		st, err := status(l.worker)
		if err == nil && !strings.Contains(st.Directions[0].Reason, "the spool is full (spool.max_bytes") {
			err = fmt.Errorf("reason %q", st.Directions[0].Reason)
		}
		return err
	})
	l.bounded(oneWayPart)
	if n := metric(t, l.worker, "twinlog_source_spool_bytes", ""); n > 1<<20 {
		t.Errorf("%.0f bytes on disk", n)
	}
	if n := l.info("replication", "connected_slaves"); n != 0 {
		t.Errorf("the Redis keeps %d replicas: this proves nothing", n)
	}
	l.kafka.Thaw()
}

// A pause is a Kafka that takes nothing: the source keeps what is written.
func TestPausedSourceKeepsWhatIsWrittenOnDisk(t *testing.T) {
	l := newSpooling(t, "4GiB", linkOptions{argsA: hastyRedis()})
	l.start()
	full := l.info("stats", "sync_full")
	l.pause("source-a")
	l.write(outage)
	l.spooled(outage / 2)
	l.bounded(twoWayPart)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if n, err := l.b.Client().Exists(ctx, "spooled:1").Result(); n != 0 || err != nil {
		t.Errorf("a paused source publishes: %d, error %v", n, err)
	}
	l.resume("source-a")
	l.settled(2 * time.Minute)
	l.emptied()
	if now := l.info("stats", "sync_full"); now != full {
		t.Errorf("%d full synchronisations, %d before", now, full)
	}
}
