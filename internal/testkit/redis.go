package testkit

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Redis is a private redis-server. It listens on one loopback address for
// all its life, restarts included, keeps its files in a directory of its own
// and is gone when the test ends.
type Redis struct {
	tb     testing.TB
	binary string
	addr   string
	dir    string
	args   []string
	env    []string // on top of this process's
	server *child
	client *goredis.Client
}

// startTimeout is how long a server may take to answer, a big RDB included.
const startTimeout = 30 * time.Second

// StartRedis starts a redis-server with args as on its command line, such as
// "--appendonly", "yes". Unless args say otherwise it saves nothing by
// itself, and starts diskless full synchronisations without delay. A test on
// a machine without redis-server is skipped, or failed under CI=true.
func StartRedis(tb testing.TB, args ...string) *Redis {
	tb.Helper()
	return startRedis(tb, installedRedis(tb), nil, args)
}

func installedRedis(tb testing.TB) string {
	tb.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		required(tb, "no redis-server on this machine: install it with `sudo scripts/setup-redis.sh` (Debian and Ubuntu: apt-get install redis-server)")
	}
	return binary
}

func startRedis(tb testing.TB, binary string, env, args []string) *Redis {
	tb.Helper()
	r := &Redis{tb: tb, binary: binary, addr: freeAddr(tb), dir: tb.TempDir(), args: args, env: env}
	r.client = newClient(r.addr)
	tb.Cleanup(func() {
		r.client.Close()
		r.Kill()
		if tb.Failed() {
			tb.Logf("log of redis-server %s:\n%s", r.addr, tail(r.logFile()))
		}
	})
	r.Restart()
	return r
}

// Addr is the host:port that clients dial.
func (r *Redis) Addr() string { return r.addr }

// Dir is the directory that holds the server's files: dump.rdb, redis.log.
func (r *Redis) Dir() string { return r.dir }

// Pid is the process id of the running server.
func (r *Redis) Pid() int { return r.server.process.Pid }

// Client returns a go-redis client of database 0. It never repeats a command
// by itself. It is closed with the test.
func (r *Redis) Client() *goredis.Client { return r.client }

// Kill ends the server as kill -9 does: what it had not saved is lost.
func (r *Redis) Kill() {
	r.tb.Helper()
	if r.server == nil {
		return
	}
	if err := r.server.kill(); err != nil {
		r.tb.Error(err)
	}
}

// Stop ends the server in good order, as SIGTERM does: it saves if it is
// configured to.
func (r *Redis) Stop() {
	r.tb.Helper()
	if err := r.server.signal(syscall.SIGTERM); err != nil {
		r.tb.Fatal(err)
	}
	select {
	case <-r.server.done:
	case <-time.After(startTimeout):
		r.tb.Fatalf("redis-server %s does not end", r.addr)
	}
}

// Restart starts the server again, after Kill or Stop, with the files that it
// left, and waits until it answers.
func (r *Redis) Restart() { r.RestartWith() }

// RestartWith is Restart with further arguments for this once.
func (r *Redis) RestartWith(more ...string) {
	r.tb.Helper()
	if r.server != nil && !r.server.ended() {
		r.tb.Fatalf("redis-server %s still runs: Kill or Stop it first", r.addr)
	}
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		r.tb.Fatal(err)
	}
	args := append([]string{
		"--bind", host, "--port", port, "--dir", r.dir, "--logfile", r.logFile(),
		"--save", "", "--repl-diskless-sync-delay", "0",
	}, append(slices.Clone(r.args), more...)...)
	cmd := exec.Command(r.binary, args...)
	cmd.Env = append(os.Environ(), r.env...)
	r.server, err = startChild(cmd)
	if err != nil {
		r.tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	Eventually(r.tb, startTimeout, func() error {
		if r.server.ended() {
			r.tb.Fatalf("redis-server %s ended: %v\n%s", r.addr, r.server.err, tail(r.logFile()))
		}
		return r.client.Ping(ctx).Err() // -LOADING while it reads its RDB
	})
}

func (r *Redis) logFile() string { return filepath.Join(r.dir, "redis.log") }

// newClient returns a client that does nothing by itself: no retry, no
// handshake beyond HELLO.
func newClient(addr string) *goredis.Client { return newClientOf(addr, 0) }

// newClientOf returns such a client of a database.
func newClientOf(addr string, db int) *goredis.Client {
	return goredis.NewClient(&goredis.Options{
		Addr: addr, DB: db, Protocol: 2, MaxRetries: -1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// shownLog is how much of a log a failed test shows.
const shownLog = 16 << 10

// tail returns the end of a log file, or why there is none.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	b := make([]byte, min(info.Size(), shownLog))
	if _, err := f.ReadAt(b, info.Size()-int64(len(b))); err != nil {
		return fmt.Sprintf("reading %s: %v", path, err)
	}
	return string(b)
}
