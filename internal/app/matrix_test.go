//go:build matrix

package app_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// pair is two versions that are linked. One way where the second cannot be an
// origin.
type pair struct {
	a, b   testkit.Server
	oneWay bool
}

// pairs has each version with an older and with a newer one, of its own
// product and of the other.
var pairs = []pair{
	{testkit.Redis70, testkit.Redis62, true},
	{testkit.Redis86, testkit.Redis62, true},
	{testkit.Valkey91, testkit.Redis62, true},
	{testkit.Redis70, testkit.Redis80, false},
	{testkit.Redis86, testkit.Redis70, false},
	{testkit.Redis80, testkit.Redis82, false},
	{testkit.Redis86, testkit.Redis82, false},
	{testkit.Redis86, testkit.Redis86, false},
	{testkit.Redis70, testkit.Valkey80, false},
	{testkit.Valkey91, testkit.Redis70, false},
	{testkit.Valkey80, testkit.Valkey91, false},
	{testkit.Valkey91, testkit.Redis86, false},
	{testkit.Valkey91, testkit.Valkey91, false},
}

func (p pair) String() string {
	if p.oneWay {
		return fmt.Sprintf("%s to %s", p.a, p.b)
	}
	return fmt.Sprintf("%s and %s", p.a, p.b)
}

func (p pair) options() linkOptions {
	o := linkOptions{serverA: p.a, serverB: p.b, argsA: wideBacklog(), argsB: wideBacklog()}
	if p.oneWay {
		o.directions = oneWay
	}
	return o
}

// Every pair of versions carries snapshots, operations and a crash. What came
// out is written to docs/compatibility.md.
func TestMatrix(t *testing.T) {
	results := map[string]map[string]string{}
	for _, p := range pairs {
		t.Run(p.String(), func(t *testing.T) {
			results[p.String()] = map[string]string{}
			for _, c := range []struct {
				name string
				run  func(*testing.T, pair) string
			}{{"snapshot", snapshots}, {"operations", allOperations}, {"crash", crashes}} {
				t.Run(c.name, func(t *testing.T) { results[p.String()][c.name] = c.run(t, p) })
			}
		})
	}
	if t.Failed() || len(results) != len(pairs) {
		return // not all of it was run
	}
	writeCompatibility(t, results)
}

// knows tells whether a server has a command.
func knows(t *testing.T, r *testkit.Redis, name string) bool {
	t.Helper()
	info, err := r.Client().Do(t.Context(), "COMMAND", "INFO", name).Slice()
	if err != nil {
		t.Fatal(err)
	}
	return info[0] != nil
}

// follow begins the audit of the origins and starts the worker.
func (l *link) follow(p pair) {
	l.t.Helper()
	if !p.oneWay {
		l.start()
		return
	}
	l.record(l.siteA())
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
}

// snapshots copies values of every type from a site to an empty one, on a
// two-way link also from the other.
func snapshots(t *testing.T, p pair) string {
	ways := []pair{p}
	if !p.oneWay && p.a != p.b {
		ways = append(ways, pair{a: p.b, b: p.a})
	}
	keys := int64(0)
	for _, way := range ways {
		l := newLink(t, way.options())
		client(t, l.a, strings.ReplaceAll(snapshotValues, "\n", ""))
		if knows(t, l.b, "FUNCTION") {
			client(t, l.a, "FUNCTION LOAD "+library)
		}
		if knows(t, l.a, "HPEXPIREAT") && knows(t, l.b, "HPEXPIREAT") {
			client(t, l.a, strings.ReplaceAll(snapshotOfFields, "\n", ""))
		}
		l.follow(way)
		l.settled(30 * time.Second)
		keys += l.keys(l.a) - 1 // but for the mark or barrier
		l.worker.Stop()
	}
	return fmt.Sprintf("%d keys", keys)
}

// allOperations runs the table, and what came after Redis 7.0, at each origin.
func allOperations(t *testing.T, p pair) string {
	l := newLink(t, p.options())
	l.follow(p)
	tab := newTable(t, l)
	n := 0
	sites := []site{{l.a, "a"}}
	if !p.oneWay {
		sites = append(sites, site{l.b, "b"})
	}
	for _, s := range sites {
		trials := tab.trials(s, 0)
		for i, o := range newer {
			trials = append(trials, trial{operation: o, variant: alone, prefix: fmt.Sprintf("newer_%d_%s_", i, s.name)})
		}
		trials = slices.DeleteFunc(trials, func(one trial) bool {
			return !tab.atBoth(&one) || p.b == testkit.Redis62 && beyond62[one.name]
		})
		n += len(trials)
		tab.run(s, trials)
	}
	l.settled(30 * time.Second)
	return fmt.Sprintf("%d operations", n)
}

// beyond62 are operations with another effect at Redis 6.2, which keeps a
// pending entry whose message was deleted where newer ones drop it.
var beyond62 = map[string]bool{"XCLAIM of a deleted entry": true, "XAUTOCLAIM of a deleted entry": true}

// atBoth tells whether both servers know a trial's commands and options.
func (tab *table) atBoth(one *trial) bool {
	t := tab.l.t.(*testing.T)
	for _, lines := range []string{one.before, one.run, one.blocked} {
		for _, args := range one.commands(lines) {
			for _, r := range []*testkit.Redis{tab.l.a, tab.l.b} {
				if !knows(t, r, fmt.Sprint(args[0])) {
					return false
				}
			}
		}
	}
	return true
}

// crashes kills the worker under load.
func crashes(t *testing.T, p pair) string {
	l := newLink(t, p.options())
	client(t, l.a, strings.ReplaceAll(snapshotValues, "\n", ""))
	l.follow(p)
	l.settled(30 * time.Second)
	at := []*testkit.Redis{l.a}
	if !p.oneWay {
		at = append(at, l.b)
	}
	ls := l.load("w", at...)
	const kills = 3
	for range kills {
		ls.more(500)
		l.worker.Kill()
		ls.more(100)
		l.worker.Start()
		l.worker.AwaitReady(time.Minute)
	}
	ls.more(200)
	ls.stop()
	l.settled(time.Minute)
	ls.exact()
	return fmt.Sprintf("%d kills", kills)
}

// limit is what one version has and another cannot hold.
type limit struct {
	a, b testkit.Server
	what string
	run  string
	want string // of the error that stops the direction
}

var limits = []limit{
	{testkit.Redis86, testkit.Redis70, "expiries of hash fields", "HSET %h a 1 ; HEXPIRE %h 3600 FIELDS 1 a", "refuses HPEXPIREAT"},
	{testkit.Valkey91, testkit.Valkey80, "expiries of hash fields", "HSET %h a 1 ; HEXPIRE %h 3600 FIELDS 1 a", "refuses HPEXPIREAT"},
	{testkit.Redis86, testkit.Valkey91, "vector sets", "VADD %v VALUES 3 1 2 3 e", "refuses VADD"},
	{testkit.Redis86, testkit.Redis80, "XDELEX", "XADD %x 1-1 f v ; XADD %x 1-2 f v ; XDELEX %x IDS 1 1-1", "refuses XDELEX"},
}

func (l limit) String() string { return fmt.Sprintf("%s: %s to %s", l.what, l.a, l.b) }

// What the target does not have stops the direction with an error that names
// the command and the way out, before anything of the batch took effect.
func TestMatrixNamesWhatATargetCannotHold(t *testing.T) {
	for _, c := range limits {
		t.Run(c.String(), func(t *testing.T) {
			l := newLink(t, linkOptions{serverA: c.a, serverB: c.b, directions: oneWay})
			l.worker.Start()
			l.worker.AwaitReady(time.Minute)
			client(t, l.a, c.run)
			testkit.Eventually(t, 30*time.Second, func() error {
				st, err := status(l.worker)
				if err != nil {
					return err
				}
				sink := st.Directions[0].Sink
				if sink.State != "FAILED" || !strings.Contains(sink.Trace, c.want) || !strings.Contains(sink.Trace, "Upgrade the target to the origin's version") {
					return fmt.Errorf("the sink is %s: %s", sink.State, sink.Trace)
				}
				return nil
			})
		})
	}
}

func writeCompatibility(t *testing.T, results map[string]map[string]string) {
	t.Helper()
	b := []byte(`# Versions that were run together

Written by ` + "`make test-matrix`" + `, which links each pair through a real Kafka and compares the sites key by key: type, value, order, score,
expiry of keys and of hash fields, stream groups and pending entries, function libraries.

- **snapshot**: values of every type are copied from a full site to an empty one, in both directions where the link has two.
- **operations**: every operation of the table is run at each origin, if both servers know it.
- **crash**: the worker is killed with kill -9 under load on each origin; every value must be exact and every change in its topic once.

| sites | snapshot | operations | crash |
|---|---|---|---|
`)
	for _, name := range slices.Sorted(maps.Keys(results)) {
		r := results[name]
		b = fmt.Appendf(b, "| %s | %s | %s | %s |\n", name, r["snapshot"], r["operations"], r["crash"])
	}
	b = append(b, `
## What a target cannot hold

What an origin has and its target does not know stops the direction with an error that names the command; nothing of the batch takes effect.
The pre-check names it before (target-version). Run, each:

| what | origin | target | error |
|---|---|---|---|
`...)
	for _, l := range limits {
		b = fmt.Appendf(b, "| %s | %s | %s | target %s |\n", l.what, l.a, l.b, l.want)
	}
	b = append(b, `
## What is turned into something else, or not carried

- A RESTORE is published with the value that its payload holds, and made anew at the target: payloads of a newer version, or of the other
  product, are no obstacle. Values of modules stay payloads; a target without the module, or with another version's format, refuses them.
- The ids by which Redis 8.6 recognises a message that a producer sends twice (XADD with IDMP) stay at the origin.
- Redis 6.2 has no counters of streams (ENTRIESADDED, ENTRIESREAD) and keeps a pending entry whose message was deleted when it is claimed.
- When a consumer of a stream's group was last seen starts anew at the target when its stream is copied.
- Data that a module attaches to keys (Redis 8.6) stops a snapshot with an error.
`...)
	if err := os.WriteFile("../../docs/compatibility.md", b, 0o644); err != nil {
		t.Fatal(err)
	}
}
