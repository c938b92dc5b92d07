package app_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
)

// The loss that this is about: a key expires at both sites, is set again at
// one, and the other's deletion, which Redis sends as any other, comes after.
func TestExpiryTakesNoValueThatItHadNotSeen(t *testing.T) {
	l, _ := newLivingLink(t, living{})
	l.run()
	for _, lazy := range []string{"no", "yes"} { // DEL or UNLINK
		for _, r := range []*testkit.Redis{l.a, l.b} {
			client(t, r, "CONFIG SET lazyfree-lazy-expire "+lazy)
		}
		keys := keysOf("lazy-"+lazy, 5000)
		l.expireAndSetAgain(keys)
		l.endEqual(grace)
		if n := l.lost(keys); n != 0 {
			t.Errorf("lazyfree-lazy-expire %s: %d of %d keys are lost", lazy, n, len(keys))
		}
	}
	l.worker.Kill()
	l.run(rulesOff)
	keys := keysOf("without", 5000)
	l.expireAndSetAgain(keys)
	l.quiet()
	if n := l.lost(keys); n == 0 {
		t.Error("without the rules no key is lost: this test sees nothing")
	}
}

func keysOf(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s:%d", prefix, i)
	}
	return keys
}

// expireAndSetAgain lets keys expire at both sites at once, each by itself,
// then sets one half again at a, the other at b.
func (l *link) expireAndSetAgain(keys []string) {
	l.t.Helper()
	const life = 3 * time.Second
	l.set(l.a, keys, "old", life)
	ends := time.Now().Add(life + grace)
	testkit.Eventually(l.t, life, func() error {
		if n := l.there(l.b, keys); n < len(keys) {
			return fmt.Errorf("%d of %d keys have come to b", n, len(keys))
		}
		return nil
	})
	l.pauseBoth()
	for _, s := range []site{{l.a, "a"}, {l.b, "b"}} {
		awaitClock(l.t, s, ends)
		testkit.Eventually(l.t, 10*time.Second, func() error {
			if n := l.there(s.Redis, keys); n > 0 {
				return fmt.Errorf("%d keys have not expired at %s", n, s.name)
			}
			return nil
		})
	}
	l.set(l.a, keys[:len(keys)/2], "fresh", 0)
	l.set(l.b, keys[len(keys)/2:], "fresh", 0)
	l.resumeBoth()
}

func (l *link) set(r *testkit.Redis, keys []string, value string, life time.Duration) {
	l.t.Helper()
	_, err := r.Client().Pipelined(l.t.Context(), func(p goredis.Pipeliner) error {
		for _, k := range keys {
			p.Set(l.t.Context(), k, value, life)
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// there counts the keys that a site has. It removes those that have expired.
func (l *link) there(r *testkit.Redis, keys []string) int {
	l.t.Helper()
	n, err := r.Client().Exists(l.t.Context(), keys...).Result()
	if err != nil {
		l.t.Fatal(err)
	}
	return int(n)
}

// lost counts the keys that do not hold their fresh value at both sites.
func (l *link) lost(keys []string) (n int) {
	l.t.Helper()
	var values [2][]any
	for i, r := range []*testkit.Redis{l.a, l.b} {
		var err error
		if values[i], err = r.Client().MGet(l.t.Context(), keys...).Result(); err != nil {
			l.t.Fatal(err)
		}
	}
	for i := range keys {
		if slices.ContainsFunc(values[:], func(all []any) bool { return all[i] != "fresh" }) {
			n++
		}
	}
	return n
}
