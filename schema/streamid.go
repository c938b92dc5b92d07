package schema

import (
	"bytes"
	"fmt"
	"strconv"
)

// Append appends id in its text form.
func (id StreamID) Append(b []byte) []byte {
	b = strconv.AppendUint(b, id.Ms, 10)
	b = append(b, '-')
	return strconv.AppendUint(b, id.Seq, 10)
}

// String is the text form: "ms-seq".
func (id StreamID) String() string { return string(id.Append(nil)) }

// ParseStreamID reads the text form. Both halves are needed.
func ParseStreamID(text []byte) (StreamID, error) {
	ms, seq, ok := bytes.Cut(text, []byte{'-'})
	if !ok {
		return StreamID{}, fmt.Errorf("stream id %q: want ms-seq", clip(text))
	}
	// The conversions stay on the stack: strconv keeps no reference.
	m, err := strconv.ParseUint(string(ms), 10, 64)
	if err != nil {
		return StreamID{}, fmt.Errorf("stream id %q: ms is not an unsigned 64-bit number", clip(text))
	}
	s, err := strconv.ParseUint(string(seq), 10, 64)
	if err != nil {
		return StreamID{}, fmt.Errorf("stream id %q: seq is not an unsigned 64-bit number", clip(text))
	}
	return StreamID{Ms: m, Seq: s}, nil
}

// textLen is the length of the text form.
func (id StreamID) textLen() int { return digits(id.Ms) + 1 + digits(id.Seq) }

func digits(n uint64) int {
	d := 1
	for ; n >= 10; n /= 10 {
		d++
	}
	return d
}

// clip shortens foreign bytes for an error message.
func clip(b []byte) []byte { return b[:min(len(b), 48)] }
