package sink

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

func testSink() *Sink {
	return New(Config{
		Link: "l", Direction: "a-to-b", Lane: "0", Target: "b", Topic: "l.a-to-b", TopicID: strings.Repeat("0", 32), Decoder: schema.NewDecoder(nil),
		MaxMemory: 4 << 20, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry(), "l", "a-to-b", "b"),
	})
}

// taken is what became of a batch.
type taken struct {
	lines             []string
	bytes             int
	seq, offset, next int64
	inGroup, quiet    bool
	ends              bool
}

// collector is a builder whose batches are kept.
type collector struct {
	*builder
	t       *testing.T
	ready   chan *batch
	free    chan *batch
	wg      sync.WaitGroup
	batches []taken
}

func newCollector(t *testing.T, s *Sink) *collector {
	ready, free := make(chan *batch), make(chan *batch, 2)
	c := &collector{t: t, ready: ready, free: free, builder: &builder{
		sink: s, target: &target{cfg: &s.cfg, largest: 64 << 20}, ready: ready, free: free, translate: *testTranslator(),
	}}
	for range cap(free) {
		free <- &batch{}
	}
	c.wg.Go(func() {
		for b := range ready {
			c.batches = append(c.batches, taken{commands(t, b), len(b.body), b.seq, b.offset, b.next, b.inGroup, b.quiet, b.ends})
			free <- b
		}
	})
	return c
}

// end returns all batches, the one that is being filled too.
func (c *collector) end() []taken {
	c.t.Helper()
	if c.batch != nil && !c.batch.empty() && !c.batch.inGroup {
		if err := c.send(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
	}
	close(c.ready)
	c.wg.Wait()
	return c.batches
}

func record(offset int64, e *schema.Event) *kgo.Record {
	return &kgo.Record{Offset: offset, Value: schema.NewEncoder(0).Append(nil, e)}
}

func set(seq int64, value string) *schema.Event {
	return &schema.Event{Op: schema.OpWrite, Origin: "a", Key: []byte("k"), Command: "SET", Args: list("k", value), Seq: seq}
}

func control(seq int64, command string, args ...string) *schema.Event {
	return &schema.Event{Op: schema.OpControl, Origin: "a", DB: schema.NoDB, Command: command, Args: list(args...), Seq: seq}
}

func TestABatchNeverSplitsAGroup(t *testing.T) {
	for round := range uint64(5) {
		random := rand.New(rand.NewPCG(3, round))
		c := newCollector(t, testSink())
		groupEnd := map[int64]bool{} // seqs at which a batch may end
		var want []string
		seq := int64(0)
		for range 3000 {
			size := 1
			switch random.IntN(40) {
			case 0:
				size = 1 + random.IntN(2*batchCommands)
			case 1, 2, 3:
				size = 2 + random.IntN(5)
			}
			value := strings.Repeat("v", random.IntN(100))
			if random.IntN(200) == 0 {
				value = strings.Repeat("w", batchBytes/3)
			}
			for i := range size {
				seq++
				e := set(seq, fmt.Sprint(seq, value))
				if size > 1 {
					e.Transaction = schema.OptTransaction{Set: true, Transaction: schema.Transaction{ID: []byte("g"), Index: int32(i), Last: i == size-1}}
					value = ""
				}
				want = append(want, "SET k "+string(e.Args[1]))
				if err := c.take(t.Context(), record(seq-1, e)); err != nil {
					t.Fatal(err)
				}
			}
			groupEnd[seq] = true
			if seq > 8000 {
				break
			}
		}
		var got []string
		before := int64(0)
		for i, b := range c.end() {
			got = append(got, b.lines...)
			if b.inGroup || !groupEnd[b.seq] {
				t.Errorf("batch %d ends at seq %d, inside a group", i, b.seq)
			}
			if b.offset != b.seq-1 || b.next != b.seq {
				t.Errorf("batch %d: seq %d at offset %d, next %d", i, b.seq, b.offset, b.next)
			}
			// Without its last group a batch is below both limits.
			last := b.seq - 1
			for last > before && !groupEnd[last] {
				last--
			}
			if n := int(last - before); n >= batchCommands {
				t.Errorf("batch %d was full after %d commands and went on to %d", i, n, len(b.lines))
			}
			before = b.seq
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("round %d: commands were lost, doubled or changed: %.500s", round, diff)
		}
	}
}

// A large group keeps its keys, not the records that they came in, and the
// batch gives its memory back.
func TestALargeGroupDoesNotKeepItsRecords(t *testing.T) {
	b := &batch{}
	for i := range 5 * batchCommands {
		e := schema.Event{Op: schema.OpWrite, Key: []byte(fmt.Sprint("key:", i))}
		b.command(&e, int64(i), 0, "SET", 3)
		clear(e.Key)
	}
	for i := batchCommands; i < len(b.items); i++ {
		if want := fmt.Sprint("key:", i); string(b.items[i].key) != want {
			t.Fatalf("item %d has key %q, want %q", i, b.items[i].key, want)
		}
	}
	b.body = make([]byte, 0, keptBody+1)
	b.reset()
	if cap(b.items) > keptItems || cap(b.body) > keptBody || b.keys != nil {
		t.Errorf("it keeps %d items, %d bytes and %d of keys", cap(b.items), cap(b.body), cap(b.keys))
	}
}

func TestABatchEndsAtItsSize(t *testing.T) {
	c := newCollector(t, testSink())
	for seq := range int64(10) {
		if err := c.take(t.Context(), record(seq, set(seq+1, strings.Repeat("v", batchBytes/4)))); err != nil {
			t.Fatal(err)
		}
	}
	var sizes []int
	for _, b := range c.end() {
		sizes = append(sizes, len(b.lines))
	}
	if diff := cmp.Diff([]int{4, 4, 2}, sizes); diff != "" {
		t.Error(diff)
	}
}

func TestRecordsThatAreNoNextEventStopTheSink(t *testing.T) {
	const anew = "`twinlog resync --site b` empties site b and fills it again from site a"
	for _, tt := range []struct {
		name   string
		before int64 // seq applied; 0: nothing
		record *kgo.Record
		want   []string
	}{
		{"no event", 4, &kgo.Record{Offset: 9, Value: []byte("hello")}, []string{"offset 9", "not an event of this link", "Nothing was skipped", anew}},
		{"an empty record", 4, &kgo.Record{Offset: 9}, []string{"offset 9", "not an event"}},
		{"an event that is cut", 4, &kgo.Record{Offset: 9, Value: record(9, set(5, "v")).Value[:14]}, []string{"offset 9", "not an event"}},
		{"the same seq", 4, record(9, set(4, "v")), []string{"offset 9: seq 4 comes after seq 4", "stand there twice", anew}},
		{"an old seq", 4, record(9, set(1, "v")), []string{"seq 1 comes after seq 4", anew}},
		{"an old snapshot", 4, record(9, control(2, schema.SnapshotBegin)), []string{"seq 2 comes after seq 4", anew}},
		{"a hole", 4, record(9, set(6, "v")), []string{"offset 9: seq 6 follows seq 4", "events are missing", anew}},
		{"a hole before a snapshot", 4, record(9, control(6, schema.SnapshotBegin)), []string{"seq 6 follows seq 4", anew}},
		{"a log whose begin is gone", 0, record(9, set(3, "v")), []string{"begins at offset 9 with seq 3", "neither the first event nor a snapshot", "b has no mark", anew}},
		{"a seq that is none", 4, record(9, set(0, "v")), []string{"seq 0 comes after seq 4"}},
		{"SNAPSHOT_END without arguments", 4, record(9, control(5, schema.SnapshotEnd)), []string{"offset 9: SNAPSHOT_END with 0 arguments"}},
		{"SNAPSHOT_END with words", 4, record(9, control(5, schema.SnapshotEnd, "1", "x", "0")), []string{`offset 9: SNAPSHOT_END: "x" is not a count`}},
		{"SNAPSHOT_END below nothing", 4, record(9, control(5, schema.SnapshotEnd, "1", "-1", "0")), []string{`"-1" is not a count`}},
		{"a control event of a newer version", 4, record(9, control(5, "DANCE")), []string{"offset 9 (seq 5)", "DANCE", "run the newer twinlog"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCollector(t, testSink())
			c.seq = tt.before
			err := c.take(t.Context(), tt.record)
			for _, want := range append(tt.want, "topic l.a-to-b") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
			if healable(err) {
				t.Error("this error is taken for one that heals")
			}
			if c.seq != tt.before || len(c.end()) > 0 {
				t.Error("the record was passed")
			}
		})
	}
}

func TestALogMayBeginWithItsFirstEventOrWithASnapshot(t *testing.T) {
	for _, e := range []*schema.Event{set(1, "v"), control(1, schema.SnapshotBegin), control(70, schema.SnapshotBegin)} {
		c := newCollector(t, testSink())
		if err := c.take(t.Context(), record(0, e)); err != nil {
			t.Errorf("seq %d: %v", e.Seq, err)
		}
		c.end()
	}
}

func TestAGroupThatTheTargetCouldNotTakeStopsTheSink(t *testing.T) {
	c := newCollector(t, testSink())
	c.target.largest = 10_000
	err := c.take(t.Context(), record(0, set(1, strings.Repeat("v", 20_000))))
	for _, want := range []string{"offset 0 (seq 1)", "10000 bytes", "client-output-buffer-limit replica", "client-query-buffer-limit", "site b", "resume"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	c.end()
}

func TestWhatIsNotForTheTargetOnlyMovesTheMark(t *testing.T) {
	own, reserved := set(1, "v"), set(2, "v")
	own.Origin = "b"
	reserved.Key = []byte("__twinlog:l:x")
	c := newCollector(t, testSink())
	for i, r := range []*kgo.Record{record(0, own), record(1, reserved), record(2, control(3, schema.Heartbeat))} {
		if err := c.take(t.Context(), r); err != nil {
			t.Fatal(i, err)
		}
	}
	got := c.end()
	want := []taken{{nil, 0, 3, 2, 3, false, false, false}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(taken{})); diff != "" {
		t.Error(diff)
	}

	c = newCollector(t, testSink())
	if err := c.take(t.Context(), record(0, control(1, schema.Heartbeat))); err != nil {
		t.Fatal(err)
	}
	if got := c.end(); len(got) != 1 || !got[0].quiet {
		t.Errorf("a HEARTBEAT alone is not quiet: %+v", got)
	}
}

func TestASinkThatOnlyCopiesEndsWithTheSnapshot(t *testing.T) {
	s := testSink()
	s.cfg.SnapshotOnly = true
	c := newCollector(t, s)
	for i, e := range []*schema.Event{control(1, schema.SnapshotBegin), set(2, "v"), control(3, schema.SnapshotEnd, "1", "1", "0")} {
		if err := c.take(t.Context(), record(int64(i), e)); err != nil {
			t.Fatal(err)
		}
	}
	got := c.end()
	if len(got) != 1 || !got[0].ends || got[0].seq != 3 {
		t.Errorf("batches %+v", got)
	}
}

func TestErrorsOfReadingNameTheRemedy(t *testing.T) {
	cfg := testSink().cfg
	err := cfg.readError(&kafka.RangeError{Topic: "l.a-to-b", Offset: 3, Start: 17, End: 20})
	for _, want := range []string{"l.a-to-b", "offset 3", "begins at 17", "twinlog resync --site b"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if healable(err) {
		t.Error("events that are gone do not come back")
	}
}

// The peer's changes wait where too many keys are in conflict, until home has
// published the values of some.
func TestTheSinkWaitsForRoomForKeysInConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSink()
		ledger := offsets.NewLedger(offsets.LedgerConfig{Site: "b", Home: true, MaxDirty: 1})
		s.cfg.Ledger = ledger
		ledger.Taint(&command.Touch{Keys: []command.KeyTouch{{Name: []byte("k"), Written: true}}}, 1)
		c, done := newCollector(t, s), make(chan error)
		go func() { done <- c.take(t.Context(), record(10, set(1, "v"))) }()
		<-time.After(2 * time.Second) // long enough to say so
		synctest.Wait()
		select {
		case err := <-done:
			t.Errorf("it does not wait: %v", err)
			return
		default:
		}
		if waiting := s.Status().Waiting; !strings.Contains(waiting, "in conflict") {
			t.Errorf("it waits for %q", waiting)
		}
		if err := ledger.Own(&schema.Event{Op: schema.OpValue, Key: []byte("k"), Seq: 1}); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil || s.Status().Waiting != "" {
			t.Errorf("it waits for %q: %v", s.Status().Waiting, err)
		}
		c.end()
	})
}
