package app_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/testkit"
	"twinlog/offsets"
)

// loss is what of the clients' writes a fault leaves.
type loss int

const (
	losesNothing loss = iota
	// losesRemovals: behind a gap, values come instead of what was written.
	// Nothing tells what of them is new, so they undo what the other site
	// removes meanwhile, and count as an overwrite of what both write.
	losesRemovals
	losesWrites // the site, or both, forget writes that were acknowledged
)

// fault is one thing that happens, and what ends it. Two that touch the same
// do not happen in one round.
type fault struct {
	name    string
	touches string // words
	loses   loss
	anew    bool // the Redis begins a new backlog
	inject  func(*hit)
	heal    func(*hit)
}

var faults = []fault{
	{"worker killed", "worker", losesNothing, false, (*hit).killWorker, (*hit).startWorker},
	{"worker killed and started at once", "worker", losesNothing, false, (*hit).restartWorker, (*hit).nothing},
	{"worker frozen", "worker", losesNothing, false, (*hit).freezeWorker, (*hit).thawWorker},
	{"backlog overrun", "worker site", losesRemovals, false, (*hit).overrun, (*hit).startWorker},
	{"keys sent again", "demand", losesNothing, false, (*hit).sendAgain, (*hit).nothing},
	{"offsets of the groups reset", "worker", losesNothing, false, (*hit).resetGroups, (*hit).startWorker},

	{"kafka restarted", "kafka", losesNothing, false, (*hit).stopKafka, (*hit).restartKafka},
	{"kafka killed", "kafka", losesNothing, false, (*hit).killKafka, (*hit).restartKafka},
	{"kafka frozen", "kafka", losesNothing, false, (*hit).freezeKafka, (*hit).thawKafka},
	{"kafka cut", "kafka", losesNothing, false, (*hit).cutKafka, (*hit).cutKafka},
	{"kafka far away, one way", "kafka", losesNothing, false, (*hit).delayKafka, (*hit).nearKafka},
	{"spool's disk full", "kafka site", losesNothing, false, (*hit).fillSpool, (*hit).emptySpool},

	{"redis cut", "net", losesNothing, false, (*hit).cutRedis, (*hit).cutRedis},
	{"redis far away, one way", "net", losesNothing, false, (*hit).delayRedis, (*hit).nearRedis},
	{"redis silent, one way", "net", losesNothing, false, (*hit).silenceRedis, (*hit).hearRedis},

	{"redis restarted, saved", "site", losesNothing, true, (*hit).saveAndStop, (*hit).restartRedis},
	{"redis killed, with AOF", "site", losesRemovals, true, (*hit).killWithAOF, (*hit).restartWithAOF},
	{"redis killed, with an older RDB", "site", losesWrites, true, (*hit).killWithRDB, (*hit).restartRedis},
	{"redis killed, with nothing", "site", losesWrites, true, (*hit).killWithNothing, (*hit).restartRedis},
	{"replica promoted", "site", losesNothing, true, (*hit).failOver, (*hit).nothing},
	{"replica promoted that lags", "site", losesWrites, true, (*hit).lag, (*hit).promote},
	{"clock stepped", "site", losesNothing, false, (*hit).stepClock, (*hit).stepClockBack},
	{"FLUSHALL", "site", losesWrites, false, (*hit).flush, (*hit).nothing},
	{"mark deleted", "site", losesNothing, false, (*hit).deleteMark, (*hit).nothing},
}

// onlyNamed are faults that come where TWINLOG_CHAOS_FAULTS names them: what
// Kafka and a site lose together leaves a gap of which nobody can tell what was
// removed in it.
var onlyNamed = []fault{
	{"kafka loses what it confirmed", "kafka", losesNothing, false, (*hit).saveKafka, (*hit).goBackKafka},
}

// hit is a fault that strikes in a round.
type hit struct {
	*fault
	c      *chaos
	at     *place
	random *rand.Rand

	replica *testkit.Redis // that is to be promoted
	clock   *testkit.Clock // its
	behind  *testkit.Delay // through which it follows
}

// String names the fault and the site.
func (h *hit) String() string {
	if strings.Contains(h.touches, "site") || strings.Contains(h.touches, "net") {
		return h.name + " at " + h.at.name
	}
	return h.name
}

// lossOf is what is lost of a round. A Redis that another one takes the place
// of, or that starts again, has no backlog from before: a source that is not
// up to date in that moment finds a gap.
func lossOf(hits []*hit) (most loss) {
	for _, h := range hits {
		most = max(most, h.loses)
		if h.anew && len(hits) > 1 {
			most = max(most, losesRemovals)
		}
	}
	return most
}

// deal chooses one to three faults that touch different things. All come once
// before one comes again.
func (c *chaos) deal(random *rand.Rand) []*hit {
	n := 1 + random.IntN(3)
	var hits []*hit
	touched := map[string]bool{}
	for tries := 0; len(hits) < n && tries < len(faults); tries++ {
		if len(c.deck) == 0 {
			c.deck = c.shuffled()
		}
		f := c.deck[0]
		c.deck = c.deck[1:]
		if fits(f, touched) {
			hits = append(hits, &hit{fault: f, c: c, at: c.places[random.IntN(2)], random: random})
			c.dealt[f.name]++
			continue
		}
		c.deck = append(c.deck, f)
	}
	return hits
}

// shuffled are all faults in another order, or those whose name contains
// TWINLOG_CHAOS_FAULTS.
func (c *chaos) shuffled() (deck []*fault) {
	c.t.Helper()
	all, only := faults, os.Getenv("TWINLOG_CHAOS_FAULTS")
	if only != "" {
		all = slices.Concat(faults, onlyNamed)
	}
	for _, i := range rand.New(rand.NewPCG(c.seed, 1<<32+uint64(c.rounds))).Perm(len(all)) {
		if strings.Contains(all[i].name, only) {
			deck = append(deck, &all[i])
		}
	}
	if len(deck) == 0 {
		c.t.Fatalf("TWINLOG_CHAOS_FAULTS: no fault is called %q", only)
	}
	return deck
}

// fits takes what a fault touches if nothing of it is taken.
func fits(f *fault, touched map[string]bool) bool {
	words := strings.Fields(f.touches)
	for _, w := range words {
		if touched[w] {
			return false
		}
	}
	for _, w := range words {
		touched[w] = true
	}
	return true
}

func (h *hit) nothing() {}

// must ends the test if a fault could not be made.
func (h *hit) must(err error) {
	h.c.t.Helper()
	if err != nil {
		h.c.t.Fatalf("chaos: seed %d, round %d: %v: %v", h.c.seed, h.c.rounds, h, err)
	}
}

// do runs a command at the site.
func (h *hit) do(args ...any) {
	h.c.t.Helper()
	h.must(h.at.redis.Client().Do(h.c.t.Context(), args...).Err())
}

// info waits until INFO of a Redis holds all of the lines.
func (h *hit) info(r *testkit.Redis, section string, lines ...string) {
	h.c.t.Helper()
	testkit.Eventually(h.c.t, 30*time.Second, func() error {
		text, err := r.Client().Info(h.c.t.Context(), section).Result()
		for _, line := range lines {
			if err == nil && !strings.Contains(text, line+"\r\n") {
				err = fmt.Errorf("no %s in INFO %s of %s:\n%s", line, section, r.Addr(), text)
			}
		}
		return err
	})
}

// The worker.

func (h *hit) killWorker()   { h.c.worker.Kill() }
func (h *hit) startWorker()  { h.c.worker.Start() }
func (h *hit) freezeWorker() { h.c.worker.Signal(syscall.SIGSTOP) }
func (h *hit) thawWorker()   { h.c.worker.Signal(syscall.SIGCONT) }

func (h *hit) restartWorker() {
	h.killWorker()
	h.startWorker()
}

// overrun makes more changes at a site than its backlog holds, while nobody
// follows it.
func (h *hit) overrun() {
	h.c.t.Helper()
	h.killWorker()
	h.do("CONFIG", "SET", "repl-backlog-size", narrowBacklogSize)
	prefix := fmt.Sprintf("overrun:%d", h.c.rounds)
	h.c.sets(h.at.redis, prefix, 1000, strings.Repeat("x", 100))
	h.c.drop(h.at.redis, prefix, 0, 2, 1000)
	h.do("CONFIG", "SET", "repl-backlog-size", wideBacklogSize)
}

// resetGroups sets back what tools take for the truth. Twinlog's own is the
// mark at the target.
func (h *hit) resetGroups() {
	h.c.t.Helper()
	h.killWorker()
	client, err := kgo.NewClient(kgo.SeedBrokers(h.c.kafka.Brokers()...))
	h.must(err)
	defer client.Close()
	for _, direction := range []string{"a-to-b", "b-to-a"} {
		var all kadm.Offsets
		all.AddOffset(linkName+"."+direction, 0, 0, -1)
		ctx, cancel := context.WithTimeout(h.c.t.Context(), 2*time.Second)
		_, err := kadm.NewClient(client).CommitOffsets(ctx, "twinlog."+linkName+"."+direction, all)
		cancel()
		if err != nil { // Kafka is away in this round, too
			h.c.t.Logf("chaos: round %d: %v: %v", h.c.rounds, h, err)
		}
	}
}

// Kafka.

func (h *hit) stopKafka()    { h.c.kafka.Stop() }
func (h *hit) killKafka()    { h.c.kafka.Kill() }
func (h *hit) restartKafka() { h.c.kafka.Restart() }
func (h *hit) saveKafka()    { h.c.kafka.Save() }
func (h *hit) goBackKafka()  { h.c.kafka.GoBack() }
func (h *hit) freezeKafka()  { h.c.kafka.Freeze() }
func (h *hit) thawKafka()    { h.c.kafka.Thaw() }
func (h *hit) cutKafka()     { h.c.kafka.Far().Cut() }
func (h *hit) delayKafka()   { h.c.kafka.Far().SetWays(h.oneWay()) }
func (h *hit) nearKafka()    { h.c.kafka.Far().Set(0) }

// oneWay is a distance either there or back.
func (h *hit) oneWay() (to, from time.Duration) {
	distance := 50*time.Millisecond + time.Duration(h.random.IntN(250))*time.Millisecond
	if h.random.IntN(2) == 0 {
		return distance, 0
	}
	return 0, distance
}

// fillSpool makes the worker need a disk that has no room left.
func (h *hit) fillSpool() {
	h.c.t.Helper()
	h.c.kafka.Freeze()
	if h.c.disk != nil {
		h.c.disk.Fill(1 << 20)
	}
	for range 16 {
		h.c.sets(h.at.redis, "ballast", 100, strings.Repeat("x", 10_000)) // 1 MB
	}
	h.c.drop(h.at.redis, "ballast", 0, 1, 100)
}

func (h *hit) emptySpool() {
	h.c.t.Helper()
	if h.c.disk != nil {
		h.c.disk.Empty()
	}
	h.c.kafka.Thaw()
}

// The way to a Redis.

func (h *hit) cutRedis()   { h.at.worker.Cut() }
func (h *hit) delayRedis() { h.at.worker.SetWays(h.oneWay()) }
func (h *hit) nearRedis()  { h.at.worker.Set(0) }

func (h *hit) silenceRedis() {
	if h.random.IntN(2) == 0 {
		h.at.worker.SetWays(time.Hour, 0)
	} else {
		h.at.worker.SetWays(0, time.Hour)
	}
}

func (h *hit) hearRedis() {
	h.at.worker.Set(0)
	h.at.worker.Cut()
}

// A Redis.

func (h *hit) restartRedis() { h.at.redis.Restart() }

func (h *hit) saveAndStop() {
	_ = h.at.redis.Client().Do(h.c.t.Context(), "SHUTDOWN", "SAVE").Err() // the server ends instead of answering
	h.at.redis.Stop()
}

func (h *hit) killWithRDB() {
	h.c.t.Helper()
	h.do("SAVE")
	h.c.passes(h.random, time.Second)
	h.at.redis.Kill()
}

func (h *hit) killWithNothing() {
	h.c.t.Helper()
	h.at.redis.Kill()
	if err := os.Remove(filepath.Join(h.at.redis.Dir(), "dump.rdb")); !os.IsNotExist(err) {
		h.must(err)
	}
}

// killWithAOF kills a Redis that has every acknowledged write on disk.
func (h *hit) killWithAOF() {
	h.c.t.Helper()
	h.do("CONFIG", "SET", "appendfsync", "always")
	h.do("CONFIG", "SET", "appendonly", "yes")
	h.info(h.at.redis, "persistence", "aof_enabled:1", "aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0", "aof_last_bgrewrite_status:ok")
	h.c.passes(h.random, time.Second)
	h.at.redis.Kill()
}

func (h *hit) restartWithAOF() {
	h.c.t.Helper()
	h.at.redis.RestartWith("--appendonly", "yes", "--appendfsync", "always")
	h.do("CONFIG", "SET", "appendonly", "no")
	h.must(os.RemoveAll(filepath.Join(h.at.redis.Dir(), "appendonlydir")))
}

// follower starts a replica of the site's Redis and waits until it follows.
func (h *hit) follower(master string) {
	h.c.t.Helper()
	h.replica, h.clock = testkit.StartRedisWithClock(h.c.t, h.at.args...)
	host, port, err := net.SplitHostPort(master)
	h.must(err)
	h.must(h.replica.Client().Do(h.c.t.Context(), "REPLICAOF", host, port).Err())
	h.info(h.replica, "replication", "master_link_status:up", "master_sync_in_progress:0")
}

// failOver lets a replica take over that has all of its master.
func (h *hit) failOver() {
	h.c.t.Helper()
	h.follower(h.at.redis.Addr())
	host, port, err := net.SplitHostPort(h.replica.Addr())
	h.must(err)
	testkit.Eventually(h.c.t, 10*time.Second, func() error { // until the master knows that it is online
		return h.at.redis.Client().Do(h.c.t.Context(), "FAILOVER", "TO", host, port).Err()
	})
	h.info(h.replica, "replication", "role:master")
	h.takeOver()
}

// lag makes a replica that gets nothing any more.
func (h *hit) lag() {
	h.c.t.Helper()
	h.behind = testkit.StartDelay(h.c.t, "127.0.0.1:0", h.at.redis.Addr())
	h.follower(h.behind.Addr())
	h.behind.Set(time.Hour)
}

func (h *hit) promote() {
	h.c.t.Helper()
	h.at.redis.Kill()
	h.must(h.replica.Client().Do(h.c.t.Context(), "REPLICAOF", "NO", "ONE").Err())
	h.takeOver()
	h.behind.Cut()
}

// takeOver leads everyone to the replica.
func (h *hit) takeOver() {
	h.at.clients.Lead(h.replica.Addr())
	h.at.worker.Lead(h.replica.Addr())
	h.at.redis.Kill()
	h.at.redis, h.at.clock = h.replica, h.clock
	h.c.follow()
}

// stepClock steps by less than any expiry of the loads that outlives a round.
func (h *hit) stepClock() {
	h.c.t.Helper()
	h.at.clock.Step([]time.Duration{20 * time.Minute, -20 * time.Minute}[h.random.IntN(2)])
}

func (h *hit) stepClockBack() {
	h.c.t.Helper()
	h.at.clock.Step(0)
}

func (h *hit) flush() { h.do("FLUSHALL") }

// sendAgain asks for all keys of both directions, whatever becomes of it: a
// worker that is away or busy with something else refuses.
func (h *hit) sendAgain() {
	for _, direction := range []string{"a-to-b", "b-to-a"} {
		_, _, _ = h.c.worker.Put("/directions/" + direction + "/snapshot?rate=2000")
	}
}

func (h *hit) deleteMark() {
	h.c.t.Helper()
	direction := "a-to-b"
	if h.at.name == "a" {
		direction = "b-to-a"
	}
	h.do("DEL", offsets.MarkKey(linkName, direction, "0"))
}
