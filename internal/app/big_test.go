package app_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
	"twinlog/offsets"
)

// smallEvents makes what is big in these tests small.
const smallEvents = "limits: {max_event_bytes: 16KiB, max_transaction_bytes: 24MiB}\n"

// bigKeys makes keys of all types, each as large as hundreds of events and
// with elements that are larger than one.
func bigKeys(t *testing.T, r *testkit.Redis, prefix string) {
	t.Helper()
	ctx := t.Context()
	large := strings.Repeat("large ", 10_000)
	pipe := r.Client().Pipeline()
	pipe.Set(ctx, prefix+"string", bytes.Repeat([]byte("0123456789"), 300_000), 0)
	for i := range 30_000 {
		element := fmt.Sprintf("element:%d:%s", i, strings.Repeat("x", 40))
		pipe.HSet(ctx, prefix+"hash", element, i)
		pipe.RPush(ctx, prefix+"list", element)
		pipe.SAdd(ctx, prefix+"set", element)
		pipe.ZAdd(ctx, prefix+"zset", goredis.Z{Score: float64(i) / 7, Member: element})
		pipe.XAdd(ctx, &goredis.XAddArgs{Stream: prefix + "stream", ID: fmt.Sprintf("%d-1", i+1), Values: []any{"field", element}})
	}
	pipe.HSet(ctx, prefix+"hash", "large", large)
	pipe.LPush(ctx, prefix+"list", large, large)
	pipe.SAdd(ctx, prefix+"set", large)
	pipe.ZAdd(ctx, prefix+"zset", goredis.Z{Score: -1, Member: large})
	pipe.XAdd(ctx, &goredis.XAddArgs{Stream: prefix + "stream", ID: "999999-1", Values: []any{"field", large, "other", large}})
	pipe.XGroupCreate(ctx, prefix+"stream", "group", "0")
	pipe.XReadGroup(ctx, &goredis.XReadGroupArgs{Group: "group", Consumer: "one", Streams: []string{prefix + "stream", ">"}, Count: 2000})
	pipe.XReadGroup(ctx, &goredis.XReadGroupArgs{Group: "group", Consumer: "two", Streams: []string{prefix + "stream", ">"}, Count: 1000})
	pipe.PExpireAt(ctx, prefix+"set", time.Now().Add(24*time.Hour))
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
}

// noTemporaryKeys checks that nothing is left of what a sink was building.
func (l *link) noTemporaryKeys() {
	l.t.Helper()
	for name, r := range map[string]*testkit.Redis{"a": l.a, "b": l.b} {
		for _, db := range []int{0, 9} {
			conn := r.Client().Conn()
			conn.Select(l.t.Context(), db)
			keys, err := conn.Keys(l.t.Context(), offsets.Reserved+"*:part:*").Result()
			conn.Select(l.t.Context(), 0)
			conn.Close()
			if err != nil || len(keys) > 0 {
				l.t.Errorf("db %d of site %s holds %q, error %v", db, name, keys, err)
			}
		}
	}
}

func TestBigValuesAreCopied(t *testing.T) {
	for name, directions := range map[string]string{"one-way": oneWay, "two-way": twoWay} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, linkOptions{directions: directions, extra: smallEvents})
			bigKeys(t, l.a, "")
			l.record(l.siteA())
			l.worker.Start()
			l.worker.AwaitReady(time.Minute)
			l.settled(time.Minute)
			l.noTemporaryKeys()
		})
	}
}

// bigChanges are commands that are larger than an event, and units that are
// larger than a batch.
func bigChanges(t *testing.T, r *testkit.Redis, prefix string, pass int) {
	t.Helper()
	ctx := t.Context()
	large := strings.Repeat(fmt.Sprintf("large %d ", pass), 30_000)
	c := r.Client()
	do := func(args ...any) {
		t.Helper()
		if err := c.Do(ctx, args...).Err(); err != nil {
			t.Fatalf("%s: %v", args[0], err)
		}
	}
	do("SET", prefix+"string", large)
	do("SET", prefix+"expires", large, "PX", 86_400_000)
	do("SET", prefix+"expires", large+large, "KEEPTTL")
	do("APPEND", prefix+"string", large)
	do("SETRANGE", prefix+"string", 100, large)
	do("HSET", prefix+"hash", "small", pass, large, "field", "large", large, "both"+large, large)
	do("HDEL", prefix+"hash", large)
	do("LPUSH", prefix+"list", "a", large, "b")
	do("RPUSH", prefix+"list", large, pass)
	do("LREM", prefix+"list", 1, large)
	do("SADD", prefix+"set", large, "x"+large)
	do("SREM", prefix+"set", large)
	do("ZADD", prefix+"zset", pass, large)
	do("XADD", prefix+"stream", "*", "field", large)
	sets := []any{"SUNIONSTORE", prefix + "union", prefix + "set:0"}
	for i := range 3000 {
		sets = append(sets, fmt.Sprintf("%sset:%d", prefix, i))
	}
	do("SADD", prefix+"set:17", pass)
	do("SADD", prefix+"set:2900", pass, "x")
	do(sets...)
	many := []any{"RPUSH", prefix + "many"}
	pairs := []any{"MSET"}
	for i := range 10_000 {
		many = append(many, fmt.Sprintf("%d:%d", pass, i))
		pairs = append(pairs, fmt.Sprintf("%spair:%d", prefix, i), pass)
	}
	do(many...)
	do(pairs...)
	do("EVAL", "for i = 1, 20000 do redis.call('SET', KEYS[1] .. i, ARGV[1]) end return 1", 1, prefix+"script:", pass)
	_, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		p.Incr(ctx, prefix+"counter")
		p.Set(ctx, prefix+"one", large, 0)
		p.Append(ctx, prefix+"two", large)
		p.Append(ctx, prefix+"one", "end")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBigChangesAreApplied(t *testing.T) {
	l := newLink(t, linkOptions{extra: smallEvents, argsA: wideBacklog(), argsB: wideBacklog()})
	l.start()
	for pass := range 2 {
		bigChanges(t, l.a, "a:", pass)
		bigChanges(t, l.b, "b:", pass)
	}
	l.settled(time.Minute)
	l.noTemporaryKeys()
}

func TestCrashInTheMiddleOfBigValues(t *testing.T) {
	random := rand.New(rand.NewPCG(seedOf(t), 0))
	l := newLink(t, linkOptions{extra: smallEvents, argsA: wideBacklog(), argsB: wideBacklog()})
	bigKeys(t, l.a, "")
	l.record(l.siteA(), l.siteB())
	l.dies("part-applied", 1)
	l.dies("part-applied", 2+random.IntN(10))
	l.dies("snapshot-event", 20+random.IntN(500))
	l.dies("part-applied", 2+random.IntN(10))
	l.dies("parts-built", 1+random.IntN(3))
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true})
	for pass := range 4 {
		l.worker.Kill()
		bigChanges(t, l.a, "a:", pass)
		bigChanges(t, l.b, "b:", pass)
		l.dies([]string{"part-applied", "parts-built", "produced"}[random.IntN(3)], 1+random.IntN(3))
		l.worker.Start()
		<-time.After(time.Duration(500+random.IntN(1500)) * time.Millisecond) // anywhere, which nothing outside can follow
	}
	l.settled(time.Minute)
	l.noTemporaryKeys()
}

// The mark goes with the temporary key in the first case, and stays in the
// others.
func TestTemporaryKeyIsTakenAwayInTheMiddle(t *testing.T) {
	for name, take := range map[string]func(l *link) error{
		"FLUSHALL": func(l *link) error { return l.b.Client().FlushAll(l.t.Context()).Err() },
		"SWAPDB":   func(l *link) error { return l.b.Client().Do(l.t.Context(), "SWAPDB", 0, 9).Err() },
		"eviction": func(l *link) error {
			return l.b.Client().Del(l.t.Context(), offsets.PartKey(linkName, "a-to-b", "0", 0)).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, linkOptions{directions: oneWay, extra: "limits: {max_event_bytes: 4KiB}\n"})
			bigKeys(t, l.a, "")
			l.worker.Start()
			testkit.Eventually(t, time.Minute, func() error {
				n, err := l.b.Client().Exists(t.Context(), offsets.PartKey(linkName, "a-to-b", "0", 0)).Result()
				if err == nil && n == 0 {
					err = fmt.Errorf("nothing is being built")
				}
				return err
			})
			if err := take(l); err != nil {
				t.Fatal(err)
			}
			l.worker.AwaitReady(time.Minute)
			logged(t, l.worker, "applying interrupted, going on from the mark", 1)
			testkit.Eventually(t, time.Minute, func() error {
				behind, err := readMetric(l.worker, "twinlog_sink_lag_events", "")
				if err == nil && behind != 0 {
					err = fmt.Errorf("%v events behind", behind)
				}
				return err
			})
			l.noTemporaryKeys()
			for _, key := range []string{"string", "hash", "list", "set", "zset", "stream"} {
				at, want := length(t, l.b, key), length(t, l.a, key)
				if at != 0 && at != want { // a flush takes what was in its place already
					t.Errorf("%s has %d elements at b, %d at a", key, at, want)
				}
			}
		})
	}
}

func length(t *testing.T, r *testkit.Redis, key string) int64 {
	t.Helper()
	command := map[string]string{"string": "STRLEN", "hash": "HLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD", "stream": "XLEN"}[key]
	n, err := r.Client().Do(t.Context(), command, key).Int64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Both sites change the same keys, which are so large that home reads them in
// parts; the worker is killed between the parts, too.
func TestBigValuesInConflictEndEqual(t *testing.T) {
	l := newLink(t, linkOptions{extra: "limits: {max_event_bytes: 16KiB, max_transaction_bytes: 192KiB}\n", argsA: wideBacklog(), argsB: wideBacklog()})
	for i := range 8000 {
		element := fmt.Sprintf("element:%d:%s", i, strings.Repeat("x", 40))
		if err := errors.Join(l.a.Client().HSet(t.Context(), "hash", element, i).Err(), l.a.Client().RPush(t.Context(), "list", element).Err(),
			l.a.Client().Append(t.Context(), "string", element).Err(), l.a.Client().ZAdd(t.Context(), "zset", goredis.Z{Score: float64(i), Member: element}).Err()); err != nil {
			t.Fatal(err)
		}
	}
	l.start()
	l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
	conflict := func(pass int) {
		for name, r := range map[string]*testkit.Redis{"a": l.a, "b": l.b} {
			c, ctx := r.Client(), t.Context()
			if err := errors.Join(c.HSet(ctx, "hash", "both", name+fmt.Sprint(pass)).Err(), c.LSet(ctx, "list", 7, name+fmt.Sprint(pass)).Err(),
				c.SetRange(ctx, "string", 1000, name).Err(), c.ZAdd(ctx, "zset", goredis.Z{Score: float64(pass) + float64(name[0]), Member: "both"}).Err()); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.pause("sink-a")
	l.pause("sink-b")
	conflict(0)
	l.resume("sink-a")
	l.resume("sink-b")
	logged(t, l.worker, "read a big value in parts", 4)
	for pass, point := range []string{"big-value-begun", "big-value-read", "part-applied", "parts-built"} {
		l.worker.Kill()
		conflict(1 + pass)
		l.dies(point, 1+pass%2)
		l.worker.Start()
		l.worker.AwaitReady(time.Minute)
	}
	l.settled(time.Minute)
	l.noTemporaryKeys()
}
