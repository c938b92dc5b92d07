// Package stream reads a Redis replication stream: bytes become commands,
// commands become units, and each unit is told apart by its marks: born at
// the site, or applied there by the link's own sink.
//
//	socket ──► Reader ──► Unit ──► Filter ──► what was born here
//
// The stream is RESP: every command an array of bulk strings, wrapped in
// MULTI and EXEC where Redis did several at once. Every byte counts, since
// positions are byte offsets.
package stream

import (
	"bytes"
	"fmt"
	"io"

	"twinlog/offsets"
)

// Command is one command of the stream, in the database it ran in.
type Command struct {
	DB   int32
	Args [][]byte // name first
}

// Unit is what a Redis did at once: one command outside MULTI, or all from
// MULTI to EXEC. A Unit without commands is plumbing (PING, SELECT, GETACK):
// it only moves the offset.
//
// A Unit and its bytes are valid until the next call of Reader.Next.
type Unit struct {
	Commands []Command
	Offset   int64 // of the unit's last byte
	DB       int32 // selected at the unit's end
	Bytes    int64 // length in the stream, of what is kept at least
	GetAck   bool  // the server asks for an acknowledgement now
}

// TooBigError tells that a unit exceeds what may be kept in memory.
type TooBigError struct {
	Offset  int64  // where the unit begins
	Limit   int64  // bytes
	Command string // name of the command that crossed the limit, if known
	Key     string // its first argument, shortened
}

func (e *TooBigError) Error() string {
	return fmt.Sprintf("unit at replication offset %d exceeds max_transaction_bytes (%d) at %s %q: raise limits.max_transaction_bytes and start twinlog again; smaller transactions and scripts never get here",
		e.Offset, e.Limit, e.Command, e.Key)
}

// CorruptError tells that the bytes are not a replication stream.
type CorruptError struct {
	Offset int64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("replication stream at offset %d: %s", e.Offset, e.Reason)
}

const (
	initialBuffer = 256 << 10
	keptBuffer    = 4 << 20 // the memory of a larger unit is not kept for the next
	argsBlock     = 16 << 10
	leastArg      = 6       // "$0\r\n\r\n"
	maxLine       = 64      // "*<n>\r\n" and "$<n>\r\n"
	maxArgs       = 1 << 20 // Redis: 1,048,576 arguments a command
	maxShownKey   = 64
)

// Reader splits a replication stream into units. It is not safe for
// concurrent use.
type Reader struct {
	src    io.Reader
	limit  int64
	mark   string // a unit that begins with it was applied, and has a limit of its own
	marked int64
	most   int64 // the present unit's limit
	echo   bool  // the present unit was applied
	skims  bool  // keeps only writes of reserved keys
	buf    []byte
	pos    int   // next byte to parse
	end    int   // bytes read so far
	offset int64 // replication offset of buf[pos]'s predecessor
	db     int32

	unit  Unit
	args  [][]byte // arguments of the unit, one after another; full blocks belong to its commands alone
	start int64    // offset before the unit
}

// NewReader returns a Reader of what follows replication offset in src, with
// database db selected. A unit above limit bytes is a *TooBigError.
func NewReader(src io.Reader, offset int64, db int32, limit int64) *Reader {
	return &Reader{src: src, limit: limit, buf: make([]byte, initialBuffer), offset: offset, db: db}
}

// Applied tells of which mark the link's own sink writes first. A command of such
// a unit has a limit of its own, since what the sink adds to the peer's must not
// stop this source; and of the unit nothing is kept but marks and what the site
// deleted by itself, so that it may be of any size.
func (r *Reader) Applied(markKey string, limit int64) { r.mark, r.marked = markKey, limit }

// Skim has units keep nothing but the SETs of reserved keys, so that what is only
// passed may be of any size.
func (r *Reader) Skim(on bool) { r.skims = on }

// SelectDB corrects the selected database, for a reader that began at a
// place where it was not known.
func (r *Reader) SelectDB(db int32) { r.db = db }

// Next returns the next unit. It blocks until one is complete. Errors of the
// source are returned as they are; the unit they cut is never handed out.
func (r *Reader) Next() (*Unit, error) {
	r.begin()
	inMulti := false
	for {
		args, err := r.command()
		if err != nil {
			return nil, err
		}
		if len(args) == 0 {
			return nil, &CorruptError{r.offset, "a command without a name"}
		}
		switch name := args[0]; {
		case isWord(name, "SELECT"):
			if r.db, err = r.parseDB(args); err != nil {
				return nil, err
			}
		case isWord(name, "MULTI"):
			if inMulti {
				return nil, &CorruptError{r.offset, "MULTI inside MULTI"}
			}
			inMulti = true
			continue
		case isWord(name, "EXEC"):
			if !inMulti {
				return nil, &CorruptError{r.offset, "EXEC without MULTI"}
			}
			return r.finish(), nil
		case isWord(name, "PING"):
		case isWord(name, "REPLCONF"):
			r.unit.GetAck = len(args) > 1 && isWord(args[1], "GETACK")
		default:
			marks := len(args) > 1 && isWord(name, "SET") && offsets.IsReserved(args[1])
			if !marks && (r.skims || r.echo && !deletedByItself(args)) {
				r.args, r.start = r.args[:len(r.args)-len(args)], r.offset
				break
			}
			r.unit.Commands = append(r.unit.Commands, Command{DB: r.db, Args: args})
			if marks && len(r.unit.Commands) == 1 && string(args[1]) == r.mark {
				r.echo, r.most = true, max(r.limit, r.marked)
			}
		}
		if !inMulti {
			return r.finish(), nil
		}
	}
}

func (r *Reader) begin() {
	large := r.offset-r.start > keptBuffer // the last unit
	r.start, r.most, r.echo = r.offset, r.limit, false
	if large { // nothing keeps its bytes alive
		clear(r.unit.Commands[:cap(r.unit.Commands)])
		clear(r.args[:cap(r.args)])
	}
	commands := r.unit.Commands[:0]
	if cap(commands) > argsBlock {
		commands = nil
	}
	r.unit = Unit{Commands: commands}
	if r.args = r.args[:0]; cap(r.args) > argsBlock {
		r.args = nil
	}
	// What the last unit handed out is void now: move the rest to the front.
	if len(r.buf) > keptBuffer && r.end-r.pos <= initialBuffer {
		r.grow(initialBuffer)
	}
	if r.pos == r.end {
		r.pos, r.end = 0, 0
	} else if r.pos > len(r.buf)/2 {
		r.end = copy(r.buf, r.buf[r.pos:r.end])
		r.pos = 0
	}
}

// Release gives back what the last unit takes, before the next one is asked
// for.
func (r *Reader) Release() { r.begin() }

func (r *Reader) finish() *Unit {
	r.unit.Offset = r.offset
	r.unit.DB = r.db
	r.unit.Bytes = r.offset - r.start
	return &r.unit
}

// command parses one array of bulk strings.
func (r *Reader) command() ([][]byte, error) {
	n, err := r.header('*', maxArgs)
	if err != nil {
		return nil, err
	}
	if want := min(n, r.most/leastArg); int64(cap(r.args)-len(r.args)) < want { // what is there stays where it is
		r.args = make([][]byte, 0, max(want, min(int64(2*cap(r.args)), argsBlock)))
	}
	from := len(r.args)
	for range n {
		size, err := r.header('$', 1<<40)
		if err != nil {
			return nil, err
		}
		if size+r.offset-r.start > r.most {
			return nil, r.tooBig(r.args[from:])
		}
		if err := r.fill(int(size) + 2); err != nil {
			return nil, err
		}
		data := r.buf[r.pos : r.pos+int(size) : r.pos+int(size)]
		if r.buf[r.pos+int(size)] != '\r' || r.buf[r.pos+int(size)+1] != '\n' {
			return nil, &CorruptError{r.offset, "an argument does not end with CRLF"}
		}
		r.advance(int(size) + 2)
		r.args = append(r.args, data)
	}
	return r.args[from:len(r.args):len(r.args)], nil
}

// header parses "<kind><number>\r\n".
func (r *Reader) header(kind byte, most int64) (int64, error) {
	if r.offset-r.start > r.most {
		return 0, r.tooBig(nil)
	}
	for scanned := 0; ; {
		line := r.buf[r.pos:r.end]
		if i := bytes.IndexByte(line[scanned:], '\n'); i >= 0 {
			return r.number(kind, line[:scanned+i+1], most)
		}
		scanned = len(line)
		if scanned > maxLine {
			return 0, &CorruptError{r.offset, fmt.Sprintf("no line end within %d bytes of %q", maxLine, line[:16])}
		}
		if err := r.fill(scanned + 1); err != nil {
			return 0, err
		}
	}
}

func (r *Reader) number(kind byte, line []byte, most int64) (int64, error) {
	digits := line[1:]
	if line[0] != kind || len(digits) < 3 || digits[len(digits)-2] != '\r' {
		return 0, &CorruptError{r.offset, fmt.Sprintf("want %q and a number, got %q", kind, line[:min(len(line), 16)])}
	}
	n := int64(0)
	for _, d := range digits[:len(digits)-2] {
		if d < '0' || d > '9' || n > most {
			return 0, &CorruptError{r.offset, fmt.Sprintf("bad length %q", line)}
		}
		n = n*10 + int64(d-'0')
	}
	if n > most {
		return 0, &CorruptError{r.offset, fmt.Sprintf("length %d is above %d", n, most)}
	}
	r.advance(len(line))
	return n, nil
}

func (r *Reader) advance(n int) {
	r.pos += n
	r.offset += int64(n)
}

// fill reads until n unparsed bytes are there. What was handed out of an
// outgrown buffer stays valid: its memory is left to the garbage collector.
func (r *Reader) fill(n int) error {
	for r.end-r.pos < n {
		if r.pos+n > len(r.buf) {
			r.grow(n + initialBuffer)
		}
		got, err := r.src.Read(r.buf[r.end:])
		r.end += got
		if err != nil && r.end-r.pos < n {
			if err == io.EOF && (r.end > r.pos || r.offset > r.start) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// grow begins another buffer with what is not parsed yet.
func (r *Reader) grow(n int) {
	grown := make([]byte, n)
	r.end = copy(grown, r.buf[r.pos:r.end])
	r.buf, r.pos = grown, 0
}

func (r *Reader) parseDB(args [][]byte) (int32, error) {
	if len(args) == 2 && len(args[1]) > 0 && len(args[1]) < 9 {
		n := int32(0)
		for _, d := range args[1] {
			if d < '0' || d > '9' {
				n = -1
				break
			}
			n = n*10 + int32(d-'0')
		}
		if n >= 0 {
			return n, nil
		}
	}
	return 0, &CorruptError{r.offset, "SELECT without a database number"}
}

func (r *Reader) tooBig(args [][]byte) error {
	e := &TooBigError{Offset: r.start, Limit: r.most}
	if len(args) == 0 && len(r.unit.Commands) > 0 {
		args = r.unit.Commands[len(r.unit.Commands)-1].Args
	}
	if len(args) > 0 {
		e.Command = string(args[0])
	}
	if len(args) > 1 {
		e.Key = string(args[1][:min(len(args[1]), maxShownKey)])
	}
	return e
}

// isWord compares a name with an upper-case word, in any case of letters.
func isWord(name []byte, word string) bool {
	if len(name) != len(word) {
		return false
	}
	for i := range name {
		c := name[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}
