package app_test

import (
	"fmt"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// seed writes values of every type, in two databases, with and without expiry.
func seed(t testing.TB, r *testkit.Redis) {
	t.Helper()
	ctx := t.Context()
	pipe := r.Client().Pipeline()
	for i := range 500 {
		pipe.Set(ctx, fmt.Sprintf("string:%d", i), i, 0)
		pipe.HSet(ctx, fmt.Sprintf("hash:%d", i), "field", i, "other", "x")
	}
	for i := range 2000 {
		pipe.RPush(ctx, "list", i)
		pipe.SAdd(ctx, "set", i)
		pipe.Do(ctx, "ZADD", "zset", float64(i)/3, i)
		pipe.Do(ctx, "XADD", "stream", fmt.Sprintf("%d-1", i+1), "f", i)
	}
	pipe.Set(ctx, "binary\x00\xff", "\r\n\x00", time.Hour)
	pipe.PFAdd(ctx, "hll", 1, 2, 3)
	pipe.Do(ctx, "XGROUP", "CREATE", "stream", "group", "100-1")
	pipe.Do(ctx, "XREADGROUP", "GROUP", "group", "consumer", "COUNT", "10", "STREAMS", "stream", ">")
	pipe.Do(ctx, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
	pipe.Do(ctx, "SELECT", "5")
	pipe.Set(ctx, "elsewhere", 1, time.Hour)
	pipe.Do(ctx, "SELECT", "0")
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestTwoWayLinkCopiesThenFollowsBothSites(t *testing.T) {
	l := newLink(t, linkOptions{})
	seed(t, l.a)
	l.start()
	l.settled(20 * time.Second)
	loads := []*testkit.Workload{
		testkit.StartWorkload(t, testkit.WorkloadOptions{Addr: l.a.Addr(), Prefix: "wa", Seed: 1, Most: 4000}),
		testkit.StartWorkload(t, testkit.WorkloadOptions{Addr: l.b.Addr(), Prefix: "wb", Seed: 2, Most: 4000}),
	}
	for _, w := range loads {
		if err := w.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l.settled(20 * time.Second)
	for _, w := range loads {
		for _, r := range []*testkit.Redis{l.a, l.b} {
			if err := w.Verify(t.Context(), r.Client()); err != nil {
				t.Error(err)
			}
		}
	}
	if code := l.worker.Stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}
