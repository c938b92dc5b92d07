package testkit

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// replica is a replication link that only listens. It knows as much of the
// protocol as that needs and shares no code with the program's own.
type replica struct {
	conn   net.Conn
	r      *bufio.Reader
	replid string
	offset int64 // of the last byte read
	db     int32 // selected there
	acked  time.Time
}

// rawUnit is one unit of a stream with everything in it.
type rawUnit struct {
	offset   int64 // of its last byte
	commands []rawCommand
}

type rawCommand struct {
	db   int32
	args [][]byte
}

// openReplica joins a Redis at the place where an earlier link ended, or
// anew if replid is empty: then it reads and drops the snapshot. A Redis that
// does not continue is an error.
func openReplica(ctx context.Context, addr, replid string, offset int64, db int32) (*replica, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dialing %s: %w", addr, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	l := &replica{conn: conn, r: bufio.NewReaderSize(conn, 1<<20), replid: replid, offset: offset, db: db}
	err = l.join()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("joining %s as a replica: %w", addr, err)
	}
	return l, nil
}

func (l *replica) join() error {
	if err := l.send("REPLCONF", "capa", "psync2"); err != nil {
		return err
	}
	if line, err := l.line(); err != nil {
		return err
	} else if line != "+OK" {
		return fmt.Errorf("answer to REPLCONF: %q", line)
	}
	fresh := l.replid == ""
	if fresh {
		l.replid, l.offset = "?", -2 // PSYNC ? -1
	}
	if err := l.send("PSYNC", l.replid, strconv.FormatInt(l.offset+1, 10)); err != nil {
		return err
	}
	line, err := l.line()
	if err != nil {
		return fmt.Errorf("reading the answer to PSYNC: %w", err)
	}
	words := strings.Fields(line)
	switch {
	case len(words) > 0 && words[0] == "+CONTINUE":
		if len(words) > 1 {
			l.replid = words[1]
		}
		return nil
	case len(words) == 3 && words[0] == "+FULLRESYNC" && fresh:
		l.replid, l.db = words[1], 0
		if l.offset, err = strconv.ParseInt(words[2], 10, 64); err != nil {
			return fmt.Errorf("answer to PSYNC: %q", line)
		}
		return l.skipSnapshot()
	}
	return fmt.Errorf("answer to PSYNC %s %d: %q", l.replid, l.offset+1, line)
}

func (l *replica) skipSnapshot() error {
	line, err := l.line()
	if err != nil {
		return fmt.Errorf("reading the snapshot's header: %w", err)
	}
	size, err := strconv.ParseInt(strings.TrimPrefix(line, "$"), 10, 64)
	if err != nil {
		return fmt.Errorf("snapshot's header %q", line)
	}
	if _, err := io.CopyN(io.Discard, l.r, size); err != nil {
		return fmt.Errorf("reading the snapshot: %w", err)
	}
	return nil
}

// next returns the next unit; one without commands is plumbing.
func (l *replica) next() (rawUnit, error) {
	var u rawUnit
	offset, db, inMulti := l.offset, l.db, false
	for {
		args, size, err := l.command()
		if err != nil {
			return rawUnit{}, err
		}
		offset += size
		switch name := strings.ToUpper(string(args[0])); name {
		case "SELECT":
			n, err := strconv.ParseInt(string(args[1]), 10, 32)
			if err != nil {
				return rawUnit{}, fmt.Errorf("SELECT %q in the stream", args[1])
			}
			db = int32(n)
		case "MULTI":
			inMulti = true
		case "EXEC":
			inMulti = false
		case "PING", "REPLCONF":
		default:
			u.commands = append(u.commands, rawCommand{db, args})
		}
		if inMulti {
			continue
		}
		l.offset, l.db = offset, db
		if err := l.keepAlive(); err != nil {
			return rawUnit{}, err
		}
		u.offset = offset
		return u, nil
	}
}

// command reads one array of bulk strings and its length in the stream.
func (l *replica) command() (args [][]byte, size int64, err error) {
	n, size, err := l.number('*')
	if err != nil {
		return nil, 0, err
	}
	if n < 1 {
		return nil, 0, fmt.Errorf("a command of %d words in the stream", n)
	}
	for range n {
		length, header, err := l.number('$')
		if err != nil {
			return nil, 0, err
		}
		arg := make([]byte, length+2)
		if _, err := io.ReadFull(l.r, arg); err != nil {
			return nil, 0, fmt.Errorf("reading an argument: %w", err)
		}
		args = append(args, arg[:length])
		size += header + int64(len(arg))
	}
	return args, size, nil
}

func (l *replica) number(kind byte) (n, size int64, err error) {
	line, err := l.r.ReadBytes('\n')
	if err != nil {
		return 0, 0, fmt.Errorf("reading the stream: %w", err)
	}
	n, err = strconv.ParseInt(string(bytes.TrimSpace(line[1:])), 10, 64)
	if err != nil || line[0] != kind || n < 0 || n > 1<<30 {
		return 0, 0, fmt.Errorf("want %q and a length, got %q", kind, line)
	}
	return n, int64(len(line)), nil
}

// keepAlive acknowledges nothing, once a second while something arrives
// (PING does): the Redis keeps the link, WAIT does not count it.
func (l *replica) keepAlive() error {
	if time.Since(l.acked) < time.Second {
		return nil
	}
	l.acked = time.Now()
	return l.send("REPLCONF", "ACK", "0")
}

func (l *replica) send(args ...string) error {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := l.conn.Write(b); err != nil {
		return fmt.Errorf("sending %s: %w", args[0], err)
	}
	return nil
}

// line reads an answer; Redis sends empty lines while it prepares one.
func (l *replica) line() (string, error) {
	for {
		line, err := l.r.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("reading an answer: %w", err)
		}
		if line = strings.TrimSpace(line); line != "" {
			return line, nil
		}
	}
}

// masterOffset asks a Redis how long its replication stream is.
func masterOffset(ctx context.Context, addr string) (int64, error) {
	client := newClient(addr)
	defer client.Close()
	info, err := client.Info(ctx, "replication").Result()
	if err != nil {
		return 0, fmt.Errorf("asking %s for its replication offset: %w", addr, err)
	}
	_, after, _ := strings.Cut(info, "master_repl_offset:")
	text, _, _ := strings.Cut(after, "\r")
	offset, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("INFO of %s has no master_repl_offset: %w", addr, err)
	}
	return offset, nil
}
