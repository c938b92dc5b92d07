package sink

import (
	"fmt"
	"slices"
	"strconv"

	"twinlog/schema"
)

// value makes a key hold exactly what an r event says: whatever was there is
// removed first, so a list is never doubled.
func (t *translator) value(b *batch, e *schema.Event, offset int64) error {
	v := &e.Value
	if v.Kind == schema.KindString {
		n := 3
		if e.ExpireAt.Set {
			n = 5
		}
		b.command(e, offset, e.DB, "SET", n)
		b.arg(e.Key)
		b.arg(v.Data)
		if e.ExpireAt.Set {
			b.text("PXAT")
			b.number(t.expiry(e.ExpireAt.Int64))
		}
		return nil
	}
	if v.Kind == schema.KindDump {
		t.restore(b, e, offset)
		return nil
	}
	t.remove(b, e, offset, e.Key)
	switch v.Kind {
	case schema.KindNone:
		return nil
	case schema.KindList:
		t.elements(b, e, offset, "RPUSH", v.Elements)
	case schema.KindSet:
		t.elements(b, e, offset, "SADD", v.Elements)
	case schema.KindHash:
		t.hash(b, e, offset)
	case schema.KindZSet:
		t.members(b, e, offset, v.ZSet)
	case schema.KindStream:
		t.stream(b, e, offset)
	default:
		return fmt.Errorf("value of key %q has the unknown kind %d", shown(e.Key), v.Kind)
	}
	if e.ExpireAt.Set {
		t.expireAt(b, e, offset, e.ExpireAt.Int64)
	}
	return nil
}

func (t *translator) expireAt(b *batch, e *schema.Event, offset, ms int64) {
	b.command(e, offset, e.DB, "PEXPIREAT", 3)
	b.arg(e.Key)
	b.number(t.expiry(ms))
}

func (t *translator) members(b *batch, e *schema.Event, offset int64, members []schema.ZSetMember) {
	b.command(e, offset, e.DB, "ZADD", 2+2*len(members))
	b.arg(e.Key)
	for _, m := range members {
		b.body = appendBulk(b.body, strconv.AppendFloat(nil, m.Score, 'g', 17, 64))
		b.arg(m.Member)
	}
}

func (t *translator) elements(b *batch, e *schema.Event, offset int64, name string, elements [][]byte) {
	b.command(e, offset, e.DB, name, 2+len(elements))
	b.arg(e.Key)
	b.args(elements)
}

func (t *translator) hash(b *batch, e *schema.Event, offset int64) {
	b.command(e, offset, e.DB, "HSET", 2+2*len(e.Value.Hash))
	b.arg(e.Key)
	for _, f := range e.Value.Hash {
		b.arg(f.Field)
		b.arg(f.Value)
	}
	for _, f := range e.Value.Hash {
		if f.ExpireAt.Set {
			b.command(e, offset, e.DB, "HPEXPIREAT", 6)
			b.arg(e.Key)
			b.number(t.expiry(f.ExpireAt.Int64))
			b.text("FIELDS")
			b.text("1")
			b.arg(f.Field)
		}
	}
}

func (t *translator) restore(b *batch, e *schema.Event, offset int64) {
	b.command(e, offset, e.DB, "RESTORE", 6)
	b.items[len(b.items)-1].command = restoreOf + e.Type + ")" // the payload does not tell
	b.arg(e.Key)
	if e.ExpireAt.Set {
		b.number(t.expiry(e.ExpireAt.Int64))
	} else {
		b.text("0")
	}
	b.arg(e.Value.Data)
	b.text("REPLACE")
	b.text("ABSTTL")
}

// stream builds a stream from typed values: its entries, its groups with
// their pending entries, then the ids that deletions left behind. A pending
// entry whose stream entry is gone can only be claimed while the entry
// exists, so it is added for a moment and deleted again.
func (t *translator) stream(b *batch, e *schema.Event, offset int64) {
	meta := e.Value.Meta
	entries, gone := withGone(e.Value.Stream, meta)
	for i := range entries {
		t.entry(b, e, offset, &entries[i])
	}
	if meta == nil {
		return
	}
	if len(entries) == 0 {
		t.emptyStream(b, e, offset, meta)
	}
	for i := range meta.Groups {
		t.group(b, e, offset, &meta.Groups[i])
	}
	if len(gone) > 0 {
		b.command(e, offset, e.DB, "XDEL", 2+len(gone))
		b.arg(e.Key)
		for _, id := range gone {
			b.id(id)
		}
	}
	t.setID(b, e, offset, meta)
}

func (t *translator) entry(b *batch, e *schema.Event, offset int64, entry *schema.StreamEntry) {
	b.command(e, offset, e.DB, "XADD", 3+len(entry.Fields))
	b.arg(e.Key)
	b.id(entry.ID)
	b.args(entry.Fields)
}

// emptyStream makes a stream by its first entry, trimmed away.
func (t *translator) emptyStream(b *batch, e *schema.Event, offset int64, meta *schema.StreamMeta) {
	last := meta.LastID
	if last == (schema.StreamID{}) {
		last.Seq = 1
	}
	b.command(e, offset, e.DB, "XADD", 7)
	b.arg(e.Key)
	b.text("MAXLEN")
	b.text("0")
	b.id(last)
	b.text("f")
	b.text("v")
}

// setID sets the ids that deletions left behind.
func (t *translator) setID(b *batch, e *schema.Event, offset int64, meta *schema.StreamMeta) {
	n := 3
	full := t.v7 && meta.EntriesAdded >= 0
	if full {
		n = 7
	}
	b.command(e, offset, e.DB, "XSETID", n)
	b.arg(e.Key)
	b.id(meta.LastID)
	if full {
		b.text("ENTRIESADDED")
		b.number(meta.EntriesAdded)
		b.text("MAXDELETEDID")
		b.id(meta.MaxDeletedID)
	}
}

func (t *translator) group(b *batch, e *schema.Event, offset int64, g *schema.StreamGroup) {
	t.createGroup(b, e, offset, g)
	for i := range g.Consumers {
		c := &g.Consumers[i]
		t.createConsumer(b, e, offset, g, c)
		for j := range c.Pending {
			t.claim(b, e, offset, g, c, &c.Pending[j])
		}
	}
}

func (t *translator) createGroup(b *batch, e *schema.Event, offset int64, g *schema.StreamGroup) {
	read := t.v7 && g.EntriesRead >= 0
	n := 5
	if read {
		n = 7
	}
	b.command(e, offset, e.DB, "XGROUP", n)
	b.text("CREATE")
	b.arg(e.Key)
	b.arg(g.Name)
	b.id(g.LastID)
	if read {
		b.text("ENTRIESREAD")
		b.number(g.EntriesRead)
	}
}

func (t *translator) createConsumer(b *batch, e *schema.Event, offset int64, g *schema.StreamGroup, c *schema.StreamConsumer) {
	b.command(e, offset, e.DB, "XGROUP", 5)
	b.text("CREATECONSUMER")
	b.arg(e.Key)
	b.arg(g.Name)
	b.arg(c.Name)
}

func (t *translator) claim(b *batch, e *schema.Event, offset int64, g *schema.StreamGroup, c *schema.StreamConsumer, p *schema.PendingEntry) {
	b.command(e, offset, e.DB, "XCLAIM", 12)
	b.arg(e.Key)
	b.arg(g.Name)
	b.arg(c.Name)
	b.text("0")
	b.id(p.ID)
	b.text("TIME")
	b.number(p.DeliveredMs)
	b.text("RETRYCOUNT")
	b.number(p.Deliveries)
	b.text("FORCE")
	b.text("JUSTID")
}

// withGone merges the entries that are pending but deleted into the others,
// in order of their ids.
func withGone(entries []schema.StreamEntry, meta *schema.StreamMeta) (all []schema.StreamEntry, gone []schema.StreamID) {
	if meta == nil {
		return entries, nil
	}
	there := map[schema.StreamID]bool{}
	for _, entry := range entries {
		there[entry.ID] = true
	}
	all = entries
	for _, g := range meta.Groups {
		for _, c := range g.Consumers {
			for _, p := range c.Pending {
				if there[p.ID] {
					continue
				}
				there[p.ID] = true
				gone = append(gone, p.ID)
				all = append(all[:len(all):len(all)], schema.StreamEntry{ID: p.ID, Fields: [][]byte{{'f'}, {'v'}}})
			}
		}
	}
	if len(gone) > 0 {
		slices.SortFunc(all, func(x, y schema.StreamEntry) int { return compareIDs(x.ID, y.ID) })
	}
	return all, gone
}

func compareIDs(x, y schema.StreamID) int {
	switch {
	case x == y:
		return 0
	case x.Ms < y.Ms || x.Ms == y.Ms && x.Seq < y.Seq:
		return -1
	}
	return 1
}

func (b *batch) id(id schema.StreamID) {
	var text [41]byte
	v := strconv.AppendUint(text[:0], id.Ms, 10)
	v = append(v, '-')
	b.body = appendBulk(b.body, strconv.AppendUint(v, id.Seq, 10))
}

const maxShownKey = 64

// shown shortens a key for messages.
func shown(key []byte) string { return string(key[:min(len(key), maxShownKey)]) }
