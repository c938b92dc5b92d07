package app_test

import (
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
)

// ofManyKeys runs commands that no event can carry, alone and in MULTI, and
// writes to what they made.
func ofManyKeys(t *testing.T, r *testkit.Redis, prefix string, pass int) {
	t.Helper()
	ctx := t.Context()
	_, err := r.Client().TxPipelined(ctx, func(pipe goredis.Pipeliner) error {
		for _, command := range []string{"ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"} {
			args := []any{command, prefix + command, 3000}
			for i := range 3000 {
				args = append(args, fmt.Sprintf("%szset:%d", prefix, i))
			}
			pipe.Do(ctx, args...)
		}
		pipe.ZAdd(ctx, prefix+"ZUNIONSTORE", goredis.Z{Score: 1, Member: fmt.Sprintf("behind %d", pass)})
		pipe.Incr(ctx, prefix+"counter")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	client(t, r, fmt.Sprintf("ZADD %%%[1]szset:%[2]d 1 x 2 y ; SADD %%%[1]sset <1..200> a b c %[2]d ; SORT %%%[1]sset BY %%none_* ALPHA STORE %%%[1]ssorted ; RPUSH %%%[1]ssorted behind ; INCR %%%[1]scounter", prefix, pass))
}

// What a command leaves that no event can carry, or that means something else
// at another server, comes as a value, once, wherever the worker is killed.
func TestWhatCannotBeCarriedComesAsAValue(t *testing.T) {
	for name, directions := range map[string]string{"one-way": oneWay, "two-way": twoWay} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, linkOptions{directions: directions, extra: smallEvents, argsA: wideBacklog(), argsB: wideBacklog()})
			l.run()
			for pass, point := range []string{"values-read", "barrier-met", "commit-sent"} {
				ofManyKeys(t, l.a, "a:", pass)
				l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
				l.worker.Kill()
				ofManyKeys(t, l.a, "a:", 10+pass)
				if directions == twoWay {
					ofManyKeys(t, l.b, "b:", pass)
				}
				l.dies(point, 1)
				l.run()
			}
			l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
			l.holds("GET a:counter", "12")
		})
	}
}
