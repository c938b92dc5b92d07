package sink

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"twinlog/internal/command"
	"twinlog/offsets"
	"twinlog/schema"
)

// living is a sink of a two-way link that has nothing to do with a server.
func living(t *testing.T, home bool) *Sink {
	s := testSink()
	s.cfg.Ledger = offsets.NewLedger(offsets.LedgerConfig{Site: "b", Home: home, Dir: t.TempDir(), MaxMemory: 1 << 20, MaxDisk: 1 << 20})
	return s
}

// takes hands events to a builder, seqs from 1, and writes over their records'
// memory once they are taken.
func (c *collector) takes(events ...schema.Event) {
	c.t.Helper()
	for i := range events {
		e := &events[i]
		e.Origin, e.Seq = "a", c.seq+1
		r := record(c.seq, e)
		if err := c.take(c.t.Context(), r); err != nil {
			c.t.Fatal(err)
		}
		if e.Part.Set && !e.Part.Last {
			for i := range r.Value {
				r.Value[i] = 'X'
			}
		}
	}
}

func text(s string) schema.Value { return schema.Value{Kind: schema.KindString, Data: []byte(s)} }

func TestPartsAreJoined(t *testing.T) {
	elements := func(words ...string) schema.Value {
		return schema.Value{Kind: schema.KindSet, Elements: list(words...)}
	}
	group := func(consumers ...schema.StreamConsumer) *schema.StreamMeta {
		return &schema.StreamMeta{LastID: schema.StreamID{Ms: 3}, EntriesAdded: 2, Groups: []schema.StreamGroup{{Name: []byte("g"), EntriesRead: -1, Consumers: consumers}}}
	}
	consumer := func(pending uint64) schema.StreamConsumer {
		return schema.StreamConsumer{Name: []byte("c"), Pending: []schema.PendingEntry{{ID: schema.StreamID{Ms: pending}, DeliveredMs: 5, Deliveries: 1}}}
	}
	entry := func(ms uint64) []schema.StreamEntry {
		return []schema.StreamEntry{{ID: schema.StreamID{Ms: ms}, Fields: list("f", "v")}}
	}
	for _, tt := range []struct {
		name  string
		parts []schema.Value
		want  []string
	}{
		{"a string", []schema.Value{text("one,"), text("two,"), text("three")}, []string{"SET key one,two,three PXAT 4102444801000"}},
		{"a set", []schema.Value{elements("a", "b"), elements(), elements("c")}, []string{"UNLINK key __twinlog:-", "SADD key a b c", "PEXPIREAT key 4102444801000"}},
		{
			"a hash",
			[]schema.Value{
				{Kind: schema.KindHash, Hash: []schema.HashEntry{{Field: []byte("f"), Value: []byte("1")}}},
				{Kind: schema.KindHash, Hash: []schema.HashEntry{{Field: []byte("g"), Value: []byte("2")}}},
			},
			[]string{"UNLINK key __twinlog:-", "HSET key f 1 g 2", "PEXPIREAT key 4102444801000"},
		},
		{
			"a sorted set",
			[]schema.Value{
				{Kind: schema.KindZSet, ZSet: []schema.ZSetMember{{Member: []byte("m"), Score: 1}}},
				{Kind: schema.KindZSet, ZSet: []schema.ZSetMember{{Member: []byte("n"), Score: 2}}},
			},
			[]string{"UNLINK key __twinlog:-", "ZADD key 1 m 2 n", "PEXPIREAT key 4102444801000"},
		},
		{
			"a stream whose consumer goes on",
			[]schema.Value{
				{Kind: schema.KindStream, Stream: entry(1)},
				{Kind: schema.KindStream, Stream: entry(2), Meta: group(consumer(1))},
				{Kind: schema.KindStream, Meta: group(consumer(2))},
			},
			[]string{
				"UNLINK key __twinlog:-", "XADD key 1-0 f v", "XADD key 2-0 f v",
				"XGROUP CREATE key g 0-0", "XGROUP CREATECONSUMER key g c",
				"XCLAIM key g c 0 1-0 TIME 5 RETRYCOUNT 1 FORCE JUSTID", "XCLAIM key g c 0 2-0 TIME 5 RETRYCOUNT 1 FORCE JUSTID",
				"XSETID key 3-0 ENTRIESADDED 2 MAXDELETEDID 0-0", "PEXPIREAT key 4102444801000",
			},
		},
	} {
		for _, twoWay := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, ", two-way: ", twoWay), func(t *testing.T) {
				s := testSink()
				if twoWay {
					s = living(t, true)
				}
				c := newCollector(t, s)
				before := *set(0, "before")
				c.takes(append(append([]schema.Event{before}, parts("key", tt.parts...)...), before)...)
				batches := c.end()
				want := append(append([]string{"SET k before"}, tt.want...), "SET k before")
				if len(batches) != 1 || batches[0].seq != int64(len(tt.parts))+2 {
					t.Fatalf("batches %+v", batches)
				}
				if diff := cmp.Diff(want, batches[0].lines); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestValuesInPartsFollowEachOther(t *testing.T) {
	c := newCollector(t, living(t, true))
	c.takes(parts("one", text("1"), text("2"))...)
	c.takes(parts("two", text("3"), text("4"))...)
	c.takes(parts("one", text("5"), text("6"))...)
	if n := len(c.batch.decisions); n != 3 {
		t.Errorf("%d decisions", n)
	}
	for i, key := range []string{"one", "two", "one"} {
		if d := c.batch.decisions[i].event; string(d.Key) != key || d.Seq != int64(2+2*i) || d.Part.Set || d.Value.Data != nil {
			t.Errorf("decision %d is about %+v", i, d)
		}
	}
	var got []string
	for _, b := range c.end() {
		for _, line := range b.lines {
			key, value, _ := strings.Cut(strings.TrimPrefix(line, "SET "), " ")
			got = append(got, key+"="+value[:2])
		}
	}
	if diff := cmp.Diff([]string{"one=12", "two=34", "one=56"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What was taken in a session before this one is not joined to anything.
func TestANewValueDropsPartsThatWereNeverCompleted(t *testing.T) {
	c := newCollector(t, testSink())
	first := parts("k", text("lost"), text("lost too"))[0]
	first.Transaction = schema.OptTransaction{}
	c.takes(first)
	c.takes(parts("k", text("1"), text("2"))...)
	var lines []string
	for _, b := range c.end() {
		lines = append(lines, b.lines...)
	}
	if diff := cmp.Diff([]string{"SET k 12 PXAT 4102444801000"}, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAFlushIsABatchOfItsOwn(t *testing.T) {
	for _, db := range []int32{schema.NoDB, 3} {
		s := living(t, true)
		ready, free := make(chan *batch, 8), make(chan *batch, 8)
		for range cap(free) {
			free <- &batch{}
		}
		b := &builder{sink: s, target: &target{cfg: &s.cfg, largest: 64 << 20}, ready: ready, free: free, translate: *testTranslator()}
		for i, e := range []schema.Event{truncate(db), *set(0, "before"), truncate(db), truncate(db), *set(0, "after")} {
			e.Origin, e.Seq, e.Seen = "a", int64(i)+1, 70+int64(i)
			if err := b.take(t.Context(), record(int64(i), &e)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.send(t.Context()); err != nil {
			t.Fatal(err)
		}
		close(ready)
		var got []string
		for batch := range ready {
			if batch.wipe == nil {
				got = append(got, fmt.Sprint(strings.Join(commands(t, batch), ", "), " up to ", batch.seq))
				continue
			}
			if e := batch.wipe; e.DB != db || !batch.empty() || len(batch.items) > 0 || e.Seen != 69+e.Seq {
				t.Errorf("a flush of %+v with %d commands and %d events", e, len(batch.items), batch.events)
			}
			got = append(got, fmt.Sprint("flush of ", batch.wipe.Seq))
		}
		// The mark passes a flush with the next batch.
		want := []string{"flush of 1", "SET k before up to 2", "flush of 3", " up to 3", "flush of 4", "SET k after up to 5"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("db %d (-want +got):\n%s", db, diff)
		}
	}
}

func TestAOneWaySinkFlushesAsItIsTold(t *testing.T) {
	c := newCollector(t, testSink())
	c.takes(*set(0, "before"), truncate(3))
	batches := c.end()
	if diff := cmp.Diff([]string{"SET k before", "SELECT 3", "FLUSHDB"}, batches[0].lines); diff != "" || len(batches) != 1 {
		t.Errorf("%d batches (-want +got):\n%s", len(batches), diff)
	}
}

func TestWhatTheSourceIsTold(t *testing.T) {
	events := func() []schema.Event {
		return []schema.Event{
			changes(t, "5> HSET h f v g w")[0],
			changes(t, "RENAME from to")[0],
			{Op: schema.OpDelete, Key: []byte("k"), Command: "DEL", Args: list("k")},
			{Op: schema.OpValue, Key: []byte("gone")},
			{Op: schema.OpTruncate, DB: schema.NoDB, Command: "SWAPDB", Args: list("1", "2")},
			{Op: schema.OpControl, DB: schema.NoDB, Command: schema.SnapshotRequest},
			{Op: schema.OpWrite, Key: []byte("__twinlog:l:x"), Command: "SET", Args: list("__twinlog:l:x", "v")},
		}
	}
	write := func(db int32, name string) command.KeyTouch {
		return command.KeyTouch{DB: db, Name: []byte(name), Written: true}
	}
	atHome := []command.Touch{
		{Kind: command.PutFields, Keys: []command.KeyTouch{write(5, "h")}, Elements: list("f", "g")},
		{Keys: []command.KeyTouch{write(0, "from"), write(0, "to")}},
		{Kind: command.Deletion, Keys: []command.KeyTouch{write(0, "k")}},
		{Kind: command.Deletion, Keys: []command.KeyTouch{write(0, "gone")}},
		{Kind: command.Swap, DBs: []int32{1, 2}},
		{},
		{Keys: []command.KeyTouch{write(0, "__twinlog:l:x")}},
	}
	for _, home := range []bool{true, false} {
		t.Run(fmt.Sprint("at home: ", home), func(t *testing.T) {
			s := living(t, home)
			own := schema.Event{Op: schema.OpWrite, DB: 2, Key: []byte("mine"), Command: "SET", Args: list("mine", "v"), Seq: 1}
			if err := s.cfg.Ledger.Own(&own); err != nil {
				t.Fatal(err)
			}
			c := newCollector(t, s)
			c.takes(events()...)
			want := atHome
			if !home { // there a mark only tells what the peer has seen
				want = make([]command.Touch, len(atHome))
			}
			prints := c.batch.prints
			if prints.Len() != len(want) {
				t.Errorf("%d prints of %d events", prints.Len(), len(want))
			}
			for i := range want {
				var p offsets.Print
				if !prints.Find(int64(i)+1, &p) {
					t.Fatalf("no print of seq %d", i+1)
				}
				if diff := cmp.Diff(want[i], p.Touch, cmpopts.IgnoreUnexported(command.Touch{}), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("the touch of seq %d (-want +got):\n%s", i+1, diff)
				}
				if e := events()[i]; p.Command != e.Command || p.Control != (e.Op == schema.OpControl) {
					t.Errorf("the print of seq %d is of %q", i+1, p.Command)
				}
			}
			c.end()
			var rules []offsets.Rule // at home the source finds it when it passes the mark
			for _, conflict := range s.cfg.Ledger.Conflicts().Last() {
				rules = append(rules, conflict.Rule)
			}
			if home && rules != nil || !home && !cmp.Equal(rules, []offsets.Rule{offsets.RuleSwap}) {
				t.Errorf("conflicts of %q", rules)
			}
		})
	}
}
