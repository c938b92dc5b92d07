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
		b := make([]byte, 4)
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "ping" {
			t.Fatalf("%q %v", b, err)
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
