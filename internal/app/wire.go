package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/admin"
	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/sink"
	"twinlog/source"
)

// codec is what makes and reads events: one encoder for all, a decoder for
// each that reads.
type codec struct {
	encoder  *schema.Encoder
	registry *schema.Registry // nil: none
}

// codec registers the schema where a registry is configured.
func (w *Worker) codec(ctx context.Context) (codec, error) {
	if w.o.Registry.URL == "" {
		return codec{encoder: schema.NewEncoder(0)}, nil
	}
	registry, err := schema.NewRegistry(w.o.Registry)
	if err != nil {
		return codec{}, err
	}
	id := 0
	backoff := kafka.Backoff{Min: 200 * time.Millisecond, Max: 3 * time.Second}
	for _, h := range w.halves {
		for attempt := 0; ; attempt++ {
			if id, err = registry.Register(ctx, h.topic); err == nil {
				break
			}
			if !errors.Is(err, schema.ErrRegistryUnavailable) {
				return codec{}, err
			}
			w.setWaiting(err.Error())
			w.o.Log.Warn("waiting for the schema registry", "error", err)
			if err := backoff.Wait(ctx, attempt); err != nil {
				return codec{}, err
			}
		}
	}
	w.setWaiting("")
	return codec{encoder: schema.NewEncoder(id), registry: registry}, nil
}

// wire tells a direction's connectors how to make their source and sink.
func (w *Worker) wire(h *half, client []kgo.Opt, c codec) {
	share := (w.o.Memory - int64(len(w.ledgers))*w.o.Memory/ledgerShare) / int64(2*len(w.halves)) // sources and sinks have the same
	sourceMetrics := source.NewMetrics(w.registry, w.o.Link, h.Name(), h.From)
	sinkMetrics := sink.NewMetrics(w.registry, w.o.Link, h.Name(), h.To)
	h.source.wentBack = func(ctx context.Context) error { return w.restartApplying(ctx, h) }
	h.source.open = func(context.Context, func(string)) (runner, error) {
		with := h.source.takeHow()
		cfg := source.Config{
			Link: w.o.Link, Site: h.From, Direction: h.Name(), Peer: h.To + "-to-" + h.From, Lane: lane, Topic: h.topic, OnGap: h.OnGap, Ledger: w.ledgers[h.From], Scope: h.Scope,
			Redis: w.o.Sites[h.From], Kafka: client, Clients: w.registry, Encoder: c.encoder, Decoder: func() *schema.Decoder { return schema.NewDecoder(c.registry) }, Snapshot: h.Snapshot,
			Applied: func(ctx context.Context) offsets.Mark { return w.applied(ctx, h) }, NewEpoch: with.newEpoch, Reseed: with.reseed,
			MaxMemory: share, SpoolDir: w.spoolDir(), SpoolBytes: w.spoolShare(), MaxEventBytes: w.o.MaxEventBytes, MaxTransactionBytes: w.o.MaxTransactionBytes, CommitPause: w.o.CommitPause,
			Instance: w.instance, Log: w.o.Log, Metrics: sourceMetrics, Hook: w.o.Hook,
		}
		if o := w.opposite(h); o != nil {
			cfg.PeerTopic, cfg.PeerTopicID, cfg.PeerScope = o.topic, o.topicID, o.Scope
		}
		return observed[*source.Source]{source.New(cfg), w.registry}, nil
	}
	h.newSink = func(own sink.OwnSource, with how) *sink.Sink {
		var deadLetter sink.DeadLetter
		if h.DeadLetter {
			deadLetter = sink.DeadLetter{Topic: w.deadLetterTopic(), MaxBytes: int32(w.o.MaxEventBytes + 2*topicHeadroom)}
		}
		return sink.New(sink.Config{
			Link: w.o.Link, Direction: h.Name(), Lane: lane, Target: h.To, Topic: h.topic, TopicID: h.topicID, Group: "twinlog." + w.o.Link + "." + h.Name(),
			Redis: w.o.Sites[h.To], Kafka: client, Clients: w.registry, Decoder: schema.NewDecoder(c.registry), Own: own, Ledger: w.ledgers[h.To], Scope: h.Scope, OwnTopic: w.topicFrom(h.To),
			Intercept: h.Existing == "intercept" && h.Snapshot != source.SnapshotNoData, ExpiryGrace: w.o.ExpiryGrace, SnapshotOnly: h.Snapshot == source.SnapshotInitialOnly, ClearHalt: with.clear, DeadLetter: deadLetter, MaxMemory: share,
			Instance: w.instance, BeginSnapshot: func(ctx context.Context) error { return w.beginSnapshot(ctx, h) },
			Log: w.o.Log, Metrics: sinkMetrics, Hook: w.o.Hook,
		})
	}
	h.sink.open = func(ctx context.Context, wait func(string)) (runner, error) {
		own, err := w.awaitOwnSource(ctx, h, wait)
		if err != nil {
			return nil, err
		}
		return observed[*sink.Sink]{h.newSink(own, h.sink.takeHow()), w.registry}, nil
	}
}

// opposite is the other direction of the link, nil on a one-way link.
func (w *Worker) opposite(h *half) *half {
	for _, o := range w.halves {
		if o.From == h.To && o.To == h.From {
			return o
		}
	}
	return nil
}

// topicFrom is the topic of what is born at a site, empty if there is none.
func (w *Worker) topicFrom(site string) string {
	for _, h := range w.halves {
		if h.From == site {
			return h.topic
		}
	}
	return ""
}

// awaitOwnSource waits until the target's own source follows its stream from
// a position in Kafka: only then may anything be written there, or what is
// born at the target meanwhile would be missed, and the copy published back.
// It returns that source; nil on a one-way link.
func (w *Worker) awaitOwnSource(ctx context.Context, h *half, wait func(string)) (sink.OwnSource, error) {
	o := w.opposite(h)
	if o == nil {
		return nil, nil
	}
	wait("waiting for " + o.source.name + " to follow the stream of site " + h.To)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if s := sourceOf(o.source); s != nil && isDone(s.Attached()) {
			return ownSource{o.source}, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// ownSource is the source that a connector runs at the moment: it may be
// started anew while a sink asks it.
type ownSource struct{ connector *connector }

func (o ownSource) current() (*source.Source, error) {
	if s := sourceOf(o.connector); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%s does not run", o.connector.name)
}

// LastMark implements sink.OwnSource.
func (o ownSource) LastMark(ctx context.Context, replid string, replOffset int64) (offsets.Mark, error) {
	s, err := o.current()
	if err != nil {
		return offsets.Mark{}, err
	}
	return s.LastMark(ctx, replid, replOffset)
}

// AwaitRead implements sink.OwnSource.
func (o ownSource) AwaitRead(ctx context.Context, replid string, replOffset int64) error {
	s, err := o.current()
	if err != nil {
		return err
	}
	return s.AwaitRead(ctx, replid, replOffset)
}

// Recall implements sink.OwnSource.
func (o ownSource) Recall(ctx context.Context, seen int64) error {
	s, err := o.current()
	if err != nil {
		return err
	}
	return s.Recall(ctx, seen)
}

// makeLedgers makes the ledger of each site of a two-way link. Its source and
// its sink share it, and neither knows the other.
func (w *Worker) makeLedgers() {
	w.ledgers = map[string]*offsets.Ledger{}
	for _, h := range w.halves {
		if w.opposite(h) == nil {
			continue
		}
		w.ledgers[h.From] = offsets.NewLedger(offsets.LedgerConfig{
			Site: h.From, Home: h.From == w.o.Home, Dir: w.spoolDir(), MaxMemory: w.o.Memory / ledgerShare, MaxDisk: w.spoolShare(),
			Rules: rules(), Conflicts: w.conflicts[h.From],
		})
		source.ObserveLedger(w.registry, w.o.Link, h.Name(), h.From, w.ledgers[h.From].Size, w.conflicts[h.From])
	}
}

// spoolDir is where sources and ledgers keep what memory cannot hold.
func (w *Worker) spoolDir() string { return filepath.Join(w.o.SpoolDir, w.o.Link) }

// spoolShare is what each of them may keep there: all have the same, and the
// source of a one-way link, which has no ledger, has it all.
func (w *Worker) spoolShare() int64 { return w.o.SpoolBytes / int64(len(w.halves)+len(w.conflicts)) }

// ledgerShare is the part of limits.memory that a ledger may have.
const ledgerShare = 8

// sourceOf and sinkOf return what a connector runs, or ran last; nil before.
func sourceOf(c *connector) *source.Source {
	_, _, _, r := c.snapshot()
	s, _ := as[*source.Source](r)
	return s
}

func sinkOf(c *connector) *sink.Sink {
	_, _, _, r := c.snapshot()
	s, _ := as[*sink.Sink](r)
	return s
}

// observed is a source or sink whose gauges are registered while it runs.
type observed[R interface {
	runner
	Observe(prometheus.Registerer) func()
}] struct {
	runner R
	reg    prometheus.Registerer
}

// Run implements runner.
func (o observed[R]) Run(ctx context.Context) error {
	defer o.runner.Observe(o.reg)()
	return o.runner.Run(ctx)
}

func (o observed[R]) inner() runner { return o.runner }

// phase is what a direction does, in the words of DESIGN.md 9.
func phase(s *source.Source) (string, source.Status) {
	if s == nil {
		return admin.PhaseCreated, source.Status{}
	}
	st := s.Status()
	switch st.Committed.Phase {
	case offsets.PhaseStream:
		return admin.PhaseSynchronizing, st
	case offsets.PhaseSnapshot:
		return admin.PhaseSnapshot, st
	}
	if st.Position.Phase == offsets.PhaseSnapshot || st.SnapshotBytes > 0 { // read to its end perhaps, and none of it in Kafka
		return admin.PhaseSnapshot, st
	}
	return admin.PhaseCreated, st
}
