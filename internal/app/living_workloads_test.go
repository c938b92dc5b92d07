package app_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"twinlog/internal/testkit"
)

// habit is what an application does with keys that both sites use.
type habit struct {
	name string
	keys int
	// act does it once at a site, with one of the keys.
	act func(ctx context.Context, c *goredis.Client, site, key string, random *rand.Rand) error
}

// compareAndDelete releases a lock that is still its owner's.
var compareAndDelete = goredis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)

var habits = []habit{
	{"window", 20, func(ctx context.Context, c *goredis.Client, _, key string, _ *rand.Rand) error {
		n, err := c.Incr(ctx, key).Result()
		if err == nil && n == 1 { // the first hit opens the window
			err = c.PExpire(ctx, key, 150*time.Millisecond).Err()
		}
		return err
	}},
	{"session", 300, func(ctx context.Context, c *goredis.Client, site, key string, random *rand.Rand) error {
		if random.IntN(3) == 0 {
			return c.PExpire(ctx, key, soon(random)).Err()
		}
		return c.Set(ctx, key, site, soon(random)).Err()
	}},
	{"lock", 50, func(ctx context.Context, c *goredis.Client, site, key string, random *rand.Rand) error {
		token := fmt.Sprintf("%s-%d", site, random.Uint32())
		taken, err := c.SetNX(ctx, key, token, soon(random)).Result()
		if err != nil || !taken {
			return err
		}
		return compareAndDelete.Run(ctx, c, []string{key}, token).Err()
	}},
	{"cache", 2000, func(ctx context.Context, c *goredis.Client, site, key string, random *rand.Rand) error {
		err := c.Get(ctx, key).Err()
		if errors.Is(err, goredis.Nil) { // it has expired, or is about to at the other site
			err = c.Set(ctx, key, site, soon(random)).Err()
		}
		return err
	}},
}

// soon is a time to live that ends while the test runs.
func soon(random *rand.Rand) time.Duration {
	return 50*time.Millisecond + time.Duration(random.IntN(300))*time.Millisecond
}

func (h *habit) key(i int) string { return fmt.Sprintf("%s:%d", h.name, i) }

// limited counts hits of a rate limiter whose window is long: INCR and EXPIRE
// on the same keys at both sites.
type limited struct{ hits [10]atomic.Int64 }

func (l *limited) key(i int) string { return fmt.Sprintf("limited:%d", i) }

func (l *limited) hit(ctx context.Context, c *goredis.Client, random *rand.Rand) error {
	i := random.IntN(len(l.hits))
	_, err := c.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		p.Incr(ctx, l.key(i))
		p.Expire(ctx, l.key(i), time.Hour)
		return nil
	})
	if err == nil {
		l.hits[i].Add(1)
	}
	return err
}

// sums are what the counters must be.
func (l *limited) sums() map[string]string {
	all := map[string]string{}
	for i := range l.hits {
		all[l.key(i)] = fmt.Sprint(l.hits[i].Load())
	}
	return all
}

// Applications at both sites use the same rate limits, sessions, locks and
// cache entries, which expire all the time. In the end nothing is lost: a
// last value that met only the other site's expiries and releases is there.
func TestWhatApplicationsDoAtBothSitesEndsEqual(t *testing.T) {
	l, _ := newLivingLink(t, living{})
	l.run()
	seed := seedOf(t)
	var limits limited
	for round, distance := range distances[:2] {
		l.kafka.SetDistance(distance)
		l.useAtBoth(&limits, seed+uint64(round))
		l.caughtUp() // what is left are expiries
		last := l.lastValues(fmt.Sprintf("last-%d", round))
		l.endEqual(grace)
		l.holdEach(last)
		l.forget(last)
		l.holdEach(limits.sums())
	}
}

// useAtBoth lets clients of both sites follow every habit for a while.
func (l *link) useAtBoth(limits *limited, seed uint64) {
	l.t.Helper()
	const while = 3 * time.Second
	ends := time.Now().Add(while)
	var g errgroup.Group
	for i, s := range []site{{l.a, "a"}, {l.b, "b"}} {
		for j, h := range habits {
			random := rand.New(rand.NewPCG(seed, uint64(i*len(habits)+j)))
			g.Go(func() error {
				for time.Now().Before(ends) {
					if err := h.act(l.t.Context(), s.Client(), s.name, h.key(random.IntN(h.keys)), random); err != nil {
						return fmt.Errorf("%s at %s: %w", h.name, s.name, err)
					}
				}
				return nil
			})
		}
		random := rand.New(rand.NewPCG(seed, uint64(100+i)))
		g.Go(func() error {
			for time.Now().Before(ends) {
				if err := limits.hit(l.t.Context(), s.Client(), random); err != nil {
					return fmt.Errorf("limit at %s: %w", s.name, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		l.t.Fatal(err)
	}
}

// lastValues sets each key once more, at one site, while what was set before
// expires at both. A lock is only taken where it is free.
func (l *link) lastValues(value string) map[string]string {
	l.t.Helper()
	last := map[string]string{}
	for _, h := range habits {
		for i := range h.keys {
			r, key := l.a, h.key(i)
			if i%2 == 1 {
				r = l.b
			}
			taken, err := l.setLast(r, h.name, key, value)
			if err != nil {
				l.t.Fatal(err)
			}
			if taken {
				last[key] = value
			}
		}
	}
	return last
}

func (l *link) setLast(r *testkit.Redis, name, key, value string) (bool, error) {
	ctx := l.t.Context()
	if name == "lock" {
		return r.Client().SetNX(ctx, key, value, time.Hour).Result()
	}
	return true, r.Client().Set(ctx, key, value, time.Hour).Err()
}

// holdEach checks that every key has its value at both sites.
func (l *link) holdEach(want map[string]string) {
	l.t.Helper()
	keys := slices.Sorted(maps.Keys(want))
	for _, s := range []site{{l.a, "a"}, {l.b, "b"}} {
		values, err := s.Client().MGet(l.t.Context(), keys...).Result()
		if err != nil {
			l.t.Fatal(err)
		}
		wrong := 0
		for i, v := range values {
			if v == want[keys[i]] {
				continue
			}
			if wrong++; wrong <= 10 {
				l.t.Errorf("%s at %s: %v, want %s", keys[i], s.name, v, want[keys[i]])
			}
		}
		l.t.Logf("%d of %d keys are wrong at %s", wrong, len(keys), s.name)
	}
}

// forget deletes keys, for another round.
func (l *link) forget(keys map[string]string) {
	l.t.Helper()
	pipe := l.a.Client().Pipeline()
	for k := range keys {
		pipe.Del(l.t.Context(), k)
	}
	if _, err := pipe.Exec(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	l.endEqual(grace)
}
