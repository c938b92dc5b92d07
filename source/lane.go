package source

import (
	"fmt"
	"iter"
	"slices"
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
	pieceRecords = 2 * batchRecords // what is made for the Kafka client at a time; only a large unit has more
	recordCost   = 256              // bytes that one record costs in memory besides its key and value
	laterCost    = 24               // that one costs behind the first piece
	spareBatches = 2                // kept for their memory

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
	found     int64            // epoch of the position at the start
	open      *batch           // being filled
	begun     int              // records at its end whose group goes on
	coming    int64            // bytes of a large unit that is being captured, 0 if it is not large
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
	l.pos, l.committed, l.found = p, p, p.Epoch
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

// anew tells whether Kafka holds an epoch that began after the start.
func (l *lane) anew() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.committed.Epoch > l.found
}

// seq is the seq of the last event appended.
func (l *lane) seq() int64 { return l.position().Seq }

// acknowledgeable returns the replication offset up to which every change is
// in Kafka (G7). Bytes behind the committed position that hold no change
// (PING, the link's own marks) count once nothing is waiting. An offset of
// another epoch says nothing: it may be of another history.
func (l *lane) acknowledgeable() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.committedInStream():
		return 0
	case l.idle() && l.pos.Replid == l.committed.Replid:
		return l.pos.ReplOffset
	}
	return l.committed.ReplOffset
}

// inStream tells whether Kafka holds a position in the stream that the capture
// follows: the end of its snapshot, or more.
func (l *lane) inStream() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.committedInStream()
}

// committedInStream is inStream for who holds the lock.
func (l *lane) committedInStream() bool {
	return l.committed.Phase == offsets.PhaseStream && l.committed.Epoch == l.pos.Epoch
}

func (l *lane) idle() bool { return l.open == nil && len(l.sealed) == 0 && len(l.flying) == 0 }

// expect tells that the unit is large whose events come next.
func (l *lane) expect(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.coming = bytes
}

// begin adds the first events of a unit, or the next ones: more follow, by
// begin and the last ones by append. None of them is published before that.
func (l *lane) begin(events []schema.Event, at offsets.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := l.encode(events, at, true)
	if err == nil {
		l.begun += len(events)
		l.open = b
	}
	return err
}

// undo takes back what was begun.
func (l *lane) undo() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun > 0 {
		l.open.truncate(l.begun)
		l.bytes += l.open.weigh()
		l.open, l.begun = l.open.orNil(), 0
	}
}

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
	b, err := l.encode(events, at, false)
	if err != nil {
		return err
	}
	at.Seq = l.pos.Seq + int64(l.begun+len(events))
	l.pos, b.pos, l.begun, l.open = at, at, 0, b
	now := l.now()
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

// encode adds events to the batch that is being filled. On an error all of
// their group is out of it again.
func (l *lane) encode(events []schema.Event, at offsets.Position, goesOn bool) (*batch, error) {
	now := l.now()
	b := l.open
	if b == nil {
		b = l.newBatch(now)
	}
	if l.coming > 0 { // growing step by step would need twice the memory
		b.values = slices.Grow(b.values, int(l.coming+l.coming/16))
	}
	l.coming = 0
	group := strconv.AppendInt(l.scratch[:0], l.pos.Seq+1, 10)
	l.scratch = group
	for i := range events {
		e := &events[i]
		e.Origin = l.cfg.Site
		e.Seq = l.pos.Seq + 1 + int64(l.begun+i)
		e.TsMs = now.UnixMilli()
		if e.Source.TsMs == 0 {
			e.Source.TsMs = e.TsMs
		}
		e.Source.Epoch, e.Source.ReplOffset = at.Epoch, at.ReplOffset
		e.Transaction.Set = goesOn || l.begun+len(events) > 1
		if e.Transaction.Set {
			e.Transaction.Transaction = schema.Transaction{ID: group, Index: int32(l.begun + i), Last: !goesOn && i == len(events)-1}
		}
		if err := b.add(l.cfg.Encoder, e, l.cfg.MaxEventBytes); err != nil {
			b.truncate(l.begun + i)
			l.bytes += b.weigh()
			l.open, l.begun = b.orNil(), 0
			return nil, err
		}
	}
	l.bytes += b.weigh()
	return b, nil
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
		b = takeFirst(&l.sealed)
	case l.open != nil && l.begun == 0:
		b, l.open = l.open, nil
	default:
		return nil, nil
	}
	b.sent = true
	l.flying = append(l.flying, b)
	return b, nil
}

// takeFirst takes the first batch out, also of the array behind the slice.
func takeFirst(batches *[]*batch) *batch {
	b := (*batches)[0]
	(*batches)[0], *batches = nil, (*batches)[1:]
	return b
}

// commit tells that the oldest batch in flight is committed.
func (l *lane) commit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := takeFirst(&l.flying)
	l.release(b)
	l.spareBatch(b)
}

// spareBatch keeps a batch that is done with for its memory. Where a Kafka
// client still holds records of it, they hold nothing of a large batch.
func (l *lane) spareBatch(b *batch) {
	switch {
	case b == l.writing:
	case b.cost > 2*batchBytes || cap(b.values) > 4*batchBytes:
		clear(b.kgo[:cap(b.kgo)])
		b.values, b.keys, b.records = nil, nil, nil
	case len(l.spare) < spareBatches:
		l.spare = append(l.spare, b)
	}
}

func (l *lane) release(b *batch) {
	l.committed = b.pos
	l.bytes -= b.cost
	l.room.Broadcast()
}

// endsAt tells what is wrong if the topic ends at a seq, 0 for an empty one; nil
// if it holds all that was committed.
func (l *lane) endsAt(seq int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tooShort(seq)
}

// tooShort is endsAt for who holds the lock.
func (l *lane) tooShort(seq int64) error {
	switch {
	case seq >= l.committed.Seq:
		return nil
	case seq > 0:
		return fmt.Errorf("topic %s ends at seq %d, but seq %d was committed: %w", l.cfg.Topic, seq, l.committed.Seq, ErrKafkaWentBack)
	}
	return &kafka.TopicError{
		Topic: l.cfg.Topic, Problem: fmt.Sprintf("ends at seq %d, but seq %d was committed", seq, l.committed.Seq),
		Remedy: "Kafka lost data (an unclean leader election, a disk), or someone created the topic anew; " + l.cfg.anew(),
	}
}

// rewind makes every batch behind the position that Kafka holds wait again,
// after a ring was lost with commits of unknown outcome. Batches that turn
// out to be committed are released. A position that falls inside a batch, or
// behind what was committed, means that Kafka lost or doubled something.
func (l *lane) rewind(inKafka offsets.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.tooShort(inKafka.Seq); err != nil {
		return err
	}
	for len(l.flying) > 0 && l.flying[0].pos.Seq <= inKafka.Seq {
		l.release(takeFirst(&l.flying))
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
	first := min(len(b.records), pieceRecords)
	cost := int64(len(b.values) + len(b.keys) + first*recordCost + (len(b.records)-first)*laterCost)
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

// pieces makes the Kafka records of b, piece by piece in the same memory; the
// last one carries the position. They are made anew each time b is published.
func (b *batch) pieces(topic string, headers *headers, position []byte) iter.Seq[[]*kgo.Record] {
	return func(yield func([]*kgo.Record) bool) {
		if n := min(len(b.records), pieceRecords); cap(b.kgo) < n {
			b.kgo, b.pointers = make([]kgo.Record, n), make([]*kgo.Record, n)
		}
		key, value := 0, 0
		for from := 0; from < len(b.records); from += pieceRecords {
			some := b.records[from:min(from+pieceRecords, len(b.records))]
			b.kgo, b.pointers = b.kgo[:len(some)], b.pointers[:len(some)]
			for i, r := range some {
				b.kgo[i] = kgo.Record{Topic: topic, Value: b.values[value:r.valueEnd:r.valueEnd], Headers: headers.of(r.op)}
				if r.hasKey {
					b.kgo[i].Key = b.keys[key:r.keyEnd:r.keyEnd]
				}
				key, value = r.keyEnd, r.valueEnd
				b.pointers[i] = &b.kgo[i]
			}
			if from+len(some) == len(b.records) {
				last := &b.kgo[len(some)-1]
				last.Headers = append(last.Headers[:len(last.Headers):len(last.Headers)], kgo.RecordHeader{Key: schema.HeaderPosition, Value: position})
			}
			if !yield(b.pointers) {
				return
			}
		}
	}
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
