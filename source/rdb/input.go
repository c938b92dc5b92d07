package rdb

import (
	"bufio"
	"encoding/binary"
	"io"
)

// input reads from the replication socket through a window: the bytes that
// br has buffered anyway. Taking a byte costs no call, the checksum is fed in
// long spans, and nothing is ever taken that was not asked for.
type input struct {
	br     *bufio.Reader
	window []byte // br's buffered bytes; valid until br is touched
	pos    int    // bytes of window already taken
	base   int64  // stream offset of window[0]
	crc    uint64 // of everything before base

	recording bool
	record    []byte // copy of the bytes taken while recording
}

// offset is the number of bytes taken.
func (in *input) offset() int64 { return in.base + int64(in.pos) }

// release gives the bytes taken back to br for good.
func (in *input) release() {
	if in.pos == 0 {
		return
	}
	taken := in.window[:in.pos]
	in.account(taken)
	in.window, in.pos = in.window[in.pos:], 0
	_, _ = in.br.Discard(len(taken)) // buffered, so it cannot fail
}

func (in *input) account(taken []byte) {
	in.crc = updateCRC(in.crc, taken)
	in.base += int64(len(taken))
	if in.recording {
		in.record = append(in.record, taken...)
	}
}

// need makes the window hold at least n bytes, up to MinBuffer, that were not
// taken yet.
func (in *input) need(n int) error {
	if len(in.window)-in.pos >= n {
		return nil
	}
	in.release()
	in.window = nil
	if _, err := in.br.Peek(n); err != nil {
		return err
	}
	var err error
	in.window, err = in.br.Peek(in.br.Buffered())
	return err
}

// take takes n bytes, up to MinBuffer. They are valid until the next call.
func (in *input) take(n int) ([]byte, error) {
	if err := in.need(n); err != nil {
		return nil, err
	}
	in.pos += n
	return in.window[in.pos-n : in.pos], nil
}

// byte takes one byte.
func (in *input) byte() (byte, error) {
	if in.pos == len(in.window) {
		if err := in.need(1); err != nil {
			return 0, err
		}
	}
	b := in.window[in.pos]
	in.pos++
	return b, nil
}

// read fills dst.
func (in *input) read(dst []byte) error {
	n := copy(dst, in.window[in.pos:])
	in.pos += n
	if n == len(dst) {
		return nil
	}
	in.release()
	in.window = nil
	n2, err := io.ReadFull(in.br, dst[n:])
	in.account(dst[n : n+n2])
	return err
}

// skip takes n bytes and forgets them.
func (in *input) skip(n uint64) error {
	for n > 0 {
		if err := in.need(1); err != nil {
			return err
		}
		k := min(n, uint64(len(in.window)-in.pos))
		in.pos += int(k)
		n -= k
	}
	return nil
}

// fixed takes n ≤ 8 bytes as a little-endian number.
func (in *input) fixed(n int) (uint64, error) {
	var b [8]byte
	taken, err := in.take(n)
	copy(b[:], taken)
	return binary.LittleEndian.Uint64(b[:]), err
}

// startRecording makes copies of the bytes taken from here on.
func (in *input) startRecording(dst []byte) {
	in.release()
	in.recording, in.record = true, dst
}

// stopRecording returns dst of startRecording with the bytes taken since.
func (in *input) stopRecording() []byte {
	in.release()
	out := in.record
	in.recording, in.record = false, nil
	return out
}
