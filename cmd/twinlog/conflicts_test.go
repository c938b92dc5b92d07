package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// workerThatTells is the configuration of a worker that answers /status.
func workerThatTells(t *testing.T, status string) string {
	t.Helper()
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" {
			t.Errorf("the worker was asked for %s", r.URL.Path)
		}
		fmt.Fprint(w, status)
	}))
	t.Cleanup(worker.Close)
	return configFile(t, fmt.Sprintf("link: told\nkafka: {brokers: [\"127.0.0.1:1\"]}\nsites:\n  a: {redis: {addrs: [\"127.0.0.1:1\"]}}\n  b: {redis: {addrs: [\"127.0.0.1:2\"]}}\n"+
		"directions: [{from: a, to: b}, {from: b, to: a, snapshot: no_data}]\nhttp: {listen: %q}\n", strings.TrimPrefix(worker.URL, "http://")))
}

const someConflicts = `[
  {"at": "2026-03-01T23:59:59.007Z", "site": "b", "rule": "D", "db": 0, "key": "cart:<1>", "peer": "DEL (seq 12)", "own": "RPUSH (seq 9)", "won": "what b wrote stays"},
  {"at": "2026-03-02T00:00:00.120Z", "site": "a", "rule": "H", "db": 3, "key": {"b64": "dGV4dP8="}, "peer": "SET (seq 14)", "own": "SET (seq 20)", "won": "the value at a (home), at both sites", "later": 1},
  {"at": "2026-03-02T00:00:00.121Z", "site": "b", "rule": "R", "db": 3, "key": "esc\u001b[2J\u009b", "peer": "value (seq 15)", "own": "SET (seq 20)", "won": "what b wrote is newer"},
  {"at": "2026-03-02T00:00:01.000Z", "site": "a", "rule": "no effect", "db": 0, "key": "%s", "key_bytes": 900000, "peer": "INCR (seq 16)", "own": "ERR no\n\tinteger", "won": "the value at a"},
  {"at": "2026-03-02T00:00:01.000Z", "site": "a", "rule": "SWAPDB", "db": 0, "key": null, "peer": "FLUSHALL (seq 17)", "own": "SWAPDB (seq 21)", "won": ""}
]`

func TestConflicts(t *testing.T) {
	const sites = `"sites": {"a": {"state": "CONNECTED", "conflicts": 312, "repaired": 12, "dirty": 1}, "b": {"state": "CONNECTED", "conflicts": 4}}`
	list := strings.Replace(someConflicts, "%s", strings.Repeat("k", 1024), 1)
	tests := []struct {
		name   string
		status string
		args   []string
		code   int
		want   string // all that is written
	}{
		{"a table", `{"directions": [{}, {}], ` + sites + `, "conflicts": ` + list + `}`, nil, 0, `
TIME                      SITE  WHAT                    DB  KEY                                                         THE OTHER SITE DID  THIS SITE DID    WON
2026-03-01T23:59:59.007Z  b     removal left out (D)    0   "cart:<1>"                                                  DEL (seq 12)        RPUSH (seq 9)    what b wrote stays
2026-03-02T00:00:00.120Z  a     home decided (H)        3   "text\xff"                                                  SET (seq 14)        SET (seq 20)     the value at a (home), at both sites
2026-03-02T00:00:00.121Z  b     value left out (R)      3   "esc\x1b[2J\u009b"                                          value (seq 15)      SET (seq 20)     what b wrote is newer
2026-03-02T00:00:01.000Z  a     command without effect  0   "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"… (900000 bytes)  INCR (seq 16)       ERR no  integer  the value at a
2026-03-02T00:00:01.000Z  a     SWAPDB, not exact       0   -                                                           FLUSHALL (seq 17)   SWAPDB (seq 21)  -

Since the worker was started:
  site a: conflicts 312, keys settled by its value 12, still to settle 1
  site b: conflicts 4, keys settled by its value 0, still to settle 0
`},
		{"none yet", `{"directions": [{}, {}], "conflicts": []}`, nil, 0, "\nno conflicts since the worker was started\n"},
		{"none as JSON", `{"directions": [{}, {}], "conflicts": []}`, []string{"--json"}, 0, "\n[]\n"},
		{"none can be", `{"link": "told", "directions": [{}], "conflicts": []}`, nil, 0, "\nno conflicts: link told goes one way, so only one site writes\n"},
		{"a worker that cannot tell", `{"directions": [{}, {}]}`, nil, 1, "\ntwinlog: the worker is of an older version, which does not tell conflicts: restart it with this one\n"},
		{"something else that answers", `<html>`, nil, 1, "\ntwinlog: reading the worker's status: invalid character '<' looking for beginning of value\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, talk := twinlog(t, append([]string{"conflicts", "-c", workerThatTells(t, tt.status)}, tt.args...)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if diff := cmp.Diff(tt.want, "\n"+out+talk); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConflictsAsJSONAreWhatTheWorkerTells(t *testing.T) {
	code, out, talk := twinlog(t, "conflicts", "--json", "-c", workerThatTells(t, `{"directions": [{}, {}], "conflicts": `+someConflicts+`}`))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, talk)
	}
	var want, got any
	if err := json.Unmarshal([]byte(someConflicts), &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("array (-want +got):\n%s", diff)
	}
}
