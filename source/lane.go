package source

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

const (
	batchBytes   = 6 << 20 // a batch is one Kafka transaction; a unit is never split over two
	batchRecords = 16_000
	recordCost   = 256 // bytes that one record costs in memory besides its key and value
	spareBatches = 2   // kept for their memory

	// heartbeatSeqs is how far `seen` may advance before the peer must be told.
	heartbeatSeqs = 10_000
)

// lane is one order of events: it numbers them, keeps them until Kafka has
// committed them, and says what may be acknowledged to the Redis.
//
// Captured units go in at one end (append), whole batches come out at the
// other (next, commit). A batch stays here until its commit is known, so
// trouble in Kafka costs no Redis history (G1, G7). What memory cannot hold
// waits on disk (room.go).
type lane struct {
	cfg   *Config
	clock func() time.Time

	// numbering is held by who gives seqs to events that somebody else must
	// know before they are appended. It comes before mu.
	numbering sync.Mutex

	mu        sync.Mutex
	room      sync.Cond // signalled when bytes fell
	wake      chan struct{}
	pos       offsets.Position // after the last unit appended
	committed offsets.Position // in Kafka for certain
	open      *batch           // being filled
	sealed    []*batch         // waiting to be published, in order
	flying    []*batch         // produced, commit not known
	spare     []*batch
	bytes     int64
	scratch   []byte

	// What waits on disk.
	spool      *spool // nil: none
	spilled    int    // batches of sealed that are there
	writing    *batch // being written there
	spoolErr   error  // of the last write
	spoolRetry time.Time

	// Heartbeats: unpublished since when, and the last event's time and seen.
	unpublished time.Time
	lastEvent   time.Time
	lastSeen    int64

	held time.Time // when the bytes being captured were read; zero: ask the clock
}

// batch is what one Kafka transaction carries.
type batch struct {
	spot     *spot  // where its contents are on disk; nil: here
	sent     bool   // a client had its contents
	values   []byte // record values, one after another
	keys     []byte
	records  []record
	pos      offsets.Position // after the last unit
	born     time.Time        // when its first event was captured
	cost     int64
	kgo      []kgo.Record // built when published
	pointers []*kgo.Record
}

type record struct {
	keyEnd, valueEnd int // ends in keys and values; the start is the previous end
	hasKey           bool
	op               schema.Op
}

func newLane(cfg *Config, clock func() time.Time) *lane {
	l := &lane{cfg: cfg, clock: clock, wake: make(chan struct{}, 1)}
	l.room.L = &l.mu
	if cfg.SpoolDir != "" {
		l.spool = newSpool(cfg.SpoolDir, cfg.Site+"-"+cfg.Lane, "source-"+cfg.Site, cfg.SpoolBytes)
	}
	return l
}

// restore sets the position that Kafka holds. It is called once, before
// anything is appended.
func (l *lane) restore(p offsets.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pos, l.committed = p, p
	l.lastEvent, l.lastSeen = l.clock(), p.Seen
}

// holdClock makes everything captured from here on happen now, since it was
// read at once; freeClock ends that.
func (l *lane) holdClock() { l.hold(l.clock()) }
func (l *lane) freeClock() { l.hold(time.Time{}) }

func (l *lane) hold(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = at
}

func (l *lane) now() time.Time {
	if l.held.IsZero() {
		return l.clock()
	}
	return l.held
}

// position returns where the capture stands: after the last unit appended.
func (l *lane) position() offsets.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pos
}

// seq is the seq of the last event appended.
func (l *lane) seq() int64 { return l.position().Seq }

// acknowledgeable returns the replication offset up to which every change is
// in Kafka (G7). Bytes behind the committed position that hold no change
// (PING, the link's own marks) count once nothing is waiting.
func (l *lane) acknowledgeable() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.committed.Phase != offsets.PhaseStream:
		return 0
	case l.idle() && l.pos.Replid == l.committed.Replid:
		return l.pos.ReplOffset
	}
	return l.committed.ReplOffset
}

func (l *lane) idle() bool { return l.open == nil && len(l.sealed) == 0 && len(l.flying) == 0 }

// append adds the events of one unit, at least one, and moves the position to
// at. The events get their seq, origin, times and group. Events and what they
// point to may be reused afterwards.
func (l *lane) append(events []schema.Event, at offsets.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.add(events, at)
}

// add is append for who holds the lock.
func (l *lane) add(events []schema.Event, at offsets.Position) error {
	now := l.now()
	b := l.open
	if b == nil {
		b = l.newBatch(now)
	}
	group := strconv.AppendInt(l.scratch[:0], l.pos.Seq+1, 10)
	l.scratch = group
	for i := range events {
		e := &events[i]
		e.Origin = l.cfg.Site
		e.Seq = l.pos.Seq + 1 + int64(i)
		e.TsMs = now.UnixMilli()
		if e.Source.TsMs == 0 {
			e.Source.TsMs = e.TsMs
		}
		e.Source.Epoch, e.Source.ReplOffset = at.Epoch, at.ReplOffset
		e.Transaction.Set = len(events) > 1
		if e.Transaction.Set {
			e.Transaction.Transaction = schema.Transaction{ID: group, Index: int32(i), Last: i == len(events)-1}
		}
		if err := b.add(l.cfg.Encoder, e, l.cfg.MaxEventBytes); err != nil {
			b.truncate(i)
			l.open = b.orNil()
			return err
		}
	}
	at.Seq = l.pos.Seq + int64(len(events))
	l.pos, b.pos = at, at
	added := b.weigh()
	l.bytes += added
	l.open = b
	l.unpublished, l.lastEvent, l.lastSeen = time.Time{}, now, events[len(events)-1].Seen
	if l.lastSeen < at.Seen { // what came before a mark does not tell the peer of it
		l.unpublished = now
	}
	if b.cost >= l.sealAt() || len(b.records) >= batchRecords {
		l.sealed, l.open = append(l.sealed, b), nil
	}
	l.signal()
	return nil
}

// move advances the position without an event. Unless only plumbing was
// passed, an event must carry the position before long.
func (l *lane) move(at offsets.Position, plumbing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at.Seq = l.pos.Seq
	l.pos = at
	if l.open != nil {
		l.open.pos = at // nothing was born between its last event and here
	}
	if !plumbing && l.unpublished.IsZero() {
		l.unpublished = l.now()
	}
}

// resume tells that capture goes on from pos, which holds what Kafka or the
// lane holds already; only the replication id may be new.
func (l *lane) resume(pos offsets.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle() && l.committed.ReplOffset == pos.ReplOffset {
		l.committed.Replid = pos.Replid
	}
	pos.Seq = l.pos.Seq
	l.pos = pos
}

// heartbeatAt appends a HEARTBEAT that carries pos.
func (l *lane) heartbeatAt(pos offsets.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.beat(pos)
}

func (l *lane) beat(pos offsets.Position) error {
	return l.add([]schema.Event{{
		Op: schema.OpControl, DB: schema.NoDB, Command: schema.Heartbeat, Seen: pos.Seen,
		Source: schema.Source{Snapshot: "false", Replid: pos.Replid},
	}}, pos)
}

// heartbeat publishes a HEARTBEAT if the peer must be told how far this
// source is: 1 s or 10,000 seqs after a change of `seen` or of the position
// that no event carried, and once an hour, so that retention never removes
// the last position.
func (l *lane) heartbeat() error {
	if !l.numbering.TryLock() {
		return nil // an event is on its way, or the next tick tells
	}
	defer l.numbering.Unlock()
	now := l.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pos.Phase != offsets.PhaseStream || l.pos.Seq == 0 {
		return nil
	}
	untold := !l.unpublished.IsZero() && (now.Sub(l.unpublished) >= time.Second || l.pos.Seen-l.lastSeen >= heartbeatSeqs)
	if !untold && now.Sub(l.lastEvent) < time.Hour {
		return nil
	}
	if !l.held.IsZero() { // the stream may have been silent for a while
		l.held = now
	}
	return l.beat(l.pos)
}

// progress returns where the lane stands: captured, committed, the age of the
// oldest change not committed, and why capture waits for room, if it does.
func (l *lane) progress() (position, committed offsets.Position, behind time.Duration, blocked string) {
	now := l.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	var oldest *batch
	switch {
	case len(l.flying) > 0:
		oldest = l.flying[0]
	case len(l.sealed) > 0:
		oldest = l.sealed[0]
	case l.open != nil:
		oldest = l.open
	}
	if oldest != nil {
		behind = now.Sub(oldest.born)
	}
	return l.pos, l.committed, behind, l.blocked()
}

// weight returns the bytes of memory that wait for their commit.
func (l *lane) weight() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// next takes the next batch to publish, or nil when nothing waits.
func (l *lane) next() (*batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sealed) > 0 && l.sealed[0].spot != nil {
		if err := l.load(); err != nil {
			return nil, err
		}
	}
	var b *batch
	switch {
	case len(l.sealed) > 0:
		b, l.sealed = l.sealed[0], l.sealed[1:]
	case l.open != nil:
		b, l.open = l.open, nil
	default:
		return nil, nil
	}
	b.sent = true
	l.flying = append(l.flying, b)
	return b, nil
}

// commit tells that the oldest batch in flight is committed.
func (l *lane) commit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.flying[0]
	l.release(b)
	l.flying = l.flying[1:]
	l.spareBatch(b)
}

// spareBatch keeps a batch that is done with for its memory.
func (l *lane) spareBatch(b *batch) {
	if b.cost <= 2*batchBytes && len(l.spare) < spareBatches && b != l.writing {
		l.spare = append(l.spare, b)
	}
}

func (l *lane) release(b *batch) {
	l.committed = b.pos
	l.bytes -= b.cost
	l.room.Broadcast()
}

// rewind makes every batch behind the position that Kafka holds wait again,
// after a ring was lost with commits of unknown outcome. Batches that turn
// out to be committed are released. A position that falls inside a batch, or
// behind what was committed, means that Kafka lost or doubled something.
func (l *lane) rewind(inKafka offsets.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if inKafka.Seq < l.committed.Seq && !inKafka.IsZero() {
		return fmt.Errorf("topic %s ends at seq %d, but seq %d was committed: %w", l.cfg.Topic, inKafka.Seq, l.committed.Seq, ErrKafkaWentBack)
	}
	if inKafka.Seq < l.committed.Seq {
		return &kafka.TopicError{
			Topic: l.cfg.Topic, Problem: fmt.Sprintf("ends at seq %d, but seq %d was committed", inKafka.Seq, l.committed.Seq),
			Remedy: "Kafka lost data (an unclean leader election, a disk), or someone created the topic anew; " + l.cfg.anew(),
		}
	}
	for len(l.flying) > 0 && l.flying[0].pos.Seq <= inKafka.Seq {
		l.release(l.flying[0])
		l.flying = l.flying[1:]
	}
	if inKafka.Seq != l.committed.Seq {
		return &kafka.TopicError{
			Topic: l.cfg.Topic, Problem: fmt.Sprintf("ends at seq %d, which is not the end of a batch of this source (%d is)", inKafka.Seq, l.committed.Seq),
			Remedy: "something else writes to this topic; give the link a topic of its own",
		}
	}
	for _, b := range l.flying {
		b.kgo, b.pointers = nil, nil // the lost client may still hold them
	}
	l.sealed = append(append([]*batch(nil), l.flying...), l.sealed...)
	l.flying = nil
	l.signal()
	return nil
}

func (l *lane) newBatch(now time.Time) *batch {
	b := &batch{}
	if n := len(l.spare); n > 0 {
		b, l.spare = l.spare[n-1], l.spare[:n-1]
	}
	b.values, b.keys, b.records = b.values[:0], b.keys[:0], b.records[:0]
	b.born, b.cost, b.sent = now, 0, false
	return b
}

// weigh brings the batch's cost up to date and returns what was added.
func (b *batch) weigh() int64 {
	cost := int64(len(b.values) + len(b.keys) + len(b.records)*recordCost)
	added := cost - b.cost
	b.cost = cost
	return added
}

func (b *batch) add(enc *schema.Encoder, e *schema.Event, most int) error {
	from := len(b.values)
	b.values = enc.Append(b.values, e)
	if size := len(b.values) - from; size > most {
		b.values = b.values[:from]
		return &TooBigError{Command: e.Command, Type: e.Type, DB: e.DB, Key: shown(e.Key), Size: size, Limit: most, ReplOffset: e.Source.ReplOffset}
	}
	b.keys = append(b.keys, e.Key...)
	b.records = append(b.records, record{keyEnd: len(b.keys), valueEnd: len(b.values), hasKey: e.Key != nil, op: e.Op})
	return nil
}

// truncate takes the last n records back out.
func (b *batch) truncate(n int) {
	b.records = b.records[:len(b.records)-n]
	b.keys, b.values = b.keys[:0], b.values[:0]
	if n := len(b.records); n > 0 {
		b.keys, b.values = b.keys[:b.records[n-1].keyEnd], b.values[:b.records[n-1].valueEnd]
	}
}

func (b *batch) orNil() *batch {
	if len(b.records) == 0 {
		return nil
	}
	return b
}

// build makes the Kafka records of b; the last one carries the position.
// They are made anew each time b is published.
func (b *batch) build(topic string, headers *headers, instance string) ([]*kgo.Record, error) {
	if cap(b.kgo) < len(b.records) {
		b.kgo = make([]kgo.Record, len(b.records))
		b.pointers = make([]*kgo.Record, len(b.records))
	}
	b.kgo, b.pointers = b.kgo[:len(b.records)], b.pointers[:len(b.records)]
	key, value := 0, 0
	for i, r := range b.records {
		b.kgo[i] = kgo.Record{Topic: topic, Value: b.values[value:r.valueEnd:r.valueEnd], Headers: headers.of(r.op)}
		if r.hasKey {
			b.kgo[i].Key = b.keys[key:r.keyEnd:r.keyEnd]
		}
		key, value = r.keyEnd, r.valueEnd
		b.pointers[i] = &b.kgo[i]
	}
	b.pos.Instance = instance
	position, err := offsets.AppendPosition(nil, b.pos)
	if err != nil {
		return nil, err
	}
	last := &b.kgo[len(b.kgo)-1]
	last.Headers = append(last.Headers[:len(last.Headers):len(last.Headers)], kgo.RecordHeader{Key: schema.HeaderPosition, Value: position})
	return b.pointers, nil
}

// headers are the record headers of each op, shared by all records.
type headers map[schema.Op][]kgo.RecordHeader

func (h *headers) of(op schema.Op) []kgo.RecordHeader { return (*h)[op] }

func newHeaders(origin string) *headers {
	h := headers{}
	for _, op := range []schema.Op{schema.OpValue, schema.OpWrite, schema.OpDelete, schema.OpTruncate, schema.OpMessage, schema.OpFunction, schema.OpControl} {
		h[op] = []kgo.RecordHeader{{Key: schema.HeaderOrigin, Value: []byte(origin)}, {Key: schema.HeaderOp, Value: []byte{byte(op)}}}
	}
	return &h
}
