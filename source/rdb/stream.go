package rdb

import (
	"encoding/binary"
	"math"

	"twinlog/schema"
)

// What the parts of a stream cost beyond their strings when a part is measured.
const (
	entryCost    = 24
	groupCost    = 48
	consumerCost = 32
	pendingCost  = 40
)

// streamDecoder hands out a stream: its entries, then what its groups know.
type streamDecoder struct {
	version int // 1: Redis 5, 2: Redis 7.0, 3: Redis 7.2, 4: Redis 8.6
	phase   streamPhase

	nodes uint64   // listpacks to come
	node  nodePack // the one being handed out
	slab  [][]byte // fields of this part's entries

	meta   schema.StreamMeta // without groups
	groups groupDecoder
}

type streamPhase byte

const (
	phaseEntries streamPhase = iota
	phaseTail
	phaseGroups
)

func startStream(version int) func(*Reader) (decoder, error) {
	return func(r *Reader) (decoder, error) {
		n, err := r.length("number of stream nodes")
		d := &r.stream
		d.version, d.phase, d.nodes, d.node.open = version, phaseEntries, n, false
		return d, err
	}
}

func (d *streamDecoder) next(r *Reader) (done bool, err error) {
	d.slab = d.slab[:0]
	if d.phase == phaseEntries {
		if done, err := d.entries(r); !done || err != nil {
			return false, err
		}
		d.phase = phaseTail
	}
	if d.phase == phaseTail {
		if err := d.tail(r); err != nil {
			return false, err
		}
		d.phase = phaseGroups
	}
	meta := d.meta // the part's own: the caller may keep it
	r.entry.Value.Meta = &meta
	done, err = d.groups.next(r, &meta)
	if done && d.version >= 4 {
		err = r.skipProducers()
	}
	return done, err
}

// skipProducers skips what makes XADD with IDMP notice a message that it has
// taken already: its configuration, the ids of the last messages of each
// producer, two counters. It is no part of the stream's content and cannot be
// set by commands.
func (r *Reader) skipProducers() error {
	var n [3]uint64 // seconds, most ids of a producer, producers
	for i := range n {
		var err error
		if n[i], err = r.length("configuration of producers"); err != nil {
			return err
		}
	}
	for range n[2] {
		if err := r.skipProducer(); err != nil {
			return err
		}
	}
	for range 2 {
		if _, err := r.length("counter of messages"); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) skipProducer() error {
	if err := r.skipString(0); err != nil {
		return err
	}
	messages, err := r.length("number of messages")
	if err != nil {
		return err
	}
	for range messages {
		if err := r.skipString(0); err != nil {
			return err
		}
		if _, err := r.streamID(); err != nil {
			return err
		}
	}
	return nil
}

// entries moves entries into the part until there are no more (done) or the
// part is full.
func (d *streamDecoder) entries(r *Reader) (done bool, err error) {
	for {
		if d.node.open {
			if done, err := d.unpack(r); !done || err != nil {
				return false, err
			}
			d.node.open, r.pinned = false, none
		}
		if d.nodes == 0 {
			return true, nil
		}
		if r.full() {
			return false, nil
		}
		d.nodes--
		if err := d.node.load(r); err != nil {
			return false, err
		}
	}
}

func (d *streamDecoder) unpack(r *Reader) (done bool, err error) {
	for d.node.pack.more() {
		if r.full() {
			return false, nil
		}
		at := len(d.slab)
		id, deleted, err := d.node.entry(r, &d.slab)
		if err != nil {
			return false, err
		}
		if deleted {
			d.slab = d.slab[:at]
			continue
		}
		fields := d.slab[at:len(d.slab):len(d.slab)]
		r.payload += entryCost
		for _, f := range fields {
			r.payload += len(f) + elementCost
		}
		v := &r.entry.Value
		v.Stream = append(v.Stream, schema.StreamEntry{ID: id, Fields: fields})
	}
	return true, d.node.finish()
}

// tail reads what stands between the entries and the groups.
func (d *streamDecoder) tail(r *Reader) (err error) {
	if _, err = r.length("length of a stream"); err != nil {
		return err
	}
	d.meta = schema.StreamMeta{EntriesAdded: -1}
	if d.meta.LastID, err = r.streamID(); err != nil {
		return err
	}
	if d.version >= 2 {
		if _, err = r.streamID(); err != nil { // the first entry's
			return err
		}
		if d.meta.MaxDeletedID, err = r.streamID(); err != nil {
			return err
		}
		if d.meta.EntriesAdded, err = r.counter("entries-added"); err != nil {
			return err
		}
	}
	groups, err := r.length("number of groups")
	d.groups = groupDecoder{version: d.version, groups: groups, pel: d.groups.pel[:0]}
	return err
}

// streamID reads an id that is stored as two lengths.
func (r *Reader) streamID() (id schema.StreamID, err error) {
	if id.Ms, err = r.length("stream id"); err == nil {
		id.Seq, err = r.length("stream id")
	}
	return id, err
}

// rawStreamID reads an id that is stored as sixteen bytes.
func (r *Reader) rawStreamID() (schema.StreamID, error) {
	b, err := r.in.take(16)
	if err != nil {
		return schema.StreamID{}, err
	}
	return parseStreamID(b), nil
}

func parseStreamID(b []byte) schema.StreamID {
	return schema.StreamID{Ms: binary.BigEndian.Uint64(b), Seq: binary.BigEndian.Uint64(b[8:])}
}

// counter reads a count that may be unknown: -1, stored as 2^64-1.
func (r *Reader) counter(what string) (int64, error) {
	n, err := r.length(what)
	if err == nil && n > math.MaxInt64 && n != math.MaxUint64 {
		return 0, corrupt("%s is %d", what, n)
	}
	return int64(n), err
}
