package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Embedded is a Kafka broker inside this process, for demonstrations and
// quick tests. It keeps its data in a directory. It makes no claim about
// crashes: killed, it may lose or repeat events.
type Embedded struct{ cluster *kfake.Cluster }

// StartEmbedded starts a broker on a free loopback port.
func StartEmbedded(dir string) (*Embedded, error) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir))
	if err != nil {
		return nil, fmt.Errorf("starting the embedded broker in %s: %w", dir, err)
	}
	return &Embedded{cluster}, nil
}

// Brokers are the addresses that clients dial.
func (e *Embedded) Brokers() []string { return e.cluster.ListenAddrs() }

// Close ends the broker.
func (e *Embedded) Close() error {
	e.cluster.Close()
	return nil
}
