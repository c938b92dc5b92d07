package schema

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"runtime"
	"strings"
	"testing"
)

// allocated tells how many bytes f takes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestTruncatedEventsAreErrors(t *testing.T) {
	ctx, d, enc := context.Background(), NewDecoder(nil), NewEncoder(0)
	w, err := compile("our schema", text)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range goldenEvents() {
		b := enc.Append(nil, e)
		for n := range b {
			if err := d.Decode(ctx, b[:n], new(Event)); err == nil {
				t.Fatalf("%s of %s, cut at byte %d of %d, was read", string(rune(e.Op)), e.Command, n, len(b))
			}
			if n >= singleObjectLen {
				if err := w.decode(b[singleObjectLen:n], new(Event)); err == nil {
					t.Fatalf("%s of %s, cut at byte %d of %d, was read by its writer's schema", string(rune(e.Op)), e.Command, n, len(b))
				}
			}
		}
		if err := d.Decode(ctx, append(b, 0), new(Event)); err == nil || !strings.Contains(err.Error(), "1 bytes follow the event") {
			t.Errorf("a byte too much: %v", err)
		}
	}
}

func TestHostileEventsAreErrors(t *testing.T) {
	long := func(n int64) []byte { return binary.AppendVarint(nil, n) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	head := []byte("\x02u\x02a\x00\x00")                                                                 // up to key
	toValue := []byte("\x02r\x02a\x00\x00\x00\x00\x00\x00")                                              // up to type
	toGroups := join(toValue, long(int64(KindStream)), long(0), []byte{2}, []byte("\x060-0\x060-0\x00")) // up to value.meta.entries_added
	tail := AppendEvent(nil, &Event{Op: OpWrite, Origin: "a"})[len(head):]
	cases := []struct {
		name string
		body []byte
		want string
	}{
		{"empty", nil, "op at byte 10: number is cut off"},
		{"an op to come", join([]byte("\x02q"), head[2:], tail), `op at byte 10: unknown letter "q"`},
		{"an op of two letters", []byte("\x04uu"), `unknown letter "uu"`},
		{"a string longer than the event", []byte("\x02u\x7f"), "origin at byte 12: length -64, but 0 bytes are left"},
		{"a string of 2^62 bytes", join([]byte("\x02u"), long(1<<62)), "origin at byte 12: length 4611686018427387904"},
		{"a db beyond 32 bits", join([]byte("\x02u\x02a"), long(math.MaxInt32+1)), "db at byte 14: 2147483648 does not fit into 32 bits"},
		{"a number without end", join([]byte("\x02u\x02a"), bytes.Repeat([]byte{0xff}, 20)), "db at byte 14: number has more than 64 bits"},
		{"a key of a third kind", []byte("\x02u\x02a\x00\x04"), "key at byte 15: branch 2 of a union of 2"},
		{"5 bytes that ask for 34 GB", join(head, long(math.MaxInt32)), "other_keys at byte 16: block of 2147483647 items, but 0 bytes are left"},
		{"2^63 items", join(head, long(math.MinInt64), long(0)), "other_keys at byte 16: block of -9223372036854775808 items"},
		{"a sized block beyond the end", join(head, long(-1), long(1000)), "other_keys at byte 16: block of 1000 bytes"},
		{"a sized block of a negative size", join(head, long(-1), long(-5)), "other_keys at byte 16: block of -5 bytes"},
		{"a hash with more entries than bytes", join(toValue, long(int64(KindHash)), long(100), make([]byte, 200)), "value.entries at byte 21: block of 100 items, but 200 bytes are left"},
		{"a sorted set with a score cut off", join(toValue, long(int64(KindZSet)), long(1), long(5), make([]byte, 8)), "value.members.score"},
		{"a value of an unknown kind", join(toValue, long(8)), "value at byte 20: branch 8 of a union of 8"},
		{"a value of a negative kind", join(toValue, long(-1)), "value at byte 20: branch -1 of a union of 8"},
		{"a stream id without a dash", join(toValue, long(int64(KindStream)), long(1), []byte("\x0212345678\x00")), `value.entries.id at byte 22: stream id "1": want ms-seq`},
		{"a stream id beyond 64 bits", join(toValue, long(int64(KindStream)), long(1), []byte("\x2c18446744073709551616-0\x00")), "ms is not an unsigned 64-bit number"},
		{"a stream id with a sign", join(toValue, long(int64(KindStream)), long(1), []byte("\x081--1\x00\x00")), "seq is not an unsigned 64-bit number"},
		{"more groups than bytes", join(toGroups, long(1<<40)), "value.meta.groups at byte"},
		{"a boolean of 2", join(toValue, []byte{0, 0, 2, 0, 2}), "part.last at byte 24: want a boolean"},
	}
	header := singleObjectHeader()
	w, err := compile("our schema", text)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := append(bytes.Clone(header), c.body...)
			d := NewDecoder(nil)
			taken := allocated(func() {
				err := d.Decode(context.Background(), b, new(Event))
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got error %v, want one with %q", err, c.want)
				}
			})
			if taken > 64<<10 {
				t.Errorf("it took %d bytes of memory", taken)
			}
			// The way through goavro takes what maxBlock allows, once per level.
			if taken := allocated(func() { _ = w.decode(c.body, new(Event)) }); taken > 8<<20 {
				t.Errorf("read by its writer's schema it took %d bytes of memory", taken)
			}
		})
	}
}

func TestSizedBlocksAreRead(t *testing.T) {
	e := setEvent()
	e.OtherKeys = nil
	plain := AppendEvent(nil, e)
	head := append([]byte("\x02u\x02a\x00\x02"), appendBytes(nil, e.Key)...)
	if !bytes.HasPrefix(plain, append(bytes.Clone(head), 0)) {
		t.Fatal("the event begins in another way")
	}
	sized := append(bytes.Clone(head), "\x03\x08\x02x\x02y\x01\x04\x02z\x00"...) // -2 items in 4 bytes, -1 in 2
	sized = append(sized, plain[len(head)+1:]...)
	var got Event
	if err := new(reader).decode(sized, 0, &got); err != nil {
		t.Fatal(err)
	}
	e.OtherKeys = [][]byte{[]byte("x"), []byte("y"), []byte("z")}
	mustEqual(t, e, &got)
}

func TestUnknownFramingIsAnError(t *testing.T) {
	for _, c := range []struct{ name, b, want string }{
		{"nothing", "", "it begins with : neither"},
		{"text", "hello, world", "it begins with 68 65 6c 6c 6f 2c 20 77 6f 72: neither"},
		{"a schema to come", "\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08rest", "fingerprint 0807060504030201, is not of this or an earlier release; run the newer twinlog"},
		{"a registry where none is configured", "\x00\x00\x00\x00\x07rest", "set schema_registry.url"},
		{"half a registry's header", "\x00\x00\x00", "it begins with 00 00 00: neither"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := NewDecoder(nil).Decode(context.Background(), []byte(c.b), new(Event))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}
