package kafka

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// LettersConfig says where Letters are written.
type LettersConfig struct {
	Client   []kgo.Opt
	Metrics  prometheus.Registerer // of the client, under ClientID; nil: none
	ClientID string
	Topic    string
	MaxBytes int32 // of the largest record, framing included
}

// Letters writes single records to the only partition of a topic, in order.
// Its methods may be called from any goroutine.
type Letters struct {
	topic  string
	client *kgo.Client
}

// lettersBuffer bounds what waits for its acknowledgement (G6).
const lettersBuffer = 4 << 20

// NewLetters does not connect yet.
func NewLetters(cfg LettersConfig) (*Letters, error) {
	client, err := kgo.NewClient(append(slices.Concat(cfg.Client, observed(cfg.Metrics, cfg.ClientID)),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(cfg.MaxBytes),
		kgo.MaxBufferedBytes(max(lettersBuffer, int(cfg.MaxBytes))),
		kgo.UnknownTopicRetries(unknownTopicRetries),
	)...)
	if err != nil {
		return nil, fmt.Errorf("making a producer of %s: %w", cfg.Topic, err)
	}
	return &Letters{cfg.Topic, client}, nil
}

// Write sends a record and calls done, on another goroutine, when all replicas
// in sync have it or it has failed. It blocks while too much is on its way.
func (l *Letters) Write(ctx context.Context, r *kgo.Record, done func(error)) {
	r.Topic, r.Partition = l.topic, 0
	l.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		if err != nil {
			err = fmt.Errorf("writing to topic %s: %w", l.topic, explained(err))
		}
		done(err)
	})
}

// Close gives up what is not acknowledged yet and waits for the client's
// goroutines.
func (l *Letters) Close() { l.client.Close() }
