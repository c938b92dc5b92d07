// Package rdb reads an RDB, the snapshot that a Redis sends to a replica, as a
// stream: element by element in constant memory, every length checked before
// memory is taken, the checksum verified over the very bytes that were used.
// It reads what Redis 5.0 to 8.6 write (RDB 9 to 13) and Valkey 7.2 to 9.1 (RDB
// 11 and 80), old encodings included.
//
// A newer version adds opcodes to Reader.opcode, rows to valueTypes or
// valkeyTypes and its number to supported.
package rdb

import (
	"bufio"
	"errors"
	"io"

	"twinlog/schema"
)

// The defaults of Options.
const (
	DefaultChunkBytes      = 512 << 10
	DefaultMaxElementBytes = 64 << 20
)

// MinBuffer is how many bytes the buffer of a Reader's input has to hold.
const MinBuffer = 64

// Options bound the memory of a Reader: about four parts, and three of the
// largest elements that are really met.
type Options struct {
	// ChunkBytes is where a value is cut: a part is handed out when it holds
	// this many payload bytes, so it is larger by less than one element. A
	// few bytes are counted for each element, about what encoding it costs.
	ChunkBytes int

	// MaxElementBytes limits what must be in memory at once: a key, a field,
	// an element, a packed blob (ziplist, listpack, intset, zipmap) with its
	// elements, a module value, a function library, the table of a group's
	// pending entries (40 bytes each). Above it a *LimitError ends the
	// reading. String values are cut like collections and have no limit.
	MaxElementBytes int64
}

// Reader reads one RDB. It is not safe for concurrent use.
type Reader struct {
	in      input
	opts    Options
	version int // of the RDB; 0: header not read yet

	entry Entry
	inKey bool    // entry.Key is the key being read
	err   error   // what ended the reading
	value decoder // of the value whose parts are being handed out

	payload int      // bytes of the current part
	arenas  [2]arena // parts alternate while a blob spans them
	current int      // arena of the current part
	pinned  int      // arena of a blob that is not used up, or none
	module  []byte   // the last module value

	str    stringDecoder
	plain  plainDecoder
	packed packedDecoder
	stream streamDecoder
}

// none is no arena.
const none = -1

// A decoder hands out a value part by part.
type decoder interface {
	// next fills the entry with the next part and tells whether it is the
	// last one.
	next(*Reader) (done bool, err error)
}

// NewReader returns a reader of the RDB that begins at br's next byte. What
// follows the RDB stays in br. Its buffer must hold MinBuffer bytes, 64 KiB
// serve well; nobody else may use br until Next returned an error.
func NewReader(br *bufio.Reader, o Options) *Reader {
	if o.ChunkBytes <= 0 {
		o.ChunkBytes = DefaultChunkBytes
	}
	if o.MaxElementBytes <= 0 {
		o.MaxElementBytes = DefaultMaxElementBytes
	}
	r := &Reader{in: input{br: br}, opts: o, pinned: none}
	for i := range r.arenas {
		r.arenas[i].block = max(step, 2*o.ChunkBytes)
	}
	return r
}

// BytesRead returns how many bytes of the RDB have been read, exactly.
func (r *Reader) BytesRead() int64 { return r.in.offset() }

// Next returns the next aux field, function library, or part of a value. The
// Entry is valid until the next call.
//
// The error is io.EOF when the RDB has ended and its checksum is right (or
// absent: the server has rdbchecksum off). Until then nothing is proved: a
// *CorruptError may still take everything back. An RDB that breaks off wraps
// io.ErrUnexpectedEOF, and an error of the connection is wrapped as it is.
// Every error is final.
func (r *Reader) Next() (*Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	err := r.next()
	if err == nil {
		return &r.entry, nil
	}
	r.in.release()
	if errors.Is(err, errEnd) {
		r.err = io.EOF
		return nil, io.EOF
	}
	return nil, r.fail(err)
}

func (r *Reader) next() error {
	e := &r.entry
	r.recycle()
	if r.value != nil {
		e.Index++
		return r.part()
	}
	e.Key, e.ExpireAt, e.Index, r.inKey = e.Key[:0], schema.OptInt64{}, 0, false
	if r.version == 0 {
		if err := r.header(); err != nil {
			return err
		}
	}
	for {
		op, err := r.in.byte()
		if err != nil {
			return err
		}
		if t := r.typeOf(op); t != nil {
			return r.startValue(t)
		}
		if found, err := r.opcode(op); found || err != nil {
			return err
		}
	}
}

// recycle makes room for the next part. A blob that is not used up keeps the
// arena it lies in.
func (r *Reader) recycle() {
	v := &r.entry.Value
	v.Data, v.Meta = nil, nil
	v.Elements, v.Hash, v.ZSet, v.Stream = v.Elements[:0], v.Hash[:0], v.ZSet[:0], v.Stream[:0]
	r.payload = 0
	if r.pinned == r.current {
		r.current ^= 1
	}
	r.arena().reset()
}

func (r *Reader) arena() *arena { return &r.arenas[r.current] }

// startValue reads a key and the first part of its value.
func (r *Reader) startValue(t *valueType) error {
	key, err := r.string("key")
	if err != nil {
		return err
	}
	e := &r.entry
	// Copied, because it outlives the first part.
	e.Key = append(e.Key[:0], key...)
	r.inKey = true
	e.Kind, e.Type, e.Value.Kind = Value, t.name, t.kind
	e.Name, e.Text = nil, nil
	if r.value, err = t.start(r); err != nil {
		return err
	}
	if r.value == nil {
		e.Last = true
		return nil
	}
	return r.part()
}

func (r *Reader) part() error {
	done, err := r.value.next(r)
	if done {
		r.value = nil
	}
	r.entry.Last = done
	return err
}

// full says whether the current part should be handed out.
func (r *Reader) full() bool { return r.payload >= r.opts.ChunkBytes }
