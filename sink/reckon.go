package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

// That a command failed inside an EXEC is told by its reply, when the mark has
// passed its event: a worker killed in between would never know. So the EXEC
// itself compares the server's count of errors before and behind its commands,
// and notes a difference in the quarantine's hash. Which ones failed the sink
// adds when it has read the replies.

// beginScript and endScript stand around the commands of an EXEC.
const (
	beginScript = `redis.call('HSET', KEYS[1], 'errors', string.match(redis.call('INFO', 'stats'), 'total_error_replies:(%d+)') or '')
return 0`
	endScript = `redis.call('SELECT', 0)
local before = redis.call('HGET', KEYS[1], 'errors')
redis.call('HDEL', KEYS[1], 'errors')
if before and before ~= (string.match(redis.call('INFO', 'stats'), 'total_error_replies:(%d+)') or '') then
  redis.call('HSET', KEYS[1], 'suspect', ARGV[1])
end
return 0`
)

// notes tells whether a batch notes that commands failed. On a two-way link
// they may: that is a conflict. What FLUSHDB, FLUSHALL or SWAPDB takes away
// cannot be compared behind it.
func (t *target) notes(b *batch) bool {
	return t.cfg.DeadLetter.Topic != "" && b.prints == nil && b.adds == nil && !b.wipes
}

// beginNote has the EXEC of b note whether commands failed, if any can.
func (t *target) beginNote(b *batch) {
	b.ahead = 0
	if !t.notes(b) || !slices.ContainsFunc(b.items, item.risky) {
		return
	}
	b.ahead = 1
	t.out = appendCommand(t.out, "EVAL", beginScript, "1", t.cfg.quarantineKey())
}

func (t *target) endNote(b *batch) {
	open := suspect{from: b.from}
	t.out = appendCommand(t.out, "EVAL", endScript, "1", t.cfg.quarantineKey(), open.text())
}

// risky tells whether a command can fail where it is applied. A value built
// from its elements cannot: what was there is removed first.
func (it item) risky() bool {
	switch it.op {
	case schema.OpWrite, schema.OpFunction:
		return true
	case schema.OpValue:
		return strings.HasPrefix(it.command, restoreOf) || it.command[0] == 'X' // of a stream
	case schema.OpDelete, schema.OpTruncate, schema.OpMessage, schema.OpControl:
	}
	return false
}

// mayHaveFailed tells the same of an event.
func mayHaveFailed(e *schema.Event) bool {
	it := item{op: e.Op, command: "SET"}
	switch e.Value.Kind {
	case schema.KindDump:
		it.command = restoreOf
	case schema.KindStream:
		it.command = "XADD"
	case schema.KindNone, schema.KindString, schema.KindList, schema.KindHash, schema.KindSet, schema.KindZSet:
	}
	return it.risky()
}

// reckoning sets aside what failed in an EXEC that has taken effect: it reads
// the events again that this EXEC applied.
type reckoning struct {
	*deadLetters
	ctx     context.Context //nolint:containedctx // of the one call that reckons
	open    *suspect
	fresh   quarantine // what became quarantined by these events
	letters []<-chan error
}

// reckon sets aside the events of open, the one EXEC that is not accounted
// for; nil: there is none.
func (d *deadLetters) reckon(ctx context.Context, t *target, open *suspect, mark offsets.Mark) error {
	s := d.sink
	var answers map[int64]string
	if s.failed != nil { // told by this process, which knows best
		open, answers = &s.failed.suspect, s.failed.answers
	}
	if open == nil {
		return nil
	}
	r := &reckoning{deadLetters: d, ctx: ctx, open: open, fresh: quarantine{keys: map[place]held{}}}
	if err := r.read(mark, answers); err != nil {
		return fmt.Errorf("reading again what had no effect at %s: %w", s.cfg.Target, err)
	}
	if err := d.await(ctx, r.letters); err != nil {
		return err
	}
	s.hook("reckoned")
	b := &batch{}
	e := schema.Event{Op: schema.OpControl, DB: schema.NoDB, Seq: mark.Seq}
	for _, p := range r.fresh.sorted() {
		h := r.fresh.keys[p]
		d.put(p, h)
		d.enter(b, &e, mark.Offset, p, h)
	}
	b.keep(&e, mark.Offset, "HDEL", s.cfg.quarantineKey(), fieldSuspect)
	if err := t.apply(context.WithoutCancel(ctx), b, mark); err != nil { // with the mark, so that it is no change of this site
		return err
	}
	s.failed = nil
	return nil
}

// read visits the events of that EXEC from the first one on that failed, if
// that is known. What retention has removed of them cannot be set aside any
// more: that stops the sink.
func (r *reckoning) read(mark offsets.Mark, answers map[int64]string) error {
	cfg := &r.sink.cfg
	from, known := r.open.from, len(r.open.offsets) > 0
	if known {
		from = r.open.offsets[0]
	}
	c, err := kafka.NewConsumer(r.ctx, kafka.ConsumerConfig{Client: cfg.Kafka, Topic: cfg.Topic, Partition: 0, Offset: from, FromStart: from == 0 && !known, MaxBytes: cfg.MaxMemory / 4})
	if err != nil {
		return err
	}
	defer c.Close()
	var e schema.Event
	for next := from; next <= mark.Offset; {
		records, err := c.Poll(r.ctx)
		if err != nil {
			return cfg.readError(err)
		}
		for _, record := range records {
			next = record.Offset + 1
			if record.Offset > mark.Offset || record.Attrs.IsControl() {
				continue
			}
			if err := cfg.Decoder.Decode(r.ctx, record.Value, &e); errors.Is(err, schema.ErrRegistryUnavailable) || r.ctx.Err() != nil {
				return err
			} else if err != nil { // it was set aside when the EXEC was built
				continue
			}
			if err := cfg.atTarget(&e); err != nil {
				return fmt.Errorf("topic %s, offset %d: %w", cfg.Topic, record.Offset, err)
			}
			if err := r.judge(record, &e, answers[record.Offset]); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge sets aside an event that failed, or that touches a key of one that
// did.
func (r *reckoning) judge(record *kgo.Record, e *schema.Event, answer string) error {
	if e.Origin == r.sink.cfg.Target || offsets.IsReserved(e.Key) {
		return nil
	}
	touch := r.touched(e)
	why, aside := r.verdict(record, e, answer)
	if !aside {
		why, aside = r.follows(e, touch)
	}
	if !aside {
		return nil
	}
	return r.setAside(record, e, touch, why)
}

// follows tells whether an event that took effect comes behind one that did
// not and built on what that wrote. What replaces a key ends this.
func (r *reckoning) follows(e *schema.Event, touch *command.Touch) (reason, bool) {
	if e.Op == schema.OpTruncate {
		r.fresh.wiped(touch)
		return reason{}, false
	}
	p, h, hit := r.fresh.hit(touch)
	if hit && replaces(e) {
		r.fresh.repaired(e)
		return reason{}, false
	}
	return p.follower(h), hit
}

// verdict tells whether an event failed itself, and why.
func (r *reckoning) verdict(record *kgo.Record, e *schema.Event, answer string) (reason, bool) {
	switch {
	case answer != "":
		return reason{causeNoEffect, answer}, true
	case slices.Contains(r.open.offsets, record.Offset):
		return reason{causeNoEffect, "the command had no effect at the target; what that answered is not known any more, the worker was killed since"}, true
	case len(r.open.offsets) == 0 && mayHaveFailed(e):
		return reason{causeUncertain, "the worker was killed before it read the target's answers, and at least one command of the same EXEC had failed there: this event may have taken effect"}, true
	}
	return reason{}, false
}

// setAside sends an event's record to the dead-letter topic and quarantines
// what it wrote.
func (r *reckoning) setAside(record *kgo.Record, e *schema.Event, touch *command.Touch, why reason) error {
	if _, h, before := r.hit(touch); before && why.cause != causeNoEffect && h.offset <= record.Offset { // it was set aside when the EXEC was built
		return nil
	}
	h := newHeld(e.Seq, record.Offset, why)
	if !r.fresh.room(touch, r.quarantine) {
		return r.tooMany(h)
	}
	r.fresh.add(touch, h, replaces(e))
	r.letters = append(r.letters, r.write(r.ctx, record, e.Seq, why))
	return nil
}
