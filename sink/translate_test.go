package sink

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"twinlog/offsets"
	"twinlog/schema"
)

const nowMs = 1_700_000_000_000

func testTranslator() *translator {
	return &translator{grace: 1000, now: func() time.Time { return time.UnixMilli(nowMs) }, v7: true, mark: "__twinlog:l:a-to-b:0"}
}

func list(words ...string) [][]byte {
	var out [][]byte
	for _, w := range words {
		out = append(out, []byte(w))
	}
	return out
}

// commands parses a batch's body back into lines.
func commands(t *testing.T, b *batch) []string {
	t.Helper()
	var lines []string
	rest := b.body
	for len(rest) > 0 {
		var n int
		if _, err := fmt.Fscanf(bytes.NewReader(rest), "*%d\r\n", &n); err != nil {
			t.Fatalf("body at %q: %v", rest, err)
		}
		rest = rest[bytes.IndexByte(rest, '\n')+1:]
		var words []string
		for range n {
			var size int
			if _, err := fmt.Fscanf(bytes.NewReader(rest), "$%d\r\n", &size); err != nil {
				t.Fatalf("argument at %q: %v", rest, err)
			}
			rest = rest[bytes.IndexByte(rest, '\n')+1:]
			words = append(words, string(rest[:size]))
			rest = rest[size+2:]
		}
		lines = append(lines, strings.Join(words, " "))
	}
	if len(lines) != len(b.items) {
		t.Errorf("%d commands, %d items", len(lines), len(b.items))
	}
	return lines
}

func TestEventsBecomeCommands(t *testing.T) {
	future := schema.OptInt64{Set: true, Int64: nowMs + 5000}
	past := schema.OptInt64{Set: true, Int64: 5}
	write := func(command string, args ...string) schema.Event {
		return schema.Event{Op: schema.OpWrite, Key: []byte(args[0]), Command: command, Args: list(args...)}
	}
	tests := []struct {
		name  string
		event schema.Event
		want  []string
	}{
		{"a plain write", write("SET", "k", "v"), []string{"SET k v"}},
		{"an expiry is later by the grace", write("SET", "k", "v", "PXAT", "1700000005000"), []string{"SET k v PXAT 1700000006000"}},
		{"an expiry that passed never deletes", write("PEXPIREAT", "k", "1000"), []string{"PEXPIREAT k 1700000060000"}},
		{"an expiry at the end of time does not overflow", write("PEXPIREAT", "k", "9223372036854775807"), []string{"PEXPIREAT k 4611686018427387903"}},
		{"RESTORE without expiry", write("RESTORE", "k", "0", "payload", "REPLACE", "ABSTTL"), []string{"RESTORE k 0 payload REPLACE ABSTTL"}},
		{"RESTORE with expiry", write("RESTORE", "k", "1700000005000", "payload", "REPLACE", "ABSTTL"), []string{"RESTORE k 1700000006000 payload REPLACE ABSTTL"}},
		{"HDEL names a field twice", write("HDEL", "h", "f", "g"), []string{"HDEL h f g f"}},
		{"a write in another database", schema.Event{Op: schema.OpWrite, DB: 3, Key: []byte("k"), Command: "INCR", Args: list("k")}, []string{"SELECT 3", "INCR k"}},
		{"a deletion names a second key", schema.Event{Op: schema.OpDelete, Key: []byte("k"), Command: "DEL", Args: list("k")}, []string{"DEL k __twinlog:-"}},
		{"UNLINK stays UNLINK", schema.Event{Op: schema.OpDelete, Key: []byte("k"), Command: "UNLINK", Args: list("k")}, []string{"UNLINK k __twinlog:-"}},
		{"PUBLISH", schema.Event{Op: schema.OpMessage, DB: schema.NoDB, Command: "PUBLISH", Args: list("ch", "m")}, []string{"PUBLISH ch m"}},
		{"FLUSHDB", schema.Event{Op: schema.OpTruncate, DB: 2, Command: "FLUSHDB"}, []string{"SELECT 2", "FLUSHDB"}},
		{"SWAPDB takes the moved mark away", schema.Event{Op: schema.OpTruncate, DB: schema.NoDB, Command: "SWAPDB", Args: list("4", "0")}, []string{"SWAPDB 4 0", "SELECT 4", "DEL __twinlog:l:a-to-b:0"}},
		{"SWAPDB elsewhere", schema.Event{Op: schema.OpTruncate, DB: schema.NoDB, Command: "SWAPDB", Args: list("1", "2")}, []string{"SWAPDB 1 2"}},
		{"a HEARTBEAT", schema.Event{Op: schema.OpControl, DB: schema.NoDB, Command: schema.Heartbeat}, nil},
		{"a string value", schema.Event{Op: schema.OpValue, Key: []byte("k"), Value: schema.Value{Kind: schema.KindString, Data: []byte("v")}, ExpireAt: future}, []string{"SET k v PXAT 1700000006000"}},
		{"a value that has expired", schema.Event{Op: schema.OpValue, Key: []byte("k"), Value: schema.Value{Kind: schema.KindString, Data: []byte("v")}, ExpireAt: past}, []string{"SET k v PXAT 1700000060000"}},
		{
			"a list replaces what is there",
			schema.Event{Op: schema.OpValue, Key: []byte("k"), Value: schema.Value{Kind: schema.KindList, Elements: list("a", "b")}, ExpireAt: future},
			[]string{"UNLINK k __twinlog:-", "RPUSH k a b", "PEXPIREAT k 1700000006000"},
		},
		{"a missing key", schema.Event{Op: schema.OpValue, Key: []byte("k")}, []string{"UNLINK k __twinlog:-"}},
		{"a set", schema.Event{Op: schema.OpValue, Key: []byte("k"), Value: schema.Value{Kind: schema.KindSet, Elements: list("a")}}, []string{"UNLINK k __twinlog:-", "SADD k a"}},
		{
			"a hash with a field's expiry",
			schema.Event{Op: schema.OpValue, Key: []byte("k"), Value: schema.Value{Kind: schema.KindHash, Hash: []schema.HashEntry{{Field: []byte("f"), Value: []byte("v"), ExpireAt: future}}}},
			[]string{"UNLINK k __twinlog:-", "HSET k f v", "HPEXPIREAT k 1700000006000 FIELDS 1 f"},
		},
		{
			"scores to the last digit",
			schema.Event{Op: schema.OpValue, Key: []byte("k"), Value: schema.Value{Kind: schema.KindZSet, ZSet: []schema.ZSetMember{{Member: []byte("a"), Score: math.Inf(-1)}, {Member: []byte("b"), Score: 0.1}}}},
			[]string{"UNLINK k __twinlog:-", "ZADD k -Inf a 0.10000000000000001 b"},
		},
		{"a module's value", schema.Event{Op: schema.OpValue, Key: []byte("k"), Value: schema.Value{Kind: schema.KindDump, Data: []byte("dump")}}, []string{"RESTORE k 0 dump REPLACE ABSTTL"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &batch{}
			b.reset()
			if err := testTranslator().add(b, &tt.event, 7); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, commands(t, b)); diff != "" {
				t.Error(diff)
			}
			if b.wipes != (tt.event.Op == schema.OpTruncate) {
				t.Errorf("wipes = %v", b.wipes)
			}
		})
	}
}

func TestStreamValueKeepsGroupsAndPendingEntries(t *testing.T) {
	id := func(n uint64) schema.StreamID { return schema.StreamID{Ms: n, Seq: 1} }
	e := schema.Event{Op: schema.OpValue, Key: []byte("x"), Value: schema.Value{
		Kind:   schema.KindStream,
		Stream: []schema.StreamEntry{{ID: id(1), Fields: list("f", "1", "f", "2")}, {ID: id(3), Fields: list("g", "3")}},
		Meta: &schema.StreamMeta{LastID: id(9), MaxDeletedID: id(2), EntriesAdded: 5, Groups: []schema.StreamGroup{{
			Name: []byte("grp"), LastID: id(3), EntriesRead: 3,
			Consumers: []schema.StreamConsumer{{Name: []byte("c"), Pending: []schema.PendingEntry{{ID: id(1), DeliveredMs: 77, Deliveries: 4}, {ID: id(2), DeliveredMs: 78, Deliveries: 1}}}},
		}}},
	}}
	want := []string{
		"UNLINK x __twinlog:-",
		"XADD x 1-1 f 1 f 2", "XADD x 2-1 f v", "XADD x 3-1 g 3",
		"XGROUP CREATE x grp 3-1 ENTRIESREAD 3", "XGROUP CREATECONSUMER x grp c",
		"XCLAIM x grp c 0 1-1 TIME 77 RETRYCOUNT 4 FORCE JUSTID", "XCLAIM x grp c 0 2-1 TIME 78 RETRYCOUNT 1 FORCE JUSTID",
		"XDEL x 2-1", "XSETID x 9-1 ENTRIESADDED 5 MAXDELETEDID 2-1",
	}
	b := &batch{}
	if err := testTranslator().add(b, &e, 7); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, commands(t, b)); diff != "" {
		t.Error(diff)
	}
}

func TestEventsThatCannotBeAppliedAreErrors(t *testing.T) {
	tests := []struct {
		name  string
		event schema.Event
		want  string
	}{
		{"an unknown op", schema.Event{Op: 'q'}, "op 'q' is not known"},
		{"an unknown control event", schema.Event{Op: schema.OpControl, Command: "DANCE"}, "DANCE is not known"},
		{"a time that is none", schema.Event{Op: schema.OpWrite, Command: "PEXPIREAT", Key: []byte("k"), Args: list("k", "soon")}, `"soon" is not a time`},
		{"a write without arguments", schema.Event{Op: schema.OpWrite, Command: "SET"}, "without arguments"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := testTranslator().add(&batch{}, &tt.event, 7)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCutsAreCountedForOneBatchOfOneServer(t *testing.T) {
	var c cuts
	for i := range mostCuts {
		if got, want := c.again(cutPlace{mark: markAt(1), runID: "run"}), i == mostCuts-1; got != want {
			t.Errorf("cut %d: %v", i, got)
		}
	}
	for _, other := range []cutPlace{{mark: markAt(2), runID: "run"}, {mark: markAt(2), runID: "another run"}, {mark: markAt(2), runID: "another run", offset: 7}} {
		if c.again(other) {
			t.Errorf("%v does not count anew", other)
		}
	}
}

func markAt(seq int64) offsets.Mark { return offsets.Mark{Seq: seq} }
