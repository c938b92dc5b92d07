package sink

import (
	"strconv"

	"twinlog/offsets"
	"twinlog/schema"
)

// A batch ends at these sizes, but never inside a transaction group: one EXEC
// is one piece for the target's replicas and for its query buffer
// (apply-rules 3).
const (
	batchBytes    = 1 << 20
	batchCommands = 1000
)

// batch is what one EXEC applies: the commands of whole transaction groups,
// ready to be sent.
type batch struct {
	body    []byte // RESP of the commands behind the mark
	items   []item // one for each command in body
	keys    []byte // of the last items of a large group
	db      int32  // selected behind the last command
	seq     int64  // of the last event
	offset  int64  // of the last event
	epoch   int64  // of the last group's end; 0 before
	repl    int64  // its replication offset
	next    int64  // first offset behind everything the batch covers
	tsMs    int64  // of the last event
	events  int
	inGroup bool    // the last event's group goes on
	wipes   bool    // a command may remove the mark: write it once more at the end
	quiet   bool    // holds nothing but HEARTBEATs
	ends    bool    // SNAPSHOT_END of a sink that ends there
	widest  int     // arguments of the widest command
	small   bool    // ends with every unit: a full target takes removals alone
	adds    *temp   // it only adds to this temporary key: the mark stays where it is
	temps   []*temp // that it uses

	// Of a direction with dead letters.
	letters []<-chan error // of events that were set aside
	from    int64          // offset of the first event that its EXEC may apply
	ahead   int            // commands between the mark and the first item

	// Of a two-way link.
	first     int64 // the lowest seen of events that are no HEARTBEATs
	seen      int64 // of the last event
	changes   bool  // holds more than values that are sent again
	decisions []decision
	prints    *offsets.Prints // nil on a one-way link
	wipe      *schema.Event   // FLUSHDB or FLUSHALL, to be done key by key
}

// item remembers which event a command comes from, to name it in errors.
type item struct {
	op          schema.Op // 0: the sink's own SELECT
	db          int32
	seq, offset int64
	command     string
	key         []byte // aliases the Kafka record, or the batch's keys
	fragments   int64  // offsets before offset that the event's other fragments have
}

// A batch that was larger does not keep its memory for the next.
const (
	keptBody  = 4 * batchBytes
	keptItems = 4 * batchCommands
	keysBlock = 64 << 10
)

func (b *batch) reset() {
	if cap(b.body) > keptBody {
		b.body = nil
	}
	if cap(b.items) > keptItems {
		b.items = nil
	}
	*b = batch{body: b.body[:0], items: b.items[:0], decisions: b.decisions[:0], temps: b.temps[:0], letters: b.letters[:0], quiet: true}
}

func (b *batch) empty() bool { return b.events == 0 }

func (b *batch) full() bool {
	return len(b.body) >= batchBytes || len(b.items)+len(b.letters) >= batchCommands || b.small && len(b.items) > 0
}

// cover moves the end of the batch behind e, whose commands are in the body.
func (b *batch) cover(e *schema.Event, offset int64) {
	b.seq, b.offset, b.next, b.tsMs, b.seen = e.Seq, offset, offset+1, e.TsMs, e.Seen
	b.events++
	b.inGroup = e.Transaction.Set && !e.Transaction.Last
	if !b.inGroup && e.Source.Epoch > 0 {
		b.epoch, b.repl = e.Source.Epoch, e.Source.ReplOffset
	}
	if e.Op != schema.OpControl || e.Command != schema.Heartbeat {
		if b.quiet || e.Seen < b.first {
			b.first = e.Seen
		}
		b.quiet, b.changes = false, b.changes || !e.IsRefresh()
	}
}

// markBehind is the mark of a target that had the mark before, once it has the batch.
func (b *batch) markBehind(before offsets.Mark, topicID string) offsets.Mark {
	mark := before
	mark.TopicID, mark.Seq, mark.Offset = topicID, b.seq, b.offset
	if b.epoch != before.Epoch && b.epoch != 0 || b.repl > before.ReplOffset { // what is published again is applied already
		mark.Epoch, mark.ReplOffset = b.epoch, b.repl
	}
	return mark
}

// command begins a command of n arguments, name included, in database db.
func (b *batch) command(e *schema.Event, offset int64, db int32, name string, n int) {
	b.selectDB(e, offset, db)
	key := e.Key
	if len(b.items) >= batchCommands {
		key = b.keepKey(key)
	}
	b.items = append(b.items, item{op: e.Op, seq: e.Seq, offset: offset, db: db, command: name, key: key})
	b.widest = max(b.widest, n)
	b.body = appendArray(b.body, n)
	b.body = appendText(b.body, name)
}

// keepKey copies a key of a large group, so that its Kafka records are free to go.
func (b *batch) keepKey(key []byte) []byte {
	if cap(b.keys)-len(b.keys) < len(key) {
		b.keys = make([]byte, 0, max(len(key), keysBlock)) // who has part of the last block keeps it
	}
	at := len(b.keys)
	b.keys = append(b.keys, key...)
	return b.keys[at:len(b.keys):len(b.keys)]
}

func (b *batch) selectDB(e *schema.Event, offset int64, db int32) {
	if db == schema.NoDB || db == b.db {
		return
	}
	b.db = db
	b.items = append(b.items, item{seq: e.Seq, offset: offset, db: db, command: "SELECT"})
	b.body = appendArray(b.body, 2)
	b.body = appendText(b.body, "SELECT")
	b.body = appendNumber(b.body, int64(db))
}

func (b *batch) arg(v []byte)   { b.body = appendBulk(b.body, v) }
func (b *batch) text(v string)  { b.body = appendText(b.body, v) }
func (b *batch) number(v int64) { b.body = appendNumber(b.body, v) }
func (b *batch) args(vs [][]byte) {
	for _, v := range vs {
		b.arg(v)
	}
}

func appendArray(b []byte, n int) []byte {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, '\r', '\n')
}

func appendBulk(b, v []byte) []byte {
	b = append(b, '$')
	b = strconv.AppendInt(b, int64(len(v)), 10)
	b = append(b, '\r', '\n')
	b = append(b, v...)
	return append(b, '\r', '\n')
}

func appendText(b []byte, v string) []byte {
	b = append(b, '$')
	b = strconv.AppendInt(b, int64(len(v)), 10)
	b = append(b, '\r', '\n')
	b = append(b, v...)
	return append(b, '\r', '\n')
}

func appendNumber(b []byte, v int64) []byte {
	var digits [20]byte
	return appendBulk(b, strconv.AppendInt(digits[:0], v, 10))
}

func appendCommand(b []byte, args ...string) []byte {
	b = appendArray(b, len(args))
	for _, a := range args {
		b = appendText(b, a)
	}
	return b
}
