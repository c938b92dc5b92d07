package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// startRedis starts a private redis-server on a socket and returns one
// connection to it.
func startRedis(t *testing.T) *redis.Conn {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("redis-server is not installed")
	}
	dir, err := os.MkdirTemp("", "twinlog") //nolint:usetesting // t.TempDir has the name of the test in it, too long for a socket's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(path, "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--daemonize", "no")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for ready := false; !ready; {
		if !lines.Scan() {
			t.Fatalf("redis-server ended: %v", lines.Err())
		}
		ready = strings.Contains(lines.Text(), "ready to accept connections")
	}
	client := redis.NewClient(&redis.Options{
		Protocol:        2,
		MaxRetries:      -1,
		DisableIdentity: true,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	})
	t.Cleanup(func() { _ = client.Close() })
	conn := client.Conn()
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// do runs a command given as one line.
func do(t *testing.T, c *redis.Conn, line string) any {
	t.Helper()
	reply, err := doArgs(t, c, bytesOf(line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return reply
}

func doArgs(t *testing.T, c *redis.Conn, argv [][]byte) (any, error) {
	t.Helper()
	args := make([]any, len(argv))
	for i, a := range argv {
		args[i] = a
	}
	reply, err := c.Do(t.Context(), args...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return reply, err
}

// known is one element of COMMAND's answer.
type known struct {
	name              string
	arity             int
	flags             string
	first, last, step int
	subs              []known
	pubsub            bool // what stands at first is a channel, not a key
}

func parseKnown(reply any) known {
	r := reply.([]any)
	n := func(i int) int { return int(r[i].(int64)) }
	k := known{
		name: strings.ToUpper(strings.ReplaceAll(r[0].(string), "|", " ")), arity: n(1), flags: fmt.Sprint(r[2]),
		first: n(3), last: n(4), step: n(5), pubsub: strings.Contains(fmt.Sprint(r[8]), "not_key"),
	}
	for _, s := range r[9].([]any) {
		k.subs = append(k.subs, parseKnown(s))
	}
	return k
}

func TestTableEqualsTheServersOwn(t *testing.T) {
	t.Parallel()
	conn := startRedis(t)
	for _, r := range do(t, conn, "COMMAND").([]any) {
		k := parseKnown(r)
		c := Lookup([]byte(strings.ToLower(k.name)))
		if c == nil {
			t.Errorf("%s is not known", k.name)
			continue
		}
		compare(t, k, c)
		for _, s := range k.subs {
			_, name, _ := strings.Cut(s.name, " ")
			own := c.sub([][]byte{[]byte(name)})
			if own != c {
				compare(t, s, own)
			} else if s.first != 0 || strings.Contains(s.flags, "write") {
				t.Errorf("%s writes or has keys, and no row of its own", s.name)
			}
		}
	}
}

func compare(t *testing.T, k known, c *Command) {
	t.Helper()
	if c.Name != k.name || c.arity != k.arity {
		t.Errorf("got %s with arity %d, want %s with %d", c.Name, c.arity, k.name, k.arity)
	}
	got, want := [3]int{c.keys.first, c.keys.last, c.keys.step}, [3]int{k.first, k.last, k.step}
	if k.pubsub {
		want = [3]int{}
	}
	if got != want {
		t.Errorf("%s: keys at %v, want %v", k.name, got, want)
	}
	changes := c.Class == Write || c.Class == Delete || c.Class == Truncate || c.Class == Function
	if isWrite := strings.Contains(k.flags, "write"); isWrite != changes && len(k.subs) == 0 && c.Class != Migration {
		t.Errorf("%s: class %d, but the server's flags are %s", k.name, c.Class, k.flags)
	}
}

// movableSamples are commands whose keys move with their arguments.
var movableSamples = []string{
	"SORT a BY w_* LIMIT 0 1 GET # ASC ALPHA", "SORT a BY store STORE b", "SORT a STORE b STORE c", "SORT a",
	"GEORADIUS a 1 2 3 km COUNT 3 ANY STORE b", "GEORADIUS a 1 2 3 km STOREDIST b", "GEORADIUS a 1 2 3 km ASC",
	"GEORADIUSBYMEMBER a store 3 km STORE b",
	"ZUNIONSTORE a 2 b c WEIGHTS 1 2", "ZINTERSTORE a 1 b", "ZDIFFSTORE a 3 b c d",
	"LMPOP 2 a b LEFT COUNT 3", "BLMPOP 0 2 a b LEFT", "ZMPOP 1 a MIN", "BZMPOP 0 2 a b MAX COUNT 3",
	"MIGRATE h 1 a 0 10 COPY", `MIGRATE h 1 "" 0 10 AUTH keys REPLACE KEYS a b c`, `MIGRATE h 1 "" 0 10 AUTH2 keys keys KEYS a`,
	"SINTERCARD 2 a b LIMIT 1", "ZDIFF 2 a b", "ZINTER 2 a b WITHSCORES", "ZINTERCARD 1 a", "ZUNION 1 a",
	"XREAD COUNT 1 BLOCK 2 STREAMS a b 0 0", "XREAD STREAMS streams 0", "XREADGROUP GROUP g streams NOACK STREAMS a b > >",
	"XGROUP CREATE a g 0", "XGROUP DESTROY a g", "XINFO STREAM a FULL", "OBJECT ENCODING a", "MEMORY USAGE a",
	"SET a v GET", "BITFIELD a SET u8 0 1", "MSET a 1 b 2 c 3", "BITOP NOT a b", "PFMERGE a b c",
}

func TestKeysEqualTheServersOwn(t *testing.T) {
	t.Parallel()
	conn := startRedis(t)
	samples := movableSamples
	for _, r := range do(t, conn, "COMMAND").([]any) {
		k := parseKnown(r)
		switch {
		case k.first == 0, k.pubsub, Lookup([]byte(k.name)).keys.find != nil:
			continue
		case k.name == "BITFIELD", k.name == "PFMERGE": // refuses or judges what does not fit: samples above
			continue
		}
		line, n := k.name, max(k.arity, -k.arity)
		if k.step == 2 {
			n += (n + 1) % 2
		}
		for i := range n - 1 {
			line += fmt.Sprint(" arg", i)
		}
		samples = append(samples, line)
		if k.arity < 0 {
			samples = append(samples, line+" more even")
		}
	}
	for _, line := range samples {
		argv := bytesOf(line)
		c := Lookup(argv[0])
		var got, want Keys
		if err := c.AppendKeys(&got, argv[1:]); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		reply, err := doArgs(t, conn, append(bytesOf("COMMAND GETKEYSANDFLAGS"), argv...))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		for _, r := range reply.([]any) {
			key, flags := []byte(r.([]any)[0].(string)), fmt.Sprint(r.([]any)[1])
			switch {
			case c.Name == "XREADGROUP": // moves the group on, whatever 7.0 says
				want.Written = append(want.Written, key)
			case c.Name == "PFCOUNT": // writes a cache only
				want.Read = append(want.Read, key)
			case strings.Contains(flags, "RO"):
				want.Read = append(want.Read, key)
			default:
				want.Written = append(want.Written, key)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: keys differ (-server +ours):\n%s", line, diff)
		}
	}
}
