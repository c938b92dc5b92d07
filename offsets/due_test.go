package offsets

import (
	"testing"

	"twinlog/internal/command"
	"twinlog/schema"
)

func valueDue(seq, seen int64, key string) *schema.Event {
	return &schema.Event{Op: schema.OpControl, Command: schema.ValueDue, Key: []byte(key), Seq: seq, Seen: seen}
}

// What this site's VALUE_DUE announces the peer cannot have seen, whatever it
// says: it is neither removed nor replaced, until the value is published.
func TestNothingTakesAwayWhatIsDue(t *testing.T) {
	t.Parallel()
	for _, home := range []bool{true, false} {
		l := NewLedger(LedgerConfig{Site: "a", Home: home})
		if err := l.Own(valueDue(1, 0, "k")); err != nil {
			t.Fatal(err)
		}
		left := func(e schema.Event) bool {
			var touch command.Touch
			var v Verdict
			if err := touch.Of(&e); err != nil {
				t.Fatal(err)
			}
			if err := l.Decide(&e, &touch, false, &v); err != nil {
				t.Fatal(err)
			}
			return v.LeaveOut
		}
		gone := schema.Event{Op: schema.OpDelete, Command: "DEL", Key: []byte("k"), Seq: 1, Seen: 1}
		value := schema.Event{Op: schema.OpValue, Key: []byte("k"), Seq: 2, Seen: 1}
		if !left(gone) || !left(value) {
			t.Errorf("home %v: the peer takes away a value that it cannot have seen", home)
		}
		if !l.IsDirty(0, []byte("k")) || l.Settled(0) != 0 {
			t.Errorf("home %v: the value is not asked for", home)
		}
		for _, c := range []string{schema.SnapshotBegin, schema.SnapshotEnd} {
			if err := l.Own(&schema.Event{Op: schema.OpControl, DB: schema.NoDB, Command: c, Seq: 2}); err != nil {
				t.Fatal(err)
			}
		}
		if !l.IsDirty(0, []byte("k")) {
			t.Errorf("home %v: a snapshot without the key ends what is due", home)
		}
		if err := l.Own(&schema.Event{Op: schema.OpValue, Key: []byte("k"), Seq: 3}); err != nil {
			t.Fatal(err)
		}
		if gone.Seen = 3; left(gone) || l.IsDirty(0, []byte("k")) {
			t.Errorf("home %v: the value is published and still due", home)
		}
	}
}

// Between the peer's VALUE_DUE and its value home holds something else than
// the peer. What home makes of it is to be published, the key itself is not.
func TestWhatHomeMakesOfAValueThatIsAwaitedBecomesDirty(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Home: true})
	pass := func(e *schema.Event) {
		t.Helper()
		err := l.PassTo(e.Seq-1, e.Seq, func(_, _ int64, visit func(*schema.Event) error) error { return visit(e) })
		if err != nil {
			t.Fatal(err)
		}
	}
	pass(valueDue(1, 0, "k"))
	if len(l.TakeDirty()) > 0 || l.IsDirty(0, []byte("k")) {
		t.Error("home's old value would overwrite the one that is to come")
	}
	if got := l.Settled(1); got != 0 {
		t.Errorf("settled up to %d: a restart would forget what is awaited", got)
	}
	own(t, l, "COPY k j")
	if !l.IsDirty(0, []byte("j")) || l.IsDirty(0, []byte("k")) {
		t.Error("not the copy of the awaited value is dirty, and it alone")
	}
	pass(&schema.Event{Op: schema.OpValue, Key: []byte("k"), Seq: 2, Seen: 1})
	own(t, l, "COPY k h")
	if l.IsDirty(0, []byte("h")) {
		t.Error("the value has come, and what is made of it is dirty still")
	}
}
