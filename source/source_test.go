package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// newCopying is a source that only copies a Redis with one key to a topic of
// its own.
func newCopying(t *testing.T, broker *testkit.Kafka, link string) *Source {
	t.Helper()
	server := testkit.StartRedis(t)
	if err := server.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	cfg := newTestSource(server, 1<<20).cfg
	cfg.Link, cfg.Topic, cfg.Instance, cfg.CommitPause = link, link+".a-to-b", "me", 2*time.Millisecond
	cfg.Kafka = []kgo.Opt{kgo.SeedBrokers(broker.Brokers()...)}
	if _, err := kafka.EnsureTopic(t.Context(), cfg.Kafka, cfg.Topic, 1, kafka.TopicConfig{ReplicationFactor: 1, MaxMessageBytes: 2 << 20}); err != nil {
		t.Fatal(err)
	}
	return New(cfg)
}

// copying runs a source until its snapshot is captured, and returns what ends
// it and the answer of Run.
func copying(t *testing.T, s *Source) (stop context.CancelFunc, done <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	answer := make(chan error, 1)
	go func() { answer <- s.Run(ctx) }()
	testkit.Eventually(t, patience, func() error {
		if pos := s.Status().Position; pos.Phase != offsets.PhaseStream {
			return fmt.Errorf("the snapshot is not read: %+v", pos)
		}
		return nil
	})
	return cancel, answer
}

// A source that only copies is done when Kafka holds the end of the snapshot.
func TestASnapshotIsDoneWhenKafkaHoldsItsEnd(t *testing.T) {
	broker := testkit.StartKafka(t)
	t.Run("paused, and going on", func(t *testing.T) {
		s := newCopying(t, broker, "resumed")
		s.Pause()
		_, done := copying(t, s)
		s.Resume()
		if err := <-done; !errors.Is(err, ErrSnapshotDone) || s.Status().Committed.Phase != offsets.PhaseStream {
			t.Errorf("error %v, in Kafka is %+v", err, s.Status().Committed)
		}
	})
	t.Run("paused, and stopped", func(t *testing.T) {
		s := newCopying(t, broker, "stopped")
		s.Pause()
		stop, done := copying(t, s)
		stop()
		if err := <-done; err != nil || !s.Status().Committed.IsZero() {
			t.Errorf("error %v, in Kafka is %+v", err, s.Status().Committed)
		}
	})
	t.Run("taken over by another process", func(t *testing.T) {
		s := newCopying(t, broker, "taken")
		var once sync.Once
		s.cfg.Hook = func(point string) {
			if point == "produced" { // its commit comes next
				once.Do(func() {
					tick := time.NewTicker(time.Millisecond)
					defer tick.Stop()
					for s.lane.position().Phase != offsets.PhaseStream {
						<-tick.C
					}
					if err := takeOver(t.Context(), &s.cfg); err != nil {
						t.Error(err)
					}
				})
			}
		}
		_, done := copying(t, s)
		if err := <-done; err == nil || errors.Is(err, ErrSnapshotDone) {
			t.Errorf("error %v", err)
		}
	})
}

// takeOver publishes one event as another process would that took the place of
// a source.
func takeOver(ctx context.Context, cfg *Config) error {
	ring, err := kafka.OpenRing(ctx, kafka.RingConfig{
		Client: cfg.Kafka, Prefix: fmt.Sprintf("twinlog.%s.%s.%s", cfg.Link, cfg.Site, cfg.Lane), Topic: cfg.Topic,
		MaxBufferedBytes: 1 << 20, BatchMaxBytes: 1 << 20,
	})
	if err != nil {
		return err
	}
	defer ring.Close()
	position, err := offsets.AppendPosition(nil, offsets.Position{Seq: 1, Phase: offsets.PhaseStream, Instance: "another"})
	if err != nil {
		return err
	}
	record := &kgo.Record{
		Topic: cfg.Topic, Value: cfg.Encoder.Append(nil, &schema.Event{Op: schema.OpControl, Command: schema.Heartbeat, Seq: 1}),
		Headers: []kgo.RecordHeader{{Key: schema.HeaderPosition, Value: position}},
	}
	if err := ring.Publish(ctx, slices.Chunk([]*kgo.Record{record}, 1), func() {}); err != nil {
		return err
	}
	return ring.Wait(ctx)
}
