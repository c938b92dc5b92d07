// Package app is the worker: it makes the sources and sinks of a link, starts
// them in the order that a two-way start needs, shows and steers them over
// HTTP, and stops them so that nothing in flight is lost.
package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"twinlog/internal/admin"
	"twinlog/internal/kafka"
	"twinlog/internal/precheck"
	"twinlog/internal/redis"
	"twinlog/internal/scope"
	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/sink"
	"twinlog/source"
)

// Options is all that a worker needs to know.
type Options struct {
	Link       string
	Home       string
	Kafka      kafka.Config
	Registry   schema.RegistryConfig // zero: none
	Sites      map[string]redis.Config
	Directions []Direction

	Memory              int64
	MaxEventBytes       int
	MaxTransactionBytes int64
	CommitPause         time.Duration
	ExpiryGrace         time.Duration

	SpoolDir   string // for what does not fit into memory
	SpoolBytes int64

	Listen   string                                             // HTTP address
	Precheck func(ctx context.Context) (precheck.Report, error) // before the start; nil: none
	Ignore   []string                                           // names of pre-check items to pass
	Log      *slog.Logger
	Hook     func(point string) // failpoints of crash tests; nil in production
}

// Direction is one half of the link.
type Direction struct {
	From, To string
	Snapshot source.SnapshotMode
	Existing string // intercept or ignore
	OnGap    string
	Scope    scope.Scope
	// DeadLetter has events that cannot be applied go to a topic.
	DeadLetter bool
}

// Name is the direction's name: "a-to-b".
func (d Direction) Name() string { return d.From + "-to-" + d.To }

// lane is the only order of events of a standalone site.
const lane = "0"

// PrecheckError tells that the pre-check found what must be mended first.
type PrecheckError struct{ Report precheck.Report }

func (e *PrecheckError) Error() string { return "the pre-check failed" }

// Worker runs a link. Create it with New, run it with Run, once.
type Worker struct {
	o        Options
	registry *prometheus.Registry
	server   *admin.Server
	instance string

	// Of each site of a two-way link; nil on a one-way link.
	conflicts map[string]*offsets.Conflicts
	ledgers   map[string]*offsets.Ledger

	mu          sync.Mutex
	halves      []*half
	waiting     string // what the worker as a whole waits for
	prechecking bool
	running     context.Context //nolint:containedctx // the worker's own life, parent of every connector; nil before
}

// half is a direction with its two connectors.
type half struct {
	Direction
	topic   string
	topicID string // known once the topic is there
	source  *connector
	sink    *connector
	newSink func(own sink.OwnSource, with how) *sink.Sink // known once the topic is there
}

// New binds the HTTP listener and wires the worker. It runs nothing yet.
func New(o Options) (*Worker, error) {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("naming this process: %w", err)
	}
	w := &Worker{o: o, registry: prometheus.NewRegistry(), instance: hex.EncodeToString(id)}
	w.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, d := range o.Directions {
		w.halves = append(w.halves, &half{
			Direction: d, topic: o.Link + "." + d.Name(),
			source: newConnector("source-"+d.From, o.Log), sink: newConnector("sink-"+d.To, o.Log),
		})
	}
	w.conflicts = w.newConflicts()
	w.makeLedgers()
	if len(w.halves) > 0 {
		w.halves[0].source.takenOver = w.standDown
	}
	for _, h := range w.halves {
		h.source.lost = w.standDown
	}
	server, err := admin.Listen(o.Listen, w, w.registry, o.Log)
	if err != nil {
		return nil, err
	}
	w.server = server
	return w, nil
}

// standDown ends every connector: a site is not what it was and nothing may be
// copied, or another process runs this link, and two must not. Of two workers, the one that keeps the first direction's topic
// goes on, so that never both stand down.
func (w *Worker) standDown(err error) {
	for _, h := range w.halves {
		h.source.fail(err)
		h.sink.fail(err)
	}
}

// Addr is the address that the HTTP listener is bound to.
func (w *Worker) Addr() string { return w.server.Addr() }

// Run works until ctx is done, then drains: sources commit what they read,
// sinks finish the batch in flight. It returns nil after an orderly end, and
// an error only if the worker cannot start: a connector that fails is shown
// in Status and waits there for an operator.
func (w *Worker) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- w.server.Serve() }()
	err := w.work(ctx)
	for _, l := range w.ledgers {
		err = errors.Join(err, l.Close())
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	return errors.Join(err, w.server.Close(closing), <-served)
}

func (w *Worker) work(ctx context.Context) error {
	client, err := w.o.Kafka.Options()
	if err != nil {
		return err
	}
	if err := w.prepare(ctx, client); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // stopped while it waited: an orderly end
		}
		return err
	}
	if err := w.start(ctx); err != nil {
		return nil //nolint:nilerr // stopped before it began: an orderly end
	}
	w.watchTopics(ctx, client) // until ctx is done
	w.o.Log.Info("draining")
	for _, c := range w.connectors() {
		c.awaitEnd()
	}
	return nil
}

// start starts every connector. Nobody steers one before.
func (w *Worker) start(ctx context.Context) error {
	release, err := hold(ctx, w.connectors()...)
	if err != nil {
		return err
	}
	defer release()
	w.mu.Lock()
	w.running = ctx
	w.mu.Unlock()
	for _, c := range w.connectors() {
		c.start(ctx)
	}
	return nil
}

// prepare waits for Kafka, makes or checks the topics, registers the schema
// and runs the pre-check.
func (w *Worker) prepare(ctx context.Context, client []kgo.Opt) error {
	backoff := kafka.Backoff{Min: 200 * time.Millisecond, Max: 3 * time.Second}
	for attempt := 0; ; attempt++ {
		err := w.ensureTopics(ctx, client)
		if err == nil {
			break
		}
		if ctx.Err() != nil || !kafka.Retryable(err) {
			return w.explained(ctx, err)
		}
		w.setWaiting(err.Error())
		w.o.Log.Warn("waiting for Kafka", "error", err)
		if err := backoff.Wait(ctx, attempt); err != nil {
			return err
		}
	}
	w.setWaiting("")
	codec, err := w.codec(ctx)
	if err != nil {
		return err
	}
	for _, h := range w.halves {
		w.wire(h, client, codec)
	}
	if w.o.Precheck == nil {
		return nil
	}
	defer w.setPrechecking(false)
	for attempt := 0; ; attempt++ {
		w.setPrechecking(true)
		report, err := w.o.Precheck(ctx)
		if err != nil {
			return fmt.Errorf("running the pre-check: %w", err)
		}
		if !report.Failed(w.o.Ignore) {
			w.setWaiting("")
			return nil
		}
		if !report.Away(w.o.Ignore) {
			return &PrecheckError{report}
		}
		reason := missing(report)
		w.setWaiting(reason)
		w.o.Log.Warn("waiting for servers", "error", reason)
		if err := backoff.Wait(ctx, attempt); err != nil {
			return err
		}
	}
}

// explained has the pre-check tell all that is wrong where a topic is.
func (w *Worker) explained(ctx context.Context, err error) error {
	var topic *kafka.TopicError
	if !errors.As(err, &topic) || w.o.Precheck == nil {
		return err
	}
	w.setPrechecking(true)
	defer w.setPrechecking(false)
	if report, failed := w.o.Precheck(ctx); failed == nil && report.Failed(w.o.Ignore) {
		return &PrecheckError{report}
	}
	return err
}

// missing tells which servers do not answer.
func missing(r precheck.Report) string {
	var failed []string
	for _, i := range r.Items {
		if i.Status == precheck.Error {
			failed = append(failed, strings.TrimSpace(i.Name+" "+i.Site)+": "+i.Detail)
		}
	}
	return strings.Join(failed, "; ")
}

func (w *Worker) setPrechecking(is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prechecking = is
}

func (w *Worker) ensureTopics(ctx context.Context, client []kgo.Opt) error {
	var g errgroup.Group
	for _, h := range w.halves {
		g.Go(func() error {
			info, err := kafka.EnsureTopic(ctx, client, h.topic, 1, kafka.TopicConfig{
				ReplicationFactor: w.o.Kafka.Topic.ReplicationFactor, Retention: w.o.Kafka.Topic.Retention, MaxMessageBytes: w.o.MaxEventBytes + topicHeadroom,
			})
			h.topicID = info.ID
			return err
		})
	}
	if w.wantsDeadLetters() {
		g.Go(func() error {
			_, err := kafka.EnsureTopic(ctx, client, w.deadLetterTopic(), 1, kafka.TopicConfig{
				ReplicationFactor: w.o.Kafka.Topic.ReplicationFactor, Retention: w.o.Kafka.Topic.Retention, MaxMessageBytes: w.o.MaxEventBytes + 2*topicHeadroom,
			})
			return err
		})
	}
	return g.Wait()
}

// topicHeadroom is what a record may have besides its value: key, headers,
// framing. A dead letter has it twice: what was there, and why it is one.
const topicHeadroom = 128 << 10

func (w *Worker) setWaiting(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = what
}
