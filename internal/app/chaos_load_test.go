package app_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
)

// chaosLoad are the clients of one round: of each site some that write what
// the other site writes too, and some with keys of their own.
type chaosLoad struct {
	c      *chaos
	shared []*testkit.Shared
	own    []*testkit.Workload
}

// How much each site gets a second, of either load: the sites, Kafka, the
// worker and the proxies share two cores.
const chaosRate = 400

func (c *chaos) load(random *rand.Rand, lost loss) *chaosLoad {
	c.t.Helper()
	l := &chaosLoad{c: c}
	for _, p := range c.places {
		name := fmt.Sprintf("%s%d", p.name, c.rounds)
		l.shared = append(l.shared, testkit.StartShared(c.t, testkit.SharedOptions{
			Addr: p.clients.Addr(), Site: name, Seed: random.Uint64(), Rate: chaosRate, Outages: true,
		}))
		l.own = append(l.own, testkit.StartWorkload(c.t, testkit.WorkloadOptions{
			Addr: p.clients.Addr(), Prefix: "own:" + name, Seed: random.Uint64(), Rate: chaosRate, Outages: true, OnlyAdds: lost == losesRemovals,
		}))
	}
	return l
}

func (l *chaosLoad) stop() {
	l.c.t.Helper()
	for i := range l.shared {
		if err := errors.Join(l.shared[i].Stop(), l.own[i].Stop()); err != nil {
			l.c.t.Errorf("chaos: seed %d, round %d: %v", l.c.seed, l.c.rounds, err)
		}
		shared, _ := l.shared[i].Operations()
		l.c.operations += shared + l.own[i].Operations()
	}
}

// String tells how much was written.
func (l *chaosLoad) String() string {
	var shared, refused, own, cut int64
	for i := range l.shared {
		all, no := l.shared[i].Operations()
		shared, refused, own = shared+all, refused+no, own+l.own[i].Operations()
		cut += l.shared[i].Cut() + l.own[i].Cut()
	}
	return fmt.Sprintf("%d operations on shared keys (%d refused), %d on own ones, %d not answered", shared, refused, own, cut)
}

// exact holds both sites against what the clients know, as far as the faults
// of the round leave it. What they do not leave is begun anew.
func (c *chaos) exact(l *chaosLoad, lost loss) {
	c.t.Helper()
	c.sums = append(c.sums, l.shared...)
	for _, p := range c.places {
		if lost == losesNothing {
			if err := testkit.VerifySums(c.t.Context(), p.redis.Addr(), c.sums...); err != nil {
				c.t.Errorf("chaos: seed %d, round %d, site %s: %v", c.seed, c.rounds, p.name, err)
			}
		}
		for _, own := range l.own {
			if lost == losesWrites {
				continue
			}
			if err := own.Verify(c.t.Context(), p.redis.Client()); err != nil {
				c.t.Errorf("chaos: seed %d, round %d, site %s does not hold what its clients wrote: %v", c.seed, c.rounds, p.name, err)
			}
		}
	}
	if lost > losesNothing && !c.t.Failed() {
		c.forgetSums()
	}
}

// forgetSums deletes what was summed up.
func (c *chaos) forgetSums() {
	c.t.Helper()
	c.sums = nil
	conn := c.a.Client().Conn()
	defer conn.Close()
	for _, db := range []int{1, 0} {
		if err := forget(c.t.Context(), conn, db, "sum:*"); err != nil {
			c.t.Fatal(err)
		}
	}
	c.endEqual()
}

func forget(ctx context.Context, conn *goredis.Conn, db int, pattern string) error {
	if err := conn.Select(ctx, db).Err(); err != nil {
		return err
	}
	keys, err := conn.Keys(ctx, pattern).Result()
	if err != nil || len(keys) == 0 {
		return err
	}
	return conn.Del(ctx, keys...).Err()
}
