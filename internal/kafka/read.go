package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// ConsumerConfig says where a Consumer reads.
type ConsumerConfig struct {
	Client    []kgo.Opt
	Metrics   prometheus.Registerer // of the client, under ClientID; nil: none
	ClientID  string
	Topic     string
	Partition int32
	Offset    int64 // first one wanted
	FromStart bool  // from the log's start, whatever Offset says
	MaxBytes  int64 // kept in memory, about
}

// Consumer reads committed records of one partition in order, and the control
// records between them, so that its reader knows when it has passed them. It
// never jumps: an offset that is not in the log is a *RangeError, and the end
// of this Consumer. It is for one goroutine.
type Consumer struct {
	cfg    ConsumerConfig
	client *kgo.Client
	next   int64 // offset wanted
	end    int64
	came   bool // a record, so the client knows the partition
	batch  []*kgo.Record
}

// fetchBytes bounds one fetch. Two of them are in memory at a time, and what
// Redis holds often shrinks to a tenth when compressed (G6).
const fetchBytes = 2 << 20

// NewConsumer starts reading.
func NewConsumer(_ context.Context, cfg ConsumerConfig) (*Consumer, error) {
	at := kgo.NewOffset().At(cfg.Offset)
	if cfg.FromStart {
		at = kgo.NewOffset().AtStart()
	}
	return newConsumer(cfg, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{cfg.Topic: {cfg.Partition: at}}))
}

// NewReader returns a Consumer that reads nothing before it is told where to.
func NewReader(cfg ConsumerConfig) (*Consumer, error) { return newConsumer(cfg) }

func newConsumer(cfg ConsumerConfig, start ...kgo.Opt) (*Consumer, error) {
	most := int32(min(max(cfg.MaxBytes/4, 1<<20), fetchBytes))
	client, err := kgo.NewClient(append(slices.Concat(cfg.Client, observed(cfg.Metrics, cfg.ClientID), start),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMinBytes(1),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxBytes(most),
		kgo.FetchMaxPartitionBytes(most),
	)...)
	if err != nil {
		return nil, fmt.Errorf("making a consumer of %s: %w", cfg.Topic, err)
	}
	return &Consumer{cfg: cfg, client: client, next: cfg.Offset, end: -1}, nil
}

// ReadFrom makes the next Poll return what comes from offset on. A client that is
// connected already goes on with its connections.
func (c *Consumer) ReadFrom(offset int64) {
	if c.came {
		c.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{c.cfg.Topic: {c.cfg.Partition: {Epoch: -1, Offset: offset}}})
	} else {
		c.client.RemoveConsumePartitions(map[string][]int32{c.cfg.Topic: {c.cfg.Partition}})
		c.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{c.cfg.Topic: {c.cfg.Partition: kgo.NewOffset().At(offset)}})
	}
	c.next, c.end = offset, -1
}

// Poll waits for records and returns them, control records included. They are
// valid until the next call. What it took from the client it returns, whether
// ctx is done or not: a later Poll goes on behind it.
func (c *Consumer) Poll(ctx context.Context) ([]*kgo.Record, error) {
	fetches := c.client.PollFetches(ctx)
	c.batch = c.batch[:0]
	var first error
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if p.Err != nil && first == nil {
			first = p.Err
		}
		c.end = max(c.end, p.LastStableOffset)
		c.batch = append(c.batch, p.Records...)
	})
	if n := len(c.batch); n > 0 {
		c.came = true
		c.next = c.batch[n-1].Offset + 1
	}
	if first != nil {
		first = c.failed(ctx, first)
	}
	return c.batch, first
}

func (c *Consumer) failed(ctx context.Context, err error) error {
	if lost := new(kgo.ErrDataLoss); errors.As(err, &lost) { // the log was cut behind what was read
		return &RangeError{Topic: c.cfg.Topic, Offset: c.next, Start: -1, End: lost.ResetTo}
	}
	if !errors.Is(err, kerr.OffsetOutOfRange) {
		return explained(err)
	}
	gone := &RangeError{Topic: c.cfg.Topic, Offset: c.next, Start: -1, End: -1}
	adm := kadm.NewClient(c.client)
	starts, err := adm.ListStartOffsets(ctx, c.cfg.Topic)
	if start, ok := starts.Lookup(c.cfg.Topic, c.cfg.Partition); err == nil && ok && start.Err == nil {
		gone.Start = start.Offset
	}
	ends, err := adm.ListEndOffsets(ctx, c.cfg.Topic)
	if end, ok := ends.Lookup(c.cfg.Topic, c.cfg.Partition); err == nil && ok && end.Err == nil {
		gone.End = end.Offset
	}
	return gone
}

// EndOffset is the last stable offset seen, -1 before anything was fetched.
func (c *Consumer) EndOffset() int64 { return c.end }

// Close ends the consumer and waits for its goroutines.
func (c *Consumer) Close() { c.client.Close() }

// Tail is the end of a partition.
type Tail struct {
	Records    []*kgo.Record // the newest committed events, in order; none in an empty topic
	Start, End int64         // offsets of the log
}

// tailWindow is how many offsets are read first; 16 times more if no event
// is among them.
const tailWindow = 64

// ReadTail returns the newest committed events of a partition, without
// waiting for transactions under way.
func ReadTail(ctx context.Context, client []kgo.Opt, topic string, partition int32) (Tail, error) {
	c, err := NewReader(ConsumerConfig{Client: client, Topic: topic, Partition: partition, MaxBytes: 8 << 20})
	if err != nil {
		return Tail{}, err
	}
	defer c.Close()
	return c.Tail(ctx)
}

// endOf names the offset up to which a tail is read.
type endOf func(ctx context.Context, adm *kadm.Client, topic string) (kadm.ListedOffsets, error)

// highWatermark waits for transactions that are being settled: right after
// fencing, what an earlier owner committed may lie behind the last stable
// offset (rule 4).
func highWatermark(ctx context.Context, adm *kadm.Client, topic string) (kadm.ListedOffsets, error) {
	return adm.ListEndOffsets(ctx, topic)
}

func lastStable(ctx context.Context, adm *kadm.Client, topic string) (kadm.ListedOffsets, error) {
	return adm.ListCommittedOffsets(ctx, topic)
}

// Tail is ReadTail of the consumer's partition. Where it reads afterwards is
// for ReadFrom to say.
func (c *Consumer) Tail(ctx context.Context) (Tail, error) { return c.tail(ctx, lastStable) }

func (c *Consumer) tail(ctx context.Context, end endOf) (Tail, error) {
	for {
		tail, err := c.tailOnce(ctx, end)
		var gone *RangeError
		if !errors.As(err, &gone) {
			return tail, err
		}
	} // retention moved the log's start meanwhile: ask again where that is
}

func (c *Consumer) tailOnce(ctx context.Context, end endOf) (tail Tail, err error) {
	if tail.Start, tail.End, err = c.bounds(ctx, end); err != nil {
		return Tail{}, err
	}
	for window := int64(tailWindow); tail.Start < tail.End; window *= 16 {
		from := max(tail.End-window, tail.Start)
		if tail.Records, err = c.events(ctx, from, tail.End); err != nil {
			return Tail{}, err
		}
		if len(tail.Records) > 0 || from == tail.Start {
			break
		}
	}
	return tail, nil
}

// bounds asks where the partition begins and ends, both at once.
func (c *Consumer) bounds(ctx context.Context, end endOf) (start, stop int64, err error) {
	adm, topic := kadm.NewClient(c.client), c.cfg.Topic
	var starts, ends kadm.ListedOffsets
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if starts, err = adm.ListStartOffsets(ctx, topic); err != nil {
			return fmt.Errorf("asking where %s begins: %w", topic, explained(err))
		}
		return nil
	})
	g.Go(func() (err error) {
		if ends, err = end(ctx, adm, topic); err != nil {
			return fmt.Errorf("asking where %s ends: %w", topic, explained(err))
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return 0, 0, err
	}
	first, ok := starts.Lookup(topic, c.cfg.Partition)
	last, ok2 := ends.Lookup(topic, c.cfg.Partition)
	if err := errors.Join(first.Err, last.Err); err != nil {
		return 0, 0, fmt.Errorf("asking where %s begins and ends: %w", topic, explained(err))
	}
	if !ok || !ok2 {
		return 0, 0, fmt.Errorf("topic %s has no partition %d: %w", topic, c.cfg.Partition, errUnavailable)
	}
	return first.Offset, last.Offset, nil
}

// events returns the committed events with from <= offset < end. It is done
// when a record at end - 1 or behind it was seen, which may be the control
// record of a transaction that is being settled.
func (c *Consumer) events(ctx context.Context, from, end int64) ([]*kgo.Record, error) {
	c.ReadFrom(from)
	var events []*kgo.Record
	for {
		records, err := c.Poll(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading the end of %s: %w", c.cfg.Topic, err)
		}
		for _, r := range records {
			if !r.Attrs.IsControl() && r.Offset < end {
				events = append(events, r)
			}
			if r.Offset >= end-1 {
				return events, nil
			}
		}
	}
}
