package sink

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
	"twinlog/schema"
)

// filled puts events into a topic of an embedded broker, seq from 1, and
// returns its clients' options.
func filled(t *testing.T, topic string, events []*schema.Event) []kgo.Opt {
	t.Helper()
	broker, err := kafka.StartEmbedded(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	opts := []kgo.Opt{kgo.SeedBrokers(broker.Brokers()...)}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := kafka.EnsureTopic(ctx, opts, topic, 1, kafka.TopicConfig{ReplicationFactor: 1, MaxMessageBytes: 4 << 20}); err != nil {
		t.Fatal(err)
	}
	produce(t, opts, topic, 1, events)
	return opts
}

// produce appends events to a topic, with seqs from first.
func produce(t *testing.T, opts []kgo.Opt, topic string, first int64, events []*schema.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.ProducerBatchMaxBytes(4 << 20)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i, e := range events {
		e.Seq = first + int64(i)
		r := record(0, e)
		r.Topic = topic
		client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// retain removes what lies before an offset, as retention does.
func retain(t *testing.T, opts []kgo.Opt, topic string, from int64) {
	t.Helper()
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var at kadm.Offsets
	at.Add(kadm.Offset{Topic: topic, At: from, LeaderEpoch: -1})
	if deleted, err := kadm.NewClient(client).DeleteRecords(t.Context(), at); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
}

func value(db int32, key string) *schema.Event {
	return &schema.Event{Op: schema.OpValue, Origin: "a", DB: db, Key: []byte(key), Type: "string", Value: schema.Value{Kind: schema.KindString, Data: []byte("v")}}
}

func TestSnapshotEndRemovesWhatOnlyInterruptedSnapshotsWrote(t *testing.T) {
	events := []*schema.Event{
		set(0, "v"), value(0, "before"), // an older, finished time
		control(0, schema.SnapshotBegin), value(0, "gone"), value(0, "kept"), value(3, "kept"), value(0, "gone"), set(0, "v"),
		control(0, schema.SnapshotBegin), value(0, "gone-too"), value(0, "__twinlog:l:x"), value(0, "kept-too"),
		control(0, schema.SnapshotBegin), value(0, "kept"), value(0, "kept-too"), value(3, "other"),
	}
	const first, last = 3, 13 // seqs of the begins
	end := int64(len(events)) // offset of SNAPSHOT_END, which is in the topic when the sink meets it
	opts := filled(t, "l.a-to-b", append(events, control(0, schema.SnapshotEnd)))
	for _, tt := range []struct {
		name string
		keys int // that SNAPSHOT_END counts: how often the topic is read
	}{{"in one go", 3}, {"in slices of the key space", 100_000}} {
		t.Run(tt.name, func(t *testing.T) {
			s := testSink()
			s.cfg.Kafka = opts
			c := newCollector(t, s)
			c.seq = end
			e := control(end+1, schema.SnapshotEnd, strconv.Itoa(tt.keys), strconv.Itoa(last), strconv.Itoa(first))
			if err := c.take(t.Context(), record(end, e)); err != nil {
				t.Fatal(err)
			}
			var got []string
			batches := c.end()
			for i, b := range batches {
				got = append(got, b.lines...)
				// What is removed lies before SNAPSHOT_END: a crash in between does it again.
				if i < len(batches)-1 && (b.seq != end || b.offset != end-1) {
					t.Errorf("a batch of removals moves the mark to seq %d, offset %d", b.seq, b.offset)
				}
			}
			if at := batches[len(batches)-1]; at.seq != end+1 || len(at.lines) > 0 {
				t.Errorf("the last batch is %+v", at)
			}
			got = slices.DeleteFunc(got, func(line string) bool { return line == "SELECT 0" || line == "SELECT 3" })
			slices.Sort(got)
			if diff := cmp.Diff([]string{"UNLINK gone __twinlog:-", "UNLINK gone-too __twinlog:-", "UNLINK kept __twinlog:-"}, got); diff != "" {
				t.Error(diff) // kept of database 3 is not in the last snapshot
			}
		})
	}
}

// Offsets run ahead of seqs, since every transaction has a control record: so
// where the log begins, most often, an event's seq is far behind its offset.
func TestSnapshotEndReadsFromWhereTheLogBegins(t *testing.T) {
	const ahead = 20 // offsets that seqs have not
	events := func() []*schema.Event {
		return []*schema.Event{
			control(0, schema.SnapshotBegin), value(0, "gone"), value(0, "kept"), value(0, "gone-too"),
			control(0, schema.SnapshotBegin), value(0, "kept"), value(0, "new"),
		}
	}
	const first, last, end = 1, 5, 8 // seqs
	for _, tt := range []struct {
		name  string
		start int64 // seq of the first event that is left
		want  []string
		err   string
	}{
		{"before both snapshots", first, []string{"UNLINK gone __twinlog:-", "UNLINK gone-too __twinlog:-"}, ""},
		{"inside the interrupted one", 4, []string{"UNLINK gone-too __twinlog:-"}, ""},
		{"with the last one", last, nil, ""},
		{"inside the last one", last + 1, nil, "topic l.a-to-b does not hold the snapshot as a whole any more: it begins with seq 5, and seq 5 is gone"},
		{"behind the last one", end, nil, "seq 5 is gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var before []*schema.Event
			for range ahead {
				before = append(before, set(0, "v"))
			}
			s := testSink()
			s.cfg.Kafka = filled(t, "l.a-to-b", before)
			produce(t, s.cfg.Kafka, "l.a-to-b", 1, append(events(), control(0, schema.SnapshotEnd)))
			retain(t, s.cfg.Kafka, "l.a-to-b", ahead+tt.start-1)
			c := newCollector(t, s)
			c.seq = end - 1
			err := c.take(t.Context(), record(ahead+end-1, control(end, schema.SnapshotEnd, "2", strconv.Itoa(last), strconv.Itoa(first))))
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "twinlog resync --site b")) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if err != nil && healable(err) {
				t.Error("this error is taken for one that heals")
			}
			var got []string
			for _, b := range c.end() {
				got = append(got, b.lines...)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("removed (-want +got):\n%s", diff)
			}
		})
	}
}

// begunAgain is a snapshot that was interrupted behind so many keys, and begun
// again with one of them.
func begunAgain(keys int) []*schema.Event {
	events := []*schema.Event{control(0, schema.SnapshotBegin)}
	for i := range keys {
		events = append(events, value(0, fmt.Sprintf("key:%d", i)))
	}
	return append(events, control(0, schema.SnapshotBegin), value(0, "key:7"))
}

func TestSnapshotEndRemovesManyKeysInSeveralBatches(t *testing.T) {
	const keys = 2500
	events := begunAgain(keys)
	s := testSink()
	end := int64(len(events))
	s.cfg.Kafka = filled(t, "l.a-to-b", append(events, control(0, schema.SnapshotEnd)))
	c := newCollector(t, s)
	c.seq = end
	if err := c.take(t.Context(), record(end, control(end+1, schema.SnapshotEnd, "1", strconv.Itoa(keys+2), "1"))); err != nil {
		t.Fatal(err)
	}
	removed := map[string]bool{}
	batches := c.end()
	for _, b := range batches {
		if len(b.lines) > batchCommands {
			t.Errorf("a batch of %d commands", len(b.lines))
		}
		for _, line := range b.lines {
			removed[line] = true
		}
	}
	if len(removed) != keys-1 || removed["UNLINK key:7 __twinlog:-"] || len(batches) != 4 {
		t.Errorf("%d keys were removed in %d batches", len(removed), len(batches))
	}
}

// What interrupted snapshots wrote is remembered, too: it may be much more than
// the last one (G6).
func TestKeysOfInterruptedSnapshotsAreReadInSlicesThatFit(t *testing.T) {
	const keys, fit = 30_000, 1 << 20 / perKeyHash
	events := begunAgain(keys)
	s := testSink()
	end := int64(len(events))
	s.cfg.Kafka = filled(t, "l.a-to-b", append(events, control(0, schema.SnapshotEnd)))
	c := newCollector(t, s)
	r := &removal{builder: c.builder, end: schema.End{Keys: 1, Begin: keys + 2, Interrupted: 1}, seq: end + 1, offset: end}
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(r.kept); n > fit {
		t.Errorf("%d keys were in memory at once, of which %d fit", n, fit)
	}
	removed := 0
	for _, b := range c.end() {
		removed += len(b.lines)
	}
	if removed != keys-1 {
		t.Errorf("%d keys were removed", removed)
	}
}

func TestRemovalStopsAtARecordThatIsNoEvent(t *testing.T) {
	opts := filled(t, "l.a-to-b", []*schema.Event{control(0, schema.SnapshotBegin), value(0, "k")})
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "l.a-to-b", Value: []byte("hello")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s := testSink()
	s.cfg.Kafka = opts
	c := newCollector(t, s)
	c.seq = 4
	err = c.take(t.Context(), record(4, control(5, schema.SnapshotEnd, "1", "3", "1")))
	if want := "topic l.a-to-b, offset 2"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	c.end()
}
