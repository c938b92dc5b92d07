package schema

import (
	"bytes"
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// mustEqual compares events by their encoding, which the comparison with
// goavro proves to be complete; go-cmp takes 100 times as long.
func mustEqual(t *testing.T, want, got *Event) {
	t.Helper()
	if !bytes.Equal(AppendEvent(nil, want), AppendEvent(nil, got)) {
		t.Fatalf("(-want +got):\n%s", cmp.Diff(want, got, cmpopts.EquateEmpty()))
	}
}

func TestAppendEventEqualsGoavro(t *testing.T) {
	codec := mustCompile(text)
	r := newRandom(1)
	for range 5000 {
		e := r.event()
		want, err := codec.BinaryFromNative(nil, native(e))
		if err != nil {
			t.Fatalf("goavro does not encode %+v: %v", e, err)
		}
		if got := AppendEvent(nil, e); !bytes.Equal(got, want) {
			t.Fatalf("AppendEvent(%+v)\n got %x\nwant %x", e, got, want)
		}
	}
}

func TestAppendEventSplitsLongArraysAsGoavroDoes(t *testing.T) {
	if maxBlock != 65536 {
		t.Error("released readers refuse larger blocks, and smaller ones are another encoding")
	}
	codec := mustCompile(text)
	for _, n := range []int{maxBlock - 1, maxBlock, maxBlock + 1, 2*maxBlock + 3} {
		e := &Event{Op: OpValue, Value: Value{Kind: KindHash}}
		for range n {
			e.Args = append(e.Args, []byte("x"))
			e.Value.Hash = append(e.Value.Hash, HashEntry{Field: []byte("f"), Value: []byte("v")})
		}
		want, err := codec.BinaryFromNative(nil, native(e))
		if err != nil {
			t.Fatal(err)
		}
		got := AppendEvent(nil, e)
		if !bytes.Equal(got, want) {
			t.Fatalf("%d items: differs from goavro", n)
		}
		var back Event
		if err := new(reader).decode(got, 0, &back); err != nil {
			t.Fatal(err)
		}
		if len(back.Args) != n || len(back.Value.Hash) != n {
			t.Fatalf("%d items: read %d args and %d entries", n, len(back.Args), len(back.Value.Hash))
		}
	}
}

func TestAppendEventRefusesAnUnknownKind(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an event that would read as a missing key was encoded")
		}
	}()
	AppendEvent(nil, &Event{Op: OpValue, Value: Value{Kind: KindDump + 1}})
}

func TestDecodeGivesBackWhatWasEncoded(t *testing.T) {
	for _, id := range []int{0, 1, 70000} {
		enc, d := NewEncoder(id), NewDecoder(nil)
		d.ownID, d.ownIDSet = uint32(id), true
		r := newRandom(2)
		var reused Event
		for range 3000 {
			e := r.event()
			b := enc.Append([]byte("before"), e)[len("before"):]
			var fresh Event
			if err := d.Decode(context.Background(), b, &fresh); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
			mustEqual(t, e, &fresh)
			if err := d.Decode(context.Background(), b, &reused); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
			mustEqual(t, e, &reused)
		}
	}
}

// The mapping that reads other writers' events, given our own.
func TestWriterReadsOurEventsAsTheCodecDoes(t *testing.T) {
	w, err := compile("our schema", text)
	if err != nil {
		t.Fatal(err)
	}
	r := newRandom(3)
	for range 3000 {
		e := r.event()
		var got Event
		if err := w.decode(AppendEvent(nil, e), &got); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		mustEqual(t, e, &got)
	}
}

func TestDecodedSlicesCannotOverwriteTheirNeighbours(t *testing.T) {
	w, err := compile("our schema", text)
	if err != nil {
		t.Fatal(err)
	}
	for name, decode := range map[string]func([]byte, *Event) error{
		"by the codec":           func(b []byte, e *Event) error { return new(reader).decode(b, 0, e) },
		"by the writer's schema": w.decode,
	} {
		b := AppendEvent(nil, setEvent())
		want := bytes.Clone(b)
		var e Event
		if err := decode(b, &e); err != nil {
			t.Fatal(err)
		}
		_ = append(e.Key, "overwritten"...)
		_ = append(e.Args[0], "overwritten"...)
		if !bytes.Equal(b, want) {
			t.Errorf("%s: appending to a decoded slice changed the buffer", name)
		}
	}
}

func TestReusedEventDropsLargeCapacities(t *testing.T) {
	big := &Event{Op: OpValue, Value: Value{Kind: KindList}}
	for range 10 * maxKept {
		big.Value.Elements = append(big.Value.Elements, []byte("x"))
	}
	var e Event
	for _, event := range []*Event{big, setEvent()} {
		if err := new(reader).decode(AppendEvent(nil, event), 0, &e); err != nil {
			t.Fatal(err)
		}
	}
	if c := cap(e.Value.Elements); c > maxKept {
		t.Errorf("a small event keeps room for %d elements of the large one before it", c)
	}
}

// setEvent is the event of the hot path.
func setEvent() *Event {
	value := bytes.Repeat([]byte("v"), 100)
	return &Event{
		Op: OpWrite, Origin: "a", Key: []byte("key:000000012345"), Command: "SET",
		Args: [][]byte{[]byte("key:000000012345"), value},
		Seq:  123456, Seen: 98765, TsMs: 1764000000000,
		Source: Source{TsMs: 1764000000000, Snapshot: "false", Epoch: 1, ReplOffset: 1234567890},
	}
}

func TestHotPathTakesNoMemory(t *testing.T) {
	ctx := context.Background()
	enc, d := NewEncoder(0), NewDecoder(nil)
	set := setEvent()
	buf := enc.Append(nil, set)
	heartbeat := setEvent()
	heartbeat.Command, heartbeat.Source.Replid = Heartbeat, "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb"
	other := enc.Append(nil, heartbeat)
	if n := testing.AllocsPerRun(1000, func() { buf = enc.Append(buf[:0], set) }); n != 0 {
		t.Errorf("Append: %v allocations per event", n)
	}
	var e Event
	if n := testing.AllocsPerRun(1000, func() {
		for _, b := range [][]byte{buf, other} {
			if err := d.Decode(ctx, b, &e); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("Decode: %v allocations per two events", n)
	}
}

func TestNamesStayBounded(t *testing.T) {
	var n names
	for i := range 10 * maxNames {
		s := string(AppendEvent(nil, &Event{Op: OpWrite, Seq: int64(i)}))
		if got := n.get([]byte(s), ""); got != s {
			t.Fatalf("got %q, want %q", got, s)
		}
	}
	if len(n) > maxNames {
		t.Errorf("%d names are kept", len(n))
	}
	n = nil
	if n.get(make([]byte, maxNameLen+1), ""); len(n) != 0 {
		t.Error("a long name is kept")
	}
}

func BenchmarkAppend(b *testing.B) {
	enc, e := NewEncoder(0), setEvent()
	buf := enc.Append(nil, e)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = enc.Append(buf[:0], e)
	}
}

func BenchmarkDecode(b *testing.B) {
	ctx := context.Background()
	d, buf := NewDecoder(nil), NewEncoder(0).Append(nil, setEvent())
	var e Event
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(ctx, buf, &e); err != nil {
			b.Fatal(err)
		}
	}
}
