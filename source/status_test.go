package source

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/source/rdb"
	"twinlog/source/replica"
)

// waited is a source with a link to a Redis, and a client there that waits for
// what is acknowledged. The test plays Kafka and the capture.
type waited struct {
	*Source
	t      *testing.T
	conn   *replica.Conn
	client *goredis.Conn
}

// newWaited connects a source that stands at pos. The link is not followed yet.
func newWaited(t *testing.T, pos offsets.Position) *waited {
	t.Helper()
	server := testkit.StartRedis(t)
	w := &waited{Source: newTestSource(server, 1<<20), t: t, client: server.Client().Conn()} // WAIT is about the writes of its connection
	t.Cleanup(func() { w.client.Close() })
	w.lane.restore(pos)
	conn, err := w.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w.conn = conn
	return w
}

// join makes a full synchronisation and returns where the stream begins.
func (w *waited) join(epoch int64) offsets.Position {
	w.t.Helper()
	full, err := w.conn.Psync(w.t.Context(), "?", -1)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.readSnapshot(w.t.Context(), w.conn, func(*rdb.Entry) error { return nil }); err != nil {
		w.t.Fatal(err)
	}
	return offsets.Position{Replid: full.Replid, ReplOffset: full.Offset, Epoch: epoch, Phase: offsets.PhaseStream}
}

// captured captures one change, which the client makes, and moves pos behind it.
func (w *waited) captured(pos *offsets.Position) {
	w.t.Helper()
	w.write()
	h, err := w.inspect(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	pos.ReplOffset = h.offset
	if err := w.lane.append(unit("v"), *pos); err != nil {
		w.t.Fatal(err)
	}
	pos.Seq = w.lane.seq()
	w.lane.resume(*pos)
	w.setRead(*pos)
}

func (w *waited) write() {
	w.t.Helper()
	if err := w.client.Incr(w.t.Context(), "counter").Err(); err != nil {
		w.t.Fatal(err)
	}
}

// counts checks how many replicas have acknowledged what the client wrote.
func (w *waited) counts(want int64, when string) {
	w.t.Helper()
	timeout := 20 * time.Second
	if want == 0 {
		timeout = 1500 * time.Millisecond // a link acknowledges every second
	}
	n, err := w.client.Do(w.t.Context(), "WAIT", 1, timeout.Milliseconds()).Int64()
	if err != nil || n != want {
		w.t.Errorf("%s: WAIT answers %d, error %v, want %d", when, n, err, want)
	}
}

// G7: a Redis that began another history is not told what Kafka takes of the
// one before, whose offsets may be larger.
func TestWaitDoesNotCountWhatKafkaTakesOfAnotherHistory(t *testing.T) {
	before := offsets.Position{Replid: "before", ReplOffset: 1 << 40, Epoch: 1, Seq: 9, Phase: offsets.PhaseStream}
	w := newWaited(t, before)
	w.committed(before) // what waited when the Redis went away
	pos := w.join(2)
	w.committed(before)
	w.write()
	w.counts(0, "before the link is followed")
	w.captured(&pos)
	w.committed(before)
	w.counts(0, "followed, and nothing of it is in Kafka")
	if b, err := w.lane.next(); b == nil || err != nil {
		t.Fatalf("no batch: %v", err)
	}
	w.lane.commit()
	w.committed(pos)
	w.counts(1, "in Kafka")
}

// A link that goes on is told at once what Kafka holds: nobody may write for a
// while, and what was asked for on the link before is not asked again.
func TestALinkThatGoesOnIsToldWhatKafkaHolds(t *testing.T) {
	w := newWaited(t, offsets.Position{})
	pos := w.join(1)
	w.write()
	h, err := w.inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.setConn(nil)
	w.conn.Close()
	pos.ReplOffset, pos.Seq = h.offset, 1
	w.lane.restore(pos)
	w.cfg.Snapshot = SnapshotInitial
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.follow(ctx) }()
	defer func() { cancel(); <-done }()
	want := fmt.Sprintf("offset=%d,", pos.ReplOffset)
	testkit.Eventually(t, patience, func() error {
		if info := w.client.Info(t.Context(), "replication").Val(); !strings.Contains(info, want) {
			return fmt.Errorf("no replica with %s in %q", want, info)
		}
		return nil
	})
}

// The answer of a commit was lost, and the next ring finds that Kafka took it:
// who waits for that is told, although no event follows.
func TestWhatIsFoundToBeCommittedIsTold(t *testing.T) {
	w := newWaited(t, offsets.Position{})
	p := &publisher{cfg: &w.cfg, lane: w.lane, source: w.Source, drain: make(chan struct{}), known: make(chan struct{})}
	if err := p.adopt(offsets.Position{}); err != nil {
		t.Fatal(err)
	}
	pos := w.join(1)
	w.captured(&pos)
	if b, err := w.lane.next(); b == nil || err != nil {
		t.Fatalf("no batch: %v", err)
	}
	if err := w.acknowledge(true); err != nil {
		t.Fatal(err)
	}
	w.counts(0, "in flight")
	if isClosed(w.Attached()) {
		t.Error("it is attached before Kafka holds a position")
	}
	if err := p.adopt(pos); err != nil {
		t.Fatal(err)
	}
	w.counts(1, "found in Kafka")
	if !isClosed(w.Attached()) {
		t.Error("it is not attached, although Kafka holds a position")
	}
}
