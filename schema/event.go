// Package schema says what a change is: the change event, its Avro schema
// (change_event.avsc), and the codecs that turn one into the other.
//
// The event is the contract between sources, sinks and every other reader of
// a link's topics. Fields are only ever added, with defaults; every released
// schema keeps its golden bytes in testdata.
package schema

import (
	"bytes"
	"slices"
)

// Op is the kind of an event: Debezium's letters where they exist.
type Op byte

// The kinds of events. A reader that meets another letter must stop.
const (
	OpValue    Op = 'r' // a whole value: snapshot or refresh
	OpWrite    Op = 'u' // a write command
	OpDelete   Op = 'd' // deletion of one whole key
	OpTruncate Op = 't' // FLUSHDB, FLUSHALL, SWAPDB
	OpMessage  Op = 'm' // PUBLISH, SPUBLISH
	OpFunction Op = 'f' // FUNCTION LOAD, DELETE, FLUSH, RESTORE
	OpControl  Op = 'x' // the Control commands below
)

// The commands of OpControl events.
const (
	SnapshotBegin   = "SNAPSHOT_BEGIN"
	SnapshotEnd     = "SNAPSHOT_END"
	SnapshotRequest = "SNAPSHOT_REQUEST"
	Heartbeat       = "HEARTBEAT"
	EventsLost      = "EVENTS_LOST" // in the place of an event that Kafka lost and the target has applied; what it was comes again, or a snapshot does
	ValueDue        = "VALUE_DUE"   // with a key, whose value follows as an r event; until then changes of it are not published
)

// Refresh is the Source.Snapshot of r events that only send again what the key
// holds (a snapshot of chosen keys). They are no change: where the target has a
// change of its own that such an event has not seen, that stays, and nothing is
// in conflict.
const Refresh = "refresh"

// IsRefresh tells whether e changes nothing.
func (e *Event) IsRefresh() bool { return e.Op == OpValue && e.Source.Snapshot == Refresh }

// NoDB is the database of an event that is not tied to one (PUBLISH, FLUSHALL, FUNCTION).
const NoDB int32 = -1

// Names of the record headers. Origin and op are readable without decoding
// the value; the position stands on the last record of a transaction.
const (
	HeaderOrigin   = "twinlog-origin"
	HeaderOp       = "twinlog-op"
	HeaderPosition = "twinlog-position"
)

// Event is one change of a Redis, or one control event: the record
// twinlog.v1.ChangeEvent of change_event.avsc.
//
// Byte slices of a decoded event alias the buffer it was decoded from. An
// Event may be reused for decoding: every field is overwritten, and slices
// keep their capacity.
type Event struct {
	Op          Op
	Origin      string // site where the change was born
	DB          int32  // NoDB: not tied to one
	Key         []byte // first key written, also the Kafka record key; nil for t, m, f, x
	OtherKeys   [][]byte
	Command     string   // upper case; empty for r
	Args        [][]byte // without the name
	Type        string   // for r, as TYPE answers
	Value       Value    // for r
	ExpireAt    OptInt64 // for r: Unix ms
	Part        OptPart
	Transaction OptTransaction
	Seq         int64 // dense, from 1
	Seen        int64 // highest seq of the opposite direction applied at the origin before
	TsMs        int64 // event made, Unix ms
	Source      Source
}

// OptInt64 is a nullable long.
type OptInt64 struct {
	Set   bool
	Int64 int64
}

// Part tells that a value or an argument is spread over several events.
type Part struct {
	Index int32
	Last  bool
	// Arg is, of a command, the index of this part's first argument, which goes
	// on with the last one of the part before if that has the same index. Of a
	// value it is -1, or 0 if the part's first element goes on so.
	Arg int32
}

// OptPart is a nullable Part.
type OptPart struct {
	Set bool
	Part
}

// Transaction groups the events of one unit: all or none.
type Transaction struct {
	ID    []byte // UTF-8; the seq of the group's first event in decimal
	Index int32
	Last  bool
}

// OptTransaction is a nullable Transaction.
type OptTransaction struct {
	Set bool
	Transaction
}

// Source says where in a Redis the event comes from.
type Source struct {
	TsMs       int64  // read from Redis, Unix ms
	Snapshot   string // Debezium: true, first, last, false, incremental; or Refresh
	Shard      string // empty: standalone
	Epoch      int64
	ReplOffset int64  // at the end of the unit, or of the snapshot
	Replid     string // empty is null
	Server     string // empty is null
}

// Kind is the branch of the value union.
type Kind byte

// The kinds of values.
const (
	KindNone   Kind = iota // null: the key does not exist
	KindString             // Value.Data
	KindList               // Value.Elements, head first
	KindHash               // Value.Hash
	KindSet                // Value.Elements
	KindZSet               // Value.ZSet
	KindStream             // Value.Stream, Value.Meta
	KindDump               // Value.Data, as DUMP answers, footer included
)

// Value is the typed value of an r event, or one part of it. Only the fields
// of its Kind are meaningful.
type Value struct {
	Kind     Kind
	Data     []byte
	Elements [][]byte
	Hash     []HashEntry
	ZSet     []ZSetMember
	Stream   []StreamEntry
	Meta     *StreamMeta // in a stream's last parts
}

// HashEntry is one field of a hash.
type HashEntry struct {
	Field, Value []byte
	ExpireAt     OptInt64 // Unix ms
}

// ZSetMember is one member of a sorted set.
type ZSetMember struct {
	Member []byte
	Score  float64
}

// StreamID identifies a stream entry. Its text form is "ms-seq".
type StreamID struct{ Ms, Seq uint64 }

// StreamEntry is one entry of a stream; Fields are name, value, name, …,
// order and duplicates kept.
type StreamEntry struct {
	ID     StreamID
	Fields [][]byte
}

// StreamMeta is what a stream has besides its entries. A group that is
// repeated in a later part continues.
type StreamMeta struct {
	LastID       StreamID
	MaxDeletedID StreamID
	EntriesAdded int64 // -1: unknown
	Groups       []StreamGroup
}

// StreamGroup is a consumer group.
type StreamGroup struct {
	Name        []byte
	LastID      StreamID
	EntriesRead int64 // -1: unknown
	Consumers   []StreamConsumer
}

// StreamConsumer is one consumer of a group, with its pending entries.
type StreamConsumer struct {
	Name     []byte
	SeenMs   int64
	ActiveMs int64 // -1: unknown
	Pending  []PendingEntry
}

// PendingEntry is one delivered, not yet acknowledged entry.
type PendingEntry struct {
	ID          StreamID
	DeliveredMs int64
	Deliveries  int64
}

// Clone returns a copy of v that shares no memory with it.
func (v *Value) Clone() Value {
	c := *v
	c.Data = bytes.Clone(v.Data)
	c.Elements = cloneAll(v.Elements)
	c.Hash = slices.Clone(v.Hash)
	for i := range c.Hash {
		c.Hash[i].Field, c.Hash[i].Value = bytes.Clone(c.Hash[i].Field), bytes.Clone(c.Hash[i].Value)
	}
	c.ZSet = slices.Clone(v.ZSet)
	for i := range c.ZSet {
		c.ZSet[i].Member = bytes.Clone(c.ZSet[i].Member)
	}
	c.Stream = slices.Clone(v.Stream)
	for i := range c.Stream {
		c.Stream[i].Fields = cloneAll(c.Stream[i].Fields)
	}
	if v.Meta != nil {
		c.Meta = v.Meta.clone()
	}
	return c
}

func (m *StreamMeta) clone() *StreamMeta {
	c := *m
	c.Groups = slices.Clone(m.Groups)
	for i := range c.Groups {
		g := &c.Groups[i]
		g.Name, g.Consumers = bytes.Clone(g.Name), slices.Clone(g.Consumers)
		for j := range g.Consumers {
			g.Consumers[j].Name, g.Consumers[j].Pending = bytes.Clone(g.Consumers[j].Name), slices.Clone(g.Consumers[j].Pending)
		}
	}
	return &c
}

func cloneAll(all [][]byte) [][]byte {
	c := slices.Clone(all)
	for i := range c {
		c[i] = bytes.Clone(c[i])
	}
	return c
}

// Append adds the next part of the same value.
func (v *Value) Append(part *Value) {
	v.Data = append(v.Data, part.Data...)
	v.Elements = append(v.Elements, part.Elements...)
	v.Hash = append(v.Hash, part.Hash...)
	v.ZSet = append(v.ZSet, part.ZSet...)
	v.Stream = append(v.Stream, part.Stream...)
	if part.Meta == nil {
		return
	}
	if v.Meta == nil {
		v.Meta = part.Meta
		return
	}
	v.Meta.append(part.Meta)
}

// append goes on in the group and the consumer that m ended with.
func (m *StreamMeta) append(part *StreamMeta) {
	for _, g := range part.Groups {
		n := len(m.Groups)
		if n == 0 || !bytes.Equal(m.Groups[n-1].Name, g.Name) {
			m.Groups = append(m.Groups, g)
			continue
		}
		last := &m.Groups[n-1]
		for _, c := range g.Consumers {
			if k := len(last.Consumers); k > 0 && bytes.Equal(last.Consumers[k-1].Name, c.Name) {
				last.Consumers[k-1].Pending = append(last.Consumers[k-1].Pending, c.Pending...)
				continue
			}
			last.Consumers = append(last.Consumers, c)
		}
	}
}
