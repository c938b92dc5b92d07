package kafka

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

// ringSize is how many transactional ids take turns. It never changes: a new
// process must fence every id that an old one may still hold (rule 3).
const ringSize = 3

// transactionTimeout is how long readers may have to wait for a transaction
// whose producer died.
const transactionTimeout = 20 * time.Second

// takes is how long an id may take to be had, before it is tried anew and the
// reason told.
const takes = 10 * time.Second

// unknownTopicRetries is how often a topic is asked for that the broker does
// not know: right after a broker's restart it may not know any, and a topic
// that someone deleted must not be waited for in silence.
const unknownTopicRetries = 100

// RingConfig says what a Ring publishes to.
type RingConfig struct {
	Client           []kgo.Opt
	Metrics          prometheus.Registerer // of the clients; nil: none
	Prefix           string                // of the transactional ids: twinlog.<link>.<site>.<lane>
	Topic            string
	Partition        int32
	Pause            time.Duration // between the starts of two transactions
	MaxBufferedBytes int
	BatchMaxBytes    int32
	// Hook is told each point that crash tests kill at: ring-opened, produced
	// (acknowledged, not committed), commit-sent, committed. Nil in production.
	Hook func(point string)
}

// Ring publishes batches to one partition, each in a transaction of its own,
// exactly once and in order. One Kafka transaction id would have to wait for
// the broker between two transactions; three in turn do not.
//
// The first error ends a ring: nobody may know what became of its last
// commits. Close it, open a new one, read the Tail, and go on from there
// (rule 7). Publish is for one goroutine.
type Ring struct {
	cfg       RingConfig
	clients   [ringSize]*kgo.Client
	reader    *Consumer // of the partition; nil once it was taken
	next      int
	lastStart time.Time
	last      int64         // offset of the last record, -1 before
	cuts      cuts          // connections that were closed
	tokens    chan struct{} // one for each transaction not committed yet
	commits   chan commit
	wg        sync.WaitGroup

	mu     sync.Mutex
	err    error
	done   chan struct{}
	giveUp context.CancelFunc // ends the Publish under way
}

type commit struct {
	client    *kgo.Client
	last      int64 // offset of its last record
	committed func()
}

// OpenRing fences every earlier owner of the ids. Id 0 is the lock: it is
// taken first and alone, the others after it (rule 1).
func OpenRing(ctx context.Context, cfg RingConfig) (*Ring, error) {
	r := &Ring{cfg: cfg, last: -1, tokens: make(chan struct{}, ringSize), commits: make(chan commit, ringSize), done: make(chan struct{}), giveUp: func() {}}
	for i := range r.clients {
		client, err := r.newClient(i)
		if err != nil {
			r.closeClients()
			return nil, fmt.Errorf("making producer %d: %w", i, err)
		}
		r.clients[i] = client
	}
	if err := r.open(ctx); err != nil {
		r.closeClients()
		return nil, err
	}
	// Before this ring's first transaction: a marker on its way looks the same.
	if err := r.settle(ctx); err != nil {
		r.closeClients()
		return nil, err
	}
	r.hook("ring-opened")
	unending := context.WithoutCancel(ctx)
	r.wg.Go(func() { r.commitLoop(unending) })
	return r, nil
}

func (r *Ring) newClient(i int) (*kgo.Client, error) {
	opts := append(slices.Clone(r.cfg.Client),
		kgo.TransactionalID(r.id(i)),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(r.cfg.BatchMaxBytes),
		kgo.MaxBufferedRecords(1<<30), // bytes are what counts
		kgo.MaxBufferedBytes(r.cfg.MaxBufferedBytes),
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
		kgo.UnknownTopicRetries(unknownTopicRetries),
		kgo.WithHooks(&r.cuts),
	)
	opts = append(opts, observed(r.cfg.Metrics, r.id(i))...)
	if r.cfg.Hook != nil {
		opts = append(opts, kgo.WithHooks(commitSent(r.cfg.Hook)))
	}
	return kgo.NewClient(opts...)
}

// open takes the ids and meanwhile connects all who come after: over a
// distance, a connection costs several round trips.
func (r *Ring) open(ctx context.Context) (err error) {
	if r.reader, err = NewReader(ConsumerConfig{Client: r.cfg.Client, Topic: r.cfg.Topic, Partition: r.cfg.Partition, MaxBytes: 8 << 20}); err != nil {
		return err
	}
	connecting, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _, _ = r.reader.Tail(connecting) })
	for i := 1; i < ringSize; i++ {
		wg.Go(func() { r.findCoordinator(connecting, i) })
	}
	return r.fence(ctx)
}

// findCoordinator connects a client to where its id will be taken. What goes
// wrong is found again, and told, by who takes the id.
func (r *Ring) findCoordinator(ctx context.Context, i int) {
	req := kmsg.NewPtrDescribeTransactionsRequest()
	req.TransactionalIDs = []string{r.id(i)}
	_, _ = req.RequestWith(ctx, r.clients[i])
}

func (r *Ring) id(i int) string { return fmt.Sprintf("%s.%d", r.cfg.Prefix, i) }

func (r *Ring) fence(ctx context.Context) error {
	if err := r.take(ctx, 0); err != nil {
		return err
	}
	var g errgroup.Group
	for i := 1; i < ringSize; i++ {
		g.Go(func() error { return r.take(ctx, i) })
	}
	return g.Wait()
}

func (r *Ring) take(ctx context.Context, i int) error {
	limited, cancel := context.WithTimeout(ctx, takes)
	defer cancel()
	_, _, err := r.clients[i].ProducerID(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = errors.Join(err, r.unsettled(ctx, i))
	}
	if err != nil {
		return fmt.Errorf("taking transactional id %s: %w", r.id(i), explained(err))
	}
	return nil
}

// Tail returns the newest events of the partition. Called before the first
// Publish, it tells what every earlier owner has committed (rule 4).
func (r *Ring) Tail(ctx context.Context) (Tail, error) { return r.reader.tail(ctx, highWatermark) }

// TakeReader hands out the consumer of Tail, which the ring does not need any
// more, to read on with or to close. It is called once, after Tail.
func (r *Ring) TakeReader() *Consumer {
	reader := r.reader
	r.reader = nil
	return reader
}

// Publish writes a batch in one transaction of the next id and returns when
// every record is acknowledged. It comes in pieces: the next one is asked for
// when the last is acknowledged, and may have its memory. The commit runs
// behind, after those of all earlier batches (rule 6); committed is called
// when it is certain. Records belong to the ring until then.
//
// An error, here or in a commit, is the end of this ring.
func (r *Ring) Publish(ctx context.Context, batch iter.Seq[[]*kgo.Record], committed func()) error {
	if err := r.Err(); err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.Err()
	case <-ctx.Done():
		return r.fail(ctx.Err())
	case r.tokens <- struct{}{}: // the id's last transaction is committed
	}
	if err := r.pause(ctx); err != nil {
		return r.fail(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := r.watch(cancel); err != nil {
		return err
	}
	client := r.clients[r.next] // the first transaction is id 0's (rule 2)
	r.next = (r.next + 1) % ringSize
	if err := r.produce(ctx, client, batch); err != nil {
		return r.fail(err)
	}
	r.hook("produced")
	r.commits <- commit{client, r.last, committed} // a token each: there is room
	return nil
}

func (r *Ring) pause(ctx context.Context) error {
	if wait := r.cfg.Pause - time.Since(r.lastStart); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.done:
			return r.Err()
		case <-timer.C:
		}
	}
	r.lastStart = time.Now()
	return nil
}

func (r *Ring) produce(ctx context.Context, client *kgo.Client, batch iter.Seq[[]*kgo.Record]) error {
	if err := client.BeginTransaction(); err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	for piece := range batch {
		if err := r.producePiece(ctx, client, piece); err != nil {
			return err
		}
	}
	return nil
}

func (r *Ring) producePiece(ctx context.Context, client *kgo.Client, piece []*kgo.Record) error {
	var failed atomic.Pointer[error]
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
	}
	for _, record := range piece {
		record.Partition = r.cfg.Partition
		client.Produce(ctx, record, promise)
	}
	if err := client.Flush(ctx); err != nil {
		return fmt.Errorf("producing to %s: %w", r.cfg.Topic, err)
	}
	if err := failed.Load(); err != nil { // TryCommit would answer nil all the same (rule 5)
		return fmt.Errorf("producing to %s: %w", r.cfg.Topic, explained(*err))
	}
	if first := piece[0].Offset; first >= 0 && first <= r.last { // nobody else writes there
		return fmt.Errorf("topic %s: a record came to offset %d behind one at offset %d: %w", r.cfg.Topic, first, r.last, errWentBack)
	}
	r.last = piece[len(piece)-1].Offset
	return nil
}

// errWentBack tells that the log was cut behind what this ring has produced.
// Committing more would leave a hole.
var errWentBack = errors.New("the log was cut behind what Kafka had confirmed")

// commitLoop commits one transaction after the other (rule 6). It waits for
// as long as it takes: an answer that never comes leaves the outcome open,
// and only Close ends the wait. After an error it commits nothing more.
func (r *Ring) commitLoop(ctx context.Context) {
	committed, cuts := int64(-1), r.cuts.Load()
	for r.Err() == nil {
		select {
		case <-r.done:
		case c := <-r.commits:
			if n := r.cuts.Load(); n != cuts && committed >= 0 {
				if err := r.stands(ctx, committed); err != nil {
					_ = r.fail(err)
					return
				}
				cuts = n
			}
			if err := c.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
				_ = r.fail(fmt.Errorf("committing to %s: %w", r.cfg.Topic, explained(err)))
				return
			}
			committed = c.last
			c.committed()
			<-r.tokens
			r.hook("committed")
		}
	}
}

// stands checks that the record at offset last, which was committed, still is.
// A broker that comes back may have lost the commit and kept the records: the
// next one would leave a hole. Without a cut connection no broker comes back.
func (r *Ring) stands(ctx context.Context, last int64) error {
	reader, err := NewReader(ConsumerConfig{Client: r.cfg.Client, Topic: r.cfg.Topic, Partition: r.cfg.Partition, MaxBytes: fetchBytes})
	if err != nil {
		return err
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(ctx, takes)
	defer cancel()
	r.wg.Go(func() {
		select {
		case <-r.done:
			cancel()
		case <-ctx.Done():
		}
	})
	reader.ReadFrom(last)
	records, err := reader.Poll(ctx)
	var gone *RangeError
	switch {
	case len(records) > 0 && records[0].Offset == last && !records[0].Attrs.IsControl():
		return nil
	case errors.As(err, &gone) && gone.Start > last: // retention has removed it
		return nil
	case err != nil && gone == nil:
		return fmt.Errorf("topic %s: looking whether the record at offset %d is still committed: %w", r.cfg.Topic, last, err)
	}
	return fmt.Errorf("topic %s: the record at offset %d was committed and is not any more: %w", r.cfg.Topic, last, errWentBack)
}

// cuts counts connections that were closed.
type cuts struct{ atomic.Int64 }

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect.
func (c *cuts) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { c.Add(1) }

// Wait blocks until every published batch is committed. It is for the
// goroutine that publishes.
func (r *Ring) Wait(ctx context.Context) error {
	taken := 0
	defer func() {
		for range taken {
			<-r.tokens
		}
	}()
	for ; taken < ringSize; taken++ {
		select {
		case <-r.done:
			return r.Err()
		case <-ctx.Done():
			return ctx.Err()
		case r.tokens <- struct{}{}:
		}
	}
	return nil
}

// Done is closed at the ring's first error.
func (r *Ring) Done() <-chan struct{} { return r.done }

// Err returns the ring's first error, nil before.
func (r *Ring) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// watch makes the ring's first error call giveUp: a broker that is away would
// let Publish wait although nothing that it produces can be committed.
func (r *Ring) watch(giveUp context.CancelFunc) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.giveUp = giveUp
	return r.err
}

func (r *Ring) fail(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		close(r.done)
		r.giveUp()
	}
	return r.err
}

var errClosed = errors.New("the ring was closed")

// Close ends the ring without aborting anything: what was produced and not
// committed is settled by whoever opens the next ring (rule 7). No callback
// comes after it returns.
func (r *Ring) Close() {
	_ = r.fail(errClosed)
	r.closeClients()
	r.wg.Wait()
}

func (r *Ring) closeClients() {
	if r.reader != nil {
		r.reader.Close()
	}
	for _, c := range r.clients {
		if c != nil {
			c.Close()
		}
	}
}

func (r *Ring) hook(point string) {
	if r.cfg.Hook != nil {
		r.cfg.Hook(point)
	}
}

// commitSent tells a crash test that a commit is on its way and its answer
// not read.
type commitSent func(point string)

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (hook commitSent) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key == kmsg.EndTxn.Int16() && err == nil {
		hook("commit-sent")
	}
}
