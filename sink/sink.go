// Package sink makes a Redis hold what the events of one direction say, each
// exactly once:
//
//	kafka.Consumer ─► build.go: decode, check seq, translate ─► pump.go ─► target.go: MULTI, mark, commands, EXEC
//
// The mark that every transaction writes is the only truth about how far the
// target is (DESIGN.md 3). Whatever goes wrong, the sink drops what it holds
// in memory, reads the mark, and goes on from there.
package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/internal/scope"
	"twinlog/offsets"
	"twinlog/schema"
)

// Config is what a sink needs to know.
type Config struct {
	Link      string
	Direction string // "a-to-b"
	Lane      string
	Target    string // site whose Redis is written
	Topic     string
	TopicID   string // Kafka's id of the topic, 32 hex digits
	Group     string // consumer group that mirrors the offset

	Redis   redis.Config
	Kafka   []kgo.Opt
	Clients prometheus.Registerer // metrics of the Kafka clients; nil: none
	Decoder *schema.Decoder

	// Own is the target's own source; nil where none runs. OwnTopic is what it
	// publishes to.
	Own      OwnSource
	OwnTopic string
	// Ledger holds what was born at the target and the origin has not seen;
	// nil on a one-way link.
	Ledger *offsets.Ledger
	// Scope is the direction's; events name the origin's databases.
	Scope scope.Scope

	Instance string // of the worker
	// BeginSnapshot has the origin's source begin a snapshot; required on a
	// one-way link.
	BeginSnapshot func(ctx context.Context) error

	Intercept    bool // refuse a target that is not empty before anything was applied
	ExpiryGrace  time.Duration
	ClearHalt    bool // pass the event that stopped this sink before
	SnapshotOnly bool // end after the first SNAPSHOT_END
	DeadLetter   DeadLetter
	MaxMemory    int64         // bytes of fetched events and of what SNAPSHOT_END compares
	MostSilence  time.Duration // of the target where it owes an answer; 0: mostSilence

	Log     *slog.Logger
	Metrics *Metrics
	Hook    func(point string) // failpoints of crash tests; nil in production
}

// OwnSource is what a sink asks the source of its own site.
type OwnSource interface {
	// LastMark returns the last mark that the source has read, once it has
	// read up to a replication offset of a history.
	LastMark(ctx context.Context, replid string, replOffset int64) (offsets.Mark, error)
	// AwaitRead waits until the source has read, and told the ledger, what
	// comes up to a replication offset of a history.
	AwaitRead(ctx context.Context, replid string, replOffset int64) error
	// Recall puts changes behind seq seen back into the ledger.
	Recall(ctx context.Context, seen int64) error
}

// ErrSnapshotDone ends a sink with SnapshotOnly.
var ErrSnapshotDone = errors.New("snapshot applied")

// Sink applies one direction's events to its target. Create it with New, run
// it with Run, once.
type Sink struct {
	cfg    Config
	mu     sync.Mutex
	status Status
	cuts   cuts
	last   written
	found  offsets.Mark // where in the topic the last mark is now, after Kafka lost what stood there
	halted *DataError   // what ends Run; nil: nothing yet
	full   atomic.Bool  // the target had no memory left when it was last written

	// Of a direction with dead letters. mu guards the first three.
	quarantine   *quarantine
	letters      letterLog
	lettersAhead map[int64]struct{} // offsets of those that Kafka has and the mark has not passed
	refused      map[int64]string   // events that the target refused, by offset, and what it said
	failed       *failures          // in the last EXEC, until they are set aside
}

// Status is what a sink tells about itself.
type Status struct {
	Connected  bool         // to the target
	Applying   bool         // the target was looked at and taken: what is written there from now on does not stop this sink
	Waiting    string       // what it waits for, empty when nothing
	Mark       offsets.Mark // at the target
	NextOffset int64        // first offset not applied; control records passed
	EndOffset  int64        // last stable offset seen, -1 unknown
	EndSeq     int64        // seq of the newest event fetched
	AppliedMs  int64        // ts_ms of the last event applied
	CaughtUp   bool         // everything fetched is applied
}

// atTarget makes an event name databases by their numbers at the target.
func (c *Config) atTarget(e *schema.Event) error {
	if !c.Scope.Maps() {
		return nil
	}
	return command.RenameDatabases(e, c.Scope.To)
}

// New returns a sink that has not started.
func New(cfg Config) *Sink {
	return &Sink{cfg: cfg, status: Status{EndOffset: -1}}
}

// retry is what waiting means everywhere here.
var retry = kafka.Backoff{Min: 20 * time.Millisecond, Max: 2 * time.Second}

// Run applies events until ctx is done, then returns nil; what was in flight
// is applied or not, and the mark says which. Any error is final: it names
// what cannot be applied, where, and what to do. What can heal by itself is
// retried for ever and shown in Status.
func (s *Sink) Run(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		before := s.Status().Mark
		err := s.session(ctx)
		var displaced *displacedError
		if errors.As(err, &displaced) {
			err = s.relocate(ctx, displaced)
		}
		var aside *setAsideError
		switch {
		case s.halted != nil: // the mark has passed it: never go on, nor end in order
			return s.halted
		case ctx.Err() != nil:
			return nil //nolint:nilerr // stopped: an orderly end
		case err == nil: // the place of the mark was found
			attempt = -1
			continue
		case errors.As(err, &aside):
			s.take(aside)
			attempt = -1
			continue
		case errors.Is(err, ErrSnapshotDone):
			return err
		case !healable(err):
			return err
		}
		if s.Status().Mark != before { // it was worth while
			attempt = 0
		}
		s.cfg.Metrics.restarts.Inc()
		s.setWaiting(err.Error())
		s.cfg.Log.Warn("applying interrupted, going on from the mark", "site", s.cfg.Target, "error", err)
		if retry.Wait(ctx, attempt) != nil {
			return nil //nolint:nilerr // stopped while it waited: an orderly end
		}
	}
}

// session holds one connection to the target and one consumer, from the mark
// to the first trouble.
func (s *Sink) session(ctx context.Context) error {
	conn, err := redis.Dial(ctx, s.cfg.Redis)
	if err != nil {
		return fmt.Errorf("target %s: %w", s.cfg.Target, err)
	}
	defer conn.Close()
	defer s.watch(conn)()
	s.update(func(st *Status) { st.Connected = true })
	defer s.update(func(st *Status) { st.Connected, st.Applying = false, false })
	target := &target{cfg: &s.cfg, conn: conn, hook: s.cfg.Hook}
	start, err := s.start(ctx, target)
	if err != nil {
		return err
	}
	dead, err := s.newDeadLetters(ctx, target, start)
	if err != nil {
		return err
	}
	defer dead.close()
	s.cfg.Log.Info("applying", "site", s.cfg.Target, "topic", s.cfg.Topic, "seq", start.Seq, "offset", start.Offset)
	s.setWaiting("")
	refill, err := s.refilling(ctx, target)
	if err != nil {
		return err
	}
	if s.cfg.Ledger != nil {
		s.cfg.Ledger.StartAt(start.Seq)
	}
	if !s.cfg.Intercept || start.Seq > 0 { // else from the first mark on
		s.update(func(st *Status) { st.Applying = true })
	}
	return s.pump(ctx, target, start, dead, refill)
}

// Status returns a snapshot of the sink's state. It may be called from any
// goroutine.
func (s *Sink) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *Sink) update(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
}

func (s *Sink) setWaiting(what string) { s.update(func(st *Status) { st.Waiting = what }) }
