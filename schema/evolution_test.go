package schema

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// changed gives our schema with the fields of its root record edited.
func changed(t *testing.T, edit func(fields []any) []any) string {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(Bytes(), &root); err != nil {
		t.Fatal(err)
	}
	root["fields"] = edit(root["fields"].([]any))
	b, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func fieldNamed(fields []any, name string) map[string]any {
	for _, f := range fields {
		if f := f.(map[string]any); f["name"] == name {
			return f
		}
	}
	return nil
}

func without(names ...string) func([]any) []any {
	return func(fields []any) []any {
		return slices.DeleteFunc(fields, func(f any) bool {
			return slices.Contains(names, f.(map[string]any)["name"].(string))
		})
	}
}

// with puts a field first, where a reader by position would stumble.
func with(field string) func([]any) []any {
	return func(fields []any) []any {
		var f any
		if err := json.Unmarshal([]byte(field), &f); err != nil {
			panic(err)
		}
		return slices.Insert(fields, 0, f)
	}
}

func retyped(name string, typ any) func([]any) []any {
	return func(fields []any) []any {
		fieldNamed(fields, name)["type"] = typ
		delete(fieldNamed(fields, name), "default")
		return fields
	}
}

// encodeBy encodes a native event by another writer's schema.
func encodeBy(t *testing.T, schema string, native map[string]any) []byte {
	t.Helper()
	b, err := mustCompile(schema).BinaryFromNative(nil, native)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadsEventsOfOlderAndNewerWriters(t *testing.T) {
	extra := `{"name":"hlc","type":{"type":"record","name":"Clock","fields":[{"name":"wall","type":"long"},{"name":"path","type":{"type":"array","items":"string"}}]}}`
	cases := []struct {
		name   string
		edit   func([]any) []any
		native func(map[string]any)
		expect func(*Event) // what differs from the event as it was
	}{
		{
			"a writer without fields that have defaults", without("db", "other_keys", "args", "type", "value", "expire_at_ms", "part", "transaction", "seen", "key", "command"),
			nil,
			func(e *Event) { *e = Event{Op: e.Op, Origin: e.Origin, Seq: e.Seq, TsMs: e.TsMs, Source: e.Source} },
		},
		{
			"a writer with a field more", with(extra),
			func(n map[string]any) { n["hlc"] = map[string]any{"wall": 5, "path": []any{"x", "y"}} }, nil,
		},
		{
			"a writer with ints for longs", retyped("seq", "int"),
			func(n map[string]any) { n["seq"] = 7 },
			func(e *Event) { e.Seq = 7 },
		},
		{"a writer with logical types", retyped("ts_ms", map[string]any{"type": "long", "logicalType": "timestamp-millis"}), nil, nil},
		{
			"a writer with a logical type that goavro panics on", with(`{"name":"price","logicalType":"decimal","type":{"type":"bytes","logicalType":"decimal"}}`),
			func(n map[string]any) { n["price"] = []byte{1} }, nil,
		},
		{
			"a writer with a string for bytes", retyped("key", "string"),
			func(n map[string]any) { n["key"] = "text" },
			func(e *Event) { e.Key = []byte("text") },
		},
		{"a writer whose key is nullable the other way round", retyped("key", []any{"bytes", "null"}), nil, nil},
		{
			"a writer with a record that is never null", retyped("part", map[string]any{
				"type": "record", "name": "Part", "fields": []any{
					map[string]any{"name": "index", "type": "int"}, map[string]any{"name": "last", "type": "boolean"},
				},
			}),
			func(n map[string]any) { n["part"] = map[string]any{"index": 4, "last": true} },
			func(e *Event) { e.Part = OptPart{Set: true, Part: Part{Index: 4, Last: true, Arg: -1}} },
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			schema := changed(t, c.edit)
			w, err := compile("a writer's schema", schema)
			if err != nil {
				t.Fatal(err)
			}
			d := NewDecoder(nil)
			d.released = map[uint64]*writer{w.codec.Rabin: w}
			r := newRandom(4)
			for range 200 {
				want := r.event()
				n := native(want)
				if c.native != nil {
					c.native(n)
				}
				if c.expect != nil {
					c.expect(want)
				}
				header := binary.LittleEndian.AppendUint64([]byte{0xc3, 0x01}, w.codec.Rabin)
				got := *r.event() // whatever it holds is overwritten
				body, err := w.codec.BinaryFromNative(nil, n)
				if err != nil {
					t.Fatal(err)
				}
				if err := d.Decode(context.Background(), append(header, body...), &got); err != nil {
					t.Fatal(err)
				}
				mustEqual(t, want, &got)
			}
		})
	}
}

// What a reader takes for a missing field must be what the schema says.
func TestMissingFieldsGetTheDefaultsOfTheSchema(t *testing.T) {
	minimal := map[string]any{
		"op": "r", "origin": "a", "seq": 1, "ts_ms": 2,
		"source": map[string]any{"ts_ms": 3, "epoch": 4, "repl_offset": 5},
	}
	stream := map[string]any{"entries": []any{}, "meta": union("twinlog.v1.StreamMeta", map[string]any{
		"last_id": "1-1",
		"groups": []any{map[string]any{"name": "g", "last_id": "1-1", "consumers": []any{
			map[string]any{"name": "c", "seen_ms": 6},
		}}},
	})}
	for name, value := range map[string]any{
		"no value": nil,
		"a stream": union("twinlog.v1.StreamValue", stream),
		"a hash":   union("twinlog.v1.HashValue", map[string]any{"entries": []any{map[string]any{"field": "f", "value": "v"}}}),
	} {
		t.Run(name, func(t *testing.T) {
			if value != nil {
				minimal["value"] = value
			}
			var want, got Event
			if err := new(reader).decode(encodeBy(t, text, minimal), 0, &want); err != nil { // goavro fills defaults in
				t.Fatal(err)
			}
			var m mapper
			m.event(minimalNative(minimal), &got)
			if m.err != nil {
				t.Fatal(m.err)
			}
			mustEqual(t, &want, &got)
		})
	}
}

// minimalNative gives n with the Go types that goavro decodes to.
func minimalNative(n map[string]any) record {
	out := record{}
	for k, v := range n {
		switch v := v.(type) {
		case int:
			out[k] = int64(v)
		case map[string]any:
			out[k] = map[string]any(minimalNative(v))
		case []any:
			items := make([]any, len(v))
			for i, item := range v {
				items[i] = map[string]any(minimalNative(item.(map[string]any)))
			}
			out[k] = items
		default:
			out[k] = v
		}
	}
	return out
}

func TestRefusesWritersItCannotUnderstand(t *testing.T) {
	future := func(fields []any) []any {
		value := fieldNamed(fields, "value")
		value["type"] = append(value["type"].([]any), map[string]any{
			"type": "record", "name": "VectorValue", "fields": []any{map[string]any{"name": "dims", "type": "int"}},
		})
		return fields
	}
	cases := []struct {
		name   string
		edit   func([]any) []any
		native func(map[string]any)
		want   string
	}{
		{"a needed field is missing", without("seq"), nil, "field seq: the writer's schema lacks it"},
		{"a field has another type", retyped("seq", "string"), func(n map[string]any) { n["seq"] = "1" }, "field seq: want long, got string"},
		{"the source is missing", without("source"), nil, "field source: the writer's schema lacks it"},
		{"the source is no record", retyped("source", "string"), func(n map[string]any) { n["source"] = "a" }, "field source: want record"},
		{
			"the value is of a kind to come", future,
			func(n map[string]any) {
				n["value"] = union("twinlog.v1.VectorValue", map[string]any{"dims": 3})
			}, "unknown kind VectorValue; run the newer twinlog",
		},
		{"the op is of a kind to come", with(`{"name":"new","type":"int"}`), func(n map[string]any) { n["op"], n["new"] = "q", 1 }, `unknown letter "q"; run the newer twinlog`},
		{"the value is no union", retyped("value", "bytes"), func(n map[string]any) { n["value"] = []byte("v") }, "field value: want a union"},
		{
			"an array holds something else", retyped("args", map[string]any{"type": "array", "items": "long"}),
			func(n map[string]any) { n["args"] = []any{1} }, "field args: want bytes, got int64",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			schema := changed(t, c.edit)
			w, err := compile("a writer's schema", schema)
			if err != nil {
				t.Fatal(err)
			}
			n := native(setEvent())
			if c.native != nil {
				c.native(n)
			}
			err = w.decode(encodeBy(t, schema, n), new(Event))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestRefusesSchemas(t *testing.T) {
	event := func(fields string) string {
		return `{"type":"record","name":"ChangeEvent","namespace":"twinlog.v1","fields":[` + fields + `]}`
	}
	cases := []struct{ name, schema, want string }{
		{"that are not JSON", `{"type":`, "parsing JSON"},
		{"that are not Avro", `{"type":"recrd"}`, "recrd"},
		{"of another program", `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"}]}`, "describes shop.Order, not twinlog.v1.ChangeEvent"},
		{"that contain themselves", event(`{"name":"next","type":["null","ChangeEvent"]}`), "contains itself"},
		{"that contain themselves by full name", event(`{"name":"next","type":{"type":"map","values":"twinlog.v1.ChangeEvent"}}`), "contains itself"},
		{"with array items of no bytes", event(`{"name":"op","type":"string"},{"name":"n","type":{"type":"array","items":"null"}}`), "take no bytes"},
		{"with records of no bytes", event(`{"name":"op","type":"string"},{"name":"n","type":{"type":"record","name":"N","fields":[{"name":"x","type":"null"}]}}`), `record "twinlog.v1.N" takes no bytes`},
		{"with a fixed of no bytes", event(`{"name":"op","type":"string"},{"name":"n","type":{"type":"array","items":{"type":"fixed","name":"F","size":0}}}`), "take no bytes"},
		{"with an unknown type", event(`{"name":"n","type":"Nothing"}`), `type "Nothing" is not defined`},
		{"with a field without a type", event(`{"name":"n"}`), "a type is a <nil>"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := compile("the schema", c.schema)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}
