package command

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/schema"
)

// Whatever stands in a stream: no panic, no more words than came in times
// four, keys that the command named, and effect form stays as it is.
func FuzzAppendChanges(f *testing.F) {
	for _, lines := range exactCases {
		f.Add(bytes.Join(bytesOf(lines[len(lines)-1]), []byte{0}))
	}
	for _, line := range movableSamples {
		f.Add(bytes.Join(bytesOf(line), []byte{0}))
	}
	for _, line := range []string{
		"MSETEX 2 a 1 b 2 PXAT 99", "HSETEX h FNX PXAT 99 FIELDS 1 a 1", "HPEXPIREAT h 99 NX FIELDS 2 a b", "HGETDEL h FIELDS 1 a",
		"XADD x IDMP p i MINID = 1-1 LIMIT 10 5-0 f v", "XTRIM x MAXLEN = 1 LIMIT 10", "FUNCTION RESTORE p FLUSH", "PUBLISH c m",
	} {
		f.Add(bytes.Join(bytesOf(line), []byte{0}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		argv := bytes.Split(data, []byte{0})
		var keys Keys
		if c := Lookup(argv[0]); c != nil {
			if err := c.AppendKeys(&keys, argv[1:]); err == nil && len(keys.Written)+len(keys.Read) >= len(argv) {
				t.Fatalf("%d keys in %d words", len(keys.Written)+len(keys.Read), len(argv))
			}
		}
		events, err := AppendChanges(nil, 1, argv)
		if err != nil {
			return
		}
		words := 0
		for i := range events {
			e := &events[i]
			words += len(e.Args)
			_, _ = ExpiryArg(e.Command, e.Args)
			keyed := e.Op == schema.OpWrite || e.Op == schema.OpDelete
			if keyed && e.Key == nil || !keyed && (e.Key != nil || e.OtherKeys != nil) {
				t.Fatalf("keys and op do not fit: %s", lineOf(e))
			}
			again, err := AppendChanges(nil, max(e.DB, 0), append([][]byte{[]byte(e.Command)}, e.Args...))
			if err != nil {
				t.Fatalf("%s is refused: %v", lineOf(e), err)
			}
			if diff := cmp.Diff(lineOf(e), lineOf(&again[len(again)-1])); diff != "" {
				t.Fatalf("effect form changes again:\n%s", diff)
			}
		}
		if words > 4*len(argv) {
			t.Fatalf("%d words became %d", len(argv), words)
		}
	})
}
