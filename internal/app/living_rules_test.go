package app_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/admin"
	"twinlog/internal/kafka"
	"twinlog/internal/testkit"
	"twinlog/schema"
)

// While the source of a site does not run, what must know what was written
// there waits, and the status says so.
func TestRemovalsWaitForTheSourceOfTheirSite(t *testing.T) {
	l, _ := newLivingLink(t, living{})
	l.run()
	client(t, l.a, "MSET k 1 j 1")
	l.caughtUp()
	l.steer("source-b", "stop")
	client(t, l.a, "DEL k")
	client(t, l.b, "SET j 2")
	testkit.Eventually(t, time.Minute, func() error {
		st, err := status(l.worker)
		if err == nil && !strings.Contains(st.Directions[0].Reason, "a removal has to know what was written here") {
			err = fmt.Errorf("%s gives the reason %q", st.Directions[0].Name, st.Directions[0].Reason)
		}
		return err
	})
	if n := l.there(l.b, []string{"k"}); n != 1 {
		t.Error("the removal did not wait")
	}
	l.steer("source-b", "resume")
	l.endEqual(grace)
	l.holds("EXISTS k", "0")
	l.holds("GET j", "2")
}

// An expiry is one deletion on the whole link: the site where the key was
// written decides, the copy waits for it.
func TestAnExpiryIsPublishedOnce(t *testing.T) {
	const many = 300
	l, _ := newLivingLink(t, living{})
	l.run()
	keys := slices.Concat(keysOf("a", many), keysOf("b", many))
	l.set(l.a, keys[:many], "v", 600*time.Millisecond)
	l.set(l.b, keys[many:], "v", 600*time.Millisecond)
	testkit.Eventually(t, endTime, func() error {
		if n := l.there(l.a, keys) + l.there(l.b, keys); n > 0 {
			return fmt.Errorf("%d keys are left", n)
		}
		return nil
	})
	l.caughtUp()
	for _, direction := range []string{"a-to-b", "b-to-a"} {
		if n := l.countEvents(direction, schema.OpDelete); n != many {
			t.Errorf("%d deletions in %s, want %d", n, direction, many)
		}
	}
}

// countEvents counts the committed events of a kind in a direction's topic.
func (l *link) countEvents(direction string, op schema.Op) (n int) {
	l.t.Helper()
	topic := linkName + "." + direction
	tail, err := kafka.ReadTail(l.t.Context(), []kgo.Opt{kgo.SeedBrokers(l.kafka.Brokers()...)}, topic, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(l.kafka.Brokers()...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}),
	)
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			l.t.Fatal(err)
		}
		for r := range fetches.RecordsAll() {
			if slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == schema.HeaderOp && string(h.Value) == string(op) }) {
				n++
			}
			if r.Offset >= tail.End-1 {
				return n
			}
		}
	}
}

// What SORT leaves behind depends on more than its arguments: on a two-way
// link the value follows.
func TestSortedResultsFollowAsValues(t *testing.T) {
	l, _ := newLivingLink(t, living{})
	l.run()
	for _, r := range []*testkit.Redis{l.a, l.b} {
		client(t, r, "DEL s w_1 w_2 w_3 d")
		l.endEqual(grace)
		client(t, r, "SADD s x y z 1 2 3 ; MSET w_1 9 w_2 1 w_3 9 ; SORT s BY w_* ALPHA STORE d")
		l.endEqual(grace)
	}
	if n := l.countEvents("a-to-b", schema.OpValue) + l.countEvents("b-to-a", schema.OpValue); n < 2 {
		t.Errorf("%d values were published", n)
	}
}

// SWAPDB while the other site writes there cannot be exact; it is made equal
// for the keys that were written, and named.
func TestSwapDBAgainstWritesIsNamed(t *testing.T) {
	for _, swapping := range []string{"a", "b"} {
		t.Run(swapping, func(t *testing.T) {
			l, _ := newLivingLink(t, living{})
			l.run()
			client(t, l.a, "MSET k 1 j 1 ; SELECT 1 ; MSET k 2 i 2")
			l.endEqual(grace)
			swaps, writes := l.a, l.b
			if swapping == "b" {
				swaps, writes = l.b, l.a
			}
			l.pauseBoth()
			client(t, swaps, "SWAPDB 0 1")
			client(t, writes, "SET k 3 ; INCR n")
			l.resumeBoth()
			l.endEqual(grace)
			st, err := status(l.worker)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(st.Conflicts, func(c admin.Conflict) bool { return c.Rule == admin.RuleSwap && strings.Contains(c.Won, "not exact") }) {
				t.Errorf("no SWAPDB among the conflicts %+v", st.Conflicts)
			}
		})
	}
}

// A value in conflict that is larger than an event comes in parts, at once.
func TestBigValuesInConflictComeInParts(t *testing.T) {
	l, _ := newLivingLink(t, living{linkOptions: linkOptions{extra: "limits: {max_event_bytes: 16KiB}\n"}})
	l.run()
	pipe := l.a.Client().Pipeline()
	pipe.SetRange(t.Context(), "string", 100_000, "x")
	for i := range 20_000 {
		pipe.RPush(t.Context(), "list", i)
		pipe.SAdd(t.Context(), "set", i)
		pipe.HSet(t.Context(), "hash", i, i)
		pipe.Do(t.Context(), "ZADD", "zset", i, i)
		pipe.Do(t.Context(), "XADD", "stream", fmt.Sprintf("%d-1", i+1), "f", i)
	}
	pipe.Do(t.Context(), "XGROUP", "CREATE", "stream", "g", "0")
	pipe.Do(t.Context(), "XREADGROUP", "GROUP", "g", "c", "COUNT", 3000, "STREAMS", "stream", ">")
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.endEqual(grace)
	l.pauseBoth()
	client(t, l.a, "APPEND string a ; RPUSH list a ; SADD set a ; HSET hash 1 a ; ZADD zset 7 1 ; XADD stream * f a ; PEXPIRE hash 3600000")
	client(t, l.b, "SETRANGE string 5 b ; LPUSH list b ; SREM set 5 ; HSET hash 1 b ; ZADD zset 8 1 ; XACK stream g 1-1")
	l.resumeBoth()
	l.endEqual(grace)
	l.holds("HGET hash 1", "b")
	l.holds("ZSCORE zset 1", "8")
}

// Killed at any point of settling a conflict, the worker settles it after.
func TestCrashWhileConflictsAreSettled(t *testing.T) {
	l, _ := newLivingLink(t, living{linkOptions: linkOptions{argsA: wideBacklog(), argsB: wideBacklog()}})
	l.run()
	for i, point := range []string{"decided:1", "exec-sent:2", "applied:1", "applied:3", "values-read:1", "barrier-met:1", "produced:1", "commit-sent:1", "committed:2", "position-read:2"} {
		t.Run(point, func(t *testing.T) {
			prefix := fmt.Sprintf("p%d", i)
			client(t, l.a, strings.ReplaceAll("MSET %a 1 %b 1 ; SADD %s x y ; HSET %h f 1 ; RPUSH %l x y", "%", prefix))
			l.endEqual(grace)
			l.pauseBoth()
			client(t, l.a, strings.ReplaceAll("SET %a 2 ; INCR %b ; SREM %s x ; HSET %h f 2 ; RENAME %l %m ; DEL %c", "%", prefix))
			client(t, l.b, strings.ReplaceAll("DEL %a ; INCR %b ; SADD %s x z ; HDEL %h f ; RPUSH %l z ; SET %c 1", "%", prefix))
			l.worker.Kill()
			name, n, _ := strings.Cut(point, ":")
			l.worker.Start(testkit.Failpoint(name, number(n)))
			ctx, cancel := context.WithTimeout(t.Context(), endTime)
			defer cancel()
			if code, err := l.worker.Wait(ctx); err != nil || code != -1 {
				t.Fatalf("the worker did not die at %s: %d, %v", point, code, err)
			}
			l.run()
			l.endEqual(grace)
			l.holds("MGET "+prefix+"a "+prefix+"b "+prefix+"c", "[2,3,1]")
		})
	}
}
