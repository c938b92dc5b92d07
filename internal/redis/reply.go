package redis

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Reply is one RESP2 reply.
type Reply struct {
	Kind  byte // '+', '-', ':', '$' or '*'
	Int   int64
	Str   []byte // of '+', '-' and '$'
	Null  bool   // a null bulk string or array
	Elems []Reply
}

// ServerError is an error reply.
type ServerError struct {
	Code string // the first word: WRONGTYPE, OOM, ERR, …
	Text string // all of it
}

func (e *ServerError) Error() string { return e.Text }

// Err returns the reply as a *ServerError if it is one, nil otherwise.
func (r *Reply) Err() error {
	if r.Kind != '-' {
		return nil
	}
	text := string(r.Str)
	code, _, _ := strings.Cut(text, " ")
	return &ServerError{Code: code, Text: text}
}

// Limits of a reply: what a Redis sends stays far below, so that bytes that
// are no reply end in an error and not in memory.
const (
	maxReplyLine  = 64 << 10
	maxReplyBulk  = 1 << 30
	maxReplyElems = 1 << 24
	maxReplyDepth = 8
	growStep      = 1 << 20
)

// replyReader reads replies and reuses their memory.
type replyReader struct {
	in   *bufio.Reader
	text []byte
}

func (r *replyReader) read() (Reply, error) {
	r.reuse()
	return r.value(0)
}

// readEach reads a reply and hands out the elements of an array one by one.
func (r *replyReader) readEach(visit func(i int, elem *Reply)) (Reply, error) {
	b, err := r.in.Peek(1)
	if err != nil {
		return Reply{}, err
	}
	if b[0] != '*' {
		return r.read()
	}
	line, err := r.readLine()
	if err != nil {
		return Reply{}, err
	}
	reply := Reply{Kind: '*'}
	var n int
	if n, reply.Null, err = length(line[1:], maxReplyElems); err != nil {
		return Reply{}, err
	}
	for i := range n {
		r.reuse()
		elem, err := r.value(1)
		if err != nil {
			return Reply{}, err
		}
		visit(i, &elem)
	}
	return reply, nil
}

// reuse makes the memory of what was read free for what comes next.
func (r *replyReader) reuse() {
	r.text = r.text[:0]
	if cap(r.text) > keptBuffer {
		r.text = nil
	}
}

// buffered tells whether the next reply is one line that has arrived, as most
// in a pipeline are: reading it does not block.
func (r *replyReader) buffered() bool {
	b, err := r.in.Peek(r.in.Buffered())
	return err == nil && len(b) > 0 && (b[0] == '+' || b[0] == ':' || b[0] == '-') && bytes.IndexByte(b, '\n') > 0
}

func (r *replyReader) value(depth int) (Reply, error) {
	line, err := r.readLine()
	if err != nil {
		return Reply{}, err
	}
	if len(line) == 0 {
		return Reply{}, errors.New("protocol error: an empty line instead of a reply")
	}
	reply := Reply{Kind: line[0]}
	switch rest := line[1:]; reply.Kind {
	case '+', '-':
		reply.Str = r.keep(rest)
	case ':':
		reply.Int, err = strconv.ParseInt(string(rest), 10, 64)
		if err != nil {
			return Reply{}, fmt.Errorf("protocol error: %q is no integer", clip(rest))
		}
	case '$':
		err = r.bulk(&reply, rest)
	case '*':
		err = r.array(&reply, rest, depth)
	default:
		return Reply{}, fmt.Errorf("protocol error: a reply begins with %q", reply.Kind)
	}
	return reply, err
}

func (r *replyReader) bulk(reply *Reply, size []byte) error {
	n, null, err := length(size, maxReplyBulk)
	if err != nil || null {
		reply.Null = null
		return err
	}
	from := len(r.text)
	for left := n + 2; left > 0; { // memory is taken as bytes arrive
		step := min(left, growStep)
		at := len(r.text)
		r.text = append(r.text, make([]byte, step)...)
		if _, err := io.ReadFull(r.in, r.text[at:]); err != nil {
			return err
		}
		left -= step
	}
	if !bytes.HasSuffix(r.text, []byte("\r\n")) {
		return errors.New("protocol error: a bulk string does not end with CRLF")
	}
	end := from + n
	reply.Str = r.text[from:end:end]
	return nil
}

func (r *replyReader) array(reply *Reply, size []byte, depth int) error {
	n, null, err := length(size, maxReplyElems)
	if err != nil || null {
		reply.Null = null
		return err
	}
	if depth >= maxReplyDepth {
		return errors.New("protocol error: replies nested too deeply")
	}
	reply.Elems = make([]Reply, 0, min(n, 4096))
	for range n {
		e, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		reply.Elems = append(reply.Elems, e)
	}
	return nil
}

// keep copies b to memory that lives as long as the reply. Growing leaves
// what was handed out before in the old memory.
func (r *replyReader) keep(b []byte) []byte {
	from := len(r.text)
	r.text = append(r.text, b...)
	return r.text[from:len(r.text):len(r.text)]
}

func (r *replyReader) readLine() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("protocol error: a line of more than %d bytes", min(maxReplyLine, len(line)))
	}
	if err != nil {
		return nil, err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("protocol error: line %q does not end with CRLF", clip(line))
	}
	return line[:len(line)-2], nil
}

func length(b []byte, most int) (n int, null bool, err error) {
	if string(b) == "-1" {
		return 0, true, nil
	}
	n, err = strconv.Atoi(string(b))
	if err != nil || n < 0 || n > most {
		return 0, false, fmt.Errorf("protocol error: bad length %q", clip(b))
	}
	return n, false, nil
}

func clip(b []byte) []byte { return b[:min(len(b), 64)] }
