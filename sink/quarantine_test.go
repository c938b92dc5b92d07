package sink

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"twinlog/internal/command"
	"twinlog/schema"
)

func testQuarantine(members ...string) *quarantine {
	q := &quarantine{keys: map[place]held{}}
	for i, m := range members {
		if err := q.load(m, held{int64(i + 1), int64(i + 10), "because"}.text()); err != nil {
			panic(err)
		}
	}
	return q
}

// members lists what is quarantined.
func (q *quarantine) members() []string {
	all := make([]string, 0, len(q.keys))
	for _, p := range q.sorted() {
		all = append(all, p.member())
	}
	return all
}

func touchOf(t *testing.T, e *schema.Event) *command.Touch {
	t.Helper()
	var touch command.Touch
	if err := touch.Of(e); err != nil {
		t.Fatal(err)
	}
	return &touch
}

func write(name string, args ...string) *schema.Event {
	return &schema.Event{Op: schema.OpWrite, Origin: "a", Key: []byte(args[0]), Command: name, Args: list(args...)}
}

func TestAnEventThatReadsOrWritesAQuarantinedKeyIsHeld(t *testing.T) {
	q := testQuarantine("0:k", "2:k", "-1:any", "0:a:b")
	for _, tt := range []struct {
		event *schema.Event
		hit   bool
	}{
		{write("SET", "k", "v"), true},
		{write("SET", "other", "v"), false},
		{&schema.Event{Op: schema.OpWrite, DB: 1, Key: []byte("k"), Command: "INCR", Args: list("k")}, false},
		{&schema.Event{Op: schema.OpWrite, DB: 2, Key: []byte("k"), Command: "INCR", Args: list("k")}, true},
		{&schema.Event{Op: schema.OpWrite, DB: 7, Key: []byte("any"), Command: "INCR", Args: list("any")}, true},
		{write("SET", "a:b", "v"), true},
		{write("RENAME", "k", "to"), true},
		{write("RENAME", "from", "k"), true},
		{write("COPY", "k", "to"), true},
		{write("COPY", "from", "k", "DB", "3"), false},
		{write("COPY", "from", "k", "DB", "2"), true},
		{write("SUNIONSTORE", "to", "x", "k"), true},
		{&schema.Event{Op: schema.OpMessage, DB: schema.NoDB, Command: "PUBLISH", Args: list("k", "v")}, false},
	} {
		if _, _, hit := q.hit(touchOf(t, tt.event)); hit != tt.hit {
			t.Errorf("%s %s in db %d: held %t", tt.event.Command, tt.event.Args, tt.event.DB, hit)
		}
	}
}

func TestOnlyWrittenKeysBecomeQuarantined(t *testing.T) {
	q := testQuarantine("0:k")
	added := q.add(touchOf(t, write("SUNIONSTORE", "to", "k", "x")), held{9, 19, "why"}, false)
	if diff := cmp.Diff([]string{"0:k", "0:to"}, q.members()); diff != "" || len(added) != 1 {
		t.Errorf("added %v: %s", added, diff)
	}
	q.add(touchOf(t, write("SET", "k", "v")), held{9, 19, "why"}, false)
	if h := q.keys[place{0, "k"}]; h.seq != 1 {
		t.Errorf("the first reason of a key is lost: %+v", h)
	}
	if added := q.add(touchOf(t, write("SET", "k", "v")), held{8, 18, "why"}, true); len(added) != 1 || q.keys[place{0, "k"}].seq != 8 || q.bytes != 3 {
		t.Errorf("a newer reason is not taken: %+v", q.keys)
	}
	if last := q.last(1); len(last) != 1 || last[0].Seq != 9 || !bytes.Equal(last[0].Key, []byte("to")) || q.size() != 2 {
		t.Errorf("the last one is %+v of %d", last, q.size())
	}
}

func TestWhatEndsTheQuarantineOfAKey(t *testing.T) {
	value := func(db int32, key string, part ...schema.Part) *schema.Event {
		e := &schema.Event{Op: schema.OpValue, DB: db, Key: []byte(key), Value: schema.Value{Kind: schema.KindList}}
		if len(part) > 0 {
			e.Part = schema.OptPart{Set: true, Part: part[0]}
		}
		return e
	}
	for _, tt := range []struct {
		name  string
		event *schema.Event
		left  []string
	}{
		{"its value", value(0, "k"), []string{"-1:any", "1:any", "1:k"}},
		{"the last part of its value", value(0, "k", schema.Part{Index: 2, Last: true}), []string{"-1:any", "1:any", "1:k"}},
		{"another part", value(0, "k", schema.Part{Index: 1}), []string{"-1:any", "0:k", "1:any", "1:k"}},
		{"a value where the database was not known", value(1, "any"), []string{"0:k", "1:k"}},
		{"its deletion", &schema.Event{Op: schema.OpDelete, DB: 1, Key: []byte("k")}, []string{"-1:any", "0:k", "1:any"}},
		{"a deletion tells nothing of other databases", &schema.Event{Op: schema.OpDelete, DB: 1, Key: []byte("any")}, []string{"-1:any", "0:k", "1:k"}},
		{"a write", write("SET", "k", "v"), []string{"-1:any", "0:k", "1:any", "1:k"}},
		{"another key's value", value(0, "j"), []string{"-1:any", "0:k", "1:any", "1:k"}},
	} {
		q := testQuarantine("0:k", "1:k", "-1:any", "1:any")
		ended := q.repaired(tt.event)
		if diff := cmp.Diff(tt.left, q.members()); diff != "" || len(ended) != 4-len(tt.left) {
			t.Errorf("%s: ended %v: %s", tt.name, ended, diff)
		}
	}
}

func TestFlushAndSwapOfTheQuarantine(t *testing.T) {
	for _, tt := range []struct {
		event *schema.Event
		left  []string
	}{
		{&schema.Event{Op: schema.OpTruncate, DB: 1, Command: "FLUSHDB"}, []string{"-1:any", "0:k", "2:k"}},
		{&schema.Event{Op: schema.OpTruncate, DB: schema.NoDB, Command: "FLUSHALL"}, []string{}},
		{&schema.Event{Op: schema.OpTruncate, DB: schema.NoDB, Command: "SWAPDB", Args: list("0", "1")}, []string{"-1:any", "0:j", "1:k", "2:k"}},
		{&schema.Event{Op: schema.OpTruncate, DB: schema.NoDB, Command: "SWAPDB", Args: list("2", "3")}, []string{"-1:any", "0:k", "1:j", "3:k"}},
	} {
		q := testQuarantine("0:k", "1:j", "2:k", "-1:any")
		q.wiped(touchOf(t, tt.event))
		if diff := cmp.Diff(tt.left, q.members()); diff != "" {
			t.Errorf("%s %s: %s", tt.event.Command, tt.event.Args, diff)
		}
	}
}

func TestFieldsOfTheQuarantineReadBack(t *testing.T) {
	q := &quarantine{keys: map[place]held{}}
	for _, p := range []place{{0, ""}, {15, "a:b c\x00\xff"}, {schema.NoDB, "-1:x"}} {
		h := held{7, 1 << 40, "a reason: of \"several\" words\n"}
		if err := q.load(p.member(), h.text()); err != nil || q.keys[p] != h {
			t.Errorf("%q with %q is read as %+v (%v)", p.member(), h.text(), q.keys, err)
		}
	}
	for _, bad := range [][2]string{{"k", "1 2 x"}, {"x:k", "1 2 x"}, {"0:k", "1 2"}, {"0:k", "1 x y"}, {"0:k", ""}} {
		if q.load(bad[0], bad[1]) == nil {
			t.Errorf("%q with %q is taken", bad[0], bad[1])
		}
	}
	for _, s := range []suspect{{from: 0}, {from: 17, offsets: []int64{17, 20}}} {
		got, err := parseSuspect(s.text())
		if err != nil || got.from != s.from || !slices.Equal(got.offsets, s.offsets) {
			t.Errorf("%q is read as %+v (%v)", s.text(), got, err)
		}
	}
	for _, bad := range []string{"", "x", "1 y"} {
		if _, err := parseSuspect(bad); err == nil {
			t.Errorf("suspect %q is taken", bad)
		}
	}
}

func TestTheQuarantineIsBounded(t *testing.T) {
	q := &quarantine{keys: map[place]held{}}
	for i := range mostQuarantined - 1 {
		q.keys[place{0, fmt.Sprint(i)}] = held{}
	}
	two := touchOf(t, write("RENAME", "x", "y"))
	one := touchOf(t, write("SET", "x", "v"))
	if q.room(two, nil) || !q.room(one, nil) || q.room(one, testQuarantine("0:other")) {
		t.Error("the bound is not exact")
	}
	if !q.room(touchOf(t, write("RENAME", "0", "x")), nil) {
		t.Error("a key that is quarantined needs no room")
	}
	large := testQuarantine("0:"+strings.Repeat("k", mostQuarantinedBytes-1), "1:")
	if !large.room(one, nil) || large.room(two, nil) {
		t.Errorf("the bound of %d bytes is not exact at %d", mostQuarantinedBytes, large.bytes)
	}
	large.repaired(&schema.Event{Op: schema.OpDelete, DB: 0, Key: []byte(strings.Repeat("k", mostQuarantinedBytes-1))})
	large.add(two, held{}, false)
	large.wiped(touchOf(t, &schema.Event{Op: schema.OpTruncate, DB: 0, Command: "FLUSHDB"}))
	if large.bytes != 0 || len(large.keys) != 1 {
		t.Errorf("%d keys of %d bytes are left", len(large.keys), large.bytes)
	}
}

func TestDeadLettersAreLoggedAtABoundedRate(t *testing.T) {
	var l letterLog
	now := time.UnixMilli(nowMs)
	shown := 0
	for range 3 * lettersLogged {
		if ok, quiet := l.pass(now); ok {
			shown++
			if quiet != 0 {
				t.Errorf("%d were not logged before", quiet)
			}
		}
	}
	if shown != lettersLogged {
		t.Errorf("%d were logged at once, want %d", shown, lettersLogged)
	}
	if ok, quiet := l.pass(now.Add(lettersPeriod)); !ok || quiet != 2*lettersLogged {
		t.Errorf("later: logged %t, %d were not before", ok, quiet)
	}
}

func TestWhichErrorsBelongToOneEvent(t *testing.T) {
	for _, tt := range []struct {
		reply string
		op    schema.Op
		is    bool
	}{
		{"WRONGTYPE Operation against a key holding the wrong kind of value", schema.OpWrite, true},
		{"ERR unknown command 'X'", schema.OpWrite, true},
		{"ERR Bad data format", schema.OpValue, true},
		{"BUSYGROUP Consumer Group name already exists", schema.OpWrite, true},
		{"ERR DB index is out of range", 0, false}, // the sink's own SELECT
		{"ERR DB index is out of range", schema.OpTruncate, false},
		{"OOM command not allowed when used memory > 'maxmemory'.", schema.OpWrite, false},
		{"READONLY You can't write against a read only replica.", schema.OpWrite, false},
		{"NOPERM this user has no permissions", schema.OpWrite, false},
		{"MISCONF Redis is configured to save RDB snapshots", schema.OpWrite, false},
	} {
		if _, is := answersOf([]failure{{item{op: tt.op, offset: 3, command: "X"}, tt.reply}}); is != tt.is {
			t.Errorf("op %q, %s: set aside %t", byte(tt.op), tt.reply, is)
		}
	}
	if _, is := answersOf(nil); is {
		t.Error("no event is to blame, and something is set aside")
	}
	if answers, _ := answersOf([]failure{{item{op: schema.OpWrite, offset: 7, fragments: 2, command: "APPEND"}, "WRONGTYPE x"}}); len(answers) != 3 || answers[5] == "" || answers[7] == "" {
		t.Errorf("a command in three fragments: %v", answers)
	}
	answers, _ := answersOf([]failure{{item{op: schema.OpWrite, offset: 3, command: "HSET"}, "WRONGTYPE x"}, {item{op: schema.OpWrite, offset: 3, command: "HPEXPIREAT"}, "WRONGTYPE y"}})
	if len(answers) != 1 || !strings.HasPrefix(answers[3], "HSET: ") {
		t.Errorf("two commands of one event: %v", answers)
	}
}
