package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
)

// removal removes, at a SNAPSHOT_END, keys that the finished snapshot lacks:
// those that an interrupted snapshot wrote, and behind a gap, in which
// deletions may have been missed, those that the snapshot's site is proved to
// have had: an event in its topic wrote them, or one of the target's own that
// it had seen (apply-rules 6). What else the target holds is told, not removed.
//
// Memory is bounded without a spill: everything is read once more for each
// slice of the key space that fits (G6). Removing is idempotent, so a crash
// in between only means doing it again.
type removal struct {
	*builder
	end         schema.End
	seq, seen   int64 // of the SNAPSHOT_END
	offset      int64
	seeds       [2]maphash.Seed
	slice, of   uint64
	suspects    map[keyHash]struct{} // at the target, not in the snapshot; behind a gap only
	kept        map[keyHash]struct{} // in the snapshot
	touch       command.Touch
	unproven    int64
	unprovenEgs []string
}

// keyHash stands for a key and its database: 128 bits, so that two keys are
// never taken for one.
type keyHash [2]uint64

const perKeyHash = 40 // bytes of a map entry

func (r *removal) run(ctx context.Context) error {
	if err := r.awaitApplied(ctx); err != nil {
		return err
	}
	r.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	keys := r.end.Keys
	if !r.end.Gap {
		keys += r.end.Begin - r.end.Interrupted // at most, of what was interrupted
	}
	var atTarget *redis.Conn
	if r.end.Gap {
		conn, err := redis.Dial(ctx, r.sink.cfg.Redis)
		if err != nil {
			return fmt.Errorf("target %s: %w", r.sink.cfg.Target, err)
		}
		defer conn.Close()
		defer r.sink.watch(conn)()
		atTarget = conn
		n, err := countKeys(ctx, conn)
		if err != nil {
			return fmt.Errorf("target %s: %w", r.sink.cfg.Target, err)
		}
		keys += n
	}
	r.of = uint64(keys*perKeyHash/max(r.sink.cfg.MaxMemory/4, 1<<20)) + 1
	for r.slice = range r.of {
		r.kept, r.suspects = map[keyHash]struct{}{}, map[keyHash]struct{}{}
		if err := r.readSnapshot(ctx); err != nil {
			return err
		}
		remove := r.removeInterrupted
		if r.end.Gap {
			remove = func(ctx context.Context) error { return r.removeProved(ctx, atTarget) }
		}
		if err := remove(ctx); err != nil {
			return err
		}
	}
	r.tell()
	if r.batch != nil && !r.batch.empty() {
		return r.send(ctx)
	}
	return nil
}

func countKeys(ctx context.Context, c *redis.Conn) (keys int64, err error) {
	info, err := redis.Info(ctx, c, "keyspace")
	for _, db := range redis.Keyspace(info) {
		keys += db.Keys
	}
	return keys, err
}

// readSnapshot reads which keys of the slice the snapshot has: all of it, or
// keys that it has would be removed.
func (r *removal) readSnapshot(ctx context.Context) error {
	next := r.end.Begin
	err := r.scan(ctx, r.sink.cfg.Topic, r.end.Begin, r.offset, func(e *schema.Event) error {
		switch {
		case e.Seq < r.end.Begin:
			return nil
		case e.Seq > next:
			return r.incomplete(next)
		}
		next = max(next, e.Seq+1)
		if e.Op == schema.OpValue {
			r.note(r.kept, e.DB, e.Key)
		}
		return nil
	})
	if err == nil && next < r.seq {
		return r.incomplete(next)
	}
	return err
}

func (r *removal) incomplete(missing int64) error {
	return fmt.Errorf("topic %s does not hold the snapshot as a whole any more: it begins with seq %d, and seq %d is gone, so which keys it lacks is not known. "+
		"Give the topic a retention (kafka.topic.retention) longer than a snapshot takes. %s", r.sink.cfg.Topic, r.end.Begin, missing, r.sink.cfg.anew())
}

// removeInterrupted removes what interrupted snapshots wrote.
func (r *removal) removeInterrupted(ctx context.Context) error {
	next := r.end.Interrupted
	return r.scan(ctx, r.sink.cfg.Topic, r.end.Interrupted, r.offset, func(e *schema.Event) error {
		if e.Seq > next && r.slice == 0 {
			r.sink.cfg.Log.Warn("retention has removed events of a snapshot that was interrupted: keys that only these hold are left here, twinlog verify finds them",
				"site", r.sink.cfg.Target, "topic", r.sink.cfg.Topic, "seq", next, "up_to", e.Seq-1)
		}
		next = max(next, e.Seq+1)
		if e.Op != schema.OpValue || e.Seq < r.end.Interrupted || e.Seq >= r.end.Begin {
			return nil
		}
		if !r.note(r.kept, e.DB, e.Key) { // once is enough
			return nil
		}
		return r.remove(ctx, e.DB, e.Key)
	})
}

// removeProved removes, of what the target holds and the snapshot lacks, the
// keys that the snapshot's site once had.
func (r *removal) removeProved(ctx context.Context, target *redis.Conn) error {
	err := r.eachInScope(ctx, target, func(db int32, key []byte) error {
		if h, mine := r.hash(db, key); mine {
			if _, kept := r.kept[h]; !kept {
				r.suspects[h] = struct{}{}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("target %s: %w", r.sink.cfg.Target, err)
	}
	prove := func(e *schema.Event) error {
		if len(r.suspects) == 0 {
			return nil
		}
		touch := &r.touch
		if err := touch.Of(e); err != nil {
			if r.dead == nil {
				return err
			}
			touch = r.dead.touched(e)
		}
		for i := range touch.Keys {
			k := &touch.Keys[i]
			h, mine := r.hash(k.DB, k.Name)
			if _, suspect := r.suspects[h]; !mine || !suspect || !k.Written || e.Op == schema.OpDelete {
				continue
			}
			delete(r.suspects, h)
			if err := r.remove(ctx, k.DB, k.Name); err != nil {
				return err
			}
		}
		return nil
	}
	if len(r.suspects) == 0 {
		return nil
	}
	err = r.scan(ctx, r.sink.cfg.Topic, 1, r.offset, func(e *schema.Event) error {
		if e.Seq >= r.end.Begin {
			return nil
		}
		return prove(e)
	})
	if err != nil {
		return err
	}
	if own := r.sink.cfg.OwnTopic; own != "" && r.seen > 0 && len(r.suspects) > 0 {
		err := r.scan(ctx, own, 1, 0, func(e *schema.Event) error {
			if e.Seq > r.seen {
				return errEnough
			}
			if err := prove(e); err != nil || e.Seq < r.seen {
				return err
			}
			return errEnough
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
	}
	return r.count(ctx, target)
}

// errEnough ends a scan.
var errEnough = errors.New("enough")

// count notes what is left: keys that the target alone is known to have had.
func (r *removal) count(ctx context.Context, target *redis.Conn) error {
	if len(r.suspects) == 0 {
		return nil
	}
	var verdict offsets.Verdict
	return r.eachInScope(ctx, target, func(db int32, key []byte) error {
		h, mine := r.hash(db, key)
		if _, suspect := r.suspects[h]; !mine || !suspect {
			return nil
		}
		if ledger := r.sink.cfg.Ledger; ledger != nil { // written here and on its way to the other site
			gone := r.deletion(db, key)
			if err := r.touch.Of(gone); err != nil {
				return err
			}
			if err := ledger.Decide(gone, &r.touch, true, &verdict); err != nil || verdict.LeaveOut {
				return err
			}
		}
		if r.unproven++; len(r.unprovenEgs) < mostUnprovenShown {
			r.unprovenEgs = append(r.unprovenEgs, fmt.Sprintf("%d:%q", db, key[:min(len(key), 64)]))
		}
		return nil
	})
}

const mostUnprovenShown = 20

// tell says what was not removed.
func (r *removal) tell() {
	r.sink.cfg.Metrics.unproven.Set(float64(r.unproven))
	if r.unproven > 0 {
		r.sink.cfg.Log.Warn("the snapshot behind a gap lacks keys that are here, and nothing proves that its site ever had them: they are left, delete them if they are not wanted",
			"site", r.sink.cfg.Target, "topic", r.sink.cfg.Topic, "keys", r.unproven, "first", r.unprovenEgs)
	}
}

// hash makes the hash of a key, and tells whether it is in the slice.
func (r *removal) hash(db int32, key []byte) (h keyHash, mine bool) {
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(db))
	for i := range h {
		var m maphash.Hash
		m.SetSeed(r.seeds[i])
		m.Write(n[:])
		m.Write(key)
		h[i] = m.Sum64()
	}
	return h, h[0]%r.of == r.slice
}

// note adds a key of the slice to a set and tells whether it was not there.
func (r *removal) note(set map[keyHash]struct{}, db int32, key []byte) bool {
	h, mine := r.hash(db, key)
	if !mine {
		return false
	}
	_, there := set[h]
	set[h] = struct{}{}
	return !there
}

func (r *removal) deletion(db int32, key []byte) *schema.Event {
	return &schema.Event{Op: schema.OpDelete, DB: db, Key: append([]byte(nil), key...), Command: "UNLINK", Seq: r.seq - 1, Seen: r.seen}
}

// remove adds one removal; the mark stays behind the event before SNAPSHOT_END.
func (r *removal) remove(ctx context.Context, db int32, key []byte) error {
	if offsets.IsReserved(key) {
		return nil
	}
	if err := r.open(ctx); err != nil {
		return err
	}
	gone := r.deletion(db, key)
	if err := r.translate.decidable(r.batch, gone, r.offset-1); err != nil {
		return err
	}
	r.batch.cover(gone, r.offset-1)
	r.sink.cfg.Metrics.snapshotRemoved.Inc()
	if r.batch.full() {
		return r.send(ctx)
	}
	return nil
}

// eachInScope visits the keys of the target that the direction writes.
func (r *removal) eachInScope(ctx context.Context, target *redis.Conn, visit func(db int32, key []byte) error) error {
	here := r.sink.cfg.Scope.AtTarget()
	return eachKey(ctx, target, func(db int32, key []byte) error {
		if !here.HasKey(db, key) {
			return nil
		}
		return visit(db, key)
	})
}

// eachKey visits all keys of a Redis but the reserved ones, some twice.
func eachKey(ctx context.Context, c *redis.Conn, visit func(db int32, key []byte) error) error {
	info, err := redis.Info(ctx, c, "keyspace")
	if err != nil {
		return err
	}
	for _, db := range redis.Keyspace(info) {
		reply, err := c.Do(ctx, "SELECT", strconv.Itoa(db.Number))
		if err := errors.Join(err, reply.Err()); err != nil {
			return fmt.Errorf("selecting db %d: %w", db.Number, err)
		}
		err = redis.Scan(ctx, c, "*", func(key []byte) error {
			if offsets.IsReserved(key) {
				return nil
			}
			return visit(int32(db.Number), key)
		})
		if err != nil {
			return fmt.Errorf("db %d: %w", db.Number, err)
		}
	}
	return nil
}

// scan reads a topic once more, from the event with seq from up to and without
// offset end; 0: until visit ends it. An event's offset is never below its
// seq - 1, but often far above: the log may begin in between. What retention has
// removed is passed over: it proves nothing. So is what comes before a snapshot
// that fills the target again.
func (r *removal) scan(ctx context.Context, topic string, from, end int64, visit func(*schema.Event) error) error {
	cfg := &r.sink.cfg
	start := max(from-1, r.refill.offset)
	c, err := kafka.NewConsumer(ctx, kafka.ConsumerConfig{Client: cfg.Kafka, Topic: topic, Partition: 0, Offset: start, FromStart: start == 0, MaxBytes: cfg.MaxMemory / 4})
	if err != nil {
		return fmt.Errorf("reading %s again from offset %d: %w", topic, start, err)
	}
	defer c.Close()
	var e schema.Event
	for begun := false; ; {
		records, err := c.Poll(ctx)
		var gone *kafka.RangeError
		if errors.As(err, &gone) && gone.Offset < gone.Start {
			if end > 0 && gone.Start >= end {
				return nil
			}
			c.ReadFrom(gone.Start)
		} else if err != nil {
			return fmt.Errorf("reading %s again: %w", topic, err)
		}
		for _, record := range records {
			if end > 0 && record.Offset >= end {
				return nil
			}
			if record.Attrs.IsControl() {
				continue
			}
			if err := cfg.Decoder.Decode(ctx, record.Value, &e); err != nil {
				if r.provesNothing(record, begun, err) {
					continue
				}
				return fmt.Errorf("topic %s, offset %d: %w", topic, record.Offset, err)
			}
			if topic == cfg.Topic {
				if err := cfg.atTarget(&e); err != nil {
					return fmt.Errorf("topic %s, offset %d: %w", topic, record.Offset, err)
				}
			}
			begun = begun || e.Seq >= r.end.Begin
			if err := visit(&e); err != nil {
				return err
			}
		}
	}
}

// provesNothing tells whether a record that cannot be read was set aside and
// may be passed over: not where the snapshot is, whose key it may be.
func (r *removal) provesNothing(record *kgo.Record, begun bool, err error) bool {
	_, ours := header(record, schema.HeaderOp)
	return r.dead != nil && (!begun || !ours) && !errors.Is(err, schema.ErrRegistryUnavailable)
}
