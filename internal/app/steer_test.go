package app_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twinlog/internal/admin"
	"twinlog/internal/testkit"
)

// Operators and their tools ask for the same things at once, while clients
// write: in the end everything runs, and the sites are equal.
func TestRequestsAtOnceEndWithEverythingRunning(t *testing.T) {
	for name, directions := range map[string]string{"one way": oneWay, "two way": twoWay} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, linkOptions{directions: directions, argsA: wideBacklog(), argsB: wideBacklog()})
			l.sets(l.a, "a", 1000, "1")
			l.run()
			requests := []string{"POST /connectors/source-a/restart", "POST /connectors/sink-b/restart", "PUT /connectors/sink-b/resume", "PUT /connectors/source-a/resume?snapshot=true", "PUT /connectors/sink-b/stop", "PUT /connectors/source-a/pause", "PUT /sites/b/resync"}
			seed := seedOf(t)
			ls := l.load("w", l.a)
			if directions == twoWay {
				requests = append(requests, "POST /connectors/source-b/restart", "POST /connectors/sink-a/restart")
				ls.all = append(ls.all, testkit.StartWorkload(t, testkit.WorkloadOptions{Addr: l.b.Addr(), Prefix: "b", Seed: seed, Rate: loadRate, Outages: true})) // its data goes
			}
			ls.more(500)
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
			var all sync.WaitGroup
			for i := range 6 {
				all.Go(func() {
					random := rand.New(rand.NewPCG(seed, uint64(i)))
					for range 8 {
						method, path, _ := strings.Cut(requests[random.IntN(len(requests))], " ")
						if err := asks(t, client, method, "http://"+l.worker.Addr()+path); err != nil {
							t.Errorf("%s %s: %v", method, path, err)
						}
					}
				})
			}
			all.Wait()
			ls.stop()
			for _, d := range l.directions() {
				l.resume(d.Source.Name)
				l.resume(d.Sink.Name)
			}
			l.endEqualWithin(time.Minute, grace)
			for _, d := range l.directions() {
				if d.Source.State != admin.StateRunning || d.Sink.State != admin.StateRunning {
					t.Errorf("%s: the source is %s (%s), the sink %s (%s)", d.Name, d.Source.State, d.Source.Trace, d.Sink.State, d.Sink.Trace)
				}
			}
			l.reads(l.b, "a:999", "1")
		})
	}
}

// asks sends a request, which must be granted.
func asks(t *testing.T, client *http.Client, method, url string) error {
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the answer is %s", answer.Status)
	}
	return nil
}

// directions is what the worker says of them.
func (l *link) directions() []admin.Direction {
	l.t.Helper()
	st, err := status(l.worker)
	if err != nil {
		l.t.Fatal(err)
	}
	return st.Directions
}

// The answer to what empties the target is lost, and the worker goes on: the
// target is filled all the same.
func TestATargetWhoseEmptyingWasNotConfirmedIsFilled(t *testing.T) {
	l := newLink(t, linkOptions{directions: oneWay, argsA: wideBacklog()})
	front := newRelay(t, l.b.Addr())
	var armed atomic.Bool
	front.passing = func() func([]byte) ([]byte, bool) {
		return func(b []byte) ([]byte, bool) {
			if strings.Contains(string(b), "QUEUED") && armed.CompareAndSwap(true, false) {
				return nil, false
			}
			return b, true
		}
	}
	front.opens(t, l)
	l.sets(l.a, "a", 1000, "1")
	l.run()
	l.caughtUp()
	l.sets(l.b, "rubbish", 100, "1")
	client(t, l.b, "ACL SETUSER default -flushall -flushdb")
	if code, out, talk := l.worker.Run(t.Context(), "resync", "--site", "b"); code != 1 || !strings.Contains(string(talk), "NOPERM") {
		t.Errorf("twinlog resync without the right to: exit code %d: %s%s", code, out, talk)
	}
	client(t, l.b, "ACL SETUSER default +flushall +flushdb")
	l.sets(l.a, "later", 1, "1")
	testkit.Eventually(t, time.Minute, func() error { return l.sameValue("later:0") })
	if epoch := l.directions()[0].Source.Epoch; epoch != 1 {
		t.Errorf("epoch %d began although nothing was emptied", epoch)
	}
	l.reads(l.b, "rubbish:0", "1")
	l.steer("sink-b", "stop")
	armed.Store(true)
	if code, out, talk := l.worker.Run(t.Context(), "resync", "--site", "b"); code != 1 || !strings.Contains(string(talk), "emptying target b") {
		t.Errorf("twinlog resync: exit code %d: %s%s", code, out, talk)
	}
	l.reads(l.b, "rubbish:0", "")
	l.endEqualWithin(time.Minute, grace)
	l.reads(l.b, "a:999", "1")
}

// opens opens the relay and leads the worker of a link through it to its server.
func (r *relay) opens(t *testing.T, l *link) {
	t.Helper()
	r.open(t)
	yaml, err := os.ReadFile(l.worker.Config())
	if err == nil {
		err = os.WriteFile(l.worker.Config(), []byte(strings.ReplaceAll(string(yaml), r.to, r.addr)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
