package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/sink"
)

// topicReader reads the events of a direction from its topic, one by one.
type topicReader struct {
	consumer *kafka.Consumer
	decoder  *schema.Decoder
	pending  []*kgo.Record
	behind   int64 // seq
	next     int64 // offset
	end      int64 // offset behind the last event
}

// readTopic begins to read a topic of the link behind an event, up to where it
// ends now. An event's offset is never below its seq - 1.
func (c *chaos) readTopic(ctx context.Context, direction string, behind int64) (*topicReader, error) {
	client := []kgo.Opt{kgo.SeedBrokers(c.kafka.Brokers()...)}
	topic := linkName + "." + direction
	tail, err := kafka.ReadTail(ctx, client, topic, 0)
	if err != nil {
		return nil, err
	}
	consumer, err := kafka.NewConsumer(ctx, kafka.ConsumerConfig{Client: client, Topic: topic, Offset: behind, FromStart: behind == 0, MaxBytes: 16 << 20})
	if err != nil {
		return nil, err
	}
	return &topicReader{consumer: consumer, decoder: schema.NewDecoder(nil), behind: behind, end: tail.End}, nil
}

// read returns the next event, false at the end.
func (r *topicReader) read(ctx context.Context) (e schema.Event, ok bool, err error) {
	for r.next < r.end {
		if len(r.pending) == 0 {
			if r.pending, err = r.consumer.Poll(ctx); err != nil {
				return e, false, err
			}
			continue
		}
		record := r.pending[0]
		r.pending, r.next = r.pending[1:], record.Offset+1
		if record.Attrs.IsControl() {
			continue
		}
		if err := r.decoder.Decode(ctx, record.Value, &e); err != nil {
			return e, false, err
		}
		if e.Seq > r.behind {
			return e, true, nil
		}
	}
	return e, false, nil
}

// history tells the last events of a direction that name a key, and the
// control events, one a line.
func (c *chaos) history(direction string, db int32, key string) string {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	r, err := c.readTopic(ctx, direction, 0)
	if err != nil {
		return " " + err.Error()
	}
	defer r.consumer.Close()
	var lines []string
	for {
		e, ok, err := r.read(ctx)
		if err != nil {
			return " " + err.Error()
		}
		if !ok {
			return strings.Join(append([]string{""}, lines[max(len(lines)-30, 0):]...), "\n  ")
		}
		if e.Command == schema.Heartbeat || !wide(&e) && (e.DB != db || !names(&e, key)) {
			continue
		}
		lines = append(lines, fmt.Sprintf("seq %d, seen %d, epoch %d, at %d: %c %s %.60q %.60q", e.Seq, e.Seen, e.Source.Epoch, e.Source.ReplOffset, e.Op, e.Command, e.Args, e.Value.Data))
	}
}

// wide tells whether an event concerns all keys.
func wide(e *schema.Event) bool { return e.Op == schema.OpControl || e.Op == schema.OpTruncate }

func names(e *schema.Event, key string) bool {
	return string(e.Key) == key || slices.ContainsFunc(e.OtherKeys, func(k []byte) bool { return string(k) == key })
}

// rebuilt fills a third Redis from the two topics and holds it against site a.
//
// Neither topic alone is a site's state, so this does what any reader can do
// who wants to know what site a holds: home's topic is the order. Before each
// of its events comes what of the other topic it had seen (rebuild). The
// result is one topic, and a sink like any other applies it.
func (c *chaos) rebuilt() {
	c.t.Helper()
	if c.t.Failed() {
		return
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Minute)
	defer cancel()
	const topic = "rebuilt.a-to-c"
	client := []kgo.Opt{kgo.SeedBrokers(c.kafka.Brokers()...)}
	info, err := kafka.EnsureTopic(ctx, client, topic, 1, kafka.TopicConfig{ReplicationFactor: 1, MaxMessageBytes: 2 << 20})
	if err != nil {
		c.t.Fatal(err)
	}
	last, err := c.rebuild(ctx, topic)
	if err != nil {
		c.t.Fatalf("chaos: seed %d: putting the topics together: %v", c.seed, err)
	}
	third := testkit.StartRedis(c.t)
	s := sink.New(sink.Config{
		Link: "rebuilt", Direction: "a-to-c", Lane: "0", Target: "c", Topic: topic, TopicID: info.ID, Group: "rebuilt",
		Redis: redis.Config{Addrs: []string{third.Addr()}}, Kafka: client, Decoder: schema.NewDecoder(nil),
		Own: nobody{}, Ledger: offsets.NewLedger(offsets.LedgerConfig{Site: "c"}), // what has no effect is passed, as at a site
		ExpiryGrace: time.Second, MaxMemory: 64 << 20,
		Log: slog.New(slog.DiscardHandler), Metrics: sink.NewMetrics(prometheus.NewRegistry(), "rebuilt", "a-to-c", "c"),
	})
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() { ended <- s.Run(running) }()
	for s.Status().Mark.Seq < last {
		select {
		case err := <-ended:
			c.t.Fatalf("chaos: seed %d: filling a third Redis: %v", c.seed, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	<-ended
	c.eventually(func() error {
		err := c.differ(third, c.a)
		if err != nil {
			err = fmt.Errorf("the third Redis (a, here) and site a (b, here): %w", err)
		}
		return err
	})
	c.t.Logf("chaos: seed %d: a third Redis filled from %d events of both topics is equal (%v)", c.seed, last, time.Since(started).Round(time.Millisecond))
}

// nobody is the source of a site that nobody writes to.
type nobody struct{}

func (nobody) LastMark(context.Context, string, int64) (offsets.Mark, error) {
	return offsets.Mark{}, nil
}
func (nobody) AwaitRead(context.Context, string, int64) error { return nil }
func (nobody) Recall(context.Context, int64) error            { return nil }
