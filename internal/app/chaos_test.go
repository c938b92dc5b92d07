package app_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"twinlog/internal/admin"
	"twinlog/internal/testkit"
)

// chaosTime is how long CI's slice of TestChaos makes rounds.
const chaosTime = time.Minute

// TestChaos lets both sites of a link write the same keys and keys of their
// own while faults happen at random, round by round. What a fault stops is set
// going again by the command that status names, and by nothing else. At the end
// of each round the sites are equal, and sums and clients' own keys are exact
// unless a fault of the round loses what was written. At the end of all, a
// third Redis that is filled from the two topics alone holds the same.
//
// A seed makes the same rounds again: their faults, where they strike, and
// what the clients write; not how one falls upon the other in time. `make
// chaos DURATION=30m SEED=7` makes a longer run than CI's.
func TestChaos(t *testing.T) {
	c := newChaos(t)
	for ends := time.Now().Add(chaosDuration(t)); time.Now().Before(ends) && !t.Failed(); {
		c.round()
	}
	c.t.Logf("chaos: %d rounds, %d operations, faults %v", c.rounds, c.operations, c.dealt)
	c.rebuilt()
	log, err := os.ReadFile(c.worker.LogFile())
	if err != nil || strings.Contains(string(log), "WARNING: DATA RACE") {
		t.Errorf("chaos: the worker's log, %v:\n%s", err, raceOf(string(log)))
	}
}

// raceOf is the first report of the race detector in a log.
func raceOf(log string) string {
	_, report, _ := strings.Cut(log, "WARNING: DATA RACE")
	report, _, _ = strings.Cut(report, "==================")
	return report
}

func chaosDuration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("TWINLOG_CHAOS_DURATION")
	if text == "" {
		return chaosTime
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("TWINLOG_CHAOS_DURATION: %v", err)
	}
	return d
}

// chaos is a two-way link with proxies wherever something can be cut.
type chaos struct {
	*link
	seed   uint64
	places [2]*place
	spool  string        // its directory
	disk   *testkit.Disk // of the spool; nil: it could not be mounted

	deck       []*fault // what comes next
	rounds     int
	operations int64
	dealt      map[string]int
	sums       []*testkit.Shared // loads whose sums hold
	told       map[string]time.Time
}

// place is a site: its Redis may be replaced by another one.
type place struct {
	name    string
	args    []string
	redis   *testkit.Redis
	clock   *testkit.Clock
	clients *testkit.Delay // what clients dial
	worker  *testkit.Delay // what the worker dials
}

// chaosRedis are what the Redis of both sites are started with.
func chaosRedis() []string {
	return []string{"--repl-backlog-size", wideBacklogSize, "--shutdown-timeout", "5", "--client-output-buffer-limit", "replica 0 0 0"}
}

// Sizes of a backlog.
const wideBacklogSize, narrowBacklogSize = "64mb", "16kb"

func newChaos(t *testing.T) *chaos {
	t.Helper()
	c := &chaos{
		link: &link{t: t, kafka: testkit.StartDistantKafka(t)}, seed: seedOf(t),
		dealt: map[string]int{}, told: map[string]time.Time{},
	}
	c.needsRealKafka()
	for i := range c.places {
		p := &place{name: string(rune('a' + i)), args: chaosRedis()}
		p.redis, p.clock = testkit.StartRedisWithClock(t, p.args...)
		p.clients = testkit.StartDelay(t, "127.0.0.1:0", p.redis.Addr())
		p.worker = testkit.StartDelay(t, "127.0.0.1:0", p.redis.Addr())
		c.places[i] = p
	}
	c.follow()
	maxSpool := c.mountSpool()
	c.config = fmt.Sprintf("link: %s\nkafka: {brokers: [%q]}\nsites:\n  a: {redis: {addrs: [%q]}}\n  b: {redis: {addrs: [%q]}}\n"+
		"directions:\n  - {from: a, to: b, on_gap: fail}\n  - {from: b, to: a, snapshot: no_data}\n"+
		"limits: {memory: 16MiB, max_transaction_bytes: 1MiB}\nspool: {dir: %q, max_bytes: %s}\n",
		linkName, c.kafka.Distant()[0], c.places[0].worker.Addr(), c.places[1].worker.Addr(), c.spool, maxSpool)
	c.worker = testkit.NewProcess(t, c.config)
	t.Cleanup(c.tell)
	seed(t, c.a)
	c.run()
	return c
}

// follow makes the link's helpers look at the Redis that the sites have now.
func (c *chaos) follow() { c.a, c.b = c.places[0].redis, c.places[1].redis }

// mountSpool makes a disk of 8 MB for the spool. Where that is refused, the
// spool's own limit is as small, and a full disk is not tested.
func (c *chaos) mountSpool() (maxBytes string) {
	c.t.Helper()
	c.spool = filepath.Join(c.t.TempDir(), "spool")
	if err := os.Mkdir(c.spool, 0o700); err != nil {
		c.t.Fatal(err)
	}
	var err error
	if c.disk, err = testkit.MountDisk(c.t, c.spool, 8<<20); err != nil {
		c.t.Logf("chaos: spool.max_bytes is small, since the spool has no small disk: %v", err)
		return "8MiB"
	}
	return "4GiB"
}

// round lets faults happen under load and holds what must be so afterwards.
func (c *chaos) round() {
	c.t.Helper()
	c.rounds++
	random := rand.New(rand.NewPCG(c.seed, uint64(c.rounds)))
	hits := c.deal(random)
	c.t.Logf("chaos: seed %d, round %d begins: %v", c.seed, c.rounds, hits)
	loads := c.load(random, lossOf(hits))
	for _, h := range hits {
		c.passes(random, 600*time.Millisecond)
		h.inject(h)
	}
	c.passes(random, c.howLong(random))
	for _, h := range hits {
		h.heal(h)
	}
	c.repaired()
	c.passes(random, 500*time.Millisecond)
	loads.stop()
	stopped := time.Now()
	c.endEqual()
	c.t.Logf("chaos: seed %d, round %d: %v; %v; equal after %v", c.seed, c.rounds, hits, loads, time.Since(stopped).Round(time.Millisecond))
	c.exact(loads, lossOf(hits))
}

// howLong is how long faults last at most. Longer ones come late: CI's slice
// has no time for them.
func (c *chaos) howLong(random *rand.Rand) time.Duration {
	const early = 20
	if random.IntN(5) == 0 && c.rounds > early {
		return 30 * time.Second
	}
	return 1500 * time.Millisecond
}

// passes lets some time pass, at most so much.
func (c *chaos) passes(random *rand.Rand, most time.Duration) {
	<-time.After(time.Duration(random.Int64N(int64(most))))
}

// chaosPatience is how long the sites may take to be equal once faults and
// writes have ended, with whatever commands that needs.
const chaosPatience = 90 * time.Second

// repaired waits until both directions go on, and runs what status names.
func (c *chaos) repaired() {
	c.t.Helper()
	testkit.Eventually(c.t, chaosPatience, func() error {
		if err := c.obey(); err != nil {
			return err
		}
		code, body, err := c.worker.Get("/readyz")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("/readyz: %d %s", code, body)
		}
		return err
	})
}

// endEqual waits until both sites are equal and nothing is under way, and
// that they are equal still.
func (c *chaos) endEqual() {
	c.t.Helper()
	var last [2]int64
	c.eventually(func() error {
		if err := c.obey(); err != nil {
			return err
		}
		now, err := c.captured()
		if err == nil {
			err = c.hasApplied(now)
		}
		if err == nil {
			err = c.differ(c.a, c.b)
		}
		if now != last {
			last = now
			return errors.Join(err, errors.New("events are under way"))
		}
		return err
	})
	c.quiet()
	c.link.endEqual(grace)
}

// eventually is testkit.Eventually, and explains how what still differs came
// to be so.
func (c *chaos) eventually(condition func() error) {
	c.t.Helper()
	deadline := time.Now().Add(chaosPatience)
	testkit.Eventually(c.t, 2*chaosPatience, func() error {
		err := condition()
		if err != nil && time.Now().After(deadline) {
			c.t.Fatal(c.explain(err))
		}
		return err
	})
}

// differ tells how two Redis differ.
func (c *chaos) differ(one, other *testkit.Redis) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	differences, err := testkit.Compare(ctx, one.Client(), other.Client(), testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true, Most: 20})
	if err != nil || len(differences) == 0 {
		return err
	}
	return &differenceError{differences}
}

type differenceError struct{ all []testkit.Difference }

func (e *differenceError) Error() string {
	lines := []string{"they differ:"}
	for _, d := range e.all {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n  ")
}

// explain adds to an error where it happened, and what the topics say of the
// first keys that differ.
func (c *chaos) explain(err error) error {
	err = fmt.Errorf("chaos: seed %d, round %d: %w", c.seed, c.rounds, err)
	var differ *differenceError
	if !errors.As(err, &differ) {
		return err
	}
	for _, d := range differ.all[:min(len(differ.all), 3)] {
		for _, direction := range []string{"a-to-b", "b-to-a"} {
			err = fmt.Errorf("%w\n%s tells of %q:%s", err, direction, d.Key, c.history(direction, int32(d.DB), d.Key))
		}
	}
	return err
}

// named is how status and its traces name the command that helps.
var named = regexp.MustCompile("`twinlog ((?:resync|resume) [^`]+)`")

// obeyAgain is how long a command has to take effect before it is run again.
const obeyAgain = 3 * time.Second

// obey runs the commands that status names for what has failed.
func (c *chaos) obey() error {
	if !c.worker.Running() {
		c.t.Fatalf("chaos: seed %d, round %d: the worker has ended by itself", c.seed, c.rounds)
	}
	st, err := status(c.worker)
	if err != nil {
		return err
	}
	var commands []string
	for _, d := range st.Directions {
		for _, k := range []struct {
			name, trace string
			state       admin.State
		}{{d.Source.Name, d.Source.Trace, d.Source.State}, {d.Sink.Name, d.Sink.Trace, d.Sink.State}} {
			if k.state != admin.StateFailed {
				continue
			}
			err = errors.Join(err, fmt.Errorf("%s has failed: %s", k.name, k.trace))
			if match := named.FindStringSubmatch(k.trace); match != nil {
				commands = append(commands, match[1])
			}
		}
	}
	slices.Sort(commands)
	for _, text := range slices.Compact(commands) {
		c.command(text)
	}
	return err
}

func (c *chaos) command(text string) {
	if time.Since(c.told[text]) < obeyAgain {
		return
	}
	c.told[text] = time.Now()
	code, out, talk := c.worker.Run(c.t.Context(), strings.Fields(text)...)
	c.t.Logf("chaos: round %d: status names `twinlog %s`: exit code %d: %s%s", c.rounds, text, code, out, talk)
}
