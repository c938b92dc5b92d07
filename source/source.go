// Package source turns one Redis site into a stream of change events in
// Kafka. It joins the site as a replica and publishes the snapshot, then the
// replication stream:
//
//	replica.Conn ─► rdb.Reader ──► snapshot.go ┐
//	      └───────► stream.Reader ► capture.go ┴► lane ─► publish.go ─► kafka.Ring
//
// The capture side (capture.go) follows the Redis, the publishing side
// follows Kafka, and the lane between them keeps every event until its commit
// is known. Trouble on one side never costs the other its place.
package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/internal/scope"
	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/source/replica"
	"twinlog/source/stream"
)

// SnapshotMode says when a source copies the whole data set: Debezium's words.
type SnapshotMode string

// The snapshot modes.
const (
	SnapshotInitial     SnapshotMode = "initial"      // at the first start, then follow
	SnapshotInitialOnly SnapshotMode = "initial_only" // at the first start, then stop
	SnapshotNoData      SnapshotMode = "no_data"      // only follow, from now on
	SnapshotAlways      SnapshotMode = "always"       // at every start, then follow
)

// Config is what a source needs to know. All fields are required unless said
// otherwise.
type Config struct {
	Link        string
	Site        string // where the changes are born
	Direction   string // "a-to-b": the direction published
	Peer        string // "b-to-a": the direction whose sink writes at Site
	Lane        string // "0" for a standalone site
	Topic       string
	PeerTopic   string // of the peer's direction; empty on a one-way link
	PeerTopicID string // Kafka's id of it, 32 hex digits
	OnGap       string

	// Ledger is where own changes that the peer has not seen are noted, for
	// the sink of this site; nil on a one-way link.
	Ledger *offsets.Ledger

	Scope     scope.Scope // what is published
	PeerScope scope.Scope // of the peer's direction: its databases' numbers here

	Redis    redis.Config
	Kafka    []kgo.Opt
	Clients  prometheus.Registerer // metrics of the Kafka clients; nil: none
	Encoder  *schema.Encoder
	Decoder  func() *schema.Decoder // a new one for each goroutine that reads events
	Snapshot SnapshotMode
	NewEpoch bool // begin with a snapshot although the position could be continued
	// Applied returns the target's mark of Topic; zero: nothing was applied, or
	// nobody knows. nil: not asked.
	Applied func(ctx context.Context) offsets.Mark
	Reseed  bool // empty the site and have it filled by the peer

	MaxMemory           int64  // bytes kept for Kafka; from half of it on they go to disk
	SpoolDir            string // for what does not fit; empty: none, the socket is not read above MaxMemory
	SpoolBytes          int64  // on disk; when full, the socket is not read above MaxMemory
	MaxEventBytes       int
	MaxTransactionBytes int64
	CommitPause         time.Duration
	Instance            string // names this process in positions

	Log     *slog.Logger
	Metrics *Metrics
	Hook    func(point string) // failpoints of crash tests; nil in production
}

// Source publishes the changes of one site. Create it with New, run it with
// Run, once.
type Source struct {
	cfg    Config
	lane   *lane
	filter *stream.Filter
	turner *stream.Turner
	due    *stream.Due // values that are due
	values *values

	own *eventLog // the topic, as it was when the position was read

	// The capturing goroutine's own.
	emitted  stream.Emit // emit, made once
	plumbing bool        // the unit being published holds no command
	peer     *eventLog   // the peer's topic, while it is needed
	peerUsed time.Time

	applied offsets.Mark // by the target when this source began; zero: nothing, or not known

	full     bool // a snapshot is due, whatever the position says
	captured int  // events since they were counted last; the capturing goroutine's own

	mu       sync.Mutex
	status   Status
	paused   bool
	resumed  chan struct{}    // closed when not paused
	read     offsets.Position // where the stream was read up to; zero before it is followed
	waiters  int              // who wait for read to move
	moved    chan struct{}    // closed when read moves and somebody waits
	ended    chan struct{}    // closed when Run has ended
	attached chan struct{}    // closed once the source follows the stream, durably
	once     sync.Once
	conn     *replica.Conn // the link, while there is one
	ackOwed  bool          // the Redis asked for more than could be acknowledged
}

// New returns a source that has not started.
func New(cfg Config) *Source {
	s := &Source{
		cfg:      cfg,
		filter:   stream.NewFilter(cfg.Link, cfg.Peer, cfg.Lane),
		resumed:  make(chan struct{}),
		attached: make(chan struct{}),
		moved:    make(chan struct{}),
		ended:    make(chan struct{}),
	}
	s.lane = newLane(&s.cfg, time.Now)
	s.emitted = s.emit
	s.due = stream.NewDue(cfg.MaxMemory/dueShare, cfg.Ledger == nil)
	s.turner = &stream.Turner{Site: cfg.Site, Filter: s.filter, Ledger: cfg.Ledger, Scope: cfg.Scope, Due: s.due, MaxEventBytes: cfg.MaxEventBytes, Restored: s.cfg.readRestored}
	s.own = s.newLog(cfg.Topic)
	if cfg.Ledger == nil {
		s.values = newValues(s, s.due)
	} else {
		s.values = newValues(s, cfg.Ledger) // what is due is dirty there too
		s.peer = s.newLog(cfg.PeerTopic)
		s.turner.PeerTopicID = cfg.PeerTopicID
	}
	close(s.resumed)
	return s
}

// dueShare is the part of MaxMemory that keys of values that are due may have.
const dueShare = 8

// Run publishes until ctx is done, then commits what was captured and returns
// nil. ErrSnapshotDone ends a source that only copies. Any other error is
// final: it names what cannot go on and what to do. What can heal by itself
// (Kafka or the Redis away) is retried for ever and shown in Status.
func (s *Source) Run(ctx context.Context) error {
	defer close(s.ended)
	if err := s.lane.openSpool(); err != nil {
		return err
	}
	g, runCtx := errgroup.WithContext(context.WithoutCancel(ctx))
	captureCtx, stopCapture := context.WithCancel(runCtx)
	defer stopCapture()
	defer context.AfterFunc(ctx, stopCapture)()

	p := &publisher{cfg: &s.cfg, lane: s.lane, source: s, drain: make(chan struct{}), known: make(chan struct{}), decoder: s.cfg.Decoder()}
	var captureErr error
	g.Go(func() error {
		defer close(p.drain) // whatever ended the capture, what it captured is published
		defer stopCapture()
		captureErr = s.capture(captureCtx, p)
		if errors.Is(captureErr, ErrSnapshotDone) { // while it is paused, Kafka does not get its end
			select {
			case <-captureCtx.Done():
			case <-s.unpaused():
			}
		}
		return nil
	})
	g.Go(func() error { return s.heartbeats(captureCtx) })
	g.Go(func() error { return s.values.run(captureCtx) })
	g.Go(func() error { return p.run(runCtx) })
	err := g.Wait()
	s.closeLogs()
	s.setWaiting("")
	if errors.Is(captureErr, ErrSnapshotDone) && !s.lane.inStream() { // its end is not in Kafka
		captureErr = nil
	}
	return errors.Join(err, captureErr, s.lane.closeSpool())
}

// heartbeats tells the peer how far this source is when no event does.
func (s *Source) heartbeats(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.lane.heartbeat(); err != nil {
			return err
		}
	}
}

// Attached is closed once the source follows the replication stream from a
// position that Kafka holds: from then on nothing born at the site is missed.
func (s *Source) Attached() <-chan struct{} { return s.attached }

// Begun tells whether Kafka holds the beginning of a snapshot of this source:
// from then on the position says that it is due.
func (s *Source) Begun() bool { return s.lane.anew() }

// LastMark returns the last mark that the source has read in its site's
// replication stream, once it has read up to replOffset (a fence) of the
// history replid: a site that came back without its data has another one.
func (s *Source) LastMark(ctx context.Context, replid string, replOffset int64) (offsets.Mark, error) {
	read, err := s.awaitRead(ctx, replid, replOffset)
	return read.Mark, err
}

// AwaitRead waits until the source has read, and told its ledger, everything
// up to a fence.
func (s *Source) AwaitRead(ctx context.Context, replid string, replOffset int64) error {
	_, err := s.awaitRead(ctx, replid, replOffset)
	return err
}

func (s *Source) awaitRead(ctx context.Context, replid string, replOffset int64) (offsets.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters++
	defer func() { s.waiters-- }()
	for s.read.Phase != offsets.PhaseStream || s.read.Replid != replid || s.read.ReplOffset < replOffset {
		moved := s.moved
		s.mu.Unlock()
		var err error
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-s.ended:
			err = errEnded
		case <-moved:
		}
		s.mu.Lock()
		if err != nil {
			return offsets.Position{}, fmt.Errorf("waiting for the source of site %s to read up to %s:%d (it is at %s:%d): %w", s.cfg.Site, replid, replOffset, s.read.Replid, s.read.ReplOffset, err)
		}
	}
	return s.read, nil
}

var errEnded = errors.New("it has ended")

// Pause stops publishing; the Redis stays attached and its changes are kept,
// in memory and then on disk, as far as the limits go. Resume ends it.
func (s *Source) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.paused {
		s.paused, s.resumed = true, make(chan struct{})
	}
}

// Resume ends Pause.
func (s *Source) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused {
		s.paused = false
		close(s.resumed)
	}
}

func (s *Source) unpaused() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resumed
}

func (s *Source) hook(point string) {
	if s.cfg.Hook != nil {
		s.cfg.Hook(point)
	}
}

// retry is what waiting means everywhere here: 20 ms at first, 2 s at most.
var retry = kafka.Backoff{Min: 20 * time.Millisecond, Max: 2 * time.Second}
