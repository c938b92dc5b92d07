package kafka

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// settle makes the partition ready for this ring's first transaction, where
// Kafka itself has lost something: nobody else would ever do it. Called once
// the ids are taken, when the coordinator holds no transaction of theirs.
func (r *Ring) settle(ctx context.Context) error {
	producers, err := r.producers(ctx)
	if err != nil {
		return fmt.Errorf("asking for the producers of %s: %w", r.cfg.Topic, explained(err))
	}
	for i := range r.clients {
		id, epoch, err := r.clients[i].ProducerID(ctx)
		if err != nil {
			return explained(err)
		}
		p, ok := producers[id]
		if !ok {
			continue
		}
		if p.ProducerEpoch >= epoch {
			if err := r.outgrow(ctx, i, p.ProducerEpoch); err != nil {
				return err
			}
		}
		if p.CurrentTxnStartOffset >= 0 {
			if err := r.endHanging(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// producers returns the producers that the partition knows: none where brokers
// cannot tell (before 2.8).
func (r *Ring) producers(ctx context.Context) (kadm.DescribedProducers, error) {
	adm := kadm.NewClient(r.clients[0])
	topics, err := adm.DescribeProducers(ctx, r.partition())
	described, known := topics[r.cfg.Topic].Partitions[r.cfg.Partition]
	switch {
	case err == nil && known && described.Err == nil:
		return described.ActiveProducers, nil
	case err == nil && known:
		err = described.Err
	case err == nil: // a broker that has just started does not know what it leads
		err = errUnavailable
	}
	brokers, _ := adm.ApiVersions(ctx) // unanswered: it is not known that they cannot
	for _, broker := range brokers {
		if _, can := broker.KeyMaxVersion(kmsg.DescribeProducers.Int16()); broker.Err == nil && !can {
			return nil, nil
		}
	}
	return nil, err
}

func (r *Ring) partition() (set kadm.TopicsSet) {
	set.Add(r.cfg.Topic, r.cfg.Partition)
	return set
}

// outgrow takes an id again until its epoch is above the one that the partition
// has seen.
//
// A coordinator that lost the end of its log, when the machine died, hands out
// epochs that the partition knows. It would refuse lower ones, and take what is
// sent with the same one for what it holds already. A ring that took the ids
// meanwhile also has higher epochs: then the coordinator refuses ours.
func (r *Ring) outgrow(ctx context.Context, i int, seen int16) error {
	client := r.clients[i]
	producer, epoch, err := client.ProducerID(ctx)
	if err != nil {
		return explained(err)
	}
	for first := producer; producer == first && epoch < seen; { // a used up id is replaced
		again := kmsg.NewPtrInitProducerIDRequest()
		again.TransactionalID, again.TransactionTimeoutMillis = new(r.id(i)), int32(transactionTimeout.Milliseconds())
		again.ProducerID, again.ProducerEpoch = producer, epoch
		taken, err := again.RequestWith(ctx, client)
		if err == nil {
			err = kerr.ErrorForCode(taken.ErrorCode)
		}
		if err != nil {
			return fmt.Errorf("taking transactional id %s above epoch %d, which %s has seen: %w", r.id(i), seen, r.cfg.Topic, explained(err))
		}
		producer, epoch = taken.ProducerID, taken.ProducerEpoch
	}
	client.Close()
	if r.clients[i], err = r.newClient(i); err != nil {
		return fmt.Errorf("making producer %d: %w", i, err)
	}
	return r.take(ctx, i)
}

// unsettled tells of a transaction of an id that its coordinator is settling,
// nil if there is none.
//
// A coordinator that lost the end of its log may have to settle a transaction
// that the partition has seen the end of, with an epoch that the partition
// refuses. It never gets over that.
func (r *Ring) unsettled(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, takes/5)
	defer cancel()
	described, err := kadm.NewClient(r.clients[i]).DescribeTransactions(ctx, r.id(i))
	txn, ok := described[r.id(i)]
	if err != nil || !ok || txn.Err != nil || !strings.HasPrefix(txn.State, "Prepare") {
		return nil // what kept the id from being had is told already
	}
	return fmt.Errorf("its last transaction is never settled (%s, producer %d, epoch %d): if that stays, Kafka's transaction log has lost what %s knows of that producer; "+
		"restart the brokers with producer.id.expiration.ms=1 in their configuration files, and again without it", txn.State, txn.ProducerID, txn.ProducerEpoch, r.cfg.Topic)
}

// endHanging ends a transaction of one of this ring's ids that Kafka itself
// forgot.
//
// A broker that is killed while it settles a transaction may come back, not
// know the leader of the partition yet, and take the transaction for settled
// without having written its marker; or its coordinator lost the end of its
// log. Readers would then wait behind it for ever. It was committed if one
// behind it was: a ring commits in order (rule 6). Otherwise nobody can have
// read anything behind its begin, and it is aborted.
func (r *Ring) endHanging(ctx context.Context, p kadm.DescribedProducer) error {
	committed, err := r.committedBehind(ctx, p.ProducerID, p.CurrentTxnStartOffset)
	if err != nil {
		return err
	}
	responses, err := kadm.NewClient(r.clients[0]).WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, Commit: committed, CoordinatorEpoch: max(p.CoordinatorEpoch, 0), Topics: r.partition(),
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
			r.cfg.Topic, r.cfg.Partition, p.ProducerID, p.CurrentTxnStartOffset, explained(err), r.cfg.Topic, r.cfg.Partition, p.CurrentTxnStartOffset)
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
