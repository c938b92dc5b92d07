package precheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var mixed = Report{Items: []Item{
	{Name: "config", Status: Warning, Detail: "limits.snapshot_rate is not in effect in this version"},
	{Name: "redis-reachable", Site: "a", Status: OK, Detail: "answers at 127.0.0.1:6379"},
	{Name: "redis-psync", Site: "a", Status: Error, Detail: "the user may not join as a replica", Remedy: "ACL SETUSER <user> +psync"},
	{Name: "target-empty", Direction: "a-to-b", Status: Error, Detail: "the target holds data (db0: 3 keys)", Remedy: "empty site b"},
	{Name: "kafka-reachable", Status: OK, Detail: "1 of 1 brokers answer"},
	{Name: "topic-retention", Direction: "a-to-b", Status: Warning, Detail: "topic orders.a-to-b keeps events for 1h0m0s", Remedy: "raise it"},
}}

func TestAReportIsWrittenAsItsGoldenFiles(t *testing.T) {
	ignored := mixed.Ignore([]string{"target-empty", "redis-reachable"})
	for name, write := range map[string]func(*bytes.Buffer) error{
		"report.txt":       func(b *bytes.Buffer) error { return ignored.WriteText(b, false) },
		"report-color.txt": func(b *bytes.Buffer) error { return ignored.WriteText(b, true) },
		"report.json": func(b *bytes.Buffer) error {
			e := json.NewEncoder(b)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			return e.Encode(ignored)
		},
	} {
		var got bytes.Buffer
		if err := write(&got); err != nil {
			t.Fatal(err)
		}
		golden(t, name, got.Bytes())
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

func TestColorsMoveNoColumn(t *testing.T) {
	var plain, colored bytes.Buffer
	if err := errors.Join(mixed.WriteText(&plain, false), mixed.WriteText(&colored, true)); err != nil {
		t.Fatal(err)
	}
	text := colored.String()
	for _, sequence := range []string{"\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[36m", "\x1b[39m", "\x1b[0m"} {
		text = strings.ReplaceAll(text, sequence, "")
	}
	if diff := cmp.Diff(plain.String(), text); diff != "" {
		t.Errorf("without its colors the text differs (-plain +colored):\n%s", diff)
	}
}

func TestAReportFailsByErrorsThatAreNotIgnored(t *testing.T) {
	for _, c := range []struct {
		ignore []string
		failed bool
	}{
		{nil, true},
		{[]string{"redis-psync"}, true},
		{[]string{"redis-psync", "target-empty"}, false},
		{[]string{"config", "topic-retention"}, true},
	} {
		if got := mixed.Failed(c.ignore); got != c.failed {
			t.Errorf("Failed(%q) = %v", c.ignore, got)
		}
		if got := mixed.Ignore(c.ignore).Failed(nil); got != c.failed {
			t.Errorf("Ignore(%q).Failed = %v", c.ignore, got)
		}
	}
}

func TestOnlyNamesOfItemsCanBeIgnored(t *testing.T) {
	if err := CheckNames(Names()); err != nil {
		t.Error(err)
	}
	err := CheckNames([]string{"target-empty", "target-full"})
	if err == nil || !strings.Contains(err.Error(), "target-full") || !strings.Contains(err.Error(), "same-instance") {
		t.Errorf("an unknown name gives %v", err)
	}
}

func TestThePackageDocumentationListsEveryName(t *testing.T) {
	text, err := os.ReadFile("precheck.go")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for line := range strings.Lines(string(text)) {
		if item, ok := strings.CutPrefix(line, "//\t"); ok {
			documented = append(documented, strings.Fields(item)[0])
		}
	}
	if diff := cmp.Diff(names, documented); diff != "" {
		t.Errorf("documentation and names differ (-names +documented):\n%s", diff)
	}
}

func TestWhatAServerSendsCannotSteerATerminal(t *testing.T) {
	var s sheet
	s.error("redis-reachable", "one\ntwo\x1b[2J\tthree\x00", "")
	if got := s.items[0].Detail; strings.ContainsFunc(got, func(r rune) bool { return r < ' ' }) || !strings.HasPrefix(got, "one; two") {
		t.Errorf("detail is %q", got)
	}
}

// item finds one item of a report.
func item(t *testing.T, r Report, name, where string) Item {
	t.Helper()
	at := slices.IndexFunc(r.Items, func(i Item) bool {
		return i.Name == name && (where == i.Site || where == i.Direction) && (where != "" || i.Site+i.Direction == "")
	})
	if at < 0 {
		t.Fatalf("the report has no %s of %q:\n%s", name, where, text(t, r))
	}
	return r.Items[at]
}

func text(t *testing.T, r Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// want is how an item should come out.
type want struct {
	name, where string
	status      Status
	detail      string // a part of it
}

func (w want) check(t *testing.T, r Report) {
	t.Helper()
	got := item(t, r, w.name, w.where)
	if got.Status != w.status || !strings.Contains(got.Detail, w.detail) {
		t.Errorf("%s of %q is %s: %s\nwant %s with %q\n%s", w.name, w.where, got.Status, got.Detail, w.status, w.detail, text(t, r))
	}
	if got.Status == Error && got.Remedy == "" {
		t.Errorf("%s of %q is an error without a remedy", w.name, w.where)
	}
}
