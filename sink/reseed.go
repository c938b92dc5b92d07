package sink

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
)

// The target of a one-way link that lost its data, or the place in its topic,
// is emptied and filled again by a snapshot of the origin. (The site of a
// two-way link has a source, which does it: source/reseed.go.) The key by
// which it is known is written in the same EXEC, again with SNAPSHOT_BEGIN, and
// goes with SNAPSHOT_END: whoever is killed in between goes on.

// Reseed empties the target, as far as it is in scope. What the topic holds up
// to the next SNAPSHOT_BEGIN is not applied there any more. The sink must not
// run. The origin's source is to begin a snapshot afterwards if the target was
// emptied, which may be so with an error too: the answer may be lost.
func (s *Sink) Reseed(ctx context.Context) (emptied bool, err error) {
	conn, err := redis.Dial(ctx, s.cfg.Redis)
	if err != nil {
		return false, fmt.Errorf("target %s: %w", s.cfg.Target, err)
	}
	defer conn.Close()
	t := &target{cfg: &s.cfg, conn: conn, markKey: offsets.MarkKey(s.cfg.Link, s.cfg.Direction, s.cfg.Lane)}
	if err := t.inspect(ctx); err != nil {
		return false, err
	}
	old, _, err := t.readMark(ctx)
	if err != nil {
		return false, err
	}
	here := s.cfg.Scope.AtTarget()
	err = offsets.RefuseOtherLinks(&here, s.cfg.Link, s.cfg.Target, func(match string, visit func(key []byte) error) error {
		return redis.Scan(ctx, conn, match, visit)
	})
	if err != nil {
		return false, err
	}
	mark, _, err := s.endOfTopic(ctx)
	if err != nil {
		return false, err
	}
	mark.Generation = old.Generation + 1
	s.cfg.Log.Warn("re-seeding: the site is emptied and filled again by a snapshot of the other one", "site", s.cfg.Target, "seq", mark.Seq)
	commands := append(offsets.Emptying(&here, s.cfg.Link),
		[]string{"SET", t.markKey, mark.String()}, []string{"SET", offsets.ReseedKey(s.cfg.Link), s.cfg.Instance})
	if emptied, err = t.transaction(ctx, commands); err != nil {
		return emptied, fmt.Errorf("emptying target %s: %w", s.cfg.Target, err)
	}
	s.hook("reseeded")
	return true, nil
}

// endOfTopic is the mark of a target for which the topic holds nothing more,
// and the offset at which the topic begins.
func (s *Sink) endOfTopic(ctx context.Context) (mark offsets.Mark, start int64, err error) {
	mark = offsets.Mark{TopicID: s.cfg.TopicID, Offset: -1}
	tail, err := kafka.ReadTail(ctx, s.cfg.Kafka, s.cfg.Topic, 0)
	if err != nil {
		return mark, 0, s.cfg.readError(err)
	}
	if len(tail.Records) == 0 {
		return mark, tail.Start, nil
	}
	last := tail.Records[len(tail.Records)-1]
	var e schema.Event
	if err := s.cfg.Decoder.Decode(ctx, last.Value, &e); err != nil {
		return mark, 0, fmt.Errorf("topic %s, offset %d: %w", s.cfg.Topic, last.Offset, err)
	}
	mark.Seq, mark.Offset = e.Seq, last.Offset
	return mark, tail.Start, nil
}

// transaction runs commands in one MULTI, all or none. Unless its EXEC was
// refused, they may have run.
func (t *target) transaction(ctx context.Context, commands [][]string) (ran bool, err error) {
	t.conn.Command("MULTI")
	for _, c := range commands {
		t.conn.Command(c...)
	}
	t.conn.Command("EXEC")
	if err := t.conn.Flush(ctx); err != nil {
		return true, t.cut(err)
	}
	var refused error
	for range len(commands) + 1 {
		reply, err := t.receive(ctx)
		if err != nil {
			return true, err
		}
		refused = errors.Join(refused, reply.Err())
	}
	exec, err := t.receive(ctx)
	if err != nil {
		return true, err
	}
	for i := range exec.Elems {
		refused = errors.Join(refused, exec.Elems[i].Err())
	}
	if exec.Null {
		return false, errMarkMoved
	}
	return exec.Err() == nil, errors.Join(refused, exec.Err())
}

// refill is what a sink knows of a target that was emptied to be filled again:
// where in the topic the snapshot begins that fills it. Nothing that lies before
// was applied there.
type refill struct {
	on     bool
	begun  bool  // SNAPSHOT_BEGIN has come
	offset int64 // its
}

// awaited tells whether the snapshot is still to begin: what comes before is
// covered by it, also what is missing there.
func (r *refill) awaited() bool { return r.on && !r.begun }

// refilling reads whether the target is being filled again. One that was
// emptied by a worker that is gone, before its snapshot began, needs another.
func (s *Sink) refilling(ctx context.Context, t *target) (refill, error) {
	if s.cfg.Own != nil { // that source sees to it
		return refill{}, nil
	}
	key := offsets.ReseedKey(s.cfg.Link)
	reply, err := t.do(ctx, "GET", key)
	if err != nil || reply.Null {
		return refill{}, err
	}
	instance, offset, begun := strings.Cut(string(reply.Str), " ")
	r := refill{on: true, begun: begun}
	if begun {
		if r.offset, err = strconv.ParseInt(offset, 10, 64); err != nil {
			return r, fmt.Errorf("target %s, key %s: %q is not an offset", s.cfg.Target, key, offset)
		}
		return r, nil
	}
	if instance != s.cfg.Instance {
		s.cfg.Log.Warn("re-seeding was interrupted: asking for a snapshot again", "site", s.cfg.Target)
		if err := s.cfg.BeginSnapshot(ctx); err != nil {
			return r, fmt.Errorf("asking for the snapshot that fills target %s again: %w", s.cfg.Target, err)
		}
		if err := t.simple(ctx, "SET", key, s.cfg.Instance); err != nil {
			return r, err
		}
	}
	origin, _, _ := strings.Cut(s.cfg.Direction, "-to-")
	s.setWaiting(fmt.Sprintf("site %s was emptied and waits for the snapshot of site %s, which `twinlog resume source-%s --snapshot` begins if nothing does", s.cfg.Target, origin, origin))
	return r, nil
}

// skips tells whether e is not applied, since a snapshot that the target waits
// for covers it. With SNAPSHOT_BEGIN the waiting ends.
func (b *builder) skips(e *schema.Event, at int64) bool {
	if !b.refill.awaited() {
		return false
	}
	if e.Op != schema.OpControl || e.Command != schema.SnapshotBegin {
		return true
	}
	b.refill.begun, b.refill.offset = true, at
	b.batch.command(e, at, 0, "SET", 3)
	b.batch.text(offsets.ReseedKey(b.sink.cfg.Link))
	b.batch.text(b.sink.cfg.Instance + " " + strconv.FormatInt(at, 10))
	b.sink.setWaiting("")
	return false
}

// endRefill ends it with SNAPSHOT_END, which is e.
func (b *builder) endRefill(ctx context.Context, e *schema.Event, at int64) error {
	if !b.refill.on {
		return nil
	}
	if err := b.open(ctx); err != nil {
		return err
	}
	b.batch.command(e, at, 0, "DEL", 2)
	b.batch.text(offsets.ReseedKey(b.sink.cfg.Link))
	b.refill = refill{}
	return nil
}
