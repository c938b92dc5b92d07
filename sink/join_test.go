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

func TestPartsAreBuiltUnderATemporaryKey(t *testing.T) {
	elements := func(words ...string) schema.Value {
		return schema.Value{Kind: schema.KindSet, Elements: list(words...)}
	}
	lists := func(words ...string) schema.Value {
		return schema.Value{Kind: schema.KindList, Elements: list(words...)}
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
		{"a string", []schema.Value{text("one,"), text("two,"), text("three")}, []string{"STRLEN tmp", "APPEND tmp one,", "APPEND tmp two,", "APPEND tmp three", "STRLEN tmp"}},
		{"a list", []schema.Value{lists("a", "b"), lists("c")}, []string{"LLEN tmp", "RPUSH tmp a", "RPUSH tmp b c", "LLEN tmp"}},
		{"a list of which a part is empty", []schema.Value{lists("a"), lists(), lists("c")}, []string{"LLEN tmp", "RPUSH tmp a c", "LLEN tmp"}},
		{"a list with an element in three parts", goesOn([]schema.Value{lists("a", "b"), lists("c"), lists("d", "e")}, 1, 2), []string{"LLEN tmp", "RPUSH tmp a", "RPUSH tmp bcd e", "LLEN tmp"}},
		{"a set", []schema.Value{elements("a", "b"), elements("c")}, []string{"SCARD tmp", "SADD tmp a", "SADD tmp b c", "SCARD tmp"}},
		{
			"a hash with a value in two parts",
			goesOn([]schema.Value{
				{Kind: schema.KindHash, Hash: []schema.HashEntry{{Field: []byte("f"), Value: []byte("1"), ExpireAt: schema.OptInt64{Set: true, Int64: 4102444800000}}}},
				{Kind: schema.KindHash, Hash: []schema.HashEntry{{Value: []byte("2")}, {Field: []byte("g"), Value: []byte("3")}}},
			}, 1),
			[]string{"HLEN tmp", "HSET tmp f 12 g 3", "HPEXPIREAT tmp 4102444801000 FIELDS 1 f", "HLEN tmp"},
		},
		{
			"a sorted set with a member in two parts",
			goesOn([]schema.Value{
				{Kind: schema.KindZSet, ZSet: []schema.ZSetMember{{Member: []byte("m"), Score: 1}}},
				{Kind: schema.KindZSet, ZSet: []schema.ZSetMember{{Member: []byte("n"), Score: 1}, {Member: []byte("o"), Score: 2}}},
			}, 1),
			[]string{"ZCARD tmp", "ZADD tmp 1 mn 2 o", "ZCARD tmp"},
		},
		{
			"a stream whose consumer goes on",
			[]schema.Value{
				{Kind: schema.KindStream, Stream: entry(1)},
				{Kind: schema.KindStream, Stream: entry(2), Meta: group(consumer(1))},
				{Kind: schema.KindStream, Meta: group(consumer(2))},
			},
			[]string{
				"XLEN tmp", "XADD tmp 1-0 f v", "XADD tmp 2-0 f v", "XGROUP CREATE tmp g 0-0", "XGROUP CREATECONSUMER tmp g c",
				"XCLAIM tmp g c 0 1-0 TIME 5 RETRYCOUNT 1 FORCE JUSTID", "XCLAIM tmp g c 0 2-0 TIME 5 RETRYCOUNT 1 FORCE JUSTID",
				"XSETID tmp 3-0 ENTRIESADDED 2 MAXDELETEDID 0-0", "XLEN tmp",
			},
		},
		{
			"a stream with an entry in three parts",
			goesOn([]schema.Value{
				{Kind: schema.KindStream, Stream: entry(1)},
				{Kind: schema.KindStream, Stream: []schema.StreamEntry{{ID: schema.StreamID{Ms: 1}, Fields: list("w", "g")}}},
				{Kind: schema.KindStream, Stream: []schema.StreamEntry{{ID: schema.StreamID{Ms: 1}, Fields: list("", "x")}}, Meta: group()},
			}, 1, 2),
			[]string{"XLEN tmp", "XADD tmp 1-0 f vw g x", "XGROUP CREATE tmp g 0-0", "XSETID tmp 3-0 ENTRIESADDED 2 MAXDELETEDID 0-0", "XLEN tmp"},
		},
		{"an empty stream", []schema.Value{{Kind: schema.KindStream, Meta: group()}, {Kind: schema.KindStream, Meta: group()}}, []string{
			"XLEN tmp", "XADD tmp MAXLEN 0 3-0 f v", "XGROUP CREATE tmp g 0-0", "XSETID tmp 3-0 ENTRIESADDED 2 MAXDELETEDID 0-0", "XLEN tmp",
		}},
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
				var got [][]string
				for _, b := range c.end() {
					got = append(got, short(b.lines))
				}
				// What came before does not wait for the last part.
				want := [][]string{{"SET k before"}, tt.want, {"UNLINK key __twinlog:-", "RENAME tmp key", "PEXPIREAT key 4102444801000", "UNLINK tmp", "SET k before"}}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// goesOn marks values that begin with the rest of an element, for parts.
func goesOn(values []schema.Value, which ...int) []schema.Value {
	for _, i := range which {
		values[i].Data = []byte("goes on")
	}
	return values
}

// short writes "tmp" for the first temporary key, "tmp1" for the next one.
func short(lines []string) []string {
	var all []string
	for _, l := range lines {
		l = strings.ReplaceAll(l, offsets.PartKey("l", "a-to-b", "0", 0), "tmp")
		all = append(all, strings.ReplaceAll(l, offsets.PartKey("l", "a-to-b", "0", 1), "tmp1"))
	}
	return all
}

func TestADecisionAboutAValueInPartsIsMadeWithItsLast(t *testing.T) {
	c := newCollector(t, living(t, true))
	c.takes(parts("one", text("1"), text("2"))...)
	if n := len(c.batch.decisions); n != 1 {
		t.Fatalf("%d decisions", n)
	}
	d := c.batch.decisions[0]
	if e := d.event; string(e.Key) != "one" || e.Seq != 2 || e.Part.Set || e.Value.Data != nil {
		t.Errorf("the decision is about %+v", e)
	}
	left := batch{body: c.batch.body[d.to:], items: c.batch.items[d.toItem:]}
	if diff := cmp.Diff([]string{"UNLINK tmp"}, short(commands(t, &left))); diff != "" {
		t.Errorf("if the value is left out (-want +got):\n%s", diff)
	}
	c.end()
}

// Its source was interrupted, or reads the value again.
func TestAValueWithoutItsLastPartIsDropped(t *testing.T) {
	first := func(key string) schema.Event {
		e := parts(key, text("lost"), text("lost too"))[0]
		e.Transaction = schema.OptTransaction{}
		return e
	}
	for name, next := range map[string][]schema.Event{
		"a part of another key":     parts("other", text("1"), text("2")),
		"the first part once more":  parts("k", text("1"), text("2")),
		"another event":             {*set(0, "v")},
		"the next try of its epoch": {*control(0, schema.SnapshotBegin)},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t, testSink())
			c.takes(*set(0, "before"), first("k"))
			if !c.batch.inGroup {
				t.Error("the mark may pass a part that is not in its place")
			}
			c.takes(next...)
			var got [][]string
			for _, b := range c.end() {
				got = append(got, short(b.lines))
			}
			want := [][]string{{"SET k before"}, {"STRLEN tmp", "UNLINK tmp", "STRLEN tmp"}}
			if diff := cmp.Diff(want, got[:min(2, len(got))]); diff != "" || len(got) < 3 {
				t.Errorf("%d batches (-want +got):\n%s", len(got), diff)
			}
		})
	}
}

func TestPartsThatDoNotFollowEachOther(t *testing.T) {
	second := parts("k", text("1"), text("2"))[1]
	second.Transaction = schema.OptTransaction{}
	mixed := parts("k", text("1"), schema.Value{Kind: schema.KindList})
	rest := parts("k", schema.Value{Kind: schema.KindSet}, goesOn([]schema.Value{{}, {Kind: schema.KindSet}}, 1)[1])
	fragment := schema.Event{Op: schema.OpWrite, Key: []byte("k"), Command: "SET", Args: list("v"), Part: schema.OptPart{Set: true, Part: schema.Part{Index: 1, Arg: 1}}}
	for name, events := range map[string][]schema.Event{
		"a part without the first one":          {second},
		"parts of two types":                    mixed,
		"the rest of an element that is not":    rest,
		"a dump in parts":                       parts("k", schema.Value{Kind: schema.KindDump}, schema.Value{Kind: schema.KindDump}),
		"a fragment without the one before":     {fragment},
		"fragments with a hole between the two": {{Op: schema.OpWrite, Key: []byte("k"), Command: "SET", Args: list("k"), Part: schema.OptPart{Set: true}}, {Op: schema.OpWrite, Key: []byte("k"), Command: "SET", Args: list("v"), Part: schema.OptPart{Set: true, Part: schema.Part{Index: 1, Arg: 2}}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t, testSink())
			var err error
			for i := 0; i < len(events) && err == nil; i++ {
				events[i].Origin, events[i].Seq = "a", int64(i)+1
				err = c.take(t.Context(), record(int64(i), &events[i]))
			}
			if err == nil || !strings.Contains(err.Error(), `"k"`) {
				t.Errorf("error %v", err)
			}
			c.end()
		})
	}
}

// fragmented cuts a command into events of which each has some of its words;
// "+" before a word goes on with the last one.
func fragmented(db int32, name string, some ...[]string) []schema.Event {
	var events []schema.Event
	at := -1
	for i, words := range some {
		e := schema.Event{Op: schema.OpWrite, DB: db, Key: []byte("k"), Command: name}
		for j, w := range words {
			rest, goesOn := strings.CutPrefix(w, "+")
			if !goesOn {
				at++
			}
			if j == 0 {
				e.Part = schema.OptPart{Set: true, Part: schema.Part{Index: int32(i), Last: i == len(some)-1, Arg: int32(at)}}
			}
			e.Args = append(e.Args, []byte(rest))
		}
		e.Transaction = schema.OptTransaction{Set: true, Transaction: schema.Transaction{ID: []byte("g"), Index: int32(i), Last: i == len(some)-1}}
		events = append(events, e)
	}
	return events
}

func TestFragmentsAreJoined(t *testing.T) {
	script := strings.Join(strings.Fields(argScript), " ")
	for _, tt := range []struct {
		name   string
		events []schema.Event
		want   [][]string
	}{
		{"whole arguments", fragmented(0, "RPUSH", []string{"k", "a"}, []string{"b"}, []string{"c", "d"}), [][]string{{"RPUSH k a b c d"}}},
		{"SET", fragmented(0, "SET", []string{"k", "a"}, []string{"+b"}, []string{"+c"}), [][]string{
			{"STRLEN tmp", "APPEND tmp a", "APPEND tmp b", "APPEND tmp c", "STRLEN tmp"},
			{"UNLINK k __twinlog:-", "RENAME tmp k", "UNLINK tmp"},
		}},
		{"SET in another database, with an expiry", fragmented(3, "SET", []string{"k", "a"}, []string{"+b", "PXAT", "4102444800000"}), [][]string{
			{"SELECT 3", "STRLEN tmp", "APPEND tmp a", "APPEND tmp b", "STRLEN tmp"},
			{"SELECT 3", "UNLINK k __twinlog:-", "RENAME tmp k", "PEXPIREAT k 4102444801000", "UNLINK tmp"},
		}},
		{"SET KEEPTTL", fragmented(0, "SET", []string{"k", "a"}, []string{"+b", "KEEPTTL"}), [][]string{
			{"STRLEN tmp", "APPEND tmp a", "APPEND tmp b", "STRLEN tmp"},
			{"EVAL " + script + " 2 k tmp 3  SET k  KEEPTTL", "UNLINK tmp"},
		}},
		{"two arguments", fragmented(0, "HSET", []string{"k", "f", "a"}, []string{"+b", "g"}, []string{"c"}, []string{"+d"}), [][]string{
			{"STRLEN tmp", "APPEND tmp a", "APPEND tmp b", "STRLEN tmp"},
			{"STRLEN tmp1", "APPEND tmp1 c", "APPEND tmp1 d", "STRLEN tmp1"},
			{"EVAL " + script + " 3 k tmp tmp1 4 6  HSET k f  g ", "UNLINK tmp", "UNLINK tmp1"},
		}},
		{"a removal", fragmented(0, "SREM", []string{"k", "a"}, []string{"+b"}, []string{"c"}), [][]string{{"SREM k ab c"}}},
	} {
		for _, twoWay := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, ", two-way: ", twoWay), func(t *testing.T) {
				s := testSink()
				if twoWay {
					s = living(t, true)
				}
				c := newCollector(t, s)
				c.takes(tt.events...)
				var got [][]string
				for _, b := range c.end() {
					lines := short(b.lines)
					for i := range lines {
						lines[i] = strings.ReplaceAll(lines[i], argScript, script)
					}
					got = append(got, lines)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestWhatAddsToATemporaryKeyIsSmall(t *testing.T) {
	c := newCollector(t, testSink())
	var values []schema.Value
	for range 20 {
		v := schema.Value{Kind: schema.KindSet}
		for range 3000 {
			v.Elements = append(v.Elements, []byte(strings.Repeat("x", 300)))
		}
		values = append(values, v)
	}
	c.takes(parts("k", values...)...)
	batches := c.end()
	for i, b := range batches {
		if b.bytes > batchBytes || len(b.lines) > batchCommands {
			t.Errorf("batch %d has %d bytes and %d commands", i, b.bytes, len(b.lines))
		}
	}
	if len(batches) < 18 || len(batches) > 30 {
		t.Errorf("%d batches", len(batches))
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

// What the target says of one command concerns all parts of the value so far.
func TestACommandOfAPartStandsForThePartsBefore(t *testing.T) {
	c := newCollector(t, testSink())
	c.takes(*set(0, "before"))
	c.takes(parts("k", text("1"), text("2"), text("3"))...)
	for _, it := range c.batch.items {
		answers, ok := answersOf([]failure{{it, "ERR x"}})
		if !ok || len(answers) != 3 {
			t.Errorf("%s: %v", it.command, answers)
		}
	}
	c.end()
}
