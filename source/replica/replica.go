// Package replica joins a Redis as a replica that only listens (PSYNC):
//
//	Connect ─► Psync ─► +FULLRESYNC: RDB (a Transfer), then the stream
//	                └─► +CONTINUE: the stream
//
// Every byte behind the answer to PSYNC is handed out exactly as it came,
// since positions are byte offsets. What is acknowledged is for the caller to
// say (Ack); a Conn repeats it every second, as a Redis expects.
package replica

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"twinlog/internal/redis"
)

const (
	// readTimeout is how long a living link may be silent: Redis sends PING
	// every 10 s (repl-ping-replica-period), and gives a replica that is
	// silent for repl-timeout (60 s) up as well.
	readTimeout = 60 * time.Second

	// introduceTimeout is how long a server may take to answer the first words.
	introduceTimeout = 30 * time.Second

	// ackPeriod is how often the position is acknowledged.
	ackPeriod = time.Second

	// urgePeriod is how often it is right behind a snapshot: the stream begins
	// with the first acknowledgement that comes when the server has noticed
	// the end of its own transfer.
	urgePeriod = 20 * time.Millisecond

	// readBuffer holds what is read ahead.
	readBuffer = 64 << 10

	// announcedVersion tells a Valkey which RDB it may send: the newest that
	// package rdb reads. Without it a Valkey 9 cannot send expiries of fields.
	announcedVersion = "9.0.0"
)

// Options says what to join.
type Options struct {
	Redis redis.Config
	Log   *slog.Logger
}

// Conn is one replication link. One goroutine reads; Ack, AckNow and Close
// may come from any.
type Conn struct {
	redis *redis.Conn
	br    *bufio.Reader
	log   *slog.Logger

	acked    atomic.Int64
	urging   atomic.Bool   // until the first byte of the stream
	urge     chan struct{} // wakes the acknowledging
	writing  sync.Mutex    // of acknowledgements
	flush    func() error
	attach   func() // closes attached
	attached chan struct{}
	unwatch  func() bool
	quit     chan struct{}
	acking   sync.WaitGroup
	closeAll func() error
}

// Connect dials, authenticates and says what this replica understands. The
// link ends when ctx is done, or at Close.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	raw, err := redis.Dial(ctx, o.Redis)
	if err != nil {
		return nil, err
	}
	c := &Conn{redis: raw, log: o.Log, urge: make(chan struct{}, 1), attached: make(chan struct{}), quit: make(chan struct{})}
	c.br = bufio.NewReaderSize(patient{raw}, readBuffer)
	unending := context.WithoutCancel(ctx) // Close ends what blocks
	c.flush = func() error { return raw.Flush(unending) }
	c.attach = sync.OnceFunc(func() { close(c.attached) })
	c.closeAll = sync.OnceValue(c.end)
	c.unwatch = context.AfterFunc(ctx, func() { raw.Close() })
	if err := c.introduce(ctx); err != nil {
		c.Close()
		return nil, err
	}
	c.acking.Go(c.ackLoop)
	return c, nil
}

// introduce sends each option by itself, since a server refuses a whole
// REPLCONF for one option that it does not know.
func (c *Conn) introduce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, introduceTimeout)
	defer cancel()
	for _, option := range [][2]string{{"listening-port", "0"}, {"capa", "eof"}, {"capa", "psync2"}, {"version", announcedVersion}} {
		reply, err := c.redis.Do(ctx, "REPLCONF", option[0], option[1])
		if err != nil {
			return fmt.Errorf("sending REPLCONF %s: %w", option[0], err)
		}
		err = reply.Err()
		var server *redis.ServerError
		switch {
		case err == nil:
		case redis.Retryable(err):
			return fmt.Errorf("sending REPLCONF %s: %w", option[0], err)
		case errors.As(err, &server) && (server.Code == "NOPERM" || server.Code == "NOAUTH"):
			return &DeniedError{Addr: c.redis.Addr(), Command: "REPLCONF", Err: err}
		case errors.As(err, &server) && server.Code == "DENIED": // protected mode, which its text explains
			return fmt.Errorf("redis at %s: %w", c.redis.Addr(), err)
		default:
			c.log.Debug("the server does not know an option of replicas", "addr", c.redis.Addr(), "option", option[0], "answer", err)
		}
	}
	return nil
}

// Sync is the answer to PSYNC.
type Sync struct {
	Full   bool   // an RDB follows; see Conn.RDB
	Replid string // of what follows
	Offset int64  // of the last byte before what follows (of the stream, if Full)
}

// Psync asks for the stream from offset on, or with "?" and -1 for a full
// synchronisation. From then on the link acknowledges every second.
func (c *Conn) Psync(ctx context.Context, replid string, offset int64) (Sync, error) {
	defer context.AfterFunc(ctx, func() { c.redis.Close() })()
	c.redis.Command("PSYNC", replid, strconv.FormatInt(offset, 10))
	if err := c.redis.Flush(ctx); err != nil {
		return Sync{}, fmt.Errorf("sending PSYNC: %w", err)
	}
	line, err := c.line()
	if err != nil {
		return Sync{}, fmt.Errorf("reading the answer to PSYNC: %w", err)
	}
	sync, err := parseSync(line, replid, offset)
	if err != nil {
		return Sync{}, c.explain(err)
	}
	c.attach()
	return sync, nil
}

// Read reads the replication stream.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.br.Read(p)
	if n > 0 && c.urging.Load() {
		c.urging.Store(false)
	}
	return n, err
}

// maxLine bounds an answer: the longest are error texts.
const maxLine = 4096

// line reads one line, without its end. Redis sends empty lines to keep the
// link alive while it prepares an answer.
func (c *Conn) line() (string, error) {
	for {
		var line []byte
		for {
			b, err := c.br.ReadByte()
			if err != nil {
				return "", err
			}
			if b == '\n' {
				break
			}
			if line = append(line, b); len(line) > maxLine {
				return "", fmt.Errorf("redis at %s: a line of more than %d bytes is no answer: %q…", c.redis.Addr(), maxLine, line[:64])
			}
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(line) > 0 {
			return string(line), nil
		}
	}
}

// explain adds to a refusal what to do about it.
func (c *Conn) explain(err error) error {
	var server *redis.ServerError
	if errors.As(err, &server) && (server.Code == "NOPERM" || server.Code == "NOAUTH") {
		return &DeniedError{Addr: c.redis.Addr(), Command: "PSYNC", Err: err}
	}
	return fmt.Errorf("redis at %s answers PSYNC: %w", c.redis.Addr(), err)
}

// Ack sets the offset that is acknowledged from now on.
func (c *Conn) Ack(offset int64) { c.acked.Store(offset) }

// AckNow sends an acknowledgement at once.
func (c *Conn) AckNow() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.redis.Command("REPLCONF", "ACK", strconv.FormatInt(c.acked.Load(), 10))
	return c.flush()
}

func (c *Conn) ackLoop() {
	select {
	case <-c.quit:
		return
	case <-c.attached:
	}
	timer := time.NewTimer(ackPeriod)
	defer timer.Stop()
	for {
		if err := c.AckNow(); err != nil {
			return // the reader of this link meets the same end
		}
		if c.urging.Load() {
			timer.Reset(urgePeriod)
		} else {
			timer.Reset(ackPeriod)
		}
		select {
		case <-c.quit:
			return
		case <-c.urge:
		case <-timer.C:
		}
	}
}

// Close ends the link and waits for its goroutine.
func (c *Conn) Close() error { return c.closeAll() }

func (c *Conn) end() error {
	c.unwatch()
	close(c.quit)
	err := c.redis.Close()
	c.acking.Wait()
	return err
}

// patient reads from a link and takes long silence for its end.
type patient struct{ conn *redis.Conn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
		return 0, &redis.ConnError{Addr: p.conn.Addr(), Op: "reading the replication link", Err: err}
	}
	n, err := p.conn.Reader().Read(b)
	if err == nil {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, &redis.ConnError{Addr: p.conn.Addr(), Op: "reading the replication link", Err: err}
}
