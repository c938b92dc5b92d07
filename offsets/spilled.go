package offsets

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"slices"
	"sort"

	"twinlog/internal/command"
)

// spilled is a shelf on disk. Its file has three sections: keys and elements,
// both sorted by hash, and the changes of several keys in order. A section is
// a row of blocks, each a checksum and its contents; where blocks begin is
// kept in memory, so that a lookup reads one block.
//
// The file is of no use to another process: the hashes are this one's, and a
// ledger is made anew from the topic.
type spilled struct {
	file                    *os.File
	first, last             int64
	keys, elements, several section
	size                    int64
	buffer                  []byte // of lookups
}

// section is where the blocks of one are.
type section struct {
	from   int64
	blocks []block
}

type block struct {
	hash uint64 // the first one in it
	end  int64
}

const (
	blockKeys     = 128
	blockElements = 256
	blockBytes    = 16 << 10 // of what has no fixed size; one entry may be longer
	blockMemory   = 16
	checksumBytes = 4
	sizeBytes     = 4
	elementSize   = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// holding is the block that has hash if any has: no hash is in two.
func (s *section) holding(hash uint64) (i int, ok bool) {
	i = sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].hash > hash }) - 1
	return i, i >= 0
}

// span is where block i lies in the file.
func (s *section) span(i int) (from, to int64) {
	if i == 0 {
		return s.from, s.blocks[i].end
	}
	return s.blocks[i-1].end, s.blocks[i].end
}

// read returns the contents of a block, in buf if it is large enough.
func (s *spilled) read(buf []byte, in *section, i int) ([]byte, error) {
	from, to := in.span(i)
	buf = slices.Grow(buf[:0], int(to-from))[:to-from]
	if _, err := s.file.ReadAt(buf, from); err != nil {
		return nil, s.damaged(from, err)
	}
	if binary.LittleEndian.Uint32(buf) != crc32.Checksum(buf[checksumBytes:], castagnoli) {
		return nil, s.damaged(from, errors.New("the checksum does not match"))
	}
	return buf, nil
}

func (s *spilled) damaged(at int64, err error) error {
	return fmt.Errorf("the ledger file %s cannot be read at byte %d: %w; look after that disk, the ledger is made anew when the source starts again", s.file.Name(), at, err)
}

var errContents = errors.New("its contents make no sense")

func (s *spilled) span() (first, last int64) { return s.first, s.last }

func (s *spilled) find(k key) (touched, error) {
	i, ok := s.keys.holding(k.hash)
	if !ok {
		return touched{}, nil
	}
	var err error
	if s.buffer, err = s.read(s.buffer, &s.keys, i); err != nil {
		return touched{}, err
	}
	c := cursor{b: s.buffer[checksumBytes:]}
	for c.more() {
		hash, entry := c.fixed(), cursor{b: c.sized()}
		if hash > k.hash {
			break
		}
		if hash < k.hash {
			continue
		}
		db, name, t := s.key(&entry)
		if c.bad = c.bad || entry.bad; !c.bad && db == k.db && bytes.Equal(name, k.name) {
			return t, nil
		}
	}
	return touched{}, s.check(&c, &s.keys, i)
}

func (s *spilled) element(hash uint64) (int64, error) {
	i, ok := s.elements.holding(hash)
	if !ok {
		return 0, nil
	}
	var err error
	if s.buffer, err = s.read(s.buffer, &s.elements, i); err != nil {
		return 0, err
	}
	entries := s.buffer[checksumBytes:]
	hashAt := func(i int) uint64 { return binary.LittleEndian.Uint64(entries[i*elementSize:]) }
	n := sort.Search(len(entries)/elementSize, func(i int) bool { return hashAt(i) >= hash })
	if n == len(entries)/elementSize || hashAt(n) != hash {
		return 0, nil
	}
	c := cursor{b: entries[n*elementSize+8:]}
	at := c.fixed()
	if at == 0 || at > s.highest() {
		c.spoil()
	}
	return s.seq(at), s.check(&c, &s.elements, i)
}

func (s *spilled) multis(visit func(seq int64, keys []command.KeyTouch)) error {
	var keys []command.KeyTouch
	return s.blocks(&s.several, func(c *cursor) {
		seq, n := s.ownSeq(c), c.number(uint64(len(c.b)))
		keys = keys[:0]
		for range n {
			db := int32(uint32(c.number(math.MaxUint32)))
			written := c.number(1) == 1
			keys = append(keys, command.KeyTouch{DB: db, Name: c.text(), Written: written})
		}
		if !c.bad {
			visit(seq, keys)
		}
	})
}

func (s *spilled) each(visit func(db int32, name []byte, t touched)) error {
	return s.blocks(&s.keys, func(c *cursor) {
		c.fixed()
		entry := cursor{b: c.sized()}
		db, name, t := s.key(&entry)
		if c.bad = c.bad || entry.bad; !c.bad {
			visit(db, name, t)
		}
	})
}

// blocks calls entry until it has taken all that a section holds. It has a
// buffer of its own, since entry may look up keys meanwhile.
func (s *spilled) blocks(in *section, entry func(c *cursor)) error {
	var buf []byte
	for i := range in.blocks {
		var err error
		if buf, err = s.read(buf, in, i); err != nil {
			return err
		}
		c := cursor{b: buf[checksumBytes:]}
		for c.more() {
			entry(&c)
		}
		if err := s.check(&c, in, i); err != nil {
			return err
		}
	}
	return nil
}

func (s *spilled) check(c *cursor, in *section, i int) error {
	if !c.bad {
		return nil
	}
	from, _ := in.span(i)
	return s.damaged(from, errContents)
}

// key takes what spillWriter.key wrote behind the hash and the size, by which
// other keys are passed over.
func (s *spilled) key(c *cursor) (db int32, name []byte, t touched) {
	db = int32(uint32(c.number(math.MaxUint32)))
	t.kind = command.Kind(c.number(uint64(command.Swap)))
	t.command = uint16(c.number(math.MaxUint16))
	t.last, t.other, t.whole, t.read = s.ownSeq(c), s.ownSeq(c), s.ownSeq(c), s.ownSeq(c)
	return db, c.text(), t
}

func (s *spilled) ownSeq(c *cursor) int64 { return s.seq(c.number(s.highest())) }

// Seqs are written counted from the file's first, which is 1; 0 is none.
func (s *spilled) highest() uint64 { return uint64(s.last - s.first + 1) }

func (s *spilled) seq(at uint64) int64 {
	if at == 0 {
		return 0
	}
	return s.first - 1 + int64(at)
}

func (s *spilled) at(seq int64) uint64 {
	if seq == 0 {
		return 0
	}
	return uint64(seq - s.first + 1)
}

func (s *spilled) memory() int64 {
	return int64(len(s.keys.blocks)+len(s.elements.blocks)+len(s.several.blocks)) * blockMemory
}

func (s *spilled) disk() int64 { return s.size }

func (s *spilled) drop() error {
	err := s.file.Close()
	if gone := os.Remove(s.file.Name()); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// cursor takes numbers and texts from a block. It is bad once one of them
// did not fit, and has nothing left then.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) more() bool { return len(c.b) > 0 }

func (c *cursor) spoil() { c.b, c.bad = nil, true }

func (c *cursor) fixed() uint64 {
	if len(c.b) < 8 {
		c.spoil()
		return 0
	}
	n := binary.LittleEndian.Uint64(c.b)
	c.b = c.b[8:]
	return n
}

func (c *cursor) number(limit uint64) uint64 {
	n, size := binary.Uvarint(c.b)
	if size <= 0 || n > limit {
		c.spoil()
		return 0
	}
	c.b = c.b[size:]
	return n
}

func (c *cursor) text() []byte { return c.take(c.number(math.MaxInt)) }

// sized takes what spillWriter has put a size in front of.
func (c *cursor) sized() []byte {
	if len(c.b) < sizeBytes {
		c.spoil()
		return nil
	}
	n := binary.LittleEndian.Uint32(c.b)
	c.b = c.b[sizeBytes:]
	return c.take(uint64(n))
}

func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.spoil()
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

// spillWriter writes the file of a spilled shelf, section by section. An error
// shows when it is finished.
type spillWriter struct {
	s       *spilled
	w       *bufio.Writer
	block   []byte // being filled, with room for its checksum
	first   uint64 // hash of its first entry
	entries int
	section section
}

func newSpillWriter(f *os.File, first, last int64) *spillWriter {
	return &spillWriter{
		s: &spilled{file: f, first: first, last: last},
		w: bufio.NewWriterSize(f, 4*blockBytes), block: make([]byte, checksumBytes, 2*blockBytes),
	}
}

// begin begins an entry.
func (w *spillWriter) begin(hash uint64) {
	if w.entries == 0 {
		w.first = hash
	}
	w.entries++
}

func (w *spillWriter) key(hash uint64, db int32, name []byte, t touched) {
	w.begin(hash)
	b := binary.LittleEndian.AppendUint64(w.block, hash)
	b = binary.LittleEndian.AppendUint32(b, 0) // the size, when it is known
	from := len(b)
	for _, n := range [...]uint64{
		uint64(uint32(db)), uint64(t.kind), uint64(t.command),
		w.s.at(t.last), w.s.at(t.other), w.s.at(t.whole), w.s.at(t.read), uint64(len(name)),
	} {
		b = binary.AppendUvarint(b, n)
	}
	b = append(b, name...)
	binary.LittleEndian.PutUint32(b[from-sizeBytes:], uint32(len(b)-from))
	w.block = b
}

// endHash ends a block that is full. It is called between keys of different
// hashes, so that a lookup finds all of one hash in one block.
func (w *spillWriter) endHash() {
	if w.entries >= blockKeys || len(w.block) >= blockBytes {
		w.endBlock()
	}
}

func (w *spillWriter) element(e elementAt) {
	w.begin(e.hash)
	w.block = binary.LittleEndian.AppendUint64(w.block, e.hash)
	w.block = binary.LittleEndian.AppendUint64(w.block, w.s.at(e.seq))
	if w.entries >= blockElements {
		w.endBlock()
	}
}

func (w *spillWriter) multi(seq int64, keys []command.KeyTouch) {
	w.begin(0)
	b := binary.AppendUvarint(w.block, w.s.at(seq))
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for i := range keys {
		written := uint64(0)
		if keys[i].Written {
			written = 1
		}
		b = binary.AppendUvarint(b, uint64(uint32(keys[i].DB)))
		b = binary.AppendUvarint(b, written)
		b = binary.AppendUvarint(b, uint64(len(keys[i].Name)))
		b = append(b, keys[i].Name...)
	}
	w.block = b
	if len(w.block) >= blockBytes {
		w.endBlock()
	}
}

func (w *spillWriter) endBlock() {
	if w.entries == 0 {
		return
	}
	binary.LittleEndian.PutUint32(w.block, crc32.Checksum(w.block[checksumBytes:], castagnoli))
	_, _ = w.w.Write(w.block) // its error comes again with Flush
	w.s.size += int64(len(w.block))
	w.section.blocks = append(w.section.blocks, block{w.first, w.s.size})
	w.block, w.entries = w.block[:checksumBytes], 0
}

func (w *spillWriter) endSection(done *section) {
	w.endBlock()
	w.section.blocks = slices.Clip(w.section.blocks)
	*done = w.section
	w.section = section{from: w.s.size}
}

func (w *spillWriter) finish() (*spilled, error) {
	return w.s, w.w.Flush()
}
