package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
	"twinlog/internal/testkit"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// settled is how long fencing may take to end what was open: less than the
// transaction timeout, which would end it as well.
const settled = 15 * time.Second

// site is a topic of a test's own, and everything that reads and writes it.
type site struct {
	t     *testing.T
	kafka *testkit.Kafka
	topic string
}

var topics atomic.Int64

func newSite(t *testing.T, k *testkit.Kafka) *site {
	return &site{t: t, kafka: k, topic: fmt.Sprintf("link%d.a-to-b", topics.Add(1))}
}

// ctx ends a test that hangs.
func (s *site) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *site) options(more ...kgo.Opt) []kgo.Opt {
	s.t.Helper()
	opts, err := kafka.Config{Brokers: s.kafka.Brokers()}.Options()
	if err != nil {
		s.t.Fatal(err)
	}
	return append(opts, more...)
}

func (s *site) client(more ...kgo.Opt) *kgo.Client {
	s.t.Helper()
	c, err := kgo.NewClient(s.options(more...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

func (s *site) admin() *kadm.Client { return kadm.NewClient(s.client()) }

func (s *site) createTopic(maxMessageBytes int) {
	s.t.Helper()
	if _, err := kafka.EnsureTopic(s.ctx(), s.options(), s.topic, 1, kafka.TopicConfig{ReplicationFactor: 1, MaxMessageBytes: maxMessageBytes}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) ringConfig(hook func(string), more ...kgo.Opt) kafka.RingConfig {
	s.t.Helper()
	return kafka.RingConfig{
		Client: s.options(more...), Prefix: "twinlog." + s.topic, Topic: s.topic,
		Pause: 2 * time.Millisecond, MaxBufferedBytes: 8 << 20, BatchMaxBytes: 1 << 20, Hook: hook,
	}
}

func (s *site) open(hook func(string), more ...kgo.Opt) *kafka.Ring {
	s.t.Helper()
	ring, err := kafka.OpenRing(s.ctx(), s.ringConfig(hook, more...))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(ring.Close)
	return ring
}

// batch makes the events with the given seqs, each in a piece of its own.
func (s *site) batch(from, to int) iter.Seq[[]*kgo.Record] {
	return slices.Chunk(s.records(from, to), 1)
}

// records makes the events with the given seqs; the last one carries the position.
func (s *site) records(from, to int) []*kgo.Record {
	var batch []*kgo.Record
	for seq := from; seq <= to; seq++ {
		batch = append(batch, &kgo.Record{Topic: s.topic, Key: []byte("k"), Value: []byte(strconv.Itoa(seq))})
	}
	batch[len(batch)-1].Headers = []kgo.RecordHeader{{Key: "twinlog-position", Value: []byte(strconv.Itoa(to))}}
	return batch
}

func nothing() {}

// publish publishes one event and waits until it is committed.
func (s *site) publish(ring *kafka.Ring, seq int) {
	s.t.Helper()
	if err := errors.Join(ring.Publish(s.ctx(), s.batch(seq, seq), nothing), ring.Wait(s.ctx())); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) tail(ring *kafka.Ring) []int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx(), settled)
	defer cancel()
	tail, err := ring.Tail(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.seqs(tail.Records)
}

func (s *site) seqs(records []*kgo.Record) []int {
	s.t.Helper()
	var seqs []int
	for _, r := range records {
		if r.Attrs.IsControl() {
			continue
		}
		n, err := strconv.Atoi(string(r.Value))
		if err != nil {
			s.t.Fatal(err)
		}
		seqs = append(seqs, n)
	}
	return seqs
}

// everything reads the topic as a consumer does, control records included, up
// to the high watermark.
func (s *site) everything() []*kgo.Record {
	s.t.Helper()
	ends, err := s.admin().ListEndOffsets(s.ctx(), s.topic)
	if err != nil {
		s.t.Fatal(err)
	}
	end, _ := ends.Lookup(s.topic, 0)
	c, err := kafka.NewConsumer(s.ctx(), kafka.ConsumerConfig{Client: s.options(), Topic: s.topic, FromStart: true})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	var all []*kgo.Record
	for len(all) == 0 && end.Offset > 0 || len(all) > 0 && all[len(all)-1].Offset < end.Offset-1 {
		records, err := c.Poll(s.ctx())
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, records...)
	}
	return all
}

// holds checks what read_committed readers find in the topic, now and later:
// nobody has a transaction open when it is called.
func (s *site) holds(want ...int) {
	s.t.Helper()
	if got := s.seqs(s.everything()); fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("the topic holds %v, want %v", got, want)
	}
}

// fenced checks how a ring ended.
func (s *site) fenced(ring *kafka.Ring) {
	s.t.Helper()
	select {
	case <-ring.Done():
	case <-time.After(patience):
		s.t.Fatal("the ring goes on")
	}
	if err := ring.Err(); !kafka.Fenced(err) || kafka.Permanent(err) {
		s.t.Errorf("the ring ended with %v; Fenced %v, Permanent %v", err, kafka.Fenced(err), kafka.Permanent(err))
	}
}

// supervise publishes events, each a batch, up to seq last as a source does:
// on any error a new ring, which goes on behind the tail (rule 7). Each is
// opened after before.
func (s *site) supervise(ctx context.Context, last int, config kafka.RingConfig, before func()) (rings int, err error) {
	for {
		rings++
		before()
		err = s.session(ctx, last, config)
		s.t.Logf("ring %d: %v", rings, err)
		if err == nil || !kafka.Retryable(err) {
			return rings, err
		}
		if err := (kafka.Backoff{Min: 20 * time.Millisecond, Max: time.Second}).Wait(ctx, rings); err != nil {
			return rings, err
		}
	}
}

func (s *site) session(ctx context.Context, last int, config kafka.RingConfig) error {
	ring, err := kafka.OpenRing(ctx, config)
	if err != nil {
		return err
	}
	defer ring.Close()
	tail, err := ring.Tail(ctx)
	if err != nil {
		return err
	}
	at := 0
	if n := len(tail.Records); n > 0 {
		if at, err = strconv.Atoi(string(tail.Records[n-1].Value)); err != nil {
			return err
		}
	}
	for seq := at + 1; seq <= last; seq++ {
		if err := ring.Publish(ctx, s.batch(seq, seq), nothing); err != nil {
			return err
		}
	}
	return ring.Wait(ctx)
}

func (s *site) holdsDense(last int) {
	s.t.Helper()
	want := make([]int, last)
	for i := range want {
		want[i] = i + 1
	}
	s.holds(want...)
}
