package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

// builder fetches, decodes and checks events and packs them into batches.
type builder struct {
	sink      *Sink
	consumer  *kafka.Consumer
	start     offsets.Mark // what was applied last
	verified  bool         // the topic holds it
	target    *target
	ready     chan<- *batch
	free      chan *batch // all batches that are not under way
	translate translator
	dead      *deadLetters // nil: what cannot be applied stops the sink
	refill    refill
	seq       int64 // of the last event taken
	event     schema.Event
	batch     *batch
	side      *batch // being filled: it adds to a temporary key
	sideKey   []byte
	value     *partValue // whose parts are not complete; nil: none
	whole     *whole     // a command whose fragments are not complete; nil: none
	print     offsets.Print
	last      *offsets.Prints // of the last batch, nil at first
}

func (b *builder) run(ctx context.Context) error {
	if b.sink.cfg.SnapshotOnly && !b.refill.on {
		if err := b.sink.snapshotDone(ctx, b.seq); err != nil {
			return err
		}
	}
	for {
		records, err := b.consumer.Poll(ctx)
		if err != nil {
			if b.startsBehind(err) {
				continue
			}
			return b.sink.cfg.readError(err)
		}
		if records, err = b.verify(ctx, records); err != nil {
			return err
		}
		end := b.consumer.EndOffset()
		b.sink.update(func(st *Status) { st.EndOffset = end; st.CaughtUp = st.NextOffset >= end })
		for _, r := range records {
			if err := b.take(ctx, r); err != nil {
				return err
			}
		}
		if b.batch != nil && !b.batch.inGroup {
			if err := b.send(ctx); err != nil {
				return err
			}
		}
	}
}

// snapshotDone is ErrSnapshotDone if nothing is left to do for a sink that ends
// with a snapshot: the one before it was ended behind it, and the topic holds
// nothing more than HEARTBEATs.
func (s *Sink) snapshotDone(ctx context.Context, applied int64) error {
	tail, err := kafka.ReadTail(ctx, s.cfg.Kafka, s.cfg.Topic, 0)
	if err != nil {
		return s.cfg.readError(err)
	}
	var e schema.Event
	for _, r := range slices.Backward(tail.Records) {
		err := s.cfg.Decoder.Decode(ctx, r.Value, &e)
		switch {
		case errors.Is(err, schema.ErrRegistryUnavailable):
			return fmt.Errorf("topic %s, offset %d: waiting for the schema of this record: %w", s.cfg.Topic, r.Offset, err)
		case err != nil || e.Op != schema.OpControl: // what cannot be read is told when it is taken
			return nil
		case e.Command == schema.SnapshotEnd && e.Seq <= applied:
			return ErrSnapshotDone
		case e.Command != schema.Heartbeat:
			return nil
		}
	}
	return nil
}

// take adds one record to the batch and sends the batch when it is full.
func (b *builder) take(ctx context.Context, r *kgo.Record) error {
	if err := b.open(ctx); err != nil {
		return err
	}
	if r.Attrs.IsControl() {
		b.batch.next = max(b.batch.next, r.Offset+1)
		return nil
	}
	cfg := &b.sink.cfg
	e := &b.event
	if err := cfg.Decoder.Decode(ctx, r.Value, e); err != nil {
		return b.unreadable(ctx, r, err)
	}
	if err := b.check(e, r.Offset); err != nil {
		return b.repeated(ctx, r, e, err)
	}
	if err := cfg.atTarget(e); err != nil {
		return fmt.Errorf("topic %s, offset %d (seq %d): %w", cfg.Topic, r.Offset, e.Seq, err)
	}
	if b.skips(e, r.Offset) {
		b.batch.cover(e, r.Offset)
		b.seq = e.Seq
		return nil
	}
	if b.value != nil && !b.value.goesOn(e) {
		if err := b.abandon(ctx); err != nil {
			return err
		}
	}
	if e.Op == schema.OpControl && e.Command == schema.SnapshotEnd {
		if err := b.endSnapshot(ctx, e, r.Offset); err != nil {
			return err
		}
	}
	if e.IsRefresh() && b.batch != nil && b.batch.changes && b.batch.prints != nil && !b.batch.inGroup {
		// Which keys are in conflict is known behind the mark of what came before.
		if err := b.send(ctx); err != nil {
			return err
		}
	}
	if err := b.open(ctx); err != nil {
		return err
	}
	if e.Origin != cfg.Target && !offsets.IsReserved(e.Key) && !b.again(e) { // never apply what was born here, or a key of ours
		if err := b.admit(ctx, r, e); err != nil {
			return fmt.Errorf("topic %s, offset %d (seq %d): %w", cfg.Topic, r.Offset, e.Seq, err)
		}
	}
	if err := b.announce(e); err != nil {
		return fmt.Errorf("topic %s, offset %d (seq %d): %w", cfg.Topic, r.Offset, e.Seq, err)
	}
	b.batch.cover(e, r.Offset)
	b.batch.inGroup = b.batch.inGroup || b.value != nil
	b.seq = e.Seq
	if err := b.checkSize(b.batch); err != nil {
		return err
	}
	if b.batch.full() && !b.batch.inGroup || b.batch.ends {
		return b.send(ctx)
	}
	return nil
}

// checkSize refuses a batch that one EXEC cannot hold.
func (b *builder) checkSize(batch *batch) error {
	if len(batch.body) <= b.target.largest {
		return nil
	}
	cfg := &b.sink.cfg
	return &tooLargeError{fmt.Sprintf("topic %s, offset %d (seq %d): the transaction group here needs more than %d bytes in one EXEC, which would cut the target's replicas or this connection: "+
		"raise client-output-buffer-limit replica and client-query-buffer-limit at site %s above twice its size, then resume", cfg.Topic, batch.offset, batch.seq, b.target.largest, cfg.Target)}
}

// tooLargeError tells that one EXEC of the target cannot hold a batch.
type tooLargeError struct{ text string }

func (e *tooLargeError) Error() string { return e.text }

// add appends the commands of an event. What comes in parts is applied with
// the last one.
func (b *builder) add(ctx context.Context, e *schema.Event, offset int64) error {
	switch {
	case e.Part.Set && e.Op == schema.OpValue:
		return b.valuePart(ctx, e, offset)
	case e.Part.Set:
		return b.fragment(ctx, e, offset)
	}
	if (b.batch.prints != nil || b.sink.cfg.Scope.Keyed()) && e.Op == schema.OpTruncate && e.Command != "SWAPDB" {
		return b.wipe(ctx, e)
	}
	return b.translate.decidable(b.batch, e, offset)
}

// wipe makes FLUSHDB and FLUSHALL a batch of its own, behind what came before
// and before what follows.
func (b *builder) wipe(ctx context.Context, e *schema.Event) error {
	if !b.batch.empty() {
		if err := b.send(ctx); err != nil {
			return err
		}
		if err := b.open(ctx); err != nil {
			return err
		}
	}
	b.batch.wipe = &schema.Event{Op: e.Op, DB: e.DB, Command: e.Command, Seq: e.Seq, Seen: e.Seen}
	if err := b.send(ctx); err != nil {
		return err
	}
	return b.open(ctx)
}

// announce notes what the target's source must know of e when it passes the
// mark: at home what e touches, else only what it has seen.
func (b *builder) announce(e *schema.Event) error {
	cfg := &b.sink.cfg
	if b.batch.prints == nil {
		return nil
	}
	away := !cfg.Ledger.Home()
	if away && e.Op != schema.OpTruncate && e.Op != schema.OpControl {
		b.print = offsets.Print{Seq: e.Seq, Seen: e.Seen, Command: e.Command}
	} else if err := offsets.PrintOf(&b.print, e); err != nil {
		return err
	}
	if away && b.print.Touch.Kind == command.Swap {
		cfg.Ledger.Swapping(&b.print)
		b.print.Touch = command.Touch{}
	}
	b.batch.prints.Add(&b.print)
	return nil
}

// check holds the event's seq against the last one: dense, or nothing goes on.
func (b *builder) check(e *schema.Event, offset int64) error {
	first := b.seq == 0 && (e.Seq == 1 || e.Op == schema.OpControl && e.Command == schema.SnapshotBegin)
	covered := e.Seq > b.seq && b.refill.awaited()
	switch {
	case e.Seq == b.seq+1, first, covered:
		return nil
	case e.Seq <= b.seq:
		return &repeatedError{
			place:  fmt.Sprintf("topic %s, offset %d", b.sink.cfg.Topic, offset),
			what:   fmt.Sprintf("seq %d comes after seq %d: events stand there twice (something else wrote to the topic, or Kafka restored old data)", e.Seq, b.seq),
			remedy: b.sink.cfg.anew(),
		}
	case b.seq == 0:
		return fmt.Errorf("topic %s begins at offset %d with seq %d, which is neither the first event nor a snapshot: older events were removed by retention and %s has no mark. %s",
			b.sink.cfg.Topic, offset, e.Seq, b.sink.cfg.Target, b.sink.cfg.anew())
	}
	return fmt.Errorf("topic %s, offset %d: seq %d follows seq %d: events are missing (retention was shorter than the outage, or records were deleted). %s",
		b.sink.cfg.Topic, offset, e.Seq, b.seq, b.sink.cfg.anew())
}

func (b *builder) open(ctx context.Context) error {
	if b.batch != nil {
		return nil
	}
	if err := b.awaitRoom(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case b.batch = <-b.free:
		b.batch.reset()
		b.batch.small = b.sink.full.Load()
		if b.sink.cfg.Ledger != nil {
			b.last = offsets.NewPrints(b.last)
			b.batch.prints = b.last
		}
		return nil
	}
}

// awaitRoom waits until the ledger has room for keys in conflict (G6), and says
// so when that takes long.
func (b *builder) awaitRoom(ctx context.Context) error {
	ledger := b.sink.cfg.Ledger
	if ledger == nil || ledger.HasRoom() {
		return nil
	}
	defer b.sink.tellIfSlow("the values of many keys in conflict are being published at " + b.sink.cfg.Target + ", and no more are made meanwhile")()
	return ledger.AwaitRoom(ctx)
}

// awaitApplied sends what is gathered and waits until all is applied.
func (b *builder) awaitApplied(ctx context.Context) error {
	if b.batch != nil && b.batch.empty() {
		b.free <- b.batch
		b.batch = nil
	} else if b.batch != nil {
		if err := b.send(ctx); err != nil {
			return err
		}
	}
	batches := make([]*batch, 0, cap(b.free))
	for range cap(b.free) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case idle := <-b.free:
			batches = append(batches, idle)
		}
	}
	for _, idle := range batches {
		b.free <- idle
	}
	return nil
}

func (b *builder) send(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case b.ready <- b.batch:
		b.batch = nil
		return nil
	}
}

// endSnapshot applies SNAPSHOT_END: what the snapshot lacks and its site once
// had is removed, before the mark passes this event.
func (b *builder) endSnapshot(ctx context.Context, e *schema.Event, offset int64) error {
	n, err := schema.ParseEnd(e.Args)
	if err != nil {
		return fmt.Errorf("topic %s, offset %d: %w", b.sink.cfg.Topic, offset, err)
	}
	if n.Interrupted > 0 || n.Gap {
		r := &removal{builder: b, end: n, seq: e.Seq, seen: e.Seen, offset: offset}
		if err := r.run(ctx); err != nil {
			return fmt.Errorf("removing what the snapshot lacks at %s: %w", b.sink.cfg.Target, err)
		}
	}
	if err := b.endRefill(ctx, e, offset); err != nil {
		return err
	}
	if b.sink.cfg.SnapshotOnly {
		if err := b.open(ctx); err != nil {
			return err
		}
		b.batch.ends = true
	}
	return nil
}
