package app_test

import (
	"fmt"
	"strings"
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

// restores restores copies of what bigKeys made, some of them together.
func restores(t *testing.T, r *testkit.Redis, from, to string) {
	t.Helper()
	ctx := t.Context()
	_, err := r.Client().TxPipelined(ctx, func(pipe goredis.Pipeliner) error {
		for _, name := range []string{"string", "hash", "list", "set", "zset", "stream"} {
			payload, err := r.Client().Dump(ctx, from+name).Result()
			if err != nil {
				return err
			}
			pipe.RestoreReplace(ctx, to+name, 24*time.Hour, payload)
		}
		pipe.HSet(ctx, to+"hash", "behind", 1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	small := strings.Repeat("compressed", 10_000) // its payload is small
	if err := r.Client().Set(ctx, from+"small", small, 0).Err(); err != nil {
		t.Fatal(err)
	}
	payload := r.Client().Dump(ctx, from+"small").Val()
	if err := r.Client().RestoreReplace(ctx, to+"small", 0, payload).Err(); err != nil {
		t.Fatal(err)
	}
}

// Whatever a RESTORE brings arrives, at a target of any version.
func TestARESTOREOfLargeValuesArrives(t *testing.T) {
	for name, o := range map[string]linkOptions{
		"to an older version": {directions: oneWay, serverA: testkit.Redis82, serverB: testkit.Redis70},
		"two-way":             {directions: twoWay},
	} {
		t.Run(name, func(t *testing.T) {
			o.extra, o.argsA, o.argsB = smallEvents, wideBacklog(), wideBacklog()
			l := newLink(t, o)
			bigKeys(t, l.a, "from:")
			l.run()
			restores(t, l.a, "from:", "to:")
			l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true})
			restores(t, l.a, "from:", "to:") // over what is there
			l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true})
			l.holds("HGET to:hash behind", "1")
			l.noTemporaryKeys()
		})
	}
}
