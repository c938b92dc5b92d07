package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
	"twinlog/offsets"
)

func noEffect(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	if err := l.b.Client().Do(t.Context(), "COPY", "k", "list", "DB", 3).Err(); err != nil { // a string where the origin has none
		t.Fatal(err)
	}
	unit := l.a.Client().TxPipeline()
	unit.Set(t.Context(), "before", "1", 0)
	unit.Do(t.Context(), "SELECT", 3)
	unit.RPush(t.Context(), "list", "x")
	unit.RPush(t.Context(), "list", "y")
	unit.Do(t.Context(), "SELECT", 0)
	unit.Set(t.Context(), "after", "1", 0)
	if _, err := unit.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	reason := []string{"topic " + l.topic() + ", offset ", "seq ", `RPUSH on key "list" in db 3`, "WRONGTYPE", "and 1 more", "twinlog resume sink-b"}
	trace := l.fails("sink-b", reason...)
	l.does(l.a, "SET", "k", "2") // behind the batch of what failed
	l.arrives("before", "1")
	l.arrives("after", "1")
	if key := offsets.HaltKey(l.name, "a-to-b", "0"); l.value(l.b, key) != trace {
		t.Errorf("%s holds %q, not why the sink stopped", key, l.value(l.b, key))
	}

	// The mark has passed the event: what stopped the sink is not forgotten.
	l.stop()
	l.worker.Start()
	if again := l.fails("sink-b", reason...); again != trace {
		t.Errorf("after a restart the reason is %q", again)
	}
	if got := l.value(l.b, "k"); got != "1" {
		t.Errorf("k is %q at site b: the sink went on before anyone said so", got)
	}
	other := l.b.Client().Pipeline()
	other.Do(t.Context(), "SELECT", 3)
	other.Del(t.Context(), "list")
	other.RPush(t.Context(), "list", "x", "y")
	other.Do(t.Context(), "SELECT", 0)
	if _, err := other.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, out, talk := l.worker.Run(t.Context(), "resume", "sink-b"); code != 0 || !strings.Contains(string(out), "sink-b resumed") {
		t.Errorf("twinlog resume sink-b: exit code %d, %s%s", code, out, talk)
	}
	l.arrives("k", "2")
	l.goesOn()
	l.equal()
	l.stop()
	l.run() // and it is not remembered for ever
	l.does(l.a, "SET", "k", "3")
	l.arrives("k", "3")
	l.equal()
}

func fullTarget(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	l.does(l.b, "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1mb")
	for i := range 20 {
		l.does(l.a, "APPEND", "k", fmt.Sprint(i))
	}
	l.waits("target b answers OOM", "it is full (maxmemory)", "raise maxmemory")
	if code, out, _ := l.worker.Run(t.Context(), "status"); code != 0 || !strings.Contains(string(out), "sink-b") {
		t.Errorf("twinlog status: exit code %d\n%s", code, out)
	}
	if got := l.value(l.b, "k"); got != "1" {
		t.Errorf("k is %q at a site that is full", got)
	}
	l.does(l.b, "CONFIG", "SET", "maxmemory", "0")
	l.arrives("k", l.value(l.a, "k"))
	l.goesOn()
	l.equal()
}

func replicaTarget(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{})
	l.does(l.b, "REPLICAOF", "127.0.0.1", "1")
	for i := range 20 {
		l.does(l.a, "APPEND", "k", fmt.Sprint(i))
	}
	l.waits("target b", "replica", "master")
	l.does(l.b, "REPLICAOF", "NO", "ONE")
	l.arrives("k", l.value(l.a, "k"))
	l.goesOn()
	l.stop()

	// At the start the pre-check says so.
	l.does(l.b, "REPLICAOF", "127.0.0.1", "1")
	l.ends(3, "redis-role", "replica")
	l.does(l.b, "REPLICAOF", "NO", "ONE")
	l.run()
	l.does(l.a, "SET", "k", "end")
	l.arrives("k", "end")
	l.equal()
}

// Where no source runs at the target, the group's offset says where to go on
// when the mark is gone, and its replication id whether the rest is there.
func flushedTarget(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: "  - {from: a, to: b, existing: ignore}\n"})
	l.does(l.a, "SET", "lost", "1")
	l.arrives("lost", "1")
	l.stop() // brings the group's offset up to date
	seq := l.applied().Seq
	l.does(l.b, "FLUSHALL")
	l.does(l.a, "SET", "k", "2")
	l.run()
	l.arrives("k", "2")
	if got := l.value(l.b, "lost"); got != "" {
		t.Errorf("the link applied again what was flushed: %q", got)
	}
	if at := l.applied().Seq; at <= seq {
		t.Errorf("the mark is at seq %d, was %d", at, seq)
	}

	// Flushed while it runs: on from there too.
	l.does(l.b, "FLUSHALL")
	l.does(l.a, "SET", "k", "3")
	l.arrives("k", "3")
	l.stop()

	// A target that lost its data with its history is another matter.
	l.b.Kill()
	l.b.Restart()
	l.does(l.a, "SET", "k", "4")
	l.worker.Start()
	l.fails("sink-b", again, "target b has no mark and another replication history")
	if got := l.value(l.b, "k"); got != "" {
		t.Errorf("k is %q at a site that lost its data", got)
	}
	l.fillAgain()
	testkit.Eventually(t, 10*time.Second, func() error {
		if l.value(l.b, "lost") != "1" {
			return fmt.Errorf("the fresh copy lacks a key")
		}
		return nil
	})
}
