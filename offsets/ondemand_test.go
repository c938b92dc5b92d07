package offsets

import (
	"math"
	"strings"
	"testing"

	"twinlog/internal/command"
	"twinlog/schema"
)

func TestPositionCarriesASnapshotOnDemand(t *testing.T) {
	want := Position{Version: positionVersion, Phase: PhaseStream, Seq: 7, OnDemand: OnDemand{
		ID: "x1", Match: "bin\xff\"\\*", DB: AllDatabases, Rate: 5, State: OnDemandRunning, At: 3, Cursor: "9223372036854775808", Server: "f00", Keys: 12,
	}}
	text, err := AppendPosition(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParsePosition(text)
	if err != nil || got != want {
		t.Errorf("%s is read as %+v, %v", text, got, err)
	}
	text, err = AppendPosition(nil, Position{Phase: PhaseStream})
	if err != nil || strings.Contains(string(text), "on_demand") {
		t.Errorf("without one it says %s, %v", text, err)
	}
	if p, err := ParsePosition([]byte(`{"version":1,"phase":"stream","on_demand":{"match":"\\"}}`)); err == nil {
		t.Errorf("a pattern that ends in a backslash is read as %+v", p)
	}
}

func TestProgressOfASnapshotOnDemand(t *testing.T) {
	for cursor, want := range map[string]float64{"": 0, "0": 0, "1": .5, "2": .25, "3": .75, "18446744073709551615": 1, "junk": 0} {
		d := OnDemand{State: OnDemandRunning, Cursor: cursor}
		if got := d.Progress(); math.Abs(got-want) > 1e-9 {
			t.Errorf("cursor %q is %v of the way, want %v", cursor, got, want)
		}
	}
}

// What is sent again is left out wherever the target knows better, and is no
// change of its own site.
func TestARefreshGivesWayAndIsNoChange(t *testing.T) {
	refresh := func(seq, seen int64) *schema.Event {
		return &schema.Event{Op: schema.OpValue, Key: []byte("k"), Seq: seq, Seen: seen, Source: schema.Source{Snapshot: schema.Refresh}}
	}
	for _, tt := range []struct {
		own  string
		seen int64
		want bool // left out
	}{
		{"SET k 1", 0, true}, {"SET k 1", 1, false}, {"DEL k", 0, true}, {"DEL k", 1, false}, {"FLUSHDB", 0, true}, {"FLUSHDB", 1, false}, {"SET j 1", 0, false},
	} {
		l := NewLedger(LedgerConfig{Site: "a", Home: true})
		own(t, l, tt.own)
		e := refresh(9, tt.seen)
		var touch command.Touch
		v := Verdict{Elements: make([][]byte, 0, 1)} // of a decision before
		if err := touch.Of(e); err != nil {
			t.Fatal(err)
		}
		if err := l.Decide(e, &touch, false, &v); err != nil || v.LeaveOut != tt.want || v.Elements != nil {
			t.Errorf("own %s, seen %d: left out %v, want %v; elements %v (%v)", tt.own, tt.seen, v.LeaveOut, tt.want, v.Elements, err)
		}
		if err := l.PassTo(0, 9, func(_, _ int64, visit func(*schema.Event) error) error { return visit(e) }); err != nil || len(l.TakeDirty()) > 0 {
			t.Errorf("own %s: what the peer sends again makes keys dirty (%v)", tt.own, err)
		}
	}
	l := NewLedger(LedgerConfig{Site: "a", Home: true})
	if err := l.Own(refresh(1, 0)); err != nil || l.Size().Unseen != 0 {
		t.Errorf("what is sent again is unseen by the peer: %+v, %v", l.Size(), err)
	}
}
