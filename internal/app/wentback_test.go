package app_test

import (
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
