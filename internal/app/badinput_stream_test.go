package app_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"twinlog/internal/testkit"
	"twinlog/schema"
)

// damage is what happens to one replication link between a Redis and its
// source. Each is done once.
type damage struct {
	mu    sync.Mutex
	flip  int    // XOR the byte of the RDB this far from its start; 0: not
	cut   int    // end the link this far from the RDB's start; 0: not
	from  []byte // replace this in the stream, in one piece
	to    []byte
	done  int // how many were done
	bytes int // of the last RDB, when it was flipped or cut
}

func (d *damage) set(change func(*damage)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// passing returns what one connection does with what the server sends.
func (d *damage) passing() func([]byte) ([]byte, bool) {
	var head []byte // up to where the RDB begins
	begun, at := false, 0
	return func(b []byte) ([]byte, bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if i := bytes.Index(b, d.from); len(d.from) > 0 && i >= 0 {
			b = append(append(append([]byte(nil), b[:i]...), d.to...), b[i+len(d.from):]...)
			d.from = nil
			d.done++
			return b, true
		}
		rdb := 0 // where it goes on in b
		if !begun {
			if head = append(head, b...); len(head) > 1<<20 {
				head = head[len(head)-100:]
			}
			i := bytes.Index(head, []byte("REDIS00"))
			if !bytes.Contains(head, []byte("+FULLRESYNC")) || i < 0 {
				return b, true
			}
			begun = true
			rdb = len(b) - (len(head) - i)
		}
		if to := rdb + d.flip - at; d.flip > 0 && to < len(b) && to >= 0 {
			b[to] ^= 0x20
			d.flip, d.bytes = 0, at
			d.done++
		}
		if to := rdb + d.cut - at; d.cut > 0 && to < len(b) && to >= 0 {
			d.cut, d.bytes = 0, at
			d.done++
			return b[:to], false
		}
		at += len(b) - rdb
		return b, true
	}
}

func damagedLink(t *testing.T, broker *testkit.Kafka) {
	const values, size = 64, 64 << 10
	l := newBadLink(t, broker, linkOptions{argsA: wideBacklog("--rdbcompression", "no"), extra: "limits: {memory: 16MiB, max_transaction_bytes: 2MiB}\n"})
	pipe := l.a.Client().Pipeline()
	for i := range values {
		pipe.Set(t.Context(), fmt.Sprintf("value:%d", i), strings.Repeat("v", size), 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := &damage{flip: values * size / 2}
	front := newRelay(t, l.a.Addr())
	front.passing = d.passing
	front.open(t)
	l.configure(l.yamlAt(broker.Brokers()[0], front.addr))

	// A byte flipped inside a value: only the checksum at the end can tell.
	l.worker.Start()
	l.fails("source-a", "corrupt RDB at byte ", "checksum", "take a new snapshot", "redis-check-rdb", "site a")
	l.incomplete()
	// A byte flipped where a type stands: noticed there.
	d.set(func(d *damage) { d.flip = 9 })
	l.resume("source-a")
	l.fails("source-a", "corrupt RDB at byte ", "take a new snapshot")
	l.incomplete()

	// Cut in the middle: tried again by itself, as a new epoch.
	d.set(func(d *damage) { d.cut = values * size / 2 })
	l.resume("source-a")
	l.goesOn()
	l.equal()
	events := l.events()
	epoch, ends := int64(0), 0
	for _, e := range events {
		epoch = max(epoch, e.Source.Epoch)
		if e.Command == schema.SnapshotEnd {
			ends++
		}
	}
	if ends != 1 || epoch != 4 {
		t.Errorf("%d snapshots were finished in %d epochs, want 1 in 4", ends, epoch)
	}

	// Bytes of the stream that are none: stopped there, read again.
	d.set(func(d *damage) { d.from, d.to = []byte("$9\r\ngarble-me"), []byte("$x\r\ngarble-me") })
	l.does(l.a, "SET", "garbled", "garble-me")
	trace := l.fails("source-a", "site a", "replication stream at offset ", "bad length")
	var offset int64
	if _, after, ok := strings.Cut(trace, "replication stream at offset "); ok {
		offset, _ = strconv.ParseInt(after[:strings.IndexByte(after, ':')], 10, 64)
	}
	if offset == 0 {
		t.Errorf("no offset in %q", trace)
	}
	l.does(l.a, "SET", "behind", "1")
	if got := l.value(l.b, "behind"); got != "" {
		t.Errorf("behind is %q at site b although the source stopped before it", got)
	}
	l.resume("source-a")
	l.arrives("garbled", "garble-me")
	l.goesOn()
	l.equal()
	if d.done != 4 {
		t.Errorf("%d of 4 damages were done", d.done)
	}
}

// incomplete holds that nothing in the topic says that a snapshot is whole.
func (l *badLink) incomplete() {
	l.t.Helper()
	begins := 0
	for _, e := range l.events() {
		switch {
		case e.Command == schema.SnapshotBegin:
			begins++
		case e.Op != schema.OpValue:
			l.t.Errorf("%c %s is in the topic behind a snapshot that was not verified", e.Op, e.Command)
		}
	}
	if begins == 0 {
		l.t.Error("no snapshot began")
	}
}

// raise gives the worker other limits, and the topic what they need.
func (l *badLink) raise(limits, messages string) {
	l.t.Helper()
	l.stop()
	l.options.extra = limits
	l.configure(l.yaml())
	l.admin(func(ctx context.Context, adm *kadm.Client) error {
		_, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &messages}}, l.topic())
		return err
	})
	l.run()
}

// longKey ends a key that is larger than the events here.
var longKey = strings.Repeat(".", 5<<10)

func bigInStream(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{argsA: wideBacklog(), extra: "limits: {memory: 16MiB, max_event_bytes: 4KiB, max_transaction_bytes: 64KiB}\n"})
	unit := l.a.Client().TxPipeline()
	unit.Set(t.Context(), "small", "1", 0)
	unit.Set(t.Context(), "big"+longKey, "1", 0) // a key cannot be cut
	unit.Set(t.Context(), "k", "2", 0)
	if _, err := unit.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.does(l.a, "SET", "k", "3")
	reason := []string{`SET of key "big.`, `in db 0`, "replication offset ", "max_event_bytes (4096)", "raise limits.max_event_bytes", "max.message.bytes"}
	l.fails("source-a", reason...)
	if got := l.value(l.b, "small") + l.value(l.b, "k"); got != "1" {
		t.Errorf("part of a unit that cannot be carried is at site b: %q", got)
	}
	l.resume("source-a") // it is in the stream, and not passed
	l.fails("source-a", reason...)
	l.raise("limits: {memory: 16MiB, max_event_bytes: 16KiB, max_transaction_bytes: 64KiB}\n", "200000")
	l.arrives("k", "3")
	l.equal()

	unit = l.a.Client().TxPipeline()
	for i := range 10 {
		unit.Set(t.Context(), fmt.Sprintf("many:%d", i), strings.Repeat("v", 8<<10), 0)
	}
	if _, err := unit.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.does(l.a, "SET", "k", "4")
	l.fails("source-a", "site a", "unit at replication offset ", "max_transaction_bytes (65536)", `"many:`, "raise limits.max_transaction_bytes")
	if got := l.value(l.b, "many:0"); got != "" {
		t.Error("part of a unit that is too big is at site b")
	}
	l.raise("limits: {memory: 16MiB, max_event_bytes: 16KiB, max_transaction_bytes: 1MiB}\n", "200000")
	l.arrives("k", "4")
	l.equal()
}

func bigInSnapshot(t *testing.T, broker *testkit.Kafka) {
	l := newBadLink(t, broker, linkOptions{extra: "limits: {memory: 16MiB, max_event_bytes: 4KiB, max_transaction_bytes: 64KiB}\n"})
	l.does(l.a, "SET", "text"+longKey, "v")
	l.worker.Start()
	l.fails("source-a", `the string value of key "text.`, `in db 0`, "max_event_bytes (4096)", "raise limits.max_event_bytes", "smaller")
	l.incomplete()
	l.does(l.a, "DEL", "text"+longKey)
	l.does(l.a, "RPUSH", "list"+longKey, "v")
	l.resume("source-a")
	l.fails("source-a", `the list value of key "list.`, `in db 0`, "max_event_bytes (4096)", "raise limits.max_event_bytes", "smaller")
	l.incomplete()
	l.does(l.a, "DEL", "list"+longKey)
	l.does(l.a, "SET", "k", "1")
	l.resume("source-a")
	l.arrives("k", "1")
	l.goesOn()
	l.equal()
}

func overrunBacklog(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{
		directions: "  - {from: a, to: b, on_gap: fail}\n",
		argsA:      []string{"--repl-backlog-size", "16kb", "--repl-backlog-ttl", "0"},
	})
	l.stop()
	for i := range 64 {
		l.does(l.a, "SET", "k", strings.Repeat(strconv.Itoa(i%10), 1<<10))
	}
	l.does(l.a, "SET", "k", "2")
	l.worker.Start()
	l.fails("source-a", "site a does not continue from ", "backlog was overrun", "twinlog resume source-a --snapshot", "repl-backlog-size")
	if got := l.value(l.b, "k"); got != "1" {
		t.Errorf("k is %q at site b", got)
	}
	l.twinlog("resume", "source-a", "--snapshot")
	l.does(l.a, "SET", "k", "3")
	l.arrives("k", "3")
	l.equal()
}
