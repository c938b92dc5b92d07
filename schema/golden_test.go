package schema

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// current is the newest release: its schema is change_event.<current>.avsc,
// its golden events are testdata/<current>.hex, their JSON is
// testdata/<current>.json. Files of earlier releases are never rewritten.
const current = "v1"

// goldenEvents shows every op, kind of value, and null at least once.
func goldenEvents() []*Event {
	source := Source{TsMs: 1764000000001, Snapshot: "false", Epoch: 1, ReplOffset: 4711}
	snapshot := source
	snapshot.Snapshot = "true"
	tx := func(i int32, last bool) OptTransaction {
		return OptTransaction{Set: true, Transaction: Transaction{ID: []byte("3"), Index: i, Last: last}}
	}
	at := OptInt64{Set: true, Int64: 1764000060000}
	bs := func(s ...string) (b [][]byte) {
		for _, s := range s {
			b = append(b, []byte(s))
		}
		return b
	}
	value := func(key, typ string, v Value) *Event {
		return &Event{Op: OpValue, Origin: "a", Key: []byte(key), Type: typ, Value: v, TsMs: 1764000000002, Source: snapshot}
	}
	write := func(op Op, key, command string, args ...string) *Event {
		return &Event{Op: op, Origin: "a", Key: []byte(key), Command: command, Args: bs(args...), Seen: 7, TsMs: 1764000000002, Source: source}
	}
	events := []*Event{
		{Op: OpControl, Origin: "a", DB: NoDB, Command: SnapshotBegin, Args: [][]byte{}, TsMs: 1764000000002, Source: Source{
			TsMs: 1764000000001, Snapshot: "first", Shard: "0", Epoch: 1, ReplOffset: 4711,
			Replid: "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb", Server: "7.0.15",
		}},
		write(OpWrite, "k", "SET", "k", "v\n\"\\\x00\u00e9\u20ac", "PXAT", "1764000060000"),
		write(OpWrite, "k\xff", "RENAME", "k\xff", "other"),
		write(OpDelete, "", "DEL", ""),
		write(OpTruncate, "", "FLUSHALL"),
		write(OpMessage, "", "PUBLISH", "channel", "hi"),
		write(OpFunction, "", "FUNCTION", "FLUSH"),
		value("s", "string", Value{Kind: KindString, Data: []byte("v")}),
		value("l", "list", Value{Kind: KindList, Elements: bs("head", "", "\xfe")}),
		value("h", "hash", Value{Kind: KindHash, Hash: []HashEntry{
			{Field: []byte("f"), Value: []byte("v")}, {Field: []byte("g"), Value: []byte("w"), ExpireAt: at},
		}}),
		value("t", "set", Value{Kind: KindSet, Elements: bs("m", "n")}),
		value("z", "zset", Value{Kind: KindZSet, ZSet: []ZSetMember{
			{[]byte("a"), math.Inf(-1)}, {[]byte("b"), math.Copysign(0, -1)}, {[]byte("c"), 0.1}, {[]byte("d"), 1e300}, {[]byte("e"), math.Inf(1)},
		}}),
		value("x", "stream", Value{Kind: KindStream, Stream: []StreamEntry{
			{StreamID{1, 0}, bs("f", "1", "f", "2")}, {StreamID{math.MaxUint64, math.MaxUint64}, bs("g", "")},
		}, Meta: &StreamMeta{
			LastID: StreamID{math.MaxUint64, math.MaxUint64}, MaxDeletedID: StreamID{0, 0}, EntriesAdded: 2,
			Groups: []StreamGroup{{Name: []byte("group"), LastID: StreamID{1, 0}, EntriesRead: -1, Consumers: []StreamConsumer{
				{Name: []byte("c1"), SeenMs: 1764000000000, ActiveMs: -1, Pending: []PendingEntry{{StreamID{1, 0}, 1764000000000, 3}}},
				{Name: []byte("c2"), SeenMs: 1764000000000, ActiveMs: 1764000000000},
			}}},
		}}),
		value("m", "MBbloom--", Value{Kind: KindDump, Data: []byte("\x07\x81payload\x0b\x00")}),
		value("gone", "", Value{}),
	}
	events[1].Transaction = tx(0, false)
	events[2].Transaction, events[2].OtherKeys = tx(1, true), bs("other")
	for _, e := range events[4:7] { // t, m, f
		e.DB, e.Key = NoDB, nil
	}
	events[7].ExpireAt = at
	events[8].Part = OptPart{Set: true, Part: Part{Index: 1, Last: true, Arg: -1}}
	events[9].DB = 15
	events[13].Part = OptPart{Set: true, Part: Part{Index: 0, Arg: 2}}
	for i, e := range events {
		e.Seq = int64(i) + 1
	}
	return events
}

func golden(t *testing.T, name string, lines [][]byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	got := append(bytes.Join(lines, []byte("\n")), '\n')
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestEncodingIsThatOfTheRelease(t *testing.T) {
	var lines [][]byte
	enc := NewEncoder(0)
	for _, e := range goldenEvents() {
		lines = append(lines, hex.AppendEncode(nil, enc.Append(nil, e)))
	}
	golden(t, current+".hex", lines)
}

func TestJSONIsThatOfTheRelease(t *testing.T) {
	var lines [][]byte
	for _, e := range goldenEvents() {
		line := e.AppendJSON(nil)
		if !json.Valid(line) {
			t.Errorf("not JSON: %s", line)
		}
		lines = append(lines, line)
	}
	golden(t, current+".json", lines)
}

func TestEveryReleaseIsStillRead(t *testing.T) {
	files, err := filepath.Glob("testdata/v*.hex")
	if err != nil || len(files) != len(released()) {
		t.Fatalf("%d golden files of %d released schemas (%v)", len(files), len(released()), err)
	}
	d := NewDecoder(nil)
	for _, file := range files {
		encoded, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := os.ReadFile(strings.TrimSuffix(file, "hex") + "json")
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Fields(string(encoded))
		lines := strings.Split(strings.TrimSpace(string(rendered)), "\n")
		if len(want) != len(lines) {
			t.Fatalf("%s: %d events, but %d lines of JSON", file, len(want), len(lines))
		}
		for i, text := range want {
			b, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			var e Event
			if err := d.Decode(context.Background(), b, &e); err != nil {
				t.Fatalf("%s line %d: %v", file, i+1, err)
			}
			if got := string(e.AppendJSON(nil)); got != lines[i] {
				t.Errorf("%s line %d:\n got %s\nwant %s", file, i+1, got, lines[i])
			}
		}
	}
}

// A released schema is what readers of old topics have, so it never changes:
// a change of the schema is a new release.
func TestSchemaIsReleased(t *testing.T) {
	name := "change_event." + current + ".avsc"
	w := released()[Fingerprint()]
	if w == nil || w.name != name {
		t.Fatalf("change_event.avsc has fingerprint %016x, %s has not: release it as the next version, with golden files", Fingerprint(), name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, Bytes()) {
		t.Errorf("change_event.avsc and %s differ in what the fingerprint leaves out: defaults or docs", name)
	}
}

// The fingerprint of Avro's specification, computed here by its own text.
func TestFingerprintIsCRC64AVRO(t *testing.T) {
	const empty = 0xc15d213aa4d7a795
	crc := func(s string) uint64 {
		fp := uint64(empty)
		for i := range len(s) {
			x := (fp ^ uint64(s[i])) & 0xff
			for range 8 {
				x = x>>1 ^ empty&-(x&1)
			}
			fp = fp>>8 ^ x
		}
		return fp
	}
	if got := crc(`"int"`); got != 0x7275d51a3f395c8f {
		t.Fatalf("test's own CRC is wrong: %x", got)
	}
	canonical := mustCompile(text).CanonicalSchema()
	if want := crc(canonical); Fingerprint() != want {
		t.Errorf("fingerprint %016x, want %016x of %s", Fingerprint(), want, canonical)
	}
	if strings.Contains(canonical, `"doc"`) || !strings.HasPrefix(canonical, `{"name":"twinlog.v1.ChangeEvent","type":"record","fields":[{"name":"op","type":"string"},`) {
		t.Errorf("not in canonical form: %s", canonical)
	}
}
