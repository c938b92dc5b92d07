package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinlog/internal/admin"
	"twinlog/internal/testkit"
)

// A worker that stood still while another one took its work over is fenced
// by Kafka and by the mark: it says so and writes nothing any more.
func TestCrashOfAZombieThatComesBackWritesNothing(t *testing.T) {
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
	seed(t, l.a)
	l.start()
	ls := l.load("w", l.a, l.b)
	l.applied("a-to-b", 500)
	zombie := l.worker
	zombie.Signal(syscall.SIGSTOP)

	l.worker = testkit.NewProcess(t, l.config)
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	l.applied("a-to-b", 1000)
	l.applied("b-to-a", 1000)

	zombie.Signal(syscall.SIGCONT)
	testkit.Eventually(t, time.Minute, func() error {
		st, err := status(zombie)
		if err != nil {
			return err
		}
		for _, d := range st.Directions {
			for name, c := range map[string]struct {
				state admin.State
				trace string
			}{d.Source.Name: {d.Source.State, d.Source.Trace}, d.Sink.Name: {d.Sink.State, d.Sink.Trace}} {
				if c.state != admin.StateFailed || !strings.Contains(c.trace, "another twinlog") {
					return fmt.Errorf("%s of the worker that was taken over is %s: %s", name, c.state, c.trace)
				}
			}
		}
		return nil
	})
	if code, body, err := zombie.Get("/readyz"); err != nil || code == http.StatusOK {
		t.Errorf("/readyz of the worker that was taken over: %d %s %v", code, body, err)
	}
	written := func() float64 {
		return metric(t, zombie, "twinlog_sink_batches_total", "") + metric(t, zombie, "twinlog_source_commits_total", "")
	}
	before := written()
	l.applied("a-to-b", 2000)
	l.applied("b-to-a", 2000)
	if after := written(); after != before {
		t.Errorf("the worker that was taken over wrote %v batches more", after-before)
	}
	ls.stop()
	l.settled(time.Minute)
	ls.exact()
	if code := zombie.Stop(); code != 0 {
		t.Errorf("exit code %d of the worker that was taken over, after SIGTERM", code)
	}
	if code := l.worker.Stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}

func TestCrashOfTwoWorkersThatStartAtOnceLeavesOneAtWork(t *testing.T) {
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
	l.start()
	ls := l.load("w", l.a, l.b)
	l.worker.Kill()
	workers := []*testkit.Process{l.worker, testkit.NewProcess(t, l.config), testkit.NewProcess(t, l.config)}
	for _, w := range workers {
		w.Start()
	}
	working := func() (n int) {
		for _, w := range workers {
			if code, _, err := w.Get("/readyz"); err == nil && code == http.StatusOK {
				n++
			}
		}
		return n
	}
	testkit.Eventually(t, time.Minute, func() error {
		if n := working(); n != 1 {
			return fmt.Errorf("%d workers do the work of one link", n)
		}
		return nil
	})
	l.applied("a-to-b", 1000)
	l.applied("b-to-a", 1000)
	ls.stop()
	l.settled(time.Minute)
	ls.exact()
	if n := working(); n != 1 {
		t.Errorf("%d workers do the work of one link", n)
	}
}
