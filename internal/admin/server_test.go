package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestListenNamesWhatIsWrongWithTheAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name string
		addr string
		want []string
	}{
		{"taken", taken.Addr().String(), []string{"http.listen", taken.Addr().String(), "in use", "a free address"}},
		{"without port", "127.0.0.1", []string{"http.listen", "127.0.0.1", "missing port", "host:port"}},
		{"no port number", "127.0.0.1:http-alt-none", []string{"http.listen", "http-alt-none", "host:port"}},
		{"of another machine", "192.0.2.1:8083", []string{"http.listen", "192.0.2.1:8083", "no address of this machine", ":8083"}},
		{"empty", "", []string{"http.listen is empty", "127.0.0.1:8083"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := Listen(test.addr, twoWay(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			if err == nil {
				s.Close(t.Context())
				t.Fatalf("listens at %s", s.Addr())
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not name %q", err, part)
				}
			}
		})
	}
}

func TestCloseFreesTheAddress(t *testing.T) {
	t.Run("of a server that never served", func(t *testing.T) {
		s, err := Listen("127.0.0.1:0", twoWay(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Serve(); err != nil {
			t.Errorf("serving after Close: %v", err)
		}
		refused(t, s.Addr())
	})
	t.Run("and ends Serve without an error", func(t *testing.T) {
		s := serve(t, twoWay())
		ask(t, s, "GET", "/status", nil)
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		refused(t, s.Addr())
	})
}

func refused(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting after Close: %v", err)
	}
}

// blocked starts a request that the worker does not finish by itself.
func blocked(t *testing.T, f *fakeWorker, s *Server) <-chan int {
	t.Helper()
	f.entered = make(chan struct{})
	code := make(chan int, 1)
	go func() {
		code <- func() int {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Addr()+"/connectors/source-a/restart", nil)
			if err != nil {
				return -1
			}
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			if err != nil {
				return 0 // cut off
			}
			defer resp.Body.Close()
			io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}()
	}()
	<-f.entered
	return code
}

func TestCloseLetsARequestInFlightEnd(t *testing.T) {
	f := twoWay()
	f.block = make(chan struct{})
	s := serve(t, f)
	code := blocked(t, f, s)
	closed := make(chan error, 1)
	go func() { closed <- s.Close(t.Context()) }()
	close(f.block)
	if got := <-code; got != http.StatusNoContent {
		t.Errorf("the request in flight got %d", got)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestCloseCutsOffWhatDoesNotEndInTime(t *testing.T) {
	f := twoWay()
	f.block = make(chan struct{})
	s := serve(t, f)
	code := blocked(t, f, s)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	// Cut off, or told so if the answer was faster than the cut.
	if got := <-code; got != 0 && got != http.StatusServiceUnavailable {
		t.Errorf("the request in flight got %d", got)
	}
}

func TestWhatChangesSomethingOutlivesItsClientButNotTheServer(t *testing.T) {
	s := serve(t, twoWay())
	gone, leave := context.WithCancel(t.Context())
	leave()
	r, err := http.NewRequestWithContext(gone, http.MethodPost, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := s.steering(r)
	defer cancel()
	if err := ctx.Err(); err != nil {
		t.Errorf("cut off with its client: %v", err)
	}
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > answerTimeout {
		t.Errorf("may take until %v", deadline)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
}
