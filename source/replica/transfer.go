package replica

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Transfer is the RDB of a full synchronisation. A Redis announces either its
// length ($<bytes>, from a file) or a random end mark ($EOF:<40 bytes>, sent
// while it is made).
type Transfer struct {
	conn *Conn
	size int64  // -1: until mark
	mark string // sent again behind the RDB
}

const markLength = 40

// RDB waits for the snapshot and returns its transfer. It comes after Psync
// answered Full.
func (c *Conn) RDB() (*Transfer, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	t := &Transfer{conn: c, size: -1}
	mark, isMark := strings.CutPrefix(line, "$EOF:")
	if isMark && len(mark) == markLength {
		t.mark = mark
		return t, nil
	}
	t.size, err = strconv.ParseInt(strings.TrimPrefix(line, "$"), 10, 64)
	if err != nil || line[0] != '$' || t.size < 0 {
		return nil, fmt.Errorf("redis at %s announces a snapshot with %q, which is neither a length nor an end mark", c.redis.Addr(), line[:min(len(line), 128)])
	}
	return t, nil
}

// Reader is where the RDB is read from. What follows it stays there.
func (t *Transfer) Reader() *bufio.Reader { return t.conn.br }

// Size is the length of the RDB, -1 where the server did not say.
func (t *Transfer) Size() int64 { return t.size }

// Finish verifies that an RDB of read bytes is what was announced. The
// replication stream follows.
func (t *Transfer) Finish(read int64) error {
	if t.mark == "" {
		if read != t.size {
			return fmt.Errorf("the RDB ended after %d bytes, %d were announced", read, t.size)
		}
		return nil
	}
	var end [markLength]byte
	if _, err := io.ReadFull(t.conn.br, end[:]); err != nil {
		return fmt.Errorf("reading the end mark: %w", err)
	}
	if string(end[:]) != t.mark {
		return fmt.Errorf("the RDB is followed by %q, not by the end mark", end)
	}
	t.conn.urging.Store(true)
	select {
	case t.conn.urge <- struct{}{}:
	default:
	}
	return nil
}
