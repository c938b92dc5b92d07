package app_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// linkName is the link of every test here: servers are private, so it cannot
// meet another one.
const linkName = "test"

// The directions of a two-way and of a one-way link.
const (
	twoWay = "  - {from: a, to: b}\n  - {from: b, to: a, snapshot: no_data}\n"
	oneWay = "  - {from: a, to: b}\n"
)

// link is two Redis, a broker and a worker in a process of its own.
type link struct {
	t      testing.TB
	a, b   *testkit.Redis
	kafka  *testkit.Kafka
	config string // of the worker
	worker *testkit.Process
	audit  *testkit.Audit // nil until start
}

// linkOptions says what is not as usual.
type linkOptions struct {
	directions   string         // YAML; empty: twoWay
	extra        string         // YAML at the top level
	argsA, argsB []string       // of the redis-servers
	serverA      testkit.Server // its version; empty: the installed redis-server
	serverB      testkit.Server
}

// newLink starts the servers and prepares the worker, which does not run yet.
func newLink(t testing.TB, o linkOptions) *link {
	t.Helper()
	l := &link{t: t, kafka: testkit.StartKafka(t), a: startSite(t, o.serverA, o.argsA), b: startSite(t, o.serverB, o.argsB)}
	if o.directions == "" {
		o.directions = twoWay
	}
	l.config = fmt.Sprintf("link: %s\nkafka: {brokers: [%q]}\nsites:\n  a: {redis: {addrs: [%q]}}\n  b: {redis: {addrs: [%q]}}\ndirections:\n%s%s",
		linkName, l.kafka.Brokers()[0], l.a.Addr(), l.b.Addr(), o.directions, o.extra)
	l.worker = testkit.NewProcess(t, l.config)
	return l
}

func startSite(t testing.TB, s testkit.Server, args []string) *testkit.Redis {
	t.Helper()
	if s == "" {
		return testkit.StartRedis(t, args...)
	}
	return testkit.StartServer(t, s, args...)
}

// record begins the audit of the sites that have a source. It comes before
// the first start of the worker.
func (l *link) record(sites ...testkit.AuditSite) {
	l.t.Helper()
	l.audit = testkit.NewAudit(l.t, linkName, l.kafka.Brokers(), sites...)
}

func (l *link) siteA() testkit.AuditSite {
	return testkit.AuditSite{Name: "a", Peer: "b", Addr: l.a.Addr()}
}

func (l *link) siteB() testkit.AuditSite {
	return testkit.AuditSite{Name: "b", Peer: "a", Addr: l.b.Addr()}
}

// start begins the audit of both sites, starts the worker and waits until
// both directions follow.
func (l *link) start() {
	l.t.Helper()
	l.record(l.siteA(), l.siteB())
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
}

// grace is how far expiries may be apart: expiry_grace, and what the clock
// moves between two reads.
const grace = 1100 * time.Millisecond

// settled waits until both sites hold the same, then checks the topics.
func (l *link) settled(timeout time.Duration) {
	l.t.Helper()
	l.a.Equal(l.b, timeout, testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true})
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	if l.audit == nil {
		return
	}
	if err := l.audit.Check(ctx); err != nil {
		l.t.Error(err)
	}
}

func (l *link) pause(connector string)  { l.steer(connector, "pause") }
func (l *link) resume(connector string) { l.steer(connector, "resume") }

// steer asks the worker to do something with a connector.
func (l *link) steer(connector, verb string) {
	l.t.Helper()
	code, body, err := l.worker.Put("/connectors/" + connector + "/" + verb)
	if err != nil || code/100 != 2 {
		l.t.Fatalf("%s %s: %d %s %v", verb, connector, code, body, err)
	}
}

// twinlog runs a command of the program, which must end well.
func (l *link) twinlog(args ...string) {
	l.t.Helper()
	if code, out, talk := l.worker.Run(l.t.Context(), args...); code != 0 {
		l.t.Fatalf("twinlog %v: exit code %d: %s%s", args, code, out, talk)
	}
}
