package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// What the codec reads, goavro reads alike, and it is written and read again
// without change.
func FuzzDecode(f *testing.F) {
	for _, e := range goldenEvents() {
		f.Add(AppendEvent(nil, e))
	}
	r := newRandom(5)
	for range 20 {
		f.Add(AppendEvent(nil, r.event()))
	}
	f.Add([]byte("\x02u\x02a\x00\x00\xfe\xff\xff\xff\x0f"))
	w, err := compile("our schema", text)
	if err != nil {
		f.Fatal(err)
	}
	var rd reader
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again, byGoavro Event
		if err := rd.decode(b, 0, &e); err != nil {
			return
		}
		written := AppendEvent(nil, &e)
		if err := rd.decode(written, 0, &again); err != nil {
			t.Fatalf("%x, read from %x, is not read again: %v", written, b, err)
		}
		if twice := AppendEvent(nil, &again); !bytes.Equal(written, twice) {
			t.Fatalf("%x was written, then %x", written, twice)
		}
		if len(b) > maxBlock {
			return // goavro refuses blocks of that many items
		}
		if err := w.decode(b, &byGoavro); err != nil {
			t.Fatalf("goavro refuses %x: %v", b, err)
		}
		if other := AppendEvent(nil, &byGoavro); !bytes.Equal(written, other) {
			t.Fatalf("goavro reads %x as %x, we as %x", b, other, written)
		}
	})
}

// A schema and an event from outside end in an event or an error.
func FuzzWriter(f *testing.F) {
	body := AppendEvent(nil, setEvent())
	f.Add(text, body)
	f.Add(`{"type":"record","name":"ChangeEvent","namespace":"twinlog.v1","fields":[{"name":"op","type":{"type":"enum","name":"Op","symbols":["u"]}},`+
		`{"name":"seq","type":{"type":"int","logicalType":"date"}},{"name":"m","type":{"type":"map","values":{"type":"fixed","name":"F","size":3}}},`+
		`{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}}]}`, []byte("\x00\x02\x02\x02kabc\x00\x02\x01"))
	f.Add(`{"type":"record","name":"twinlog.v1.ChangeEvent","fields":[{"name":"n","type":["null","twinlog.v1.ChangeEvent"]}]}`, []byte("\x02\x02\x02"))
	f.Fuzz(func(t *testing.T, schema string, b []byte) {
		w, err := compile("a fuzzed schema", schema)
		if err != nil {
			return
		}
		var e Event
		if err := w.decode(b, &e); err == nil {
			e.AppendJSON(AppendEvent(nil, &e))
		}
	})
}

// What fuzzing text hardly finds: schemas that are JSON and nearly Avro.
func TestMutatedSchemasEndInEventsOrErrors(t *testing.T) {
	types := strings.Fields(`"null" "int" "string" "Source" "twinlog.v1.Source" [] ["null","null"] ["null",["int"]] {} 3 null true
		{"type":"fixed","name":"F","size":-1} {"type":"fixed","name":"F","size":3} {"type":"fixed","name":"F","size":1e30}
		{"type":"fixed","name":"F","size":2,"logicalType":"decimal"} {"type":"bytes","logicalType":"decimal","precision":-4,"scale":-2}
		{"type":"enum","name":"E","symbols":[]} {"type":"enum","name":"E"} {"type":{"type":{"type":"int"}}} {"type":["int","string"]}
		{"type":"array"} {"type":"map"} {"type":"map","values":"int"} {"type":"record"} {"type":"record","name":"R","fields":[3]}
		{"type":"record","name":"","fields":[{"name":"","type":"int"}]} {"type":"string","logicalType":"validatedString","pattern":"("}`)
	r := newRandom(6)
	var mutate func(v any) any
	mutate = func(v any) any {
		if r.IntN(60) == 0 {
			if err := json.Unmarshal([]byte(pick(r, types...)), &v); err != nil {
				t.Fatal(err)
			}
			return v
		}
		switch v := v.(type) {
		case map[string]any:
			for _, k := range []string{"type", "fields", "items"} {
				if child, ok := v[k]; ok {
					v[k] = mutate(child)
				}
			}
			if r.IntN(10) == 0 {
				delete(v, "default")
			}
		case []any:
			for i := range v {
				v[i] = mutate(v[i])
			}
		}
		return v
	}
	for range 1000 {
		var root any
		if err := json.Unmarshal(Bytes(), &root); err != nil {
			t.Fatal(err)
		}
		schema, err := json.Marshal(mutate(root))
		if err != nil {
			t.Fatal(err)
		}
		w, err := compile("a mutated schema", string(schema))
		if err != nil {
			continue
		}
		body := AppendEvent(nil, r.event())
		body[r.IntN(len(body))] = byte(r.Uint32())
		_ = w.decode(body, new(Event))
	}
}

func TestPanicsOfGoavroAreErrors(t *testing.T) {
	if err := guarded(func() error { panic("slice bounds") }); err == nil || err.Error() != "goavro panicked: slice bounds" {
		t.Errorf("got %v", err)
	}
	want := errors.New("an error")
	if err := guarded(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}
