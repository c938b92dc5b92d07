package rdb

import "twinlog/schema"

// A packing is a blob in which a server keeps a small collection.
type packing interface {
	// open checks the frame of a blob and goes to its first element.
	open(blob []byte) error
	// next returns the next element, or ok false behind the last one.
	next() (e element, ok bool, err error)
	// more tells whether an element follows.
	more() bool
}

// An element is a string, or a number that stands for its decimal text.
type element struct {
	text   []byte // nil: a number
	number int64
}

// text returns an element as a string, valid as long as the part.
func (r *Reader) text(e element) []byte {
	if e.text == nil {
		return r.arena().decimal(e.number)
	}
	return e.text
}

// packedDecoder hands out a collection that is one blob, or the list of blobs
// that is a quicklist. Strings alias their blob.
type packedDecoder struct {
	format   packing
	blob     packing // the one being handed out, nil between two
	nodes    uint64  // blobs to come
	tagged   bool    // each blob says whether it is one
	expiring bool    // each field of a hash has an expiry behind its value

	listpack listpack
	ziplist  ziplist
	intset   intset
	zipmap   zipmap
}

// Nodes of a tagged quicklist.
const (
	nodePlain  = 1 // a single element
	nodePacked = 2
)

type format byte

const (
	inListpack format = iota
	inZiplist
	inIntset
	inZipmap
)

func (d *packedDecoder) packing(f format) packing {
	switch f {
	case inListpack:
		return &d.listpack
	case inZiplist:
		return &d.ziplist
	case inIntset:
		return &d.intset
	default:
		return &d.zipmap
	}
}

func startPacked(f format) func(*Reader) (decoder, error) {
	return func(r *Reader) (decoder, error) {
		d := &r.packed
		d.format, d.blob, d.nodes, d.tagged, d.expiring = d.packing(f), nil, 1, false, false
		return d, nil
	}
}

func startQuicklist(f format) func(*Reader) (decoder, error) {
	return func(r *Reader) (decoder, error) {
		n, err := r.length("number of list nodes")
		d := &r.packed
		d.format, d.blob, d.nodes, d.tagged, d.expiring = d.packing(f), nil, n, f == inListpack, false
		return d, err
	}
}

func (d *packedDecoder) next(r *Reader) (done bool, err error) {
	for {
		if d.blob != nil {
			if done, err := d.unpack(r); !done || err != nil {
				return false, err
			}
			d.blob, r.pinned = nil, none
		}
		if d.nodes == 0 {
			return true, nil
		}
		if r.full() {
			return false, nil
		}
		d.nodes--
		if err := d.load(r); err != nil {
			return false, err
		}
	}
}

// load reads the next node.
func (d *packedDecoder) load(r *Reader) error {
	if d.tagged {
		tag, err := r.length("kind of a list node")
		switch {
		case err != nil:
			return err
		case tag == nodePlain:
			return readElement(r)
		case tag != nodePacked:
			return corrupt("unknown kind %d of a list node", tag)
		}
	}
	blob, err := r.string("packed blob")
	if err != nil {
		return err
	}
	d.blob, r.pinned = d.format, r.current
	return d.blob.open(blob)
}

// unpack moves elements into the entry until the blob is used up (done) or
// the part is full.
func (d *packedDecoder) unpack(r *Reader) (done bool, err error) {
	kind := r.entry.Value.Kind
	for {
		if r.full() && d.blob.more() {
			return false, nil
		}
		e, ok, err := d.blob.next()
		if !ok || err != nil {
			return err == nil, err
		}
		first := r.text(e)
		if kind == schema.KindList || kind == schema.KindSet {
			r.addElement(first)
			continue
		}
		e, ok, err = d.blob.next()
		switch {
		case err != nil:
			return false, err
		case !ok:
			return false, corrupt("a packed %s has an odd number of elements", r.entry.Type)
		case kind == schema.KindHash:
			value, expireAt := r.text(e), schema.OptInt64{}
			if d.expiring {
				if expireAt, err = packedExpiry(d.blob); err != nil {
					return false, err
				}
			}
			r.addField(first, value, expireAt)
		default:
			score, err := e.score()
			if err != nil {
				return false, err
			}
			if err := r.addMember(first, score); err != nil {
				return false, err
			}
		}
	}
}

func (e element) score() (float64, error) {
	if e.text == nil {
		return float64(e.number), nil
	}
	return parseScore(e.text)
}
