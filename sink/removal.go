package sink

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

// keyHash stands for a key and its database: 128 bits, so that two keys are
// never taken for one.
type keyHash [2]uint64

// removeInterrupted removes the keys that have a value event in an unfinished
// epoch (seqs from..begin) and none in the finished one (begin..end).
//
// Memory is bounded without a spill: the topic is read once more for each
// slice of the key space that fits (G6). Removing is idempotent, so a crash
// in between only means doing it again.
func (b *builder) removeInterrupted(ctx context.Context, n [3]int64, end *schema.Event, endOffset int64) error {
	keys, begin, from := n[0], n[1], n[2]
	endSeq, endSeen := end.Seq, end.Seen // the event's memory is used again
	seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	hash := func(e *schema.Event) keyHash {
		var h keyHash
		var db [4]byte
		binary.LittleEndian.PutUint32(db[:], uint32(e.DB))
		for i := range h {
			var m maphash.Hash
			m.SetSeed(seeds[i])
			m.Write(db[:])
			m.Write(e.Key)
			h[i] = m.Sum64()
		}
		return h
	}
	const perKey = 40 // bytes of a map entry
	slices := uint64(keys*perKey/max(b.sink.cfg.MaxMemory/4, 1<<20)) + 1
	for slice := range slices {
		kept := make(map[keyHash]struct{})
		mine := func(h keyHash) bool { return h[0]%slices == slice }
		err := b.scan(ctx, from, endOffset, func(e *schema.Event, _ int64) error {
			if e.Seq >= begin && e.Op == schema.OpValue {
				if h := hash(e); mine(h) {
					kept[h] = struct{}{}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = b.scan(ctx, from, endOffset, func(e *schema.Event, _ int64) error {
			if e.Seq < from || e.Seq >= begin || e.Op != schema.OpValue {
				return nil
			}
			h := hash(e)
			if _, there := kept[h]; there || !mine(h) {
				return nil
			}
			kept[h] = struct{}{} // once is enough
			return b.removeKey(ctx, &schema.Event{Op: schema.OpDelete, DB: e.DB, Key: append([]byte(nil), e.Key...), Seq: endSeq - 1, Seen: endSeen, TsMs: e.TsMs}, endOffset-1)
		})
		if err != nil {
			return err
		}
	}
	if b.batch != nil && !b.batch.empty() {
		return b.send(ctx)
	}
	return nil
}

// removeKey adds one removal; the mark stays behind the event before SNAPSHOT_END.
func (b *builder) removeKey(ctx context.Context, gone *schema.Event, offset int64) error {
	if offsets.IsReserved(gone.Key) {
		return nil
	}
	if err := b.open(ctx); err != nil {
		return err
	}
	if err := b.translate.decidable(b.batch, gone, offset); err != nil {
		return err
	}
	b.batch.cover(gone, offset)
	b.sink.cfg.Metrics.snapshotRemoved.Inc()
	if b.batch.full() {
		return b.send(ctx)
	}
	return nil
}

// scan reads the topic once more, from the event with seq from up to and
// without offset end. An event's offset is never below its seq - 1.
func (b *builder) scan(ctx context.Context, from, end int64, visit func(*schema.Event, int64) error) error {
	cfg := &b.sink.cfg
	c, err := kafka.NewConsumer(ctx, kafka.ConsumerConfig{Client: cfg.Kafka, Topic: cfg.Topic, Partition: 0, Offset: from - 1, MaxBytes: cfg.MaxMemory / 4})
	if err != nil {
		return fmt.Errorf("reading %s again from offset %d: %w", cfg.Topic, from-1, err)
	}
	defer c.Close()
	var e schema.Event
	for {
		records, err := c.Poll(ctx)
		if err != nil {
			return fmt.Errorf("reading %s again: %w", cfg.Topic, err)
		}
		for _, r := range records {
			if r.Offset >= end {
				return nil
			}
			if r.Attrs.IsControl() {
				continue
			}
			if err := cfg.Decoder.Decode(ctx, r.Value, &e); err != nil {
				return fmt.Errorf("topic %s, offset %d: %w", cfg.Topic, r.Offset, err)
			}
			if err := visit(&e, r.Offset); err != nil {
				return err
			}
		}
	}
}
