package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

func TestFullTargetTakesRemovalsAndWaitsWithTheRest(t *testing.T) {
	l := newLink(t, linkOptions{directions: oneWay})
	ctx := t.Context()
	value := strings.Repeat("x", 1000)
	pipe := l.a.Client().Pipeline()
	for i := range 1000 {
		pipe.Set(ctx, fmt.Sprintf("k:%d", i), value, 0)
		pipe.HSet(ctx, "hash", fmt.Sprintf("f:%d", i), i)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	l.record(l.siteA())
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	l.settled(20 * time.Second)

	limit := func(bytes string) {
		t.Helper()
		if err := l.b.Client().ConfigSet(ctx, "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("1mb") // it holds more: nothing may be added, not even the mark
	pipe = l.a.Client().Pipeline()
	for i := range 1000 {
		pipe.Del(ctx, fmt.Sprintf("k:%d", i))
	}
	pipe.HDel(ctx, "hash", "f:1", "f:2")
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.a.Client().Set(ctx, "waits", value, 0).Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 20*time.Second, func() error {
		left, fields := l.b.Client().DBSize(ctx).Val(), l.b.Client().HLen(ctx, "hash").Val()
		if left > 2 || fields != 998 { // the hash and the mark
			return fmt.Errorf("%d keys and %d fields are left", left, fields)
		}
		return nil
	})
	testkit.Eventually(t, 20*time.Second, func() error {
		_, body, err := l.worker.Get("/status")
		if err == nil && !strings.Contains(string(body), "it is full (maxmemory)") {
			err = fmt.Errorf("status: %s", body)
		}
		return err
	})
	limit("0")
	l.settled(20 * time.Second)
}
