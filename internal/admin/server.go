package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits that keep a slow or hostile client from holding the listener.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	idleTimeout       = time.Minute
	maxHeaderBytes    = 32 << 10
	maxBodyBytes      = 1 << 20

	// answerTimeout bounds what a request may wait for: a connector's end, a
	// pre-check. The answer must still be written behind it.
	answerTimeout = 30 * time.Second
	writeTimeout  = answerTimeout + 10*time.Second
)

// Server answers HTTP for a worker. Make it with Listen, run it with Serve.
type Server struct {
	worker   Worker
	log      *slog.Logger
	listener net.Listener
	http     *http.Server

	once    sync.Once
	closing chan struct{} // closed when requests in flight must end
}

// Listen binds addr, the http.listen of the configuration, so that an address
// that cannot be had ends the program before anything else has begun.
// Requests wait until Serve is called.
func Listen(addr string, w Worker, registry *prometheus.Registry, log *slog.Logger) (*Server, error) {
	listener, err := bind(addr)
	if err != nil {
		return nil, err
	}
	s := &Server{worker: w, log: log, listener: listener, closing: make(chan struct{})}
	s.http = &http.Server{
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	s.http.Handler = s.routes(registry)
	return s, nil
}

func bind(addr string) (net.Listener, error) {
	if addr == "" {
		return nil, errors.New("http.listen is empty: set it to host:port, as in 127.0.0.1:8083")
	}
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http.listen: %s is no address to listen at: %w; set it to host:port, as in 127.0.0.1:8083", addr, err)
	}
	listener, err := net.ListenTCP("tcp", tcp)
	switch {
	case err == nil:
		return listener, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("http.listen: %s is in use, perhaps by another twinlog: end that program or set http.listen to a free address: %w", addr, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("http.listen: %s is no address of this machine: set http.listen to one, or to :%d for all of them: %w", addr, tcp.Port, err)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("http.listen: this user may not listen at %s: set http.listen to a port above 1023: %w", addr, err)
	default:
		return nil, fmt.Errorf("http.listen: listening at %s: %w", addr, err)
	}
}

// Addr is the address that the listener is bound to.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Serve answers requests until Close. It returns nil after Close.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving HTTP at %s: %w", s.Addr(), err)
	}
	return nil
}

// Close accepts no more requests and lets those in flight end. What has not
// ended when ctx is done is cut off; that is not an error.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	s.once.Do(func() { close(s.closing) })
	if ctx.Err() != nil {
		err = s.http.Close()
	}
	// A server that never served does not know its listener.
	if cerr := s.listener.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	if err != nil {
		return fmt.Errorf("closing the HTTP listener at %s: %w", s.Addr(), err)
	}
	return nil
}

// steering is the context of a request that changes something. It outlives
// its client, since a restart that is left half done is a stop.
func (s *Server) steering(r *http.Request) (context.Context, context.CancelFunc) {
	return s.bounded(context.WithoutCancel(r.Context()))
}

// bounded ends with answerTimeout, and when Close cuts off what is in flight.
func (s *Server) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
