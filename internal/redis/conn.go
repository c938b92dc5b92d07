package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ConnError is trouble with a connection: refused, cut, timed out.
type ConnError struct {
	Addr string
	Op   string
	Err  error
}

func (e *ConnError) Error() string { return fmt.Sprintf("redis at %s: %s: %v", e.Addr, e.Op, e.Err) }

// Unwrap returns the cause.
func (e *ConnError) Unwrap() error { return e.Err }

// Retryable tells whether a new connection may help: the old one was cut, or
// the server is not ready.
func Retryable(err error) bool {
	var conn *ConnError
	if errors.As(err, &conn) {
		return true
	}
	var server *ServerError
	return errors.As(err, &server) && notReady[server.Code]
}

// notReady are the replies of a server that will answer otherwise soon.
var notReady = map[string]bool{"LOADING": true, "BUSY": true, "MASTERDOWN": true, "NOMASTERLINK": true, "TRYAGAIN": true}

// Conn is one connection, RESP2. Commands are written into a buffer and sent
// by Flush; replies are read in order by Receive. It never reconnects and
// never repeats anything: after the first error of either it only returns
// that. It is for one goroutine; only Close, Silence and GiveUp may come from
// another.
type Conn struct {
	addr  string
	raw   *timed
	large net.Buffers // what goes out before out
	out   []byte
	in    *bufio.Reader
	rr    replyReader
	err   error // the first one
}

const readBuffer = 64 << 10

func newConn(raw net.Conn, addr string) *Conn {
	t := &timed{Conn: raw}
	in := bufio.NewReaderSize(t, readBuffer)
	return &Conn{addr: addr, raw: t, in: in, rr: replyReader{in: in}}
}

// timed tells since when a connection waits for bytes to come, or to go.
type timed struct {
	net.Conn
	since atomic.Int64 // ns behind epoch; 0: it does not wait
}

// epoch is what times are counted from: a clock that is set does not matter.
var epoch = time.Now()

func (t *timed) Read(b []byte) (int, error) {
	t.since.Store(int64(time.Since(epoch)))
	defer t.since.Store(0)
	return t.Conn.Read(b)
}

// writePiece is what counts as bytes that go: a large batch is under way for long.
const writePiece = 256 << 10

func (t *timed) Write(b []byte) (n int, err error) {
	defer t.since.Store(0)
	for more := true; more && err == nil; more = n < len(b) {
		t.since.Store(int64(time.Since(epoch)))
		var some int
		some, err = t.Conn.Write(b[n:min(n+writePiece, len(b))])
		n += some
	}
	return n, err
}

// Silence is for how long the server has neither sent nor taken a byte that is
// waited for; 0 when none is. Any goroutine may ask.
func (c *Conn) Silence() time.Duration {
	since := c.raw.since.Load()
	if since == 0 {
		return 0
	}
	return time.Since(epoch) - time.Duration(since)
}

// GiveUp ends what waits, and all that comes, with ErrNoAnswer. It may come
// from any goroutine.
func (c *Conn) GiveUp() { _ = c.raw.SetDeadline(time.Unix(1, 0)) }

// ErrNoAnswer tells that a connection was given up since nothing came.
var ErrNoAnswer = errors.New("no answer in time")

// Addr is the address that was dialled.
func (c *Conn) Addr() string { return c.addr }

// Reader is what the connection reads from, for protocols that go on after
// RESP replies (replication). Nothing is read ahead besides its buffer.
func (c *Conn) Reader() *bufio.Reader { return c.in }

// SetReadDeadline bounds the reads to come; the zero time means never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// Raw adds bytes in RESP to what the next Flush sends. They belong to the
// connection until then: many are sent from where they are.
func (c *Conn) Raw(b []byte) {
	if len(b) < keptBuffer {
		c.out = append(c.out, b...)
		return
	}
	c.large = append(c.large, c.out, b)
	c.out = nil
}

// Command adds a command to what the next Flush sends.
func (c *Conn) Command(args ...string) {
	c.out = append(c.out, '*')
	c.out = strconv.AppendInt(c.out, int64(len(args)), 10)
	for _, a := range args {
		c.out = append(c.out, "\r\n$"...)
		c.out = strconv.AppendInt(c.out, int64(len(a)), 10)
		c.out = append(c.out, "\r\n"...)
		c.out = append(c.out, a...)
	}
	c.out = append(c.out, "\r\n"...)
}

// keptBuffer is how much memory a connection keeps for what comes next.
const keptBuffer = 4 << 20

// Flush sends what was added.
func (c *Conn) Flush(ctx context.Context) error {
	if c.err != nil {
		return c.err
	}
	stop := c.watch(ctx)
	var err error
	if c.large != nil {
		_, err = c.large.WriteTo(c.raw)
		c.large = nil
	}
	if err == nil {
		_, err = c.raw.Write(c.out)
	}
	stop()
	c.out = c.out[:0]
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	return c.failed(ctx, "sending", err)
}

// Receive reads one reply. It is valid until the next Receive. A reply that
// is an error is no error of Receive: see Reply.Err.
func (c *Conn) Receive(ctx context.Context) (Reply, error) {
	if c.err != nil {
		return Reply{}, c.err
	}
	stop := func() {}
	if !c.rr.buffered() {
		stop = c.watch(ctx)
	}
	reply, err := c.rr.read()
	stop()
	return reply, c.failed(ctx, "reading a reply", err)
}

// ReceiveEach reads one reply and hands out the elements of an array, each
// valid for the call only; the reply that it returns has none.
func (c *Conn) ReceiveEach(ctx context.Context, visit func(i int, elem *Reply)) (Reply, error) {
	if c.err != nil {
		return Reply{}, c.err
	}
	stop := c.watch(ctx)
	reply, err := c.rr.readEach(visit)
	stop()
	return reply, c.failed(ctx, "reading a reply", err)
}

// Do sends one command and reads its reply.
func (c *Conn) Do(ctx context.Context, args ...string) (Reply, error) {
	c.Command(args...)
	if err := c.Flush(ctx); err != nil {
		return Reply{}, err
	}
	return c.Receive(ctx)
}

// watch makes a done ctx end what blocks on the connection. A ctx that is
// never done costs nothing. One that is done when nothing blocks any more
// leaves no deadline behind: the next call may come with another ctx.
func (c *Conn) watch(ctx context.Context) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	interrupted := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		_ = c.raw.SetDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	return func() {
		if !unwatch() {
			<-interrupted
			_ = c.raw.SetDeadline(time.Time{})
		}
	}
}

// failed remembers the first error.
func (c *Conn) failed(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = ErrNoAnswer
	}
	c.err = &ConnError{c.addr, op, err}
	return c.err
}

// Close ends the connection.
func (c *Conn) Close() error { return c.raw.Close() }

// Info asks for sections of INFO and returns their fields.
func Info(ctx context.Context, c *Conn, sections ...string) (map[string]string, error) {
	fields := map[string]string{}
	for _, s := range sections {
		reply, err := c.Do(ctx, "INFO", s)
		if err == nil {
			err = reply.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("asking for INFO %s: %w", s, err)
		}
		maps.Copy(fields, ParseInfo(string(reply.Str)))
	}
	return fields, nil
}

// ParseInfo returns the fields of what INFO answers.
func ParseInfo(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\r"), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// Database is a database that holds keys.
type Database struct {
	Number int
	Keys   int64
}

// Keyspace reads INFO keyspace, "db0:keys=12,expires=0,avg_ttl=0" and its like,
// and returns the databases in order.
func Keyspace(info map[string]string) []Database {
	var dbs []Database
	for name, value := range info {
		number, err := strconv.Atoi(strings.TrimPrefix(name, "db"))
		keys, ok := strings.CutPrefix(value, "keys=")
		if err != nil || !strings.HasPrefix(name, "db") || !ok {
			continue
		}
		keys, _, _ = strings.Cut(keys, ",")
		if n, err := strconv.ParseInt(keys, 10, 64); err == nil {
			dbs = append(dbs, Database{number, n})
		}
	}
	slices.SortFunc(dbs, func(a, b Database) int { return a.Number - b.Number })
	return dbs
}
