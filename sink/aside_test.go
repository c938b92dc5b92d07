package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// letterBoxOf keeps what is written to it.
type letterBoxOf struct {
	letters []*kgo.Record
	err     error
}

func (l *letterBoxOf) Write(_ context.Context, r *kgo.Record, done func(error)) {
	l.letters = append(l.letters, r)
	done(l.err)
}

func (l *letterBoxOf) Close() {}

// setsAside makes a collector that has dead letters.
func setsAside(t *testing.T) (*collector, *letterBoxOf) {
	s := testSink()
	s.cfg.DeadLetter.Topic = "l.dead-letter"
	c, box := newCollector(t, s), &letterBoxOf{}
	c.dead = &deadLetters{quarantine: testQuarantine(), sink: s, out: box}
	return c, box
}

// follows has the collector take events, numbered behind c.seq.
func (c *collector) follows(events ...*schema.Event) {
	c.t.Helper()
	for _, e := range events {
		e.Seq = c.seq + 1
		if e.Origin == "" {
			e.Origin = "a"
		}
		if err := c.take(c.t.Context(), record(c.seq+10, e)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// causes lists the letters as "<key> <cause>".
func (l *letterBoxOf) causes() []string {
	var all []string
	for _, r := range l.letters {
		v, _ := header(r, headerException)
		all = append(all, string(r.Key)+" "+string(v))
	}
	return all
}

func (c *collector) lines() []string {
	c.t.Helper()
	var all []string
	for _, b := range c.end() {
		all = append(all, b.lines...)
	}
	return all
}

const hash = "__twinlog:l:a-to-b:0:quarantine"

func TestWhatCannotBeAppliedIsSetAsideWithWhatFollows(t *testing.T) {
	c, box := setsAside(t)
	c.follows(write("SET", "x", "1"), write("PEXPIREAT", "k", "soon"), write("SET", "k", "2"), write("RENAME", "k", "j"), write("SET", "y", "2"),
		&schema.Event{Op: schema.OpDelete, Key: []byte("j"), Command: "DEL", Args: list("j")}, write("SET", "j", "3"),
		&schema.Event{Op: schema.OpValue, Key: []byte("k"), Type: "string", Value: schema.Value{Kind: schema.KindString, Data: []byte("4")}}, write("APPEND", "k", "5"))
	want := []string{
		"SET x 1", "HSET " + hash + ` 0:k 2 11 PEXPIREAT: "soon" is not a time in ms`,
		"HSET " + hash + ` 0:j 4 13 key "k" is quarantined since seq 2, offset 11: PEXPIREAT: "soon" is not a time in ms`, "SET y 2",
		"DEL j __twinlog:-", "HDEL " + hash + " 0:j", "SET j 3",
		"SET k 4", "HDEL " + hash + " 0:k", "APPEND k 5",
	}
	if diff := cmp.Diff(want, c.lines()); diff != "" {
		t.Error(diff)
	}
	if len(box.letters) != 3 || len(c.dead.keys) != 0 {
		t.Errorf("%d letters, in quarantine %v", len(box.letters), c.dead.members())
	}
}

func TestWhatWasAddedForAnEventThatCannotBeAppliedIsTakenOut(t *testing.T) {
	c, _ := setsAside(t)
	hsetex := write("HSETEX", "h", "PXAT", "soon", "FIELDS", "1", "f", "v")
	hsetex.DB = 3
	c.follows(write("SET", "x", "1"), hsetex, write("SET", "y", "2"))
	want := []string{"SET x 1", "HSET " + hash + ` 3:h 2 11 HSETEX: "soon" is not a time in ms`, "SET y 2"}
	if diff := cmp.Diff(want, c.lines()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatTheTargetRefusedBeforeIsSetAside(t *testing.T) {
	c, box := setsAside(t)
	c.sink.refused = map[int64]string{11: "NOSUCH: ERR unknown command"}
	c.follows(write("SET", "x", "1"), write("NOSUCH", "k", "v"), write("SET", "y", "2"))
	want := []string{"SET x 1", "HSET " + hash + " 0:k 2 11 NOSUCH: ERR unknown command", "SET y 2"}
	if diff := cmp.Diff(want, c.lines()); diff != "" {
		t.Error(diff)
	}
	if v, _ := header(box.letters[0], headerMessage); string(v) != "NOSUCH: ERR unknown command" {
		t.Errorf("the message is %q", v)
	}
}

func TestAnEventLargerThanTheTargetTakesIsSetAside(t *testing.T) {
	c, _ := setsAside(t)
	c.target.largest = 1000
	c.follows(write("SET", "x", "1"), write("SET", "k", strings.Repeat("v", 2000)), write("SET", "y", "2"))
	lines := c.lines()
	if len(lines) != 3 || lines[0] != "SET x 1" || !strings.HasPrefix(lines[1], "HSET "+hash+" 0:k 2 11") || lines[2] != "SET y 2" {
		t.Errorf("%.300q", lines)
	}
}

func TestRecordsThatCannotBeReadHaveTheSeqThatIsTheirs(t *testing.T) {
	damaged := func(op string) *kgo.Record {
		return &kgo.Record{Offset: 90, Key: []byte("k"), Value: []byte("damaged"), Headers: []kgo.RecordHeader{{Key: schema.HeaderOp, Value: []byte(op)}}}
	}
	for _, tt := range []struct {
		name  string
		seq   int64 // of the last event
		bad   *kgo.Record
		next  int64 // that is taken behind it; 0: the record itself is refused
		held  []string
		mark  int64 // its seq, where a batch passes the record
		lines int
	}{
		{"of something else", 4, &kgo.Record{Offset: 90, Key: []byte("k"), Value: []byte("hello")}, 5, []string{}, 4, 0},
		{"of the link", 4, damaged("u"), 6, []string{"-1:k"}, 5, 1},
		{"a deletion of the link", 4, damaged("d"), 6, []string{"-1:k"}, 5, 1},
		{"a flush", 4, damaged("t"), 0, nil, 0, 0},
		{"a control event", 4, damaged("x"), 0, nil, 0, 0},
		{"of an op that is not known", 4, damaged("z"), 0, nil, 0, 0},
		{"before the first event", 0, &kgo.Record{Offset: 90, Value: []byte("hello")}, 1, []string{}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, box := setsAside(t)
			c.seq = tt.seq
			err := c.take(t.Context(), tt.bad)
			if tt.next == 0 {
				if err == nil || healable(err) || c.seq != tt.seq || len(c.end()) > 0 || len(box.letters) > 0 {
					t.Errorf("error %v; %d letters", err, len(box.letters))
				}
				return
			}
			if err != nil || len(box.letters) != 1 {
				t.Fatalf("error %v, %d letters", err, len(box.letters))
			}
			if diff := cmp.Diff(tt.held, c.dead.members()); diff != "" {
				t.Error(diff)
			}
			for _, seq := range []int64{tt.next - 1, tt.next + 1} { // a repeat, a hole
				e := write("SET", "other", "v")
				e.Seq = seq
				var again *repeatedError
				if err := c.check(e, 91); err == nil || seq < tt.next && tt.seq > 0 && !errors.As(err, &again) {
					t.Errorf("seq %d is taken behind seq %d: %v", seq, tt.next-1, err)
				}
			}
			if tt.mark > 0 {
				if b := c.batch; b.seq != tt.mark || b.offset != 90 || b.next != 91 || b.events != 1 || len(b.letters) != 1 {
					t.Errorf("the batch ends at seq %d, offset %d, next %d with %d events and %d letters", b.seq, b.offset, b.next, b.events, len(b.letters))
				}
			}
			e := write("SET", "other", "v")
			e.Seq = tt.next
			if err := c.take(t.Context(), record(91, e)); err != nil {
				t.Error(err)
			}
			if n := len(c.lines()); n != tt.lines+1 {
				t.Errorf("%d commands, want %d", n, tt.lines+1)
			}
		})
	}
}

func TestASeqThatCameBeforeIsSetAside(t *testing.T) {
	c, box := setsAside(t)
	c.follows(write("SET", "x", "1"), write("SET", "y", "1"))
	e := write("SET", "k", "again")
	e.Seq = 1
	if err := c.take(t.Context(), record(20, e)); err != nil {
		t.Fatal(err)
	}
	if c.seq != 2 || c.batch.seq != 2 || c.batch.offset != 20 {
		t.Errorf("the batch ends at seq %d, offset %d", c.batch.seq, c.batch.offset)
	}
	c.follows(write("SET", "k", "2"))
	if diff := cmp.Diff([]string{"k repeated_seq", "k quarantined"}, fmtCauses(box)); diff != "" {
		t.Error(diff)
	}
	flush := &schema.Event{Op: schema.OpTruncate, Origin: "a", DB: schema.NoDB, Command: "FLUSHALL", Seq: 1}
	if err := c.take(t.Context(), record(30, flush)); err == nil || !strings.Contains(err.Error(), "stand there twice") {
		t.Errorf("a FLUSHALL whose seq came before: %v", err)
	}
	c.end()
}

// fmtCauses names the keys by their events, since record gives none to Kafka.
func fmtCauses(box *letterBoxOf) []string {
	var all []string
	for _, cause := range box.causes() {
		all = append(all, "k"+cause)
	}
	return all
}

func TestTheEndOfASnapshotRemovesQuarantinedKeysThatItLacks(t *testing.T) {
	c, _ := setsAside(t)
	c.follows(write("PEXPIREAT", "gone", "soon"), write("PEXPIREAT", "there", "soon"), control(3, schema.SnapshotBegin),
		&schema.Event{Op: schema.OpValue, Key: []byte("there"), Type: "string", Value: schema.Value{Kind: schema.KindString, Data: []byte("4")}})
	c.sink.refused = map[int64]string{14: "RESTORE: ERR Bad data format"}
	c.follows(&schema.Event{Op: schema.OpValue, Key: []byte("module"), Value: schema.Value{Kind: schema.KindDump, Data: []byte("x")}}, control(6, schema.SnapshotEnd, "2", "3", "0"))
	lines := c.lines()
	want := []string{"SET there 4", "HDEL " + hash + " 0:there", "HSET " + hash + " 0:module 5 14 RESTORE: ERR Bad data format", "UNLINK gone __twinlog:-", "HDEL " + hash + " 0:gone"}
	if diff := cmp.Diff(want, lines[2:]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"0:module"}, c.dead.members()); diff != "" {
		t.Error(diff)
	}
}

func TestAllPartsOfAValueAreSetAside(t *testing.T) {
	part := func(key string, index int32, last bool) *schema.Event {
		e := &schema.Event{Op: schema.OpValue, Key: []byte(key), Type: "list", Value: schema.Value{Kind: schema.KindList, Elements: list("x", "y")}}
		e.Part = schema.OptPart{Set: true, Part: schema.Part{Index: index, Last: last, Arg: -1}}
		return e
	}
	c, box := setsAside(t)
	c.follows(write("SET", "x", "1"), part("k", 0, false), part("k", 1, false))
	c.sink.refused = map[int64]string{13: "HPEXPIREAT: ERR unknown command"}
	third := part("k", 2, false)
	third.Seq, third.Origin = c.seq+1, "a"
	var aside *setAsideError
	if err := c.take(t.Context(), record(13, third)); !errors.As(err, &aside) || len(aside.refused) != 3 || aside.refused[11] == "" || len(box.letters) > 0 {
		t.Fatalf("error %v, %d letters", err, len(box.letters))
	}
	c.end()

	c, box = setsAside(t) // the next session
	c.sink.take(aside)
	c.follows(write("SET", "x", "1"), part("k", 0, false), part("k", 1, false), part("k", 2, false), part("k", 3, true), write("SET", "y", "1"))
	got := c.lines()
	if diff := cmp.Diff([]string{" refused", " refused", " refused", " malformed"}, box.causes()); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(strings.Join(got, "\n"), "SET y 1") {
		t.Errorf("what came behind it is not in %q", got)
	}
	if c.value != nil || strings.Contains(fmt.Sprint(got), "RENAME") {
		t.Errorf("a value without all its parts was put in its place: %q", got)
	}
}

func TestALetterThatKafkaHasIsNotWrittenAgain(t *testing.T) {
	c, box := setsAside(t)
	r := &kgo.Record{Topic: "l.a-to-b", Offset: 7, Key: []byte("k"), Headers: []kgo.RecordHeader{{Key: "mine", Value: []byte("x")}}}
	for range 2 {
		if err := c.dead.await(t.Context(), []<-chan error{c.dead.write(t.Context(), r, 3, reason{causeRefused, "why"})}); err != nil {
			t.Fatal(err)
		}
	}
	if len(box.letters) != 1 || c.sink.DeadLetters() != 1 {
		t.Errorf("%d letters, %d counted", len(box.letters), c.sink.DeadLetters())
	}
	var got []string
	for _, h := range box.letters[0].Headers {
		got = append(got, h.Key+"="+string(h.Value))
	}
	want := []string{
		"mine=x", "__connect.errors.topic=l.a-to-b", "__connect.errors.partition=0", "__connect.errors.offset=7", "__connect.errors.connector.name=sink-b",
		"__connect.errors.task.id=0", "__connect.errors.stage=TASK_PUT", "__connect.errors.class.name=twinlog/sink",
		"__connect.errors.exception.class.name=refused", "__connect.errors.exception.message=why",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	c.sink.forgetLetters(offsets.Mark{Offset: 7})
	box.err = errors.New("no broker")
	if err := c.dead.await(t.Context(), []<-chan error{c.dead.write(t.Context(), r, 3, reason{causeRefused, "why"})}); err == nil {
		t.Error("a letter that Kafka did not take is taken for written")
	}
	if c.sink.isLettered(7) {
		t.Error("a letter that Kafka did not take is remembered")
	}
	c.end()
}

// What is wrong with a command is known with its last fragment: the next
// session sets aside all of them.
func TestAllFragmentsOfACommandAreSetAside(t *testing.T) {
	for name, why := range map[string]string{"PXAT": "", "SREM": "more than"} {
		c, box := setsAside(t)
		first := []string{"k", "a"}
		last := []string{"+b", "PXAT", "never"}
		command := "SET"
		if name == "SREM" {
			command, last = "SREM", []string{strings.Repeat("v", 4000)}
			c.target.largest = 1000
		}
		var err error
		for i, e := range fragmented(0, command, first, last) {
			e.Seq, e.Origin = int64(i+1), "a"
			if err = c.take(t.Context(), record(int64(10+i), &e)); err != nil && i == 0 {
				t.Fatal(err)
			}
		}
		var aside *setAsideError
		if !errors.As(err, &aside) || len(aside.refused) != 2 || aside.refused[10] == "" || !strings.Contains(aside.refused[11], why) || len(box.letters) > 0 {
			t.Errorf("%s: error %v, %d letters", name, err, len(box.letters))
		}
		c.end()
	}
}

// A registry that answers, but not with the schema, is waited for: the record
// is neither damaged nor set aside.
func TestARegistryThatIsBusyIsWaitedFor(t *testing.T) {
	status := atomic.Int64{}
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(int(status.Load()))
		_ = json.NewEncoder(w).Encode(map[string]string{"schema": string(schema.Bytes())})
	}))
	defer answers.Close()
	registry, err := schema.NewRegistry(schema.RegistryConfig{URL: answers.URL})
	if err != nil {
		t.Fatal(err)
	}
	c, box := setsAside(t)
	c.sink.cfg.Decoder = schema.NewDecoder(registry)
	e := write("SET", "k", "v")
	e.Seq = 1
	r := &kgo.Record{Offset: 11, Value: schema.NewEncoder(7).Append(nil, e)}
	for _, code := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests} {
		status.Store(int64(code))
		err := c.take(t.Context(), r)
		if !healable(err) || !strings.Contains(err.Error(), "offset 11: waiting for the schema") || strings.Contains(err.Error(), "damaged") || c.seq != 0 || len(box.letters) > 0 {
			t.Errorf("status %d: %v; %d letters", code, err, len(box.letters))
		}
	}
	status.Store(http.StatusOK)
	if err := c.take(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"SET k v"}, c.lines()); diff != "" {
		t.Error(diff)
	}
}

// An element that no EXEC of the target can hold is not in the way of what comes
// behind its value.
func TestAnElementLargerThanTheTargetTakesIsSetAside(t *testing.T) {
	part := func(index int32, last bool) *schema.Event {
		e := &schema.Event{Op: schema.OpValue, Key: []byte("k"), Type: "list", Value: schema.Value{Kind: schema.KindList, Elements: list("x", strings.Repeat("v", 2000), "y")}}
		e.Part = schema.OptPart{Set: true, Part: schema.Part{Index: index, Last: last, Arg: -1}}
		return e
	}
	for name, tt := range map[string]struct {
		part *schema.Event
		want []string
	}{
		"with all its parts":      {part(0, true), []string{" too_large"}},
		"without its other parts": {part(0, false), nil},
	} {
		c, box := setsAside(t)
		c.target.largest = 1000
		c.follows(write("SET", "x", "1"), tt.part, write("SET", "y", "2"))
		lines := strings.Join(c.lines(), "\n")
		if diff := cmp.Diff(tt.want, box.causes()); diff != "" || !strings.Contains(lines, "SET y 2") || strings.Contains(lines, "RPUSH") || c.value != nil {
			t.Errorf("%s: %s\n%.300s", name, diff, lines)
		}
	}
}

// A client's SWAPDB can bring an old hash back: what this process knows of and
// the mark has passed is put back into it.
func TestAnOldQuarantineIsMadeWhole(t *testing.T) {
	for _, tt := range []struct {
		name    string
		there   string // member of the hash
		swapped int64
		want    []string
	}{
		{"an old one", "0:old", 0, []string{"0:old", "0:passed"}},
		{"none", "", 0, []string{"0:old", "0:passed"}},
		{"one from before a SWAPDB that comes again", "0:old", 12, []string{"0:old"}},
		{"an old one behind a SWAPDB", "0:old", 10, []string{"0:old", "0:passed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, s := testkit.StartRedis(t), testSink()
			s.cfg.DeadLetter.Topic = "l.dead-letter"
			s.quarantine = &quarantine{keys: map[place]held{{0, "old"}: {1, 5, "why"}, {0, "passed"}: {4, 11, "why"}, {0, "to come"}: {4, 12, "why"}}, swapped: tt.swapped}
			if tt.there != "" {
				if err := server.Client().HSet(t.Context(), hash, tt.there, "1 5 why").Err(); err != nil {
					t.Fatal(err)
				}
			}
			target := connected(t, s, server)
			q, _, err := target.readQuarantine(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.putBack(t.Context(), target, q, offsets.Mark{Seq: 4, Offset: 11}); err != nil {
				t.Fatal(err)
			}
			again, _, err := target.readQuarantine(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]string{tt.want, tt.want}, [][]string{q.members(), again.members()}); diff != "" {
				t.Error(diff)
			}
		})
	}
}
