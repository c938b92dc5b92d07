package schema

import (
	"encoding/binary"
	"fmt"
	"math"
)

// maxBlock is how many items a block of an encoded array holds at most. Our
// readers of other writers' schemas take no larger block (schema.go), so a
// release that comes to read this event as an older or newer one can.
const maxBlock = 1 << 16

// AppendEvent appends e as an Avro body, without framing, and returns the
// extended buffer. It panics if e.Value.Kind is none of the kinds: written as
// null it would tell readers that the key is gone.
//
// The fields stand in the order of change_event.avsc.
func AppendEvent(b []byte, e *Event) []byte {
	b = append(b, 2, byte(e.Op)) // a string of length 1
	b = appendString(b, e.Origin)
	b = appendLong(b, int64(e.DB))
	if e.Key == nil {
		b = append(b, 0)
	} else {
		b = append(b, 2)
		b = appendBytes(b, e.Key)
	}
	b = appendByteses(b, e.OtherKeys)
	b = appendString(b, e.Command)
	b = appendByteses(b, e.Args)
	b = appendString(b, e.Type)
	b = appendValue(b, &e.Value)
	b = appendOptLong(b, e.ExpireAt)
	if !e.Part.Set {
		b = append(b, 0)
	} else {
		b = append(b, 2)
		b = appendLong(b, int64(e.Part.Index))
		b = appendBool(b, e.Part.Last)
		b = appendLong(b, int64(e.Part.Arg))
	}
	if !e.Transaction.Set {
		b = append(b, 0)
	} else {
		b = append(b, 2)
		b = appendBytes(b, e.Transaction.ID)
		b = appendLong(b, int64(e.Transaction.Index))
		b = appendBool(b, e.Transaction.Last)
	}
	b = appendLong(b, e.Seq)
	b = appendLong(b, e.Seen)
	b = appendLong(b, e.TsMs)
	return appendSource(b, &e.Source)
}

func appendSource(b []byte, s *Source) []byte {
	b = appendLong(b, s.TsMs)
	b = appendString(b, s.Snapshot)
	b = appendString(b, s.Shard)
	b = appendLong(b, s.Epoch)
	b = appendLong(b, s.ReplOffset)
	b = appendOptString(b, s.Replid)
	return appendOptString(b, s.Server)
}

// appendValue relies on Kind being the index of the union's branch.
func appendValue(b []byte, v *Value) []byte {
	b = appendLong(b, int64(v.Kind))
	switch v.Kind {
	case KindNone:
		return b
	case KindString, KindDump:
		return appendBytes(b, v.Data)
	case KindList, KindSet:
		return appendByteses(b, v.Elements)
	case KindHash:
		return appendArray(b, v.Hash, func(b []byte, h *HashEntry) []byte {
			b = appendBytes(b, h.Field)
			b = appendBytes(b, h.Value)
			return appendOptLong(b, h.ExpireAt)
		})
	case KindZSet:
		return appendArray(b, v.ZSet, func(b []byte, m *ZSetMember) []byte {
			b = appendBytes(b, m.Member)
			return binary.LittleEndian.AppendUint64(b, math.Float64bits(m.Score))
		})
	case KindStream:
		return appendStream(b, v)
	}
	panic(fmt.Sprintf("schema: event with a value of kind %d", v.Kind))
}

func appendStream(b []byte, v *Value) []byte {
	b = appendArray(b, v.Stream, func(b []byte, s *StreamEntry) []byte {
		b = appendStreamID(b, s.ID)
		return appendByteses(b, s.Fields)
	})
	if v.Meta == nil {
		return append(b, 0)
	}
	b = append(b, 2)
	b = appendStreamID(b, v.Meta.LastID)
	b = appendStreamID(b, v.Meta.MaxDeletedID)
	b = appendLong(b, v.Meta.EntriesAdded)
	return appendArray(b, v.Meta.Groups, func(b []byte, g *StreamGroup) []byte {
		b = appendBytes(b, g.Name)
		b = appendStreamID(b, g.LastID)
		b = appendLong(b, g.EntriesRead)
		return appendArray(b, g.Consumers, appendConsumer)
	})
}

func appendConsumer(b []byte, c *StreamConsumer) []byte {
	b = appendBytes(b, c.Name)
	b = appendLong(b, c.SeenMs)
	b = appendLong(b, c.ActiveMs)
	return appendArray(b, c.Pending, func(b []byte, p *PendingEntry) []byte {
		b = appendStreamID(b, p.ID)
		b = appendLong(b, p.DeliveredMs)
		return appendLong(b, p.Deliveries)
	})
}

// appendArray appends items in blocks of at most maxBlock, and the empty
// block that ends an array.
func appendArray[T any](b []byte, items []T, item func([]byte, *T) []byte) []byte {
	for len(items) > 0 {
		n := min(len(items), maxBlock)
		b = appendLong(b, int64(n))
		for i := range items[:n] {
			b = item(b, &items[i])
		}
		items = items[n:]
	}
	return append(b, 0)
}

// appendByteses is appendArray for the one kind of array on the hot path.
func appendByteses(b []byte, items [][]byte) []byte {
	for len(items) > 0 {
		n := min(len(items), maxBlock)
		b = appendLong(b, int64(n))
		for _, item := range items[:n] {
			b = appendBytes(b, item)
		}
		items = items[n:]
	}
	return append(b, 0)
}

// appendLong appends an Avro int or long, whose form is Go's varint.
func appendLong(b []byte, n int64) []byte { return binary.AppendVarint(b, n) }

func appendBytes(b, s []byte) []byte { return append(appendLong(b, int64(len(s))), s...) }

func appendString(b []byte, s string) []byte { return append(appendLong(b, int64(len(s))), s...) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendOptLong(b []byte, n OptInt64) []byte {
	if !n.Set {
		return append(b, 0)
	}
	return appendLong(append(b, 2), n.Int64)
}

func appendOptString(b []byte, s string) []byte {
	if s == "" {
		return append(b, 0)
	}
	return appendString(append(b, 2), s)
}

func appendStreamID(b []byte, id StreamID) []byte {
	return id.Append(appendLong(b, int64(id.textLen())))
}
