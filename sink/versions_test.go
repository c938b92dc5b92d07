package sink

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/schema"
)

func TestHSETEXIsWrittenInWhatTheTargetKnows(t *testing.T) {
	const later = "1700000100000"
	for _, c := range []struct {
		name            string
		expires, hsetex bool
		args, want      []string
	}{
		{"known", true, true, []string{"h", "PXAT", later, "FIELDS", "1", "f", "v"}, []string{"HSETEX h PXAT 1700000101000 FIELDS 1 f v"}},
		{"kept expiry where there are none", false, false, []string{"h", "KEEPTTL", "FIELDS", "2", "f", "v", "g", "w"}, []string{"HSET h f v g w"}},
		{"kept expiry where it would be lost", true, false, []string{"h", "KEEPTTL", "FIELDS", "1", "f", "v"}, []string{"HSETEX h KEEPTTL FIELDS 1 f v"}},
		{"no expiry", true, false, []string{"h", "FIELDS", "1", "f", "v"}, []string{"HSET h f v"}},
		{"expiry", true, false, []string{"h", "PXAT", later, "FIELDS", "2", "f", "v", "g", "w"}, []string{"HSET h f v g w", "HPEXPIREAT h 1700000101000 FIELDS 2 f g"}},
		{"expiry that cannot be", false, false, []string{"h", "PXAT", later, "FIELDS", "1", "f", "v"}, []string{"HSET h f v", "HPEXPIREAT h 1700000101000 FIELDS 1 f"}},
	} {
		tr := testTranslator()
		tr.expiresFields, tr.hsetex = c.expires, c.hsetex
		b := &batch{}
		e := schema.Event{Op: schema.OpWrite, Key: []byte("h"), Command: "HSETEX", Args: list(c.args...)}
		if err := tr.add(b, &e, 1); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, commands(t, b)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func TestARestoredValueIsMadeAnew(t *testing.T) {
	for _, c := range []struct {
		ttl  string
		want []string
	}{
		{"0", []string{"UNLINK k __twinlog:-", "RPUSH k a b"}},
		{"1700000100000", []string{"UNLINK k __twinlog:-", "RPUSH k a b", "PEXPIREAT k 1700000101000"}},
	} {
		b := &batch{}
		e := schema.Event{
			Op: schema.OpWrite, Key: []byte("k"), Command: "RESTORE", Args: list("k", c.ttl, "", "ABSTTL", "REPLACE"),
			Type: "list", Value: schema.Value{Kind: schema.KindList, Elements: list("a", "b")},
		}
		if err := testTranslator().add(b, &e, 1); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, commands(t, b)); d != "" {
			t.Errorf("expiry %s (-want +got):\n%s", c.ttl, d)
		}
	}
}

func TestATargetBefore7GetsNoCountersOfStreams(t *testing.T) {
	tr := testTranslator()
	tr.v7 = false
	b := &batch{}
	for _, line := range []string{"XSETID x 5-5 ENTRIESADDED 9 MAXDELETEDID 1-0", "XGROUP SETID x g 1-1 ENTRIESREAD 1", "XGROUP CREATE x g 0 MKSTREAM entriesread 1", "XGROUP CREATECONSUMER x g c"} {
		words := strings.Fields(line)
		if err := tr.add(b, &schema.Event{Op: schema.OpWrite, Key: []byte("x"), Command: words[0], Args: list(words[1:]...)}, 1); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"XSETID x 5-5", "XGROUP SETID x g 1-1", "XGROUP CREATE x g 0 MKSTREAM", "XGROUP CREATECONSUMER x g c"}
	if d := cmp.Diff(want, commands(t, b)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestVersionsAreCompared(t *testing.T) {
	for _, c := range []struct {
		version      string
		major, minor int
		want         bool
	}{
		{"7.0.15", 7, 0, true}, {"7.0.15", 7, 4, false}, {"8.0.6", 7, 4, true}, {"6.2.14", 7, 0, false}, {"9.1.2", 9, 0, true}, {"", 8, 0, true}, {"unstable", 8, 0, true},
	} {
		if got := atLeast(c.version, c.major, c.minor); got != c.want {
			t.Errorf("%q at least %d.%d: %v", c.version, c.major, c.minor, got)
		}
	}
}
