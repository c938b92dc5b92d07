package app_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"twinlog/internal/testkit"
)

func badConfiguration(t *testing.T, broker *testkit.Kafka) {
	l := newBadLink(t, broker, linkOptions{})
	l.configure(strings.Replace(l.yaml(), "brokers:", "borkers:", 1))
	l.ends(2, l.worker.Config()+":2:", `unknown key "borkers": did you mean "brokers"?`)

	l.configure(l.yaml() + "limits: {memory: 1MiB}\n")
	l.ends(2, l.worker.Config()+":8:", "limits.memory", "use at least 16MiB")

	l.configure(l.yaml())
	if err := os.Remove(l.worker.Config()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(l.worker.Config(), 0o700); err != nil { // not to be read by anyone, root included
		t.Fatal(err)
	}
	l.ends(2, "reading configuration", l.worker.Config())

	l.configure(l.yaml())
	taken, err := net.Listen("tcp", l.worker.Addr())
	if err != nil {
		t.Fatal(err)
	}
	l.ends(1, "http.listen: "+l.worker.Addr()+" is in use", "set http.listen to a free address")
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	l.run()
	l.does(l.a, "SET", "k", "v")
	l.equal()
}

func badSites(t *testing.T, broker *testkit.Kafka) {
	l := newBadLink(t, broker, linkOptions{})
	l.does(l.a, "ACL", "SETUSER", "follower", "on", ">right", "~*", "&*", "+@all")
	l.does(l.a, "ACL", "SETUSER", "reader", "on", ">right", "~*", "&*", "+@all", "-psync")
	user := func(name, password string) {
		site := fmt.Sprintf("a: {redis: {addrs: [%q]", l.a.Addr())
		l.configure(strings.Replace(l.yaml(), site, fmt.Sprintf("%s, username: %s, password: %s", site, name, password), 1))
	}
	user("follower", "wrong")
	l.ends(3, "redis-reachable", "WRONGPASS", "correct username and password of the site")
	log, err := os.ReadFile(l.worker.LogFile())
	if err != nil || strings.Contains(string(log), "wrong\n") || strings.Contains(string(log), "password: wrong") {
		t.Errorf("the password is in the log: %v", err)
	}
	user("reader", "right")
	l.ends(3, "redis-psync", "may not join as a replica", "ACL SETUSER <user> +psync +replconf +ping")
	user("follower", "right")
	l.does(l.a, "SET", "k", "v")
	l.run()
	l.equal()

	// The right is taken away while the link runs, and the link is cut.
	l.does(l.a, "ACL", "SETUSER", "follower", "-psync")
	l.does(l.a, "CLIENT", "KILL", "TYPE", "replica")
	l.fails("source-a", "PSYNC", "NOPERM", "+psync +replconf +ping", l.a.Addr())
	l.does(l.a, "ACL", "SETUSER", "follower", "+psync")
	l.does(l.a, "SET", "k", "w")
	l.resume("source-a")
	l.arrives("k", "w")

	// The target takes the right to write away: nothing of a batch happens.
	l.does(l.b, "ACL", "SETUSER", "default", "-set")
	l.does(l.a, "SET", "k", "x")
	l.fails("sink-b", "NOPERM", "right", "resume")
	if got := l.value(l.b, "k"); got != "w" {
		t.Errorf("k is %q at site b although it refuses SET", got)
	}
	l.does(l.b, "ACL", "SETUSER", "default", "+set")
	l.resume("sink-b")
	l.arrives("k", "x")
	l.equal()
}

func badTopics(t *testing.T, broker *testkit.Kafka) {
	l := newBadLink(t, broker, linkOptions{})
	l.does(l.a, "SET", "k", "v")
	create := func(partitions int32, policy string) {
		l.admin(func(ctx context.Context, adm *kadm.Client) error {
			_, err := adm.CreateTopic(ctx, partitions, 1, map[string]*string{"cleanup.policy": &policy, "max.message.bytes": kadm.StringPtr("2000000")}, l.topic())
			return err
		})
	}
	create(3, "delete")
	l.ends(3, l.topic()+" has 3 partitions", "exactly 1", "delete the topic or give the link another name")
	l.deleteTopics()
	create(1, "compact")
	l.ends(3, l.topic()+" has cleanup.policy=compact", "cleanup.policy=delete")
	l.admin(func(ctx context.Context, adm *kadm.Client) error {
		_, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: kadm.StringPtr("delete")}}, l.topic())
		return err
	})
	l.run()
	l.equal()
}

// relay forwards connections to a server, from an address where nothing
// listens before it is opened.
type relay struct {
	addr, to string
	// passing may change what the server sends, or end the connection.
	passing func() func([]byte) ([]byte, bool)
	opened  net.Listener
	wg      sync.WaitGroup
}

// newRelay reserves an address.
func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return &relay{addr: l.Addr().String(), to: to}
}

// open begins to forward, until the test ends.
func (r *relay) open(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	r.opened = l
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		l.Close()
		r.wg.Wait()
	})
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.forward(ctx, c) })
		}
	})
}

func (r *relay) forward(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() {
		client.Close()
		server.Close()
	})()
	r.wg.Go(func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	})
	pass := func(b []byte) ([]byte, bool) { return b, true }
	if r.passing != nil {
		pass = r.passing()
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		b, on := pass(buffer[:n])
		if _, werr := client.Write(b); err != nil || werr != nil || !on {
			return
		}
	}
}

func kafkaAway(t *testing.T, broker *testkit.Kafka) {
	l := newBadLink(t, broker, linkOptions{})
	l.does(l.a, "SET", "k", "v")
	front := newRelay(t, broker.Brokers()[0])
	l.configure(l.yamlAt(front.addr, l.a.Addr()))
	l.worker.Start()
	logged(t, l.worker, "waiting for Kafka", 3)
	l.notReady(front.addr)
	l.waits(front.addr)
	front.open(t)
	l.worker.AwaitReady(30 * time.Second)
	l.equal()
	l.stop()
}

func redisAway(t *testing.T, broker *testkit.Kafka) {
	l := newBadLink(t, broker, linkOptions{})
	l.does(l.a, "SET", "k", "v")
	l.does(l.a, "SAVE")
	l.a.Kill()
	l.worker.Start()
	logged(t, l.worker, "waiting for servers", 2)
	l.notReady("redis-reachable a", l.a.Addr())
	l.waits("redis-reachable a", l.a.Addr())
	l.a.Restart()
	l.worker.AwaitReady(30 * time.Second)
	l.equal()
}

func targetWithData(t *testing.T, broker *testkit.Kafka) {
	l := newBadLink(t, broker, linkOptions{directions: "  - {from: a, to: b, existing: intercept}\n"})
	for key, value := range map[string]string{"same": "a", "only-a": "a"} {
		l.does(l.a, "SET", key, value)
	}
	for key, value := range map[string]string{"same": "b", "only-b": "b"} {
		l.does(l.b, "SET", key, value)
	}
	l.ends(3, "target-empty", "db0: 2 keys", "empty site b", "existing: ignore")
	if got := l.value(l.b, "same"); got != "b" {
		t.Errorf("a target that was refused holds %q", got)
	}
	l.options.directions = "  - {from: a, to: b, existing: ignore}\n"
	l.configure(l.yaml())
	l.run()
	l.arrives("same", "a")
	l.arrives("only-a", "a")
	if got := l.value(l.b, "only-b"); got != "b" {
		t.Errorf("existing: ignore took a key of the target away, it is %q", got)
	}
	l.does(l.b, "DEL", "only-b")
	l.equal()
}
