package source

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what a source does. One Metrics serves one source, whatever
// the number of its restarts.
type Metrics struct {
	events, bytes, echoes, commits, ringErrors, fullSyncs, snapshotKeys prometheus.Counter
	commitSeconds                                                       prometheus.Histogram
}

// NewMetrics registers a source's metrics with the labels link, direction and
// site.
func NewMetrics(reg prometheus.Registerer, link, direction, site string) *Metrics {
	labels := prometheus.Labels{"link": link, "direction": direction, "site": site}
	f := promauto.With(prometheus.WrapRegistererWith(labels, reg))
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "twinlog_source_" + name, Help: help})
	}
	return &Metrics{
		events:       counter("events_total", "Events captured."),
		bytes:        counter("stream_bytes_total", "Bytes of the replication stream read."),
		echoes:       counter("echoes_total", "Units dropped because the link's own sink wrote them."),
		commits:      counter("commits_total", "Kafka transactions committed."),
		ringErrors:   counter("ring_errors_total", "Times publishing was interrupted and a new ring of transactional ids was opened."),
		fullSyncs:    counter("full_syncs_total", "Full synchronisations asked of the Redis."),
		snapshotKeys: counter("snapshot_keys_total", "Keys and functions captured from snapshots."),
		commitSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "twinlog_source_commit_seconds", Help: "From the begin of producing a batch until its commit was confirmed.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
	}
}

// Observe registers gauges that read the source's status at each scrape and
// returns a function that takes them out again.
func (s *Source) Observe(reg prometheus.Registerer) (remove func()) {
	reg = prometheus.WrapRegistererWith(prometheus.Labels{"link": s.cfg.Link, "direction": s.cfg.Direction, "site": s.cfg.Site}, reg)
	gauges := []prometheus.Collector{
		gauge("behind_seconds", "Age of the oldest change read from the Redis that Kafka does not hold.", func() float64 { return s.Status().Behind.Seconds() }),
		gauge("connected", "1 while the replication link is up.", func() float64 {
			if s.Status().Connected {
				return 1
			}
			return 0
		}),
		gauge("seq", "Seq of the last event captured.", func() float64 { return float64(s.Status().Position.Seq) }),
		gauge("committed_seq", "Seq of the last event that Kafka holds.", func() float64 { return float64(s.Status().Committed.Seq) }),
		gauge("snapshot_bytes", "Bytes read of the running or last snapshot.", func() float64 { return float64(s.Status().SnapshotBytes) }),
		gauge("memory_bytes", "Bytes kept until their commit is known.", func() float64 { return float64(s.lane.weight()) }),
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
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "twinlog_source_" + name, Help: help}, read)
}
