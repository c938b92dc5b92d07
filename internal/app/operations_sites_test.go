package app_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
)

// client runs commands, written as in the table of operations, without a
// prefix of their own.
func client(t testing.TB, r *testkit.Redis, lines string) []any {
	t.Helper()
	conn := r.Client().Conn()
	defer conn.Close()
	defer selectFirst(t, conn)
	var replies []any
	for _, args := range (&trial{}).commands(lines) {
		reply, err := do(t, conn, args)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		replies = append(replies, reply)
	}
	return replies
}

// holds checks that a command answers at both sites what it should.
func (l *link) holds(line, want string) {
	l.t.Helper()
	for name, r := range map[string]*testkit.Redis{"a": l.a, "b": l.b} {
		if got := textOf(client(l.t, r, line)[0]); got != want {
			l.t.Errorf("%s at %s: %s, want %s", line, name, got, want)
		}
	}
}

func TestAMessageArrivesOnceAtEachSite(t *testing.T) {
	l := newLink(t, linkOptions{})
	l.start()
	var subscribers []*goredis.PubSub
	for _, r := range []*testkit.Redis{l.a, l.b} {
		s := r.Client().Subscribe(t.Context(), "ch", "end")
		t.Cleanup(func() { s.Close() })
		for range 2 {
			if _, err := s.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		subscribers = append(subscribers, s)
	}
	var want []string
	for _, s := range []site{{l.a, "a"}, {l.b, "b"}} {
		client(t, s.Redis, fmt.Sprintf(`PUBLISH ch %[1]s-alone ; MULTI ; PUBLISH ch %[1]s-multi ; SET k%[1]s 1 ; EXEC ; EVAL "redis.call('publish', 'ch', ARGV[1])" 0 %[1]s-script`, s.name))
		l.settled(20 * time.Second)
		want = append(want, "ch "+s.name+"-alone", "ch "+s.name+"-multi", "ch "+s.name+"-script")
	}
	// What comes back comes before what is said behind it, both ways.
	client(t, l.a, "PUBLISH end a")
	l.settled(20 * time.Second)
	client(t, l.b, "PUBLISH end b")
	want = append(want, "end a", "end b")
	for i, s := range subscribers {
		var got []string
		for len(got) == 0 || got[len(got)-1] != "end b" {
			m, err := s.ReceiveTimeout(t.Context(), 10*time.Second)
			if err != nil {
				t.Fatalf("after %q: %v", got, err)
			}
			if m, ok := m.(*goredis.Message); ok {
				got = append(got, m.Channel+" "+m.Payload)
			}
		}
		if !slices.Equal(want, got) {
			t.Errorf("the subscriber at %s was told %q, want %q", "ab"[i:i+1], got, want)
		}
	}
	l.settled(20 * time.Second)
}

// A client that waits at one site is served by what a client of the other
// site wrote. What it took is a change of its own site.
func TestAClientServedByAnAppliedWriteChangesBothSites(t *testing.T) {
	l := newLink(t, linkOptions{})
	l.start()
	tab := newTable(t, l)
	for _, c := range []struct{ name, before, blocked, run, reply string }{
		{"list", "", "BLPOP %l 0", "RPUSH %l 1 2 3", "[l,1]"},
		{"two", "", "BRPOP %l 0 ; BLPOP %l 0", "MULTI ; RPUSH %l 1 2 3 ; SET %k 1 ; EXEC", "[l,3] [l,1]"},
		{"move", "RPUSH %m 0", "BLMOVE %l %m LEFT RIGHT 0", "RPUSH %l 1 2 3", "1"},
		{"zset", "", "BZPOPMIN %z 0", "ZADD %z 1 a 2 b", "[z,a,1]"},
		{"pops", "", "BLMPOP 0 1 %l LEFT COUNT 2", "RPUSH %l 1 2 3", "[l,[1,2]]"},
		{"stream", "XGROUP CREATE %x g $ MKSTREAM", "XREADGROUP GROUP g c BLOCK 0 STREAMS %x >", "XADD %x 7-7 f v", "[[x,[[7-7,[f,v]]]]]"},
	} {
		for _, way := range [][2]site{{{l.a, "a"}, {l.b, "b"}}, {{l.b, "b"}, {l.a, "a"}}} {
			writer, waiter := way[0], way[1]
			one := &trial{operation: operation{blocked: c.blocked}, prefix: c.name + "_" + writer.name + "_"}
			before := &trial{prefix: one.prefix}
			conn := writer.Client().Conn()
			for _, args := range before.commands(c.before) {
				if _, err := do(t, conn, args); err != nil {
					t.Fatal(err)
				}
			}
			l.equal(20*time.Second, grace)
			replies := tab.block(waiter, one)
			for _, args := range before.commands(c.run) {
				if _, err := do(t, conn, args); err != nil {
					t.Fatal(err)
				}
			}
			conn.Close()
			var got []string
			for _, reply := range replies {
				got = append(got, strings.ReplaceAll(textOf(<-reply), one.prefix, ""))
			}
			if text := strings.Join(got, " "); text != c.reply {
				t.Errorf("%s: the clients at %s got %s, want %s", c.name, waiter.name, text, c.reply)
			}
			l.settled(20 * time.Second)
		}
	}
	l.holds("LRANGE list_a_l 0 -1", "[2,3]")
	l.holds("LRANGE move_b_m 0 -1", "[0,1]")
	l.holds("ZCARD zset_a_z", "1")
}

// SWAPDB takes a mark to another database and back, when it is an old one.
func TestAMarkThatSWAPDBBringsBackReplaysNothing(t *testing.T) {
	l := newLink(t, linkOptions{})
	l.start()
	for i := range 3 {
		client(t, l.b, "INCR %n ; RPUSH %l x ; SELECT 1 ; INCR %n")
		l.settled(20 * time.Second)
		client(t, l.a, "SWAPDB 0 1")
		l.settled(20 * time.Second)
		client(t, l.b, "INCR %n ; APPEND %s x")
		l.settled(20 * time.Second)
		client(t, l.a, "SWAPDB 1 0 ; SET %round "+fmt.Sprint(i))
		l.settled(20 * time.Second)
	}
	l.holds("GET %n", "3")
	l.holds("LLEN %l", "3")
}

// With equal weights SORT BY … ALPHA leaves an order that depends on how the
// source was filled: the elements are promised, their order is not.
func TestSORTWithEqualWeightsStoresTheSameElements(t *testing.T) {
	l := newLink(t, linkOptions{})
	l.start()
	for i, r := range []*testkit.Redis{l.a, l.b} {
		client(t, r, fmt.Sprintf("SADD %%s%d <1..200> a b c ; SORT %%s%[1]d BY %%none_* ALPHA STORE %%d%[1]d", i))
		for _, other := range []*testkit.Redis{l.a, l.b} {
			testkit.Eventually(t, 20*time.Second, func() error {
				elements, err := other.Client().LRange(t.Context(), fmt.Sprintf("d%d", i), 0, -1).Result()
				if slices.Sort(elements); err == nil && len(slices.Compact(elements)) != 203 {
					err = fmt.Errorf("%d different elements", len(elements))
				}
				return err
			})
		}
		client(t, r, fmt.Sprintf("DEL %%d%d", i))
	}
	l.settled(20 * time.Second)
}

// What held at the origin is not asked again: the target of a one-way link
// may hold something else, and ends as the origin.
func TestConditionsOfTheOriginAreNotAskedAtTheTarget(t *testing.T) {
	l := newLink(t, linkOptions{directions: oneWay})
	l.record(l.siteA())
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	client(t, l.a, "RPUSH %src a b c ; SET %from v ; SET %move v ; SET %nx v ; SET %xx v ; HSET %h f 1 ; SET %ttl v ; SET %gt v EX 60")
	l.settled(20 * time.Second)
	client(t, l.b, `MSET %copy x %restore x %renamed x %setnx x %set x %msetnx x ; SELECT 1 ; SET %move x ; SELECT 0 ; HSET %h g other ; DEL %xx %getdel ; ZADD %z 9 a ; EXPIRE %ttl 7200 ; EXPIRE %gt 999999 ; FUNCTION LOAD "#!lua name=l1\nredis.register_function('f1', function() return 'target' end)"`)
	client(t, l.a, `COPY %src %copy ; RENAMENX %from %renamed ; MOVE %move 1 ; SETNX %setnx v ; SET %set v NX ; SET %xx w XX ; MSETNX %msetnx v %other v ; HSETNX %h g 1 ; ZADD %z NX 1 a ; EXPIRE %ttl 3600 NX ; EXPIRE %gt 3600 GT ; FUNCTION LOAD "#!lua name=l1\nredis.register_function('f1', function() return 'origin' end)"`)
	restored := &trial{}
	conn := l.a.Client().Conn()
	defer conn.Close()
	dump, err := do(t, conn, []any{"DUMP", "src"})
	if err != nil {
		t.Fatal(err)
	}
	restored.kept = fmt.Sprint(dump)
	for _, args := range restored.commands("RESTORE %restore 3600000 <kept>") {
		if _, err := do(t, conn, args); err != nil {
			t.Fatal(err)
		}
	}
	l.settled(20 * time.Second)
	l.holds("LRANGE %copy 0 -1", "[a,b,c]")
	l.holds("LRANGE %restore 0 -1", "[a,b,c]")
	l.holds("FCALL f1 0", "origin")
}
