package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// child is a process that this one started. It dies with this one where the
// system allows that.
type child struct {
	process *os.Process
	done    chan struct{} // closed when the process has ended and was waited for
	err     error         // how it ended; read it after done
}

// startChild starts cmd. The goroutine that waits for it keeps its thread,
// since the kernel ties the child's death to the thread that started it.
func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.done)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a group of its own, see kill
		dieWithParent(cmd.SysProcAttr)
		err := cmd.Start()
		if err == nil {
			c.process = cmd.Process
		}
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-c.done
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	return c, nil
}

// signal sends sig and reports nothing if the process has ended already.
func (c *child) signal(sig syscall.Signal) error {
	if err := c.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %v to process %d: %w", sig, c.process.Pid, err)
	}
	return nil
}

// kill ends the process as kill -9 does and waits for its end. The processes
// that it forked (a redis-server's BGSAVE) end with it: they would go on
// writing into the test's directory.
func (c *child) kill() error {
	err := syscall.Kill(-c.process.Pid, syscall.SIGKILL)
	<-c.done
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("killing process group %d: %w", c.process.Pid, err)
	}
	return nil
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// freeAddr returns a loopback address whose port nothing listens on.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("looking for a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().String()
}

// required ends a test that lacks what: skipped on a developer's machine,
// failed where CI runs, so that nothing goes unproved unnoticed.
func required(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatal(what)
	}
	tb.Skip(what)
}
