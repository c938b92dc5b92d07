package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

func TestAPrivateServerIsStartedAndStopped(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*Server) error
	}{
		{"in good order", (*Server).Stop},
		{"by force", (*Server).Kill},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := StartServer(t.Context(), ServerOptions{Dir: t.TempDir(), Args: []string{"--save", "", "--maxmemory", "12345678"}})
			if err != nil {
				t.Fatal(err)
			}
			c := dial(t, Config{Addrs: []string{s.Addr()}})
			if info, err := Info(t.Context(), c, "memory"); err != nil || info["maxmemory"] != "12345678" {
				t.Errorf("maxmemory %s, error %v", info["maxmemory"], err)
			}
			if err := tt.end(s); err != nil {
				t.Error(err)
			}
			if _, err := Dial(t.Context(), Config{Addrs: []string{s.Addr()}}); !Retryable(err) {
				t.Errorf("it still answers: %v", err)
			}
			if err := errors.Join(s.Stop(), s.Kill()); err != nil {
				t.Errorf("ending it again: %v", err)
			}
		})
	}
}

func TestAPrivateServerOutlivesTheCtxOfItsStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := StartServer(ctx, ServerOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	cancel()
	c := dial(t, Config{Addrs: []string{s.Addr()}})
	if reply, err := c.Do(t.Context(), "PING"); err != nil || string(reply.Str) != "PONG" {
		t.Errorf("reply %+v, error %v", reply, err)
	}
}

func TestAServerThatCannotStartSaysSo(t *testing.T) {
	if _, err := StartServer(t.Context(), ServerOptions{Dir: t.TempDir(), Args: []string{"--no-such-option", "1"}}); err == nil || !strings.Contains(err.Error(), "redis-server ended at start") {
		t.Errorf("error %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := StartServer(t.Context(), ServerOptions{Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("error %v", err)
	}
}

// parentEnv makes the test binary start a server in the directory it names,
// say which process it is, and wait to be killed.
const parentEnv = "TWINLOG_TEST_REDIS_PARENT"

func parent() {
	s, err := StartServer(context.Background(), ServerOptions{Dir: os.Getenv(parentEnv)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, s.process.Pid)
	select {}
}

func TestAPrivateServerDiesWithItsParent(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentEnv+"="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("redis-server %d: %v", pid, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	testkit.Eventually(t, 10*time.Second, func() error {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && !strings.Contains(string(status), "Z (zombie)") {
			return fmt.Errorf("redis-server %d lives", pid)
		}
		return nil
	})
}
