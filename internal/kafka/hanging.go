package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
)

// abortHanging ends transactions of this ring's ids that Kafka itself forgot.
//
// A broker that is killed while it settles a transaction may come back, not
// know the leader of the partition yet, and take the transaction for settled
// without having written its marker. Readers would then wait behind it for
// ever. Once the ids are taken, the coordinator holds no transaction of their
// earlier epochs: what the partition still holds open is such a one, and
// nobody can have read it.
func (r *Ring) abortHanging(ctx context.Context) error {
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
		responses, err := adm.WriteTxnMarkers(ctx, kadm.TxnMarkers{
			ProducerID: id, ProducerEpoch: p.ProducerEpoch, CoordinatorEpoch: max(p.CoordinatorEpoch, 0), Topics: partition,
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
