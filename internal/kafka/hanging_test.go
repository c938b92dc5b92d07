package kafka_test

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"twinlog/internal/kafka"
	"twinlog/internal/testkit"
)

func TestRingEndsATransactionThatKafkaForgot(t *testing.T) {
	k := testkit.StartKafka(t)
	if !k.Real() {
		t.Skip("this test needs Apache Kafka, which verifies transactions only if it is told to: install Java and Maven")
	}
	const topic, prefix = "hanging", "twinlog.hanging.a.0"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	if _, err := adm.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	off := "false"
	if _, err := adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "transaction.partition.verification.enable", Value: &off}}); err != nil {
		t.Fatal(err)
	}
	forgotten(ctx, t, k, prefix+".0", topic)

	ring, err := kafka.OpenRing(ctx, kafka.RingConfig{
		Client: []kgo.Opt{kgo.SeedBrokers(k.Brokers()...)}, Prefix: prefix, Topic: topic, MaxBufferedBytes: 1 << 20, BatchMaxBytes: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	tail, err := ring.Tail(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(tail.Records) != 0 {
		t.Errorf("the tail holds %d events that were never committed", len(tail.Records))
	}
	if err := ring.Publish(ctx, []*kgo.Record{{Topic: topic, Value: []byte("next")}}, func() {}); err != nil {
		t.Fatal(err)
	}
	if err := ring.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if tail, err = ring.Tail(ctx); err != nil || len(tail.Records) != 1 || string(tail.Records[0].Value) != "next" {
		t.Errorf("the tail is %v (%v), want the event that was published", tail.Records, err)
	}
}

// forgotten writes a transactional record of which the coordinator knows
// nothing, until the partition shows an open transaction.
func forgotten(ctx context.Context, t *testing.T, k *testkit.Kafka, id, topic string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...), kgo.TransactionalID(id))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	producer, epoch, err := client.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	produce := kmsg.NewPtrProduceRequest()
	produce.TransactionID, produce.Acks, produce.TimeoutMillis = &id, -1, 10_000
	partition := kmsg.NewProduceRequestTopicPartition()
	partition.Records = transactionalBatch(producer, epoch)
	named := kmsg.NewProduceRequestTopic()
	named.Topic, named.Partitions = topic, []kmsg.ProduceRequestTopicPartition{partition}
	produce.Topics = []kmsg.ProduceRequestTopic{named}
	plain, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...), kgo.MaxVersions(kversion.V3_8_0()) /* a produce does not tell the coordinator yet */)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	testkit.Eventually(t, 30*time.Second, func() error { // the broker takes its new configuration when it likes
		response, err := produce.RequestWith(ctx, plain)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
	})
	var partitions kadm.TopicsSet
	partitions.Add(topic, 0)
	described, err := kadm.NewClient(plain).DescribeProducers(ctx, partitions)
	if err != nil {
		t.Fatal(err)
	}
	if open := described[topic].Partitions[0].ActiveProducers[producer]; open.CurrentTxnStartOffset != 0 {
		t.Fatalf("no transaction is open: %+v", described)
	}
}

// transactionalBatch is a record batch of one record, as a producer sends it.
func transactionalBatch(producer int64, epoch int16) []byte {
	const transactional = 1 << 4
	record := []byte{0, 0, 0, 1, 2, 'x', 0} // attributes, timestamp, offset, no key, a value of 1 byte, no headers
	now := time.Now().UnixMilli()
	batch := kmsg.RecordBatch{
		Magic: 2, Attributes: transactional, FirstTimestamp: now, MaxTimestamp: now, PartitionLeaderEpoch: -1,
		ProducerID: producer, ProducerEpoch: epoch, NumRecords: 1,
		Records: append(binary.AppendVarint(nil, int64(len(record))), record...),
	}
	raw := batch.AppendTo(nil)
	const length, crc, body = 8, 17, 21 // places in raw
	binary.BigEndian.PutUint32(raw[length:], uint32(len(raw)-length-4))
	binary.BigEndian.PutUint32(raw[crc:], crc32.Checksum(raw[body:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}
