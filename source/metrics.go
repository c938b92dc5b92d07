package source

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"twinlog/offsets"
)

// Metrics counts what a source does. One Metrics serves one source, whatever
// the number of its restarts.
type Metrics struct {
	events, bytes, echoes, commits, ringErrors, fullSyncs, gaps, snapshotKeys prometheus.Counter
	commitSeconds                                                             prometheus.Histogram
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
		gaps:         counter("gaps_total", "Times the Redis did not go on from the position."),
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
		gauge("memory_bytes", "Bytes kept in memory until their commit is known.", func() float64 { return float64(s.lane.weight()) }),
		gauge("spool_bytes", "Bytes kept on disk until Kafka takes them.", func() float64 { return float64(s.lane.spooled()) }),
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

// conflictKinds names the rules of conflicts in metrics.
var conflictKinds = map[offsets.Rule]string{
	offsets.RuleD: "removal", offsets.RuleR: "value", offsets.RuleH: "home", offsets.RuleNoEffect: "no_effect", offsets.RuleSwap: "swapdb",
}

// ObserveLedger registers what a site's ledger holds and the conflicts decided
// at the site.
func ObserveLedger(reg prometheus.Registerer, link, direction, site string, size func() offsets.LedgerSize, conflicts *offsets.Conflicts) {
	reg = prometheus.WrapRegistererWith(prometheus.Labels{"link": link, "direction": direction, "site": site}, reg)
	all := make([]prometheus.Collector, 0, 5+len(conflictKinds))
	all = append(all,
		gauge("dirty_keys", "Keys in conflict whose value is still to be published.", func() float64 { return float64(size().Dirty) }),
		gauge("ledger_events", "Own changes that the peer has not seen, about.", func() float64 { return float64(size().Unseen) }),
		ledgerBytes("memory", func() float64 { return float64(size().Memory) }),
		ledgerBytes("disk", func() float64 { return float64(size().Disk) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "twinlog_source_repaired_total", Help: "Keys in conflict whose value was published."},
			func() float64 { return float64(conflicts.Repaired()) }),
	)
	for rule, kind := range conflictKinds {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "twinlog_source_conflicts_total", Help: "Conflicts decided at the site.", ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 { return float64(conflicts.Count(rule)) }))
	}
	reg.MustRegister(all...)
}

func ledgerBytes(where string, read func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "twinlog_source_ledger_bytes", Help: "Bytes of the ledger of own changes that the peer has not seen.",
		ConstLabels: prometheus.Labels{"where": where},
	}, read)
}

func gauge(name, help string, read func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "twinlog_source_" + name, Help: help}, read)
}
