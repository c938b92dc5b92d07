package offsets

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"twinlog/internal/command"
	"twinlog/schema"
)

func dirtyNames(l *Ledger) string {
	return strings.Join(slices.Sorted(maps.Keys(shownKeys(dirtyOf(l)))), " ")
}

// Rule H: what becomes dirty at home when the peer's command, that has seen
// nothing of it, comes after own ones.
func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		own   []string
		peer  string
		dirty string
	}{
		{"different keys", []string{"SET j 1"}, "SET k 1", ""},
		{"set and increment", []string{"INCR k"}, "SET k 5", "0/k"},
		{"two increments", []string{"INCR k", "DECRBY k 2"}, "INCRBY k 5", ""},
		{"an increment behind a write of another kind", []string{"SET k 1", "INCR k"}, "INCR k", "0/k"},
		{"a write of another kind behind an increment", []string{"INCR k", "SET k 1", "INCR k"}, "INCR k", "0/k"},
		{"two additions", []string{"SADD k x"}, "SADD k x y", ""},
		{"addition and removal", []string{"SADD k x"}, "SREM k y", "0/k"},
		{"different fields", []string{"HSET k f 1"}, "HSET k g 1", ""},
		{"one field", []string{"HSET k f 1"}, "HSET k g 1 f 1", "0/k"},
		{"different members", []string{"ZADD k 1 f"}, "ZADD k 1 g", ""},
		{"one member", []string{"ZADD k 1 f"}, "ZADD k 2 f", "0/k"},
		{"a member under a condition", []string{"ZADD k 1 f"}, "ZADD k NX 1 g 2 h", "0/k"},
		{"one field, but of another key", []string{"HSET j f 1"}, "HSET k f 1", ""},
		{"two deletions", []string{"DEL k"}, "DEL k", ""},
		{"deletion and write", []string{"DEL k"}, "SET k 1", "0/k"},
		{"deletion and a value that is none", []string{"DEL k"}, "GONE k", ""},
		{"deletion and value", []string{"DEL k"}, "VALUE k", "0/k"},

		{"a chain", []string{"SADD s x", "RENAME s h", "RENAME h k", "COPY k j"}, "SADD s y", "0/h 0/j 0/k 0/s"},
		{"a chain in the wrong order", []string{"COPY k j", "RENAME s k"}, "SADD s y", "0/k 0/s"},
		{"the peer reads what was written here", []string{"SET k 1"}, "COPY k j", "0/j 0/k"},
		{"the peer reads what was read here", []string{"COPY k h"}, "COPY k j", ""},
		{"the peer writes what was read here", []string{"COPY k h"}, "INCR k", "0/h 0/k"},
		{"increments, one copied", []string{"INCR k", "COPY k h"}, "INCR k", "0/h 0/k"},
		{"two copies of one key", []string{"COPY k h"}, "COPY k h", "0/h"},
		{"to another database", []string{"COPY k k DB 1"}, "SET k 1", "0/k 1/k"},

		{"own FLUSHDB", []string{"FLUSHDB"}, "SET k 1", "0/k"},
		{"own FLUSHDB and a deletion", []string{"FLUSHDB"}, "DEL k", ""},
		{"two FLUSHDB", []string{"FLUSHDB"}, "FLUSHALL", ""},
		{"own FLUSHDB of what the peer copies", []string{"FLUSHDB"}, "COPY k j", "0/j 0/k"},
		{"FLUSHDB over writes", []string{"SET k 1", "DEL j"}, "FLUSHDB", "0/k"},
		{"FLUSHDB over a chain", []string{"SET k 1", "COPY j h"}, "FLUSHDB", "0/h 0/j 0/k"},
		{"own SWAPDB", []string{"SWAPDB 0 1"}, "SET k 1", "0/k 1/k"},
		{"own SWAPDB of other databases", []string{"SWAPDB 2 1"}, "SET k 1", ""},
		{"SWAPDB over writes", []string{"SET k 1"}, "SWAPDB 0 1", "0/k 1/k"},
		{"SWAPDB of other databases", []string{"SET k 1"}, "SWAPDB 2 1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, entries := range []int{0, 1} { // in memory, on disk
				l := NewLedger(LedgerConfig{Site: "a", Home: true, Dir: t.TempDir(), MaxMemory: 1, GenerationEntries: entries})
				own(t, l, tt.own...)
				passed(t, l, 1, 0, tt.peer)
				if got := dirtyNames(l); got != tt.dirty {
					t.Errorf("dirty %q, want %q", got, tt.dirty)
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestNoConflictWithWhatThePeerHasSeen(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Home: true})
	own(t, l, "SET k 1", "RENAME k j", "FLUSHDB")
	passed(t, l, 1, 3, "SET k 2")
	if got := dirtyNames(l); got != "" {
		t.Errorf("dirty %q", got)
	}
}

func TestOnlyHomeSettles(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "b"})
	own(t, l, "SET k 1")
	passed(t, l, 1, 0, "SET k 2")
	if got := dirtyNames(l); got != "" {
		t.Errorf("dirty %q at the site that is not home", got)
	}
}

// Dirty keys infect what both sites make of them, and their cause holds
// settled back until the value is published.
func TestDirtyKeys(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Home: true})
	next := int64(0)
	step := func(line string) {
		made := events(t, 0, line, next, 0)
		next += int64(len(made))
		for i := range made {
			if err := l.Own(&made[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(what, dirty string, seen, settled int64) {
		t.Helper()
		if got := dirtyNames(l); got != dirty || l.Settled(seen) != settled {
			t.Errorf("%s: dirty %q, settled %d, want %q, %d", what, got, l.Settled(seen), dirty, settled)
		}
	}
	step("SET k 5")
	passed(t, l, 3, 0, "APPEND k x")
	check("a conflict", "0/k", 3, 2)
	passed(t, l, 5, next, "LMOVE k s LEFT RIGHT")
	check("the peer moves it", "0/k 0/s", 5, 2)
	step("RENAME s j")
	check("this site moves it", "0/j 0/k 0/s", 5, 2)
	step("VALUE k")
	check("one value is published", "0/j 0/s", 5, 2)
	step("GONE s")
	step("VALUE j")
	check("all values are published", "", 5, 5)
	if n := l.Conflicts().Repaired(); n != 3 {
		t.Errorf("%d repaired, want 3", n)
	}
	passed(t, l, 7, 0, "SET k 6")
	passed(t, l, 8, 0, "SET j 6")
	if err := l.Own(&schema.Event{Op: schema.OpValue, Key: []byte("j"), Seq: next + 1, Part: schema.OptPart{Set: true}}); err != nil {
		t.Fatal(err)
	}
	check("the first part of a value", "0/j 0/k 0/s", 8, 6)
	if err := l.Own(&schema.Event{Op: schema.OpControl, Command: schema.SnapshotBegin, Seq: next + 2}); err != nil {
		t.Fatal(err)
	}
	passed(t, l, 9, 0, "SET s 6")
	check("a mark inside a snapshot", "0/j 0/k 0/s", 9, 6)
	if err := l.Own(&schema.Event{Op: schema.OpControl, Command: schema.SnapshotEnd, Seq: next + 3}); err != nil {
		t.Fatal(err)
	}
	check("a snapshot", "0/j 0/s", 9, 7)
	if taken := l.TakeDirty(); len(taken) != 2 || len(l.TakeDirty()) != 0 {
		t.Errorf("taken %q", taken)
	}
	step("VALUE s")
	step("VALUE j")
	l.Request(10)
	l.Request(11)
	check("the peer asks for a snapshot", "", 11, 9)
	select {
	case <-l.Woken():
	default:
		t.Error("nobody was woken")
	}
}

// Own changes that a sink must not remove or replace (rules D and R).
func TestDecide(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		own  []string
		peer string
		out  bool
		rest string // elements to remove where some stay
	}{
		{[]string{"SET k 1"}, "DEL k", true, ""},
		{[]string{"SET j 1"}, "DEL k", false, ""},
		{[]string{"DEL k"}, "DEL k", false, ""},
		{[]string{"SET k 1", "DEL k"}, "DEL k", true, ""},
		{[]string{"GONE k"}, "DEL k", false, ""},
		{[]string{"FLUSHALL"}, "DEL k", false, ""},
		{[]string{"SWAPDB 0 1"}, "DEL k", true, ""},
		{[]string{"SWAPDB 2 1"}, "DEL k", false, ""},
		{[]string{"PEXPIREAT k 9"}, "DEL k", true, ""},
		{[]string{"RENAME k j"}, "DEL k", true, ""},
		{[]string{"COPY k j"}, "DEL k", false, ""},
		{[]string{"COPY j k"}, "DEL k", true, ""},
		{[]string{"SET k 1"}, "SET k 2", false, ""},
		{[]string{"SET k 1"}, "RENAME k j", false, ""},
		{[]string{"SET k 1"}, "VALUE k", true, ""},
		{[]string{"SET k 1"}, "GONE k", true, ""},
		{[]string{"DEL k"}, "VALUE k", false, ""},
		{[]string{"LPUSH k x"}, "LPOP k", true, ""},
		{[]string{"LPOP k"}, "LPOP k", true, ""},
		{[]string{"LPUSH k x"}, "LMOVE k j LEFT LEFT", true, ""},
		{[]string{"LPUSH j x"}, "LMOVE k j LEFT LEFT", false, ""},
		{[]string{"LPUSH k x"}, "LREM k 1 x", true, ""},
		{[]string{"LPUSH k x"}, "LREM k 1 y", false, ""},
		{[]string{"SADD k x"}, "SREM k x", true, ""},
		{[]string{"SADD k x"}, "SREM k y z", false, ""},
		{[]string{"SADD k x"}, "SREM k x y z", false, "y z"},
		{[]string{"SADD j x"}, "SREM k x", false, ""},
		{[]string{"SREM k x"}, "SREM k x", false, ""},
		{[]string{"SADD k x", "SREM k x"}, "SREM k x y", false, "y"},
		{[]string{"VALUE k"}, "SREM k x", true, ""},
		{[]string{"RENAME j k"}, "HDEL k f", true, ""},
		{[]string{"SUNIONSTORE k a b"}, "SREM k x", true, ""},
		{[]string{"HSET k f 1"}, "HDEL k f g", false, "g"},
		{[]string{"HINCRBY k f 1"}, "HDEL k f", true, ""},
		{[]string{"ZADD k NX 1 f 2 g"}, "ZREM k f g", true, ""},
		{[]string{"XADD k 5-0 f v"}, "XDEL k 5-0 4-0", false, "4-0"},
	} {
		for _, entries := range []int{0, 1} { // in memory, on disk
			l := NewLedger(LedgerConfig{Site: "a", Dir: t.TempDir(), MaxMemory: 1, GenerationEntries: entries})
			own(t, l, tt.own...)
			e := events(t, 0, tt.peer, 0, 0)[0]
			v := decide(t, l, &e)
			var rest []string
			for _, x := range v.Elements {
				rest = append(rest, string(x))
			}
			if v.LeaveOut != tt.out || strings.Join(rest, " ") != tt.rest {
				t.Errorf("own %q, peer %s: leave out %v, rest %q", tt.own, tt.peer, v.LeaveOut, rest)
			}
			e.Seen = l.last
			if v := decide(t, l, &e); v.LeaveOut || v.Elements != nil {
				t.Errorf("own %q, peer %s: left out though it has seen them", tt.own, tt.peer)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestTaintAndRefresh(t *testing.T) {
	t.Parallel()
	failed := command.Touch{Keys: []command.KeyTouch{{Name: []byte("k"), Written: true}, {Name: []byte("j")}}}
	for _, tt := range []struct {
		home bool
		want string
	}{{true, "0/k"}, {false, ""}} {
		l := NewLedger(LedgerConfig{Site: "a", Home: tt.home})
		l.Taint(&failed, 4)
		if got := dirtyNames(l); got != tt.want {
			t.Errorf("home %v: a command without effect makes %q dirty, want %q", tt.home, got, tt.want)
		}
		for _, seen := range []int64{3, 0} {
			e := events(t, 1, "SORT k STORE s", 0, seen)[0]
			if err := l.Own(&e); err != nil {
				t.Fatal(err)
			}
			if !l.IsDirty(1, []byte("s")) || l.Settled(9) != max(seen-1, 0) {
				t.Errorf("home %v: settled %d behind SORT that had seen %d", tt.home, l.Settled(9), seen)
			}
		}
	}
}
