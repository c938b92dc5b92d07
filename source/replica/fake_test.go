package replica

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"twinlog/internal/redis"
)

// fake is a server that answers with a script: REPLCONF with what it has for
// that, PSYNC with the rest, and then it hangs up or, if it is to stay, waits.
type fake struct {
	replconf string
	psync    string
	stays    bool
}

// start returns its address.
func (f fake) start(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		f.serve(conn)
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
	})
	return l.Addr().String()
}

func (f fake) serve(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return
		case line == "REPLCONF\r\n":
			_, _ = io.WriteString(conn, f.replconf)
		case line == "PSYNC\r\n":
			_, _ = io.WriteString(conn, f.psync)
			if f.stays {
				_, _ = io.Copy(io.Discard, r)
			} else {
				_ = conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, r)
			}
			return
		}
	}
}

func connect(ctx context.Context, t *testing.T, config redis.Config) (*Conn, error) {
	t.Helper()
	c, err := Connect(ctx, Options{Redis: config, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAServerThatAnswersOtherwise(t *testing.T) {
	mark := strings.Repeat("m", markLength)
	full := "+FULLRESYNC " + newID + " 10\r\n"
	for _, tt := range []struct {
		name      string
		fake      fake
		read      int64 // bytes of the RDB
		want      string
		retryable bool
	}{
		{"REPLCONF: protected mode", fake{replconf: "-DENIED Redis is running in protected mode\r\n"}, 0, "protected mode", false},
		{"REPLCONF: no right", fake{replconf: "-NOPERM this user has no permissions\r\n"}, 0, "+psync +replconf +ping", false},
		{"REPLCONF: loading", fake{replconf: "-LOADING soon\r\n"}, 0, "LOADING soon", true},
		{"REPLCONF: garbage", fake{replconf: "HTTP/1.1 400\r\n"}, 0, "a reply begins with 'H'", true},
		{"PSYNC: no right", fake{psync: "-NOPERM no\r\n"}, 0, "+psync +replconf +ping", false},
		{"PSYNC: its master is away", fake{psync: "-NOMASTERLINK Can't SYNC\r\n"}, 0, "NOMASTERLINK", true},
		{"PSYNC: no fork", fake{psync: "-ERR BGSAVE failed, replication can't continue\r\n"}, 0, "BGSAVE failed", true},
		{"PSYNC: unknown", fake{psync: "-ERR unknown command\r\n"}, 0, "unknown command", false},
		{"PSYNC: garbage", fake{psync: "\x15\x03\x01\x00\r\n"}, 0, "no answer that a Redis gives", false},
		{"PSYNC: a line without end", fake{psync: strings.Repeat("x", 1<<20)}, 0, "a line of more than 4096 bytes", false},
		{"PSYNC: continues what never began", fake{psync: "+CONTINUE\r\n"}, 0, "no answer that a Redis gives", false},
		{"PSYNC: cut", fake{psync: "\n\n+FULL"}, 0, "unexpected EOF", true},
		{"RDB: cut before it", fake{psync: full}, 0, "unexpected EOF", true},
		{"RDB: garbage", fake{psync: full + "REDIS0011\r\n"}, 0, "neither a length nor an end mark", false},
		{"RDB: a negative length", fake{psync: full + "$-5\r\n"}, 0, "neither a length nor an end mark", false},
		{"RDB: a short end mark", fake{psync: full + "$EOF:abc\r\n"}, 0, "neither a length nor an end mark", false},
		{"RDB: shorter than announced", fake{psync: full + "$20\r\n0123456789"}, 10, "ended after 10 bytes, 20 were announced", false},
		{"RDB: longer than announced", fake{psync: full + "$5\r\n0123456789"}, 10, "ended after 10 bytes, 5 were announced", false},
		{"RDB: cut in the middle", fake{psync: full + "$20\r\n0123"}, 10, "unexpected EOF", true},
		{"RDB: another end mark", fake{psync: full + "$EOF:" + mark + "\r\n0123456789" + strings.Repeat("x", markLength)}, 10, "not by the end mark", false},
		{"RDB: cut before the end mark", fake{psync: full + "$EOF:" + mark + "\r\n0123456789mm"}, 10, "reading the end mark", true},
		{"the stream: cut", fake{psync: full + "\n\n$EOF:" + mark + "\r\n0123456789" + mark}, 10, "unexpected EOF", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.fake.replconf == "" {
				tt.fake.replconf = "+OK\r\n"
			}
			err := joinAndRead(t, tt.fake.start(t), tt.read)
			if err == nil || !strings.Contains(err.Error(), tt.want) || Retryable(err) != tt.retryable {
				t.Errorf("error %v; Retryable %v; want %q, %v", err, Retryable(err), tt.want, tt.retryable)
			}
			var denied *DeniedError
			if strings.Contains(tt.name, "no right") != errors.As(err, &denied) {
				t.Errorf("a *DeniedError: %v", err)
			}
		})
	}
}

// joinAndRead makes a full synchronisation whose RDB has size bytes, and reads
// one byte of the stream.
func joinAndRead(t *testing.T, addr string, size int64) error {
	t.Helper()
	ctx := within(t)
	c, err := connect(ctx, t, redis.Config{Addrs: []string{addr}})
	if err != nil {
		return err
	}
	if _, err := c.Psync(ctx, "?", -1); err != nil {
		return err
	}
	transfer, err := c.RDB()
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, transfer.Reader(), size); err != nil {
		return err
	}
	if err := transfer.Finish(size); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}

func TestOptionsThatAServerDoesNotKnowAreLeftOut(t *testing.T) {
	addr := fake{replconf: "-ERR Unrecognized REPLCONF option\r\n", psync: "+CONTINUE " + newID + "\r\n*1\r\n"}.start(t)
	ctx := within(t)
	c, err := connect(ctx, t, redis.Config{Addrs: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	sync, err := c.Psync(ctx, oldID, 100)
	if err != nil || sync != (Sync{Replid: newID, Offset: 99}) {
		t.Fatalf("%+v, error %v", sync, err)
	}
	stream, err := io.ReadAll(io.LimitReader(c, 4))
	if err != nil || string(stream) != "*1\r\n" {
		t.Errorf("%q, error %v", stream, err)
	}
}

func TestCloseEndsWhatBlocks(t *testing.T) {
	quiet := "+CONTINUE " + newID + "\r\n"
	for _, tt := range []struct {
		name  string
		psync string
		end   func(c *Conn, cancel func())
	}{
		{"Close while Psync waits", "", func(c *Conn, _ func()) { c.Close() }},
		{"a done ctx while Psync waits", "", func(_ *Conn, cancel func()) { cancel() }},
		{"Close while Read waits", quiet, func(c *Conn, _ func()) { c.Close() }},
		{"a done ctx while Read waits", quiet, func(_ *Conn, cancel func()) { cancel() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			c, err := connect(ctx, t, redis.Config{Addrs: []string{fake{replconf: "+OK\r\n", psync: tt.psync, stays: true}.start(t)}})
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			begun := make(chan struct{})
			go func() {
				if tt.psync == "" {
					close(begun)
				}
				_, err := c.Psync(ctx, oldID, 1)
				if err == nil {
					close(begun)
					_, err = c.Read(make([]byte, 1))
				}
				ended <- err
			}()
			<-begun
			tt.end(c, cancel)
			select {
			case err := <-ended:
				if err == nil {
					t.Error("it ended without an error")
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it goes on")
			}
			c.Close()
			c.Close()
			if err := c.AckNow(); err == nil {
				t.Error("a closed link acknowledges")
			}
		})
	}
}
