package kafka

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// endHanging ends transactions of this ring's ids that Kafka itself forgot.
//
// A broker that is killed while it settles a transaction may come back, not
// know the leader of the partition yet, and take the transaction for settled
// without having written its marker. Readers would then wait behind it for
// ever. Once the ids are taken, the coordinator holds no transaction of their
// earlier epochs: what the partition still holds open is such a one. It was
// committed if one behind it was: a ring commits in order (rule 6). Otherwise
// nobody can have read anything behind its begin, and it is aborted.
func (r *Ring) endHanging(ctx context.Context) error {
	adm := kadm.NewClient(r.clients[0])
	var partition kadm.TopicsSet
	partition.Add(r.cfg.Topic, r.cfg.Partition)
	topics, err := adm.DescribeProducers(ctx, partition)
	if err != nil {
		return nil //nolint:nilerr // a broker that is away fails the reading too; one before 2.8 cannot tell
	}
	described := topics[r.cfg.Topic].Partitions[r.cfg.Partition] // without producers if there was an error
	for _, client := range r.clients {
		id, epoch, err := client.ProducerID(ctx)
		if err != nil {
			return explained(err)
		}
		p, ok := described.ActiveProducers[id]
		if !ok || p.CurrentTxnStartOffset < 0 || p.ProducerEpoch >= epoch {
			continue
		}
		committed, err := r.committedBehind(ctx, id, p.CurrentTxnStartOffset)
		if err != nil {
			return err
		}
		responses, err := adm.WriteTxnMarkers(ctx, kadm.TxnMarkers{
			ProducerID: id, ProducerEpoch: p.ProducerEpoch, Commit: committed, CoordinatorEpoch: max(p.CoordinatorEpoch, 0), Topics: partition,
		})
		if err == nil {
			responses.EachPartition(func(answer kadm.TxnMarkersPartitionResponse) {
				if answer.Err != nil {
					err = answer.Err
				}
			})
		}
		if err != nil {
			return fmt.Errorf("topic %s, partition %d: the transaction of producer %d at offset %d was never ended by Kafka and cannot be ended from here: %w: "+
				"end it with `kafka-transactions.sh abort --topic %s --partition %d --start-offset %d`, or give the user ClusterAction on the cluster",
				r.cfg.Topic, r.cfg.Partition, id, p.CurrentTxnStartOffset, explained(err), r.cfg.Topic, r.cfg.Partition, p.CurrentTxnStartOffset)
		}
	}
	return nil
}

// committedBehind tells whether a transaction that begins behind the offset
// from, of another producer, is committed.
func (r *Ring) committedBehind(ctx context.Context, producer, from int64) (bool, error) {
	failed := func(err error) error {
		return fmt.Errorf("reading %s behind the transaction at offset %d, which was never ended: %w", r.cfg.Topic, from, explained(err))
	}
	ends, err := kadm.NewClient(r.clients[0]).ListEndOffsets(ctx, r.cfg.Topic)
	end, ok := ends.Lookup(r.cfg.Topic, r.cfg.Partition)
	if err == nil && ok {
		err = end.Err
	}
	if err != nil || !ok {
		return false, failed(err)
	}
	client, err := kgo.NewClient(append(slices.Clone(r.cfg.Client),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.cfg.Topic: {r.cfg.Partition: kgo.NewOffset().At(from)}}),
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()), kgo.KeepControlRecords(), kgo.FetchMaxBytes(fetchBytes),
	)...)
	if err != nil {
		return false, failed(err)
	}
	defer client.Close()
	begun := map[int64]bool{} // producers with records behind from
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return false, failed(err)
		}
		for _, record := range fetches.Records() {
			switch {
			case record.Offset >= end.Offset || record.ProducerID == producer:
			case !record.Attrs.IsControl():
				begun[record.ProducerID] = true
			case begun[record.ProducerID] && isCommit(record):
				return true, nil
			}
			if record.Offset >= end.Offset-1 {
				return false, nil
			}
		}
	}
}

// isCommit tells whether a control record commits a transaction.
func isCommit(record *kgo.Record) bool {
	var key kmsg.ControlRecordKey
	return key.ReadFrom(record.Key) == nil && key.Type == kmsg.ControlRecordKeyTypeCommit
}
