package sink

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"twinlog/internal/redis"
	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// answering is a server that reads whatever comes up to the GET behind EXEC,
// answers with replies, one a word, and then ends the connection.
func answering(t *testing.T, replies ...string) *target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in, line := bufio.NewReader(c), ""
		for line != "GET\r\n" {
			if line, err = in.ReadString('\n'); err != nil {
				return
			}
		}
		if _, err := io.WriteString(c, strings.Join(replies, "\r\n")+"\r\n"); err != nil {
			t.Error(err)
		}
	}()
	s := testSink()
	conn, err := redis.Dial(t.Context(), redis.Config{Addrs: []string{l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		l.Close()
		<-done
	})
	return &target{cfg: &s.cfg, conn: conn, markKey: "__twinlog:l:a-to-b:0"}
}

// twoSets is a batch of seqs 4 and 5.
func twoSets() *batch {
	b := &batch{}
	b.reset()
	for seq := int64(4); seq < 6; seq++ {
		e := set(seq, "v")
		b.command(e, seq+10, 0, "LPUSH", 3)
		b.args(e.Args)
		b.cover(e, seq+10)
	}
	return b
}

func TestEveryReplyOfABatchIsJudged(t *testing.T) {
	mark := offsets.Mark{TopicID: strings.Repeat("0", 32), Seq: 5, Offset: 15}
	seen := "+" + mark.String()
	queued := []string{"+OK", "+QUEUED", "+QUEUED", "+QUEUED"} // MULTI, the mark, two commands
	behind := func(get string) []string { return []string{"+OK", "+OK", get} }
	reply := func(parts ...[]string) (all []string) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	aborted := []string{"-EXECABORT Transaction discarded because of previous errors."}
	done := []string{"*3", "+OK", ":1", ":1"}
	var (
		data    *DataError
		refused *RefusedError
		wait    *waitError
		cut     *cutError
	)
	for _, tt := range []struct {
		name    string
		replies []string
		as      any // nil: the batch took effect
		want    []string
		heals   bool
	}{
		{"all took effect", reply(queued, done, behind(seen)), nil, nil, false},
		{
			"one had no effect", reply(queued, []string{"*3", "+OK", ":1", "-WRONGTYPE Operation against a key"}, behind(seen)),
			&data,
			[]string{"topic l.a-to-b, offset 15 (seq 5)", `LPUSH on key "k" in db 0`, "site b", "WRONGTYPE", "twinlog resume sink-b"},
			false,
		},
		{
			"two had none: the first is named", reply(queued, []string{"*3", "+OK", "-WRONGTYPE x", "-ERR no such key"}, behind(seen)),
			&data,
			[]string{"offset 14 (seq 4)", "WRONGTYPE", "and 1 more of the same batch"},
			false,
		},
		{
			"a command that the target does not know", reply([]string{"+OK", "+QUEUED", "+QUEUED", "-ERR unknown command 'LPUSH'"}, aborted, behind("+old")),
			&refused,
			[]string{"offset 15 (seq 5)", "refuses LPUSH", "unknown command", "Nothing of this batch took effect", "resume"},
			false,
		},
		{
			"a mark that may not be written", reply([]string{"+OK", "-NOPERM no permissions", "+QUEUED", "+QUEUED"}, aborted, behind("+old")),
			&refused,
			[]string{"target b refuses SET", "NOPERM", "precheck"},
			false,
		},
		{"no memory", reply([]string{"+OK", "-OOM command not allowed", "-OOM x", "-OOM x"}, aborted, behind("+old")), &wait, []string{"OOM", "it is full", "raise maxmemory"}, true},
		{"a replica", reply([]string{"+OK", "-READONLY You can't write", "-READONLY x", "-READONLY x"}, aborted, behind("+old")), &wait, []string{"READONLY", "replica"}, true},
		{"a script that blocks it", reply([]string{"-BUSY x", "-BUSY x", "-BUSY x", "-BUSY x"}, []string{"-BUSY x"}, behind("-BUSY x")), &wait, []string{"BUSY", "SCRIPT KILL"}, true},
		{"it is saving no more", reply([]string{"+OK", "-MISCONF x", "-MISCONF x", "-MISCONF x"}, aborted, behind("+old")), &wait, []string{"MISCONF", "its disk"}, true},
		{"someone else wrote the mark", reply(queued, []string{"*-1"}, behind("+other")), &errMarkMovedTarget{}, []string{"not what this sink wrote"}, true},
		{"the mark was taken away behind EXEC", reply(queued, done, behind("$-1")), &errMarkMovedTarget{}, []string{"not what this sink wrote"}, true},
		{"cut before EXEC's answer", queued, &cut, []string{"the connection was cut while a batch was in flight"}, true},
		{"cut behind it", reply(queued, done), &cut, []string{"cut"}, true},
		{"what is no reply", []string{"hello"}, &cut, []string{"protocol error"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err := answering(t, tt.replies...).apply(ctx, twoSets(), mark)
			if tt.as == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if _, moved := tt.as.(*errMarkMovedTarget); moved && !errors.Is(err, errMarkMoved) || !moved && !errors.As(err, tt.as) {
				t.Errorf("error %T %v", err, err)
			}
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
			if healable(err) != tt.heals {
				t.Errorf("taken for an error that heals: %v", !tt.heals)
			}
		})
	}
}

// errMarkMovedTarget stands for errMarkMoved in the table.
type errMarkMovedTarget struct{}

// connected is a target at a real server.
func connected(t *testing.T, s *Sink, server *testkit.Redis) *target {
	t.Helper()
	conn, err := redis.Dial(t.Context(), redis.Config{Addrs: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &target{cfg: &s.cfg, conn: conn}
}

func TestTargetMustHoldNothingOfItsOwn(t *testing.T) {
	server := testkit.StartRedis(t)
	do := func(args ...any) {
		t.Helper()
		if err := server.Client().Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	target := connected(t, testSink(), server)
	if err := target.requireEmpty(t.Context()); err != nil {
		t.Errorf("an empty target: %v", err)
	}
	do("SET", "__twinlog:l:barrier", "x")
	if err := target.requireEmpty(t.Context()); err != nil {
		t.Errorf("a target with reserved keys alone: %v", err)
	}
	do("SET", "mine", "x")
	do("MOVE", "mine", 7)
	var full *NotEmptyError
	if err := target.requireEmpty(t.Context()); !errors.As(err, &full) || full.DB != "db7" || full.Key != "mine" || !strings.Contains(err.Error(), "existing: ignore") {
		t.Errorf("error %v", err)
	}
}

// ownAt is a target's own source that has read everything.
type ownAt struct{ mark offsets.Mark }

func (o ownAt) LastMark(context.Context, string, int64) (offsets.Mark, error) { return o.mark, nil }
func (o ownAt) AwaitRead(context.Context, string, int64) error                { return nil }
func (o ownAt) Recall(context.Context, int64) error                           { return nil }

func TestWhereASinkStarts(t *testing.T) {
	const key = "__twinlog:l:a-to-b:0"
	own := offsets.Mark{TopicID: strings.Repeat("0", 32), Seq: 8, Offset: 9}
	other := own
	other.TopicID = strings.Repeat("1", 32)
	for _, tt := range []struct {
		name string
		set  map[string]string
		with func(*Sink)
		want offsets.Mark
		err  []string
	}{
		{"from its mark", map[string]string{key: own.String()}, nil, own, nil},
		{"from its mark, whatever else is there", map[string]string{key: own.String(), "k": "v"}, func(s *Sink) { s.cfg.Intercept = true }, own, nil},
		{"from what the target's own source saw", nil, func(s *Sink) {
			s.cfg.Own = ownAt{own}
		}, own, nil},
		{"from the beginning", nil, func(s *Sink) {
			s.cfg.Intercept = true
			s.cfg.Own = ownAt{}
		}, offsets.Mark{TopicID: strings.Repeat("0", 32), Offset: -1}, nil},
		{"not over other data", map[string]string{"k": "v"}, func(s *Sink) {
			s.cfg.Intercept = true
			s.cfg.Own = ownAt{}
		}, offsets.Mark{}, []string{`db0 holds key "k"`, "existing: ignore"}},
		{"not from another topic's mark", map[string]string{key: other.String()}, nil, offsets.Mark{}, []string{other.TopicID, "created anew", "twinlog resync --site b"}},
		{"not from what is no mark", map[string]string{key: "x"}, nil, offsets.Mark{}, []string{"target b, key " + key, `mark "x"`}},
		{"not behind what stopped it", map[string]string{key: own.String(), key + ":halt": "what happened"}, nil, offsets.Mark{}, []string{"what happened"}},
		{"behind it when someone says so", map[string]string{key: own.String(), key + ":halt": "what happened"}, func(s *Sink) { s.cfg.ClearHalt = true }, own, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, s := testkit.StartRedis(t), testSink()
			for k, v := range tt.set {
				if err := server.Client().Set(t.Context(), k, v, 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if tt.with != nil {
				tt.with(s)
			}
			got, err := s.start(t.Context(), connected(t, s, server))
			if tt.err == nil && (err != nil || got != tt.want) {
				t.Errorf("start at %v, error %v; want %v", got, err, tt.want)
			}
			for _, want := range tt.err {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
			if tt.err != nil && healable(err) {
				t.Error("this error is taken for one that heals")
			}
			if n := server.Client().Exists(t.Context(), key+":halt").Val(); (n == 1) != (tt.err != nil && tt.set[key+":halt"] != "") {
				t.Errorf("%d halt keys are left", n)
			}
		})
	}
}

func TestABatchOnARealServerMovesTheMark(t *testing.T) {
	server, s := testkit.StartRedis(t), testSink()
	s.cfg.Own = ownAt{}
	target := connected(t, s, server)
	if _, err := s.start(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	b, translate := &batch{}, testTranslator()
	translate.mark = target.markKey
	b.reset()
	flush := &schema.Event{Op: schema.OpTruncate, DB: schema.NoDB, Command: "FLUSHALL", Seq: 2}
	for i, e := range []*schema.Event{set(1, "v"), flush, set(3, "w")} {
		if err := translate.add(b, e, int64(i)); err != nil {
			t.Fatal(err)
		}
		b.cover(e, int64(i))
	}
	mark := b.markBehind(offsets.Mark{}, s.cfg.TopicID)
	if err := target.apply(t.Context(), b, mark); err != nil {
		t.Fatal(err)
	}
	if got := server.Client().MGet(t.Context(), target.markKey, "k").Val(); got[0] != mark.String() || got[1] != "w" {
		t.Errorf("mark and value are %v", got)
	}
	// Whoever touches the mark meanwhile keeps the next batch out, whole.
	if err := server.Client().Del(t.Context(), target.markKey).Err(); err != nil {
		t.Fatal(err)
	}
	next := twoSets()
	if err := target.apply(t.Context(), next, next.markBehind(offsets.Mark{}, s.cfg.TopicID)); !errors.Is(err, errMarkMoved) {
		t.Errorf("error %v", err)
	}
	if got := server.Client().Get(t.Context(), "k").Val(); got != "w" || server.Client().DBSize(t.Context()).Val() != 1 {
		t.Errorf("k is %q behind a batch that must not take effect", got)
	}
}

// Temporary keys are numbered across databases: no database need hold the first
// ones.
func TestWhatIsLeftOfPartsIsRemovedFromAllDatabases(t *testing.T) {
	server, s := testkit.StartRedis(t), testSink()
	for n := range 70 {
		db := 0
		if n >= 33 {
			db = 1 + n%2
		}
		pipe := server.Client().Pipeline()
		pipe.Do(t.Context(), "SELECT", db)
		pipe.Set(t.Context(), offsets.PartKey("l", "a-to-b", "0", n), "x", 0)
		pipe.Do(t.Context(), "SELECT", 0)
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := connected(t, s, server).clearTemps(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := server.Client().Info(t.Context(), "keyspace").Val(); strings.Contains(left, "db") {
		t.Errorf("left: %s", left)
	}
}

const unfenced = -1

// fenced is a target's own source that knows the last mark once it has read up
// to a fence.
type fenced struct{ ownAt }

func (o fenced) LastMark(_ context.Context, _ string, replOffset int64) (offsets.Mark, error) {
	if replOffset == unfenced {
		return offsets.Mark{}, errors.New("no fence")
	}
	return o.mark, nil
}

// A mark that was taken away after an EXEC whose reply was lost is newer than
// what the sink remembers.
func TestAMarkThatWasMovedBehindAnExecThatWasCut(t *testing.T) {
	mark := func(seq int64) offsets.Mark {
		return offsets.Mark{TopicID: strings.Repeat("0", 32), Seq: seq, Offset: seq + 1}
	}
	for _, tt := range []struct {
		name string
		at   int64 // in database 0; 0: none
		own  OwnSource
		want int64
	}{
		{"flushed, the EXEC took effect", 0, fenced{ownAt{mark(8)}}, 8},
		{"flushed, it did not", 0, fenced{ownAt{mark(7)}}, 7},
		{"flushed, the source began behind it", 0, fenced{ownAt{mark(0)}}, 7},
		{"flushed, one-way", 0, nil, 7},
		{"swapped, the EXEC took effect", 3, fenced{ownAt{mark(8)}}, 8},
		{"swapped, one-way", 3, nil, 7},
		{"where it was", 8, fenced{ownAt{mark(7)}}, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, s := testkit.StartRedis(t), testSink()
			s.cfg.Own = tt.own
			target := connected(t, s, server)
			if err := target.inspect(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.last, target.replOffset = written{target.runID, target.replid, mark(7)}, unfenced
			if tt.at > 0 {
				if err := server.Client().Set(t.Context(), "__twinlog:l:a-to-b:0", mark(tt.at).String(), 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := s.start(t.Context(), target); err != nil || got != mark(tt.want) {
				t.Errorf("start at %v, error %v; want seq %d", got, err, tt.want)
			}
		})
	}
}
