package offsets

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"

	"twinlog/internal/command"
)

// A ledger keeps own changes in generations, one behind another by seq. A
// generation knows of each key only when it was last changed, and how, which
// is all that the rules ask; it is forgotten as a whole. The newest one is
// being filled, older ones may lie on disk (spill.go).

// touched is what is known of one key: seqs of own changes, 0 for none.
type touched struct {
	last    int64 // the last one that wrote the key
	kind    command.Kind
	other   int64 // the last write of another kind than kind
	whole   int64 // the last write that may have concerned every element
	read    int64 // the last one of several keys that read or wrote it, see multi
	command uint16
}

// before is t joined with what an older generation knows.
func (t touched) before(old touched) touched {
	if t.last == 0 {
		t.last, t.kind, t.other, t.command = old.last, old.kind, old.other, old.command
	} else if old.last > 0 {
		if old.kind != t.kind {
			t.other = max(t.other, old.last)
		} else {
			t.other = max(t.other, old.other)
		}
	}
	t.whole, t.read = max(t.whole, old.whole), max(t.read, old.read)
	return t
}

// lastBut is the last write of a kind other than k.
func (t touched) lastBut(k command.Kind) int64 {
	if t.kind == k {
		return t.other
	}
	return t.last
}

// shelf is a generation, in memory or on disk.
type shelf interface {
	span() (first, last int64) // seqs
	find(k key) (touched, error)
	element(hash uint64) (int64, error) // seq of the last own write of an element
	// multis visits the changes of several keys, in order.
	multis(visit func(seq int64, keys []command.KeyTouch)) error
	// each visits all keys.
	each(visit func(db int32, name []byte, t touched)) error
	memory() int64
	disk() int64
	drop() error
}

// key is a key with its hash, which is the same in all generations.
type key struct {
	db   int32
	name []byte
	hash uint64
}

// hasher makes hashes that nobody outside can foresee.
type hasher struct{ seed maphash.Seed }

func (h hasher) key(db int32, name []byte) key {
	return key{db, name, maphash.Bytes(h.seed, name) + uint64(uint32(db))*0x9e3779b97f4a7c15}
}

func (h hasher) element(k key, element []byte) uint64 {
	x := (k.hash ^ 0xd6e8feb86659fd93) * 0x9e3779b97f4a7c15
	return x ^ maphash.Bytes(h.seed, element)
}

// generation is a shelf in memory. Seqs are kept relative to base.
type generation struct {
	base, first, to int64
	slots           []int32 // a hash table: places in records, from 1; collisions at the next free one
	records         []record
	names           []byte
	elements        map[uint64]uint32
	several         []multi
	severalKeys     []multiKey
	severalWritten  int // records that changes of several keys write
}

// record is touched, with seqs relative to base.
type record struct {
	hash                     uint64
	name, length             uint32
	db                       int32
	last, other, whole, read uint32
	several                  uint32 // the last change of several keys that wrote it
	kind                     command.Kind
	command                  uint16
}

type multi struct{ seq, keysEnd uint32 }

type multiKey struct {
	record  int32
	written bool
}

const (
	generationEntries = 1 << 14 // keys, elements, and keys of changes of several
	generationNames   = 1 << 20 // bytes
	generationSeqs    = 1 << 30
	recordBytes       = 44 + 3*4 // a record and its share of slots
	elementBytes      = 20
	multiBytes        = 8
	multiKeyBytes     = 8
)

func newGeneration(base int64) *generation {
	return &generation{base: base, slots: make([]int32, leastSlots), elements: make(map[uint64]uint32)}
}

// reset empties g and keeps its memory.
func (g *generation) reset(base int64) {
	clear(g.slots)
	clear(g.elements)
	*g = generation{
		base: base, slots: g.slots, elements: g.elements,
		records: g.records[:0], names: g.names[:0], several: g.several[:0], severalKeys: g.severalKeys[:0],
	}
}

func (g *generation) full(seq int64, entries int) bool {
	return len(g.records)+len(g.elements)+len(g.severalKeys) >= entries || len(g.names) >= generationNames || seq-g.base >= generationSeqs
}

// at finds the record of k, or makes one.
func (g *generation) at(k key) int32 {
	if 2*len(g.records) >= len(g.slots) {
		g.grow()
	}
	at := g.slot(k)
	if g.slots[at] == 0 {
		g.records = append(g.records, record{hash: k.hash, name: uint32(len(g.names)), length: uint32(len(k.name)), db: k.db})
		g.names = append(g.names, k.name...)
		g.slots[at] = int32(len(g.records))
	}
	return g.slots[at] - 1
}

// slot finds the place of k in slots, or the free one where it belongs.
func (g *generation) slot(k key) uint64 {
	mask := uint64(len(g.slots) - 1)
	for at := k.hash & mask; ; at = (at + 1) & mask {
		n := g.slots[at]
		if n == 0 {
			return at
		}
		if r := &g.records[n-1]; r.hash == k.hash && r.db == k.db && bytes.Equal(g.name(r), k.name) {
			return at
		}
	}
}

// grow doubles slots.
func (g *generation) grow() {
	g.slots = make([]int32, 2*len(g.slots))
	mask := uint64(len(g.slots) - 1)
	for i := range g.records {
		at := g.records[i].hash & mask
		for g.slots[at] != 0 {
			at = (at + 1) & mask
		}
		g.slots[at] = int32(i) + 1
	}
}

const leastSlots = 64 // a power of two

func (g *generation) name(r *record) []byte {
	return g.names[r.name : r.name+r.length : r.name+r.length]
}

// add notes that the own change seq touched what t says.
func (g *generation) add(h hasher, seq int64, t *command.Touch, name uint16) {
	if g.first == 0 {
		g.first = seq
	}
	g.to = seq
	at := uint32(seq - g.base)
	for i := range t.Keys {
		touch := &t.Keys[i]
		k := h.key(touch.DB, touch.Name)
		n := g.at(k)
		r := &g.records[n]
		if touch.Written {
			kind := t.Kind
			if t.Multi() {
				kind = command.Overwrite
			}
			if r.last > 0 && r.kind != kind {
				r.other = r.last
			}
			r.last, r.kind, r.command = at, kind, name
			if t.Multi() {
				if r.several == 0 {
					g.severalWritten++
				}
				r.several = at
			}
			if len(t.Elements) == 0 && kind != command.Deletion && kind != command.Pop || t.Multi() {
				r.whole = at
			}
		}
		if t.Multi() {
			r.read = at
			g.severalKeys = append(g.severalKeys, multiKey{n, touch.Written})
		}
		if i == 0 && t.Kind != command.Removal {
			for _, e := range t.Elements {
				g.elements[h.element(k, e)] = at
			}
		}
	}
	if t.Multi() {
		g.several = append(g.several, multi{at, uint32(len(g.severalKeys))})
	}
}

// writtenBySeveral counts the keys that changes of several keys behind seen
// wrote.
func (g *generation) writtenBySeveral(seen int64) int {
	if seen < g.first {
		return g.severalWritten
	}
	n := 0
	for i := range g.records {
		if g.seq(g.records[i].several) > seen {
			n++
		}
	}
	return n
}

func (g *generation) span() (first, last int64) { return g.first, g.to }

func (g *generation) seq(at uint32) int64 {
	if at == 0 {
		return 0
	}
	return g.base + int64(at)
}

func (g *generation) touched(r *record) touched {
	return touched{last: g.seq(r.last), kind: r.kind, other: g.seq(r.other), whole: g.seq(r.whole), read: g.seq(r.read), command: r.command}
}

// number finds the record of k.
func (g *generation) number(k key) (n int32, ok bool) {
	n = g.slots[g.slot(k)]
	return n - 1, n > 0
}

func (g *generation) find(k key) (touched, error) {
	n, ok := g.number(k)
	if !ok {
		return touched{}, nil
	}
	return g.touched(&g.records[n]), nil
}

func (g *generation) element(hash uint64) (int64, error) { return g.seq(g.elements[hash]), nil }

func (g *generation) multis(visit func(int64, []command.KeyTouch)) error {
	var keys []command.KeyTouch
	from := uint32(0)
	for _, m := range g.several {
		keys = keys[:0]
		for _, k := range g.severalKeys[from:m.keysEnd] {
			r := &g.records[k.record]
			keys = append(keys, command.KeyTouch{DB: r.db, Name: g.name(r), Written: k.written})
		}
		from = m.keysEnd
		visit(g.seq(m.seq), keys)
	}
	return nil
}

func (g *generation) each(visit func(int32, []byte, touched)) error {
	for i := range g.records {
		r := &g.records[i]
		visit(r.db, g.name(r), g.touched(r))
	}
	return nil
}

func (g *generation) memory() int64 {
	return int64(len(g.records)*recordBytes + len(g.names) + len(g.elements)*elementBytes + len(g.several)*multiBytes + len(g.severalKeys)*multiKeyBytes)
}

func (g *generation) disk() int64 { return 0 }
func (g *generation) drop() error { return nil }

// keyText is a key for maps: database, then name.
func keyText(db int32, name []byte) string {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(name)), uint32(db))
	return string(append(b, name...))
}
