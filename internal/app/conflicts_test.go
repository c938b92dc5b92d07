package app

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/internal/admin"
	"twinlog/offsets"
)

// worker has the directions that are named, as in "a-to-b", and runs nothing.
func worker(directions ...string) *Worker {
	w := &Worker{}
	for _, name := range directions {
		from, to, _ := strings.Cut(name, "-to-")
		w.halves = append(w.halves, &half{Direction: Direction{From: from, To: to}, source: &connector{}, sink: &connector{}})
	}
	w.conflicts = w.newConflicts()
	return w
}

func TestOnlyTwoWayLinksHaveConflicts(t *testing.T) {
	if w := worker("a-to-b"); w.conflicts != nil {
		t.Errorf("a one-way link has %v", w.conflicts)
	}
	w := worker("a-to-b", "b-to-a")
	if len(w.conflicts) != 2 || w.conflicts["a"].Site != "a" || w.conflicts["b"].Site != "b" {
		t.Errorf("a two-way link has %v", w.conflicts)
	}
}

func TestLastConflictsAreOfBothSites(t *testing.T) {
	w := worker("a-to-b", "b-to-a")
	if got := w.lastConflicts(); len(got) != 0 {
		t.Errorf("a new worker has %v", got)
	}
	for _, site := range []string{"b", "a", "b"} {
		w.conflicts[site].NoEffect(0, nil, "INCR", 7, "", "")
	}
	if got := w.lastConflicts(); len(got) != 3 {
		t.Errorf("three conflicts, and the last are %v", got)
	}
	for site, want := range map[string]int64{"a": 1, "b": 2} {
		if got := w.countConflicts(site, admin.Site{State: "CONNECTED"}); got != (admin.Site{State: "CONNECTED", Conflicts: want}) {
			t.Errorf("site %s has %+v, want %d conflicts", site, got, want)
		}
	}
}

func TestNewestConflictsComeLast(t *testing.T) {
	var all []offsets.Conflict
	for _, site := range []string{"a", "b"} {
		for ms := range int64(offsets.KeptConflicts) {
			all = append(all, offsets.Conflict{TsMs: ms, Site: site})
		}
	}
	got := newest(all)
	if len(got) != offsets.KeptConflicts {
		t.Fatalf("%d conflicts, want %d", len(got), offsets.KeptConflicts)
	}
	for i, c := range got {
		want := offsets.Conflict{TsMs: int64(offsets.KeptConflicts+i) / 2, Site: "ab"[i%2 : i%2+1]}
		if diff := cmp.Diff(want, c); diff != "" {
			t.Fatalf("conflict %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestShownConflict(t *testing.T) {
	got := shownConflict(&offsets.Conflict{
		TsMs: 1767225599007, Site: "b", Rule: offsets.RuleD, DB: 3, Key: []byte("text\xff"), Peer: "DEL (seq 2)", Own: "SET (seq 7)", Won: "what b wrote stays",
	})
	want := admin.Conflict{
		At: "2025-12-31T23:59:59.007Z", Site: "b", Rule: admin.RuleD, DB: 3, Key: admin.Key("text\xff"), Peer: "DEL (seq 2)", Own: "SET (seq 7)", Won: "what b wrote stays",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("conflict (-want +got):\n%s", diff)
	}
}

func TestLongKeysAreCut(t *testing.T) {
	long := strings.Repeat("x", offsets.MaxConflictKey-1)
	tests := []struct {
		name, key string
		want      int // bytes shown
	}{
		{"none", "", 0},
		{"one that just fits", long + "x", offsets.MaxConflictKey},
		{"text", long + "xx", offsets.MaxConflictKey},
		{"text, before a character that does not fit", long + "é!", offsets.MaxConflictKey - 1},
		{"bytes", long[3:] + "\xff\xff\xff\xff\xff\xff", offsets.MaxConflictKey},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := shownConflict(&offsets.Conflict{Key: []byte(test.key[:min(len(test.key), offsets.MaxConflictKey)]), KeyBytes: len(test.key)})
			if len(got.Key) != test.want || !strings.HasPrefix(test.key, string(got.Key)) {
				t.Errorf("%d bytes shown, want %d", len(got.Key), test.want)
			}
			if cut := test.want < len(test.key); cut != (got.KeyBytes > 0) || cut && got.KeyBytes != len(test.key) {
				t.Errorf("key_bytes %d of %d", got.KeyBytes, len(test.key))
			}
		})
	}
}
