package testkit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/offsets"
	"twinlog/schema"
)

// read judges a topic from its start until everything that must be there is,
// or something is wrong.
func (j *judge) read(ctx context.Context, brokers []string, topic string) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(100*time.Millisecond),
	)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	defer client.Close()
	next := int64(0)
	var missing error // when it was looked at last
	for {
		end, err := committedEnd(ctx, client, topic)
		if err != nil {
			return errors.Join(missing, err)
		}
		for next < end {
			fetches := client.PollFetches(ctx)
			if err := errors.Join(ctx.Err(), fetches.Err()); err != nil {
				return fmt.Errorf("reading at offset %d: %w", next, err)
			}
			for r := range fetches.RecordsAll() {
				if err := j.take(ctx, r); err != nil {
					return err
				}
				next = r.Offset + 1
			}
		}
		err = errors.Join(j.wrong...)
		if err != nil {
			return err
		}
		if err = j.complete(); err == nil {
			j.sums.units, j.sums.echoes = j.recorder.sums()
			return nil
		}
		missing = err
		select {
		case <-ctx.Done():
			return errors.Join(missing, ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// committedEnd is the offset up to which a read_committed reader can read.
func committedEnd(ctx context.Context, client *kgo.Client, topic string) (int64, error) {
	listed, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("asking for the end of the topic: %w", err)
	}
	o, ok := listed.Lookup(topic, 0)
	switch {
	case !ok:
		return 0, errors.New("the topic has no partition 0")
	case o.Err != nil:
		return 0, fmt.Errorf("asking for the end of the topic: %w", o.Err)
	}
	return o.Offset, nil
}

// producer is who wrote a record.
type producer struct {
	id    int64
	epoch int16
}

func producerOf(r *kgo.Record) producer { return producer{r.ProducerID, r.ProducerEpoch} }

// transactions follows the Kafka transactions of a topic, of which several
// may be open at a time: the last record of each carries the position.
type transactions map[int64]lastRecord // by producer id

type lastRecord struct {
	epoch    int16 // of its producer
	seq      int64
	offset   int64
	position bool
}

// add takes a record of an open transaction. A producer gets a new epoch when
// Kafka has taken its commit; a broker that is killed then may never write the
// marker, and the next one ends both.
func (t transactions) add(r *kgo.Record, seq int64) error {
	last, open := t[r.ProducerID]
	ended := open && last.epoch != r.ProducerEpoch
	text := header(r, schema.HeaderPosition)
	t[r.ProducerID] = lastRecord{epoch: r.ProducerEpoch, seq: seq, offset: r.Offset, position: text != ""}
	if ended && !last.position {
		return fmt.Errorf("offset %d is the last record of its transaction and carries no position", last.offset)
	}
	if open && !ended && last.position {
		return fmt.Errorf("offset %d carries a position but is not the last record of its transaction", last.offset)
	}
	if text == "" {
		return nil
	}
	p, err := offsets.ParsePosition([]byte(text))
	if err == nil && p.Seq != seq {
		err = fmt.Errorf("the position has seq %d, the event %d", p.Seq, seq)
	}
	return err
}

// end takes a transaction's end, and tells whether a reader saw anything of it.
func (t transactions) end(r *kgo.Record) (seen bool, err error) {
	last, open := t[r.ProducerID]
	delete(t, r.ProducerID)
	if open && !last.position {
		err = fmt.Errorf("the transaction's last record, at offset %d, carries no position", last.offset)
	}
	return open, err
}
