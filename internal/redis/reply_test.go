package redis

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func reader(in io.Reader) *replyReader {
	return &replyReader{in: bufio.NewReaderSize(in, readBuffer)}
}

func text(kind byte, s string) Reply { return Reply{Kind: kind, Str: []byte(s)} }

func TestReplies(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     Reply
	}{
		{"a status", "+OK\r\n", text('+', "OK")},
		{"an empty status", "+\r\n", text('+', "")},
		{"an error", "-WRONGTYPE no\r\n", text('-', "WRONGTYPE no")},
		{"an integer", ":-42\r\n", Reply{Kind: ':', Int: -42}},
		{"the smallest integer", ":-9223372036854775808\r\n", Reply{Kind: ':', Int: -1 << 63}},
		{"a string", "$4\r\na\r\nb\r\n", text('$', "a\r\nb")},
		{"an empty string", "$0\r\n\r\n", text('$', "")},
		{"no string", "$-1\r\n", Reply{Kind: '$', Null: true}},
		{"an empty array", "*0\r\n", Reply{Kind: '*', Elems: []Reply{}}},
		{"no array", "*-1\r\n", Reply{Kind: '*', Null: true}},
		{"what EXEC answers", "*3\r\n+OK\r\n:1\r\n-ERR x\r\n", Reply{Kind: '*', Elems: []Reply{text('+', "OK"), {Kind: ':', Int: 1}, text('-', "ERR x")}}},
		{"an array in an array", "*1\r\n*2\r\n$1\r\na\r\n$-1\r\n", Reply{Kind: '*', Elems: []Reply{{Kind: '*', Elems: []Reply{text('$', "a"), {Kind: '$', Null: true}}}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, in := range []io.Reader{strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in))} {
				r := reader(in)
				got, err := r.read()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Error(diff)
				}
				if _, err := r.read(); !errors.Is(err, io.EOF) {
					t.Errorf("behind it comes %v", err)
				}
				if diff := cmp.Diff(tt.want, each(t, tt.in), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("element by element: %s", diff)
				}
			}
		})
	}
}

// each reads a reply element by element and puts it together again.
func each(t *testing.T, in string) Reply {
	t.Helper()
	var elems []Reply
	got, err := reader(strings.NewReader(in)).readEach(func(i int, elem *Reply) {
		if i != len(elems) {
			t.Errorf("element %d comes behind %d others", i, len(elems))
		}
		e := *elem
		e.Str = bytes.Clone(e.Str)
		elems = append(elems, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(elems) > 0 {
		got.Elems = elems
	}
	return got
}

func TestWhatIsNoReplyIsAnError(t *testing.T) {
	deep := strings.Repeat("*1\r\n", maxReplyDepth)
	for _, tt := range []struct{ name, in, want string }{
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n", `a reply begins with 'H'`},
		{"TLS", "\x15\x03\x01\x00\x02\r\n", `a reply begins with '\x15'`},
		{"an empty line", "\r\n", "an empty line"},
		{"a line without CR", "+OK\n", "does not end with CRLF"},
		{"a line that never ends", "+" + strings.Repeat("x", readBuffer), "a line of more than 65536 bytes"},
		{"an integer of letters", ":one\r\n", `"one" is no integer`},
		{"an integer that is too large", ":9223372036854775808\r\n", "is no integer"},
		{"a negative length", "$-2\r\n", `bad length "-2"`},
		{"a length above the limit", "$1073741825\r\n", `bad length "1073741825"`},
		{"a length of no number", "$99999999999999999999\r\n", "bad length"},
		{"a length longer than the string", "$3\r\nabcdef\r\n", "a bulk string does not end with CRLF"},
		{"too many elements", "*16777217\r\n", "bad length"},
		{"nesting without end", deep + "*1\r\n", "nested too deeply"},
		{"a cut line", "+O", "EOF"},
		{"a cut string", "$5\r\nab", "EOF"},
		{"a cut array", "*2\r\n+OK\r\n", "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := reader(strings.NewReader(tt.in)).read()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("reply %+v, error %v, want %q", got, err, tt.want)
			}
		})
	}
	if _, err := reader(strings.NewReader(deep + ":1\r\n")).read(); err != nil {
		t.Errorf("nesting at the limit: %v", err)
	}
}

// taken is how much memory f takes, freed or not.
func taken(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestMemoryIsTakenAsBytesArrive(t *testing.T) {
	for _, in := range []string{
		"$1073741824\r\nabc",
		"*16777216\r\n",
		strings.Repeat("*16777216\r\n", maxReplyDepth),
		"*2\r\n$1073741824\r\n",
	} {
		r := reader(strings.NewReader(in))
		if n := taken(func() { _, _ = r.read() }); n > 4<<20 {
			t.Errorf("%d bytes of reply took %d bytes of memory", len(in), n)
		}
	}
}

func TestMemoryIsReusedAndABigReplyIsNotKept(t *testing.T) {
	big := strings.Repeat("x", 8<<20)
	r := reader(strings.NewReader(fmt.Sprintf("$%d\r\n%s\r\n+OK\r\n", len(big), big)))
	if reply, err := r.read(); err != nil || string(reply.Str) != big {
		t.Fatalf("%d bytes, error %v", len(reply.Str), err)
	}
	if _, err := r.read(); err != nil || cap(r.text) > keptBuffer {
		t.Errorf("%d bytes are kept, error %v", cap(r.text), err)
	}
	const replies = 1000
	r = reader(strings.NewReader(strings.Repeat("+QUEUED\r\n", replies)))
	if n := taken(func() {
		for range replies {
			if _, err := r.read(); err != nil {
				t.Fatal(err)
			}
		}
	}); n > 16<<10 {
		t.Errorf("%d replies took %d bytes of memory", replies, n)
	}
}

func TestErrorRepliesHaveACode(t *testing.T) {
	for in, code := range map[string]string{"NOAUTH Authentication required.": "NOAUTH", "ERR": "ERR", "": ""} {
		reply := text('-', in)
		var server *ServerError
		if err := reply.Err(); !errors.As(err, &server) || server.Code != code || err.Error() != in {
			t.Errorf("%q: %+v", in, server)
		}
	}
	if ok := text('+', "OK"); ok.Err() != nil {
		t.Error("a status is an error")
	}
}

// encode writes a reply as a server would, so that what was read can be held
// against what came.
func encode(b []byte, r *Reply) []byte {
	switch {
	case r.Null:
		return fmt.Appendf(b, "%c-1\r\n", r.Kind)
	case r.Kind == ':':
		return fmt.Appendf(b, ":%d\r\n", r.Int)
	case r.Kind == '$':
		return fmt.Appendf(b, "$%d\r\n%s\r\n", len(r.Str), r.Str)
	case r.Kind == '*':
		b = fmt.Appendf(b, "*%d\r\n", len(r.Elems))
		for i := range r.Elems {
			b = encode(b, &r.Elems[i])
		}
		return b
	}
	return fmt.Appendf(b, "%c%s\r\n", r.Kind, r.Str)
}

func FuzzReply(f *testing.F) {
	for _, in := range []string{
		"+OK\r\n", "-ERR x\r\n", ":1\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*2\r\n:1\r\n*-1\r\n", "*0\r\n",
		"$1073741824\r\nabc", "*16777216\r\n*16777216\r\n", strings.Repeat("*1\r\n", 20), "$9223372036854775807\r\n", "*-2\r\n", "+no end", "\r\n", ":+1\r\n",
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := reader(strings.NewReader(string(in)))
		for {
			var reply Reply
			var err error
			if n := taken(func() { reply, err = r.read() }); n > 8<<20+100*uint64(len(in)) {
				t.Fatalf("%d bytes of reply took %d bytes of memory", len(in), n)
			}
			if err != nil {
				return
			}
			again, err := reader(strings.NewReader(string(encode(nil, &reply)))).read()
			if err != nil {
				t.Fatalf("%+v, written again, is no reply: %v", reply, err)
			}
			if diff := cmp.Diff(reply, again, cmpopts.EquateEmpty()); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
