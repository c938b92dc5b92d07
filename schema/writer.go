package schema

import (
	"fmt"
	"strings"

	"github.com/linkedin/goavro/v2"
)

// writer reads events of a schema that is not this release's: goavro decodes
// them as that schema says, and fields are taken over by name. Fields that
// the writer lacks get the defaults of change_event.avsc, fields that this
// release lacks are ignored. It may be used by several goroutines.
type writer struct {
	name  string // for errors
	codec *goavro.Codec
}

func (w *writer) decode(b []byte, e *Event) error {
	var native any
	var rest []byte
	err := guarded(func() (err error) { native, rest, err = w.codec.NativeFromBinary(b); return err })
	if err != nil {
		return fmt.Errorf("reading it by %s: %w", w.name, err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("reading it by %s: %d bytes follow the event", w.name, len(rest))
	}
	root, err := asRecord(native)
	if err != nil {
		return fmt.Errorf("reading it by %s: %w", w.name, err)
	}
	var m mapper
	m.event(root, e)
	if m.err != nil {
		return fmt.Errorf("reading it by %s: %w", w.name, m.err)
	}
	return nil
}

// mapper takes goavro's natives over into our types. The first error sticks.
type mapper struct{ err error }

func (m *mapper) event(r record, e *Event) {
	*e = Event{
		Op:        required(m, r, "op", asOp),
		Origin:    required(m, r, "origin", asString),
		DB:        optional(m, r, "db", 0, asInt),
		Key:       optional(m, r, "key", nil, asOptBytes),
		OtherKeys: optional(m, r, "other_keys", nil, asByteses),
		Command:   optional(m, r, "command", "", asString),
		Args:      optional(m, r, "args", nil, asByteses),
		Type:      optional(m, r, "type", "", asString),
		ExpireAt:  optional(m, r, "expire_at_ms", OptInt64{}, asOptLong),
		Seq:       required(m, r, "seq", asLong),
		Seen:      optional(m, r, "seen", 0, asLong),
		TsMs:      required(m, r, "ts_ms", asLong),
	}
	m.value(r, &e.Value)
	if p := optional(m, r, "part", nil, asOptRecord); p != nil {
		e.Part = OptPart{Set: true, Part: Part{
			Index: required(m, p, "index", asInt),
			Last:  required(m, p, "last", asBool),
			Arg:   optional(m, p, "arg", -1, asInt),
		}}
	}
	if t := optional(m, r, "transaction", nil, asOptRecord); t != nil {
		e.Transaction = OptTransaction{Set: true, Transaction: Transaction{
			ID:    required(m, t, "id", asBytes),
			Index: required(m, t, "index", asInt),
			Last:  required(m, t, "last", asBool),
		}}
	}
	s := required(m, r, "source", asRecord)
	e.Source = Source{
		TsMs:       required(m, s, "ts_ms", asLong),
		Snapshot:   optional(m, s, "snapshot", "false", asString),
		Shard:      optional(m, s, "shard", "", asString),
		Epoch:      required(m, s, "epoch", asLong),
		ReplOffset: required(m, s, "repl_offset", asLong),
		Replid:     optional(m, s, "replid", "", asOptString),
		Server:     optional(m, s, "server", "", asOptString),
	}
}

func (m *mapper) value(r record, v *Value) {
	native, ok := r["value"]
	if !ok || native == nil {
		return
	}
	branch, ok := native.(map[string]any)
	if !ok || len(branch) != 1 {
		m.fail("value", fmt.Errorf("want a union of records, got %T", native))
		return
	}
	for name, native := range branch { // exactly one
		rec, err := asRecord(native)
		if err != nil {
			m.fail("value", err)
			return
		}
		m.kind(name[strings.LastIndexByte(name, '.')+1:], rec, v)
	}
}

func (m *mapper) kind(name string, r record, v *Value) {
	switch name {
	case "StringValue":
		v.Kind, v.Data = KindString, required(m, r, "data", asBytes)
	case "ListValue":
		v.Kind, v.Elements = KindList, required(m, r, "elements", asByteses)
	case "HashValue":
		v.Kind, v.Hash = KindHash, records(m, r, "entries", true, func(r record) HashEntry {
			return HashEntry{
				Field:    required(m, r, "field", asBytes),
				Value:    required(m, r, "value", asBytes),
				ExpireAt: optional(m, r, "expire_at_ms", OptInt64{}, asOptLong),
			}
		})
	case "SetValue":
		v.Kind, v.Elements = KindSet, required(m, r, "members", asByteses)
	case "ZSetValue":
		v.Kind, v.ZSet = KindZSet, records(m, r, "members", true, func(r record) ZSetMember {
			return ZSetMember{Member: required(m, r, "member", asBytes), Score: required(m, r, "score", asDouble)}
		})
	case "StreamValue":
		v.Kind, v.Stream = KindStream, records(m, r, "entries", true, func(r record) StreamEntry {
			return StreamEntry{ID: required(m, r, "id", asStreamID), Fields: required(m, r, "fields", asByteses)}
		})
		if meta := optional(m, r, "meta", nil, asOptRecord); meta != nil {
			v.Meta = m.streamMeta(meta)
		}
	case "DumpValue":
		v.Kind, v.Data = KindDump, required(m, r, "payload", asBytes)
	default:
		m.fail("value", fmt.Errorf("unknown kind %s; run the newer twinlog that wrote it", name))
	}
}

func (m *mapper) streamMeta(r record) *StreamMeta {
	return &StreamMeta{
		LastID:       required(m, r, "last_id", asStreamID),
		MaxDeletedID: optional(m, r, "max_deleted_id", StreamID{}, asStreamID),
		EntriesAdded: optional(m, r, "entries_added", -1, asLong),
		Groups: records(m, r, "groups", false, func(r record) StreamGroup {
			return StreamGroup{
				Name:        required(m, r, "name", asBytes),
				LastID:      required(m, r, "last_id", asStreamID),
				EntriesRead: optional(m, r, "entries_read", -1, asLong),
				Consumers:   records(m, r, "consumers", false, m.streamConsumer),
			}
		}),
	}
}

func (m *mapper) streamConsumer(r record) StreamConsumer {
	return StreamConsumer{
		Name:     required(m, r, "name", asBytes),
		SeenMs:   required(m, r, "seen_ms", asLong),
		ActiveMs: optional(m, r, "active_ms", -1, asLong),
		Pending: records(m, r, "pending", false, func(r record) PendingEntry {
			return PendingEntry{
				ID:          required(m, r, "id", asStreamID),
				DeliveredMs: required(m, r, "delivered_ms", asLong),
				Deliveries:  required(m, r, "deliveries", asLong),
			}
		}),
	}
}
