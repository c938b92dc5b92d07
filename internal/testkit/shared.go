package testkit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// SharedOptions says what load to make on keys that both sites of a link write.
type SharedOptions struct {
	Addr    string // of the Redis
	Site    string // its name: members that only this load adds carry it
	Seed    uint64
	Keys    int // of all types together; 0: 200
	Clients int // 0: 4
	Rate    int // operations a second of all clients together; 0: as fast as they can

	// Outages: the server may go away for a while. What it did not answer
	// leaves open by how much a sum is higher.
	Outages bool
}

// Shared writes what another Shared at the other site writes too: every write
// command on the same few keys, type clashes and errors included, in
// transactions and scripts as well; counters that are only incremented and
// sets that are only added to, whose sums are known.
type Shared struct {
	o       SharedOptions
	redis   []*goredis.Client // by database
	clients []*sharedClient
	done    atomic.Int64
	refused atomic.Int64
	cut     atomic.Int64

	stop  context.CancelFunc
	ended chan struct{}
	err   error // read it after ended
}

const (
	sharedDBs = 2 // keys of both are moved and copied over those of a third

	// What is summed up, in each database.
	sharedCounters = 10
	sharedSets     = 5
)

// sharedClient is one client, and what the server acknowledged to it.
type sharedClient struct {
	sharedKeys
	redis    *goredis.Client
	name     string
	counters [sharedCounters]sum
	added    [sharedSets]int             // members <name>-0 to <name>-<n-1>
	open     [sharedSets]map[string]bool // of those, the ones that were never answered
}

// sum is what the server acknowledged, and by how much what it never answered
// may have changed it.
type sum struct{ known, down, up int64 }

func (s *sum) add(n int64, answered bool) {
	switch {
	case answered:
		s.known += n
	case n < 0:
		s.down += n
	default:
		s.up += n
	}
}

// StartShared begins to write. The load goes on until Stop, at the latest
// until the test ends.
func StartShared(tb testing.TB, o SharedOptions) *Shared {
	tb.Helper()
	if o.Clients == 0 {
		o.Clients = 4
	}
	if o.Keys == 0 {
		o.Keys = 200
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Shared{o: o, stop: stop, ended: make(chan struct{})}
	for db := range sharedDBs {
		s.redis = append(s.redis, newClientOf(o.Addr, db))
	}
	var g errgroup.Group
	for i := range o.Clients {
		c := &sharedClient{
			sharedKeys: sharedKeys{rand.New(rand.NewPCG(o.Seed, uint64(i))), max(o.Keys/len(kinds), 1)},
			redis:      s.redis[i%len(s.redis)], name: fmt.Sprintf("%s-%d", o.Site, i),
		}
		s.clients = append(s.clients, c)
		g.Go(func() error { return s.write(ctx, c) })
	}
	go func() {
		defer close(s.ended)
		s.err = g.Wait()
		stop()
	}()
	tb.Cleanup(func() {
		stop()
		<-s.ended
		for _, client := range s.redis {
			client.Close()
		}
	})
	return s
}

// Operations is how many operations the server has answered so far, and how
// many of them with an error.
func (s *Shared) Operations() (all, refused int64) { return s.done.Load(), s.refused.Load() }

// Cut is how many operations the server has not answered.
func (s *Shared) Cut() int64 { return s.cut.Load() }

// Stop ends the load and waits for its last answers.
func (s *Shared) Stop() error {
	s.stop()
	<-s.ended
	return s.err
}

// write makes one operation after another. One that was begun is finished.
func (s *Shared) write(ctx context.Context, c *sharedClient) error {
	var pause <-chan time.Time
	if s.o.Rate > 0 {
		tick := time.NewTicker(time.Second * time.Duration(s.o.Clients) / time.Duration(s.o.Rate))
		defer tick.Stop()
		pause = tick.C
	}
	finish := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		if pause != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-pause:
			}
		}
		err := c.operate(finish)
		var refused goredis.Error
		switch {
		case errors.Is(err, goredis.Nil), err == nil:
		case errors.As(err, &refused): // such as WRONGTYPE: that is part of it
			s.refused.Add(1)
		case s.o.Outages:
			s.cut.Add(1)
			awaitServer(ctx, c.redis)
			continue
		default:
			return fmt.Errorf("shared load on %s: %w", s.o.Addr, err)
		}
		s.done.Add(1)
	}
	return nil
}

// How often, of a hundred, an operation is something else than one command.
const (
	ofCounter     = 6
	ofSet         = 6
	inTransaction = 6
	inScript      = 6
)

func (c *sharedClient) operate(ctx context.Context) error {
	switch p := c.random.IntN(100); {
	case p < ofCounter:
		return c.count(ctx)
	case p < ofCounter+ofSet:
		return c.add(ctx)
	case p < ofCounter+ofSet+inTransaction:
		_, err := c.redis.TxPipelined(ctx, func(p goredis.Pipeliner) error {
			for range 2 + c.random.IntN(3) {
				p.Do(ctx, c.command()...)
			}
			return nil
		})
		return err
	case p < ofCounter+ofSet+inTransaction+inScript:
		return c.redis.Do(ctx, c.script()...).Err()
	}
	return c.redis.Do(ctx, c.command()...).Err()
}

// script makes an EVAL that runs some commands, errors or not.
func (c *sharedClient) script() []any {
	args := []any{"EVAL", `
		local at = 1
		while at < #ARGV do
			local n = tonumber(ARGV[at])
			redis.pcall(unpack(ARGV, at + 1, at + n))
			at = at + n + 1
		end`, 0}
	for range 2 + c.random.IntN(3) {
		command := c.command()
		args = append(append(args, len(command)), command...)
	}
	return args
}

// Of the counters one has an expiry that is set again and again: that is a
// conflict with the other site's increments and must lose none.
func (c *sharedClient) count(ctx context.Context) error {
	i, n := c.random.IntN(sharedCounters), c.random.Int64N(20)-5
	key := counterKey(i)
	if i == 0 && c.random.IntN(4) == 0 {
		return c.redis.PExpire(ctx, key, 2*time.Hour).Err()
	}
	err := c.redis.IncrBy(ctx, key, n).Err()
	if err == nil || !isReply(err) {
		c.counters[i].add(n, err == nil)
	}
	return err
}

// isReply tells whether an error is what the server answered.
func isReply(err error) bool {
	var reply goredis.Error
	return errors.As(err, &reply)
}

// awaitServer waits until a server answers again.
func awaitServer(ctx context.Context, client *goredis.Client) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for client.Ping(ctx).Err() != nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *sharedClient) add(ctx context.Context) error {
	i := c.random.IntN(sharedSets)
	member := c.name + "-" + strconv.Itoa(c.added[i])
	err := c.redis.SAdd(ctx, memberKey(i), member).Err()
	if err != nil && isReply(err) {
		return err
	}
	c.added[i]++
	if err != nil {
		c.open[i] = setOf(c.open[i], member)
	}
	return err
}

func setOf(m map[string]bool, key string) map[string]bool {
	if m == nil {
		m = map[string]bool{}
	}
	m[key] = true
	return m
}

func counterKey(i int) string { return "sum:counter:" + strconv.Itoa(i) }
func memberKey(i int) string  { return "sum:set:" + strconv.Itoa(i) }

// VerifySums tells which counter or set of a site does not hold exactly what
// all loads, of both sites and ended, put there since it was empty.
func VerifySums(ctx context.Context, addr string, loads ...*Shared) error {
	var errs []error
	for db := range sharedDBs {
		errs = append(errs, verifySums(ctx, addr, db, clientsOf(loads, db)))
	}
	return errors.Join(errs...)
}

func verifySums(ctx context.Context, addr string, db int, clients []*sharedClient) error {
	server := newClientOf(addr, db)
	defer server.Close()
	var errs []error
	for i := range sharedCounters {
		var want sum
		for _, c := range clients {
			want = sum{want.known + c.counters[i].known, want.down + c.counters[i].down, want.up + c.counters[i].up}
		}
		got, err := server.Get(ctx, counterKey(i)).Int64()
		if err != nil && !errors.Is(err, goredis.Nil) {
			return fmt.Errorf("reading %s of db %d: %w", counterKey(i), db, err)
		}
		if got < want.known+want.down || got > want.known+want.up {
			errs = append(errs, fmt.Errorf("%s of db %d is %d, the increments are %d together (what was never answered: %d and +%d)", counterKey(i), db, got, want.known, want.down, want.up))
		}
	}
	for i := range sharedSets {
		if err := verifyMembers(ctx, server, i, clients); err != nil {
			errs = append(errs, fmt.Errorf("%s of db %d: %w", memberKey(i), db, err))
		}
	}
	return errors.Join(errs...)
}

func clientsOf(loads []*Shared, db int) (all []*sharedClient) {
	for _, s := range loads {
		for _, c := range s.clients {
			if c.redis == s.redis[db] {
				all = append(all, c)
			}
		}
	}
	return all
}

func verifyMembers(ctx context.Context, client *goredis.Client, i int, clients []*sharedClient) error {
	members, err := client.SMembersMap(ctx, memberKey(i)).Result()
	if err != nil {
		return err
	}
	var missing []string
	for _, c := range clients {
		for n := range c.added[i] {
			m := c.name + "-" + strconv.Itoa(n)
			if _, ok := members[m]; !ok && !c.open[i][m] {
				missing = append(missing, m)
			}
			delete(members, m)
		}
	}
	if len(missing) > 0 || len(members) > 0 {
		return fmt.Errorf("%d members are missing %q, %d were never added %q", len(missing), few(missing), len(members), few(slices.Sorted(maps.Keys(members))))
	}
	return nil
}

// few is enough of a list to see what it is about.
func few(all []string) []string { return all[:min(len(all), 5)] }
