package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// ServerOptions says how a private redis-server is started.
type ServerOptions struct {
	Dir  string   // for its files; must exist
	Args []string // besides port, bind and dir
}

// Server is a private redis-server on a loopback port. It dies with the
// process that started it (on Linux).
type Server struct {
	addr    string
	process *os.Process
	done    chan struct{}
	err     error // how it ended; read it after done
}

// FindServer finds redis-server, or says how to install it.
func FindServer() (string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", fmt.Errorf("redis-server is not installed (Debian and Ubuntu: sudo apt-get install -y redis-server): %w", err)
	}
	return path, nil
}

const (
	startTimeout = 10 * time.Second
	stopTimeout  = 5 * time.Second
)

// StartServer starts a redis-server and waits until it answers.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	binary, err := FindServer()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("free address %s: %w", addr, err)
	}
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", o.Dir, "--logfile", filepath.Join(o.Dir, "redis.log"), "--daemonize", "no"}, o.Args...)
	s := &Server{addr: addr, done: make(chan struct{})}
	if err := s.start(exec.CommandContext(context.WithoutCancel(ctx), binary, args...)); err != nil {
		return nil, err
	}
	if err := s.await(ctx); err != nil {
		return nil, errors.Join(err, s.Kill())
	}
	return s, nil
}

// start runs cmd from a thread that lives as long as it: the kernel ties the
// child's death to the thread that started it.
func (s *Server) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the parent, which ends the server in order
	dieWithParent(cmd.SysProcAttr)
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(s.done)
		err := cmd.Start()
		if err == nil {
			s.process = cmd.Process
		}
		started <- err
		if err == nil {
			s.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	return nil
}

func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.answers(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for redis-server at %s to answer: %w", s.addr, ctx.Err())
		case <-s.done:
			return fmt.Errorf("redis-server ended at start: %w", s.err)
		case <-tick.C:
		}
	}
}

// answers tells whether this server, and no other on its port, serves.
func (s *Server) answers(ctx context.Context) bool {
	conn, err := Dial(ctx, Config{Addrs: []string{s.addr}})
	if err != nil {
		return false
	}
	defer conn.Close()
	info, err := Info(ctx, conn, "server")
	if err != nil || info["process_id"] != strconv.Itoa(s.process.Pid) {
		return false
	}
	reply, err := conn.Do(ctx, "PING") // -LOADING while it reads its files
	return err == nil && reply.Err() == nil
}

// Addr is the host:port that clients dial.
func (s *Server) Addr() string { return s.addr }

// Stop ends the server in good order, or by force if it takes too long.
func (s *Server) Stop() error {
	if err := s.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping redis-server %d: %w", s.process.Pid, err)
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-s.done:
		return nil
	case <-timer.C:
		return s.Kill()
	}
}

// Kill ends the server as kill -9 does.
func (s *Server) Kill() error {
	if err := s.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing redis-server %d: %w", s.process.Pid, err)
	}
	<-s.done
	return nil
}

func freeAddr(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
