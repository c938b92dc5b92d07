package command

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// placeholders stand in the recordings for times.
var placeholders = strings.NewReplacer("<ms:now>", "1700000000000", "<ms:now+99s>", "1700000099000", "<ms:now+100s>", "1700000100000")

// What four servers really sent for each operation, and what it becomes.
func TestRecordedStreams(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/replication-cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases map[string]map[string]struct{ Stream []string }
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]string)
	for name, servers := range cases {
		for server, c := range servers {
			db := int32(0)
			for _, line := range c.Stream {
				got, err := changes(placeholders.Replace(line), &db)
				if err != nil {
					t.Errorf("%s on %s: %s: %v", name, server, line, err)
				}
				if name != "SPOP count >1024 elements" { // thousands of SREM
					seen[fmt.Sprintf("%d> %s", db, line)] = got
				}
			}
		}
	}
	var b strings.Builder
	for _, line := range slices.Sorted(maps.Keys(seen)) {
		fmt.Fprintf(&b, "%s\n%s", line, seen[line])
	}
	const golden = "testdata/replication-cases.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("events differ; run with -update if they should (-want +got):\n%s", diff)
	}
}

func changes(line string, db *int32) (string, error) {
	argv := bytesOf(line)
	events, err := AppendChanges(nil, *db, argv)
	if errors.Is(err, errPlumbing) {
		if is(argv[0], "SELECT") {
			n, err := strconv.Atoi(string(argv[1]))
			*db = int32(n)
			return "", err
		}
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if len(events) == 0 {
		return "\tno change\n", nil
	}
	return "\t" + strings.Join(linesOf(events), "\n\t") + "\n", nil
}
