package sink

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what a sink does. One Metrics serves one sink, whatever the
// number of its restarts.
type Metrics struct {
	events, commands, batches, restarts, errors, snapshotRemoved prometheus.Counter
	batchSeconds                                                 prometheus.Histogram
}

// NewMetrics registers a sink's metrics with the labels link, direction and
// site.
func NewMetrics(reg prometheus.Registerer, link, direction, site string) *Metrics {
	labels := prometheus.Labels{"link": link, "direction": direction, "site": site}
	f := promauto.With(prometheus.WrapRegistererWith(labels, reg))
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "twinlog_sink_" + name, Help: help})
	}
	return &Metrics{
		events:          counter("events_total", "Events applied."),
		commands:        counter("commands_total", "Commands sent for them, marks not counted."),
		batches:         counter("batches_total", "EXECs that took effect."),
		restarts:        counter("restarts_total", "Times applying was interrupted and went on from the mark."),
		errors:          counter("errors_total", "Batches with a command that had no effect."),
		snapshotRemoved: counter("snapshot_removed_total", "Keys removed because only an interrupted snapshot had them."),
		batchSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "twinlog_sink_batch_seconds", Help: "From sending a batch until all its replies were read.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 16),
		}),
	}
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
