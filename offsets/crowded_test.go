package offsets

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"twinlog/schema"
)

func controls(t *testing.T, l *Ledger, seq int64, commands ...string) {
	t.Helper()
	for i, c := range commands {
		if err := l.Own(&schema.Event{Op: schema.OpControl, DB: schema.NoDB, Command: c, Seq: seq + int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
}

// Where FLUSHDB, FLUSHALL or SWAPDB of the peer would put more keys in conflict
// than there is room for, home publishes all its values instead.
func TestMoreKeysInConflictThanThereIsRoomFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		own  []string
		peer string
		all  bool
	}{
		{[]string{"SET a 1", "SET b 1"}, "FLUSHALL", false},
		{[]string{"SET a 1", "SET b 1", "SET c 1"}, "FLUSHALL", true},
		{[]string{"SET a 1", "SET b 1", "SET c 1"}, "FLUSHDB", true},
		{[]string{"SET a 1"}, "SWAPDB 0 1", false}, // in both databases
		{[]string{"SET a 1", "SET b 1"}, "SWAPDB 0 1", true},
		{[]string{"SET a 1", "SET b 1", "SET c 1"}, "SWAPDB 2 1", false},
	} {
		for _, entries := range []int{0, 1} { // in memory, on disk
			l := NewLedger(LedgerConfig{Site: "a", Home: true, Dir: t.TempDir(), MaxMemory: 1, GenerationEntries: entries, MaxDirty: 2 * (dirtyCost + 2)})
			own(t, l, tt.own...)
			passed(t, l, 3, 0, tt.peer)
			if l.Requested() != tt.all || tt.all && (dirtyNames(l) != "" || l.Settled(3) != 2) {
				t.Errorf("%q, %s: all values are asked for: %t; dirty %q, settled %d", tt.own, tt.peer, l.Requested(), dirtyNames(l), l.Settled(3))
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A snapshot that began before the peer's FLUSHALL was passed does not answer
// it, and what is sent again meanwhile settles nothing.
func TestASnapshotOfAllKeysInConflict(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Home: true, MaxDirty: 1})
	own(t, l, "SET a 1")
	controls(t, l, 2, schema.SnapshotBegin)
	passed(t, l, 3, 0, "FLUSHALL")
	refresh := events(t, 0, "VALUE j", 3, 3)[0]
	refresh.Source.Snapshot = schema.Refresh
	if !decide(t, l, &refresh).LeaveOut {
		t.Error("a value that is sent again replaces one that may be in conflict")
	}
	controls(t, l, 3, schema.SnapshotEnd)
	if !l.Requested() {
		t.Error("a snapshot from before is taken for the answer")
	}
	controls(t, l, 4, schema.SnapshotBegin, schema.SnapshotEnd)
	if l.Requested() || l.Settled(3) != 3 {
		t.Errorf("behind the snapshot another is asked for: %t, settled %d", l.Requested(), l.Settled(3))
	}
}

// A sink waits until the values of keys in conflict are published, but not for
// those that the peer is to send.
func TestRoomForKeysInConflict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger(LedgerConfig{Site: "a", Home: true, MaxDirty: 2 * (dirtyCost + 2)})
		l.awaits(1, schema.ValueDue, &valuesOf(t, "w1").Touch)
		l.awaits(1, schema.ValueDue, &valuesOf(t, "w2").Touch)
		l.awaits(1, schema.ValueDue, &valuesOf(t, "w3").Touch)
		own(t, l, "SET a 1", "SET b 1", "SET c 1")
		passed(t, l, 2, 0, "SET a 2")
		passed(t, l, 3, 0, "SET b 2")
		if err := l.AwaitRoom(t.Context()); err != nil {
			t.Fatal(err)
		}
		passed(t, l, 4, 0, "SET c 2")
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.AwaitRoom(ended); !errors.Is(err, context.Canceled) {
			t.Fatalf("there is room for a third key: %v", err)
		}
		for _, more := range []func() error{
			func() error { return l.Own(&events(t, 0, "VALUE b", 3, 4)[0]) },
			func() error { return l.Reset(0, 0) },
		} {
			passed(t, l, 5, 0, "SET b 3")
			done := make(chan error)
			go func() { done <- l.AwaitRoom(t.Context()) }()
			synctest.Wait()
			select {
			case <-done:
				t.Fatal("it did not wait")
			default:
			}
			if err := more(); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if l.dirtyBytes != 0 {
			t.Errorf("%d bytes of keys in conflict in an empty ledger", l.dirtyBytes)
		}
	})
}

func valuesOf(t *testing.T, key string) *Print {
	t.Helper()
	var p Print
	if err := PrintOf(&p, &events(t, 0, "VALUE "+key, 0, 0)[0]); err != nil {
		t.Fatal(err)
	}
	return &p
}

// Keys that come into conflict and are published leave nothing behind, also
// while one stays that is older.
func TestWhatWasSettledTakesNoMemory(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Home: true})
	l.awaits(1, schema.ValueDue, &valuesOf(t, "old").Touch)
	for i := range int64(10_000) {
		key := fmt.Sprint("k", i)
		l.taint(0, []byte(key), i+2)
		if err := l.Own(&events(t, 0, "VALUE "+key, i, 0)[0]); err != nil {
			t.Fatal(err)
		}
		l.TakeDirty()
	}
	if len(l.causes) > 2*causesSlack || l.Settled(20_000) != 0 {
		t.Errorf("%d causes of one key, settled %d", len(l.causes), l.Settled(20_000))
	}
}
