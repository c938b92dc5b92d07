package app_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/scope"
	"twinlog/internal/testkit"
)

// databasesAt are clients of the first databases of a Redis.
func databasesAt(t testing.TB, r *testkit.Redis) []*goredis.Client {
	t.Helper()
	var all []*goredis.Client
	for db := range 6 {
		c := goredis.NewClient(&goredis.Options{Addr: r.Addr(), DB: db})
		t.Cleanup(func() { c.Close() })
		all = append(all, c)
	}
	return all
}

// runLine runs a command, given in words, and ends the test unless it succeeds.
func runLine(t testing.TB, c *goredis.Client, line string) {
	t.Helper()
	if err := c.Do(t.Context(), lineOf(line)...).Err(); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
}

func lineOf(line string) []any {
	var all []any
	for w := range strings.FieldsSeq(line) {
		all = append(all, w)
	}
	return all
}

// inScope waits until b holds what is in scope of a, and as it is there.
func (l *link) inScope(s scope.Scope) {
	l.t.Helper()
	l.a.Equal(l.b, 30*time.Second, testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true, Scope: s})
}

// dump tells every key of some databases, to show that nothing touched them.
func dump(t testing.TB, at []*goredis.Client, matches func(db int, key string) bool) map[string]string {
	t.Helper()
	found := map[string]string{}
	for db, c := range at {
		keys, err := c.Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if strings.HasPrefix(k, "__twinlog:") || !matches(db, k) {
				continue
			}
			v, err := c.Dump(t.Context(), k).Result()
			if err != nil {
				t.Fatal(err)
			}
			found[fmt.Sprintf("%d %s", db, k)] = v
		}
	}
	return found
}

// noStrays checks that all reserved keys are in database 0.
func noStrays(t testing.TB, at []*goredis.Client) {
	t.Helper()
	for db, c := range at[1:] {
		if keys, err := c.Keys(t.Context(), "__twinlog:*").Result(); err != nil || len(keys) > 0 {
			t.Errorf("db %d holds %q, error %v", db+1, keys, err)
		}
	}
}

// scoped is a scope in both languages: of the configuration and of a test.
type scoped struct {
	yaml  string
	scope scope.Scope
}

var (
	subset = scoped{"databases: [0, 2], databases_map: {0: 3}", scope.Scope{Databases: []int32{0, 2}, Map: map[int32]int32{0: 3}}}
	keyed  = scoped{`databases: [0, 2], include: ["in:*", "also?"], exclude: ["in:tmp:*"]`, scope.Scope{Databases: []int32{0, 2}, Include: []string{"in:*", "also?"}, Exclude: []string{"in:tmp:*"}}}
)

// Every way in which a command meets the border of a scope, one after
// another, each time with a worker that is killed and started in between.
func TestScopeCarriesWhatIsInItAndNothingElse(t *testing.T) {
	// Database, command; in:* and db 0, 2 are in scope, db 1 never is.
	rows := []string{
		"0 SET in:k 1 EX 3600", "0 SET out:k 2 EX 3600", "1 SET in:k 3", "2 SET in:k 4", "0 SET also1 5", "0 SET in:tmp:x 6",
		"0 MSET in:m1 1 out:m1 2 in:m2 3 out:m2 4",
		"0 RENAME in:k out:r", "0 RENAME out:r in:r", "0 RENAME in:r in:r2", "0 RENAME out:k out:k2",
		"0 MOVE in:r2 1", "1 MOVE in:r2 0", "0 MOVE in:r2 2", "2 MOVE in:r2 1", "1 MOVE in:r2 2",
		"0 SADD in:s a b", "0 SADD out:s b c", "0 SADD in:s2 z",
		"0 SUNIONSTORE in:u in:s in:s2", "0 SUNIONSTORE in:v in:s out:s", "0 SADD in:v later", "0 SUNIONSTORE out:v in:s in:s2", "0 SINTERSTORE in:w in:v in:s",
		"0 COPY in:u out:c", "0 COPY out:c in:c", "0 COPY in:c in:d DB 2", "0 COPY in:c in:d DB 1", "1 COPY in:d in:e DB 0",
		"0 RPUSH in:l 1 2 3", "0 RPUSH out:l 4 5 6", "0 LMOVE in:l out:l LEFT RIGHT", "0 LMOVE out:l in:l LEFT RIGHT", "0 SMOVE in:s out:s a",
		"0 SORT out:l ALPHA STORE in:sorted", "0 SORT in:l ALPHA STORE in:sorted2", "0 ZADD in:z 1 a 2 b", "0 ZADD out:z 3 c", "0 ZUNIONSTORE in:zz 2 in:z out:z",
		"0 XADD in:x 1-1 f v", "0 PFADD in:h 1 2", "0 PFADD out:h 3", "0 PFMERGE in:h out:h", "0 HSET in:hash f v g w",
		"1 FLUSHDB", "2 SET in:flush 1", "2 SET out:flush 1", "2 FLUSHDB", "2 SET in:after 1",
		"1 SET in:swapped 1 EX 3600", "1 RPUSH in:sl a b", "2 SET in:gone 1", "0 SWAPDB 2 1", "2 APPEND in:swapped 2", "2 SET in:more 1", "0 SWAPDB 0 2", "0 SWAPDB 4 5", "0 APPEND in:swapped 3",
		"0 FLUSHALL", "0 SET in:end 1", "2 SET in:end 2 EX 3600",
	}
	for name, s := range map[string]scoped{"databases": subset, "keys": keyed} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog(), directions: "  - {from: a, to: b, existing: ignore, " + s.yaml + "}\n"})
			at, target := databasesAt(t, l.a), databasesAt(t, l.b)
			runLine(t, at[0], "SET in:before 1 EX 3600")
			runLine(t, at[0], "SET out:before 1")
			runLine(t, at[1], "SET in:before 1")
			there := s.scope.AtTarget()
			outside := func(db int, key string) bool { return !there.HasKey(int32(db), []byte(key)) }
			for db, c := range target {
				if outside(db, "in:mine") {
					runLine(t, c, "SET in:mine 1")
				}
				if outside(db, "out:mine") {
					runLine(t, c, "SET out:mine 1")
				}
			}
			mine := dump(t, target, outside)
			if len(mine) == 0 {
				t.Fatal("nothing lies outside")
			}
			l.run()
			l.inScope(s.scope)
			for i, row := range rows {
				db, line, _ := strings.Cut(row, " ")
				runLine(t, at[int(db[0]-'0')], line)
				if i%7 == 3 {
					l.worker.Kill()
					l.worker.Start()
				}
				if i%3 == 0 { // else several at once
					l.worker.AwaitReady(time.Minute)
					l.inScope(s.scope)
					if now := dump(t, target, outside); !maps.Equal(now, mine) {
						t.Fatalf("after %s the target holds out of scope\n%q, want\n%q", row, now, mine)
					}
				}
			}
			l.inScope(s.scope)
			if now := dump(t, target, outside); !maps.Equal(now, mine) {
				t.Fatalf("the target holds out of scope\n%q, want\n%q", now, mine)
			}
			noStrays(t, target)
		})
	}
}

// borderLine is one of many commands that may meet the border of a scope. N is
// a number, K a key and D a database.
func borderLine(r *rand.Rand) string {
	lines := []string{
		"SET K N EX 3600", "DEL K", "MSET K N K N K N", "RENAME K K", "MOVE K D", "COPY K K DB D REPLACE", "COPY K K REPLACE",
		"SADD K N N", "SADD K N N", "SUNIONSTORE K K K", "SMOVE K K N", "RPUSH K N N", "LMOVE K K LEFT RIGHT", "SORT K BY nosort STORE K",
		"EXPIRE K 3600", "INCR K", "APPEND K N", "PERSIST K", "SPOP K", "SINTERSTORE K K K",
	}
	line := lines[r.IntN(len(lines))]
	if r.IntN(80) == 0 {
		line = []string{"SWAPDB 0 1", "SWAPDB 0 2", "SWAPDB 1 2", "FLUSHDB", "FLUSHALL"}[r.IntN(5)]
	}
	all := strings.Fields(line)
	for i, w := range all {
		switch w {
		case "K":
			all[i] = []string{"in:", "out:", "in:tmp:", "also"}[r.IntN(4)] + string(rune('a'+r.IntN(3)))
		case "N":
			all[i] = strconv.Itoa(r.IntN(20))
		case "D":
			all[i] = strconv.Itoa(r.IntN(3))
		}
	}
	return strings.Join(all, " ")
}

// writeAtBorder sends n such commands to the first databases of a Redis, some of them
// together in a MULTI. Many have no effect: the key is missing, or of another
// type.
func writeAtBorder(t testing.TB, at []*goredis.Client, r *rand.Rand, n int) {
	t.Helper()
	for range n {
		pipe := at[r.IntN(3)].Pipeline()
		if r.IntN(4) == 0 {
			pipe = at[r.IntN(3)].TxPipeline()
		}
		for range 1 + r.IntN(4) {
			pipe.Do(t.Context(), lineOf(borderLine(r))...)
		}
		_, err := pipe.Exec(t.Context())
		var refused goredis.Error
		if err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
	}
}

func TestScopeHoldsUnderRandomCommandsAndKills(t *testing.T) {
	for name, s := range map[string]scoped{"databases": subset, "keys": keyed} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog(), directions: "  - {from: a, to: b, " + s.yaml + "}\n"})
			seed := seedOf(t)
			at, r := databasesAt(t, l.a), rand.New(rand.NewPCG(seed, 1))
			writeAtBorder(t, at, r, 100)
			l.run()
			for range numberOf(t, "TWINLOG_SCOPE_ROUNDS", 6) {
				writeAtBorder(t, at, r, 200)
				l.worker.Kill()
				writeAtBorder(t, at, r, 50)
				l.worker.Start()
				writeAtBorder(t, at, r, 100)
				l.worker.AwaitReady(time.Minute)
				l.inScope(s.scope)
			}
		})
	}
}

// Both sites write the same keys, in databases with different numbers.
func TestScopeOfTwoWayLinkEndsEqual(t *testing.T) {
	for name, s := range map[string]scoped{"databases": subset, "keys": keyed} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog(), directions: "  - {from: a, to: b, existing: ignore, " + s.yaml + "}\n  - {from: b, to: a, snapshot: no_data}\n"})
			seed := seedOf(t)
			at, there := databasesAt(t, l.a), databasesAt(t, l.b)
			if s.scope.Maps() { // the same numbers as at a
				there[0], there[3] = there[3], there[0]
			}
			ra, rb := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			l.run()
			t.Cleanup(l.tell)
			for range numberOf(t, "TWINLOG_SCOPE_ROUNDS", 4) {
				for range 10 {
					writeAtBorder(t, at, ra, 20)
					writeAtBorder(t, there, rb, 20)
				}
				l.worker.Kill()
				writeAtBorder(t, at, ra, 20)
				writeAtBorder(t, there, rb, 20)
				l.run()
				l.inScope(s.scope)
			}
		})
	}
}

// A scope that grows would bring keys that were never copied: the source stops
// and says so, also after a kill.
func TestScopeThatChangesStopsTheSource(t *testing.T) {
	l := newLink(t, linkOptions{argsA: wideBacklog(), directions: "  - {from: a, to: b, databases: [1]}\n"})
	at := databasesAt(t, l.a)
	runLine(t, at[0], "SET k 1")
	runLine(t, at[1], "SET k 1")
	l.run()
	l.inScope(scope.Scope{Databases: []int32{1}})
	l.worker.Kill()
	wider := testkit.NewProcess(t, strings.Replace(l.config, "databases: [1]", "databases: [0, 1]", 1))
	wider.Start()
	testkit.Eventually(t, time.Minute, func() error {
		st, err := status(wider)
		if err != nil {
			return err
		}
		if d := st.Directions[0]; d.Source.State != "FAILED" || !strings.Contains(d.Source.Trace, "has another scope") {
			return fmt.Errorf("the source is %s: %s", d.Source.State, d.Source.Trace)
		}
		return nil
	})
	wider.Kill()
	l.worker.Start()
	runLine(t, at[1], "SET j 1")
	l.inScope(scope.Scope{Databases: []int32{1}})
}

// A worker that dies between what is due and its value, or inside the copy of
// a database that was swapped into the scope, does it when it starts again.
func TestScopeCrashBetweenWhatIsDueAndItsValue(t *testing.T) {
	l := newLink(t, linkOptions{argsA: wideBacklog(), directions: "  - {from: a, to: b, " + keyed.yaml + "}\n"})
	at := databasesAt(t, l.a)
	l.run()
	for i, p := range []struct {
		point string
		pass  int
	}{{"values-read", 1}, {"barrier-met", 1}, {"commit-sent", 1}, {"rescan-event", 1}, {"rescan-event", 15}, {"commit-sent", 2}} {
		l.inScope(keyed.scope)
		l.worker.Kill()
		runLine(t, at[0], "SADD out:s a b EX")
		runLine(t, at[0], "SADD in:s c")
		runLine(t, at[0], "SUNIONSTORE in:u in:s out:s")
		runLine(t, at[0], "SADD in:u later")
		runLine(t, at[0], "SET out:k 1 EX 3600")
		runLine(t, at[0], "RENAME out:k in:k")
		if i > 2 {
			for n := range 20 {
				runLine(t, at[1], fmt.Sprintf("SET in:%d:%d 1 EX 3600", i, n))
			}
			runLine(t, at[0], "SWAPDB 1 2")
			runLine(t, at[2], "SET in:behind 1")
			runLine(t, at[0], "DEL in:s")
		}
		l.dies(p.point, p.pass)
		runLine(t, at[0], "APPEND in:k 2")
		runLine(t, at[2], "SADD in:more 1 2")
		l.run()
	}
	l.inScope(keyed.scope)
}

// Both sites write the link's scope, and site b everything besides: emptying
// it leaves that alone, and so does a snapshot behind a gap.
func TestScopeOfAResyncAndOfAGapLeavesTheRestAlone(t *testing.T) {
	for name, s := range map[string]scoped{"databases": subset, "keys": keyed} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, linkOptions{argsA: forgetful(), argsB: wideBacklog(), directions: "  - {from: a, to: b, existing: ignore, " + s.yaml + "}\n  - {from: b, to: a, snapshot: no_data}\n"})
			at, there := databasesAt(t, l.a), databasesAt(t, l.b)
			outside := func(db int, key string) bool {
				target := s.scope.AtTarget()
				return !target.HasKey(int32(db), []byte(key))
			}
			strangers := func() map[string]string { // all that is not in scope, and its keys in scope go
				for i, c := range there {
					for _, key := range []string{"in:rubbish", "out:rubbish", "in:tmp:rubbish"} {
						if outside(i, key) {
							runLine(t, c, "SET "+key+" 1 EX 36000")
						}
					}
				}
				return dump(t, there, outside)
			}
			l.run()
			runLine(t, at[0], "MSET in:a 1 in:b 2 out:c 3")
			runLine(t, at[2], "SADD in:s 1 2 3")
			l.inScope(s.scope)

			empties(t, l.b)
			l.failed("source-b")
			testkit.Eventually(t, time.Minute, func() error { return l.allFailed() })
			rest := strangers()
			inScope := there[s.scope.To(0)]
			runLine(t, inScope, "SET in:rubbish 1")
			runLine(t, at[0], "SET in:meanwhile 1")
			l.twinlog("resync", "--site", "b")
			l.worker.AwaitReady(time.Minute)
			l.inScope(s.scope)
			if n := inScope.Exists(t.Context(), "in:rubbish").Val(); n != 0 {
				t.Error("what site b held in scope was not removed")
			}
			if n := inScope.Exists(t.Context(), "in:a", "in:meanwhile").Val(); n != 2 {
				t.Errorf("%d of 2 keys have come", n)
			}
			if now := dump(t, there, outside); !maps.Equal(now, rest) {
				t.Errorf("resync left of what is not in scope\n%q, want\n%q", now, rest)
			}

			runLine(t, inScope, "SET in:own 1")
			l.inScope(s.scope)
			rest = strangers()
			l.worker.Kill()
			runLine(t, at[0], "SET in:gap "+strings.Repeat("x", 50_000))
			runLine(t, at[0], "DEL in:a in:own")
			l.run()
			l.inScope(s.scope)
			if n := inScope.Exists(t.Context(), "in:a", "in:own").Val(); n != 0 {
				t.Errorf("%d of 2 keys that were deleted in the gap are there", n)
			}
			if now := dump(t, there, outside); !maps.Equal(now, rest) {
				t.Errorf("the snapshot behind the gap left of what is not in scope\n%q, want\n%q", now, rest)
			}
		})
	}
}
