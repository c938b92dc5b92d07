package rdb

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// CorruptError says that the bytes are not an RDB that a server could have
// written. Nothing read from this RDB may be trusted as a whole: take a new
// snapshot.
type CorruptError struct {
	Offset int64  // bytes read when it was noticed
	DB     int32  // database in which it was noticed
	Key    []byte // nil: not inside a key
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt RDB at %s: %s; take a new snapshot, and if it happens again check the server's memory, disk and dump (redis-check-rdb)",
		place(e.Offset, e.DB, e.Key), e.Reason)
}

// UnsupportedError says that the RDB holds something this reader does not
// know: a newer version, a module value of before Redis 4.0.
type UnsupportedError struct {
	Offset int64
	DB     int32
	Key    []byte // nil: not inside a key
	Reason string // what was met, and what is supported
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("unsupported RDB at %s: %s", place(e.Offset, e.DB, e.Key), e.Reason)
}

// LimitError says that one element is larger than Options.MaxElementBytes.
type LimitError struct {
	Offset int64
	DB     int32
	Key    []byte // nil: not inside a key
	What   string // the kind of element
	Size   uint64 // bytes
	Limit  int64  // Options.MaxElementBytes
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("RDB at %s: %s of %d bytes is above MaxElementBytes (%d): raise the limit, or make the element smaller at the server",
		place(e.Offset, e.DB, e.Key), e.What, e.Size, e.Limit)
}

// place names a position in words; long keys are cut.
func place(offset int64, db int32, key []byte) string {
	const most = 128
	var b strings.Builder
	fmt.Fprintf(&b, "byte %d", offset)
	switch {
	case key == nil:
	case len(key) > most:
		fmt.Fprintf(&b, " (db %d, key %q… of %d bytes)", db, key[:most], len(key))
	default:
		fmt.Fprintf(&b, " (db %d, key %q)", db, key)
	}
	return b.String()
}

// corrupt and unsupported leave the place for Reader.fail to fill in.
func corrupt(format string, args ...any) error {
	return &CorruptError{Reason: fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return &UnsupportedError{Reason: fmt.Sprintf(format, args...)}
}

// fail completes err with the place where it happened and makes it stick.
func (r *Reader) fail(err error) error {
	offset, db := r.in.offset(), r.entry.DB
	var key []byte
	if r.inKey {
		key = append([]byte{}, r.entry.Key...)
	}
	var (
		wrong   *CorruptError
		unknown *UnsupportedError
		large   *LimitError
	)
	switch {
	case errors.As(err, &wrong):
		wrong.Offset, wrong.DB, wrong.Key = offset, db, key
	case errors.As(err, &unknown):
		unknown.Offset, unknown.DB, unknown.Key = offset, db, key
	case errors.As(err, &large):
		large.Offset, large.DB, large.Key = offset, db, key
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("reading RDB at %s: it ends early, take a new snapshot: %w", place(offset, db, key), io.ErrUnexpectedEOF)
	default:
		err = fmt.Errorf("reading RDB at %s: %w", place(offset, db, key), err)
	}
	r.err = err
	return err
}
