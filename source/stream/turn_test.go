package stream

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/schema"
)

func TestReservedKeysAreNeverPublished(t *testing.T) {
	turner := Turner{Site: "a"}
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
