package rdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
)

// everything is an RDB that has every opcode and encoding, each small.
func everything() file {
	f := newFile("REDIS0013")
	f = append(f, opAux).strings("redis-ver").strings("8.6.0")
	f = append(f, opFunction).strings("#!lua name=lib")
	f = append(f, moduleAux()...)
	f = append(f, opSelectDB).length(3)
	f = append(f, opResizeDB).lengths(40, 2)
	f = append(f, opSlotInfo).lengths(16383, 40, 2)
	f = append(f, opExpireMillis).le64(4102444800123)
	f = append(f, opFreq, 7)
	f = f.key(0, "expires").strings("in ms")
	f = append(f, opExpire).raw("\x01\x02\x03\x04")
	f = append(f, opIdle).length(100)
	f = f.key(0, "expires").strings("in s")
	f = f.key(10, "ziplist").strings(packZiplist("a", 1, 300, -70_000, 1<<40, strings.Repeat("b", 70)))
	f = f.key(18, "quicklist").length(3).lengths(nodePacked).strings(packListpack("a", 1, 300, -70_000, 1<<23, 1<<40, strings.Repeat("b", 70))).
		lengths(nodePlain).strings("plain").lengths(nodePacked).strings(packListpack(3))
	for _, c := range encodings() {
		if len(c.file) <= 200 {
			f = append(f, c.file...)
		}
	}
	for _, c := range expiringHashes() {
		if c.magic != "VALKEY080" {
			f = append(f, c.file...)
		}
	}
	for _, typ := range []byte{15, 19, 21, 26} {
		f = append(f, streamFile(typ)...)
	}
	return f.key(7, "module").raw(string(moduleValue("text")))
}

func TestReaderFindsEveryFlippedBit(t *testing.T) {
	data := everything().end()
	if _, err := collect(data, Options{}); err != nil {
		t.Fatalf("the intact file: %v", err)
	}
	for at := range data {
		for bit := range 8 {
			data[at] ^= 1 << bit
			if err := drain(data, Options{}); err == nil || errors.Is(err, errIntact) {
				t.Errorf("bit %d of byte %d is wrong: %v", bit, at, err)
			}
			data[at] ^= 1 << bit
		}
	}
}

func TestReaderFindsEveryMissingEnd(t *testing.T) {
	data := everything().end()
	for n := range data {
		err := drain(data[:n], Options{ChunkBytes: 50})
		if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "it ends early") {
			t.Errorf("%d bytes of %d: error %v", n, len(data), err)
		}
	}
}

// errIntact says that all was read, and verified, but data went on.
var errIntact = errors.New("the RDB ended before its bytes did")

// drain reads data and forgets it.
func drain(data []byte, o Options) error {
	r := NewReader(bufio.NewReaderSize(bytes.NewReader(data), 1<<10), o)
	for {
		_, err := r.Next()
		if errors.Is(err, io.EOF) && r.BytesRead() != int64(len(data)) {
			return errIntact
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func TestReaderSaysWhatIsWrong(t *testing.T) {
	broken := everything().end()
	broken[len(broken)-1] ^= 0xff
	key := func(typ byte) file { return newFile("REDIS0010").key(typ, "k") }
	for _, c := range []struct {
		name string
		data []byte
		kind error
		want string
	}{
		{"something else", []byte("+PONG\r\n, and more"), new(CorruptError), "instead of REDIS"},
		{"a version that is no number", newFile("REDIS00x9").end(), new(CorruptError), "instead of REDIS"},
		{"a version without a checksum", newFile("REDIS0004").end(), new(UnsupportedError), `"REDIS0004"`},
		{"a newer version", newFile("REDIS0014").end(), new(UnsupportedError), `"REDIS0014"`},
		{"a newer version of Valkey", newFile("VALKEY081").end(), new(UnsupportedError), `"VALKEY081"`},
		{"a version of Redis with the magic of Valkey", newFile("VALKEY011").end(), new(UnsupportedError), `"VALKEY011"`},
		{"a version of Valkey with the magic of Redis", newFile("REDIS0080").end(), new(UnsupportedError), `"REDIS0080"`},
		{"what a module attached to a key", append(newFile("REDIS0013"), opMetadata), new(UnsupportedError), "a module attached"},
		{"slots on the way to a Valkey", append(newFile("VALKEY080"), opMetadata), new(UnsupportedError), "slots that are just being moved"},
		{"an opcode of a later version", append(newFile("REDIS0012"), opMetadata), new(CorruptError), "unknown opcode or type 243"},
		{"a type that a Valkey has not", newFile("VALKEY080").key(24, "k"), new(CorruptError), "unknown opcode or type 24"},
		{"an earliest expiry that cannot be", key(24).le64(1 << 48), new(CorruptError), "earliest expiry of a hash's fields is 281474976710656"},
		{"a field's expiry that cannot be", key(24).le64(5).length(1).length(1 << 48), new(CorruptError), "expiry of a hash field is 281474976710656"},
		{"a field's expiry that ends beyond", key(24).le64(1<<48 - 1).length(1).length(2), new(CorruptError), "expiry of a hash field is 281474976710656"},
		{"a field's absolute expiry that cannot be", key(22).length(1).length(1 << 63), new(CorruptError), "expiry of a hash field is -9223372036854775808"},
		{"a field's expiry of a Valkey that cannot be", newFile("VALKEY080").key(22, "k").length(1).strings("f", "v").le64(-2), new(CorruptError), "expiry of hash field \"f\" is -2"},
		{"a packed field without its expiry", key(25).le64(0).strings(packListpack("f", "v")), new(CorruptError), "ends before the expiry"},
		{"a packed field's expiry that is text", key(25).le64(0).strings(packListpack("f", "v", "x")), new(CorruptError), "expiry of a packed hash field is"},
		{"a packed field's expiry below zero", key(25).le64(0).strings(packListpack("f", "v", -1)), new(CorruptError), "expiry of a packed hash field is"},
		{"a wrong checksum", broken, new(CorruptError), "its checksum is"},
		{"an unknown type", key(27), new(CorruptError), "unknown opcode or type 27"},
		{"an unknown opcode", append(newFile("REDIS0010"), 240), new(CorruptError), "unknown opcode or type 240"},
		{"a function of a release candidate", append(newFile("REDIS0010"), opFunctionPre), new(UnsupportedError), "release candidate"},
		{"a module value of a release candidate", key(6).length(moduleID("testmod-x", 1)), new(UnsupportedError), `"testmod-x"`},
		{"an unknown item of a module", key(7).length(moduleID("testmod-x", 1)).length(6), new(CorruptError), "unknown item 6"},
		{"module data without its time", append(newFile("REDIS0010"), opModuleAux).lengths(1, 5), new(CorruptError), "begins with item 5"},
		{"a database that cannot be", append(newFile("REDIS0010"), opSelectDB).length(1 << 31), new(CorruptError), "database 2147483648"},
		{"an unknown length encoding", newFile("REDIS0010").raw("\x00\x82"), new(CorruptError), "0x82"},
		{"an unknown string encoding", newFile("REDIS0010").raw("\x00\xc4"), new(CorruptError), "0xc4"},
		{"a string for a length", key(1).raw("\xc0"), new(CorruptError), "number of elements is no number"},
		{"an unknown node of a list", key(18).lengths(1, 3), new(CorruptError), "kind 3"},
		{"a score that is none", key(3).length(1).strings("m").strings("0x1p3"), new(CorruptError), "is no score"},
		{"NaN as text", key(3).length(1).strings("m").raw("\xfd"), new(CorruptError), "not a number"},
		{"NaN in binary", key(5).length(1).strings("m").le64(math.MaxInt64), new(CorruptError), "not a number"},
		{"NaN in a listpack", key(17).strings(packListpack("m", "nan")), new(CorruptError), "not a number"},
		{"a score in a listpack that is none", key(17).strings(packListpack("m", "one")), new(CorruptError), "is no score"},
		{"a field without a value", key(16).strings(packListpack("f")), new(CorruptError), "odd number of elements"},
		{"a counter beyond 2^63", key(19).length(0).lengths(0, 0, 0, 0, 0, 0, 0).length(1 << 63), new(CorruptError), "entries-added is"},

		{"a listpack of a byte", key(16).strings("\xff"), new(CorruptError), "no valid frame"},
		{"a listpack that lies about its size", key(16).strings("\x09\x00\x00\x00\x01\x00\x01\xff"), new(CorruptError), "no valid frame"},
		{"a listpack without an end", key(16).strings("\x08\x00\x00\x00\x00\x00\x01\x01"), new(CorruptError), "no valid frame"},
		{"a listpack that counts too few", key(18).lengths(1, 2).strings("\x0b\x00\x00\x00\x01\x00\x01\x01\x01\x01\xff"), new(CorruptError), "more elements than it says"},
		{"a listpack that counts too many", key(18).lengths(1, 2).strings("\x09\x00\x00\x00\x02\x00\x01\x01\xff"), new(CorruptError), "ends 1 elements early"},
		{"a listpack element past the end", key(18).lengths(1, 2).strings("\x09\x00\x00\x00\x01\x00\xbf\x01\xff"), new(CorruptError), "past the end of its listpack"},
		{"a listpack string of 4 GiB", key(18).lengths(1, 2).strings("\x0d\x00\x00\x00\x01\x00\xf0\xff\xff\xff\xff\x01\xff"), new(CorruptError), "past the end of its listpack"},
		{"a listpack encoding that is none", key(18).lengths(1, 2).strings("\x09\x00\x00\x00\x01\x00\xf5\x01\xff"), new(CorruptError), "unknown encoding 0xf5"},
		{"a listpack with a wrong way back", key(18).lengths(1, 2).strings("\x09\x00\x00\x00\x01\x00\x01\x02\xff"), new(CorruptError), "is not its length"},

		{"a ziplist of a byte", key(10).strings("\xff"), new(CorruptError), "no valid frame"},
		{"a ziplist that counts too few", key(10).strings(strings.Replace(packZiplist(1, 2), "\x02\x00\x00\xf2", "\x01\x00\x00\xf2", 1)), new(CorruptError), "more elements than it says"},
		{"a ziplist that counts too many", key(10).strings(strings.Replace(packZiplist(1, 2), "\x02\x00\x00\xf2", "\x03\x00\x00\xf2", 1)), new(CorruptError), "ends 1 elements early"},
		{"a ziplist with a wrong way back", key(10).strings(strings.Replace(packZiplist(1, 2), "\x02\xf3", "\x03\xf3", 1)), new(CorruptError), "gives 3 bytes for the one before"},
		{"a ziplist string of 4 GiB", key(10).strings(strings.Replace(packZiplist("abcdef"), "\x06abcde", "\x80\xff\xff\xff\xffe", 1)), new(CorruptError), "past the end of its ziplist"},
		{"a ziplist encoding that is none", key(10).strings(strings.Replace(packZiplist(1), "\xf2", "\xc1", 1)), new(CorruptError), "unknown encoding 0xc1"},

		{"an intset of no width", key(11).strings("\x03\x00\x00\x00\x01\x00\x00\x00abc"), new(CorruptError), "unknown width 3"},
		{"an intset of 2^32-1 numbers", key(11).strings("\x08\x00\x00\x00\xff\xff\xff\xff12345678"), new(CorruptError), "cannot have 4294967295 numbers"},
		{"an intset without a frame", key(11).strings("\x08\x00\x00\x00"), new(CorruptError), "no valid frame"},

		{"a zipmap of a byte", key(9).strings("\xff"), new(CorruptError), "no valid frame"},
		{"a zipmap that counts too few", key(9).strings("\x00\x01a\x01\x00b\xff"), new(CorruptError), "more fields than it says"},
		{"a zipmap that counts too many", key(9).strings("\x02\x01a\x01\x00b\xff"), new(CorruptError), "ends 1 fields early"},
		{"a zipmap string of 4 GiB", key(9).strings("\x01\xfe\xff\xff\xff\xffa\xff"), new(CorruptError), "past the end of its zipmap"},
		{"a zipmap length that is none", key(9).strings("\x01\xffa\xff"), new(CorruptError), "invalid length in a zipmap"},
		{"a zipmap value without its unused bytes", key(9).strings("\x01\x01a\x01\xff"), new(CorruptError), "past the end of its zipmap"},

		{"a compressed string that is too long", newFile("REDIS0010").raw("\x00\xc3\x04\x02\x01aab"), new(CorruptError), "longer than its content"},
		{"a compressed string that is too short", newFile("REDIS0010").raw("\x00\xc3\x03\x05\x01aa"), new(CorruptError), "ends before the 3 bytes"},
		{"a literal past the end", newFile("REDIS0010").raw("\x00\xc3\x03\x05\x02aa"), new(CorruptError), "runs past the end of a compressed"},
		{"a copy from before the start", newFile("REDIS0010").raw("\x00\xc3\x04\x05\x00a\x20\x01"), new(CorruptError), "reaches outside"},
		{"a copy past the end", newFile("REDIS0010").raw("\x00\xc3\x04\x03\x00a\x40\x00"), new(CorruptError), "reaches outside"},
		{"compression that is impossible", newFile("REDIS0010").raw("\x00\xc3\x01\x50\x00a"), new(CorruptError), "cannot be compressed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, chunk := range []int{0, 1} {
				err := drain(c.data, Options{ChunkBytes: chunk})
				if fmt.Sprintf("%T", err) != fmt.Sprintf("%T", c.kind) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%T: %v; want %T with %q", err, err, c.kind, c.want)
				}
			}
		})
	}
}

// emptyStream is an RDB up to the groups of its first key.
func emptyStream(key string) file {
	return newFile("REDIS0011").key(21, key).length(0).lengths(0, 0, 0, 0, 0, 0, 0, 0)
}

// Lengths are believed as far as there are bytes.
func TestReaderTakesNoMemoryForLengthsThatAreOnlyClaimed(t *testing.T) {
	key := func(typ byte) file { return newFile("REDIS0011").key(typ, "k") }
	pel := func() file { return emptyStream("k").length(1).strings("g").lengths(0, 0, 0) }
	lzf := func(f file, in, out uint64) file {
		return append(f, 0xc0|encLZF).lengths(in, out).raw("\x00a\xe0\xff\x00")
	}
	for _, n := range []uint64{1 << 30, math.MaxUint32, 1 << 40, math.MaxInt64, math.MaxUint64} {
		for _, c := range []struct {
			name string
			file file
		}{
			{"aux field", append(newFile("REDIS0011"), opAux).length(n)},
			{"function library", append(newFile("REDIS0011"), opFunction).length(n)},
			{"key", append(newFile("REDIS0011"), 0).length(n)},
			{"string", key(0).length(n).raw("abc")},
			{"compressed string", lzf(key(0), n, n)},
			{"compressed string that is a bomb", lzf(key(0), n/88+1, n)},
			{"list", key(1).length(n).strings("abc")},
			{"set", key(2).length(n).strings("abc")},
			{"sorted set", key(5).length(n).strings("abc").le64(0)},
			{"sorted set of text", key(3).length(n).strings("abc").strings("1")},
			{"hash", key(4).length(n).strings("abc", "def")},
			{"element", key(2).length(1).length(n).raw("abc")},
			{"compressed element", lzf(key(2).length(1), n, n)},
			{"field", key(4).length(1).length(n).raw("abc")},
			{"field's value", key(4).length(1).strings("f").length(n).raw("abc")},
			{"member", key(5).length(1).length(n).raw("abc")},
			{"expiring hash", key(24).le64(1).length(n).lengths(1).strings("f", "v")},
			{"expiring hash of a release candidate", key(22).length(n).lengths(1).strings("f", "v")},
			{"expiring hash of a Valkey", newFile("VALKEY080").key(22, "k").length(n).strings("f", "v").le64(1)},
			{"expiring listpack", key(25).le64(1).length(n).raw("abc")},
			{"producers", newFile("REDIS0013").key(26, "k").length(0).lengths(0, 0, 0, 0, 0, 0, 0, 0).length(0).lengths(100, 100).length(n).strings("p").lengths(0)},
			{"producer's name", newFile("REDIS0013").key(26, "k").length(0).lengths(0, 0, 0, 0, 0, 0, 0, 0).length(0).lengths(100, 100, 1).length(n).raw("abc")},
			{"producer's messages", newFile("REDIS0013").key(26, "k").length(0).lengths(0, 0, 0, 0, 0, 0, 0, 0).length(0).lengths(100, 100, 1).strings("p").length(n).strings("m").lengths(1, 1)},
			{"quicklist", key(14).length(n).strings(packZiplist("a"))},
			{"quicklist of listpacks", key(18).length(n).lengths(nodePacked).strings(packListpack("a"))},
			{"plain list node", key(18).length(1).lengths(nodePlain).length(n).raw("abc")},
			{"listpack", key(16).length(n).raw("abc")},
			{"compressed listpack", lzf(key(16), n, n)},
			{"ziplist", key(13).length(n).raw("abc")},
			{"intset", key(11).length(n).raw("\x08\x00\x00\x00\xff\xff\xff\xff")},
			{"zipmap", key(9).length(n).raw("abc")},
			{"module item", key(7).length(moduleID("testmod-x", 1)).lengths(moduleString).length(n).raw("abc")},
			{"module aux item", append(newFile("REDIS0011"), opModuleAux).lengths(1, moduleNumber, 1, moduleString).length(n).raw("abc")},
			{"stream", key(21).length(n).strings(string(file{}.rawID(1, 1)), packListpack(0, 0, 0, 0))},
			{"stream node key", key(21).length(1).length(n).raw("abc")},
			{"stream node", key(21).length(1).strings(string(file{}.rawID(1, 1))).length(n).raw("abc")},
			{"groups", emptyStream("k").length(n)},
			{"group name", emptyStream("k").length(1).length(n).raw("abc")},
			{"pending entries of a group", pel().length(n).rawID(1, 1).le64(1).length(1)},
			{"consumers", pel().length(0).length(n).strings("c").le64(0).le64(0).length(0)},
			{"consumer name", pel().length(0).length(1).length(n).raw("abc")},
			{"pending entries of a consumer", pel().length(0).length(1).strings("c").le64(0).le64(0).length(n)},
		} {
			t.Run(fmt.Sprintf("%s of %d", c.name, n), func(t *testing.T) {
				for _, limit := range []int64{0, math.MaxInt64} { // the limit is not all that protects
					var err error
					taken := allocated(func() { err = drain(c.file, Options{MaxElementBytes: limit}) })
					var corrupt *CorruptError
					var limited *LimitError
					if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &limited) && !errors.As(err, &corrupt) {
						t.Errorf("limit %d: error %v", limit, err)
					}
					if taken > 4<<20 {
						t.Errorf("limit %d: %d bytes were taken for a file of %d", limit, taken, len(c.file))
					}
				}
			})
		}
	}
}

// allocated returns how many bytes f takes, those that it gives back
// included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// bomb is a compressed string of 264 bytes for every three.
func bomb(copies int) file {
	f := append(file{}, 0xc0|encLZF).length(uint64(2 + 3*copies)).length(uint64(1 + 264*copies)).raw("\x00a")
	return f.raw(strings.Repeat("\xe0\xff\x00", copies))
}

func TestReaderInflatesABombInParts(t *testing.T) {
	const copies = 400_000 // 1.2 MB, which make 105.6 MB
	data := append(newFile("REDIS0011").key(0, "k"), bomb(copies)...).end()
	r := NewReader(bufio.NewReaderSize(bytes.NewReader(data), 64<<10), Options{ChunkBytes: 64 << 10})
	size := 0
	taken := allocated(func() {
		for {
			e, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			size += len(e.Value.Data)
			if bytes.Count(e.Value.Data, []byte("a")) != len(e.Value.Data) {
				t.Fatalf("part %d is not what was compressed", e.Index)
			}
		}
	})
	if size != 1+264*copies {
		t.Errorf("%d bytes, want %d", size, 1+264*copies)
	}
	if taken > 2<<20 {
		t.Errorf("%d bytes were taken for parts of 64 KiB", taken)
	}

	// An element has to be in memory whole: the limit is checked first.
	data = append(newFile("REDIS0011").key(1, "k").length(1), bomb(copies)...).end()
	var err error
	taken = allocated(func() { err = drain(data, Options{}) })
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Size != 1+264*copies || string(limit.Key) != "k" || limit.What != "element" {
		t.Errorf("error %v", err)
	}
	if taken > 1<<20 {
		t.Errorf("%d bytes were taken", taken)
	}
}

func TestReaderLimitsTheTableOfPendingEntries(t *testing.T) {
	f := emptyStream("k").length(1).strings("g").lengths(0, 0, 0).length(1000)
	for i := range uint64(1000) {
		f = f.rawID(1, i).le64(1).length(1)
	}
	var limit *LimitError
	if err := drain(f, Options{MaxElementBytes: 999 * pelEntryBytes}); !errors.As(err, &limit) || limit.What != "table of pending entries" {
		t.Errorf("error %v", err)
	}
	if err := drain(f, Options{MaxElementBytes: 1000 * pelEntryBytes}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
}

// Like a server that loads it, the reader takes an RDB of a server with
// rdbchecksum off, which has zeros for a checksum.
func TestReaderTakesAnRDBWithoutAChecksum(t *testing.T) {
	s := startServer(t, "--rdbchecksum", "no")
	s.do(t, "SET k v")
	data := s.dump(t)
	if sum := binary.LittleEndian.Uint64(data[len(data)-8:]); sum != 0 {
		t.Fatalf("the server wrote the checksum %x", sum)
	}
	if got := values(t, data, Options{})["k"]; string(got.Value.Data) != "v" {
		t.Errorf("value %q", got.Value.Data)
	}
}

// The connection's own error is not taken for the end of the RDB.
func TestReaderKeepsTheErrorOfTheConnection(t *testing.T) {
	cut := errors.New("connection reset")
	data := everything().end()
	for n := range len(data) {
		r := NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(data[:n]), failing{cut})), Options{})
		var err error
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, cut) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		if _, again := r.Next(); !errors.Is(again, err) {
			t.Fatalf("the next error is %v", again)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
