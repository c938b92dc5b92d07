package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/schema"
)

// admit adds an event to the batch, or sets it aside if it cannot be applied.
func (b *builder) admit(ctx context.Context, r *kgo.Record, e *schema.Event) error {
	if b.dead == nil {
		return b.add(ctx, e, r.Offset)
	}
	touch := b.dead.touched(e)
	begun := b.begun(r.Offset)
	if answer, ok := b.sink.refused[r.Offset]; ok {
		if begun < r.Offset {
			return allRefused(begun, r.Offset, answer)
		}
		return b.setAside(ctx, r, e, touch, reason{causeRefused, answer})
	}
	if p, h, hit := b.dead.hit(touch); hit && (!replaces(e) || e.IsRefresh() && b.batch.prints != nil) { // such a value may be left out
		return b.setAside(ctx, r, e, touch, p.follower(h))
	}
	before := b.batch.end()
	err := b.add(ctx, e, r.Offset)
	if err == nil && b.batch.since(before) > b.target.largest {
		err = b.checkSize(b.batch)
	}
	if err == nil {
		return b.release(e, r.Offset)
	}
	why := reason{cause: causeMalformed}
	if large := (*tooLargeError)(nil); errors.As(err, &large) {
		why.cause = causeTooLarge
	}
	if ctx.Err() != nil || !concernsKeys(e.Op) {
		return err
	}
	why.text = err.Error()
	if begun < r.Offset { // the parts or fragments before it follow it
		return allRefused(begun, r.Offset, why.text)
	}
	if err := b.dropParts(ctx); err != nil {
		return err
	}
	b.batch.cutBack(before)
	return b.setAside(ctx, r, e, b.dead.touched(e), why)
}

// allRefused has the next session set aside a value or a command with all that
// came of it.
func allRefused(from, to int64, why string) error {
	all := map[int64]string{}
	for offset := from; offset <= to; offset++ {
		all[offset] = why
	}
	return &setAsideError{refused: all}
}

// setAside sends an event's record to the dead-letter topic and quarantines
// the keys that it writes.
func (b *builder) setAside(ctx context.Context, r *kgo.Record, e *schema.Event, touch *command.Touch, why reason) error {
	if err := b.dropParts(ctx); err != nil {
		return err
	}
	var known command.Touch
	if err := known.Of(e); err != nil && b.batch.prints != nil { // both sites have to know what an event touched
		return err
	}
	h := newHeld(e.Seq, r.Offset, why)
	if !b.dead.room(touch, nil) {
		return b.dead.tooMany(h)
	}
	for _, p := range b.dead.add(touch, h, replaces(e)) {
		b.dead.enter(b.batch, e, r.Offset, p, h)
	}
	b.batch.letters = append(b.batch.letters, b.dead.write(ctx, r, e.Seq, why))
	return nil
}

// dropParts forgets a value or a command whose next part will not come.
func (b *builder) dropParts(ctx context.Context) error {
	if b.value != nil {
		if err := b.abandon(ctx); err != nil {
			return err
		}
	}
	if b.whole == nil {
		return nil
	}
	b.dropSide()
	w := b.whole
	b.whole = nil
	for _, c := range w.cuts {
		s, err := b.adding(ctx, c.temp, &w.event, b.batch.offset)
		if err != nil {
			return err
		}
		b.translate.removeTemp(s, &w.event, b.batch.offset, c.temp)
		if err := b.sendSide(ctx); err != nil {
			return err
		}
	}
	b.batch.temps = b.batch.temps[:len(b.batch.temps)-len(w.cuts)]
	return nil
}

// release ends the quarantine of what an event has replaced or removed, in the
// same EXEC.
func (b *builder) release(e *schema.Event, offset int64) error {
	key := b.sink.cfg.quarantineKey()
	switch {
	case e.Op == schema.OpTruncate:
		b.rewrite(e, offset, key)
	case e.Op == schema.OpControl && e.Command == schema.SnapshotEnd:
		return b.removeAbsent(e, offset)
	}
	for _, p := range b.dead.repaired(e) {
		b.batch.keep(e, offset, "HDEL", key, p.member())
	}
	return nil
}

// removeAbsent removes, at the end of a snapshot, the keys that were
// quarantined before it and whose values it did not bring: their site has them
// no more. On a two-way link they wait for an event of their own, since home
// has to know what is removed.
func (b *builder) removeAbsent(e *schema.Event, offset int64) error {
	n, err := schema.ParseEnd(e.Args)
	if err != nil || b.batch.prints != nil {
		return err
	}
	here := b.sink.cfg.Scope.AtTarget()
	for _, p := range b.dead.sorted() {
		_, unread := b.dead.keys[place{schema.NoDB, p.key}] // which may have been its value
		if p.db == schema.NoDB || unread || !here.HasKey(p.db, []byte(p.key)) || b.dead.keys[p].seq >= n.Begin {
			continue
		}
		gone := &schema.Event{Op: schema.OpDelete, DB: p.db, Key: []byte(p.key), Command: "UNLINK", Seq: e.Seq}
		if err := b.translate.add(b.batch, gone, offset); err != nil {
			return err
		}
		if err := b.release(gone, offset); err != nil {
			return err
		}
	}
	return nil
}

// rewrite writes the quarantine anew behind FLUSHDB, FLUSHALL or SWAPDB, which
// may have taken the hash away or moved it.
func (b *builder) rewrite(e *schema.Event, offset int64, key string) {
	if len(b.dead.keys) == 0 {
		return
	}
	touch := b.dead.touched(e)
	b.dead.wiped(touch)
	if touch.Kind == command.Swap {
		b.dead.swapped = offset
	}
	for _, db := range touch.DBs {
		if touch.Kind == command.Swap {
			b.batch.ownIn(e, offset, db, "DEL", key)
		}
	}
	b.batch.keep(e, offset, "DEL", key)
	for _, p := range b.dead.sorted() {
		b.dead.enter(b.batch, e, offset, p, b.dead.keys[p])
	}
}

// unreadable sets aside a record that is no event. One that a source of
// Twinlog wrote, which its headers tell, had the next seq; one that something
// else wrote had none. So what follows is held against an exact seq, and the
// mark, which passes the record, tells it after a restart too.
func (b *builder) unreadable(ctx context.Context, r *kgo.Record, err error) error {
	cfg := &b.sink.cfg
	op, ours := header(r, schema.HeaderOp)
	why := ""
	switch {
	case errors.Is(err, schema.ErrRegistryUnavailable):
		return fmt.Errorf("topic %s, offset %d: waiting for the schema of this record: %w", cfg.Topic, r.Offset, err)
	case b.dead == nil, ctx.Err() != nil:
		why = "Nothing was skipped"
	case b.batch.prints != nil: // the source of this site has to read the record too
		why = "On a two-way link such a record is not set aside, since both sites have to know what each event touched"
	case ours && (len(op) != 1 || !concernsKeys(schema.Op(op[0]))):
		why = fmt.Sprintf("It is not set aside, since what it says (op %q) concerns more than a key", op)
	}
	if why != "" {
		return fmt.Errorf("topic %s, offset %d: %w: this record is not an event of this link, or damaged. %s. See what else writes to the topic. %s", cfg.Topic, r.Offset, err, why, cfg.anew())
	}
	e := &schema.Event{DB: schema.NoDB, Seq: b.seq, TsMs: r.Timestamp.UnixMilli()}
	var touch command.Touch
	if ours {
		e.Seq++
		if len(r.Key) > 0 {
			touch.Keys = append(touch.Keys, command.KeyTouch{DB: schema.NoDB, Name: r.Key, Written: true})
		}
	}
	return b.passBy(ctx, r, e, &touch, reason{causeUnreadable, err.Error()})
}

// repeated sets aside an event whose seq was there before, and whatever else
// check refuses it returns.
func (b *builder) repeated(ctx context.Context, r *kgo.Record, e *schema.Event, err error) error {
	var again *repeatedError
	if b.dead == nil || b.batch.prints != nil || !errors.As(err, &again) || !concernsKeys(e.Op) {
		return err
	}
	if err := b.sink.cfg.atTarget(e); err != nil {
		return fmt.Errorf("topic %s, offset %d: %w", b.sink.cfg.Topic, r.Offset, err)
	}
	e.Seq = b.seq // what the mark says behind it
	return b.passBy(ctx, r, e, b.dead.touched(e), reason{causeRepeated, again.what})
}

// passBy sets aside a record that is not one of the events that follow each
// other, and moves the end of the batch behind it.
func (b *builder) passBy(ctx context.Context, r *kgo.Record, e *schema.Event, touch *command.Touch, why reason) error {
	if err := b.setAside(ctx, r, e, touch, why); err != nil {
		return err
	}
	b.batch.next = r.Offset + 1
	if e.Seq == 0 { // before the first event: there is no mark yet that could pass it
		letters := b.batch.letters
		b.batch.letters = nil
		return b.dead.await(ctx, letters)
	}
	b.batch.seq, b.batch.offset, b.batch.tsMs, b.batch.quiet = e.Seq, r.Offset, e.TsMs, false
	b.batch.events++
	b.seq = e.Seq
	if b.batch.full() && !b.batch.inGroup {
		return b.send(ctx)
	}
	return nil
}

// header finds a header of a record.
func header(r *kgo.Record, name string) (value []byte, found bool) {
	for i := range r.Headers {
		if r.Headers[i].Key == name {
			return r.Headers[i].Value, true
		}
	}
	return nil, false
}

// batchEnd is how much a batch held at some moment.
type batchEnd struct {
	events, body, items, decisions, temps, widest int
	db                                            int32
	wipes                                         bool
}

func (b *batch) end() batchEnd {
	return batchEnd{b.events, len(b.body), len(b.items), len(b.decisions), len(b.temps), b.widest, b.db, b.wipes}
}

// since is how many bytes came since then; what was sent meanwhile does not
// count.
func (b *batch) since(e batchEnd) int {
	if b.events != e.events {
		return len(b.body)
	}
	return len(b.body) - e.body
}

// cutBack takes out what was added since then.
func (b *batch) cutBack(e batchEnd) {
	if b.events != e.events { // sent meanwhile: all that is here came since
		e = batchEnd{}
	}
	b.body, b.items, b.decisions, b.temps = b.body[:e.body], b.items[:e.items], b.decisions[:e.decisions], b.temps[:min(len(b.temps), e.temps)]
	b.widest, b.db, b.wipes = e.widest, e.db, e.wipes
}

// keep adds a command of the sink's own in database 0.
func (b *batch) keep(e *schema.Event, offset int64, words ...string) {
	b.ownIn(e, offset, 0, words...)
}

// ownIn adds a command of the sink's own.
func (b *batch) ownIn(e *schema.Event, offset int64, db int32, words ...string) {
	b.selectDB(e, offset, db)
	b.items = append(b.items, item{seq: e.Seq, offset: offset, db: db, command: words[0]})
	b.widest = max(b.widest, len(words))
	b.body = appendCommand(b.body, words...)
}
