package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/command"
	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// site is a target on a two-way link: a real server, a sink that applies what
// the test says the peer did, and in place of the site's source this test.
type site struct {
	t       *testing.T
	server  *testkit.Redis
	sink    *Sink
	applier *applier
	builder *builder
	ledger  *offsets.Ledger
	free    chan *batch
	err     error // of the applier

	peerSeq int64
	own     []schema.Event // done at the server
	read    int            // how many of them the ledger knows
	reads   int            // calls of AwaitRead
	recalls []int64
	decided func(try int) // runs between the decision and EXEC
	waiting func()        // runs inside AwaitRead
}

func newSite(t *testing.T, home bool, args ...string) *site {
	t.Helper()
	s := &site{t: t, server: testkit.StartRedis(t, args...), sink: testSink(), free: make(chan *batch, 2)}
	s.ledger = offsets.NewLedger(offsets.LedgerConfig{Site: "b", Home: home, Dir: t.TempDir(), MaxMemory: 1 << 20, MaxDisk: 1 << 20})
	tries := 0
	s.sink.cfg.Ledger, s.sink.cfg.Own = s.ledger, s
	s.sink.cfg.Hook = func(point string) {
		if point == "decided" && s.decided != nil {
			tries++
			s.decided(tries)
		}
	}
	target := connected(t, s.sink, s.server)
	mark, err := s.sink.start(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan *batch)
	for range cap(s.free) {
		s.free <- &batch{}
	}
	s.builder = &builder{sink: s.sink, target: target, ready: ready, free: s.free, translate: translator{grace: 1000, now: time.Now, v7: true, mark: target.markKey}}
	s.applier = &applier{sink: s.sink, target: target, mark: mark, written: time.Now(), mirror: &mirror{cfg: &s.sink.cfg, wake: make(chan struct{}, 1)}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := range ready {
			if s.err == nil {
				s.err = s.applier.apply(t.Context(), b)
			}
			s.free <- b
		}
	}()
	t.Cleanup(func() {
		close(ready)
		<-done
	})
	return s
}

// LastMark, AwaitRead and Recall are the site's own source.

func (s *site) LastMark(context.Context, string, int64) (offsets.Mark, error) {
	return offsets.Mark{}, nil
}

func (s *site) AwaitRead(context.Context, string, int64) error {
	s.reads++
	if s.waiting != nil {
		s.waiting()
	}
	for ; s.read < len(s.own); s.read++ {
		if err := s.ledger.Own(&s.own[s.read]); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) Recall(_ context.Context, seen int64) error {
	s.recalls = append(s.recalls, seen)
	return s.ledger.Recall(seen, func(visit func(*schema.Event) error) error {
		for i := range s.own {
			if err := visit(&s.own[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// changes makes the events of a line: "3> SET k v" is in database 3.
func changes(t *testing.T, line string) []schema.Event {
	t.Helper()
	db, line := inDB(t, line)
	events, err := command.AppendChanges(nil, int32(db), list(strings.Fields(line)...))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return events
}

func inDB(t *testing.T, line string) (db int, rest string) {
	t.Helper()
	number, rest, found := strings.Cut(line, "> ")
	if !found {
		return 0, line
	}
	db, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return db, rest
}

// do runs lines at the server and returns the last answer.
func (s *site) do(lines ...string) string {
	s.t.Helper()
	conn := s.server.Client().Conn() // so that SELECT holds
	defer conn.Close()
	var answer any
	for _, line := range lines {
		db, line := inDB(s.t, line)
		var args []any
		for _, w := range strings.Fields(line) {
			args = append(args, w)
		}
		ctx := context.Background() // outlives the test's own
		if err := conn.Select(ctx, db).Err(); err != nil {
			s.t.Fatal(err)
		}
		var err error
		if answer, err = conn.Do(ctx, args...).Result(); err != nil && !errors.Is(err, goredis.Nil) {
			s.t.Fatalf("%s: %v", line, err)
		}
		if err := conn.Select(ctx, 0).Err(); err != nil {
			s.t.Fatal(err)
		}
	}
	return fmt.Sprint(answer)
}

// born does lines at the server; the site's source will read them.
func (s *site) born(lines ...string) {
	s.t.Helper()
	for _, line := range lines {
		s.do(line)
		for _, e := range changes(s.t, line) {
			e.Seq = int64(len(s.own)) + 1
			s.own = append(s.own, e)
		}
	}
}

// all is what the peer has seen if it has seen everything so far.
func (s *site) all() int64 { return int64(len(s.own)) }

// peer applies what the peer did when it had seen this site up to seen.
func (s *site) peer(seen int64, lines ...string) {
	s.t.Helper()
	var events []schema.Event
	for _, line := range lines {
		events = append(events, changes(s.t, line)...)
	}
	s.apply(seen, events...)
}

// apply applies events of the peer in one batch, unless there is a reason for
// several.
func (s *site) apply(seen int64, events ...schema.Event) {
	s.t.Helper()
	if err := s.tryApply(seen, events...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) tryApply(seen int64, events ...schema.Event) error {
	s.t.Helper()
	for i := range events {
		e := &events[i]
		s.peerSeq++
		e.Origin, e.Seq, e.Seen = "a", s.peerSeq, seen
		if err := s.builder.take(s.t.Context(), record(s.peerSeq-1, e)); err != nil {
			s.t.Fatal(err)
		}
	}
	if s.builder.batch != nil {
		if err := s.builder.send(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
	first, second := <-s.free, <-s.free // it is applied
	s.free <- first
	s.free <- second
	if s.err == nil {
		if mark := s.mark(); mark.Seq != s.peerSeq || mark.Offset != s.peerSeq-1 {
			s.t.Errorf("the mark is %v behind seq %d", mark, s.peerSeq)
		}
	}
	return s.err
}

func (s *site) mark() offsets.Mark {
	s.t.Helper()
	text, err := s.server.Client().Get(context.Background(), s.applier.target.markKey).Result()
	if err != nil && !errors.Is(err, goredis.Nil) {
		s.t.Fatal(err)
	}
	if text == "" {
		return offsets.Mark{}
	}
	mark, err := offsets.ParseMark(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return mark
}

// sent are the commands of the last batch with something to decide.
func (s *site) sent() []string {
	s.t.Helper()
	return commands(s.t, &s.applier.decided)
}

// holds checks answers of the server.
func (s *site) holds(want map[string]string) {
	s.t.Helper()
	got := map[string]string{}
	for line := range want {
		got[line] = s.do(line)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("at the target (-want +got):\n%s", diff)
	}
}

// counted checks what was left out, by kind, and the rules of the conflicts.
func (s *site) counted(want map[leftOutKind]int64, rules ...offsets.Rule) {
	s.t.Helper()
	got := map[leftOutKind]int64{}
	for kind, n := range s.sink.cfg.Metrics.leftOut {
		if n.n.Load() > 0 {
			got[kind] = n.n.Load()
		}
	}
	if want == nil {
		want = map[leftOutKind]int64{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("left out (-want +got):\n%s", diff)
	}
	var conflicts []offsets.Rule
	for _, c := range s.ledger.Conflicts().Last() {
		conflicts = append(conflicts, c.Rule)
	}
	if diff := cmp.Diff(rules, conflicts); diff != "" {
		s.t.Errorf("conflicts (-want +got):\n%s", diff)
	}
}

func TestRemovalsLeaveOutWhatWasWrittenHere(t *testing.T) {
	one := func(kind leftOutKind) map[leftOutKind]int64 { return map[leftOutKind]int64{kind: 1} }
	for _, tt := range []struct {
		name   string
		seen   []string // own changes that the peer had seen
		unseen []string
		peer   string
		sent   []string
		holds  map[string]string
		kinds  map[leftOutKind]int64
		rules  []offsets.Rule
	}{
		{"a deletion that had seen everything", []string{"SET k v"}, nil, "DEL k", []string{"DEL k __twinlog:-"}, map[string]string{"EXISTS k": "0"}, nil, nil},
		{"a deletion of what was written", nil, []string{"SET k v"}, "DEL k", nil, map[string]string{"GET k": "v"}, one(leftOutDeletion), []offsets.Rule{offsets.RuleD}},
		{"a deletion of what was written and deleted", []string{"SET k v"}, []string{"DEL k"}, "DEL k", []string{"DEL k __twinlog:-"}, map[string]string{"EXISTS k": "0"}, nil, nil},
		{
			"some elements of a set",
			[]string{"SADD s a b c"},
			[]string{"SADD s b"},
			"SREM s a b c",
			[]string{"SREM s a c"},
			map[string]string{"SMEMBERS s": "[b]"},
			nil,
			[]offsets.Rule{offsets.RuleD},
		},
		{
			"some fields: the first one left stands twice",
			[]string{"HSET h f 1 g 2 i 3"},
			[]string{"HSET h f 9"},
			"HDEL h f g i",
			[]string{"HDEL h g i g"},
			map[string]string{"HGETALL h": "[f 9]"},
			nil,
			[]offsets.Rule{offsets.RuleD},
		},
		{"no field", []string{"HSET h f 1 g 2"}, []string{"HSET h f 9 g 9"}, "HDEL h g f", nil, map[string]string{"HLEN h": "2"}, one(leftOutElement), []offsets.Rule{offsets.RuleD}},
		{"other fields than were written", []string{"HSET h f 1 g 2"}, []string{"HSET h i 9"}, "HDEL h f g", []string{"HDEL h f g f"}, map[string]string{"HGETALL h": "[i 9]"}, nil, nil},
		{"some members", []string{"ZADD z 1 a 2 b"}, []string{"ZADD z 3 a"}, "ZREM z a b", []string{"ZREM z b"}, map[string]string{"ZRANGE z 0 -1": "[a]"}, nil, []offsets.Rule{offsets.RuleD}},
		{"some entries", []string{"XADD x 1-1 f v"}, []string{"XADD x 2-1 f v"}, "XDEL x 1-1 2-1", []string{"XDEL x 1-1"}, map[string]string{"XLEN x": "1"}, nil, []offsets.Rule{offsets.RuleD}},
		{"an element of a list", []string{"RPUSH l a b"}, []string{"RPUSH l a"}, "LREM l 0 a", nil, map[string]string{"LLEN l": "3"}, one(leftOutElement), []offsets.Rule{offsets.RuleD}},
		{"another element of a list", []string{"RPUSH l a b"}, []string{"RPUSH l a"}, "LREM l 0 b", []string{"LREM l 0 b"}, map[string]string{"LRANGE l 0 -1": "[a a]"}, nil, nil},
		{"elements of a key written anew", []string{"SADD s a"}, []string{"RENAME s r", "RENAME r s"}, "SREM s a", nil, map[string]string{"SCARD s": "1"}, one(leftOutElement), []offsets.Rule{offsets.RuleD}},
		{"a pop", []string{"RPUSH l a b"}, []string{"RPUSH l c"}, "LPOP l", nil, map[string]string{"LLEN l": "3"}, one(leftOutPop), []offsets.Rule{offsets.RuleD}},
		{"a trim", []string{"RPUSH l a b"}, []string{"RPUSH l c"}, "LTRIM l 1 1", nil, map[string]string{"LLEN l": "3"}, one(leftOutPop), []offsets.Rule{offsets.RuleD}},
		{"a pop of another key", []string{"RPUSH l a b"}, []string{"SET k v"}, "LPOP l", []string{"LPOP l"}, map[string]string{"LLEN l": "1"}, nil, nil},
		{"in another database", []string{"3> SET k v"}, []string{"SET k v"}, "3> DEL k", []string{"SELECT 3", "DEL k __twinlog:-"}, map[string]string{"3> EXISTS k": "0", "EXISTS k": "1"}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false)
			s.born(tt.seen...)
			seen := s.all()
			s.born(tt.unseen...)
			s.peer(seen, tt.peer)
			if diff := cmp.Diff(tt.sent, s.sent()); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			s.holds(tt.holds)
			s.counted(tt.kinds, tt.rules...)
			if s.reads != 1 {
				t.Errorf("the source was waited for %d times", s.reads)
			}
		})
	}
}

func TestValuesAreLeftOutWhereNewerWritesAreOnTheirWay(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k seen", "SET other seen")
	seen := s.all()
	s.born("APPEND k -and-more")
	s.apply(seen, *value(0, "k"), *value(0, "other"), schema.Event{Op: schema.OpValue, Key: []byte("k")}, *value(0, "new"))
	if diff := cmp.Diff([]string{"SET other v", "SET new v"}, s.sent()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	s.holds(map[string]string{"GET k": "seen-and-more", "GET other": "v", "GET new": "v"})
	s.counted(map[leftOutKind]int64{leftOutValue: 2}, offsets.RuleR, offsets.RuleR)
}

func TestABatchWithoutDecisionsIsNotFenced(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k mine")
	s.peer(0, "SET k v", "INCR n", "SADD s a")
	if s.reads != 0 {
		t.Errorf("the source was waited for %d times", s.reads)
	}
	s.holds(map[string]string{"GET k": "v", "GET n": "1"})
}

func TestSelectStaysWhenACommandIsLeftOut(t *testing.T) {
	s := newSite(t, false)
	s.born("3> SET k mine", "SET k mine")
	s.peer(0, "3> DEL k", "3> SET x 1", "SET y 2", "DEL k", "5> DEL k", "5> SET z 3")
	if diff := cmp.Diff([]string{"SELECT 3", "SET x 1", "SELECT 0", "SET y 2", "SELECT 5", "DEL k __twinlog:-", "SET z 3"}, s.sent()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	s.holds(map[string]string{"3> MGET k x": "[mine 1]", "MGET k y x": "[mine 2 <nil>]", "5> MGET k z": "[<nil> 3]"})
}

func TestABatchThatIsAllLeftOutWritesTheMark(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k mine", "RPUSH l a")
	s.do("CONFIG RESETSTAT")
	s.peer(0, "DEL k", "LPOP l") // apply sees that the mark moves
	if len(s.sent()) > 0 {
		t.Errorf("sent %q", s.sent())
	}
	if stats := s.do("INFO commandstats"); strings.Contains(stats, "cmdstat_del:") || strings.Contains(stats, "cmdstat_lpop:") || !strings.Contains(stats, "cmdstat_set:calls=1,") {
		t.Errorf("commands of the server:\n%s", stats)
	}
}

// F: what is written between the decision and EXEC voids both.
func TestADecisionIsMadeAgainWhenItsKeyWasWritten(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k seen", "3> HSET h a 1 b 2")
	seen := s.all()
	s.decided = func(try int) {
		if try == 1 {
			s.born("SET k mine")
		}
		if try == 2 {
			s.born("3> HSET h a mine")
		}
	}
	s.peer(seen, "DEL k", "3> HDEL h a b", "SET other v")
	s.holds(map[string]string{"GET k": "mine", "3> HGETALL h": "[a mine]", "GET other": "v"})
	s.counted(map[leftOutKind]int64{leftOutDeletion: 1}, offsets.RuleD, offsets.RuleD)
	if s.reads != 3 {
		t.Errorf("decided %d times", s.reads)
	}
}

func TestADecisionIsMadeAgainBehindABarrier(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k seen")
	seen := s.all()
	s.decided = func(try int) {
		if try == 1 {
			s.do("SET __twinlog:l:barrier x")
		}
	}
	s.peer(seen, "DEL k")
	s.holds(map[string]string{"EXISTS k": "0"})
	if s.reads != 2 {
		t.Errorf("decided %d times", s.reads)
	}
}

func TestADecisionIsMadeAgainWhenTheSourceBeganAnew(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k mine")
	s.waiting = func() {
		switch s.reads {
		case 1: // it will have read own changes by the second time
			s.read = len(s.own)
			if err := s.ledger.Reset(0, 0); err != nil {
				t.Error(err)
			}
		case 2:
			s.read = 0
		}
	}
	s.peer(0, "DEL k")
	s.holds(map[string]string{"GET k": "mine"})
	if s.reads != 2 {
		t.Errorf("decided %d times", s.reads)
	}
}

func TestAKeyThatIsLeftOutIsNotWatchedAnyMore(t *testing.T) {
	s := newSite(t, false)
	s.born("SET cold seen", "SET hot seen")
	seen := s.all()
	s.born("INCR n", "SET hot mine")
	tries := 0
	s.decided = func(try int) {
		tries = try
		s.born("APPEND hot +")
	}
	s.peer(seen, "DEL hot", "DEL cold")
	if tries != 2 { // in the first one nothing was left out yet
		t.Errorf("%d tries", tries)
	}
	s.holds(map[string]string{"EXISTS cold": "0", "GET hot": "mine++"})
	s.counted(map[leftOutKind]int64{leftOutDeletion: 1}, offsets.RuleD)
}

func TestARemovalFromAHotKeyFallsBackToTheWholeKey(t *testing.T) {
	s := newSite(t, false)
	s.born("SADD hot a b")
	seen := s.all()
	tries, fencing := 0, false
	s.decided = func(try int) {
		tries = try
		fencing = fencing || s.ledger.Fencing()
		s.born(fmt.Sprint("SADD hot x", try))
	}
	s.peer(seen, "SREM hot a", "SET after v")
	s.holds(map[string]string{"SISMEMBER hot a": "1", "GET after": "v"})
	s.counted(map[leftOutKind]int64{leftOutElement: 1}, offsets.RuleD)
	if tries != wholeKeyTries+2 || s.all() != int64(1+tries) {
		t.Errorf("%d tries", tries)
	}
	if !fencing || s.ledger.Fencing() {
		t.Errorf("barriers were told to wait: %v, and still are: %v", fencing, s.ledger.Fencing())
	}
}

// truncate is FLUSHALL for NoDB, else FLUSHDB.
func truncate(db int32) schema.Event {
	name := "FLUSHDB"
	if db == schema.NoDB {
		name = "FLUSHALL"
	}
	return schema.Event{Op: schema.OpTruncate, DB: db, Command: name}
}

func TestAFlushLeavesWhatItHadNotSeen(t *testing.T) {
	for _, tt := range []struct {
		db   int32
		left map[int][]string // besides reserved keys
		out  int64
	}{
		{0, map[int][]string{0: {"after", "mine:0"}, 5: {"before", "mine:0", "old:0"}}, 1},
		{5, map[int][]string{0: {"after", "before", "mine:0", "old:0", "old:1"}, 5: {"mine:0"}}, 1},
		{schema.NoDB, map[int][]string{0: {"after", "mine:0"}, 5: {"mine:0"}}, 2},
	} {
		t.Run(fmt.Sprint("of db ", tt.db), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false)
			s.born("SET old:0 v", "SET old:1 v", "5> SET old:0 v")
			seen := s.all()
			s.born("SET mine:0 v", "5> SET mine:0 v", "SET old:1 v", "DEL old:1", "INCR old:1", "DEL old:1", "SET old:1 v", "DEL old:1", "SET old:1 v")
			s.do("DEL old:1", "SET old:1 v") // not by events: only what the ledger knows is kept
			s.own = slices.DeleteFunc(s.own, func(e schema.Event) bool { return string(e.Key) == "old:1" && e.Seq > seen })
			s.do("5> SET __twinlog:other x", "SET __twinlog:l:barrier x")
			s.apply(seen, append(append(changes(t, "SET before v"), changes(t, "5> SET before v")...), truncate(tt.db), changes(t, "SET after v")[0])...)
			for db, want := range tt.left {
				var got []string
				for key := range strings.FieldsSeq(strings.Trim(s.do(fmt.Sprintf("%d> KEYS *", db)), "[]")) {
					if !offsets.IsReserved([]byte(key)) {
						got = append(got, key)
					}
				}
				slices.Sort(got)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("in db %d (-want +got):\n%s", db, diff)
				}
			}
			s.holds(map[string]string{"5> EXISTS __twinlog:other": "1", "EXISTS __twinlog:l:barrier": "1"})
			if n := s.sink.cfg.Metrics.leftOut[leftOutFlush].n.Load(); n != tt.out {
				t.Errorf("%d keys were left out, want %d", n, tt.out)
			}
		})
	}
}

func TestAFlushOfManyKeysGoesInChunks(t *testing.T) {
	const keys = 3500
	s := newSite(t, false)
	pipe := s.server.Client().Pipeline()
	for i := range keys {
		pipe.Set(t.Context(), fmt.Sprint("key:", i), "v", 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		s.born(fmt.Sprintf("SET key:%d mine", i))
	}
	chunks, marks := 0, map[int64]int{}
	s.decided = func(try int) {
		chunks = try
		marks[s.mark().Seq]++
		if n := len(s.applier.decided.items); n > 2000 {
			t.Errorf("%d keys at once", n)
		}
		if try == 2 { // one that may stand in this chunk, or have gone, or come
			s.born("SET key:500 mine")
		}
	}
	s.peer(0, "SET before v")
	s.apply(0, truncate(schema.NoDB))
	if n, err := strconv.Atoi(s.do("DBSIZE")); err != nil || n != 10+1+1 { // and the mark
		t.Errorf("%d keys are left, error %v", n, err)
	}
	s.holds(map[string]string{"GET key:3": "mine", "GET key:500": "mine", "EXISTS before": "0"})
	// While it goes on the mark stays behind the event before: a crash does it again.
	if chunks < 3 || len(marks) != 1 || marks[1] != chunks {
		t.Errorf("%d chunks, marks meanwhile %v", chunks, marks)
	}
}

func TestAFlushRecallsWhatThePeerLost(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k mine", "SET gone v", "DEL gone")
	if err := s.AwaitRead(t.Context(), "", 0); err != nil {
		t.Fatal(err)
	}
	seen := s.all()
	s.peer(seen, "SET before v")
	nothing := func(_, _ int64, visit func(*schema.Event) error) error { return errors.New("it is in the queue") }
	if err := s.ledger.PassTo(0, 1, nothing); err != nil { // now it is forgotten
		t.Fatal(err)
	}
	if s.ledger.Floor() != seen {
		t.Fatalf("the floor is %d", s.ledger.Floor())
	}
	s.apply(0, truncate(schema.NoDB)) // the peer is an older copy of itself
	s.holds(map[string]string{"GET k": "mine", "EXISTS before": "0"})
	if diff := cmp.Diff([]int64{0}, s.recalls); diff != "" {
		t.Errorf("recalled (-want +got):\n%s", diff)
	}
}

func TestABatchRecallsTheLowestThatItNeeds(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k mine", "SET other v", "SET last v")
	if err := s.AwaitRead(t.Context(), "", 0); err != nil {
		t.Fatal(err)
	}
	s.peer(s.all(), "SET before v")
	if err := s.ledger.PassTo(0, 1, nil); err != nil {
		t.Fatal(err)
	}
	high, low := changes(t, "SET x 1")[0], changes(t, "DEL k")[0]
	for i, e := range []*schema.Event{&high, &low} { // one batch, and the peer's seen falls inside it
		s.peerSeq++
		e.Origin, e.Seq, e.Seen = "a", s.peerSeq, s.all()*int64(1-i)
		if err := s.builder.take(t.Context(), record(s.peerSeq-1, e)); err != nil {
			t.Fatal(err)
		}
	}
	s.apply(0)
	s.holds(map[string]string{"GET k": "mine", "GET x": "1"})
	if diff := cmp.Diff([]int64{0}, s.recalls); diff != "" {
		t.Errorf("recalled (-want +got):\n%s", diff)
	}
}

// replicated gives a server a replica, so that its replication offset counts.
func (s *site) replicated() {
	s.t.Helper()
	host, port, _ := strings.Cut(s.server.Addr(), ":")
	replica := testkit.StartRedis(s.t, "--replicaof", host+" "+port)
	testkit.Eventually(s.t, 20*time.Second, func() error {
		info, err := replica.Client().Info(s.t.Context(), "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = errors.New("the replica is not up")
		}
		return err
	})
}

func TestAFullTargetTakesDecidedRemovals(t *testing.T) {
	s := newSite(t, false)
	s.replicated()
	s.born("SET k seen", "SET other seen", "SET own seen", "SADD s a b", "3> SET k seen")
	seen := s.all()
	s.born("SET k mine", "SADD s a")
	s.do("CONFIG SET maxmemory 1")
	s.decided = func(try int) {
		if try == 1 {
			s.born("DEL own") // a full server takes removals
		}
	}
	s.peer(seen, "DEL k", "DEL other", "SREM s a b", "3> DEL k")
	if diff := cmp.Diff([]string{"DEL other __twinlog:-", "SREM s b", "SELECT 3", "DEL k __twinlog:-"}, s.sent()); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	s.holds(map[string]string{"GET k": "mine", "EXISTS other": "0", "SMEMBERS s": "[a]", "3> EXISTS k": "0"})
	s.counted(map[leftOutKind]int64{leftOutDeletion: 1}, offsets.RuleD, offsets.RuleD)
	if s.reads != 2 { // a script does not care for WATCH: the offset tells
		t.Errorf("decided %d times", s.reads)
	}
	if !s.sink.full.Load() {
		t.Error("the sink does not know that the target is full")
	}
}

func TestAFullTargetWhoseMarkWasTaken(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k v")
	s.peer(s.all(), "SET other v")
	s.do("CONFIG SET maxmemory 1")
	s.applier.sink.full.Store(true)
	s.decided = func(int) { s.do("DEL " + s.applier.target.markKey) }
	if err := s.tryApply(s.all(), changes(t, "DEL k")...); !errors.Is(err, errMarkMoved) || !healable(err) {
		t.Errorf("error %v", err)
	}
	s.holds(map[string]string{"GET k": "v"})
}

func TestAFullTargetTakesABatchThatIsAllLeftOut(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k mine", "SET other v")
	s.do("CONFIG SET maxmemory 1")
	s.peer(0, "DEL k")
	s.peer(s.all(), "DEL other") // which would free memory
	s.holds(map[string]string{"GET k": "mine", "EXISTS other": "0"})
}

func TestAFullTargetIsFlushed(t *testing.T) {
	s := newSite(t, false)
	s.born("SET k mine", "4> SET k mine")
	s.do("SET old v", "4> SET old v", "CONFIG SET maxmemory 1")
	s.apply(0, changes(t, "DEL nothing")[0])
	if err := s.tryApply(0, truncate(schema.NoDB)); !isFull(err) { // all is gone; the mark waits for room
		t.Errorf("error %v", err)
	}
	s.holds(map[string]string{"GET k": "mine", "EXISTS old": "0", "4> GET k": "mine", "4> EXISTS old": "0"})
}

func TestWhatHasNoEffectIsAConflict(t *testing.T) {
	for _, home := range []bool{true, false} {
		t.Run(fmt.Sprint("at home: ", home), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, home)
			s.born("3> SET text seen", "SET k seen")
			seen := s.all()
			s.born("SET k mine")
			s.peer(seen, "DEL k", "3> INCR text", "SET after v", "3> RPUSH text x")
			s.holds(map[string]string{"3> GET text": "seen", "GET after": "v", "GET k": "mine"})
			s.counted(map[leftOutKind]int64{leftOutDeletion: 1}, offsets.RuleD, offsets.RuleNoEffect, offsets.RuleNoEffect)
			c := s.ledger.Conflicts().Last()[1]
			if c.DB != 3 || string(c.Key) != "text" || !strings.HasPrefix(c.Peer, "INCR") || !strings.Contains(c.Own, "not an integer") {
				t.Errorf("conflict %+v", c)
			}
			if dirty := s.ledger.IsDirty(3, []byte("text")); dirty != home {
				t.Errorf("its key is dirty: %v", dirty)
			}
			if home && s.ledger.Settled(1) != 1 || home && s.ledger.Settled(4) != 1 {
				t.Errorf("settled up to %d: it was seq 2 that had no effect", s.ledger.Settled(4))
			}
			s.peer(seen, "SET more v") // the mark is known
			s.holds(map[string]string{"GET more": "v"})
		})
	}
}

// parts are the events of a value in parts, one group. A collection with Data
// begins with the rest of an element.
func parts(key string, values ...schema.Value) []schema.Event {
	var events []schema.Event
	for i, v := range values {
		last, arg := i == len(values)-1, int32(-1)
		if v.Kind != schema.KindString && v.Data != nil {
			arg, v.Data = 0, nil
		}
		events = append(events, schema.Event{
			Op: schema.OpValue, Key: []byte(key), Type: "x", Value: v, ExpireAt: schema.OptInt64{Set: true, Int64: 4102444800000},
			Part:        schema.OptPart{Set: true, Part: schema.Part{Index: int32(i), Last: last, Arg: arg}},
			Transaction: schema.OptTransaction{Set: true, Transaction: schema.Transaction{ID: []byte("g"), Index: int32(i), Last: last}},
		})
	}
	return events
}

func TestPartsOfAValueAreAppliedAtOnce(t *testing.T) {
	s := newSite(t, false)
	s.born("RPUSH l old", "SET mine seen")
	seen := s.all()
	s.born("SET mine newer")
	elements := func(words ...string) schema.Value {
		return schema.Value{Kind: schema.KindList, Elements: list(words...)}
	}
	events := parts("l", elements("a", "b"), elements("c"), elements("d", "e"))
	events = append(events, parts("mine", schema.Value{Kind: schema.KindString, Data: []byte("1")}, schema.Value{Kind: schema.KindString, Data: []byte("2")})...)
	s.apply(seen, events...)
	s.holds(map[string]string{"LRANGE l 0 -1": "[a b c d e]", "PEXPIRETIME l": "4102444801000", "GET mine": "newer"})
	s.counted(map[leftOutKind]int64{leftOutValue: 1}, offsets.RuleR)
}
