package rdb

import (
	"bytes"
	"cmp"
	"slices"

	"twinlog/schema"
)

// groupDecoder hands out the groups of a stream. A group's pending entries are
// stored once, with their times, and then by id under each consumer, so the
// table of one group must be in memory.
type groupDecoder struct {
	version int
	phase   groupPhase

	groups    uint64 // to come
	consumers uint64 // to come in this group
	pending   uint64 // to come for this consumer

	group    schema.StreamGroup    // without consumers
	consumer schema.StreamConsumer // without pending entries
	pel      []pelEntry            // of this group, by id
	unowned  int                   // entries of pel that no consumer had yet
}

type groupPhase byte

const (
	phaseGroup groupPhase = iota
	phaseConsumer
	phasePending
)

type pelEntry struct {
	schema.PendingEntry
	owned bool
}

// pelEntryBytes is what a row of the table costs.
const pelEntryBytes = 40

// next moves groups into meta until there are no more (done) or the part is full.
func (d *groupDecoder) next(r *Reader, meta *schema.StreamMeta) (done bool, err error) {
	// A part goes on in the group and consumer of the one before. Their
	// repetition is not counted: however long the names, it must get on.
	if d.phase != phaseGroup {
		d.addGroup(meta)
	}
	if d.phase == phasePending {
		d.addConsumer(meta)
	}
	for {
		if done, err := d.leave(); done || err != nil {
			return done, err
		}
		if r.full() {
			return false, nil
		}
		switch d.phase {
		case phaseGroup:
			err = d.nextGroup(r, meta)
		case phaseConsumer:
			err = d.nextConsumer(r, meta)
		case phasePending:
			err = d.nextPending(r, meta)
		}
		if err != nil {
			return false, err
		}
	}
}

// leave leaves a consumer and a group that have nothing more, and tells
// whether that was all.
func (d *groupDecoder) leave() (done bool, err error) {
	if d.phase == phasePending && d.pending == 0 {
		d.phase = phaseConsumer
	}
	if d.phase == phaseConsumer && d.consumers == 0 {
		if d.unowned > 0 {
			return false, corrupt("%d pending entries of group %q have no consumer", d.unowned, d.group.Name)
		}
		d.phase = phaseGroup
	}
	return d.phase == phaseGroup && d.groups == 0, nil
}

func (d *groupDecoder) addGroup(meta *schema.StreamMeta) {
	meta.Groups = append(meta.Groups, d.group)
}

func (d *groupDecoder) addConsumer(meta *schema.StreamMeta) {
	g := &meta.Groups[len(meta.Groups)-1]
	g.Consumers = append(g.Consumers, d.consumer)
}

// nextGroup reads a group up to its first consumer.
func (d *groupDecoder) nextGroup(r *Reader, meta *schema.StreamMeta) error {
	d.groups--
	name, err := r.string("group name")
	if err != nil {
		return err
	}
	d.group = schema.StreamGroup{Name: bytes.Clone(name), EntriesRead: -1}
	if d.group.LastID, err = r.streamID(); err != nil {
		return err
	}
	if d.version >= 2 {
		if d.group.EntriesRead, err = r.counter("entries-read"); err != nil {
			return err
		}
	}
	if err := d.loadPEL(r); err != nil {
		return err
	}
	if d.consumers, err = r.length("number of consumers"); err != nil {
		return err
	}
	d.addGroup(meta)
	r.payload += len(name) + groupCost
	d.phase = phaseConsumer
	return nil
}

func (d *groupDecoder) loadPEL(r *Reader) error {
	n, err := r.length("number of pending entries")
	if err != nil {
		return err
	}
	d.pel = d.pel[:0]
	for range n {
		if err := r.checkSize("table of pending entries", uint64(len(d.pel)+1)*pelEntryBytes); err != nil {
			return err
		}
		e, err := r.pelEntry()
		if err != nil {
			return err
		}
		if k := len(d.pel); k > 0 && compareIDs(d.pel[k-1].ID, e.ID) >= 0 {
			return corrupt("the pending entries of group %q are not in order", d.group.Name)
		}
		d.pel = append(d.pel, pelEntry{PendingEntry: e})
	}
	d.unowned = len(d.pel)
	return nil
}

func (r *Reader) pelEntry() (e schema.PendingEntry, err error) {
	if e.ID, err = r.rawStreamID(); err != nil {
		return e, err
	}
	delivered, err := r.in.fixed(8)
	if err != nil {
		return e, err
	}
	e.DeliveredMs = int64(delivered)
	e.Deliveries, err = r.counter("number of deliveries")
	return e, err
}

// nextConsumer reads a consumer up to its first pending entry.
func (d *groupDecoder) nextConsumer(r *Reader, meta *schema.StreamMeta) error {
	d.consumers--
	name, err := r.string("consumer name")
	if err != nil {
		return err
	}
	d.consumer = schema.StreamConsumer{Name: bytes.Clone(name), ActiveMs: -1}
	seen, err := r.in.fixed(8)
	if err != nil {
		return err
	}
	d.consumer.SeenMs = int64(seen)
	if d.version >= 3 {
		active, err := r.in.fixed(8)
		if err != nil {
			return err
		}
		d.consumer.ActiveMs = int64(active)
	}
	if d.pending, err = r.length("number of pending entries"); err != nil {
		return err
	}
	d.addConsumer(meta)
	r.payload += len(name) + consumerCost
	d.phase = phasePending
	return nil
}

// nextPending reads a pending entry.
func (d *groupDecoder) nextPending(r *Reader, meta *schema.StreamMeta) error {
	d.pending--
	id, err := r.rawStreamID()
	if err != nil {
		return err
	}
	i, found := slices.BinarySearchFunc(d.pel, id, func(e pelEntry, id schema.StreamID) int {
		return compareIDs(e.ID, id)
	})
	if !found || d.pel[i].owned {
		return corrupt("pending entry %d-%d of consumer %q is not, or not only, its group's", id.Ms, id.Seq, d.consumer.Name)
	}
	d.pel[i].owned = true
	d.unowned--
	g := &meta.Groups[len(meta.Groups)-1]
	c := &g.Consumers[len(g.Consumers)-1]
	c.Pending = append(c.Pending, d.pel[i].PendingEntry)
	r.payload += pendingCost
	return nil
}

func compareIDs(a, b schema.StreamID) int {
	return cmp.Or(cmp.Compare(a.Ms, b.Ms), cmp.Compare(a.Seq, b.Seq))
}
