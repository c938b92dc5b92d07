package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// raw renders commands, words split at spaces, as a replication stream.
func raw(commands ...string) string {
	var b strings.Builder
	for _, c := range commands {
		words := strings.Fields(c)
		fmt.Fprintf(&b, "*%d\r\n", len(words))
		for _, w := range words {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	return b.String()
}

// units reads everything and renders each unit as "offset/db: db|command ; …".
func units(t *testing.T, r *Reader) ([]string, error) {
	t.Helper()
	var got []string
	for {
		u, err := r.Next()
		if err != nil {
			return got, err
		}
		var commands []string
		for _, c := range u.Commands {
			commands = append(commands, fmt.Sprintf("%d|%s", c.DB, bytes.Join(c.Args, []byte(" "))))
		}
		line := fmt.Sprintf("%d/%d: %s", u.Offset, u.DB, strings.Join(commands, " ; "))
		if u.GetAck {
			line += "getack"
		}
		got = append(got, line)
	}
}

// Of a unit that the link's own sink wrote, whatever its size, only marks and
// what the site deleted by itself meanwhile are kept.
func TestReaderKeepsOfAnAppliedUnitWhatWasBornThere(t *testing.T) {
	block := []string{"MULTI", "SELECT 0", "SET mark v", "SELECT 3"}
	for i := range 1000 {
		block = append(block, fmt.Sprintf("SET key:%d v", i), fmt.Sprintf("UNLINK key:%d __twinlog:-", i))
	}
	block = append(block, "DEL expired", "HDEL h f f", "HDEL h g", "SELECT 0", "SET __twinlog:l:barrier id", "EXEC")
	r := NewReader(strings.NewReader(raw(block...)+raw("SET k v")), 0, 0, 100)
	r.Applied("__twinlog:l:b-to-a:0", 1000)
	if _, err := r.Next(); !errors.As(err, new(*TooBigError)) {
		t.Fatalf("a unit with another mark: %v", err)
	}
	block[2] = "SET __twinlog:l:b-to-a:0 v"
	r = NewReader(strings.NewReader(raw(block...)+raw("SET k v")), 0, 0, 100)
	r.Applied("__twinlog:l:b-to-a:0", 1000)
	got, err := units(t, r)
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	end := len(raw(block...))
	want := []string{
		fmt.Sprintf("%d/0: 0|SET __twinlog:l:b-to-a:0 v ; 3|DEL expired ; 3|HDEL h g ; 0|SET __twinlog:l:barrier id", end),
		fmt.Sprintf("%d/0: 0|SET k v", end+len(raw("SET k v"))),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What is only passed may be of any size: nothing of it is kept but marks and
// barriers.
func TestReaderSkimsUnits(t *testing.T) {
	block := []string{"MULTI", "SELECT 3"}
	for i := range 1000 {
		block = append(block, fmt.Sprintf("UNLINK key:%d", i))
	}
	block = append(block, "SELECT 0", "SET __twinlog:l:b-to-a:0 mark", "SET k v", "SET __twinlog:l:barrier id", "EXEC")
	in := raw(block...)
	whole := NewReader(strings.NewReader(in), 0, 0, 1000)
	if _, err := whole.Next(); !errors.As(err, new(*TooBigError)) {
		t.Fatalf("the unit is no large one: %v", err)
	}
	r := NewReader(strings.NewReader(in+raw("SET j v")), 0, 5, 1000)
	r.Skim(true)
	u, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if u.Offset != int64(len(in)) || u.DB != 0 || len(u.Commands) != 2 || string(u.Commands[0].Args[2]) != "mark" || string(u.Commands[1].Args[2]) != "id" {
		t.Errorf("unit %+v", u)
	}
	r.Skim(false)
	if u, err = r.Next(); err != nil || len(u.Commands) != 1 {
		t.Errorf("the next unit is %+v, error %v", u, err)
	}
}

func TestReaderSplitsUnits(t *testing.T) {
	in := raw("ping", "SELECT 3", "SET k v", "MULTI", "SELECT 7", "incr a", "INCR b", "EXEC", "REPLCONF GETACK *", "DEL k")
	want := []string{
		"1014/0: ", "1037/3: ", "1064/3: 3|SET k v", "1158/7: 7|incr a ; 7|INCR b", "1195/7: getack", "1215/7: 7|DEL k",
	}
	readers := map[string]io.Reader{
		"at once":      strings.NewReader(in),
		"byte by byte": iotest.OneByteReader(strings.NewReader(in)),
		"in halves":    iotest.HalfReader(strings.NewReader(in)),
	}
	for name, src := range readers {
		t.Run(name, func(t *testing.T) {
			got, err := units(t, NewReader(src, 1000, 0, 1<<20))
			if !errors.Is(err, io.EOF) {
				t.Fatalf("error = %v, want EOF", err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReaderKeepsAUnitThatOutgrowsItsBuffer(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var commands []string
	for i := range 300 {
		commands = append(commands, fmt.Sprintf("SET key%d %s", i, strings.Repeat(string(rune('a'+i%26)), rng.IntN(9000))+"x"))
	}
	in := raw("MULTI") + raw(commands...) + raw("EXEC", "PING")
	u, err := NewReader(iotest.HalfReader(strings.NewReader(in)), 0, 0, 64<<20).Next()
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range u.Commands {
		if got := string(bytes.Join(c.Args, []byte(" "))); got != commands[i] {
			t.Fatalf("command %d = %.40q, want %.40q", i, got, commands[i])
		}
	}
	if want := int64(len(in) - 14); u.Offset != want || u.Bytes != want {
		t.Errorf("offset %d, bytes %d, want %d", u.Offset, u.Bytes, want)
	}
}

func TestReaderNamesWhatIsWrong(t *testing.T) {
	tests := []struct {
		name, in string
		want     string
	}{
		{"an inline command", "PING\r\n", "want '*' and a number"},
		{"a stray newline", "\n" + raw("PING"), "want '*' and a number"},
		{"a length without digits", "*\r\n", "want '*' and a number"},
		{"a negative length", "*-1\r\n", "bad length"},
		{"too many arguments", "*1048577\r\n", "above"},
		{"an argument longer than a unit may be", "*2\r\n$3\r\nSET\r\n$9999999999\r\n", "max_transaction_bytes"},
		{"an argument that is longer than it says", "*1\r\n$2\r\nPING\r\n", "CRLF"},
		{"EXEC without MULTI", raw("EXEC"), "EXEC without MULTI"},
		{"MULTI inside MULTI", raw("MULTI", "MULTI"), "MULTI inside MULTI"},
		{"no name", "*0\r\n", "without a name"},
		{"SELECT of a word", raw("SELECT x"), "SELECT without"},
		{"an endless line", "*" + strings.Repeat("1", 200), "no line end"},
		{"a cut command", raw("SET k v")[:20], "unexpected EOF"},
		{"a cut transaction", raw("MULTI", "SET k v"), "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := units(t, NewReader(strings.NewReader(tt.in), 0, 0, 1<<20))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestReaderStopsAtAUnitAboveTheLimit(t *testing.T) {
	in := raw("SET ok 1", "MULTI") + strings.Repeat(raw("RPUSH biglist "+strings.Repeat("x", 1000)), 20) + raw("EXEC")
	_, err := units(t, NewReader(strings.NewReader(in), 0, 0, 10_000))
	var big *TooBigError
	if !errors.As(err, &big) || big.Key != "biglist" || big.Command != "RPUSH" || big.Offset != int64(len(raw("SET ok 1"))) {
		t.Errorf("error = %#v", err)
	}
}

func TestReaderAllocatesNothingInTheSteadyState(t *testing.T) {
	in := []byte(strings.Repeat(raw("SET key value", "MULTI", "INCR a", "HSET h f v", "EXEC"), 100))
	src := &endless{data: in}
	r := NewReader(src, 0, 0, 1<<20)
	next := func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		next()
	}
	if n := testing.AllocsPerRun(10_000, next); n > 0.01 {
		t.Errorf("%v allocations a unit", n)
	}
}

type endless struct {
	data []byte
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.data[e.at:])
	e.at = (e.at + n) % len(e.data)
	return n, nil
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(raw("SELECT 1", "MULTI", "SET k v", "EXEC", "ping")))
	f.Add([]byte("*2\r\n$3\r\nSET\r\n$99999999999999999999\r\n"))
	f.Add([]byte("*1048576\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in), 0, 0, 1<<16)
		last := int64(0)
		for {
			u, err := r.Next()
			if err != nil {
				return
			}
			if u.Offset <= last || u.Offset > int64(len(in)) {
				t.Fatalf("offset %d after %d of %d", u.Offset, last, len(in))
			}
			last = u.Offset
		}
	})
}

func TestAnAppliedUnitHasALimitOfItsOwn(t *testing.T) {
	block := func(key string) string {
		return raw("MULTI", "SET "+key+" m", "SET k "+strings.Repeat("v", 200), "EXEC")
	}
	for key, fits := range map[string]bool{"__twinlog:mark": true, "other": false} {
		r := NewReader(strings.NewReader(block(key)+raw("SET k "+strings.Repeat("v", 200))), 0, 0, 100)
		r.Applied("__twinlog:mark", 1000)
		_, err := r.Next()
		var big *TooBigError
		if fits != (err == nil) || !fits && !errors.As(err, &big) {
			t.Errorf("a block that begins with %s: error %v", key, err)
		}
		if !fits {
			continue
		}
		if _, err := r.Next(); !errors.As(err, &big) || big.Limit != 100 {
			t.Errorf("the unit behind an applied one: error %v", err)
		}
	}
}

// A unit of many small commands takes little more memory than its bytes and
// one slice for each argument, and none of it afterwards.
func TestReaderKeepsLittleOfAUnitOfManyCommands(t *testing.T) {
	const n = 200_000
	commands := make([]string, n)
	for i := range commands {
		commands[i] = fmt.Sprintf("SET k:%d %d", i, i)
	}
	in := raw("MULTI") + raw(commands...) + raw("EXEC", "PING")
	r := NewReader(strings.NewReader(in), 0, 0, 64<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	u, err := r.Next()
	if err != nil || len(u.Commands) != n {
		t.Fatalf("%d commands, error %v", len(u.Commands), err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for i, c := range u.Commands {
		if want := fmt.Sprintf("SET k:%d %d", i, i); string(bytes.Join(c.Args, []byte(" "))) != want {
			t.Fatalf("command %d is %q", i, c.Args)
		}
	}
	if took := int64(after.HeapAlloc) - int64(before.HeapAlloc); took > int64(len(in))+n*(3*24+50) {
		t.Errorf("a unit of %d bytes takes %d", len(in), took)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if cap(r.unit.Commands) > argsBlock || cap(r.args) > argsBlock || len(r.buf) > keptBuffer {
		t.Errorf("it keeps %d commands, %d arguments and %d bytes", cap(r.unit.Commands), cap(r.args), len(r.buf))
	}
}

func TestReaderKeepsNoBufferOfALargeArgument(t *testing.T) {
	in := raw("SET k "+strings.Repeat("v", 3*keptBuffer), "PING")
	r := NewReader(strings.NewReader(in), 0, 0, 64<<20)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if len(r.buf) > 3*keptBuffer+2*initialBuffer {
		t.Errorf("a buffer of %d bytes", len(r.buf))
	}
	if _, err := r.Next(); err != nil || len(r.buf) > keptBuffer {
		t.Errorf("it keeps %d bytes, error %v", len(r.buf), err)
	}
}

// A large unit is free to go when it was released, also if it has few enough
// commands for their slices to be kept.
func TestReaderKeepsNothingOfALargeUnit(t *testing.T) {
	in, out := io.Pipe()
	go func() {
		defer out.Close()
		value := strings.Repeat("x", 10_000)
		io.WriteString(out, raw("MULTI"))
		for range 2000 {
			io.WriteString(out, raw("SET k "+value))
		}
		io.WriteString(out, raw("EXEC"))
		for range 100 {
			io.WriteString(out, raw("SET a b"))
		}
	}()
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what a pool held
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	r := NewReader(in, 0, 0, 64<<20)
	before := heap()
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.Release()
	for range 100 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if kept := heap() - before; kept > 4<<20 {
		t.Errorf("%d MiB are kept", kept>>20)
	}
	runtime.KeepAlive(r)
}
