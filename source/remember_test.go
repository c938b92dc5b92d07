package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

// memory is a source with the topics of both directions.
type memory struct {
	*Source
	t    *testing.T
	opts []kgo.Opt
}

func newMemory(t *testing.T) *memory {
	t.Helper()
	broker, err := kafka.StartEmbedded(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	cfg := newTestSource(nil, 1<<20).cfg
	cfg.Kafka, cfg.PeerTopic, cfg.Instance = []kgo.Opt{kgo.SeedBrokers(broker.Brokers()...)}, "l.b-to-a", "me"
	cfg.Decoder = func() *schema.Decoder { return schema.NewDecoder(nil) }
	cfg.Ledger = offsets.NewLedger(offsets.LedgerConfig{Site: "a", Home: true, Dir: t.TempDir(), MaxMemory: 1 << 20, MaxDisk: 1 << 20})
	m := &memory{New(cfg), t, cfg.Kafka}
	t.Cleanup(func() { m.restPeer(0) })
	for _, topic := range []string{cfg.Topic, cfg.PeerTopic} {
		if _, err := kafka.EnsureTopic(m.ctx(), m.opts, topic, 1, kafka.TopicConfig{ReplicationFactor: 1, MaxMessageBytes: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *memory) ctx() context.Context {
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	m.t.Cleanup(cancel)
	return ctx
}

func (m *memory) client() *kgo.Client {
	m.t.Helper()
	client, err := kgo.NewClient(m.opts...)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(client.Close)
	return client
}

// write writes events to a topic, seq from 1.
func (m *memory) write(topic string, events ...schema.Event) {
	m.t.Helper()
	client := m.client()
	for i := range events {
		events[i].Seq = int64(i) + 1
		client.Produce(m.ctx(), &kgo.Record{Topic: topic, Value: m.cfg.Encoder.Append(nil, &events[i])}, func(_ *kgo.Record, err error) {
			if err != nil {
				m.t.Error(err)
			}
		})
	}
	if err := client.Flush(m.ctx()); err != nil {
		m.t.Fatal(err)
	}
}

// remove removes what lies before seq, as retention does.
func (m *memory) remove(topic string, seq int64) {
	m.t.Helper()
	var all kadm.Offsets
	all.Add(kadm.Offset{Topic: topic, Partition: 0, At: seq - 1})
	answers, err := kadm.NewClient(m.client()).DeleteRecords(m.ctx(), all)
	if err := errors.Join(err, answers.Error()); err != nil {
		m.t.Fatal(err)
	}
}

// wrote is a SET of a key by one who has seen the other site up to seen.
func wrote(key string, seen int64) schema.Event {
	return schema.Event{Op: schema.OpWrite, Key: []byte(key), Command: "SET", Args: words(key, "v"), Seen: seen}
}

func beat(seen int64) schema.Event {
	return schema.Event{Op: schema.OpControl, DB: schema.NoDB, Command: schema.Heartbeat, Seen: seen}
}

func wroteMany(n int) []schema.Event {
	events := make([]schema.Event, n)
	for i := range events {
		events[i] = wrote(fmt.Sprint("k", i+1), 0)
	}
	return events
}

// visited are the seqs that a log hands out.
func visited(ctx context.Context, l *eventLog, first, last int64) (seqs []int64, err error) {
	err = l.visit(ctx, first, last, func(e *schema.Event) error {
		if want := fmt.Sprint("k", e.Seq); string(e.Key) != want {
			return fmt.Errorf("seq %d is of key %q", e.Seq, e.Key)
		}
		seqs = append(seqs, e.Seq)
		return nil
	})
	return seqs, err
}

// span are the seqs from first to last.
func span(first, last int64) (all []int64) {
	for seq := first; seq <= last; seq++ {
		all = append(all, seq)
	}
	return all
}

func TestALogIsReadBySeq(t *testing.T) {
	const last = 1500
	m := newMemory(t)
	m.write(m.cfg.PeerTopic, wroteMany(last)...)
	l := m.newLog(m.cfg.PeerTopic)
	defer l.close()
	visit := func(first, to int64) {
		t.Helper()
		if got, err := visited(m.ctx(), l, first, to); err != nil || !slices.Equal(got, span(first, to)) {
			t.Errorf("from %d to %d: %d events, error %v", first, to, len(got), err)
		}
	}
	visit(1, 1)
	visit(700, 705)
	open := l.consumer
	visit(706, 706)
	visit(707, 1200)
	visit(1201, 1200) // nothing
	if l.consumer != open {
		t.Error("it did not go on where it stood")
	}
	visit(1000, 1001) // back
	visit(last, last)
	visit(1, last)
	if _, err := visited(m.ctx(), l, last+1, last); err != nil {
		t.Errorf("nothing to visit: %v", err)
	}
	// Behind the end nothing is waited for in silence.
	_, err := visited(m.ctx(), l, 1490, last+7)
	var short *shortError
	if !errors.As(err, &short) || !later(err) || !strings.Contains(err.Error(), "up to seq 1507") || !strings.Contains(err.Error(), "ends at seq 1500") {
		t.Errorf("error %v", err)
	}
	// An error of the visitor ends one visit, not the log.
	stop := errors.New("stop")
	if err := l.visit(m.ctx(), 5, 9, func(*schema.Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	visit(6, 9)
}

func TestALogWhoseHeadIsGone(t *testing.T) {
	m := newMemory(t)
	m.write(m.cfg.PeerTopic, wroteMany(10)...)
	m.remove(m.cfg.PeerTopic, 6)
	l := m.newLog(m.cfg.PeerTopic)
	defer l.close()
	for _, tt := range []struct{ first, last int64 }{{1, 10}, {5, 7}, {2, 3}, {5, 5}} {
		got, err := visited(m.ctx(), l, tt.first, tt.last)
		var missing *missingError
		if !errors.As(err, &missing) || missing.first != 6 || missing.wanted != tt.first || len(got) > 0 {
			t.Fatalf("from %d to %d: events %v, error %v", tt.first, tt.last, got, err)
		}
		for _, want := range []string{"topic l.b-to-a begins with seq 6", fmt.Sprintf("seq %d is wanted", tt.first), "kafka.topic.retention", "start the link anew"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
		if later(err) {
			t.Error("this error is taken for one that heals")
		}
	}
	if got, err := visited(m.ctx(), l, 6, 10); err != nil || !slices.Equal(got, span(6, 10)) {
		t.Errorf("what is left: %v, error %v", got, err)
	}
}

func TestWhatThePeerHadSeen(t *testing.T) {
	events := []schema.Event{wrote("k", 3), beat(5), beat(6), wrote("k", 7), wrote("k", 8), beat(9), beat(12)}
	for _, tt := range []struct {
		name    string
		events  []schema.Event
		removed int64 // seqs before it
		behind  int64
		idle    bool
		want    int64
	}{
		{"nothing: it has published nothing", nil, 0, 0, true, 0},
		{"when it made its first event", events, 0, 0, true, 3},
		{"when it made the next change", events, 0, 1, true, 7},
		{"or the next HEARTBEAT, if something is to be settled", events, 0, 1, false, 5},
		{"when it made the next change, in between", events, 0, 4, true, 8},
		{"in the end, when only HEARTBEATs follow", events, 0, 5, true, 12},
		{"when it made the first of them, if something is to be settled", events, 0, 5, false, 9},
		{"in the end, when nothing follows", events, 0, 7, true, 12},
		{"in the end, when this site is ahead", events, 0, 99, true, 12},
		{"what retention has removed, nobody knows", events, 4, 1, true, 0},
		{"what it has removed before that does not matter", events, 4, 3, true, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMemory(t)
			m.write(m.cfg.PeerTopic, slices.Clone(tt.events)...)
			if tt.removed > 0 {
				m.remove(m.cfg.PeerTopic, tt.removed)
			}
			l := m.newLog(m.cfg.PeerTopic)
			defer l.close()
			if got, err := l.seenAfter(m.ctx(), tt.behind, tt.idle); err != nil || got != tt.want {
				t.Errorf("it had seen up to %d, error %v; want %d", got, err, tt.want)
			}
		})
	}
}

// protects tells whether a deletion of key by a peer that has seen up to seen
// is left out.
func (m *memory) protects(key string, seen int64) bool {
	m.t.Helper()
	var (
		touch   command.Touch
		verdict offsets.Verdict
	)
	e := schema.Event{Op: schema.OpDelete, Key: []byte(key), Command: "DEL", Args: words(key), Seq: 99, Seen: seen}
	if err := errors.Join(touch.Of(&e), m.cfg.Ledger.Decide(&e, &touch, false, &verdict)); err != nil {
		m.t.Fatal(err)
	}
	return verdict.LeaveOut
}

func (m *memory) standsAt(seq, seen int64) {
	m.lane.restore(offsets.Position{Replid: "r", Phase: offsets.PhaseStream, Seq: seq, Seen: seen, Settled: seen})
}

func TestTheLedgerIsFilledFromTheTopics(t *testing.T) {
	m := newMemory(t)
	m.write(m.cfg.Topic, wroteMany(10)...)
	m.write(m.cfg.PeerTopic, wrote("k", 1), wrote("k", 6), beat(7))
	m.standsAt(9, 1) // the tenth event is another one's: it was not captured yet
	if err := m.remember(m.ctx()); err != nil {
		t.Fatal(err)
	}
	if floor := m.cfg.Ledger.Floor(); floor != 6 {
		t.Errorf("the floor is %d", floor)
	}
	for key, want := range map[string]bool{"k1": false, "k6": false, "k7": true, "k9": true, "k10": false, "other": false} {
		if got := m.protects(key, 6); got != want {
			t.Errorf("%s is protected: %v", key, got)
		}
	}
	// The peer fell back: what it had seen comes back into the ledger.
	if err := m.Recall(m.ctx(), 3); err != nil {
		t.Fatal(err)
	}
	if floor := m.cfg.Ledger.Floor(); floor != 3 {
		t.Errorf("the floor is %d", floor)
	}
	for key, want := range map[string]bool{"k3": false, "k4": true, "k6": true, "k9": true} {
		if got := m.protects(key, 3); got != want {
			t.Errorf("recalled: %s is protected: %v", key, got)
		}
	}
}

func TestOwnEventsThatRetentionRemovedCountAsUnseen(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first int64 // seq left
		seen  map[int64]bool
	}{
		{"some", 5, map[int64]bool{3: true, 4: false, 8: false}},
		{"all but the last", 8, map[int64]bool{3: true, 6: true, 7: false, 8: false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMemory(t)
			m.write(m.cfg.Topic, wroteMany(8)...)
			m.write(m.cfg.PeerTopic, wrote("k", 2))
			m.remove(m.cfg.Topic, tt.first)
			m.standsAt(8, 0)
			if err := m.remember(m.ctx()); err != nil {
				t.Fatal(err)
			}
			for seen, want := range tt.seen {
				if got := m.protects("never heard of", seen); got != want {
					t.Errorf("a key of which nothing is known is protected from who has seen up to %d: %v", seen, got)
				}
			}
			if !m.protects("k8", 7) {
				t.Error("what is left is not known")
			}
		})
	}
}

func TestThePeersTopicStaysOpenWhileItIsNeeded(t *testing.T) {
	m := newMemory(t)
	m.write(m.cfg.PeerTopic, wroteMany(6)...)
	read := func(first, last int64) {
		t.Helper()
		var got []int64
		err := m.peerEvents(m.ctx(), first, last, func(e *schema.Event) error {
			got = append(got, e.Seq)
			return nil
		})
		if err != nil || !slices.Equal(got, span(first, last)) {
			t.Errorf("from %d to %d: %v, error %v", first, last, got, err)
		}
	}
	read(1, 3)
	open := m.peer
	m.restPeer(time.Hour)
	read(4, 5)
	if m.peer != open {
		t.Error("the topic was opened anew")
	}
	m.restPeer(0)
	if m.peer != nil {
		t.Error("the topic stays open")
	}
	read(6, 6)
	m.restPeer(0)
}

func TestAnEventOfTheTopicThatIsNoneEndsTheStart(t *testing.T) {
	m := newMemory(t)
	m.write(m.cfg.PeerTopic, wrote("k", 0))
	if err := m.client().ProduceSync(m.ctx(), &kgo.Record{Topic: m.cfg.PeerTopic, Value: []byte("hello")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := m.remember(m.ctx()); err == nil || !strings.Contains(err.Error(), "topic l.b-to-a, offset 1") {
		t.Errorf("error %v", err)
	}
}

func TestAOneWaySourceRemembersNothing(t *testing.T) {
	if err := newTestSource(nil, 1<<20).remember(t.Context()); err != nil {
		t.Error(err)
	}
}
