package app_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/offsets"
	"twinlog/schema"
)

// rebuild puts the events of both topics into one, in home's order: what the
// other site did comes where home's next event says that it was seen. What
// home left out, because it had written the same and the other site had not
// seen that, is left out here too; the ledger that decides it knows home's own
// events, as home's own did. A snapshot of home stands for all that was before;
// one of the other site removes what it lacks and what the topics prove that
// it had.
type rebuild struct {
	c      *chaos
	out    *kgo.Client
	encode *schema.Encoder
	errs   chan error
	seq    int64 // of the last event put out

	peer   *topicReader
	passed int64 // the other site's events up to here have been put out
	ledger *offsets.Ledger
	touch  command.Touch

	keys map[rebuiltKey]*written
}

type rebuiltKey struct {
	db   int32
	name string
}

// written are seqs of events that wrote a key; 0: none.
type written struct {
	home  int64 // home's first one
	peer  int64 // the other site's first one
	value int64 // the other site's last one with the whole value
}

// rebuild returns the seq of the last event.
func (c *chaos) rebuild(ctx context.Context, topic string) (last int64, err error) {
	out, err := kgo.NewClient(kgo.SeedBrokers(c.kafka.Brokers()...), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(2<<20))
	if err != nil {
		return 0, err
	}
	defer out.Close()
	b := &rebuild{
		c: c, out: out, encode: schema.NewEncoder(0), errs: make(chan error, 1),
		ledger: offsets.NewLedger(offsets.LedgerConfig{Site: "a", Home: true, Dir: c.t.TempDir(), MaxMemory: 128 << 20, MaxDisk: 1 << 40}),
		keys:   map[rebuiltKey]*written{},
	}
	home, err := c.readTopic(ctx, "a-to-b", 0)
	if err != nil {
		return 0, err
	}
	defer home.consumer.Close()
	if b.peer, err = c.readTopic(ctx, "b-to-a", 0); err != nil {
		return 0, err
	}
	defer func() { b.peer.consumer.Close() }()
	for {
		e, ok, err := home.read(ctx)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		if err := b.own(ctx, &e); err != nil {
			return 0, err
		}
	}
	if err := b.passTo(ctx, 1<<62); err != nil { // what home has not answered
		return 0, err
	}
	err = out.Flush(ctx)
	select {
	case failed := <-b.errs:
		err = errors.Join(err, failed)
	default:
	}
	return b.seq, errors.Join(err, b.ledger.Close())
}

// own takes home's next event.
func (b *rebuild) own(ctx context.Context, e *schema.Event) error {
	if e.Seen < b.passed { // home went back, or was emptied
		b.peer.consumer.Close()
		var err error
		if b.peer, err = b.c.readTopic(ctx, "b-to-a", e.Seen); err != nil {
			return err
		}
		b.passed = e.Seen
	}
	if err := b.passTo(ctx, e.Seen); err != nil {
		return err
	}
	if err := b.ledger.Own(e); err != nil {
		return err
	}
	err := b.note(e, func(w *written) *int64 { return &w.home })
	switch {
	case err != nil:
		return err
	case e.Op != schema.OpControl:
		return b.put(ctx, e)
	case e.Command == schema.SnapshotBegin, e.Command == schema.SnapshotRequest && string(e.Args[0]) == "1": // emptied
		return b.put(ctx, &schema.Event{Op: schema.OpTruncate, DB: schema.NoDB, Command: "FLUSHALL"})
	}
	return nil
}

// note remembers which keys an event wrote, if it is the first one.
func (b *rebuild) note(e *schema.Event, first func(*written) *int64) error {
	if err := b.touch.Of(e); err != nil {
		return err
	}
	for i := range b.touch.Keys {
		if !b.touch.Keys[i].Written || e.Op == schema.OpDelete {
			continue
		}
		k := rebuiltKey{b.touch.Keys[i].DB, string(b.touch.Keys[i].Name)}
		if b.keys[k] == nil {
			b.keys[k] = &written{}
		}
		if seq := first(b.keys[k]); *seq == 0 {
			*seq = e.Seq
		}
		if e.Op == schema.OpValue && e.Origin != "a" {
			b.keys[k].value = e.Seq
		}
	}
	return nil
}

// passTo puts out what the other site did, up to a seq.
func (b *rebuild) passTo(ctx context.Context, seq int64) error {
	for b.passed < seq {
		e, ok, err := b.peer.read(ctx)
		if err != nil || !ok {
			return err
		}
		if e.Seq != b.passed+1 {
			return fmt.Errorf("seq %d of site b follows %d", e.Seq, b.passed)
		}
		b.passed = e.Seq
		if err := b.theirsComes(ctx, &e); err != nil {
			return err
		}
	}
	return nil
}

// theirsComes decides about an event of the other site.
func (b *rebuild) theirsComes(ctx context.Context, e *schema.Event) error {
	err := b.note(e, func(w *written) *int64 { return &w.peer })
	switch {
	case err != nil:
		return err
	case e.Op == schema.OpControl && e.Command == schema.SnapshotEnd:
		return b.endSnapshot(ctx, e)
	case e.Op == schema.OpControl:
		return nil
	case e.Op == schema.OpTruncate:
		return b.wipe(ctx, e)
	}
	if !offsets.Decides(e) {
		return b.put(ctx, e)
	}
	if err := b.touch.Of(e); err != nil {
		return err
	}
	var v offsets.Verdict
	if err := b.ledger.Decide(e, &b.touch, false, &v); err != nil || v.LeaveOut {
		return err
	}
	if v.Elements != nil {
		e.Args = append([][]byte{e.Args[0]}, v.Elements...)
	}
	return b.put(ctx, e)
}

// endSnapshot removes what an interrupted snapshot of the other site had and
// the finished one lacks, and behind a gap all that it is proved to have had.
func (b *rebuild) endSnapshot(ctx context.Context, e *schema.Event) error {
	end, err := schema.ParseEnd(e.Args)
	if err != nil {
		return err
	}
	return b.removeAll(ctx, e, func(_ rebuiltKey, w *written) bool {
		switch {
		case w.value >= end.Begin: // the snapshot has it
			return false
		case end.Gap:
			return w.peer > 0 && w.peer < end.Begin || w.home > 0 && w.home <= e.Seen
		}
		return end.Interrupted > 0 && w.value >= end.Interrupted
	})
}

// wipe removes all keys that either site has ever had.
func (b *rebuild) wipe(ctx context.Context, e *schema.Event) error {
	if e.Command == "SWAPDB" {
		return errors.New("SWAPDB is not exact, so it cannot be rebuilt")
	}
	return b.removeAll(ctx, e, func(k rebuiltKey, _ *written) bool { return e.DB == schema.NoDB || e.DB == k.db })
}

func (b *rebuild) removeAll(ctx context.Context, e *schema.Event, which func(rebuiltKey, *written) bool) error {
	for k, w := range b.keys {
		if !which(k, w) {
			continue
		}
		if err := b.remove(ctx, k, e); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a key for an event of the other site, unless home has
// written it since.
func (b *rebuild) remove(ctx context.Context, k rebuiltKey, e *schema.Event) error {
	gone := &schema.Event{Op: schema.OpDelete, DB: k.db, Key: []byte(k.name), Command: "UNLINK", Seq: e.Seq, Seen: e.Seen}
	if err := b.touch.Of(gone); err != nil {
		return err
	}
	var v offsets.Verdict
	if err := b.ledger.Decide(gone, &b.touch, false, &v); err != nil || v.LeaveOut {
		return err
	}
	return b.put(ctx, gone)
}

// put adds an event to the topic. What was done at once may come apart.
func (b *rebuild) put(ctx context.Context, e *schema.Event) error {
	b.seq++
	e.Origin, e.Seq, e.Seen, e.Transaction = "a", b.seq, 0, schema.OptTransaction{}
	b.out.Produce(ctx, &kgo.Record{
		Key: append([]byte(nil), e.Key...), Value: b.encode.Append(nil, e),
		Headers: []kgo.RecordHeader{{Key: schema.HeaderOrigin, Value: []byte("a")}, {Key: schema.HeaderOp, Value: []byte{byte(e.Op)}}},
	}, func(_ *kgo.Record, err error) {
		if err == nil {
			return
		}
		select {
		case b.errs <- err:
		default: // the first one tells enough
		}
	})
	return nil
}
