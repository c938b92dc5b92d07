package schema

import "fmt"

// decode reads the Avro body b[off:] into e. b[:off] is framing, and counted
// in the byte offsets that errors name.
func (r *reader) decode(b []byte, off int, e *Event) error {
	r.b, r.off, r.err = b, off, nil
	r.event(e)
	switch {
	case r.err != nil:
		return r.err
	case r.left() > 0:
		return fmt.Errorf("%d bytes follow the event, which ends at byte %d", r.left(), r.off)
	}
	return nil
}

func (r *reader) event(e *Event) {
	e.Op = r.op()
	e.Origin = r.name("origin", e.Origin)
	e.DB = r.int("db")
	e.Key = nil
	if r.some("key") {
		e.Key = r.bytes("key")
	}
	e.OtherKeys = r.byteses("other_keys", e.OtherKeys)
	e.Command = r.name("command", e.Command)
	e.Args = r.byteses("args", e.Args)
	e.Type = r.name("type", e.Type)
	r.value(&e.Value)
	e.ExpireAt = r.optLong("expire_at_ms")
	e.Part = OptPart{}
	if r.some("part") {
		e.Part.Set = true
		e.Part.Index = r.int("part.index")
		e.Part.Last = r.bool("part.last")
		e.Part.Arg = r.int("part.arg")
	}
	e.Transaction = OptTransaction{}
	if r.some("transaction") {
		e.Transaction.Set = true
		e.Transaction.ID = r.bytes("transaction.id")
		e.Transaction.Index = r.int("transaction.index")
		e.Transaction.Last = r.bool("transaction.last")
	}
	e.Seq = r.long("seq")
	e.Seen = r.long("seen")
	e.TsMs = r.long("ts_ms")
	r.source(&e.Source)
}

func (r *reader) source(s *Source) {
	s.TsMs = r.long("source.ts_ms")
	s.Snapshot = r.name("source.snapshot", s.Snapshot)
	s.Shard = r.name("source.shard", s.Shard)
	s.Epoch = r.long("source.epoch")
	s.ReplOffset = r.long("source.repl_offset")
	s.Replid = r.optName("source.replid", s.Replid)
	s.Server = r.optName("source.server", s.Server)
}

func (r *reader) op() Op {
	at := r.off
	letter := r.bytes("op")
	if r.err != nil {
		return 0
	}
	op, err := parseOp(letter)
	if err != nil {
		r.fail("op", at, "%w", err)
	}
	return op
}

// parseOp refuses letters that this release does not know: skipping an event
// of a newer one would lose a change.
func parseOp(letter []byte) (Op, error) {
	if len(letter) == 1 {
		switch op := Op(letter[0]); op {
		case OpValue, OpWrite, OpDelete, OpTruncate, OpMessage, OpFunction, OpControl:
			return op, nil
		}
	}
	return 0, fmt.Errorf("unknown letter %q; run the newer twinlog that wrote it", clip(letter))
}

func (r *reader) value(v *Value) {
	if v.Kind != KindNone {
		*v = Value{
			Elements: reuse(v.Elements),
			Hash:     reuse(v.Hash),
			ZSet:     reuse(v.ZSet),
			Stream:   reuse(v.Stream),
		}
	}
	v.Kind = Kind(r.branch("value", int64(KindDump)+1))
	switch v.Kind {
	case KindNone: // null
	case KindString:
		v.Data = r.bytes("value.data")
	case KindList:
		v.Elements = r.byteses("value.elements", v.Elements)
	case KindHash:
		v.Hash = array(r, "value.entries", 3, v.Hash, func(r *reader, h *HashEntry) {
			h.Field = r.bytes("value.entries.field")
			h.Value = r.bytes("value.entries.value")
			h.ExpireAt = r.optLong("value.entries.expire_at_ms")
		})
	case KindSet:
		v.Elements = r.byteses("value.members", v.Elements)
	case KindZSet:
		v.ZSet = array(r, "value.members", 9, v.ZSet, func(r *reader, m *ZSetMember) {
			m.Member = r.bytes("value.members.member")
			m.Score = r.double("value.members.score")
		})
	case KindStream:
		r.stream(v)
	case KindDump:
		v.Data = r.bytes("value.payload")
	}
}

func (r *reader) stream(v *Value) {
	v.Stream = array(r, "value.entries", 2, v.Stream, func(r *reader, s *StreamEntry) {
		s.ID = r.streamID("value.entries.id")
		s.Fields = r.byteses("value.entries.fields", s.Fields)
	})
	if !r.some("value.meta") {
		return
	}
	v.Meta = &StreamMeta{
		LastID:       r.streamID("value.meta.last_id"),
		MaxDeletedID: r.streamID("value.meta.max_deleted_id"),
		EntriesAdded: r.long("value.meta.entries_added"),
		Groups:       array(r, "value.meta.groups", 4, nil, readGroup),
	}
}

func readGroup(r *reader, g *StreamGroup) {
	g.Name = r.bytes("value.meta.groups.name")
	g.LastID = r.streamID("value.meta.groups.last_id")
	g.EntriesRead = r.long("value.meta.groups.entries_read")
	g.Consumers = array(r, "value.meta.groups.consumers", 4, nil, readConsumer)
}

func readConsumer(r *reader, c *StreamConsumer) {
	c.Name = r.bytes("value.meta.groups.consumers.name")
	c.SeenMs = r.long("value.meta.groups.consumers.seen_ms")
	c.ActiveMs = r.long("value.meta.groups.consumers.active_ms")
	c.Pending = array(r, "value.meta.groups.consumers.pending", 3, nil, readPending)
}

func readPending(r *reader, p *PendingEntry) {
	p.ID = r.streamID("value.meta.groups.consumers.pending.id")
	p.DeliveredMs = r.long("value.meta.groups.consumers.pending.delivered_ms")
	p.Deliveries = r.long("value.meta.groups.consumers.pending.deliveries")
}
