package stream

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/internal/scope"
	"twinlog/offsets"
	"twinlog/schema"
)

// unitIn makes a unit of lines like "1 SET k v", the database first.
func unitIn(lines ...string) *Unit {
	u := &Unit{Offset: 7}
	for _, line := range lines {
		fields := strings.Fields(line)
		c := Command{DB: int32(fields[0][0] - '0')}
		for _, w := range fields[1:] {
			c.Args = append(c.Args, []byte(w))
		}
		u.Commands = append(u.Commands, c)
	}
	return u
}

func newScoped(s scope.Scope) *Turner {
	return &Turner{Site: "a", Filter: NewFilter("l", "b-to-a", "0"), Scope: s, Due: NewDue(1<<20, true)}
}

// turned is what becomes of a unit, in words.
func turned(t *testing.T, turner *Turner, pos *offsets.Position, lines ...string) []string {
	t.Helper()
	var all []string
	_, err := turner.Turn(unitIn(lines...), pos, func(events []schema.Event, at offsets.Position, _ bool) error {
		for _, e := range events {
			all = append(all, strings.TrimSpace(fmt.Sprintf("%d %s %s", e.DB, e.Command, e.Key)))
		}
		if at.Seq != pos.Seq || at.Due != turner.Due.Oldest() {
			t.Errorf("position %+v", at)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhatACommandDoesToKeysInScope(t *testing.T) {
	keys := scope.Scope{Databases: []int32{0, 2}, Include: []string{"in*"}}
	databases := scope.Scope{Databases: []int32{0, 2}}
	for _, c := range []struct {
		name  string
		scope scope.Scope
		lines []string
		want  []string
	}{
		{"one key", keys, []string{"0 SET in v", "0 SET out v", "1 SET in v", "2 DEL in out"}, []string{"0 SET in", "2 DEL in"}},
		{"keys one by one", keys, []string{"0 MSET in 1 out 2 in2 3"}, []string{"0 SET in", "0 SET in2"}},
		{"RENAME within", keys, []string{"0 RENAME in in2"}, []string{"0 RENAME in"}},
		{"RENAME out of it", keys, []string{"0 RENAME in out"}, []string{"0 DEL in"}},
		{"RENAME into it", keys, []string{"0 RENAME out in"}, []string{"0 VALUE_DUE in"}},
		{"RENAME elsewhere", keys, []string{"0 RENAME out out2"}, nil},
		{"MOVE within", databases, []string{"0 MOVE k 2"}, []string{"2 DEL k", "0 MOVE k"}},
		{"MOVE out of it", databases, []string{"0 MOVE k 1"}, []string{"0 DEL k"}},
		{"MOVE into it", databases, []string{"1 MOVE k 0"}, []string{"0 DEL k", "0 VALUE_DUE k"}},
		{"MOVE elsewhere", databases, []string{"1 MOVE k 3"}, nil},
		{"COPY out of it", databases, []string{"0 COPY k j DB 1"}, nil},
		{"COPY into it", databases, []string{"1 COPY k j DB 2"}, []string{"2 VALUE_DUE j"}},
		{"a key read out of scope", keys, []string{"0 SUNIONSTORE in a in2"}, []string{"0 VALUE_DUE in"}},
		{"a destination out of scope", keys, []string{"0 SUNIONSTORE out in in2"}, nil},
		{"an element moved out", keys, []string{"0 LMOVE in out LEFT LEFT"}, []string{"0 VALUE_DUE in"}},
		{"SORT, which reads what it does not name", keys, []string{"0 SORT in BY nosort STORE in2"}, []string{"0 VALUE_DUE in2"}},
		{"what is due is not published", keys, []string{"0 RENAME out in", "0 APPEND in x", "0 DEL in", "0 RENAME in in2", "0 SUNIONSTORE in3 in in2", "0 SET in4 v"}, []string{"0 VALUE_DUE in", "0 VALUE_DUE in2", "0 VALUE_DUE in3", "0 SET in4"}},
		{"FLUSHALL", databases, []string{"0 FLUSHALL"}, []string{"0 FLUSHDB", "2 FLUSHDB"}},
		{"FLUSHALL of chosen keys", scope.Scope{Include: []string{"in*"}}, []string{"0 FLUSHALL"}, []string{"-1 FLUSHALL"}},
		{"FLUSHDB", databases, []string{"1 FLUSHDB", "2 FLUSHDB"}, []string{"2 FLUSHDB"}},
		{"SWAPDB within", databases, []string{"0 SWAPDB 0 2"}, []string{"-1 SWAPDB"}},
		{"SWAPDB elsewhere", databases, []string{"0 SWAPDB 1 3"}, nil},
		{"classes", scope.Scope{Skip: scope.Classes}, []string{"0 FLUSHALL", "0 FLUSHDB", "0 PUBLISH c m", "0 FUNCTION FLUSH", "0 SET k v", "0 SWAPDB 0 1"}, []string{"0 SET k", "-1 SWAPDB"}},
		{"no classes", databases, []string{"0 PUBLISH c m", "1 FUNCTION FLUSH"}, []string{"-1 PUBLISH", "-1 FUNCTION"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, turned(t, newScoped(c.scope), &offsets.Position{}, c.lines...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What no event can carry, or what another server would do differently, is
// carried as the value that it leaves, also where everything is in scope.
func TestWhatIsCarriedAsAValue(t *testing.T) {
	many := strings.Repeat(" key", 200)
	for _, c := range []struct {
		name  string
		lines []string
		want  []string
	}{
		{"a command of many keys", []string{"0 ZUNIONSTORE d 200" + many, "3 ZDIFFSTORE d 200" + many}, []string{"0 VALUE_DUE d", "3 VALUE_DUE d"}},
		{"what comes before its value", []string{"0 ZUNIONSTORE d 200" + many, "0 ZADD d 1 x", "0 ZADD e 1 x", "0 DEL d", "0 RENAME d e"}, []string{"0 VALUE_DUE d", "0 ZADD e", "0 VALUE_DUE e"}},
		{"a command that is made of pieces", []string{"0 SUNIONSTORE d" + many}, []string{"0 SUNIONSTORE d", "0 SUNIONSTORE d"}},
		{"a command in fragments", []string{"0 RPUSH l" + many}, []string{"0 RPUSH l", "0 RPUSH l"}},
		{"what SORT stores", []string{"0 SORT s BY w_* ALPHA STORE d"}, []string{"0 VALUE_DUE d"}},
		{"SWAPDB before a value", []string{"0 SORT s STORE d", "0 SWAPDB 0 1"}, []string{"0 VALUE_DUE d"}},
		{"a deletion that is too large", []string{"0 DEL " + strings.Repeat("x", 2000)}, []string{"0 DEL " + strings.Repeat("x", 2000)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			turner := newScoped(scope.Scope{})
			turner.MaxEventBytes = 1500
			pos := &offsets.Position{}
			if diff := cmp.Diff(c.want, turned(t, turner, pos, c.lines...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A RESTORE is carried as the value that it leaves if the value that it brings
// is known, and too big for an event.
func TestARESTOREOfALargeValueIsCarriedAsAValue(t *testing.T) {
	for _, ledger := range []*offsets.Ledger{nil, offsets.NewLedger(offsets.LedgerConfig{Site: "a", Home: true})} {
		turner := newScoped(scope.Scope{})
		turner.Ledger, turner.MaxEventBytes = ledger, 1500
		turner.Restored = func(e *schema.Event) {
			switch string(e.Key) {
			case "large":
				e.Type = "hash"
			case "small":
				e.Type, e.Value = "string", schema.Value{Kind: schema.KindString, Data: []byte("v")}
			}
		}
		got := turned(t, turner, &offsets.Position{}, "0 RESTORE small 0 payload", "0 RESTORE large 0 payload", "0 RESTORE module 0 payload", "0 HSET large f v", "0 RESTORE module 0 "+strings.Repeat("x", 2000)) // the last in fragments
		if diff := cmp.Diff([]string{"0 RESTORE small", "0 VALUE_DUE large", "0 RESTORE module", "0 RESTORE module", "0 RESTORE module", "0 RESTORE module"}, got); diff != "" {
			t.Errorf("two-way: %v\n%s", ledger != nil, diff)
		}
	}
}

// On a two-way link the ledger has what SORT stores read in any case, and the
// command itself tells the peer what it touched.
func TestSORTIsACommandOnATwoWayLink(t *testing.T) {
	turner := newScoped(scope.Scope{})
	turner.Ledger = offsets.NewLedger(offsets.LedgerConfig{Site: "a", Home: true})
	if diff := cmp.Diff([]string{"0 SORT d"}, turned(t, turner, &offsets.Position{}, "0 SORT s STORE d")); diff != "" {
		t.Error(diff)
	}
}

func TestSwapWithOneDatabaseInScopeHasItCopiedAnew(t *testing.T) {
	turner, pos := newScoped(scope.Scope{Databases: []int32{0, 2}}), &offsets.Position{}
	got := turned(t, turner, pos, "0 SET k v", "0 SWAPDB 1 0", "0 SET j v", "2 RENAME k l", "0 MOVE k 2", "0 SWAPDB 1 0", "0 SWAPDB 0 2")
	if diff := cmp.Diff([]string{"0 SET k", "2 RENAME k", "2 DEL k", "2 VALUE_DUE k"}, got); diff != "" {
		t.Error(diff)
	}
	if pos.Rescan != "0,2" {
		t.Errorf("databases %q are to be copied anew, want 0 and 2", pos.Rescan)
	}
}

func TestAValueEndsWhatIsDue(t *testing.T) {
	turner, pos := newScoped(scope.Scope{Include: []string{"in*"}}), &offsets.Position{}
	turned(t, turner, pos, "0 RENAME out in", "0 RENAME out2 in2")
	if pos.Due != 1 {
		t.Fatalf("due from seq %d, want 1", pos.Due)
	}
	turner.Values = func(_ []byte, _ *offsets.Position, publish func([]schema.Event) error) error {
		return publish([]schema.Event{{Op: schema.OpValue, Key: []byte("in")}})
	}
	barrier := unitIn("0 SET __twinlog:l:barrier id")
	var seqs []int64
	if _, err := turner.Turn(barrier, pos, func(events []schema.Event, at offsets.Position, _ bool) error {
		for _, e := range events {
			seqs = append(seqs, e.Seq)
		}
		if len(events) > 0 && at.Due != 2 {
			t.Errorf("the position with the value says due from %d, want 2", at.Due)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{3}, seqs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"0 APPEND in"}, turned(t, turner, pos, "0 APPEND in x", "0 APPEND in2 x")); diff != "" {
		t.Error(diff)
	}
}

func TestDueHoldsNoMoreNamesThanItMay(t *testing.T) {
	d := NewDue(1000, true)
	var err error
	for i := int64(1); err == nil && i < 100; i++ {
		err = d.Add(0, []byte(strings.Repeat("x", int(i))), i)
	}
	if err == nil || !strings.Contains(err.Error(), "limits.memory") {
		t.Errorf("error %v", err)
	}
}

// Whatever commands come, no event names a key out of scope, but as one that
// is read or written together with others in scope, and no key that is due.
func FuzzWithin(f *testing.F) {
	f.Add("0 RENAME out in;0 SUNIONSTORE in2 in out;1 MOVE in 0;0 SWAPDB 0 1;0 COPY in in2 DB 2")
	f.Add("0 FLUSHALL;2 LMOVE in in2 LEFT LEFT;0 SORT in STORE in3;0 MSET in 1 out 2")
	f.Fuzz(func(t *testing.T, text string) {
		s := scope.Scope{Databases: []int32{0, 2}, Include: []string{"in*"}}
		turner, pos := newScoped(s), &offsets.Position{}
		for line := range strings.SplitSeq(text, ";") {
			if len(strings.Fields(line)) < 2 {
				return
			}
			due := map[string]bool{}
			for _, k := range []string{"in", "in2", "in3"} {
				due[k] = turner.Due.IsDirty(0, []byte(k))
			}
			seq := pos.Seq
			_, err := turner.Turn(unitIn(line), pos, func(events []schema.Event, _ offsets.Position, _ bool) error {
				for _, e := range events {
					if e.Op != schema.OpTruncate && e.DB != schema.NoDB && !s.HasKey(e.DB, e.Key) || e.DB == 0 && due[string(e.Key)] && e.Op != schema.OpTruncate {
						t.Errorf("%q: %s of db %d, key %q", line, e.Command, e.DB, e.Key)
					}
					if seq++; e.Seq != seq {
						t.Errorf("%q: seq %d, want %d", line, e.Seq, seq)
					}
				}
				return nil
			})
			if err != nil {
				return
			}
		}
	})
}
