package schema

import (
	"encoding/base64"
	"math"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends e as one JSON object without line breaks, for people and
// their tools to read:
//
//   - Fields are named, nested and ordered as in change_event.avsc.
//   - Bytes are a string where they are valid UTF-8, otherwise an object with
//     the bytes in standard base64: {"b64":"/w=="}.
//   - The value's union is left out: "value":{"data":"v"}, and "type" says which
//     it is. A missing key is "value":null in an event of op r.
//   - Infinite and undefined scores are the strings "inf", "-inf" and "nan".
//   - Left out are nulls, and the defaults of other_keys, command, args, type,
//     entries_added, entries_read, active_ms and arg, source.snapshot and
//     source.shard.
func (e *Event) AppendJSON(b []byte) []byte {
	j := jsonWriter{b: b}
	j.open('{')
	j.string("op", string(rune(e.Op)))
	j.string("origin", e.Origin)
	j.long("db", int64(e.DB))
	if e.Key != nil {
		j.bytes("key", e.Key)
	}
	if len(e.OtherKeys) > 0 {
		j.byteses("other_keys", e.OtherKeys)
	}
	j.stringUnless("command", e.Command, "")
	if len(e.Args) > 0 {
		j.byteses("args", e.Args)
	}
	j.stringUnless("type", e.Type, "")
	if e.Op == OpValue || e.Value.Kind != KindNone {
		j.value(&e.Value)
	}
	j.optLong("expire_at_ms", e.ExpireAt)
	if e.Part.Set {
		j.field("part")
		j.open('{')
		j.long("index", int64(e.Part.Index))
		j.bool("last", e.Part.Last)
		j.longUnless("arg", int64(e.Part.Arg), -1)
		j.close('}')
	}
	if e.Transaction.Set {
		j.field("transaction")
		j.open('{')
		j.bytes("id", e.Transaction.ID)
		j.long("index", int64(e.Transaction.Index))
		j.bool("last", e.Transaction.Last)
		j.close('}')
	}
	j.long("seq", e.Seq)
	j.long("seen", e.Seen)
	j.long("ts_ms", e.TsMs)
	j.source(&e.Source)
	j.close('}')
	return j.b
}

// MarshalJSON is AppendJSON for encoding/json.
func (e *Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// jsonWriter builds JSON text. Its methods with a name write a field of the
// object that is open.
type jsonWriter struct{ b []byte }

func (j *jsonWriter) source(s *Source) {
	j.field("source")
	j.open('{')
	j.long("ts_ms", s.TsMs)
	j.stringUnless("snapshot", s.Snapshot, "false")
	j.stringUnless("shard", s.Shard, "")
	j.long("epoch", s.Epoch)
	j.long("repl_offset", s.ReplOffset)
	j.stringUnless("replid", s.Replid, "")
	j.stringUnless("server", s.Server, "")
	j.close('}')
}

func (j *jsonWriter) value(v *Value) {
	j.field("value")
	if v.Kind == KindNone {
		j.b = append(j.b, "null"...)
		return
	}
	j.open('{')
	switch v.Kind {
	case KindNone: // null, above
	case KindString:
		j.bytes("data", v.Data)
	case KindList:
		j.byteses("elements", v.Elements)
	case KindHash:
		jsonArray(j, "entries", v.Hash, func(h *HashEntry) {
			j.bytes("field", h.Field)
			j.bytes("value", h.Value)
			j.optLong("expire_at_ms", h.ExpireAt)
		})
	case KindSet:
		j.byteses("members", v.Elements)
	case KindZSet:
		jsonArray(j, "members", v.ZSet, func(m *ZSetMember) {
			j.bytes("member", m.Member)
			j.score("score", m.Score)
		})
	case KindStream:
		j.stream(v)
	case KindDump:
		j.bytes("payload", v.Data)
	}
	j.close('}')
}

func (j *jsonWriter) stream(v *Value) {
	jsonArray(j, "entries", v.Stream, func(s *StreamEntry) {
		j.streamID("id", s.ID)
		j.byteses("fields", s.Fields)
	})
	if v.Meta == nil {
		return
	}
	j.field("meta")
	j.open('{')
	j.streamID("last_id", v.Meta.LastID)
	j.streamID("max_deleted_id", v.Meta.MaxDeletedID)
	j.longUnless("entries_added", v.Meta.EntriesAdded, -1)
	jsonArray(j, "groups", v.Meta.Groups, func(g *StreamGroup) {
		j.bytes("name", g.Name)
		j.streamID("last_id", g.LastID)
		j.longUnless("entries_read", g.EntriesRead, -1)
		jsonArray(j, "consumers", g.Consumers, func(c *StreamConsumer) {
			j.bytes("name", c.Name)
			j.long("seen_ms", c.SeenMs)
			j.longUnless("active_ms", c.ActiveMs, -1)
			jsonArray(j, "pending", c.Pending, func(p *PendingEntry) {
				j.streamID("id", p.ID)
				j.long("delivered_ms", p.DeliveredMs)
				j.long("deliveries", p.Deliveries)
			})
		})
	})
	j.close('}')
}

// jsonArray writes an array of objects whose fields item writes.
func jsonArray[T any](j *jsonWriter, name string, items []T, item func(*T)) {
	j.field(name)
	j.open('[')
	for i := range items {
		j.comma()
		j.open('{')
		item(&items[i])
		j.close('}')
	}
	j.close(']')
}

func (j *jsonWriter) open(c byte)  { j.b = append(j.b, c) }
func (j *jsonWriter) close(c byte) { j.b = append(j.b, c) }

// comma separates what follows from what stands before it, if anything does.
func (j *jsonWriter) comma() {
	if c := j.b[len(j.b)-1]; c != '{' && c != '[' {
		j.b = append(j.b, ',')
	}
}

func (j *jsonWriter) field(name string) {
	j.comma()
	j.b = appendQuoted(j.b, name)
	j.b = append(j.b, ':')
}

func (j *jsonWriter) long(name string, n int64) {
	j.field(name)
	j.b = strconv.AppendInt(j.b, n, 10)
}

func (j *jsonWriter) longUnless(name string, n, def int64) {
	if n != def {
		j.long(name, n)
	}
}

func (j *jsonWriter) optLong(name string, n OptInt64) {
	if n.Set {
		j.long(name, n.Int64)
	}
}

func (j *jsonWriter) bool(name string, v bool) {
	j.field(name)
	j.b = strconv.AppendBool(j.b, v)
}

func (j *jsonWriter) score(name string, f float64) {
	switch {
	case math.IsInf(f, 1):
		j.string(name, "inf")
	case math.IsInf(f, -1):
		j.string(name, "-inf")
	case math.IsNaN(f):
		j.string(name, "nan")
	default:
		j.field(name)
		j.b = strconv.AppendFloat(j.b, f, 'g', -1, 64)
	}
}

func (j *jsonWriter) string(name, s string) {
	j.field(name)
	j.b = appendQuoted(j.b, s)
}

func (j *jsonWriter) stringUnless(name, s, def string) {
	if s != def {
		j.string(name, s)
	}
}

func (j *jsonWriter) streamID(name string, id StreamID) {
	j.field(name)
	j.b = append(j.b, '"')
	j.b = append(id.Append(j.b), '"')
}

func (j *jsonWriter) bytes(name string, s []byte) {
	j.field(name)
	j.b = appendText(j.b, s)
}

func (j *jsonWriter) byteses(name string, items [][]byte) {
	j.field(name)
	j.open('[')
	for _, s := range items {
		j.comma()
		j.b = appendText(j.b, s)
	}
	j.close(']')
}

// appendText appends bytes: as a string, or as an object with base64.
func appendText(b, s []byte) []byte {
	if utf8.Valid(s) {
		return appendQuoted(b, s)
	}
	b = append(b, `{"b64":"`...)
	b = base64.StdEncoding.AppendEncode(b, s)
	return append(b, `"}`...)
}

// appendQuoted appends s as a JSON string. What is no valid UTF-8 in it
// becomes U+FFFD.
func appendQuoted[T string | []byte](b []byte, s T) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range string(s) {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < 0x20 || r == 0x7f:
			b = append(b, `\u00`...)
			b = append(b, hex[r>>4], hex[r&0xf])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
