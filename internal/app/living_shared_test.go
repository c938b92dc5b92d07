package app_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// distances are what lies between the workers and Kafka, one way.
var distances = []time.Duration{0, 20 * time.Millisecond, 200 * time.Millisecond}

// rounds are times in which both sites write the same keys as fast as they
// can. TWINLOG_ROUNDS and TWINLOG_ROUND_SECONDS make a longer run.
type rounds struct {
	*link
	random *rand.Rand
	took   time.Duration // of each
	loads  []*testkit.Shared
}

func newRounds(t *testing.T, l *link, seed uint64) *rounds {
	t.Helper()
	return &rounds{
		link: l, random: rand.New(rand.NewPCG(seed, 0)),
		took: time.Duration(numberOf(t, "TWINLOG_ROUND_SECONDS", 2)) * time.Second,
	}
}

// write lets both sites write while faults happen, the first and the others
// at random moments, and returns when the writes have stopped.
func (r *rounds) write(round int, distance time.Duration, faults ...func()) {
	r.t.Helper()
	r.kafka.SetDistance(distance)
	loads := []*testkit.Shared{
		testkit.StartShared(r.t, testkit.SharedOptions{Addr: r.a.Addr(), Site: fmt.Sprintf("a%d", round), Seed: r.random.Uint64()}),
		testkit.StartShared(r.t, testkit.SharedOptions{Addr: r.b.Addr(), Site: fmt.Sprintf("b%d", round), Seed: r.random.Uint64()}),
	}
	r.loads = append(r.loads, loads...)
	ends := time.After(r.took)
	for _, fault := range faults {
		<-time.After(time.Duration(r.random.Int64N(int64(r.took) / int64(len(faults)))))
		fault()
	}
	<-ends
	for i, load := range loads {
		if err := load.Stop(); err != nil {
			r.t.Fatal(err)
		}
		all, refused := load.Operations()
		r.t.Logf("round %d, %v away: %d operations at %c, %d of them refused", round, distance, all, 'a'+i, refused)
	}
}

// exact holds the sums at both sites.
func (r *rounds) exact() {
	r.t.Helper()
	for _, at := range []*testkit.Redis{r.a, r.b} {
		if err := testkit.VerifySums(r.t.Context(), at.Addr(), r.loads...); err != nil {
			r.t.Error(err)
		}
	}
}

// killed is a fault: the worker dies and comes back.
func (r *rounds) killed() {
	r.worker.Kill()
	r.worker.Start()
}

func TestSharedKeysEndEqualHoweverOftenTheWorkerDies(t *testing.T) {
	l, _ := newLivingLink(t, living{linkOptions: linkOptions{argsA: wideBacklog(), argsB: wideBacklog()}})
	l.run()
	r := newRounds(t, l, seedOf(t))
	for round := range numberOf(t, "TWINLOG_ROUNDS", len(distances)) {
		var faults []func()
		for range 1 + r.random.IntN(2) {
			faults = append(faults, r.killed)
		}
		distance := distances[round%len(distances)]
		r.write(round, distance, faults...)
		stopped := time.Now()
		l.worker.AwaitReady(time.Minute) // the last kill may be a moment ago
		// A worker that begins anew makes some thirty round trips to Kafka before
		// it goes on where it was.
		r.endEqualWithin(endTime+60*distance*2, grace)
		t.Logf("all done %v after the writes stopped", time.Since(stopped).Round(time.Millisecond))
		r.exact()
		if t.Failed() {
			return
		}
	}
}

func TestSharedKeysEndEqualWhenAClockIsSteppedByAnHour(t *testing.T) {
	l, clock := newLivingLink(t, living{clock: true, linkOptions: linkOptions{argsA: wideBacklog(), argsB: wideBacklog()}})
	l.run()
	r := newRounds(t, l, seedOf(t))
	ahead := []time.Duration{time.Hour, 0, -time.Hour, 0}
	for round := range numberOf(t, "TWINLOG_ROUNDS", 2) {
		r.write(round, distances[(round+1)%2], func() { clock.Step(ahead[round%len(ahead)]) })
		r.endEqual(2 * time.Hour) // each site's copies end by its own clock
		r.exact()
		if t.Failed() {
			return
		}
	}
}

func TestSharedKeysEndEqualWhenOneSiteEvicts(t *testing.T) {
	// The backlog counts as used memory: a small one leaves room for keys.
	small := []string{"--maxmemory", "16mb", "--maxmemory-policy", "allkeys-lru", "--repl-backlog-size", "4mb"}
	o := linkOptions{argsA: small, argsB: wideBacklog()}
	seed := seedOf(t)
	atB := seed%2 == 1
	if atB {
		o.argsA, o.argsB = o.argsB, o.argsA
	}
	l, _ := newLivingLink(t, living{linkOptions: o})
	l.run()
	full, other := site{l.a, "a"}, site{l.b, "b"}
	if atB {
		full, other = other, full
	}
	r := newRounds(t, l, seed)
	for round := range numberOf(t, "TWINLOG_ROUNDS", 1) {
		r.write(round, distances[1], func() { fill16MB(t, other) })
		r.endEqual(grace) // the sums may have been evicted
	}
	if n := stat(t, full, "evicted_keys"); n < 100 {
		t.Errorf("only %d keys were evicted at %s", n, full.name)
	}
}

// fill16MB writes more than the other site has room for.
func fill16MB(t *testing.T, s site) {
	t.Helper()
	value := strings.Repeat("x", 10_000)
	pipe := s.Client().Pipeline()
	for i := range 1600 {
		pipe.Set(t.Context(), fmt.Sprintf("ballast:%d", i), value, 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}
