package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"twinlog/internal/command"
	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/offsets"
)

// heartbeatWrite is how often HEARTBEATs alone move the mark.
const heartbeatWrite = time.Hour

// pump applies events behind start until the first trouble. One goroutine
// fetches and builds the next batch while the other has one in flight.
func (s *Sink) pump(ctx context.Context, t *target, start offsets.Mark, dead *deadLetters, refill refill) error {
	consumer, err := kafka.NewConsumer(ctx, kafka.ConsumerConfig{
		Client: s.cfg.Kafka, Metrics: s.cfg.Clients, ClientID: s.cfg.Group, Topic: s.cfg.Topic, Partition: 0, Offset: max(start.Offset, 0), FromStart: start.Seq == 0, MaxBytes: s.cfg.MaxMemory / 4,
	})
	if err != nil {
		return fmt.Errorf("reading %s from offset %d: %w", s.cfg.Topic, start.Offset+1, err)
	}
	defer consumer.Close()
	committer, err := kafka.NewMirrorCommitter(s.cfg.Kafka, s.cfg.Group, s.cfg.Topic, 0)
	if err != nil {
		return fmt.Errorf("mirroring to group %s: %w", s.cfg.Group, err)
	}
	defer committer.Close()
	ready, free := make(chan *batch), make(chan *batch, 3)
	for range cap(free) {
		free <- &batch{}
	}
	g, ctx := errgroup.WithContext(ctx)
	mirror := &mirror{cfg: &s.cfg, committer: committer, wake: make(chan struct{}, 1)}
	g.Go(func() error { return mirror.run(ctx) })
	g.Go(func() error {
		b := &builder{
			sink: s, consumer: consumer, start: start, verified: start.Seq == 0, ready: ready, free: free, seq: start.Seq, target: t, dead: dead, refill: refill,
			translate: translator{grace: s.cfg.ExpiryGrace.Milliseconds(), now: time.Now, v7: t.v7, mark: t.markKey, expiresFields: t.expiresFields, hsetex: t.hsetex},
		}
		return b.run(ctx)
	})
	g.Go(func() error {
		a := &applier{sink: s, target: t, ready: ready, free: free, dead: dead, mark: start, written: time.Now(), mirror: mirror}
		return a.run(ctx)
	})
	return g.Wait()
}

// applier sends batches, one at a time, and tells how far the target is.
type applier struct {
	sink    *Sink
	target  *target
	ready   <-chan *batch
	free    chan<- *batch
	dead    *deadLetters // nil: what cannot be applied stops the sink
	mark    offsets.Mark // last one written or started from
	written time.Time
	mirror  *mirror

	// Of a two-way link, see decide.go.
	held    *offsets.Prints // of HEARTBEATs that no mark was written for
	decided batch
	touch   command.Touch
	verdict offsets.Verdict
}

func (a *applier) run(ctx context.Context) error {
	for {
		var b *batch
		select {
		case <-ctx.Done():
			return ctx.Err()
		case b = <-a.ready:
		}
		if err := a.apply(ctx, b); err != nil {
			return err
		}
		if b.ends {
			a.mirror.flush(ctx)
			return ErrSnapshotDone
		}
		a.free <- b
	}
}

func (a *applier) apply(ctx context.Context, b *batch) error {
	s := a.sink
	if b.wipe != nil {
		if err := a.wipe(ctx, b); err != nil {
			return a.trouble(ctx, b, err)
		}
		return nil
	}
	if b.adds != nil {
		if err := a.target.apply(context.WithoutCancel(ctx), b, a.mark); err != nil {
			return a.trouble(ctx, b, err)
		}
		s.hook("part-applied")
		return nil
	}
	if err := a.dead.await(ctx, b.letters); err != nil {
		return err
	}
	b.from = a.mark.Offset + 1
	mark := b.markBehind(a.mark, s.cfg.TopicID)
	switch {
	case b.empty(): // only control records of Kafka
		mark = a.mark
	case !b.quiet || time.Since(a.written) >= heartbeatWrite:
		started := time.Now()
		// A batch under way is finished even while stopping: half a second
		// now is cheaper than reading it all again. watch bounds it.
		if err := a.settle(a.send(ctx, b, mark), b); err != nil {
			return a.trouble(ctx, b, err)
		}
		a.mark, a.written = mark, time.Now()
		if len(b.letters) > 0 {
			s.forgetLetters(mark)
		}
		s.last = written{a.target.runID, a.target.replid, mark}
		s.cuts.forget()
		s.cfg.Metrics.applied(b, time.Since(started))
		s.hook("applied")
	case s.cfg.Ledger != nil:
		a.hold(b.prints)
		if err := s.cfg.Ledger.Heard(b.seen); err != nil {
			return err
		}
	}
	s.update(func(st *Status) {
		st.Mark.TopicID, st.NextOffset = s.cfg.TopicID, b.next
		if !b.empty() {
			st.Mark, st.AppliedMs, st.Applying = mark, b.tsMs, true
		}
		st.CaughtUp = st.NextOffset >= st.EndOffset
	})
	a.mirror.set(b.next, metadata(a.mark, a.target.replid))
	return nil
}

// send applies b: on a two-way link it tells the ledger first, and decides
// what is to be decided.
func (a *applier) send(ctx context.Context, b *batch, mark offsets.Mark) error {
	ledger := a.sink.cfg.Ledger
	if ledger == nil {
		return a.sendBuilt(ctx, b, mark)
	}
	if a.held != nil {
		ledger.Applying(a.held)
		a.held = nil
	}
	ledger.Applying(b.prints)
	if !b.quiet {
		if err := a.recall(ctx, b.first); err != nil {
			return err
		}
	}
	if len(b.decisions) == 0 {
		return a.sendBuilt(ctx, b, mark)
	}
	return a.sendDecided(ctx, b, mark)
}

// sendBuilt applies a batch about which nothing is to be decided, once the
// temporary keys that it uses are whole.
func (a *applier) sendBuilt(ctx context.Context, b *batch, mark offsets.Mark) error {
	for {
		if err := a.watchTemps(ctx, b); err != nil {
			return err
		}
		if err := a.sendOnce(context.WithoutCancel(ctx), b, mark); !errors.Is(err, errTouched) {
			return err
		}
	}
}

func (a *applier) watchTemps(ctx context.Context, b *batch) error {
	if len(b.temps) == 0 {
		return nil
	}
	a.sink.hook("parts-built")
	return a.target.watchTemps(ctx, b)
}

// recall has the ledger know own changes behind seen again, if the peer's seen
// fell back.
func (a *applier) recall(ctx context.Context, seen int64) error {
	for seen < a.sink.cfg.Ledger.Floor() {
		a.sink.cfg.Log.Info("recalling what the peer has not seen", "site", a.sink.cfg.Target, "from", seen)
		if err := a.sink.cfg.Own.Recall(ctx, seen); err != nil {
			return &waitError{text: fmt.Sprintf("recalling what was written at site %s behind seq %d: %s", a.sink.cfg.Target, seen, err)}
		}
	}
	return nil
}

// hold keeps the prints of HEARTBEATs until the next mark, which passes them
// too.
func (a *applier) hold(quiet *offsets.Prints) {
	if a.held == nil || a.held.Len() > mostHeld {
		a.held = quiet
		return
	}
	a.held.Join(quiet)
}

// mostHeld is how many prints are held: hours of HEARTBEATs. The source reads
// from the topic what is not held.
const mostHeld = 10_000

// settle takes commands that had no effect for conflicts, on a two-way link:
// the key differs, and home's value settles it.
func (a *applier) settle(err error, b *batch) error {
	var data *DataError
	if !errors.As(err, &data) || len(data.failed) == 0 {
		return err
	}
	ledger := a.sink.cfg.Ledger
	won := "the value at home follows"
	if ledger.Home() {
		won = "the value at " + a.sink.cfg.Target + " (home), at both sites"
	}
	var p offsets.Print
	for _, f := range data.failed {
		if b.prints.Find(f.seq, &p) {
			ledger.Taint(&p.Touch, f.seq)
		}
		ledger.Conflicts().NoEffect(f.db, f.key, f.command, f.seq, f.reply, won)
		a.sink.cfg.Metrics.noEffect.Inc()
	}
	first := data.failed[0] // the others are among the conflicts
	a.sink.cfg.Log.Warn("commands had no effect: the keys differ between the sites, and home's values settle it", "site", a.sink.cfg.Target,
		"commands", len(data.failed), "first", first.command, "db", first.db, "key", shown(first.key), "seq", first.seq, "offset", first.offset, "reply", first.reply)
	switch {
	case data.Fatal: // others are no conflicts
		return err
	case data.markMoved:
		return errMarkMoved
	}
	return nil
}

// sendOnce applies b, by a script if it only removes and the target is full.
func (a *applier) sendOnce(ctx context.Context, b *batch, mark offsets.Mark) error {
	byScript := a.target.v7 && b.onlyRemoves()
	if byScript && a.sink.full.Load() {
		return a.target.applyFull(ctx, b, mark)
	}
	err := a.target.apply(ctx, b, mark)
	if !isFull(err) {
		if err == nil && !b.onlyRemoves() {
			a.sink.full.Store(false)
		}
		return err
	}
	a.sink.full.Store(true) // what is built from here on is small
	if !byScript {
		return err
	}
	return a.target.applyFull(ctx, b, mark)
}

// trouble decides whether the batch may be tried again.
func (a *applier) trouble(ctx context.Context, b *batch, err error) error {
	var aside *setAsideError
	if err = a.sink.aside(ctx, a.target, b, err); errors.As(err, &aside) {
		return err
	}
	var data *DataError
	if errors.As(err, &data) {
		a.sink.cfg.Metrics.errors.Inc()
		return a.sink.halt(context.WithoutCancel(ctx), a.target, data)
	}
	var cut *cutError
	if errors.As(err, &cut) && !errors.Is(err, redis.ErrNoAnswer) && a.sink.cuts.again(a.place(b)) {
		// Its text only: a cutError would heal.
		return fmt.Errorf("topic %s: target %s cut the connection %d times on the events behind offset %d (seq %d) without restarting: "+
			"see its log (an argument above proto-max-bulk-len, or client-query-buffer-limit), then resume: %s", a.sink.cfg.Topic, a.sink.cfg.Target, mostCuts, a.mark.Offset, a.mark.Seq, err.Error())
	}
	return err
}

// place is where b stands. Batches that build a big value leave the mark where
// it is, but have places of their own: it takes many, and not each cut of one of
// them is another one of the same.
func (a *applier) place(b *batch) cutPlace {
	p := cutPlace{mark: a.mark, runID: a.target.runID}
	if b.adds != nil {
		p.offset = b.offset
	}
	return p
}

// mostCuts is how often a living target may cut the connection on the same
// batch before the sink stops trying blindly (apply-rules 3).
const mostCuts = 5

// cuts counts connections cut on the same batch by the same server process.
type cuts struct {
	at cutPlace
	n  int
}

type cutPlace struct {
	mark   offsets.Mark
	runID  string
	offset int64 // of a batch that leaves the mark where it is
}

func (c *cuts) again(at cutPlace) bool {
	if c.at != at {
		*c = cuts{at: at}
	}
	c.n++
	return c.n >= mostCuts
}

func (c *cuts) forget() { c.n = 0 }
