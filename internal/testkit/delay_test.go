package testkit

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func TestDelayIsAddedEachWay(t *testing.T) {
	d := StartDelay(t, "127.0.0.1:0", echo(t))
	c := dial(t, d.Addr())
	for _, oneWay := range []time.Duration{0, 50 * time.Millisecond, 0} {
		d.Set(oneWay)
		started := time.Now()
		if err := echoed(c, "ping"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took < 2*oneWay || took > 2*oneWay+time.Second {
			t.Errorf("%v one way: there and back took %v", oneWay, took)
		}
	}
}

// What is under way does not make what follows wait longer: a distance takes
// no bandwidth. All of it arrives, in order, before the end.
func TestDelayCarriesAllAndThenTheEnd(t *testing.T) {
	d := StartDelay(t, "127.0.0.1:0", echo(t))
	d.Set(100 * time.Millisecond)
	c := dial(t, d.Addr())
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	started := time.Now()
	go func() {
		c.Write(sent)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("%d bytes took %v", len(sent), took)
	}
}

func TestDelayEndsWithItsServer(t *testing.T) {
	d := StartDelay(t, "127.0.0.1:0", freeAddr(t))
	c := dial(t, d.Addr())
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection to a server that is not there: %v", err)
	}
}

func TestDelayOfOneWayOnly(t *testing.T) {
	d := StartDelay(t, "127.0.0.1:0", echo(t))
	const far = 400 * time.Millisecond
	for _, ways := range [][2]time.Duration{{far, 0}, {0, far}} {
		d.SetWays(ways[0], ways[1])
		started := time.Now()
		if err := echoed(dial(t, d.Addr()), "ping"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took < far || took > 2*far {
			t.Errorf("%v: there and back took %v", ways, took)
		}
	}
}

func echoed(c net.Conn, text string) error {
	if _, err := c.Write([]byte(text)); err != nil {
		return err
	}
	b := make([]byte, len(text))
	_, err := io.ReadFull(c, b)
	return err
}

// What is under way when a connection is cut never arrives.
func TestDelayIsCutAndLedElsewhere(t *testing.T) {
	d := StartDelay(t, "127.0.0.1:0", freeAddr(t))
	d.Lead(echo(t))
	c := dial(t, d.Addr())
	if err := echoed(c, "ping"); err != nil {
		t.Fatal(err)
	}
	d.SetWays(time.Hour, 0)
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	d.Set(0)
	d.Cut()
	if err := echoed(c, "ping"); err == nil {
		t.Error("a connection that was cut answers")
	}
	if err := echoed(dial(t, d.Addr()), "ping"); err != nil {
		t.Errorf("a connection made behind the cut: %v", err)
	}
}
