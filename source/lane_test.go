package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

// rig is a lane with a clock that stands still.
type rig struct {
	*lane
	t   *testing.T
	now time.Time
}

func newRig(t *testing.T, maxEventBytes int) *rig {
	r := &rig{t: t, now: time.UnixMilli(1_700_000_000_000)}
	r.lane = newLane(&Config{Site: "a", Topic: "l.a-to-b", Link: "l", Encoder: schema.NewEncoder(0), MaxEventBytes: maxEventBytes, MaxMemory: 1 << 20}, func() time.Time { return r.now })
	r.restore(offsets.Position{})
	return r
}

// at is a position of the stream.
func at(replOffset int64) offsets.Position {
	return offsets.Position{Replid: "r", ReplOffset: replOffset, Epoch: 1, Phase: offsets.PhaseStream}
}

// unit makes the events of one unit: a SET of each value.
func unit(values ...string) []schema.Event {
	events := make([]schema.Event, len(values))
	for i, v := range values {
		events[i] = schema.Event{Op: schema.OpWrite, Key: []byte("k"), Command: "SET", Args: [][]byte{[]byte("k"), []byte(v)}}
	}
	return events
}

func (r *rig) add(replOffset int64, values ...string) {
	r.t.Helper()
	if err := r.append(unit(values...), at(replOffset)); err != nil {
		r.t.Fatal(err)
	}
}

// take takes the next batch and reads it as Kafka would hold it.
func (r *rig) take() ([]schema.Event, offsets.Position) {
	r.t.Helper()
	b, err := r.next()
	if err != nil {
		r.t.Fatal(err)
	}
	if b == nil {
		return nil, offsets.Position{}
	}
	return r.read(b)
}

func (r *rig) read(b *batch) (events []schema.Event, pos offsets.Position) {
	r.t.Helper()
	b.pos.Instance = "me"
	position, err := offsets.AppendPosition(nil, b.pos)
	if err != nil {
		r.t.Fatal(err)
	}
	var records []kgo.Record
	for piece := range b.pieces("l.a-to-b", newHeaders("a"), position) {
		for _, k := range piece {
			records = append(records, *k)
		}
	}
	for i, k := range records {
		var e schema.Event
		if err := schema.NewDecoder(nil).Decode(r.t.Context(), k.Value, &e); err != nil {
			r.t.Fatal(err)
		}
		events = append(events, e)
		if !bytes.Equal(k.Key, e.Key) || (k.Key == nil) != (e.Key == nil) {
			r.t.Errorf("record key %q, event key %q", k.Key, e.Key)
		}
		for _, h := range k.Headers {
			if h.Key == schema.HeaderPosition {
				if i != len(records)-1 {
					r.t.Errorf("record %d of %d carries the position", i, len(records))
				}
				if pos, err = offsets.ParsePosition(h.Value); err != nil {
					r.t.Fatal(err)
				}
			}
		}
	}
	if pos.Seq != events[len(events)-1].Seq {
		r.t.Errorf("the position says seq %d, the last event has %d", pos.Seq, events[len(events)-1].Seq)
	}
	return events, pos
}

func seqs(events []schema.Event) (list []int64) {
	for _, e := range events {
		list = append(list, e.Seq)
	}
	return list
}

func TestLaneNumbersEventsDenselyAndGroupsUnits(t *testing.T) {
	r := newRig(t, 1<<20)
	r.restore(offsets.Position{Seq: 6, Phase: offsets.PhaseStream})
	r.add(10, "one")
	r.add(20, "a", "b", "c")
	events, pos := r.take()
	if diff := cmp.Diff([]int64{7, 8, 9, 10}, seqs(events)); diff != "" {
		t.Error(diff)
	}
	if pos.ReplOffset != 20 || pos.Instance != "me" {
		t.Errorf("position %+v", pos)
	}
	if events[0].Transaction.Set {
		t.Error("a unit of one event is a group")
	}
	for i, e := range events[1:] {
		want := schema.OptTransaction{Set: true, Transaction: schema.Transaction{ID: []byte("8"), Index: int32(i), Last: i == 2}}
		if diff := cmp.Diff(want, e.Transaction); diff != "" {
			t.Error(diff)
		}
		if e.Origin != "a" || e.TsMs != r.now.UnixMilli() || e.Source.ReplOffset != 20 || e.Source.Epoch != 1 {
			t.Errorf("event %+v", e)
		}
	}
	if events, _ := r.take(); events != nil {
		t.Error("nothing was left to take")
	}
}

func TestAUnitIsNeverSplitOverBatches(t *testing.T) {
	r := newRig(t, 1<<20)
	for range batchRecords/2 - 1 {
		r.add(1, "v", "w")
	}
	r.add(2, strings.Split(strings.Repeat("x", batchRecords), "")...) // alone as large as a batch
	r.add(3, slices.Repeat([]string{strings.Repeat("v", batchBytes/7)}, 8)...)
	r.add(4, "last")
	seq := int64(0)
	for _, want := range []struct {
		events int
		offset int64
	}{{batchRecords - 2 + batchRecords, 2}, {8, 3}, {1, 4}} {
		events, pos := r.take()
		if len(events) != want.events || pos.ReplOffset != want.offset {
			t.Fatalf("a batch of %d events up to %d, want %+v", len(events), pos.ReplOffset, want)
		}
		for _, e := range events {
			if seq++; e.Seq != seq {
				t.Fatalf("seq %d, want %d", e.Seq, seq)
			}
		}
	}
}

// An event that is too big takes its whole unit back out, whatever was in the
// batch before; what comes later is numbered as if it had never been.
func TestAnEventThatIsTooBigLeavesTheBatchAsItWas(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const most = 512
	for round := range 200 {
		r := newRig(t, most)
		var want []string
		refused := 0
		for range 1 + random.IntN(12) {
			values := make([]string, 1+random.IntN(5))
			big := random.IntN(3) == 0
			for i := range values {
				values[i] = strings.Repeat("v", random.IntN(100))
			}
			if big {
				values[random.IntN(len(values))] = strings.Repeat("b", most)
			}
			before, weight := r.position(), r.weight()
			err := r.append(unit(values...), at(before.ReplOffset+1))
			if !big {
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, values...)
				continue
			}
			refused++
			var tooBig *TooBigError
			if !errors.As(err, &tooBig) || tooBig.Key != "k" || tooBig.Size <= most || tooBig.ReplOffset != before.ReplOffset+1 {
				t.Fatalf("error %v", err)
			}
			if r.position() != before || r.weight() != weight {
				t.Fatalf("round %d: the position moved to %+v, or the weight from %d to %d", round, r.position(), weight, r.weight())
			}
		}
		events, _ := r.take()
		var got []string
		for i, e := range events {
			got = append(got, string(e.Args[1]))
			if e.Seq != int64(i)+1 {
				t.Fatalf("round %d: event %d has seq %d", round, i, e.Seq)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("round %d, %d units refused: %s", round, refused, diff)
		}
		if len(want) > 0 {
			r.commit()
		}
		if r.weight() != 0 || !r.idle() {
			t.Fatalf("round %d: %d bytes are left", round, r.weight())
		}
	}
}

// three is a lane with three batches taken, of seqs 1-2, 3-4 and 5-6, and one
// that waits.
func three(t *testing.T) *rig {
	r := newRig(t, 1<<20)
	for i := range int64(3) {
		r.add(10*(i+1), "v", "w")
		r.take()
	}
	r.add(40, "x")
	return r
}

func TestRewindGoesOnFromWhatKafkaHolds(t *testing.T) {
	for _, tt := range []struct {
		name      string
		committed int   // batches that were known to be committed
		inKafka   int64 // seq
		again     []int64
		wrong     string
	}{
		{"nothing was committed", 0, 0, []int64{1, 2, 3, 4, 5, 6, 7}, ""},
		{"the answer of one commit was lost", 0, 2, []int64{3, 4, 5, 6, 7}, ""},
		{"the answers of all commits were lost", 0, 6, []int64{7}, ""},
		{"a known prefix, and nothing behind it", 1, 2, []int64{3, 4, 5, 6, 7}, ""},
		{"a known prefix, and one more", 1, 4, []int64{5, 6, 7}, ""},
		{"the middle of a batch", 1, 3, nil, "not the end of a batch"},
		{"a batch that is someone else's", 1, 9, nil, "something else writes"},
		{"nothing, although something was committed", 2, 0, nil, "Kafka lost data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := three(t)
			for range tt.committed {
				r.commit()
			}
			err := r.rewind(offsets.Position{Seq: tt.inKafka, Phase: offsets.PhaseStream})
			var topic *kafka.TopicError
			if tt.wrong != "" {
				if !errors.As(err, &topic) || !strings.Contains(err.Error(), tt.wrong) {
					t.Errorf("error %v, want %q", err, tt.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var again []int64
			for {
				events, _ := r.take()
				if events == nil {
					break
				}
				again = append(again, seqs(events)...)
			}
			if diff := cmp.Diff(tt.again, again); diff != "" {
				t.Error(diff)
			}
			for len(r.flying) > 0 {
				r.commit()
			}
			if r.weight() != 0 || !r.idle() {
				t.Errorf("%d bytes are left", r.weight())
			}
			if _, committed, _, _ := r.progress(); committed.Seq != 7 {
				t.Errorf("committed up to seq %d", committed.Seq)
			}
		})
	}
}

func TestRewindRefusesAKafkaThatWentBack(t *testing.T) {
	r := three(t)
	r.commit()
	r.commit()
	err := r.rewind(offsets.Position{Seq: 2, Phase: offsets.PhaseStream})
	if !errors.Is(err, ErrKafkaWentBack) || !strings.Contains(err.Error(), "ends at seq 2, but seq 4 was committed") {
		t.Errorf("error %v", err)
	}
}

func TestMemoryIsCountedAndGivenBack(t *testing.T) {
	r := newRig(t, 1<<20)
	for range 3 { // spare batches are used again
		for i := range int64(100) {
			r.add(i, strings.Repeat("v", 1000))
		}
		if w := r.weight(); w < 100*1000 || w > 200*1000 {
			t.Errorf("100 events of 1,000 bytes weigh %d", w)
		}
		r.take()
		r.commit()
		if r.weight() != 0 {
			t.Errorf("%d bytes are left", r.weight())
		}
	}
}

func TestWaitForRoomEndsWhenThereIsRoomOrNoOneWaits(t *testing.T) {
	r := newRig(t, 1<<20)
	r.cfg.MaxMemory = 1
	r.add(1, "v")
	if _, _, _, blocked := r.progress(); !strings.Contains(blocked, "limits.memory is reached") {
		t.Errorf("the lane does not say that it is full, but %q", blocked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() { waited <- r.waitForRoom(ctx) }()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	go func() { waited <- r.waitForRoom(t.Context()) }()
	r.take()
	r.commit()
	if err := <-waited; err != nil {
		t.Errorf("error %v", err)
	}
}

// The peer is told how far this source is when no event does (DESIGN.md 4).
func TestHeartbeats(t *testing.T) {
	seen := func(n int64) offsets.Position {
		p := at(100 + n)
		p.Seen, p.Mark = n, offsets.Mark{Seq: n}
		return p
	}
	for _, tt := range []struct {
		name string
		do   func(*rig)
		want int
	}{
		{"none before the first event", func(r *rig) { r.restore(offsets.Position{}); r.now = r.now.Add(2 * time.Hour) }, 0},
		{"none in a snapshot", func(r *rig) {
			p := at(1)
			p.Phase, p.Seq = offsets.PhaseSnapshot, 5
			r.restore(p)
			r.now = r.now.Add(2 * time.Hour)
		}, 0},
		{"none while nothing moves", func(r *rig) { r.now = r.now.Add(59 * time.Minute) }, 0},
		{"one an hour all the same", func(r *rig) { r.now = r.now.Add(time.Hour) }, 1},
		{"none for plumbing", func(r *rig) { r.move(at(200), true); r.now = r.now.Add(time.Minute) }, 0},
		{"none within a second of a change", func(r *rig) { r.move(seen(1), false); r.now = r.now.Add(999 * time.Millisecond) }, 0},
		{"one a second after it", func(r *rig) { r.move(seen(1), false); r.now = r.now.Add(time.Second) }, 1},
		{"a second after the first change, not the last", func(r *rig) {
			r.move(seen(1), false)
			r.now = r.now.Add(900 * time.Millisecond)
			r.move(seen(2), false)
			r.now = r.now.Add(100 * time.Millisecond)
		}, 1},
		{"at once when 10,000 seqs were seen", func(r *rig) { r.move(seen(heartbeatSeqs), false) }, 1},
		{"not before", func(r *rig) { r.move(seen(heartbeatSeqs-1), false) }, 0},
		{"none when an event told it", func(r *rig) {
			r.move(seen(1), false)
			r.now = r.now.Add(time.Second)
			if err := r.append(unit("v"), seen(1)); err != nil {
				t.Fatal(err)
			}
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 1<<20)
			start := at(100)
			start.Seq = 5
			r.restore(start)
			tt.do(r)
			for range 3 { // one is enough
				if err := r.heartbeat(); err != nil {
					t.Fatal(err)
				}
			}
			events, pos := r.take()
			beats := 0
			for _, e := range events {
				if e.Command == schema.Heartbeat {
					beats++
					if e.Key != nil || e.DB != schema.NoDB || e.Op != schema.OpControl || e.Seen != pos.Seen || e.Source.Replid != "r" {
						t.Errorf("HEARTBEAT %+v at %+v", e, pos)
					}
				}
			}
			if beats != tt.want {
				t.Errorf("%d HEARTBEATs, want %d", beats, tt.want)
			}
		})
	}
}

// G7: what is acknowledged is in Kafka, or holds nothing.
func TestAcknowledgeable(t *testing.T) {
	r := newRig(t, 1<<20)
	want := func(offset int64, when string) {
		t.Helper()
		if got := r.acknowledgeable(); got != offset {
			t.Errorf("%s: %d, want %d", when, got, offset)
		}
	}
	want(0, "before anything")
	snapshot := at(50)
	snapshot.Phase = offsets.PhaseSnapshot
	if err := r.append(unit("v"), snapshot); err != nil {
		t.Fatal(err)
	}
	r.take()
	r.commit()
	want(0, "inside a snapshot")
	r.add(100, "v")
	want(0, "behind a snapshot that is not committed")
	r.take()
	want(0, "in flight")
	r.commit()
	want(100, "committed")
	r.move(at(114), true)
	want(114, "a PING behind it")
	r.add(200, "v")
	r.move(at(214), true)
	want(100, "a change that waits, and a PING")
	r.take()
	want(100, "a change in flight, and a PING")
	r.commit()
	want(214, "all is committed")
	other := at(300)
	other.Replid = "another history"
	r.move(other, true)
	want(214, "another replication id")
	r.add(400, "v")
	anew := at(7)
	anew.Epoch, anew.Phase = 2, offsets.PhaseSnapshot
	if err := r.append(unit("v"), anew); err != nil {
		t.Fatal(err)
	}
	want(0, "another history, while the one before waits")
}

func TestRestoredPositionIsWhatTheNextUnitFollows(t *testing.T) {
	r := newRig(t, 1<<20)
	p := at(100)
	p.Seq, p.Seen = 41, 7
	r.restore(p)
	resumed := p
	resumed.Replid = "after a failover"
	r.resume(resumed)
	if got := r.acknowledgeable(); got != 100 {
		t.Errorf("acknowledgeable %d", got)
	}
	r.add(120, "v")
	events, pos := r.take()
	if events[0].Seq != 42 || pos.ReplOffset != 120 {
		t.Errorf("seq %d at %+v", events[0].Seq, pos)
	}
}

func TestErrorsOfTheLaneNameTheRemedy(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want []string
	}{
		{&TooBigError{Command: "SET", DB: 3, Key: "k", Size: 9, Limit: 8, ReplOffset: 77}, []string{`SET of key "k" in db 3`, "77", "9 bytes", "(8)", "raise limits.max_event_bytes", "start twinlog again"}},
		{&TooBigError{Type: "hash", Key: "k", Limit: 8}, []string{"the hash value", "raise", "make the key smaller"}},
		{&GapError{Site: "a", Topic: "l.a-to-b", Replid: "r", ReplOffset: 5}, []string{"site a", "r:5", "twinlog resume source-a --snapshot"}},
		{&TakenOverError{Topic: "l.a-to-b", Instance: "x"}, []string{"another twinlog (x)", "l.a-to-b", "stop one"}},
	} {
		for _, want := range tt.want {
			if !strings.Contains(tt.err.Error(), want) {
				t.Errorf("%T does not say %q: %v", tt.err, want, tt.err)
			}
		}
	}
	if text := fmt.Sprint(&TooBigError{Command: "SET", Limit: 8}); strings.Contains(text, "smaller") {
		t.Errorf("what is in the stream cannot be made smaller: %s", text)
	}
}

// A unit that comes in several calls is one group, published as a whole, and
// what is taken back of it was never there.
func TestAUnitInPiecesIsOneGroup(t *testing.T) {
	r := newRig(t, 1<<10)
	r.add(1, "before")
	if err := r.begin(unit("gone", "gone"), at(2)); err != nil {
		t.Fatal(err)
	}
	weight := r.weight()
	if b, err := r.next(); b != nil || err != nil {
		t.Fatalf("a batch whose unit goes on was taken, error %v", err)
	}
	r.undo()
	if r.weight() >= weight || r.seq() != 1 {
		t.Errorf("taken back: weight %d of %d, seq %d", r.weight(), weight, r.seq())
	}
	for _, values := range [][]string{{"one", "two"}, {"three"}} {
		if err := r.begin(unit(values...), at(2)); err != nil {
			t.Fatal(err)
		}
	}
	r.add(2, "four", "five")
	r.add(3, "after")
	events, pos := r.take()
	var got []string
	for i, e := range events {
		last := e.Transaction.Set && e.Transaction.Last
		got = append(got, fmt.Sprintf("%s %d %d %v", e.Args[1], e.Seq, e.Transaction.Index, last))
		if e.Seq != int64(i)+1 || e.Transaction.Set != (i > 0 && i < 6) || e.Transaction.Set && string(e.Transaction.ID) != "2" {
			t.Errorf("event %d: seq %d, group %+v", i, e.Seq, e.Transaction)
		}
	}
	want := []string{"before 1 0 false", "one 2 0 false", "two 3 1 false", "three 4 2 false", "four 5 3 false", "five 6 4 true", "after 7 0 false"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if pos.Seq != 7 || pos.ReplOffset != 3 || r.weight() == 0 {
		t.Errorf("position %+v, weight %d", pos, r.weight())
	}
}

// An event that is too big takes back what was begun before it, too.
func TestAnEventThatIsTooBigEndsAUnitInPieces(t *testing.T) {
	r := newRig(t, 512)
	r.add(1, "before")
	weight := r.weight()
	if err := r.begin(unit("one"), at(2)); err != nil {
		t.Fatal(err)
	}
	var tooBig *TooBigError
	if err := r.append(unit("two", strings.Repeat("b", 512)), at(2)); !errors.As(err, &tooBig) {
		t.Fatalf("error %v", err)
	}
	if r.weight() != weight {
		t.Errorf("weight %d, was %d", r.weight(), weight)
	}
	r.add(2, "after")
	if events, _ := r.take(); len(events) != 2 || events[1].Seq != 2 || events[1].Transaction.Set {
		t.Errorf("%d events, the last %+v", len(events), events[len(events)-1])
	}
}

// A unit of more records than the Kafka client gets at a time carries the
// position with its last one only.
func TestALargeUnitIsPublishedInPieces(t *testing.T) {
	r := newRig(t, 1<<10)
	values := make([]string, pieceRecords+2)
	r.add(1, values...)
	pieces := 0
	b, err := r.next()
	if err != nil {
		t.Fatal(err)
	}
	for piece := range b.pieces("l.a-to-b", newHeaders("a"), nil) {
		pieces++
		if len(piece) > pieceRecords {
			t.Errorf("a piece has %d records", len(piece))
		}
	}
	if pieces != 2 {
		t.Errorf("%d pieces", pieces)
	}
	if events, pos := r.read(b); len(events) != len(values) || pos.Seq != int64(len(values)) || events[pieceRecords].Seq != pieceRecords+1 {
		t.Errorf("%d events, position %+v", len(events), pos)
	}
}
