package schema

import (
	"bytes"
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
