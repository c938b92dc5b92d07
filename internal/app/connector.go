package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"twinlog/internal/admin"
	"twinlog/internal/kafka"
	"twinlog/sink"
	"twinlog/source"
)

// connector runs one source or sink and keeps its state, in Kafka Connect's
// words. What changes its run (start, pause, resume, restart, halt) is for who
// holds its turn; the other methods may be called from any goroutine.
type connector struct {
	name string
	log  *slog.Logger
	turn turn
	// open makes a fresh source or sink. It may wait for what must come first.
	open func(ctx context.Context, wait func(reason string)) (runner, error)

	mu      sync.Mutex
	state   admin.State
	trace   string
	reason  string // what open waits for
	current runner
	cancel  context.CancelFunc
	done    chan struct{} // closed when the current run has ended
	live    bool          // the current run has not recorded its end
	how     how           // the next run is done
	begun   how           // the last run was

	failure error // the run is being ended for it, see fail
	failed  error // why the last run did

	// takenOver is told that another process does this work. Without it the
	// connector takes its work back.
	takenOver func(error)
	// lost is told that the site is not what it was.
	lost func(error)
	// wentBack is called when Kafka does not hold what it had confirmed, before
	// the connector goes on from what it holds.
	wentBack func(ctx context.Context) error
}

func newConnector(name string, log *slog.Logger) *connector {
	return &connector{name: name, log: log, turn: make(turn, 1)}
}

// turn is held by who steers a connector, through a whole sequence, so that
// two requests never start it twice. Who waits for it gives up with its context:
// a sink that asks for its source may be the one that its holder halts.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		t.giveBack()
		return err
	}
	return nil
}

func (t turn) giveBack() { <-t }

// how says what a run begins with, once.
type how struct {
	clear    bool // a sink passes what stopped it
	newEpoch bool // a source begins with a snapshot
	reseed   bool // a source empties its site and has it filled again
}

func (h how) or(o how) how {
	return how{clear: h.clear || o.clear, newEpoch: h.newEpoch || o.newEpoch, reseed: h.reseed || o.reseed}
}

// runner is a source or a sink behind what the worker does to both.
type runner interface {
	Run(ctx context.Context) error
}

// pauser is a runner that goes on reading while paused (a source).
type pauser interface {
	Pause()
	Resume()
}

// beginner is a runner that tells whether the snapshot that it was to begin
// with has begun: whoever takes its place goes on with it (a source).
type beginner interface {
	Begun() bool
}

// as returns the runner as what is asked for, without what is around it.
func as[T any](r runner) (T, bool) {
	if o, ok := r.(interface{ inner() runner }); ok {
		r = o.inner()
	}
	t, ok := r.(T)
	return t, ok
}

var errNotRunning = fmt.Errorf("the worker is starting or ending: %w", admin.ErrNotNow)

// start runs the connector in the background until it ends or is stopped.
func (c *connector) start(parent context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithCancel(parent)
	done := make(chan struct{})
	c.cancel, c.done, c.live = cancel, done, true
	c.state, c.trace, c.failed = admin.StateRunning, "", nil
	go func() {
		defer close(done)
		defer cancel()
		err := c.runOn(ctx)
		c.end(ctx, err)
		var lost *source.LostError
		switch {
		case isTakenOver(err) && c.takenOver != nil:
			c.takenOver(err)
		case errors.As(err, &lost) && c.lost != nil:
			c.lost(err)
		}
	}()
}

// runOn runs the connector, anew as long as it is taken over and takes its
// work back, or Kafka is not where it left it.
func (c *connector) runOn(ctx context.Context) error {
	backoff := kafka.Backoff{Min: 100 * time.Millisecond, Max: 2 * time.Second}
	for attempt := 0; ; attempt++ {
		err := c.run(ctx)
		if errors.Is(err, source.ErrBegunAnew) && ctx.Err() == nil {
			attempt = -1
			continue
		}
		wentBack := errors.Is(err, source.ErrKafkaWentBack)
		if retake := isTakenOver(err) && c.takenOver == nil; !retake && !wentBack {
			return err
		}
		c.log.Warn("beginning anew from what Kafka holds", "connector", c.name, "error", err)
		if wentBack && c.wentBack != nil {
			if err := c.wentBack(ctx); err != nil {
				return err
			}
		}
		if backoff.Wait(ctx, attempt) != nil {
			return nil //nolint:nilerr // stopped while it waited: an orderly end
		}
	}
}

func isTakenOver(err error) bool {
	var taken *source.TakenOverError
	return errors.As(err, &taken)
}

func (c *connector) run(ctx context.Context) error {
	r, err := c.open(ctx, c.wait)
	c.wait("")
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.current = r
	if p, ok := as[pauser](r); ok && c.state == admin.StatePaused {
		p.Pause()
	}
	c.mu.Unlock()
	return r.Run(ctx)
}

func (c *connector) wait(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reason = reason
}

// end records why a run ended.
func (c *connector) end(ctx context.Context, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reason = ""
	failure := c.failure
	c.failure, c.live = nil, false
	switch {
	case failure != nil:
		c.state, c.trace, c.failed = admin.StateFailed, failure.Error(), failure
		c.log.Error("connector stands down", "connector", c.name, "error", failure)
	case errors.Is(err, source.ErrSnapshotDone), errors.Is(err, sink.ErrSnapshotDone):
		c.state = admin.StateStopped
		c.log.Info("snapshot done", "connector", c.name)
	case err == nil || ctx.Err() != nil && !errors.As(err, new(*sink.DataError)): // which the mark has passed: it is not to be passed in silence
		if c.state == admin.StateRunning {
			c.state = admin.StateStopped
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			c.log.Warn("not ended in order; the next start goes on from what is committed", "connector", c.name, "error", err)
		}
	default:
		c.state, c.trace, c.failed = admin.StateFailed, err.Error(), err
		c.log.Error("connector failed", "connector", c.name, "error", err)
	}
}

// fail ends the current run, if any, for a reason that is not its own.
func (c *connector) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live {
		c.failure = err
		c.cancel()
	}
}

// halt ends the current run and waits for it.
func (c *connector) halt(ctx context.Context, state admin.State) error {
	c.mu.Lock()
	cancel, done := c.cancel, c.done
	c.state, c.trace = state, ""
	c.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
	case <-ctx.Done():
		if !isDone(done) {
			return fmt.Errorf("waiting for %s to end, after which it is to be resumed: %w", c.name, ctx.Err())
		}
	}
	return nil
}

// pause stops the connector's work but keeps its place: a source goes on
// reading its Redis into memory and spool, a sink keeps nothing but its mark.
func (c *connector) pause(ctx context.Context) error {
	c.mu.Lock()
	p, ok := as[pauser](c.current)
	running := c.state == admin.StateRunning
	if ok && running {
		p.Pause()
		c.state = admin.StatePaused
	}
	c.mu.Unlock()
	if ok || !running {
		return nil
	}
	return c.halt(ctx, admin.StatePaused)
}

// resume ends a pause, or starts a connector that stopped or failed.
func (c *connector) resume(ctx context.Context, parent context.Context, with how) error {
	c.mu.Lock()
	p, ok := as[pauser](c.current)
	goesOn := c.live && c.failure == nil && !with.newEpoch
	if goesOn && ok && c.state == admin.StatePaused {
		p.Resume()
		c.state = admin.StateRunning
	}
	running := goesOn && c.state == admin.StateRunning
	c.mu.Unlock()
	if running {
		return nil
	}
	return c.restart(ctx, parent, with)
}

// restart ends the current run, if any, and begins a new one.
func (c *connector) restart(ctx, parent context.Context, with how) error {
	if err := c.halt(ctx, admin.StateStopped); err != nil {
		return err
	}
	if parent.Err() != nil {
		return errNotRunning
	}
	c.mu.Lock()
	c.how = c.how.or(with)
	c.mu.Unlock()
	c.start(parent)
	return nil
}

// takeHow returns what the run that is being made begins with. A snapshot that
// the run before was ended too early to begin is still due: someone waits for it.
func (c *connector) takeHow() how {
	c.mu.Lock()
	defer c.mu.Unlock()
	with := c.how
	if b, ok := as[beginner](c.current); ok && !b.Begun() {
		with.newEpoch = with.newEpoch || c.begun.newEpoch
	}
	c.how, c.begun = how{}, with
	return with
}

// isEmptying tells whether a source is to empty its site and has not yet.
func (c *connector) isEmptying() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := as[beginner](c.current)
	due := c.begun.reseed && (!ok || !b.Begun())
	return c.live && (c.how.reseed || due)
}

// whyFailed returns why the last run did, nil if it did not.
func (c *connector) whyFailed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// snapshot returns the state that /status shows.
func (c *connector) snapshot() (state admin.State, trace, reason string, r runner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == "" {
		return admin.StateUnassigned, "", "", nil
	}
	return c.state, c.trace, c.reason, c.current
}

// awaitEnd waits until the connector has ended for good: its parent is done.
func (c *connector) awaitEnd() {
	c.turn <- struct{}{} // who holds it either has begun a run or begins none any more
	defer c.turn.giveBack()
	c.mu.Lock()
	done := c.done
	c.mu.Unlock()
	if done != nil {
		<-done
	}
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
