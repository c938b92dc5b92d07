package rdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/schema"
)

// Every number and string that a listpack or ziplist stores in its own way.
func everyElement() (packed []any, texts []string) {
	for _, n := range []int{
		0, 1, 12, 13, 127, 128, -1, -128, -129, 4095, 4096, -4096, -4097, 32767, 32768, -32768, -32769,
		1<<23 - 1, 1 << 23, -1 << 23, -1<<23 - 1, math.MaxInt32, math.MaxInt32 + 1, math.MinInt32, math.MinInt32 - 1, math.MaxInt64, math.MinInt64,
	} {
		packed, texts = append(packed, n), append(texts, strconv.Itoa(n))
	}
	for _, n := range []int{0, 1, 63, 64, 121, 122, 123, 124, 125, 126, 127, 128, 250, 253, 254, 255, 4095, 4096, 16000, 16376, 16377, 16378, 16379, 16380, 16381, 16382, 16383, 16384, 70000} {
		s := strings.Repeat("x", n)
		packed, texts = append(packed, s), append(texts, s)
	}
	return packed, texts
}

// encoding is one way to store a value.
type encoding struct {
	name string
	file file // a key and its value
	typ  string
	want schema.Value
}

// encodings are all but the streams' and modules'.
func encodings() []encoding {
	elements, texts := everyElement()
	stringTexts := elementsOf(schema.KindList, texts...)
	compressed := "\xc3\x09\x28\x01aa\xe0\x1b\x00\x01aa" // two literals, a copy of 36, two literals
	return []encoding{
		{"string", file{}.key(0, "k").strings("value"), "string", stringOf("value")},
		{"empty string", file{}.key(0, "k").strings(""), "string", stringOf("")},
		{"string with a 14-bit length", file{}.key(0, "k").strings(strings.Repeat("y", 300)), "string", stringOf(strings.Repeat("y", 300))},
		{"string with a 32-bit length", file{}.key(0, "k").strings(strings.Repeat("y", 17000)), "string", stringOf(strings.Repeat("y", 17000))},
		{"string with a 64-bit length", file{}.key(0, "k").raw("\x81\x00\x00\x00\x00\x00\x00\x00\x02hi"), "string", stringOf("hi")},
		{"string as int8", file{}.key(0, "k").raw("\xc0\x80"), "string", stringOf("-128")},
		{"string as int16", file{}.key(0, "k").raw("\xc1\xff\x7f"), "string", stringOf("32767")},
		{"string as int32", file{}.key(0, "k").raw("\xc2\x00\x00\x00\x80"), "string", stringOf("-2147483648")},
		{"compressed string", file{}.key(0, "k").raw(compressed), "string", stringOf(strings.Repeat("a", 40))},
		{"integer key", append(file{}, 0).raw("\xc0\x07").strings("v"), "string", stringOf("v")},
		{"linked list", file{}.key(1, "k").length(2).strings("a").raw("\xc0\x05"), "list", elementsOf(schema.KindList, "a", "5")},
		{"list as ziplist", file{}.key(10, "k").strings(packZiplist(elements...)), "list", stringTexts},
		{"quicklist of ziplists", file{}.key(14, "k").length(3).strings(packZiplist("a", 1), packZiplist(), packZiplist(2)), "list", elementsOf(schema.KindList, "a", "1", "2")},
		{
			"quicklist of listpacks and plain nodes", file{}.key(18, "k").length(3).lengths(2).strings(packListpack(elements...)).lengths(1).strings("plain").lengths(2).strings(packListpack(3)),
			"list", elementsOf(schema.KindList, append(append([]string{}, texts...), "plain", "3")...),
		},
		{"set as hash table", file{}.key(2, "k").length(2).strings("a", "b"), "set", elementsOf(schema.KindSet, "a", "b")},
		{"intset of 16 bits", file{}.key(11, "k").strings(packIntset(2, -32768, -1, 7)), "set", elementsOf(schema.KindSet, "-32768", "-1", "7")},
		{"intset of 32 bits", file{}.key(11, "k").strings(packIntset(4, math.MinInt32, 1)), "set", elementsOf(schema.KindSet, "-2147483648", "1")},
		{"intset of 64 bits", file{}.key(11, "k").strings(packIntset(8, math.MinInt64, math.MaxInt64)), "set", elementsOf(schema.KindSet, "-9223372036854775808", "9223372036854775807")},
		{"set as listpack", file{}.key(20, "k").strings(packListpack(1, "b")), "set", elementsOf(schema.KindSet, "1", "b")},
		{
			"zset with text scores", file{}.key(3, "k").length(4).strings("a").raw("\x033.5").strings("b").raw("\xfe").strings("c").raw("\xff").strings("d").raw("\x18-4.9406564584124654e-324"),
			"zset", zsetOf("a", 3.5, "b", math.Inf(1), "c", math.Inf(-1), "d", -math.SmallestNonzeroFloat64),
		},
		{
			"zset with binary scores", file{}.key(5, "k").length(3).strings("a").le64(int64(math.Float64bits(0.1))).strings("b").le64(math.MinInt64).strings("c").le64(int64(math.Float64bits(math.Inf(1)))),
			"zset", zsetOf("a", 0.1, "b", math.Copysign(0, -1), "c", math.Inf(1)),
		},
		{"zset as ziplist", file{}.key(12, "k").strings(packZiplist("a", 1, "b", "2.5", 3, "-inf", "d", "-0")), "zset", zsetOf("a", 1.0, "b", 2.5, "3", math.Inf(-1), "d", math.Copysign(0, -1))},
		{"zset as listpack", file{}.key(17, "k").strings(packListpack("a", -1, "b", "0.10000000000000001")), "zset", zsetOf("a", -1.0, "b", 0.1)},
		{"hash as hash table", file{}.key(4, "k").length(2).strings("a", "1", "b", ""), "hash", hashOf("a", "1", "b", "")},
		{"hash as zipmap", file{}.key(9, "k").strings("\x02\x01a\x03\x00one\x01b\x02\x03twxyz\xff"), "hash", hashOf("a", "one", "b", "tw")},
		{"hash as zipmap with long values and no count", file{}.key(9, "k").strings("\xfe\x01a\xfe\x2c\x01\x00\x00\x00" + strings.Repeat("v", 300) + "\xff"), "hash", hashOf("a", strings.Repeat("v", 300))},
		{"hash as ziplist", file{}.key(13, "k").strings(packZiplist("a", 1, "b", "two")), "hash", hashOf("a", "1", "b", "two")},
		{"hash as listpack", file{}.key(16, "k").strings(packListpack("a", 1, "b", "two")), "hash", hashOf("a", "1", "b", "two")},
		{"empty list", file{}.key(1, "k").length(0), "list", schema.Value{Kind: schema.KindList}},
	}
}

func TestReaderReadsEveryEncoding(t *testing.T) {
	for _, c := range encodings() {
		t.Run(c.name, func(t *testing.T) {
			data := append(newFile("REDIS0011"), c.file...).key(0, "next").strings("intact").end()
			for _, chunk := range []int{0, 1, 7, 1000} {
				items, err := collect(data, Options{ChunkBytes: chunk})
				if err != nil {
					t.Fatal(err)
				}
				if len(items) != 2 || items[1].Key != "next" || string(items[1].Value.Data) != "intact" {
					t.Fatalf("chunk %d: the next key is wrong: %+v", chunk, items)
				}
				got := items[0]
				if got.Type != c.typ {
					t.Errorf("type %q, want %q", got.Type, c.typ)
				}
				if d := diff(item{Value: c.want}, item{Value: got.Value}); d != "" {
					t.Errorf("chunk %d (-want +got):\n%s", chunk, d)
				}
			}
		})
	}
}

// Literals and copies of all lengths and distances, overlapping ones too, where
// neither the input's buffer nor a part ends with a step.
func TestReaderInflatesEveryKindOfStep(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, size := range []int{1, 20, 300, 5000, 100_000} {
		var in, out []byte
		for len(out) < size {
			if n := 1 + rnd.IntN(32); len(out) == 0 || rnd.IntN(3) == 0 {
				in = append(in, byte(n-1))
				for range n {
					in, out = append(in, byte(rnd.Uint32())), append(out, 0)
					out[len(out)-1] = in[len(in)-1]
				}
				continue
			}
			n := 3 + rnd.IntN(1<<rnd.IntN(9))
			distance := 1 + rnd.IntN(min(len(out), 1<<(1+rnd.IntN(13))))
			high := byte((distance - 1) >> 8)
			if n < 9 {
				in = append(in, byte(n-2)<<5|high)
			} else {
				in = append(in, 7<<5|high, byte(n-9))
			}
			in = append(in, byte(distance-1))
			for range n {
				out = append(out, out[len(out)-distance])
			}
		}
		compressed := string(append(append(file{}, 0xc0|encLZF).lengths(uint64(len(in)), uint64(len(out))), in...))
		data := newFile("REDIS0011").key(0, "string").raw(compressed).key(1, "list").length(1).raw(compressed).end()
		for _, chunk := range []int{1, 100, 5000, 1 << 20} {
			for _, buffer := range []int{MinBuffer, 100, 64 << 10} {
				r := NewReader(bufio.NewReaderSize(bytes.NewReader(data), buffer), Options{ChunkBytes: chunk})
				var got []item
				for {
					e, err := r.Next()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					if got, err = add(got, e); err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(got[0].Value.Data, out) || len(got[1].Value.Elements) != 1 || !bytes.Equal(got[1].Value.Elements[0], out) {
					t.Fatalf("%d bytes in parts of %d through a buffer of %d are not what was compressed", len(out), chunk, buffer)
				}
			}
		}
	}
}

func TestReaderIteratesToTheEndWhenTheCountIsUnknown(t *testing.T) {
	var elements []any
	var texts []string
	for i := range 70_000 {
		elements, texts = append(elements, i), append(texts, strconv.Itoa(i))
	}
	for _, f := range []file{
		newFile("REDIS0011").key(10, "k").strings(packZiplist(elements...)),
		newFile("REDIS0011").key(18, "k").length(1).length(2).strings(packListpack(elements...)),
	} {
		got := values(t, f.end(), Options{ChunkBytes: 4096})["k"]
		if d := diff(item{Kind: Value, Key: "k", Type: "list", Value: elementsOf(schema.KindList, texts...)}, sorted(got)); d != "" {
			t.Error(d)
		}
	}
}

func TestReaderKeepsExpiriesExactly(t *testing.T) {
	for _, ms := range []int64{0, 1, -1, -8446744073711, 4102444800123, 9999999999999, 99999999999999, math.MaxInt64, math.MinInt64} {
		data := append(newFile("REDIS0009"), opExpireMillis).le64(ms).raw("\xf8\x05\xf9\x07").key(0, "k").strings("v").key(0, "none").strings("v").end()
		got := values(t, data, Options{})
		if want := (schema.OptInt64{Set: true, Int64: ms}); got["k"].ExpireAt != want {
			t.Errorf("expiry %d came as %+v", ms, got["k"].ExpireAt)
		}
		if got["none"].ExpireAt.Set {
			t.Errorf("expiry %d spread to the next key", ms)
		}
	}
	data := append(newFile("REDIS0009"), opExpire).raw("\xfe\xff\xff\xff").key(0, "k").strings("v").end()
	if got := values(t, data, Options{})["k"].ExpireAt; got != (schema.OptInt64{Set: true, Int64: -2000}) {
		t.Errorf("expiry of -2 s came as %+v", got)
	}
}

// moduleID is what a module's type "testmod-x" has in an RDB.
func moduleID(name string, version uint64) uint64 {
	const chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var id uint64
	for _, c := range []byte(name) {
		id = id<<6 | uint64(strings.IndexByte(chars, c))
	}
	return id<<10 | version
}

// moduleValue has every kind of item, and a string of text.
func moduleValue(text string) file {
	return file{}.length(moduleID("testmod-x", 3)).
		lengths(moduleSigned).length(math.MaxUint64).lengths(moduleNumber, 70000).
		lengths(moduleFloat).raw("\x00\x00\x80\x3f").lengths(moduleDouble).le64(0).
		lengths(moduleString).strings(text).lengths(moduleString).raw("\xc3\x09\x28\x01aa\xe0\x1b\x00\x01aa").
		lengths(moduleString).raw("\xc1\x01\x02").lengths(moduleEnd)
}

func moduleAux() file {
	return append(file{}, opModuleAux).length(moduleID("testmod-x", 3)).lengths(moduleNumber, 2, moduleString).strings("aux").lengths(moduleEnd)
}

func TestReaderKeepsModuleValuesAsDumpPayload(t *testing.T) {
	value := moduleValue(strings.Repeat("abc", 5000))
	data := append(newFile("REDIS0010"), moduleAux()...).key(7, "k").raw(string(value)).key(0, "next").strings("intact").end()
	got := values(t, data, Options{ChunkBytes: 10})
	want := append([]byte{7}, value...)
	want = append(want, 10, 0)
	want = binary.LittleEndian.AppendUint64(want, updateCRC(0, want))
	k := got["k"]
	if k.Type != "testmod-x" || k.Value.Kind != schema.KindDump || k.parts != 1 {
		t.Errorf("type %q, kind %d, %d parts", k.Type, k.Value.Kind, k.parts)
	}
	if d := cmp.Diff(want, k.Value.Data); d != "" {
		t.Errorf("payload (-want +got):\n%s", d)
	}
	if string(got["next"].Value.Data) != "intact" {
		t.Error("the key behind is wrong")
	}
}

func TestChecksumIsTheOneOfRedis(t *testing.T) {
	if got := updateCRC(0, []byte("123456789")); got != 0xe9c6d914c4b8d9ca {
		t.Errorf("checksum of 123456789 is %016x", got)
	}
	b := []byte(strings.Repeat("Redis and Valkey ", 10))
	whole := updateCRC(0, b)
	for cut := range b {
		if got := updateCRC(updateCRC(0, b[:cut]), b[cut:]); got != whole {
			t.Fatalf("cut at %d: %016x, want %016x", cut, got, whole)
		}
	}
}
