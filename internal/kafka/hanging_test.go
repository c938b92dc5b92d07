package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"twinlog/internal/kafka"
	"twinlog/internal/testkit"
)

func TestRingAbortsATransactionThatKafkaForgot(t *testing.T) {
	h := newHanging(t)
	h.open()
	h.holds()
	h.publish("next")
	h.holds("next")
}

// What Kafka forgot was committed if one behind it was: without it the topic
// would have a hole.
func TestRingCommitsATransactionThatKafkaForgotIfALaterOneIsCommitted(t *testing.T) {
	h := newHanging(t)
	h.commit("later")
	h.open()
	h.holds("x", "later")
	h.publish("next")
	h.holds("x", "later", "next")
}

// A coordinator that lost the end of its log hands out epochs that the
// partition knows: what is sent with them is refused, or taken for what came
// with them before.
func TestRingOutgrowsEpochsThatTheCoordinatorLost(t *testing.T) {
	h, _ := newTopic(t)
	h.open()
	h.publish("1")
	h.ring.Close()
	h.kafka.Save()

	h.open()
	want := h.publishes([]string{"1"}, 20)
	h.holds(want...)
	h.begin("open")
	h.ring.Close()
	h.kafka.GoBackIn("__transaction_state")

	h.open()
	h.holds(want...)
	h.holds(h.publishes(want, 30)...)
}

// If it held a transaction then, it cannot settle that any more: the ring tells
// what can be done, and that helps.
func TestRingTellsWhatHelpsACoordinatorThatCannotSettle(t *testing.T) {
	h, _ := newTopic(t)
	h.open()
	h.saveBeforeCommit("1", "2")
	want := h.publishes([]string{"1", "2"}, 20)
	h.holds(want...) // no commit is on its way
	h.ring.Close()
	h.kafka.GoBackIn("__transaction_state")

	_, err := kafka.OpenRing(h.ctx(), h.config())
	const remedy = "producer.id.expiration.ms=1"
	if err == nil || !strings.Contains(err.Error(), "PrepareAbort") || !strings.Contains(err.Error(), remedy) {
		t.Fatalf("it does not tell what can be done: %v", err)
	}
	h.kafka.Stop()
	h.kafka.Configure(remedy)
	h.kafka.Restart()
	h.open()
	h.holds(want...)
	h.holds(h.publishes(want, 30)...)
}

// A broker that lost a commit and kept its records does not get the next one:
// the topic would have a hole.
func TestRingCommitsNothingBehindACommitThatKafkaLost(t *testing.T) {
	h, _ := newTopic(t)
	h.open()
	h.saveBeforeCommit("1", "2")
	h.kafka.GoBack()
	err := h.tryProduce("3", func() {})
	if err == nil {
		err = h.ring.Wait(h.ctx())
	}
	if err == nil {
		t.Error("a transaction is committed behind one that is not any more")
	}
	h.ring.Close()
	h.open()
	h.holds("1")
	h.publish("2")
	h.holds("1", "2")
}

// A broker that has just started may not know what it leads: then nobody knows
// whether a transaction hangs. One before 2.8 never tells.
func TestRingOpensWithoutKnowingTheProducersOnlyIfBrokersCannotTell(t *testing.T) {
	for name, c := range map[string]struct {
		versions *kversion.Versions
		answer   *kerr.Error
		opens    bool
	}{
		"just started": {kversion.Stable(), kerr.NotLeaderForPartition, false},
		"before 2.8":   {kversion.V2_7_0(), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, hangingTopic), kfake.MaxVersions(c.versions))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			cluster.ControlKey(kmsg.DescribeProducers.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				response := request.ResponseKind().(*kmsg.DescribeProducersResponse)
				partition := kmsg.NewDescribeProducersResponseTopicPartition()
				partition.ErrorCode = c.answer.Code
				topic := kmsg.NewDescribeProducersResponseTopic()
				topic.Topic, topic.Partitions = hangingTopic, []kmsg.DescribeProducersResponseTopicPartition{partition}
				response.Topics = []kmsg.DescribeProducersResponseTopic{topic}
				return response, nil, true
			})
			ring, err := kafka.OpenRing(t.Context(), (&hanging{brokers: cluster.ListenAddrs()}).config(kgo.RequestRetries(1)))
			if err == nil {
				ring.Close()
			}
			if opens := err == nil; opens != c.opens || !opens && !errors.Is(err, c.answer) {
				t.Errorf("it opens: %v, want %v: %v", opens, c.opens, err)
			}
		})
	}
}

// hanging is a topic, and the ring that publishes to it.
type hanging struct {
	t       *testing.T
	kafka   *testkit.Kafka
	brokers []string
	ring    *kafka.Ring
}

const hangingTopic, hangingPrefix = "hanging", "twinlog.hanging.a.0"

// newHanging is a topic with a transaction of which the coordinator knows
// nothing; its only record is "x".
func newHanging(t *testing.T) *hanging {
	t.Helper()
	h, adm := newTopic(t)
	off := "false"
	if _, err := adm.AlterBrokerConfigs(h.ctx(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "transaction.partition.verification.enable", Value: &off}}); err != nil {
		t.Fatal(err)
	}
	forgotten(h.ctx(), t, h.kafka, hangingPrefix+".0", hangingTopic)
	return h
}

// newTopic is an empty topic of a real Kafka.
func newTopic(t *testing.T) (*hanging, *kadm.Client) {
	t.Helper()
	k := testkit.StartKafka(t)
	if !k.Real() {
		t.Skip("this test needs Apache Kafka, whose log can go back, and which verifies transactions only if it is told to: install Java and Maven")
	}
	h := &hanging{t: t, kafka: k, brokers: k.Brokers()}
	client, err := kgo.NewClient(kgo.SeedBrokers(h.brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	adm := kadm.NewClient(client)
	if _, err := adm.CreateTopic(h.ctx(), 1, 1, nil, hangingTopic); err != nil {
		t.Fatal(err)
	}
	return h, adm
}

func (h *hanging) ctx() context.Context {
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	h.t.Cleanup(cancel)
	return ctx
}

// begin leaves a transaction of the ring's next id open, as its last owner did.
func (h *hanging) begin(value string) *kgo.Client {
	h.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(h.brokers...), kgo.TransactionalID(hangingPrefix+".1"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(client.Close)
	if err := client.BeginTransaction(); err != nil {
		h.t.Fatal(err)
	}
	if err := client.ProduceSync(h.ctx(), &kgo.Record{Topic: hangingTopic, Value: []byte(value)}).FirstErr(); err != nil {
		h.t.Fatal(err)
	}
	return client
}

func (h *hanging) commit(value string) {
	h.t.Helper()
	if err := h.begin(value).EndTransaction(h.ctx(), kgo.TryCommit); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hanging) config(more ...kgo.Opt) kafka.RingConfig {
	return kafka.RingConfig{
		Client: append(more, kgo.SeedBrokers(h.brokers...)), Prefix: hangingPrefix, Topic: hangingTopic, MaxBufferedBytes: 1 << 20, BatchMaxBytes: 1 << 20,
	}
}

func (h *hanging) open() {
	h.t.Helper()
	ring, err := kafka.OpenRing(h.ctx(), h.config())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(ring.Close)
	h.ring = ring
}

func (h *hanging) tryProduce(value string, committed func()) error {
	return h.ring.Publish(h.ctx(), slices.Values([][]*kgo.Record{{{Topic: hangingTopic, Value: []byte(value)}}}), committed)
}

func (h *hanging) produce(value string, committed func()) {
	h.t.Helper()
	if err := h.tryProduce(value, committed); err != nil {
		h.t.Fatal(err)
	}
}

// saveBeforeCommit publishes two values. What Kafka saves holds the second one,
// and not its commit.
func (h *hanging) saveBeforeCommit(first, second string) {
	h.t.Helper()
	committed, saved := make(chan struct{}), make(chan struct{})
	h.produce(first, func() { close(committed); <-saved })
	h.produce(second, func() {}) // its commit waits for the one before
	<-committed
	h.kafka.Save()
	close(saved)
	if err := h.ring.Wait(h.ctx()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hanging) publish(value string) {
	h.t.Helper()
	h.produce(value, func() {})
	if err := h.ring.Wait(h.ctx()); err != nil {
		h.t.Fatal(err)
	}
}

// publishes publishes the numbers that come next, below end, and returns all.
func (h *hanging) publishes(before []string, end int) []string {
	h.t.Helper()
	for i := len(before) + 1; i < end; i++ {
		before = append(before, strconv.Itoa(i))
		h.publish(before[len(before)-1])
	}
	return before
}

// holds checks what a reader of committed events sees.
func (h *hanging) holds(want ...string) {
	h.t.Helper()
	tail, err := h.ring.Tail(h.ctx())
	if err != nil {
		h.t.Fatal(err)
	}
	var got []string
	for _, r := range tail.Records {
		got = append(got, string(r.Value))
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("the topic holds %q, want %q", got, want)
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
