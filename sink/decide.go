package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"twinlog/internal/command"
	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
)

// On a two-way link an event that only removes, or replaces a whole value, is
// left out if this site has written what it would take away and the event had
// not seen that (rules D and R). The decision is made behind a fence: the keys
// are watched, then the site's own source has read everything up to there, so
// what was written before is in the ledger and what is written later makes
// EXEC fail (rule F).

// decision is an event of a batch about which the ledger is asked, and where
// its commands stand in the batch.
type decision struct {
	event            schema.Event // without its value
	from, to         int          // in the batch's body
	fromItem, toItem int          // in its items
	leftOut          bool
	conflict         offsets.Conflict // to be noted once it is applied; zero: none
}

// decidable appends the commands of e, and on a two-way link remembers them as
// a decision.
func (t *translator) decidable(b *batch, e *schema.Event, offset int64) error {
	if b.prints == nil || !offsets.Decides(e) {
		return t.add(b, e, offset)
	}
	return t.decision(b, e, offset, func() error { return t.add(b, e, offset) })
}

// decision remembers what add appends as a decision, on a two-way link.
func (t *translator) decision(b *batch, e *schema.Event, offset int64, add func() error) error {
	if b.prints == nil {
		return add()
	}
	b.selectDB(e, offset, e.DB) // stays, whatever is decided
	d := decision{from: len(b.body), fromItem: len(b.items)}
	if err := add(); err != nil {
		return err
	}
	d.to, d.toItem = len(b.body), len(b.items)
	d.event = schema.Event{Op: e.Op, DB: e.DB, Key: e.Key, Command: e.Command, Args: append([][]byte(nil), e.Args...), Seq: e.Seq, Seen: e.Seen, Part: e.Part}
	d.event.Value.Kind, d.event.Source.Snapshot = e.Value.Kind, e.Source.Snapshot
	b.decisions = append(b.decisions, d)
	return nil
}

// wholeKeyTries is after how many futile attempts a removal of elements is
// decided for its whole key: the key is written here so often that nothing
// finer can be decided in time. Home's value settles what that leaves out.
const wholeKeyTries = 8

// sendDecided applies a batch behind a fence, again and again until nothing
// was written in between.
func (a *applier) sendDecided(ctx context.Context, b *batch, mark offsets.Mark) error {
	for i := range b.decisions {
		b.decisions[i].leftOut, b.decisions[i].conflict = false, offsets.Conflict{}
	}
	defer a.sink.cfg.Ledger.SetFencing(false)
	for try := 0; ; try++ {
		attachment := a.sink.cfg.Ledger.Attachment()
		if err := a.watchTemps(ctx, b); err != nil {
			return err
		}
		if err := a.fence(ctx, b); err != nil {
			return err
		}
		decided, err := a.decide(b, try >= wholeKeyTries)
		if err != nil {
			return err
		}
		if a.sink.cfg.Ledger.Attachment() != attachment {
			continue // the source began anew: it may know more
		}
		a.sink.hook("decided")
		err = a.sendOnce(context.WithoutCancel(ctx), decided, mark)
		var data *DataError
		switch {
		case err == nil, errors.As(err, &data):
			a.countLeftOut(b)
			return err
		case !errors.Is(err, errTouched):
			return err
		}
		a.sink.cfg.Ledger.SetFencing(try > 2)
		a.sink.cfg.Metrics.retries.Inc()
	}
}

// fence watches what is decided about and waits until the site's own source
// has read up to there. EXISTS comes first: it removes what has expired, which
// WATCH does not notice (apply-rules 5).
func (a *applier) fence(ctx context.Context, b *batch) error {
	t := a.target
	replies := t.watchDecided(b)
	if err := t.conn.Flush(ctx); err != nil {
		return &cutError{fmt.Errorf("target %s: watching keys: %w", t.cfg.Target, err)}
	}
	var reply redis.Reply
	for range replies {
		var err error
		if reply, err = t.receive(ctx); err != nil {
			return err
		}
		if err := reply.Err(); err != nil {
			return t.refused("WATCH", err)
		}
	}
	if err := t.noteFence(redis.ParseInfo(string(reply.Str))); err != nil { // INFO is the last
		return err
	}
	return a.awaitRead(ctx)
}

// watchDecided adds EXISTS and WATCH of the keys that are not left out yet,
// WATCH of the barrier, behind which values may have become known, and INFO,
// which tells how long the stream is then.
func (t *target) watchDecided(b *batch) (replies int) {
	db := int32(0)
	t.out = t.out[:0]
	for from := 0; from < len(b.decisions); {
		n, to := 0, from
		for ; to < len(b.decisions) && b.decisions[to].event.DB == b.decisions[from].event.DB; to++ {
			if !b.decisions[to].leftOut {
				n++
			}
		}
		group := b.decisions[from:to]
		from = to
		if n == 0 {
			continue
		}
		if group[0].event.DB != db {
			db = group[0].event.DB
			t.out = appendCommand(t.out, "SELECT", strconv.Itoa(int(db)))
			replies++
		}
		names := []string{"EXISTS", "WATCH"}
		if slices.ContainsFunc(group, func(d decision) bool { return d.event.IsRefresh() }) {
			// A value that is no change must not undo an expiry in its own EXEC:
			// what expires behind this makes that EXEC fail.
			names = append(names, "EXISTS")
		}
		for _, name := range names {
			t.out = appendArray(t.out, 1+n)
			t.out = appendText(t.out, name)
			for i := range group {
				if !group[i].leftOut {
					t.out = appendBulk(t.out, group[i].event.Key)
				}
			}
		}
		replies += len(names)
	}
	t.out = appendCommand(t.out, "SELECT", "0")
	t.out = appendCommand(t.out, "WATCH", offsets.BarrierKey(t.cfg.Link))
	t.out = appendCommand(t.out, "INFO", "replication")
	t.conn.Raw(t.out)
	return replies + 3
}

// awaitRead waits for the site's own source, and says so when it takes long.
func (a *applier) awaitRead(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, time.Second)
	err := a.sink.cfg.Own.AwaitRead(soon, a.target.replid, a.target.replOffset)
	cancel()
	if err == nil || ctx.Err() != nil {
		return err
	}
	a.sink.setWaiting("a removal has to know what was written here: " + err.Error())
	defer a.sink.setWaiting("")
	soon, cancel = context.WithTimeout(ctx, longFence)
	defer cancel()
	if err := a.sink.cfg.Own.AwaitRead(soon, a.target.replid, a.target.replOffset); err != nil {
		return &waitError{text: "a removal has to know what was written here: " + err.Error()}
	}
	return nil
}

// longFence is how long a fence waits before the target is asked again where
// it stands: it may have another history by then.
const longFence = 10 * time.Second

// decide asks the ledger about every decision and returns the batch as it is
// to be sent.
func (a *applier) decide(b *batch, whole bool) (*batch, error) {
	out := &a.decided
	body, items := out.body[:0], out.items[:0]
	*out = *b
	at, atItem := 0, 0
	for i := range b.decisions {
		d := &b.decisions[i]
		if !d.leftOut {
			if err := a.touch.Of(&d.event); err != nil {
				return nil, err
			}
			if err := a.sink.cfg.Ledger.Decide(&d.event, &a.touch, whole, &a.verdict); err != nil {
				return nil, fmt.Errorf("deciding about seq %d at site %s: %w", d.event.Seq, a.sink.cfg.Target, err)
			}
			d.conflict = offsets.Conflict{}
			if !a.verdict.LeaveOut && a.verdict.Elements == nil {
				continue // goes with what stands around it
			}
			d.leftOut, d.conflict = a.verdict.LeaveOut, a.verdict.Conflict
		}
		body, items = append(body, b.body[at:d.from]...), append(items, b.items[atItem:d.fromItem]...)
		at, atItem = d.to, d.toItem
		if !d.leftOut {
			body = appendRemoval(body, &d.event, a.verdict.Elements)
			items = append(items, b.items[d.fromItem])
		}
	}
	body, items = append(body, b.body[at:]...), append(items, b.items[atItem:]...)
	out.body, out.items = body, items
	return out, nil
}

// appendRemoval is the command of e for some of its elements.
func appendRemoval(body []byte, e *schema.Event, elements [][]byte) []byte {
	n := 2 + len(elements)
	if e.Command == "HDEL" {
		n++
	}
	body = appendArray(body, n)
	body = appendText(body, e.Command)
	body = appendBulk(body, e.Key)
	for _, x := range elements {
		body = appendBulk(body, x)
	}
	if e.Command == "HDEL" { // not the target's own (apply-rules 2)
		body = appendBulk(body, elements[0])
	}
	return body
}

// countLeftOut notes and counts what was left out, by kind.
func (a *applier) countLeftOut(b *batch) {
	for i := range b.decisions {
		d := &b.decisions[i]
		if d.conflict.Rule != "" {
			a.sink.cfg.Ledger.Conflicts().Note(d.conflict)
		}
		if !d.leftOut {
			continue
		}
		kind := leftOutDeletion
		switch {
		case d.event.Op == schema.OpValue:
			kind = leftOutValue
		case b.wipe != nil:
			kind = leftOutFlush
		case d.event.Op == schema.OpWrite && a.touch.Of(&d.event) == nil && a.touch.Kind == command.Removal:
			kind = leftOutElement
		case d.event.Op == schema.OpWrite:
			kind = leftOutPop
		}
		a.sink.cfg.Metrics.leftOut[kind].add(1)
	}
}

// wipe does FLUSHDB or FLUSHALL key by key, since it must leave keys that have
// been written here meanwhile, and keys out of scope. The mark stays behind the event
// before, so a flush that was interrupted is done again.
func (a *applier) wipe(ctx context.Context, b *batch) error {
	e := b.wipe
	if a.sink.cfg.Ledger != nil {
		if err := a.recall(ctx, e.Seen); err != nil {
			return err
		}
	}
	databases := []string{strconv.Itoa(int(e.DB))}
	if e.DB == schema.NoDB {
		var err error
		if databases, err = a.target.databases(ctx); err != nil {
			return err
		}
	}
	for _, name := range databases {
		db, err := strconv.ParseInt(name, 10, 32)
		if err != nil {
			return fmt.Errorf("target %s: %q is not a database", a.sink.cfg.Target, name)
		}
		for cursor := "0"; ; {
			if err := a.target.simple(ctx, "SELECT", name); err != nil {
				return err
			}
			reply, err := a.target.do(ctx, "SCAN", cursor, "COUNT", "1000")
			if err != nil {
				return err
			}
			if len(reply.Elems) != 2 {
				return fmt.Errorf("target %s answers SCAN with %d elements", a.sink.cfg.Target, len(reply.Elems))
			}
			cursor = string(reply.Elems[0].Str)
			if err := a.wipeKeys(ctx, e, int32(db), reply.Elems[1].Elems); err != nil {
				return err
			}
			if cursor == "0" {
				break
			}
		}
	}
	return a.target.simple(ctx, "SELECT", "0")
}

// wipeKeys removes some keys of a database.
func (a *applier) wipeKeys(ctx context.Context, e *schema.Event, db int32, keys []redis.Reply) error {
	b := &batch{wipe: e}
	if a.sink.cfg.Ledger != nil {
		b.prints = &offsets.Prints{}
	}
	t := translator{}
	for i := range keys {
		if offsets.IsReserved(keys[i].Str) || !a.sink.cfg.Scope.HasName(keys[i].Str) {
			continue
		}
		gone := schema.Event{Op: schema.OpDelete, DB: db, Key: append([]byte(nil), keys[i].Str...), Command: "UNLINK", Seq: e.Seq, Seen: e.Seen}
		if err := t.decidable(b, &gone, a.mark.Offset); err != nil {
			return err
		}
	}
	if len(b.items) == 0 {
		return nil
	}
	err := a.target.simple(ctx, "SELECT", "0") // the mark's
	switch {
	case err != nil:
	case len(b.decisions) > 0:
		err = a.sendDecided(ctx, b, a.mark)
	default:
		err = a.sendOnce(context.WithoutCancel(ctx), b, a.mark)
	}
	if err == nil {
		a.sink.cuts.forget() // the mark does not tell that it went on
	}
	return err
}
