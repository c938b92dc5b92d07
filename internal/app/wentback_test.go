package app_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
	"twinlog/schema"
)

// Kafka loses what it had confirmed and the targets have applied. The numbers
// of these events do not come to mean other changes: nothing is left out or done
// twice, and nobody has to mend anything.
func TestKafkaThatLostWhatItHadConfirmed(t *testing.T) {
	for _, tt := range []struct {
		name       string
		directions string
		restart    bool // the worker dies with the broker
		newer      bool // and was another one when Kafka held all that is left
	}{
		{"one-way, the worker goes on", oneWay, false, false},
		{"one-way, the worker dies too", oneWay, true, false},
		{"two-way, the worker goes on", twoWay, false, false},
		{"two-way, the worker dies too", twoWay, true, false},
		{"two-way, a newer worker goes on", twoWay, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLink(t, linkOptions{directions: tt.directions, argsA: wideBacklog(), argsB: wideBacklog()})
			l.needsRealKafka()
			sites := []*testkit.Redis{l.a}
			if tt.directions == twoWay {
				sites = append(sites, l.b)
			}
			l.run()
			load := l.load("w", sites...)
			load.more(200)
			l.kafka.Save()
			load.more(200)
			if tt.newer {
				l.worker.Kill()
				l.run()
				load.more(200)
			}
			l.applied("a-to-b", 200)
			if tt.restart {
				l.worker.Kill()
			}
			l.kafka.GoBack()
			load.more(200)
			if tt.restart {
				l.worker.Start()
			}
			l.worker.AwaitReady(time.Minute)
			load.more(200)
			load.stop()
			l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true})
			load.exact()
			if n := l.countEvents("a-to-b", schema.OpControl); n < 200 {
				t.Errorf("%d control events: nothing tells that events were lost", n)
			}
		})
	}
}

// What nobody has applied is published again, with the same numbers.
func TestKafkaThatLostWhatNobodyHadApplied(t *testing.T) {
	l := newLink(t, linkOptions{directions: oneWay, argsA: wideBacklog()})
	l.needsRealKafka()
	l.run()
	l.sets(l.a, "before", 100, "1")
	l.applied("a-to-b", 0)
	l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
	l.pause("sink-b")
	l.kafka.Save()
	load := l.load("w", l.a)
	load.more(500)
	l.kafka.GoBack()
	load.more(100)
	load.stop()
	l.resume("sink-b")
	l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace, IgnoreIdleConsumers: true})
	load.exact()
	if n := l.countEvents("a-to-b", schema.OpValue); n != 0 {
		t.Errorf("%d values: a snapshot was made for what nobody had applied", n)
	}
}

// The site whose events Kafka has lost fails over to a replica that lagged, and
// lost some of them itself: what it writes now stands where they stood in the
// replication stream, and is not taken for them. On a two-way link what it lost
// comes back.
func TestKafkaThatLostWhatASiteLostToo(t *testing.T) {
	for name, directions := range map[string]string{"one-way": oneWay, "two-way": twoWay} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, linkOptions{directions: directions, argsA: wideBacklog(), argsB: wideBacklog()})
			l.needsRealKafka()
			way := testkit.StartDelay(t, "127.0.0.1:0", l.a.Addr())
			l.config = strings.Replace(l.config, l.a.Addr(), way.Addr(), 1)
			l.worker = testkit.NewProcess(t, l.config)
			replica := testkit.StartRedis(t, wideBacklog()...)
			link := testkit.StartDelay(t, "127.0.0.1:0", l.a.Addr())
			host, port, _ := net.SplitHostPort(link.Addr())
			follow := func(host, port string) {
				t.Helper()
				if err := replica.Client().Do(t.Context(), "REPLICAOF", host, port).Err(); err != nil {
					t.Fatal(err)
				}
			}
			follow(host, port)
			l.run()
			l.sets(l.a, "before", 100, "1")
			l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
			l.kafka.Save()
			l.sets(l.a, "kept", 100, "1")
			l.a.Equal(replica, time.Minute, testkit.CompareOptions{Grace: grace})
			link.Set(time.Hour)
			l.sets(l.a, "lost", 100, "1")
			l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})

			l.worker.Kill()
			l.kafka.GoBack()
			l.a.Kill()
			follow("NO", "ONE")
			link.Cut()
			way.Lead(replica.Addr())
			l.a = replica
			l.sets(l.a, "new", 50, "1")
			l.run()
			l.sets(l.a, "new", 100, "2")
			testkit.Eventually(t, time.Minute, func() error {
				var values []string
				for i := range 100 {
					values = append(values, fmt.Sprintf("new:%d", i))
				}
				got, err := l.b.Client().MGet(t.Context(), values...).Result()
				for i, value := range got {
					if value != "2" {
						return fmt.Errorf("%s is %v at b, want 2", values[i], value)
					}
				}
				return err
			})
			if directions == oneWay {
				return // b is not asked: what it holds of the lost keys is told
			}
			l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
			if n, err := l.a.Client().Exists(t.Context(), "lost:0", "lost:99").Result(); err != nil || n != 2 {
				t.Errorf("%d of two lost keys came back: %v", n, err)
			}
		})
	}
}

// Kafka loses events while their site is away, and that comes back older than
// they are: its source has to look into the topic before it publishes anything.
func TestKafkaThatLostWhileASiteWasAway(t *testing.T) {
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
	l.needsRealKafka()
	l.run()
	l.sets(l.b, "before", 100, "1")
	l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
	if err := l.b.Client().Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	l.kafka.Save()
	l.sets(l.b, "lost", 100, "1")
	l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
	l.b.Kill()
	l.kafka.GoBack()
	l.b.Restart()
	l.worker.AwaitReady(time.Minute)
	l.sets(l.b, "new", 100, "1")
	testkit.Eventually(t, time.Minute, func() error {
		if n, err := l.b.Client().Exists(t.Context(), "lost:0", "lost:99").Result(); err != nil || n != 2 {
			return errors.Join(err, fmt.Errorf("%d of two lost keys came back", n))
		}
		return nil
	})
	l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
}
