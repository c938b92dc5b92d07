package schema

import (
	"math"
	"math/rand/v2"
	"strconv"
)

// native gives e as goavro wants it: the oracle's side of the codec tests.
func native(e *Event) map[string]any {
	var part, transaction any
	if e.Part.Set {
		part = union("twinlog.v1.Part", map[string]any{"index": e.Part.Index, "last": e.Part.Last, "arg": e.Part.Arg})
	}
	if e.Transaction.Set {
		transaction = union("twinlog.v1.Transaction", map[string]any{
			"id": string(e.Transaction.ID), "index": e.Transaction.Index, "last": e.Transaction.Last,
		})
	}
	var key any
	if e.Key != nil {
		key = union("bytes", e.Key)
	}
	return map[string]any{
		"op": string(rune(e.Op)), "origin": e.Origin, "db": e.DB, "key": key,
		"other_keys": nativeByteses(e.OtherKeys), "command": e.Command, "args": nativeByteses(e.Args),
		"type": e.Type, "value": nativeValue(&e.Value), "expire_at_ms": nativeOptLong(e.ExpireAt),
		"part": part, "transaction": transaction, "seq": e.Seq, "seen": e.Seen, "ts_ms": e.TsMs,
		"source": map[string]any{
			"ts_ms": e.Source.TsMs, "snapshot": e.Source.Snapshot, "shard": e.Source.Shard,
			"epoch": e.Source.Epoch, "repl_offset": e.Source.ReplOffset,
			"replid": nativeOptString(e.Source.Replid), "server": nativeOptString(e.Source.Server),
		},
	}
}

func nativeValue(v *Value) any {
	switch v.Kind {
	case KindNone:
		return nil
	case KindString:
		return union("twinlog.v1.StringValue", map[string]any{"data": v.Data})
	case KindList:
		return union("twinlog.v1.ListValue", map[string]any{"elements": nativeByteses(v.Elements)})
	case KindSet:
		return union("twinlog.v1.SetValue", map[string]any{"members": nativeByteses(v.Elements)})
	case KindDump:
		return union("twinlog.v1.DumpValue", map[string]any{"payload": v.Data})
	case KindHash:
		return union("twinlog.v1.HashValue", map[string]any{"entries": nativeArray(v.Hash, func(h HashEntry) any {
			return map[string]any{"field": h.Field, "value": h.Value, "expire_at_ms": nativeOptLong(h.ExpireAt)}
		})})
	case KindZSet:
		return union("twinlog.v1.ZSetValue", map[string]any{"members": nativeArray(v.ZSet, func(m ZSetMember) any {
			return map[string]any{"member": m.Member, "score": m.Score}
		})})
	case KindStream:
		return union("twinlog.v1.StreamValue", map[string]any{
			"entries": nativeArray(v.Stream, func(s StreamEntry) any {
				return map[string]any{"id": s.ID.String(), "fields": nativeByteses(s.Fields)}
			}),
			"meta": nativeMeta(v.Meta),
		})
	}
	return nil
}

func nativeMeta(m *StreamMeta) any {
	if m == nil {
		return nil
	}
	return union("twinlog.v1.StreamMeta", map[string]any{
		"last_id": m.LastID.String(), "max_deleted_id": m.MaxDeletedID.String(), "entries_added": m.EntriesAdded,
		"groups": nativeArray(m.Groups, func(g StreamGroup) any {
			return map[string]any{
				"name": g.Name, "last_id": g.LastID.String(), "entries_read": g.EntriesRead,
				"consumers": nativeArray(g.Consumers, func(c StreamConsumer) any {
					return map[string]any{
						"name": c.Name, "seen_ms": c.SeenMs, "active_ms": c.ActiveMs,
						"pending": nativeArray(c.Pending, func(p PendingEntry) any {
							return map[string]any{"id": p.ID.String(), "delivered_ms": p.DeliveredMs, "deliveries": p.Deliveries}
						}),
					}
				}),
			}
		}),
	})
}

func union(name string, v any) map[string]any { return map[string]any{name: v} }

func nativeByteses(s [][]byte) []any { return nativeArray(s, func(b []byte) any { return b }) }

func nativeArray[T any](s []T, item func(T) any) []any {
	a := make([]any, len(s))
	for i, v := range s {
		a[i] = item(v)
	}
	return a
}

func nativeOptLong(n OptInt64) any {
	if !n.Set {
		return nil
	}
	return union("long", n.Int64)
}

func nativeOptString(s string) any {
	if s == "" {
		return nil
	}
	return union("string", s)
}

// random makes events that reach every branch of the schema.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 1))} }

func pick[T any](r random, s ...T) T { return s[r.IntN(len(s))] }

func slice[T any](r random, most int, item func() T) []T {
	s := make([]T, r.IntN(most+1))
	for i := range s {
		s[i] = item()
	}
	return s
}

func (r random) event() *Event {
	e := &Event{
		Op:        pick(r, OpValue, OpWrite, OpDelete, OpTruncate, OpMessage, OpFunction, OpControl),
		Origin:    pick(r, "a", "b", "", "site1"),
		DB:        pick(r, 0, NoDB, 15, math.MaxInt32, math.MinInt32),
		Key:       pick(r, nil, []byte{}, r.bytes()),
		OtherKeys: slice(r, 3, r.bytes),
		Command:   pick(r, "", "SET", "HSET", Heartbeat, "XADD"),
		Args:      slice(r, 5, r.bytes),
		Type:      pick(r, "", "string", "hash", "MBbloom--"),
		Value:     r.value(),
		ExpireAt:  r.optLong(),
		Seq:       r.long(), Seen: r.long(), TsMs: r.long(),
		Source: Source{
			TsMs: r.long(), Snapshot: pick(r, "true", "first", "last", "false", "incremental"),
			Shard: pick(r, "", "0", "17"), Epoch: r.long(), ReplOffset: r.long(),
			Replid: pick(r, "", "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb"), Server: pick(r, "", "7.0.15"),
		},
	}
	if r.IntN(3) == 0 {
		e.Part = OptPart{Set: true, Part: Part{Index: int32(r.IntN(99)), Last: r.IntN(2) == 0, Arg: pick[int32](r, -1, 0, 7)}}
	}
	if r.IntN(3) == 0 {
		e.Transaction = OptTransaction{Set: true, Transaction: Transaction{
			ID: strconv.AppendInt([]byte{}, r.long(), 10), Index: int32(r.IntN(99)), Last: r.IntN(2) == 0,
		}}
	}
	return e
}

func (r random) bytes() []byte {
	b := make([]byte, pick(r, 0, 1, 3, 20, 63, 64, 200))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (r random) long() int64 {
	return pick(r, 0, 1, -1, 63, 64, -64, -65, math.MaxInt64, math.MinInt64, r.Int64(), 1764000000000)
}

func (r random) optLong() OptInt64 {
	return pick(r, OptInt64{}, OptInt64{Set: true}, OptInt64{Set: true, Int64: r.long()})
}

func (r random) streamID() StreamID {
	return pick(r, StreamID{}, StreamID{1, 0}, StreamID{r.Uint64(), r.Uint64()}, StreamID{math.MaxUint64, math.MaxUint64})
}

func (r random) score() float64 {
	return pick(r, 0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), 1.5, -1e300, math.SmallestNonzeroFloat64, r.NormFloat64())
}

func (r random) value() Value {
	v := Value{Kind: Kind(r.IntN(int(KindDump) + 1))}
	switch v.Kind {
	case KindNone:
	case KindString, KindDump:
		v.Data = r.bytes()
	case KindList, KindSet:
		v.Elements = slice(r, 6, r.bytes)
	case KindHash:
		v.Hash = slice(r, 6, func() HashEntry { return HashEntry{r.bytes(), r.bytes(), r.optLong()} })
	case KindZSet:
		v.ZSet = slice(r, 6, func() ZSetMember { return ZSetMember{r.bytes(), r.score()} })
	case KindStream:
		v.Stream = slice(r, 4, func() StreamEntry { return StreamEntry{r.streamID(), slice(r, 4, r.bytes)} })
		if r.IntN(2) == 0 {
			v.Meta = &StreamMeta{r.streamID(), r.streamID(), r.long(), slice(r, 3, r.group)}
		}
	}
	return v
}

func (r random) group() StreamGroup {
	return StreamGroup{r.bytes(), r.streamID(), r.long(), slice(r, 3, func() StreamConsumer {
		return StreamConsumer{r.bytes(), r.long(), r.long(), slice(r, 3, func() PendingEntry {
			return PendingEntry{r.streamID(), r.long(), r.long()}
		})}
	})}
}
