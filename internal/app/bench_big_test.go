package app_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
	"twinlog/offsets"
)

// A big is one key, or one unit, of the sizes that occur in the wild.
type big struct {
	name   string
	before bool    // it is there before the first start, so it comes in the snapshot
	extra  string  // YAML
	most   float64 // MiB that the worker may have resident
	make   func(b *testing.B, r *testkit.Redis)
	keys   []string
}

var bigs = []big{
	{"hash_of_5M_fields", true, "", 256, fillScript("for i = %d, %d do redis.call('HSET', 'big', 'field:' .. i, i) end", 5_000_000), []string{"big"}},
	{"list_of_10M_elements", true, "", 256, fillScript("for i = %d, %d do redis.call('RPUSH', 'big', 'element:' .. i) end", 10_000_000), []string{"big"}},
	{"sorted_set_of_3M_members", true, "", 256, fillScript("for i = %d, %d do redis.call('ZADD', 'big', i / 3, 'member:' .. i) end", 3_000_000), []string{"big"}},
	{"set_of_3M_members", true, "", 256, fillScript("for i = %d, %d do redis.call('SADD', 'big', 'member:' .. i) end", 3_000_000), []string{"big"}},
	{"stream_of_3M_entries", true, "", 256, fillScript("for i = %d, %d do redis.call('XADD', 'big', i .. '-1', 'field', i) end", 3_000_000), []string{"big"}},
	{"string_of_300_MB_in_the_snapshot", true, "", 256, setBig, []string{"big"}},
	{"string_of_300_MB_in_the_stream", false, "limits: {memory: 1GiB, max_transaction_bytes: 310MiB}\n", 1024, setBig, []string{"big"}},
	{"MSET_of_100k_pairs", false, "", 256, msetBig, []string{"k:1", "k:100000"}},
	{"script_that_writes_200k_keys", false, "", 256, setMany(200_000), []string{"k:1", "k:200000"}},
	{"script_that_writes_900k_keys", false, "", 350, setMany(900_000), []string{"k:1", "k:900000"}}, // 32 MiB of the smallest commands
}

func setBig(b *testing.B, r *testkit.Redis) {
	value := make([]byte, 300_000_000)
	random := rand.NewChaCha8([32]byte{})
	for i := 0; i < len(value); i += 8 {
		binary.LittleEndian.PutUint64(value[i:], random.Uint64())
	}
	if err := r.Client().WithTimeout(time.Minute).Set(b.Context(), "big", value, 0).Err(); err != nil {
		b.Fatal(err)
	}
}

func setMany(keys int) func(*testing.B, *testkit.Redis) {
	return func(b *testing.B, r *testkit.Redis) {
		script := fmt.Sprintf("for i = 1, %d do redis.call('SET', 'k:' .. i, i %% 10) end return 1", keys)
		if err := r.Client().WithTimeout(time.Minute).Eval(b.Context(), script, []string{"k"}).Err(); err != nil {
			b.Fatal(err)
		}
	}
}

func msetBig(b *testing.B, r *testkit.Redis) {
	var pairs []any
	for i := range 100_000 {
		pairs = append(pairs, fmt.Sprint("k:", i+1), fmt.Sprint("value:", i))
	}
	if err := r.Client().MSet(b.Context(), pairs...).Err(); err != nil {
		b.Fatal(err)
	}
}

// fillScript runs a loop in steps that block the server for a moment only.
func fillScript(loop string, n int) func(*testing.B, *testkit.Redis) {
	return func(b *testing.B, r *testkit.Redis) {
		const step = 100_000
		for from := 0; from < n; from += step {
			if err := r.Client().WithTimeout(time.Minute).Eval(b.Context(), fmt.Sprintf(loop+" return 1", from+1, from+step), []string{"big"}).Err(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkBig carries big keys and units and measures what they take.
func BenchmarkBig(b *testing.B) {
	for _, big := range bigs {
		b.Run(big.name, func(b *testing.B) {
			for way, directions := range map[string]string{"one-way": oneWay, "two-way": twoWay} {
				b.Run(way, func(b *testing.B) {
					for range b.N {
						benchmarkBig(b, big, directions)
					}
				})
			}
		})
	}
}

func benchmarkBig(b *testing.B, big big, directions string) {
	args := []string{
		"--enable-debug-command", "yes", "--client-output-buffer-limit", "replica 1gb 1gb 0",
		"--repl-backlog-size", "400mb", "--client-query-buffer-limit", "2gb",
	}
	l := newLink(b, linkOptions{directions: directions, extra: big.extra, argsA: args, argsB: args})
	if big.before {
		big.make(b, l.a)
	}
	start := time.Now()
	l.worker.Start()
	l.worker.AwaitReady(5 * time.Minute)
	if !big.before {
		start = time.Now()
		big.make(b, l.a)
	}
	testkit.Eventually(b, 5*time.Minute, func() error {
		for _, key := range big.keys {
			n, err := l.b.Client().Exists(b.Context(), key).Result()
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("%s is not there", key)
			}
		}
		return nil
	})
	b.ReportMetric(time.Since(start).Seconds(), "s")
	b.ReportMetric(cpuSeconds(b, l.worker.Pid()), "cpu-s")
	peak := peakMemory(b, l.worker.Pid())
	b.ReportMetric(peak, "peak-MiB")
	b.ReportMetric(0, "ns/op")
	if peak > big.most {
		b.Errorf("the worker had %.0f MiB resident, and may have %.0f (G6)", peak, big.most)
	}
	for _, key := range big.keys {
		if at, want := digest(b, l.b.Client(), key), digest(b, l.a.Client(), key); at != want {
			b.Errorf("%s differs", key)
		}
	}
	if at, want := usersKeys(b, l.b), usersKeys(b, l.a); at != want {
		b.Errorf("b holds %d keys, a %d", at, want)
	}
}

// usersKeys counts the keys of database 0 that are not reserved.
func usersKeys(b *testing.B, r *testkit.Redis) int64 {
	b.Helper()
	all, err := r.Client().DBSize(b.Context()).Result()
	own, err2 := r.Client().Keys(b.Context(), offsets.Reserved+"*").Result()
	if err := errors.Join(err, err2); err != nil {
		b.Fatal(err)
	}
	return all - int64(len(own))
}

func digest(b *testing.B, c *goredis.Client, key string) string {
	b.Helper()
	reply, err := c.WithTimeout(time.Minute).Do(b.Context(), "DEBUG", "DIGEST-VALUE", key).StringSlice()
	if err != nil {
		b.Fatal(err)
	}
	return fmt.Sprint(reply)
}
