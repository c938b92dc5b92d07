package rdb

import (
	"math"

	"twinlog/schema"
)

// Flags of an entry in a listpack.
const (
	flagDeleted    = 1
	flagSameFields = 2
)

// nodePack walks a listpack of stream entries. It begins with a master entry,
// to whose id the entries' ids are relative, and whose fields an entry may
// share.
type nodePack struct {
	open    bool
	pack    listpack
	master  schema.StreamID
	fields  [][]byte // of the master entry
	live    int64    // entries to come
	deleted int64    // tombstones to come
}

// load reads a node up to its first entry.
func (n *nodePack) load(r *Reader) error {
	key, err := r.string("stream node key")
	if err != nil {
		return err
	}
	if len(key) != 16 {
		return corrupt("a stream node has an id of %d bytes", len(key))
	}
	n.master = parseStreamID(key)
	blob, err := r.string("stream node")
	if err != nil {
		return err
	}
	r.pinned = r.current
	if err := n.pack.open(blob); err != nil {
		return err
	}
	n.open = true
	return n.loadMaster(r)
}

func (n *nodePack) loadMaster(r *Reader) (err error) {
	if n.live, err = n.count(); err != nil {
		return err
	}
	if n.deleted, err = n.count(); err != nil {
		return err
	}
	fields, err := n.count()
	if err != nil {
		return err
	}
	n.fields = n.fields[:0]
	for range fields {
		if n.fields, err = n.appendText(r, n.fields); err != nil {
			return err
		}
	}
	end, err := n.number()
	if err == nil && end != 0 {
		err = corrupt("the master entry of a stream node ends with %d", end)
	}
	return err
}

// entry reads an entry and appends its fields and values to slab.
func (n *nodePack) entry(r *Reader, slab *[][]byte) (id schema.StreamID, deleted bool, err error) {
	flags, err := n.number()
	if err != nil {
		return id, false, err
	}
	if flags&^(flagDeleted|flagSameFields) != 0 {
		return id, false, corrupt("unknown flags %d of a stream entry", flags)
	}
	if id, err = n.id(); err != nil {
		return id, false, err
	}
	var elements int64 // of this entry, as counted behind it
	if flags&flagSameFields != 0 {
		elements, err = n.sameFields(r, slab)
	} else {
		elements, err = n.ownFields(r, slab)
	}
	if err != nil {
		return id, false, err
	}
	counted, err := n.number()
	if err == nil && counted != elements {
		err = corrupt("a stream entry of %d elements says it has %d", elements, counted)
	}
	deleted = flags&flagDeleted != 0
	if deleted {
		n.deleted--
	} else {
		n.live--
	}
	return id, deleted, err
}

func (n *nodePack) id() (id schema.StreamID, err error) {
	ms, err := n.number()
	if err != nil {
		return id, err
	}
	seq, err := n.number()
	return schema.StreamID{Ms: n.master.Ms + uint64(ms), Seq: n.master.Seq + uint64(seq)}, err
}

func (n *nodePack) sameFields(r *Reader, slab *[][]byte) (elements int64, err error) {
	for _, f := range n.fields {
		*slab = append(*slab, f)
		if *slab, err = n.appendText(r, *slab); err != nil {
			return 0, err
		}
	}
	return int64(len(n.fields)) + 3, nil
}

func (n *nodePack) ownFields(r *Reader, slab *[][]byte) (elements int64, err error) {
	fields, err := n.count()
	if err != nil {
		return 0, err
	}
	for range 2 * fields {
		if *slab, err = n.appendText(r, *slab); err != nil {
			return 0, err
		}
	}
	return 2*fields + 4, nil
}

// finish checks that the node had what it said.
func (n *nodePack) finish() error {
	if _, ok, err := n.pack.next(); ok || err != nil {
		return err
	}
	if n.live != 0 || n.deleted != 0 {
		return corrupt("the entries of a stream node are %d live and %d deleted short of its count", n.live, n.deleted)
	}
	return nil
}

func (n *nodePack) appendText(r *Reader, to [][]byte) ([][]byte, error) {
	e, err := n.next()
	if err != nil {
		return to, err
	}
	return append(to, r.text(e)), nil
}

func (n *nodePack) next() (element, error) {
	e, ok, err := n.pack.next()
	if err == nil && !ok {
		err = corrupt("a stream node ends inside an entry")
	}
	return e, err
}

func (n *nodePack) number() (int64, error) {
	e, err := n.next()
	if err == nil && e.text != nil {
		err = corrupt("a stream node has %q where a number belongs", e.text)
	}
	return e.number, err
}

// count reads a number of things, each of which takes a byte at least.
func (n *nodePack) count() (int64, error) {
	v, err := n.number()
	if err == nil && (v < 0 || v > math.MaxUint32) {
		err = corrupt("a stream node counts %d", v)
	}
	return v, err
}
