package kafka_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wire is what a client's requests pass, so that a test can stop one, or cut
// the connections, at an exact place.
type wire struct {
	mu    sync.Mutex
	conns []*wireConn
	sent  [][]byte
	gates []*gate
	down  bool // dials are refused
}

// gate stops the first request of a kind that names id.
type gate struct {
	key      kmsg.Key
	id       string
	arrived  chan struct{}
	released chan struct{}
}

// option makes a client use the wire.
func (w *wire) option() kgo.Opt {
	return kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		if w.refuses() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &wireConn{Conn: conn, wire: w, closed: make(chan struct{})}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.conns = append(w.conns, c)
		return c, nil
	})
}

// stop makes a gate.
func (w *wire) stop(key kmsg.Key, id string) *gate {
	g := &gate{key: key, id: id, arrived: make(chan struct{}), released: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gates = append(w.gates, g)
	return g
}

// await waits until the request has come.
func (g *gate) await(t *testing.T) {
	t.Helper()
	select {
	case <-g.arrived:
	case <-time.After(patience):
		t.Fatalf("no request %s of %s came", g.key.Name(), g.id)
	}
}

func (g *gate) release() { close(g.released) }

func (w *wire) refuses() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down
}

// up lets dials succeed again.
func (w *wire) up() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
}

// cut closes every connection; down, it refuses new ones as well.
func (w *wire) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for _, c := range w.conns {
		c.Close()
	}
}

// requests counts what was sent or tried.
func (w *wire) requests(key kmsg.Key, id string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.sent {
		if is(b, key, id) {
			n++
		}
	}
	return n
}

func is(request []byte, key kmsg.Key, id string) bool {
	return len(request) > 6 && kmsg.Key(binary.BigEndian.Uint16(request[4:])) == key && bytes.Contains(request, []byte(id))
}

func (w *wire) pass(b []byte, closed <-chan struct{}) {
	w.mu.Lock()
	w.sent = append(w.sent, bytes.Clone(b))
	var stopped *gate
	for i, g := range w.gates {
		if is(b, g.key, g.id) {
			stopped = g
			w.gates = append(w.gates[:i], w.gates[i+1:]...)
			break
		}
	}
	w.mu.Unlock()
	if stopped == nil {
		return
	}
	close(stopped.arrived)
	select {
	case <-stopped.released:
	case <-closed:
	}
}

type wireConn struct {
	net.Conn
	wire   *wire
	once   sync.Once
	closed chan struct{}
}

func (c *wireConn) Write(b []byte) (int, error) {
	c.wire.pass(b, c.closed)
	return c.Conn.Write(b)
}

func (c *wireConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
