package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hdt3213/rdb/parser"

	"twinlog/internal/redis"
	"twinlog/internal/testkit"
)

// link is a Conn to a real server and everything that its stream brought.
type link struct {
	t      *testing.T
	server *testkit.Redis
	conn   *Conn
	sync   Sync
	offset int64
	stream bytes.Buffer
}

func join(t *testing.T, server *testkit.Redis, replid string, offset int64) *link {
	t.Helper()
	ctx := within(t)
	c, err := connect(ctx, t, redis.Config{Addrs: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	sync, err := c.Psync(ctx, replid, offset)
	if err != nil {
		t.Fatal(err)
	}
	return &link{t: t, server: server, conn: c, sync: sync, offset: sync.Offset}
}

// snapshot reads the RDB, whose end only its own bytes tell in one of the two
// forms of transfer, and returns how many keys it holds.
func (l *link) snapshot() (keys int, transfer *Transfer) {
	l.t.Helper()
	transfer, err := l.conn.RDB()
	if err != nil {
		l.t.Fatal(err)
	}
	var rdb []byte
	if size := transfer.Size(); size >= 0 {
		rdb, err = io.ReadAll(io.LimitReader(transfer.Reader(), size))
	} else { // up to the mark, which stays there
		for err == nil {
			var next []byte
			if next, err = transfer.Reader().Peek(markLength); err == nil && string(next) == transfer.mark {
				break
			}
			rdb = append(rdb, next[:min(1, len(next))]...)
			_, _ = transfer.Reader().Discard(1)
		}
	}
	if err != nil {
		l.t.Fatal(err)
	}
	if err := transfer.Finish(int64(len(rdb))); err != nil {
		l.t.Fatal(err)
	}
	if !bytes.HasPrefix(rdb, []byte("REDIS00")) {
		l.t.Fatalf("the RDB begins with %q", rdb[:min(16, len(rdb))])
	}
	if err := parser.NewDecoder(bytes.NewReader(rdb)).Parse(func(parser.RedisObject) bool { keys++; return true }); err != nil {
		l.t.Fatal(err)
	}
	return keys, transfer
}

// readUntil reads the stream until it holds text.
func (l *link) readUntil(text string) {
	l.t.Helper()
	buffer := make([]byte, 4096)
	for !strings.Contains(l.stream.String(), text) {
		n, err := l.conn.Read(buffer)
		if err != nil {
			l.t.Fatalf("%v, after %q", err, l.stream.String())
		}
		l.stream.Write(buffer[:n])
		l.offset += int64(n)
	}
}

func (l *link) set(key string) {
	l.t.Helper()
	if err := l.server.Client().Set(l.t.Context(), key, "v", 0).Err(); err != nil {
		l.t.Fatal(err)
	}
}

// info is one field of INFO replication.
func (l *link) info(field string) string {
	l.t.Helper()
	text, err := l.server.Client().Info(l.t.Context(), "replication").Result()
	if err != nil {
		l.t.Fatal(err)
	}
	_, after, _ := strings.Cut(text, field+":")
	value, _, _ := strings.Cut(after, "\r")
	return value
}

// atTheEnd reads until nothing is left and holds the offset against the server's.
func (l *link) atTheEnd() {
	l.t.Helper()
	last := "last-" + strconv.FormatInt(l.offset, 10)
	l.set(last)
	l.readUntil(last + "\r\n$1\r\nv\r\n")
	if got := l.info("master_repl_offset"); got != strconv.FormatInt(l.offset, 10) {
		l.t.Errorf("read up to %d, the server is at %s", l.offset, got)
	}
	if got := l.info("master_replid"); got != l.sync.Replid {
		l.t.Errorf("replid %s, the server's is %s", l.sync.Replid, got)
	}
}

// detach ends the link and waits until the server has noticed.
func (l *link) detach() {
	l.t.Helper()
	l.conn.Close()
	testkit.Eventually(l.t, 10*time.Second, func() error {
		if n := l.info("connected_slaves"); n != "0" {
			return fmt.Errorf("%s replicas are attached", n)
		}
		return nil
	})
}

func TestAFullSynchronisationInBothForms(t *testing.T) {
	for _, diskless := range []string{"yes", "no"} {
		t.Run("repl-diskless-sync "+diskless, func(t *testing.T) {
			server := testkit.StartRedis(t, "--repl-diskless-sync", diskless)
			const keys = 500
			for i := range keys {
				if err := server.Client().Set(t.Context(), "k"+strconv.Itoa(i), strings.Repeat("v", i), 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			l := join(t, server, "?", -1)
			if !l.sync.Full {
				t.Fatalf("%+v is no full synchronisation", l.sync)
			}
			got, transfer := l.snapshot()
			if got != keys || (transfer.Size() == -1) != (diskless == "yes") {
				t.Errorf("%d keys in an RDB of size %d", got, transfer.Size())
			}
			l.set("first")
			l.readUntil("$5\r\nfirst\r\n")
			if !strings.HasPrefix(l.stream.String(), "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n") {
				t.Errorf("the stream begins with %q", l.stream.String())
			}
			l.atTheEnd()
		})
	}
}

func TestAReconnectedLinkGoesOnWhereItWas(t *testing.T) {
	server := testkit.StartRedis(t)
	first := join(t, server, "?", -1)
	first.snapshot()
	first.atTheEnd()
	first.detach()
	first.set("missed")

	second := join(t, server, first.sync.Replid, first.offset+1)
	if second.sync != (Sync{Replid: first.sync.Replid, Offset: first.offset}) {
		t.Fatalf("%+v, want the stream behind %d", second.sync, first.offset)
	}
	second.atTheEnd()
	if got := second.stream.String(); !strings.HasPrefix(got, "*3\r\n$3\r\nset\r\n$6\r\nmissed\r\n") {
		t.Errorf("the stream goes on with %q", got)
	}
	second.detach()

	if err := server.Client().ConfigSet(t.Context(), "repl-backlog-size", "16384").Err(); err != nil {
		t.Fatal(err)
	}
	if err := server.Client().Set(t.Context(), "big", strings.Repeat("x", 100_000), 0).Err(); err != nil {
		t.Fatal(err)
	}
	third := join(t, server, second.sync.Replid, second.offset+1)
	if !third.sync.Full || third.sync.Offset <= second.offset {
		t.Errorf("missed more than the backlog holds, and got %+v", third.sync)
	}
	third.snapshot()
	third.atTheEnd()
	third.detach()

	if stranger := join(t, server, oldID, 1); !stranger.sync.Full {
		t.Errorf("another stream's position got %+v", stranger.sync)
	}
}

// wait asks for one replica's acknowledgement of what is written until now.
func (l *link) wait(timeout time.Duration) int64 {
	l.t.Helper()
	client := l.server.Client().Conn()
	defer client.Close()
	if err := client.Set(l.t.Context(), "waited", "v", 0).Err(); err != nil {
		l.t.Fatal(err)
	}
	n, err := client.Wait(l.t.Context(), 1, timeout).Result()
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

func TestOnlyWhatIsAcknowledgedCountsForWAIT(t *testing.T) {
	server := testkit.StartRedis(t)
	l := join(t, server, "?", -1)
	l.snapshot()
	l.atTheEnd()
	if n := l.wait(300 * time.Millisecond); n != 0 {
		t.Errorf("%d replicas hold what none acknowledged", n)
	}
	l.readUntil("GETACK")
	l.atTheEnd()

	waited := make(chan int64, 1)
	go func() { waited <- l.wait(20 * time.Second) }()
	l.stream.Reset()
	l.readUntil("$6\r\nGETACK\r\n$1\r\n*\r\n")
	l.conn.Ack(l.offset)
	if err := l.conn.AckNow(); err != nil {
		t.Fatal(err)
	}
	if n := <-waited; n != 1 {
		t.Errorf("%d replicas hold what this one acknowledged", n)
	}

	l.atTheEnd()
	l.conn.Ack(l.offset) // and nothing sent: the link does so every second
	testkit.Eventually(t, 10*time.Second, func() error {
		if got := l.info("slave0"); !strings.Contains(got, fmt.Sprintf("offset=%d,", l.offset)) {
			return fmt.Errorf("the server knows %s, want offset %d", got, l.offset)
		}
		return nil
	})
}

func TestAServerThatIsBusyOrWithoutItsMasterIsWorthAnotherTry(t *testing.T) {
	psync := func(server *testkit.Redis) error {
		ctx := within(t)
		c, err := connect(ctx, t, redis.Config{Addrs: []string{server.Addr()}})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Psync(ctx, "?", -1)
		return err
	}
	t.Run("without its master", func(t *testing.T) {
		err := psync(testkit.StartRedis(t, "--replicaof", "127.0.0.1", "1"))
		if !Retryable(err) || !strings.Contains(err.Error(), "NOMASTERLINK") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("busy with a script", func(t *testing.T) {
		server := testkit.StartRedis(t, "--busy-reply-threshold", "1")
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = server.Client().Eval(t.Context(), "while true do end", nil).Err() // killed below
		}()
		var err error
		testkit.Eventually(t, 10*time.Second, func() error {
			if err = psync(server); err == nil {
				return errors.New("no script runs yet")
			}
			return nil
		})
		if !Retryable(err) || !strings.Contains(err.Error(), "BUSY") {
			t.Errorf("error %v", err)
		}
		if err := server.Client().ScriptKill(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		<-ended
	})
	t.Run("killed", func(t *testing.T) {
		server := testkit.StartRedis(t)
		l := join(t, server, "?", -1)
		l.snapshot()
		l.atTheEnd()
		server.Kill()
		if _, err := io.Copy(io.Discard, l.conn); !Retryable(err) {
			t.Errorf("error %v", err)
		}
		if err := psync(server); !Retryable(err) {
			t.Errorf("error %v", err)
		}
	})
}

func TestAUserWithoutTheRightsOfAReplicaIsNamed(t *testing.T) {
	server := testkit.StartRedis(t)
	ctx := within(t)
	for _, tt := range []struct {
		name   string
		rights []any
		denied string // the command; empty: it works
	}{
		{"none", []any{"+ping"}, "REPLCONF"},
		{"REPLCONF alone", []any{"+ping", "+replconf"}, "PSYNC"},
		{"those that the error names", []any{"+ping", "+replconf", "+psync"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := server.Client().Do(ctx, append([]any{"ACL", "SETUSER", "twinlog", "reset", "on", ">geheim"}, tt.rights...)...).Err(); err != nil {
				t.Fatal(err)
			}
			err := joinAs(ctx, t, redis.Config{Addrs: []string{server.Addr()}, Username: "twinlog", Password: "geheim"})
			var denied *DeniedError
			if tt.denied == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.As(err, &denied) || denied.Command != tt.denied || Retryable(err) || !strings.Contains(err.Error(), server.Addr()) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func joinAs(ctx context.Context, t *testing.T, config redis.Config) error {
	t.Helper()
	c, err := connect(ctx, t, config)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Psync(ctx, "?", -1)
	return err
}
