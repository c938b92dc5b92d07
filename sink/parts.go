package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"twinlog/internal/command"
	"twinlog/offsets"
	"twinlog/schema"
)

// What is too big for one event comes in parts, and what is too big for one
// batch is built under a temporary key, in batches of its own that leave the
// mark where it is. It is used by the EXEC that holds the last part: a value
// is moved to its key, an argument is read by a script. A sink that is
// interrupted goes on from the mark, so it begins again with the first part,
// and removes temporary keys that it finds when it begins.
//
// Whatever takes a temporary key away meanwhile (a local FLUSHDB, an eviction)
// is noticed by its length: each batch that adds to it tells the length before
// and behind, and the last EXEC watches it (apply-rules 6).

const (
	// fill is how much of a batch is filled before the next command begins
	// another one, and most how many bytes one command adds, if no single
	// element has more.
	fill        = batchBytes - mostAdded
	mostAdded   = 128 << 10
	mostAddedOf = 1000 // elements
)

// temp is a temporary key.
type temp struct {
	name []byte
	db   int32
	kind schema.Kind
	// length is what it held behind the last batch, in elements or bytes. It
	// is for the applier only.
	length int64
}

// lengths are the commands that tell how long a key is.
var lengths = map[schema.Kind]string{
	schema.KindString: "STRLEN", schema.KindList: "LLEN", schema.KindHash: "HLEN", schema.KindSet: "SCARD", schema.KindZSet: "ZCARD", schema.KindStream: "XLEN",
}

// errPartsLost tells that a temporary key is not what this sink made it.
var errPartsLost = errors.New("a value that was being built at the target in parts is not there any more (flushed, evicted): beginning again with its first part")

// partValue is a value whose parts are arriving.
type partValue struct {
	*temp
	key   []byte
	begin int64        // offset of the first part
	index int32        // of the last part
	held  schema.Value // its last element, with which the next part may go on

	// Of a stream.
	begun           bool   // it has an entry
	group, consumer []byte // the last ones met, with which the next part may go on
}

// goesOn tells whether e is the next part.
func (v *partValue) goesOn(e *schema.Event) bool {
	return e.Op == schema.OpValue && e.Part.Set && e.Part.Index == v.index+1 && e.DB == v.db && bytes.Equal(e.Key, v.key)
}

// newTemp is the next temporary key of the batch.
func (b *builder) newTemp(db int32, kind schema.Kind) *temp {
	cfg := &b.sink.cfg
	t := &temp{name: []byte(offsets.PartKey(cfg.Link, cfg.Direction, cfg.Lane, len(b.batch.temps))), db: db, kind: kind}
	b.batch.temps = append(b.batch.temps, t)
	return t
}

// adding makes the side batch one that has room for a command that adds to t.
func (b *builder) adding(ctx context.Context, t *temp, e *schema.Event, offset int64) (*batch, error) {
	if b.side != nil && (b.side.adds != t || len(b.side.body) >= fill || len(b.side.items) >= batchCommands) {
		if err := b.sendSide(ctx); err != nil {
			return nil, err
		}
	}
	if b.side != nil {
		return b.side, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case b.side = <-b.free:
	}
	b.side.reset()
	b.side.adds, b.sideKey = t, bytes.Clone(e.Key)
	b.side.cover(e, offset)
	b.side.lengthOf(t, e, offset)
	return b.side, nil
}

// sendSide sends what adds to a temporary key.
func (b *builder) sendSide(ctx context.Context) error {
	s := b.side
	if s == nil {
		return nil
	}
	e := schema.Event{Op: schema.OpValue, DB: s.adds.db, Key: b.sideKey, Seq: s.seq}
	s.lengthOf(s.adds, &e, s.offset)
	for i := range s.items { // messages name the key that is meant
		it := &s.items[i]
		it.key, it.fragments = b.sideKey, it.offset-b.begun(it.offset)
	}
	if err := b.checkSize(s); err != nil {
		return err
	}
	b.side = nil
	select {
	case <-ctx.Done():
		return ctx.Err()
	case b.ready <- s:
		return nil
	}
}

// begun is the offset at which the value or command began that the event at
// offset goes on with; offset, if it goes on with nothing.
func (b *builder) begun(offset int64) int64 {
	switch {
	case b.value != nil:
		return b.value.begin
	case b.whole != nil:
		return b.whole.begin
	}
	return offset
}

// dropSide forgets what would add to a temporary key that is not wanted any more.
func (b *builder) dropSide() {
	if b.side != nil {
		b.free <- b.side
		b.side = nil
	}
}

// lengthOf adds the command that tells how long t is.
func (b *batch) lengthOf(t *temp, e *schema.Event, offset int64) {
	b.command(e, offset, t.db, lengths[t.kind], 2)
	b.arg(t.name)
}

// firstLength is which reply of EXEC tells how long a temporary key was; the
// mark's is the first one.
func (b *batch) firstLength() int {
	if len(b.items) > 0 && b.items[0].command == "SELECT" {
		return 2
	}
	return 1
}

// checkLength holds what the target said about a temporary key, before and
// behind the commands that added to it, against what it should hold.
func (b *batch) checkLength(before, behind int64) error {
	if !b.adds.fits(before) {
		return errPartsLost
	}
	b.adds.length = behind
	return nil
}

// fits tells whether a temporary key of that length is what was built. Fields
// of a hash may have expired.
func (t *temp) fits(length int64) bool {
	return length == t.length || t.kind == schema.KindHash && length > 0 && length < t.length
}

// abandon drops a value whose last part will not come: its source was
// interrupted, and sends the value again.
func (b *builder) abandon(ctx context.Context) error {
	b.dropSide()
	t := b.value.temp
	e := schema.Event{Op: schema.OpValue, DB: t.db, Key: b.value.key, Seq: b.batch.seq}
	s, err := b.adding(ctx, t, &e, b.batch.offset)
	if err != nil {
		return err
	}
	b.value, b.batch.temps, b.batch.inGroup = nil, b.batch.temps[:len(b.batch.temps)-1], false
	b.translate.removeTemp(s, &e, b.batch.offset, t)
	return b.sendSide(ctx)
}

// valuePart adds one part of a value to its temporary key. The last one moves
// the value to its place.
func (b *builder) valuePart(ctx context.Context, e *schema.Event, offset int64) error {
	if lengths[e.Value.Kind] == "" {
		return fmt.Errorf("a part of key %q of the kind %d, which has no parts", shown(e.Key), e.Value.Kind)
	}
	switch {
	case b.value != nil:
		b.value.index++
	case e.Part.Index > 0:
		return fmt.Errorf("part %d of the value of key %q comes without the one before it", e.Part.Index, shown(e.Key))
	default:
		if !b.batch.empty() { // what came before need not wait
			if err := b.send(ctx); err != nil {
				return err
			}
			if err := b.open(ctx); err != nil {
				return err
			}
		}
		b.value = &partValue{temp: b.newTemp(e.DB, e.Value.Kind), key: bytes.Clone(e.Key), begin: offset}
	}
	v := b.value
	if e.Value.Kind != v.kind {
		return fmt.Errorf("part %d of the value of key %q has the kind %d, the one before %d", e.Part.Index, shown(e.Key), e.Value.Kind, v.kind)
	}
	if err := v.join(e); err != nil {
		return fmt.Errorf("part %d of the value of key %q: %w", e.Part.Index, shown(e.Key), err)
	}
	if err := b.addValue(ctx, v, e, offset); err != nil {
		return err
	}
	if !e.Part.Last {
		return nil
	}
	if err := b.sendSide(ctx); err != nil {
		return err
	}
	b.value = nil
	e.Part = schema.OptPart{}
	from := len(b.batch.items)
	err := b.translate.decision(b.batch, e, offset, func() error {
		b.translate.move(b.batch, e, offset, v.temp)
		if e.ExpireAt.Set {
			b.translate.expireAt(b.batch, e, offset, e.ExpireAt.Int64)
		}
		return nil
	})
	b.translate.removeTemp(b.batch, e, offset, v.temp) // if it was left out
	for i := from; i < len(b.batch.items); i++ {
		b.batch.items[i].fragments = offset - v.begin
	}
	return err
}

// join puts the element that was held back in front of the part's own, and
// holds back the part's last one, unless nothing can go on with it.
func (v *partValue) join(e *schema.Event) error {
	p, hold := &e.Value, !e.Part.Last
	goesOn := e.Part.Arg == 0 && e.Part.Index > 0
	h := &v.held
	var err error
	switch v.kind {
	case schema.KindList, schema.KindSet:
		err = rejoin(&h.Elements, &p.Elements, goesOn, hold, func(to, more *[]byte) { *to = append(*to, *more...) }, bytes.Clone)
	case schema.KindHash:
		err = rejoin(&h.Hash, &p.Hash, goesOn, hold, func(to, more *schema.HashEntry) {
			to.Value = append(to.Value, more.Value...)
		}, func(f schema.HashEntry) schema.HashEntry {
			f.Field, f.Value = bytes.Clone(f.Field), bytes.Clone(f.Value)
			return f
		})
	case schema.KindZSet:
		err = rejoin(&h.ZSet, &p.ZSet, goesOn, hold, func(to, more *schema.ZSetMember) {
			to.Member = append(to.Member, more.Member...)
		}, func(m schema.ZSetMember) schema.ZSetMember {
			m.Member = bytes.Clone(m.Member)
			return m
		})
	case schema.KindStream:
		err = rejoin(&h.Stream, &p.Stream, goesOn, hold && p.Meta == nil, joinEntry, func(s schema.StreamEntry) schema.StreamEntry {
			fields := make([][]byte, len(s.Fields))
			for i, f := range s.Fields {
				fields[i] = bytes.Clone(f)
			}
			return schema.StreamEntry{ID: s.ID, Fields: fields}
		})
	case schema.KindString, schema.KindDump, schema.KindNone:
	}
	return err
}

// joinEntry goes on with an entry's last field or value.
func joinEntry(to, more *schema.StreamEntry) {
	fields := more.Fields
	if n := len(to.Fields); n > 0 && len(fields) > 0 {
		to.Fields[n-1] = append(to.Fields[n-1], fields[0]...)
		fields = fields[1:]
	}
	for _, f := range fields {
		to.Fields = append(to.Fields, bytes.Clone(f))
	}
}

// rejoin moves the element in held to the front of part, or goes on with it,
// and holds back a copy of part's last one.
func rejoin[E any](held, part *[]E, goesOn, hold bool, add func(to, more *E), clone func(E) E) error {
	h, p := *held, *part
	if goesOn {
		if len(h) == 0 || len(p) == 0 {
			return errors.New("it goes on with an element that is not there")
		}
		add(&h[0], &p[0])
		p = p[1:]
	}
	switch {
	case len(h) > 0 && len(p) == 0 && hold: // it may go on further
		*part = nil
		return nil
	case len(h) > 0:
		p = append(h[:1:1], p...)
	}
	h = nil
	if n := len(p); hold && n > 0 {
		h = []E{clone(p[n-1])}
		p = p[:n-1]
	}
	*held, *part = h, p
	return nil
}

// addValue adds the commands that add a part to its temporary key.
func (b *builder) addValue(ctx context.Context, v *partValue, e *schema.Event, offset int64) error {
	t, p := &b.translate, &e.Value
	under := *e // the same under the temporary key
	under.Key = v.name
	add := func() (*batch, error) { return b.adding(ctx, v.temp, e, offset) }
	switch v.kind {
	case schema.KindString:
		return b.addBytes(ctx, v.temp, e, offset, p.Data)
	case schema.KindList, schema.KindSet:
		name := "RPUSH"
		if v.kind == schema.KindSet {
			name = "SADD"
		}
		return chunks(p.Elements, func(x *[]byte) int { return len(*x) }, func(some [][]byte) error {
			s, err := add()
			if err == nil {
				t.elements(s, &under, offset, name, some)
			}
			return err
		})
	case schema.KindHash:
		return chunks(p.Hash, func(f *schema.HashEntry) int { return len(f.Field) + len(f.Value) }, func(some []schema.HashEntry) error {
			s, err := add()
			if err == nil {
				under.Value.Hash = some
				t.hash(s, &under, offset)
			}
			return err
		})
	case schema.KindZSet:
		return chunks(p.ZSet, func(m *schema.ZSetMember) int { return len(m.Member) + 20 }, func(some []schema.ZSetMember) error {
			s, err := add()
			if err == nil {
				t.members(s, &under, offset, some)
			}
			return err
		})
	case schema.KindStream:
		return b.addStream(v, &under, offset, e.Part.Last, add)
	case schema.KindDump, schema.KindNone:
	}
	return nil
}

// addBytes adds data to a string.
func (b *builder) addBytes(ctx context.Context, t *temp, e *schema.Event, offset int64, data []byte) error {
	for len(data) > 0 {
		s, err := b.adding(ctx, t, e, offset)
		if err != nil {
			return err
		}
		n := min(len(data), mostAdded)
		s.command(e, offset, t.db, "APPEND", 3)
		s.arg(t.name)
		s.arg(data[:n])
		data = data[n:]
	}
	return nil
}

// chunks hands out elements, as many at a time as one command adds.
func chunks[E any](all []E, size func(*E) int, visit func([]E) error) error {
	for len(all) > 0 {
		n, bytes := 1, size(&all[0])
		for n < len(all) && n < mostAddedOf {
			if bytes += size(&all[n]); bytes > mostAdded {
				break
			}
			n++
		}
		if err := visit(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// addStream adds a part of a stream: entries, then groups.
func (b *builder) addStream(v *partValue, under *schema.Event, offset int64, last bool, add func() (*batch, error)) error {
	t := &b.translate
	for i := range under.Value.Stream {
		s, err := add()
		if err != nil {
			return err
		}
		t.entry(s, under, offset, &under.Value.Stream[i])
		v.begun = true
	}
	meta := under.Value.Meta
	if meta == nil {
		return nil
	}
	if !v.begun {
		s, err := add()
		if err != nil {
			return err
		}
		t.emptyStream(s, under, offset, meta)
		v.begun = true
	}
	for i := range meta.Groups {
		g := &meta.Groups[i]
		if v.group == nil || !bytes.Equal(v.group, g.Name) {
			s, err := add()
			if err != nil {
				return err
			}
			t.createGroup(s, under, offset, g)
			v.group, v.consumer = append([]byte{}, g.Name...), nil
		}
		for j := range g.Consumers {
			if err := b.addConsumer(v, under, offset, g, &g.Consumers[j], add); err != nil {
				return err
			}
		}
	}
	if !last {
		return nil
	}
	s, err := add()
	if err == nil {
		t.setID(s, under, offset, meta)
	}
	return err
}

func (b *builder) addConsumer(v *partValue, under *schema.Event, offset int64, g *schema.StreamGroup, c *schema.StreamConsumer, add func() (*batch, error)) error {
	if v.consumer == nil || !bytes.Equal(v.consumer, c.Name) {
		s, err := add()
		if err != nil {
			return err
		}
		b.translate.createConsumer(s, under, offset, g, c)
		v.consumer = append([]byte{}, c.Name...)
	}
	for i := range c.Pending {
		s, err := add()
		if err != nil {
			return err
		}
		b.translate.claim(s, under, offset, g, c, &c.Pending[i])
	}
	return nil
}

// whole is a command whose fragments are arriving.
type whole struct {
	event schema.Event // with copies of what has come
	begin int64        // offset of the first fragment
	index int32        // of the last one
	cuts  []cutArg
}

// cutArg is an argument that is built under a temporary key.
type cutArg struct {
	arg  int
	temp *temp
}

// fragment joins the fragments of a command. Arguments that were cut are built
// under temporary keys, unless the command is one that no script may run.
func (b *builder) fragment(ctx context.Context, e *schema.Event, offset int64) error {
	w := b.whole
	switch {
	case e.Part.Index == 0 && w == nil:
		w = &whole{event: schema.Event{Op: e.Op, DB: e.DB, Key: bytes.Clone(e.Key), Command: e.Command}, begin: offset}
		b.whole = w
	case w == nil || e.Part.Index != w.index+1 || e.Command != w.event.Command:
		return fmt.Errorf("fragment %d of %s on key %q comes without the one before it", e.Part.Index, e.Command, shown(e.Key))
	default:
		w.index++
	}
	inline := e.Op != schema.OpWrite || command.OnlyRemoves(e.Command)
	for i, a := range e.Args {
		have := len(w.event.Args)
		switch at := int(e.Part.Arg) + i; {
		case at == have:
			w.event.Args = append(w.event.Args, bytes.Clone(a))
		case at != have-1 || i > 0:
			return fmt.Errorf("fragment %d of %s on key %q begins with argument %d behind argument %d", e.Part.Index, e.Command, shown(e.Key), at, have-1)
		case inline:
			w.event.Args[at] = append(w.event.Args[at], a...)
		default:
			if err := b.addArg(ctx, w, e, offset, at, a); err != nil {
				return err
			}
		}
	}
	if !e.Part.Last {
		return nil
	}
	if err := b.sendSide(ctx); err != nil {
		return err
	}
	w.event.Seq, w.event.Seen, w.event.TsMs = e.Seq, e.Seen, e.TsMs
	from := len(b.batch.items)
	var err error
	if len(w.cuts) == 0 {
		err = b.translate.decidable(b.batch, &w.event, offset)
	} else {
		err = b.translate.writeCut(b.batch, &w.event, offset, w.cuts)
	}
	for i := from; i < len(b.batch.items); i++ {
		b.batch.items[i].fragments = offset - w.begin
	}
	if err == nil {
		b.whole = nil
	}
	return err
}

// addArg goes on with an argument of w.
func (b *builder) addArg(ctx context.Context, w *whole, e *schema.Event, offset int64, at int, more []byte) error {
	if n := len(w.cuts); n == 0 || w.cuts[n-1].arg != at {
		t := b.newTemp(e.DB, schema.KindString)
		w.cuts = append(w.cuts, cutArg{at, t})
		if err := b.addBytes(ctx, t, e, offset, w.event.Args[at]); err != nil {
			return err
		}
		w.event.Args[at] = nil
	}
	return b.addBytes(ctx, w.cuts[len(w.cuts)-1].temp, e, offset, more)
}

// argScript runs a command some of whose arguments lie under temporary keys:
// KEYS are the command's first key and these, ARGV are where they belong,
// parted by blanks, and the command.
const argScript = `local words, i = {}, 2
for w = 2, #ARGV do words[w - 1] = ARGV[w] end
for at in string.gmatch(ARGV[1], '%d+') do
  words[tonumber(at)] = redis.call('GET', KEYS[i])
  i = i + 1
end
return redis.call(unpack(words))`

// writeCut applies a command with arguments that lie under temporary keys.
func (t *translator) writeCut(b *batch, e *schema.Event, offset int64, cuts []cutArg) error {
	at, expires := command.ExpiryArg(e.Command, e.Args)
	if e.Command == "SET" && len(cuts) == 1 && cuts[0].arg == 1 && (len(e.Args) == 2 || len(e.Args) == 4 && expires) {
		t.move(b, e, offset, cuts[0].temp)
		if expires {
			ms, err := strconv.ParseInt(string(e.Args[at]), 10, 64)
			if err != nil {
				return fmt.Errorf("SET: %q is not a time in ms", e.Args[at])
			}
			t.expireAt(b, e, offset, ms)
		}
	} else if err := t.script(b, e, offset, cuts); err != nil {
		return err
	}
	for _, c := range cuts {
		t.removeTemp(b, e, offset, c.temp)
	}
	return nil
}

func (t *translator) script(b *batch, e *schema.Event, offset int64, cuts []cutArg) error {
	plain := batch{db: e.DB} // the command as it would be, to be wrapped
	if err := t.write(&plain, e, offset); err != nil {
		return err
	}
	words, body := count(plain.body)
	b.command(e, offset, e.DB, "EVAL", 5+len(cuts)+words)
	b.items[len(b.items)-1].command = e.Command
	b.text(argScript)
	b.number(int64(1 + len(cuts)))
	b.arg(e.Key)
	var places []byte
	for _, c := range cuts {
		b.arg(c.temp.name)
		places = append(strconv.AppendInt(places, int64(c.arg+2), 10), ' ') // behind the name, from 1
	}
	b.arg(places)
	b.body = append(b.body, body...)
	return nil
}

// move makes a key hold what a temporary one does. What was there is removed
// first: RENAME would free it at once, which takes long if it is big.
func (t *translator) move(b *batch, e *schema.Event, offset int64, from *temp) {
	t.remove(b, e, offset, e.Key)
	b.command(e, offset, e.DB, "RENAME", 3)
	b.arg(from.name)
	b.arg(e.Key)
}

func (t *translator) removeTemp(b *batch, e *schema.Event, offset int64, gone *temp) {
	b.command(e, offset, gone.db, "UNLINK", 2)
	b.arg(gone.name)
}

// watchTemps watches the temporary keys that b uses and checks that they are
// whole.
func (t *target) watchTemps(ctx context.Context, b *batch) error {
	t.out = t.out[:0]
	for _, temp := range b.temps {
		t.out = appendCommand(t.out, "SELECT", strconv.Itoa(int(temp.db)))
		t.out = appendCommand(t.out, "WATCH", string(temp.name))
		t.out = appendCommand(t.out, lengths[temp.kind], string(temp.name))
	}
	t.out = appendCommand(t.out, "SELECT", "0")
	t.conn.Raw(t.out)
	if err := t.conn.Flush(ctx); err != nil {
		return &cutError{fmt.Errorf("target %s: watching temporary keys: %w", t.cfg.Target, err)}
	}
	var lost error
	for i := range 3*len(b.temps) + 1 {
		reply, err := t.receive(ctx)
		if err != nil {
			return err
		}
		if err := reply.Err(); err != nil {
			return t.refused("WATCH", err)
		}
		if i%3 == 2 && !b.temps[i/3].fits(reply.Int) {
			lost = errPartsLost
		}
	}
	return lost
}

// clearTemps removes what a sink before this one was building. Temporary keys
// are numbered across databases, so a number may be in any of them.
func (t *target) clearTemps(ctx context.Context) error {
	databases, err := t.databases(ctx)
	if err != nil {
		return err
	}
	const some = 32
	for n, found := 0, int64(1); found > 0; n += some {
		gone := []string{"UNLINK"}
		for i := range some {
			gone = append(gone, offsets.PartKey(t.cfg.Link, t.cfg.Direction, t.cfg.Lane, n+i))
		}
		found = 0
		for _, name := range databases {
			if err := t.simple(ctx, "SELECT", name); err != nil {
				return err
			}
			reply, err := t.do(ctx, gone...)
			if err != nil {
				return err
			}
			found += reply.Int
		}
	}
	return nil
}
