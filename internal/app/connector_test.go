package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twinlog/internal/admin"
	"twinlog/internal/redis"
	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/sink"
	"twinlog/source"
)

// fakeRun is a source or a sink that does what it is told until it is stopped.
type fakeRun struct {
	do    func(ctx context.Context) error
	begun atomic.Bool
}

func (f *fakeRun) Run(ctx context.Context) error { return f.do(ctx) }
func (f *fakeRun) Begun() bool                   { return f.begun.Load() }

// fakePauser is one that can pause.
type fakePauser struct{ fakeRun }

func (*fakePauser) Pause()  {}
func (*fakePauser) Resume() {}

func untilStopped(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// opens has a connector run fakes, of which never two at once.
func opens(t *testing.T, c *connector, do func(ctx context.Context) error) {
	var runs atomic.Int32
	alone := func(ctx context.Context) error {
		defer runs.Add(-1)
		if n := runs.Add(1); n > 1 {
			t.Errorf("%s runs %d times at once", c.name, n)
		}
		return do(ctx)
	}
	c.open = func(context.Context, func(string)) (runner, error) {
		c.takeHow()
		return &fakePauser{fakeRun{do: alone}}, nil
	}
}

// fakeLink is a running worker of a two-way link whose connectors do nothing.
func fakeLink(t *testing.T) *Worker {
	w := &Worker{o: Options{Sites: map[string]redis.Config{"a": {}, "b": {}}}, ledgers: map[string]*offsets.Ledger{}}
	for _, d := range []Direction{{From: "a", To: "b"}, {From: "b", To: "a"}} {
		log := slog.New(slog.DiscardHandler)
		h := &half{Direction: d, source: newConnector("source-"+d.From, log), sink: newConnector("sink-"+d.To, log)}
		w.halves = append(w.halves, h)
		w.ledgers[d.From] = offsets.NewLedger(offsets.LedgerConfig{Site: d.From, Dir: t.TempDir(), Rules: rules()})
		opens(t, h.source, untilStopped)
		opens(t, h.sink, untilStopped)
	}
	return w
}

// begin starts the connectors, which end with the test.
func (w *Worker) begin(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if err := w.start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		for _, c := range w.connectors() {
			c.awaitEnd()
		}
		if err := w.Restart(context.Background(), "source-a"); !errors.Is(err, admin.ErrNotNow) {
			t.Errorf("a restart behind the end: %v", err)
		}
	})
}

func TestRequestsAtOnceNeverStartAConnectorTwice(t *testing.T) {
	w := fakeLink(t)
	for _, h := range w.halves {
		opens(t, h.sink, func(ctx context.Context) error { // as one whose target was emptied
			if err := w.beginSnapshot(ctx, h); err != nil && ctx.Err() == nil {
				t.Errorf("%s asks for a snapshot: %v", h.sink.name, err)
			}
			return untilStopped(ctx)
		})
	}
	w.begin(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 100 {
				name := w.connectors()[random.IntN(4)].name
				var err error
				switch random.IntN(8) {
				case 0:
					err = w.Pause(ctx, name)
				case 1:
					err = w.Stop(ctx, name)
				case 2, 3:
					err = w.Resume(ctx, name)
				case 4:
					err = w.Snapshot(ctx, "source-a")
				case 5:
					err = w.Resync(ctx, "b")
				default:
					err = w.Restart(ctx, name)
				}
				if err != nil {
					t.Errorf("steering %s: %v", name, err)
				}
			}
		})
	}
	all.Wait()
	for _, c := range w.connectors() {
		if err := w.Resume(ctx, c.name); err != nil {
			t.Error(err)
		}
		if state, trace, _, _ := c.snapshot(); state != admin.StateRunning {
			t.Errorf("%s is %s: %s", c.name, state, trace)
		}
	}
}

// A sink waits for the source that a resync holds, and the resync for the sink.
func TestASinkThatAsksForItsSourceDoesNotHoldUpAResync(t *testing.T) {
	w := fakeLink(t)
	may, asks, asked := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	opens(t, w.halves[0].sink, func(ctx context.Context) error {
		<-may
		close(asks)
		asked <- w.beginSnapshot(ctx, w.halves[0])
		return untilStopped(ctx)
	})
	w.begin(t)
	release, err := hold(t.Context(), w.connectors()...)
	if err != nil {
		t.Fatal(err)
	}
	close(may)
	<-asks
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.halves[0].sink.halt(ctx, admin.StateStopped); err != nil {
		t.Error(err)
	}
	release()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("the sink that was halted is told %v", err)
	}
}

func TestWhoWaitsForAnotherRequestGivesUpInTime(t *testing.T) {
	w := fakeLink(t)
	w.begin(t)
	release, err := hold(t.Context(), w.halves[0].source)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	for name, do := range map[string]func() error{
		"restart": func() error { return w.Restart(ctx, "source-a") },
		"resync":  func() error { return w.Resync(ctx, "b") },
	} {
		if err := do(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	release()
	if err := w.Resync(t.Context(), "b"); err != nil {
		t.Errorf("a request that gave up still holds something: %v", err)
	}
}

func TestASnapshotThatWasEndedBeforeItBeganIsStillDue(t *testing.T) {
	w := fakeLink(t)
	c := w.halves[0].source
	begins, runs := make(chan how, 1), make(chan *fakeRun, 1)
	c.open = func(context.Context, func(string)) (runner, error) {
		begins <- c.takeHow()
		run := &fakeRun{do: untilStopped}
		runs <- run
		return run, nil
	}
	w.begin(t)
	next := func(steer func(ctx context.Context, name string) error, want bool) *fakeRun {
		t.Helper()
		if steer != nil {
			if err := steer(t.Context(), c.name); err != nil {
				t.Error(err)
			}
		}
		if got := <-begins; got.newEpoch != want {
			t.Errorf("the run begins with a snapshot: %v, want %v", got.newEpoch, want)
		}
		return <-runs
	}
	next(nil, false)
	next(w.Snapshot, true)
	next(w.Restart, true)
	if err := w.Stop(t.Context(), c.name); err != nil {
		t.Error(err)
	}
	next(w.Resume, true).begun.Store(true)
	next(w.Restart, false)
}

func TestAFailureIsOfTheRunThatItEnds(t *testing.T) {
	taken := &source.TakenOverError{Topic: "t", Instance: "other"}
	w := fakeLink(t)
	c := w.halves[0].source
	first := true
	opens(t, c, func(ctx context.Context) error {
		if first {
			first = false
			return taken
		}
		return untilStopped(ctx)
	})
	c.takenOver = func(err error) {
		testkit.Eventually(t, time.Minute, func() error { // until the request below waits for this to end
			if state, _, _, _ := c.snapshot(); state != admin.StateStopped {
				return fmt.Errorf("it is %s", state)
			}
			return nil
		})
		c.fail(err)
	}
	w.begin(t)
	testkit.Eventually(t, time.Minute, func() error {
		if state, _, _, _ := c.snapshot(); state != admin.StateFailed {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
	if err := w.Restart(t.Context(), c.name); err != nil {
		t.Fatal(err)
	}
	if err := w.Stop(t.Context(), c.name); err != nil {
		t.Fatal(err)
	}
	if state, trace, _, _ := c.snapshot(); state != admin.StateStopped {
		t.Errorf("the run after it is %s: %s", state, trace)
	}
}

func TestAConnectorThatStandsDownIsResumedBehindItsEnd(t *testing.T) {
	w := fakeLink(t)
	c := w.halves[0].source
	var runs atomic.Int32
	stopped, end := make(chan struct{}), make(chan struct{})
	opens(t, c, func(ctx context.Context) error {
		if runs.Add(1) > 1 {
			return untilStopped(ctx)
		}
		<-ctx.Done()
		close(stopped)
		<-end
		return nil
	})
	w.begin(t)
	testkit.Eventually(t, time.Minute, func() error {
		if runs.Load() == 0 {
			return errors.New("it does not run")
		}
		return nil
	})
	w.standDown(errors.New("the site is not what it was"))
	<-stopped
	resumed := make(chan error, 1)
	go func() { resumed <- w.Resume(t.Context(), c.name) }()
	close(end)
	if err := <-resumed; err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, time.Minute, func() error {
		if state, trace, _, _ := c.snapshot(); state != admin.StateRunning || runs.Load() != 2 {
			return fmt.Errorf("it is %s in its run %d: %s", state, runs.Load(), trace)
		}
		return nil
	})
}

// A command that had no effect while its sink was being paused or stopped is
// not passed in silence by the next resume: the sink has failed.
func TestASinkThatFailsWhileItIsStoppedHasFailed(t *testing.T) {
	t.Parallel()
	c := newConnector("sink-b", slog.New(slog.DiscardHandler))
	c.open = func(context.Context, func(string)) (runner, error) {
		return &fakeRun{do: func(ctx context.Context) error {
			<-ctx.Done()
			return &sink.DataError{Target: "b", Command: "LPUSH", Key: "k"}
		}}, nil
	}
	for _, state := range []admin.State{admin.StatePaused, admin.StateStopped} {
		c.start(t.Context())
		if err := c.halt(t.Context(), state); err != nil {
			t.Fatal(err)
		}
		if got, trace, _, _ := c.snapshot(); got != admin.StateFailed || trace == "" {
			t.Errorf("%s, %q", got, trace)
		}
	}
}
