package sink

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what a sink does. One Metrics serves one sink, whatever the
// number of its restarts.
type Metrics struct {
	events, commands, batches, restarts, errors, snapshotRemoved, noEffect, retries prometheus.Counter
	batchSeconds                                                                    prometheus.Histogram
	unproven                                                                        prometheus.Gauge
	leftOut                                                                         map[leftOutKind]*tally
	deadLetters                                                                     tally
}

// leftOutKind is what was left out because the target has written since what
// the event had not seen.
type leftOutKind string

const (
	leftOutDeletion leftOutKind = "deletion" // a whole key
	leftOutElement  leftOutKind = "element"  // HDEL, SREM, ZREM, LREM, XDEL: each element
	leftOutPop      leftOutKind = "pop"      // pops, trims, removals by range
	leftOutFlush    leftOutKind = "flush"    // a key that FLUSHDB or FLUSHALL would have removed
	leftOutValue    leftOutKind = "value"    // a whole value (rule R)
)

var leftOutKinds = []leftOutKind{leftOutDeletion, leftOutElement, leftOutPop, leftOutFlush, leftOutValue}

// tally is a counter that the status reads too.
type tally struct{ n atomic.Int64 }

func (t *tally) add(n int)     { t.n.Add(int64(n)) }
func (t *tally) read() float64 { return float64(t.n.Load()) }

// NewMetrics registers a sink's metrics with the labels link, direction and
// site.
func NewMetrics(reg prometheus.Registerer, link, direction, site string) *Metrics {
	labels := prometheus.Labels{"link": link, "direction": direction, "site": site}
	f := promauto.With(prometheus.WrapRegistererWith(labels, reg))
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "twinlog_sink_" + name, Help: help})
	}
	m := &Metrics{
		events:          counter("events_total", "Events applied."),
		commands:        counter("commands_total", "Commands sent for them, marks not counted."),
		batches:         counter("batches_total", "EXECs that took effect."),
		restarts:        counter("restarts_total", "Times applying was interrupted and went on from the mark."),
		errors:          counter("errors_total", "Batches with a command that had no effect."),
		snapshotRemoved: counter("snapshot_removed_total", "Keys removed at the end of a snapshot that lacks them."),
		noEffect:        counter("no_effect_total", "Commands that had no effect because of what the target wrote itself: a conflict, not an error."),
		retries:         counter("fence_retries_total", "Times a removal was decided again because its key was written meanwhile."),
		unproven:        f.NewGauge(prometheus.GaugeOpts{Name: "twinlog_sink_unproven_keys", Help: "Keys that the last snapshot behind a gap lacked, and that were left because nothing proves that its site ever had them."}),
		leftOut:         map[leftOutKind]*tally{},
		batchSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "twinlog_sink_batch_seconds", Help: "From sending a batch until all its replies were read.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16),
		}),
	}
	f.NewCounterFunc(prometheus.CounterOpts{Name: "twinlog_sink_dead_letters_total", Help: "Records written to the dead-letter topic."}, m.deadLetters.read)
	for _, kind := range leftOutKinds {
		t := &tally{}
		m.leftOut[kind] = t
		f.NewCounterFunc(prometheus.CounterOpts{
			Name: "twinlog_sink_left_out_total", Help: "Removals and values left out: the target had written since what they had not seen.",
			ConstLabels: prometheus.Labels{"kind": string(kind)},
		}, t.read)
	}
	return m
}

// LeftOut is how much was left out since the worker was started.
func (s *Sink) LeftOut() int64 {
	var n int64
	for _, t := range s.cfg.Metrics.leftOut {
		n += t.n.Load()
	}
	return n
}

func (m *Metrics) applied(b *batch, took time.Duration) {
	m.events.Add(float64(b.events))
	m.commands.Add(float64(len(b.items)))
	m.batches.Inc()
	m.batchSeconds.Observe(took.Seconds())
}

// Observe registers gauges that read the sink's status at each scrape and
// returns a function that takes them out again.
func (s *Sink) Observe(reg prometheus.Registerer) (remove func()) {
	reg = prometheus.WrapRegistererWith(prometheus.Labels{"link": s.cfg.Link, "direction": s.cfg.Direction, "site": s.cfg.Target}, reg)
	gauges := []prometheus.Collector{
		gauge("lag_seconds", "Age of the last event applied while more are waiting, else 0. Includes the clocks' difference.", func() float64 { return s.Status().LagSeconds(time.Now()) }),
		gauge("lag_events", "Offsets between the last event applied and the end of the topic.", func() float64 { return float64(s.Status().LagEvents()) }),
		gauge("quarantined_keys", "Keys whose events go to the dead-letter topic until an r event or a deletion of them comes.", func() float64 { return float64(s.quarantined()) }),
		gauge("seq", "Seq of the last event applied.", func() float64 { return float64(s.Status().Mark.Seq) }),
	}
	for _, g := range gauges {
		reg.MustRegister(g)
	}
	return func() {
		for _, g := range gauges {
			reg.Unregister(g)
		}
	}
}

func gauge(name, help string, read func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "twinlog_sink_" + name, Help: help}, read)
}

// LagEvents is how many offsets of the topic wait to be applied, -1 when the
// topic's end is not known yet.
func (st Status) LagEvents() int64 {
	if st.EndOffset < 0 {
		return -1
	}
	return max(st.EndOffset-st.NextOffset, 0)
}

// LagSeconds is how old the last applied event is while others wait, -1 when
// it is not known whether any do.
func (st Status) LagSeconds(now time.Time) float64 {
	if st.EndOffset < 0 {
		return -1
	}
	if st.CaughtUp || st.AppliedMs == 0 {
		return 0
	}
	return max(now.Sub(time.UnixMilli(st.AppliedMs)).Seconds(), 0)
}
