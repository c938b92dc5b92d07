package source

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"twinlog/schema"
)

// spool keeps batches on disk that do not fit into memory while Kafka is
// slower than the Redis. Each batch is one frame:
//
//	crc32c of the rest   4 bytes
//	seq of its last event  8 bytes
//	of each record: length of key and of value (varints), op, has a key (0, 1)
//	the keys, the values, one after another
//
// Integers are little-endian. Frames stand one behind another in segment
// files, and a segment is removed once nothing in it is wanted. Where a frame
// is, and how long its sections are, is kept in memory only: the files are of
// no use to another process, which reads the same changes from the Redis
// again. They are removed at the end, and by the next start after a kill.
//
// One goroutine writes; another may read and free meanwhile.
type spool struct {
	dir, prefix string
	connector   string // for messages
	max         int64  // bytes of all segments together

	mu      sync.Mutex
	used    int64
	all     []*segment
	filling *segment // the last one, while it takes more

	table  []byte // the writer's
	reader []byte // the reader's: another table
}

type segment struct {
	file *os.File
	size int64
	live int // frames that are wanted
}

// spot is where a batch is on disk.
type spot struct {
	segment                      *segment
	from                         int64
	seq                          int64
	records, table, keys, values int
}

const (
	frameHeader = 4 + 8
	segments    = 64 // about how many files a full spool has
	leastFile   = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newSpool returns a spool that holds at most maxBytes in files of dir. The
// name tells it from others there.
func newSpool(dir, name, connector string, maxBytes int64) *spool {
	return &spool{dir: dir, prefix: "spool-" + name + "-", connector: connector, max: maxBytes}
}

// begin makes the directory ready: what a killed process left there goes, and
// that it can be written is known before it is needed.
func (s *spool) begin() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return &SpoolError{Err: err}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return &SpoolError{Err: err}
	}
	for _, e := range entries {
		digits, ours := strings.CutPrefix(e.Name(), s.prefix)
		if !ours || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &SpoolError{Err: err}
		}
	}
	probe, err := s.create()
	if err == nil {
		err = probe.remove()
	}
	return err
}

// create makes a new file, never one that another process has open.
func (s *spool) create() (*segment, error) {
	f, err := os.CreateTemp(s.dir, s.prefix+"*")
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed the directory
		if err = os.MkdirAll(s.dir, 0o700); err == nil {
			f, err = os.CreateTemp(s.dir, s.prefix+"*")
		}
	}
	if err != nil {
		return nil, &SpoolError{Err: err}
	}
	return &segment{file: f}, nil
}

func (g *segment) remove() error {
	err := g.file.Close()
	if gone := os.Remove(g.file.Name()); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// errSpoolFull tells that max would be passed.
var errSpoolFull = errors.New("the spool is full")

// write puts a batch on disk. On an error nothing of it is there.
func (s *spool) write(b *batch, seq int64) (spot, error) {
	s.table = s.table[:0]
	key, value := 0, 0
	for _, r := range b.records {
		s.table = binary.AppendUvarint(s.table, uint64(r.keyEnd-key))
		s.table = binary.AppendUvarint(s.table, uint64(r.valueEnd-value))
		hasKey := byte(0)
		if r.hasKey {
			hasKey = 1
		}
		s.table = append(s.table, byte(r.op), hasKey)
		key, value = r.keyEnd, r.valueEnd
	}
	at := spot{seq: seq, records: len(b.records), table: len(s.table), keys: len(b.keys), values: len(b.values)}
	if err := s.reserve(&at); err != nil {
		return spot{}, err
	}
	header := binary.LittleEndian.AppendUint64(make([]byte, 4, frameHeader), uint64(seq))
	sections := [...][]byte{header, s.table, b.keys, b.values}
	binary.LittleEndian.PutUint32(header, checksum(header[4:], sections[1:]...))
	to := at.from
	for _, section := range sections {
		if _, err := at.segment.file.WriteAt(section, to); err != nil {
			s.giveUp(at)
			return spot{}, &SpoolError{Err: err}
		}
		to += int64(len(section))
	}
	return at, nil
}

func checksum(first []byte, more ...[]byte) uint32 {
	sum := crc32.Checksum(first, castagnoli)
	for _, b := range more {
		sum = crc32.Update(sum, castagnoli, b)
	}
	return sum
}

func (p *spot) size() int64 {
	return frameHeader + int64(p.table) + int64(p.keys) + int64(p.values)
}

// reserve finds the place of a frame.
func (s *spool) reserve(at *spot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used+at.size() > s.max {
		return errSpoolFull
	}
	if s.filling == nil || s.filling.size >= max(s.max/segments, leastFile) {
		g, err := s.create()
		if err != nil {
			return err
		}
		if full := s.filling; full != nil && full.live == 0 {
			s.drop(full)
		}
		s.all, s.filling = append(s.all, g), g
	}
	at.segment, at.from = s.filling, s.filling.size
	s.filling.live++
	s.filling.size += at.size()
	s.used += at.size()
	return nil
}

// giveUp takes back the reservation of the frame that could not be written:
// the last one of its segment.
func (s *spool) giveUp(at spot) {
	s.mu.Lock()
	g := at.segment
	g.size -= at.size()
	s.used -= at.size()
	_ = g.file.Truncate(g.size) // if it fails too, the next frame overwrites it
	s.mu.Unlock()
	s.free(at)
}

// read takes a batch's contents back from disk, into b. It stays there until
// it is freed.
func (s *spool) read(at spot, b *batch) error {
	header := make([]byte, frameHeader)
	s.reader = resized(s.reader, at.table)
	b.keys, b.values = resized(b.keys, at.keys), resized(b.values, at.values)
	from := at.from
	for _, section := range [...][]byte{header, s.reader, b.keys, b.values} {
		if n, err := at.segment.file.ReadAt(section, from); n < len(section) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return s.damaged(at, err)
		}
		from += int64(len(section))
	}
	if binary.LittleEndian.Uint32(header) != checksum(header[4:], s.reader, b.keys, b.values) {
		return s.damaged(at, errors.New("the checksum does not match"))
	}
	if seq := int64(binary.LittleEndian.Uint64(header[4:])); seq != at.seq {
		return s.damaged(at, fmt.Errorf("it ends with seq %d instead of %d", seq, at.seq))
	}
	if !b.index(s.reader, at.records) {
		return s.damaged(at, errors.New("its contents make no sense"))
	}
	return nil
}

func resized(b []byte, n int) []byte { return slices.Grow(b[:0], n)[:n] }

func (s *spool) damaged(at spot, err error) error {
	return &SpoolError{Err: fmt.Errorf("reading %s at byte %d: %w", at.segment.file.Name(), at.from, err), Resume: s.connector}
}

// index makes the records of a batch from their table, and tells whether it
// fits the keys and values.
func (b *batch) index(table []byte, records int) bool {
	b.records = b.records[:0]
	key, value := 0, 0
	for range records {
		keyLen, n := binary.Uvarint(table)
		if n <= 0 || keyLen > uint64(len(b.keys)-key) {
			return false
		}
		table = table[n:]
		valueLen, n := binary.Uvarint(table)
		if n <= 0 || valueLen > uint64(len(b.values)-value) || len(table) < n+2 || table[n+1] > 1 {
			return false
		}
		key, value = key+int(keyLen), value+int(valueLen)
		b.records = append(b.records, record{keyEnd: key, valueEnd: value, op: schema.Op(table[n]), hasKey: table[n+1] == 1})
		table = table[n+2:]
	}
	return len(table) == 0 && key == len(b.keys) && value == len(b.values)
}

// free tells that a frame is not wanted any more.
func (s *spool) free(at spot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := at.segment
	if g.live--; g.live == 0 {
		s.drop(g)
	}
}

// drop removes a segment that holds nothing. What stands in the way of that
// costs disk, not data: the next start tries again and tells.
func (s *spool) drop(g *segment) {
	i := slices.Index(s.all, g)
	if i < 0 {
		return // with the whole spool
	}
	s.all = slices.Delete(s.all, i, i+1)
	s.used -= g.size
	if s.filling == g {
		s.filling = nil
	}
	_ = g.remove()
}

// bytes tells how much disk is used.
func (s *spool) bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// close removes everything.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	for _, g := range s.all {
		failed = errors.Join(failed, g.remove())
	}
	s.all, s.filling, s.used = nil, nil, 0
	return failed
}
