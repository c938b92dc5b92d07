package app_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// drainLimit is what a stopping worker may take.
const drainLimit = 10 * time.Second

func TestStopUnderLoadDrainsAndASecondSignalAborts(t *testing.T) {
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
	l.needsRealKafka()
	seed(t, l.a)
	l.start()
	ls := l.load("w", l.a, l.b)
	for range 3 {
		l.applied("a-to-b", 500)
		started := time.Now()
		if code := l.worker.Stop(); code != 0 {
			t.Errorf("exit code %d after SIGTERM", code)
		}
		if took := time.Since(started); took > drainLimit {
			t.Errorf("the worker took %v to stop", took)
		}
		l.nothingOpen()
		l.worker.Start()
		l.worker.AwaitReady(time.Minute)
	}
	l.applied("a-to-b", 500)
	l.kafka.Freeze()
	ls.more(500) // so that something waits for its commit
	l.worker.Signal(syscall.SIGTERM)
	logged(t, l.worker, "draining", 4)
	if !l.worker.Running() {
		t.Error("the worker ended without having drained")
	}
	l.worker.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if code, err := l.worker.Wait(ctx); err != nil || code == 0 {
		t.Errorf("exit code %d (%v) after a second SIGTERM, want another one than 0 at once", code, err)
	}
	l.kafka.Thaw()
	l.worker.Start()
	l.worker.AwaitReady(time.Minute)
	ls.more(100)
	ls.stop()
	l.settled(time.Minute)
	ls.exact()
}

// nothingOpen holds that no Kafka transaction was left to be settled: what
// was read is committed, and nothing else was produced.
func (l *link) nothingOpen() {
	l.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(l.kafka.Brokers()...))
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	for _, topic := range []string{linkName + ".a-to-b", linkName + ".b-to-a"} {
		ends, err := adm.ListEndOffsets(l.t.Context(), topic)
		if err != nil {
			l.t.Fatal(err)
		}
		stable, err := adm.ListCommittedOffsets(l.t.Context(), topic)
		if err != nil {
			l.t.Fatal(err)
		}
		end, _ := ends.Lookup(topic, 0)
		last, _ := stable.Lookup(topic, 0)
		if end.Offset == 0 || last.Offset != end.Offset {
			l.t.Errorf("topic %s is settled up to offset %d and ends at %d", topic, last.Offset, end.Offset)
		}
	}
}
