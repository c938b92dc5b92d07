package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/schema"
)

// dumped makes a DUMP payload of a value: its type and the rest of it.
func dumped(typ byte, value file) []byte {
	return dumpedBy(maxVersion, typ, value)
}

// dumpedBy makes that of a server with another RDB version.
func dumpedBy(version uint16, typ byte, value file) []byte {
	b := append([]byte{typ}, value...)
	b = binary.LittleEndian.AppendUint16(b, version)
	return binary.LittleEndian.AppendUint64(b, updateCRC(0, b))
}

// resealed computes the checksum of a payload anew.
func resealed(payload []byte) []byte {
	body := payload[:len(payload)-8]
	return binary.LittleEndian.AppendUint64(append([]byte(nil), body...), updateCRC(0, body))
}

// readDump puts the parts of a payload together twice: as the other tests do,
// and with schema.Value's own Clone and Append, as sources and sinks do.
func readDump(payload []byte, key string, o Options) (item, schema.Value, error) {
	var items []item
	var joined schema.Value
	err := ReadDump(payload, 3, []byte(key), o, func(e *Entry) error {
		part := e.Value.Clone()
		if e.Index == 0 {
			joined = part
		} else {
			joined.Append(&part)
		}
		var err error
		items, err = add(items, e)
		return err
	})
	if err != nil {
		return item{}, joined, err
	}
	if len(items) != 1 || items[0].parts <= 0 {
		return item{}, joined, fmt.Errorf("%d values, not one whole", len(items))
	}
	return items[0], joined, nil
}

func TestReadDumpAgreesWithTheServerThatMadeIt(t *testing.T) {
	s := startServer(t)
	for _, entries := range []string{"128", "0"} { // packed and not
		s.do(t, "FLUSHALL", "CONFIG SET hash-max-listpack-entries "+entries, "CONFIG SET zset-max-listpack-entries "+entries, "CONFIG SET set-max-intset-entries "+entries)
		s.fill(t, "k")
		for key, want := range s.values(t) {
			want.DB, want.ExpireAt = 3, schema.OptInt64{} // DUMP tells neither
			payload, err := s.Dump(t.Context(), key).Bytes()
			if err != nil {
				t.Fatal(err)
			}
			for _, chunk := range []int{0, 1, 1000} {
				got, joined, err := readDump(payload, key, Options{ChunkBytes: chunk})
				if err != nil {
					t.Fatalf("%s in parts of %d: %v", key, chunk, err)
				}
				if chunk == 1 && strings.HasSuffix(key, ":700") && got.parts < 100 {
					t.Errorf("%s came in %d parts", key, got.parts)
				}
				got = sorted(got)
				if d := diff(want, got); d != "" {
					t.Fatalf("%s in parts of %d (-server +reader):\n%s", key, chunk, d)
				}
				got.Value = joined
				if d := diff(want, sorted(got)); d != "" {
					t.Fatalf("%s, joined from parts of %d (-server +reader):\n%s", key, chunk, d)
				}
			}
		}
	}
}

func TestReadDumpOfAStreamOfAServer(t *testing.T) {
	s := startServer(t)
	for i := range 50 {
		s.do(t, fmt.Sprintf("XADD s %d-1 f %d f again", i+1, i))
	}
	s.do(t, "XDEL s 7-1", "XGROUP CREATE s one 0", "XGROUP CREATE s two 0", "XGROUP CREATECONSUMER s two idle",
		"XREADGROUP GROUP one ann COUNT 20 STREAMS s >", "XREADGROUP GROUP one bob COUNT 10 STREAMS s >", "XREADGROUP GROUP two bob COUNT 5 STREAMS s >")
	payload, err := s.Dump(t.Context(), "s").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	whole, _, err := readDump(payload, "s", Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := &whole.Value
	if len(v.Stream) != 49 || v.Meta.LastID != id(50, 1) || v.Meta.MaxDeletedID != id(7, 1) || v.Meta.EntriesAdded != 50 {
		t.Errorf("%d entries, %+v", len(v.Stream), v.Meta)
	}
	pending := map[string]int{}
	for _, g := range v.Meta.Groups {
		for _, c := range g.Consumers {
			pending[string(g.Name)+" "+string(c.Name)] = len(c.Pending)
		}
	}
	if d := cmp.Diff(map[string]int{"one ann": 20, "one bob": 10, "two bob": 5, "two idle": 0}, pending); d != "" {
		t.Errorf("pending entries (-want +got):\n%s", d)
	}
	for _, chunk := range []int{1, 40, 100, 300, 1000} {
		parts, joined, err := readDump(payload, "s", Options{ChunkBytes: chunk})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(whole.Value, joined, exact); d != "" || parts.parts < 2 {
			t.Errorf("joined from %d parts of %d (-whole +joined):\n%s", parts.parts, chunk, d)
		}
	}
}

// Streams with groups and consumers that go on over many parts.
func TestPartsOfAStreamAreJoined(t *testing.T) {
	for _, typ := range []byte{15, 19, 21, 26} {
		payload := dumped(typ, streamFile(typ)[len("\x00\x06stream"):])
		for _, chunk := range []int{0, 1, 50, 100, 200, 400} {
			_, joined, err := readDump(payload, "stream", Options{ChunkBytes: chunk})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(streamValue(typ), joined, exact); d != "" {
				t.Errorf("type %d in parts of %d (-want +got):\n%s", typ, chunk, d)
			}
		}
	}
}

func TestReadDumpOfEveryEncoding(t *testing.T) {
	for _, c := range encodings() {
		typ, rest := c.file[0], c.file[1:]
		if rest[0] != 1 { // a key that is stored as a number
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			got, _, err := readDump(dumped(typ, rest[len("\x01k"):]), "any key", Options{ChunkBytes: 100})
			if err != nil {
				t.Fatal(err)
			}
			want := item{Kind: Value, DB: 3, Key: "any key", Type: c.typ, Value: c.want, parts: got.parts}
			if d := diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestReadDumpTakesAnyKey(t *testing.T) {
	for _, key := range []string{"", "\x00", strings.Repeat("k", 100_000), string([]byte{opEOF, 0, 0, 0, 0, 0, 0, 0, 0}), string([]byte{opAux})} {
		got, _, err := readDump(dumped(0, file{}.strings("v")), key, Options{})
		if err != nil || got.Key != key || string(got.Value.Data) != "v" {
			t.Errorf("a key of %d bytes: %q, error %v", len(key), got.Value.Data, err)
		}
	}
}

func TestReadDumpTakesAPayloadWithoutAChecksum(t *testing.T) {
	payload := dumped(0, file{}.strings("v"))
	clear(payload[len(payload)-8:])
	if got, _, err := readDump(payload, "k", Options{}); err != nil || string(got.Value.Data) != "v" {
		t.Errorf("value %q, error %v", got.Value.Data, err)
	}
}

func TestReadDumpSaysWhatIsWrong(t *testing.T) {
	good := func() []byte {
		return dumped(18, file{}.lengths(2, nodePlain).strings("plain").length(nodePacked).strings(packListpack(1, "two")))
	}
	version := func(v uint16) []byte {
		b := good()
		binary.LittleEndian.PutUint16(b[len(b)-10:], v)
		return resealed(b)
	}
	damaged := good()
	damaged[5] ^= 1
	two := append(append(file{}.strings("v"), 0).strings("k"), file{}.strings("again")...)
	for _, c := range []struct {
		name    string
		payload []byte
		corrupt bool // else it is not supported
		want    string
	}{
		{"nothing", nil, true, "of 0 bytes"},
		{"a footer alone", good()[len(good())-10:], true, "of 10 bytes"},
		{"a damaged byte", damaged, true, "checksum is"},
		{"a newer version", version(maxVersion + 1), false, "version 14; versions 5 to 13"},
		{"a version that neither has", version(79), false, "version 79"},
		{"a newer version of Valkey", version(81), false, "version 81"},
		{"an ancient version", version(minVersion - 1), false, "version 4"},
		{"garbage behind the value", dumped(0, append(file{}.strings("v"), 1, 2, 3)), true, "3 bytes behind"},
		{"the end of an RDB behind the value", dumped(0, file(file{}.strings("v").endUnchecked())), true, "9 bytes behind"},
		{"an expiry behind the value", dumped(0, append(file{}.strings("v"), opExpire, 1, 2, 3, 4)), true, "5 bytes behind"},
		{"a second value of the same key", dumped(0, two), true, "bytes behind"},
		{"a type that is none", dumped(27, file{}.strings("v")), true, "type 27"},
		{"a type that Valkey has not", dumpedBy(80, 24, file{}.strings("v")), true, "type 24"},
		{"what a module attached to the key", dumped(opMetadata, file{}.strings("v")), false, "module attached"},
		{"an aux field for a value", dumped(opAux, file{}.strings("v")), true, "type 250"},
		{"the end of an RDB for a value", dumped(opEOF, file{}.strings("v")), true, "type 255"},
		{"an expiry for a value", dumped(opExpire, file{}.strings("v")), true, "type 253"},
		{"a module value of a release candidate", dumped(6, file{}.length(moduleID("testmod-x", 1))), false, "testmod-x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, key := range []string{"k", ""} {
				err := ReadDump(c.payload, 0, []byte(key), Options{}, func(*Entry) error { return nil })
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v, want %q", err, c.want)
				}
				var corrupt *CorruptError
				var unsupported *UnsupportedError
				if errors.As(err, &corrupt) != c.corrupt || errors.As(err, &unsupported) == c.corrupt {
					t.Errorf("%T: %v", err, err)
				}
				if !strings.Contains(err.Error(), fmt.Sprintf("%q", key)) {
					t.Errorf("the key is not named: %v", err)
				}
			}
		})
	}
}

// Whatever is cut off, with the checksum of what is left: an error.
func TestReadDumpFindsEveryMissingEnd(t *testing.T) {
	payload := dumped(26, streamFile(26)[len("\x00\x06stream"):])
	for n := 1; n < len(payload)-dumpFooter; n++ {
		cut := append(append([]byte(nil), payload[:n]...), payload[len(payload)-dumpFooter:]...)
		err := ReadDump(resealed(cut), 0, []byte("stream"), Options{ChunkBytes: 50}, func(*Entry) error { return nil })
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes of %d: error %v", n, len(payload)-dumpFooter, err)
		}
	}
}

// Lengths are believed as far as there are bytes.
func TestReadDumpTakesNoMemoryForLengthsThatAreOnlyClaimed(t *testing.T) {
	for _, n := range []uint64{1 << 30, math.MaxUint32, 1 << 40, math.MaxInt64, math.MaxUint64} {
		for name, payload := range map[string][]byte{
			"string":            dumped(0, file{}.length(n).raw("abc")),
			"compressed string": dumped(0, append(file{}, 0xc0|encLZF).lengths(n/88+1, n).raw("\x00a\xe0\xff\x00")),
			"list":              dumped(18, file{}.length(n).lengths(nodePlain).strings("abc")),
			"set":               dumped(2, file{}.length(n).strings("abc")),
			"member":            dumped(5, file{}.length(1).length(n).raw("abc")),
			"hash":              dumped(4, file{}.length(n).strings("f", "v")),
			"expiring hash":     dumped(24, file{}.le64(1).length(n).lengths(1).strings("f", "v")),
			"stream":            dumped(21, file{}.length(n).strings(string(file{}.rawID(1, 1)), packListpack(0, 0, 0, 0))),
		} {
			t.Run(fmt.Sprintf("%s of %d", name, n), func(t *testing.T) {
				var err error
				taken := allocated(func() {
					err = ReadDump(payload, 0, []byte("k"), Options{MaxElementBytes: math.MaxInt64}, func(*Entry) error { return nil })
				})
				var corrupt *CorruptError
				var limit *LimitError
				if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &corrupt) && !errors.As(err, &limit) {
					t.Errorf("error %v", err)
				}
				if taken > 4<<20 {
					t.Errorf("%d bytes were taken for a payload of %d", taken, len(payload))
				}
			})
		}
	}
}

func TestReadDumpEndsWithTheVisitorsError(t *testing.T) {
	stop := errors.New("stop")
	visits := 0
	err := ReadDump(dumped(2, file{}.length(3).strings("a", "b", "c")), 0, []byte("k"), Options{ChunkBytes: 1}, func(*Entry) error {
		visits++
		return stop
	})
	if !errors.Is(err, stop) || visits != 1 {
		t.Errorf("%d visits, error %v", visits, err)
	}
}

// Whatever stands in a payload: no panic, memory as bounded as Options say, an
// error of a kind that is promised, and else one whole value of the key,
// however it is cut.
func FuzzReadDump(f *testing.F) {
	for _, c := range encodings() {
		if len(c.file) <= 2000 && c.file[1] == 1 {
			f.Add(dumped(c.file[0], c.file[len("\x00\x01k"):]), "k", uint16(7))
		}
	}
	for _, c := range expiringHashes() {
		f.Add(dumpedBy(c.version, c.file[0], c.file[len("\x00\x01k"):]), "k", uint16(7))
	}
	for _, typ := range []byte{15, 19, 21, 26} {
		f.Add(dumped(typ, streamFile(typ)[len("\x00\x06stream"):]), "", uint16(50))
	}
	f.Add(dumped(7, moduleValue("text")), "k", uint16(9))
	f.Add(dumped(0, bomb(300)), "k", uint16(1000))
	f.Add(dumped(opExpire, file{}), "", uint16(1))
	f.Fuzz(func(t *testing.T, payload []byte, key string, chunk uint16) {
		if len(payload) > dumpFooter { // or nearly nothing passes the checksum
			payload = resealed(payload)
		}
		sum, err := fuzzDump(t, payload, key, int(chunk))
		again, errAgain := fuzzDump(t, payload, key, 1<<20)
		if (err == nil) != (errAgain == nil) {
			t.Fatalf("in parts of %d: %v; of %d: %v", chunk, err, 1<<20, errAgain)
		}
		if err == nil && sum != again {
			t.Fatalf("in parts of %d the content is another", chunk)
		}
	})
}

func fuzzDump(t *testing.T, dump []byte, key string, chunk int) (sum digest, err error) {
	t.Helper()
	o := Options{ChunkBytes: chunk, MaxElementBytes: 1 << 16}
	sum, parts, last := digest{group: "none", consumer: "none"}, int32(0), false
	err = ReadDump(dump, 1, []byte(key), o, func(e *Entry) error {
		if e.Kind != Value || string(e.Key) != key || e.DB != 1 || e.ExpireAt.Set || e.Index != parts || last {
			t.Fatalf("part %d after %d (last %v): %+v", e.Index, parts, last, e)
		}
		if size, most := payload(&e.Value), max(chunk, DefaultChunkBytes)+3*int(o.MaxElementBytes); size > most {
			t.Fatalf("part %d of a %s has %d bytes", e.Index, e.Type, size)
		}
		parts, last = parts+1, e.Last
		sum.add(e)
		return nil
	})
	var (
		limit       *LimitError
		corrupt     *CorruptError
		unsupported *UnsupportedError
	)
	switch {
	case err == nil && !last:
		t.Fatal("no error, and no whole value")
	case err != nil && !errors.As(err, &limit) && !errors.As(err, &corrupt) && !errors.As(err, &unsupported) && !errors.Is(err, io.ErrUnexpectedEOF):
		t.Fatalf("an error of no promised kind: %v", err)
	}
	return sum, err
}
