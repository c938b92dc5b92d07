package stream

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/offsets"
	"twinlog/schema"
)

func TestReservedKeysAreNeverPublished(t *testing.T) {
	turner := Turner{Site: "a", Due: NewDue(1<<20, true)}
	for _, tt := range []struct {
		line string
		want []string // keys of the events
		err  string
	}{
		{"SET k v", []string{"k"}, ""},
		{"SET __twinlog:x v", nil, ""},
		{"DEL k __twinlog:x j", []string{"k", "j"}, ""},
		{"MSET __twinlog:x 1 k 2", []string{"k"}, ""},
		{"RENAME __twinlog:x __twinlog:y", nil, ""},
		{"RENAME __twinlog:x k", nil, "replication offset 77"},
		{"RENAME k __twinlog:x", nil, "nothing but twinlog may touch these keys"},
		{"SUNIONSTORE __twinlog:x a b", nil, ""},
	} {
		t.Run(tt.line, func(t *testing.T) {
			var args [][]byte
			for _, w := range strings.Fields(tt.line) {
				args = append(args, []byte(w))
			}
			before := []schema.Event{{Key: []byte("before")}}
			events, err := turner.translate(before, Command{Args: args}, 77)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for _, e := range events[1:] {
				keys = append(keys, string(e.Key))
			}
			if diff := cmp.Diff(tt.want, keys); diff != "" || string(events[0].Key) != "before" {
				t.Error(diff)
			}
		})
	}
}

// A unit of many commands, or of one that is many events, is one group that
// comes in several calls; only the last one moves the position.
func TestALargeUnitIsEmittedInPieces(t *testing.T) {
	for _, n := range []int{1, mostEvents, mostEvents + 1, mostEvents + 2, 3*mostEvents + 5} {
		single, wide := &Unit{Offset: 70}, &Unit{Offset: 70, Commands: []Command{{Args: [][]byte{[]byte("MSET")}}}}
		for i := range n {
			key := []byte(strconv.Itoa(i))
			single.Commands = append(single.Commands, Command{Args: [][]byte{[]byte("SET"), key, []byte("v")}})
			wide.Commands[0].Args = append(wide.Commands[0].Args, key, []byte("v"))
		}
		reserved := Command{Args: [][]byte{[]byte("SET"), []byte(offsets.Reserved + "x"), []byte("no event")}}
		single.Commands, wide.Commands = append(single.Commands, reserved), append(wide.Commands, reserved)
		inPieces(t, single, n)
		inPieces(t, wide, n)
	}
}

func inPieces(t *testing.T, u *Unit, n int) {
	t.Helper()
	turner := &Turner{Site: "a", Filter: NewFilter("l", "b-to-a", "0"), Due: NewDue(1<<20, true)}
	pos := offsets.Position{ReplOffset: 7, Seq: 3}
	var keys, ends int
	_, err := turner.Turn(u, &pos, func(events []schema.Event, at offsets.Position, goesOn bool) error {
		if len(events) == 0 || len(events) > 2*mostEvents || at.ReplOffset != 70 || goesOn != (pos.ReplOffset == 7) {
			t.Errorf("%d keys: a call with %d events of offset %d, goes on %v", n, len(events), at.ReplOffset, goesOn)
		}
		for _, e := range events {
			if string(e.Key) != strconv.Itoa(keys) || e.Seq != int64(4+keys) || e.Source.Snapshot != "false" {
				t.Fatalf("%d keys: event %d is %+v", n, keys, e)
			}
			keys++
		}
		if !goesOn {
			ends++
		}
		return nil
	})
	if err != nil || keys != n || ends != 1 || pos.Seq != int64(3+n) || pos.ReplOffset != 70 {
		t.Errorf("%d keys: %d events, %d ends, position %+v, error %v", n, keys, ends, pos, err)
	}
}
