package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"twinlog/internal/kafka"
	"twinlog/offsets"
)

// heartbeatWrite is how often HEARTBEATs alone move the mark.
const heartbeatWrite = time.Hour

// pump applies events behind start until the first trouble. One goroutine
// fetches and builds the next batch while the other has one in flight.
func (s *Sink) pump(ctx context.Context, t *target, start offsets.Mark) error {
	consumer, err := kafka.NewConsumer(ctx, kafka.ConsumerConfig{
		Client: s.cfg.Kafka, Metrics: s.cfg.Clients, ClientID: s.cfg.Group, Topic: s.cfg.Topic, Partition: 0, Offset: start.Offset + 1, FromStart: start.Seq == 0, MaxBytes: s.cfg.MaxMemory / 4,
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
	ready, free := make(chan *batch), make(chan *batch, 2)
	for range cap(free) {
		free <- &batch{}
	}
	g, ctx := errgroup.WithContext(ctx)
	mirror := &mirror{cfg: &s.cfg, committer: committer, wake: make(chan struct{}, 1)}
	g.Go(func() error { return mirror.run(ctx) })
	g.Go(func() error {
		b := &builder{
			sink: s, consumer: consumer, ready: ready, free: free, seq: start.Seq, target: t,
			translate: translator{grace: s.cfg.ExpiryGrace.Milliseconds(), now: time.Now, v7: t.v7, mark: t.markKey},
		}
		return b.run(ctx)
	})
	g.Go(func() error {
		a := &applier{sink: s, target: t, ready: ready, free: free, mark: start, written: time.Now(), mirror: mirror}
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
	mark    offsets.Mark // last one written or started from
	written time.Time
	mirror  *mirror
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
	mark := b.mark(s.cfg.TopicID, a.mark.Generation)
	if b.empty() { // only control records of Kafka
		mark = a.mark
	} else if !b.quiet || time.Since(a.written) >= heartbeatWrite {
		started := time.Now()
		// A batch under way is finished even while stopping: half a second
		// now is cheaper than reading it all again.
		if err := a.send(context.WithoutCancel(ctx), b, mark); err != nil {
			return a.trouble(ctx, err)
		}
		a.mark, a.written = mark, time.Now()
		s.last = written{a.target.runID, a.target.replid, mark}
		s.cuts.forget()
		s.cfg.Metrics.applied(b, time.Since(started))
		s.hook("applied")
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

// send applies b, by a script if it only removes and the target is full.
func (a *applier) send(ctx context.Context, b *batch, mark offsets.Mark) error {
	err := a.target.apply(ctx, b, mark)
	if !isFull(err) {
		if err == nil && !b.onlyRemoves() {
			a.sink.full.Store(false)
		}
		return err
	}
	a.sink.full.Store(true) // what is built from here on is small
	if !a.target.v7 || !b.onlyRemoves() {
		return err
	}
	return a.target.applyFull(ctx, b, mark)
}

// trouble decides whether the batch may be tried again.
func (a *applier) trouble(ctx context.Context, err error) error {
	var data *DataError
	if errors.As(err, &data) {
		a.sink.cfg.Metrics.errors.Inc()
		return a.sink.halt(context.WithoutCancel(ctx), a.target, data)
	}
	var cut *cutError
	if errors.As(err, &cut) && a.sink.cuts.again(a.mark, a.target.runID) {
		return fmt.Errorf("topic %s: target %s cut the connection %d times on the events behind offset %d (seq %d) without restarting: "+
			"see its log (an argument above proto-max-bulk-len, or client-query-buffer-limit), then resume: %w", a.sink.cfg.Topic, a.sink.cfg.Target, mostCuts, a.mark.Offset, a.mark.Seq, err)
	}
	return err
}

// mostCuts is how often a living target may cut the connection on the same
// batch before the sink stops trying blindly (apply-rules 3).
const mostCuts = 5

// cuts counts connections cut on the same batch by the same server process.
type cuts struct {
	mark  offsets.Mark
	runID string
	n     int
}

func (c *cuts) again(mark offsets.Mark, runID string) bool {
	if c.mark != mark || c.runID != runID {
		*c = cuts{mark: mark, runID: runID}
	}
	c.n++
	return c.n >= mostCuts
}

func (c *cuts) forget() { c.n = 0 }
