package testkit

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Delay is a distance between two machines: a TCP proxy that hands on what it
// gets, in each direction, as much later as it is told. It can be cut, and led
// to another machine.
type Delay struct {
	listener net.Listener
	to, from atomic.Int64 // nanoseconds: the way to the target, the way back
	done     chan struct{}
	running  sync.WaitGroup

	mu     sync.Mutex
	target string
	conns  map[net.Conn]struct{} // nil: closed
}

// Each way of a connection holds at most so much that is under way.
const (
	delayChunk  = 32 << 10
	delayChunks = 1024
)

// StartDelay listens on addr and passes on to target. It is gone when the test ends.
func StartDelay(tb testing.TB, addr, target string) *Delay {
	tb.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatalf("listening for what is to be delayed: %v", err)
	}
	d := &Delay{target: target, listener: l, done: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	d.running.Go(d.accept)
	tb.Cleanup(d.close)
	return d
}

// Addr is the host:port that clients dial.
func (d *Delay) Addr() string { return d.listener.Addr().String() }

// Set makes what is read from now on arrive oneWay later.
func (d *Delay) Set(oneWay time.Duration) { d.SetWays(oneWay, oneWay) }

// SetWays is Set with another distance each way: to the target, and back.
func (d *Delay) SetWays(to, from time.Duration) {
	d.to.Store(int64(to))
	d.from.Store(int64(from))
}

// Cut ends all connections; what is under way is lost. New ones may be made.
func (d *Delay) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.Close()
	}
}

// Lead cuts all connections and leads those to come to another target.
func (d *Delay) Lead(target string) {
	d.mu.Lock()
	d.target = target
	d.mu.Unlock()
	d.Cut()
}

func (d *Delay) leadsTo() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.target
}

func (d *Delay) close() {
	close(d.done)
	d.listener.Close()
	d.mu.Lock()
	for c := range d.conns {
		c.Close()
	}
	d.conns = nil
	d.mu.Unlock()
	d.running.Wait()
}

func (d *Delay) accept() {
	for {
		client, err := d.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", d.leadsTo())
		if err != nil {
			client.Close() // as a machine without that server would
			continue
		}
		if !d.own(client, server) {
			return
		}
		var ways sync.WaitGroup
		ways.Go(func() { d.carry(client, server, &d.to) })
		ways.Go(func() { d.carry(server, client, &d.from) })
		d.running.Go(func() {
			ways.Wait()
			d.disown(client, server)
		})
	}
}

// own keeps the connections for close to end them; false if it has been called.
func (d *Delay) own(conns ...net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conns {
		if d.conns == nil {
			c.Close()
			continue
		}
		d.conns[c] = struct{}{}
	}
	return d.conns != nil
}

func (d *Delay) disown(conns ...net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(d.conns, c)
	}
}

// chunkUnderWay is what was read at once. Without bytes it is the end.
type chunkUnderWay struct {
	due   time.Time
	bytes []byte
}

// carry passes on one way of a connection until either end closes it.
func (d *Delay) carry(from, to net.Conn, delay *atomic.Int64) {
	underWay := make(chan chunkUnderWay, delayChunks)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(underWay)
		read(from, underWay, delay)
	})
	if err := d.write(to, underWay); err != nil {
		from.Close() // ends read
	}
	for range underWay { // what nobody takes any more, so that read can end
	}
	reader.Wait()
}

func read(from net.Conn, underWay chan<- chunkUnderWay, delay *atomic.Int64) {
	for {
		b := make([]byte, delayChunk)
		n, err := from.Read(b)
		underWay <- chunkUnderWay{time.Now().Add(time.Duration(delay.Load())), b[:n]}
		if err != nil {
			return
		}
	}
}

var errDelayClosed = errors.New("closed")

// write writes each chunk when it is due. The end is passed on as one.
func (d *Delay) write(to net.Conn, underWay <-chan chunkUnderWay) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for c := range underWay {
		timer.Reset(time.Until(c.due))
		select {
		case <-d.done:
			return errDelayClosed
		case <-timer.C:
		}
		if _, err := to.Write(c.bytes); err != nil {
			return err
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return io.ErrClosedPipe
}
