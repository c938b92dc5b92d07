package kafka

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
)

// observed makes a long-lived client show its metrics under its id while it
// lives. Nil: none.
func observed(reg prometheus.Registerer, id string) []kgo.Opt {
	if reg == nil {
		return nil
	}
	metrics := kprom.NewMetrics("twinlog_kafka", kprom.Registerer(reg), kprom.WithClientLabel()) // one for each client
	return []kgo.Opt{kgo.ClientID(id), kgo.WithHooks(metrics)}
}
