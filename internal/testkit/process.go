package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a twinlog worker in a process of its own, to be killed and
// started again. Its log is one file over all starts.
type Process struct {
	tb     testing.TB
	binary string
	config string
	addr   string
	log    string
	ignore []string // arguments of the worker
	http   *http.Client
	child  *child
}

// exitTimeout is how long a worker may take to end: the drain's 10 s and some.
const exitTimeout = 20 * time.Second

// NewProcess prepares a worker with a configuration file of the given YAML,
// to which it adds `http` with a free port and, unless it has one, `spool` in a
// directory of the test. It starts nothing yet.
func NewProcess(tb testing.TB, yaml string) *Process {
	tb.Helper()
	return newProcess(tb, Program(tb), yaml)
}

func newProcess(tb testing.TB, binary, yaml string) *Process {
	tb.Helper()
	dir := tb.TempDir()
	p := &Process{
		tb: tb, binary: binary, addr: freeAddr(tb),
		config: filepath.Join(dir, "twinlog.yml"), log: filepath.Join(dir, "twinlog.log"),
		http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	yaml += fmt.Sprintf("\nhttp: {listen: %q}\n", p.addr)
	if !strings.Contains(yaml, "\nspool:") {
		yaml += fmt.Sprintf("spool: {dir: %q}\n", filepath.Join(dir, "spool"))
	}
	if err := os.WriteFile(p.config, []byte(yaml), 0o600); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			tb.Logf("log of the worker:\n%s", tail(p.log))
		}
	})
	return p
}

// Config is the path of the configuration file.
func (p *Process) Config() string { return p.config }

// Addr is the host:port of the worker's HTTP listener.
func (p *Process) Addr() string { return p.addr }

// LogFile is the path of what the worker wrote to its output, all starts.
func (p *Process) LogFile() string { return p.log }

// Failpoint makes the environment that kills a worker, as kill -9 does, the
// nth time it passes a point.
func Failpoint(name string, n int) string { return fmt.Sprintf("TWINLOG_FAILPOINT=%s:%d", name, n) }

// Ignore has the worker start although an item of the pre-check failed.
func (p *Process) Ignore(item string) { p.ignore = append(p.ignore, "--ignore", item) }

// Start starts the worker with env added to the environment. It does not
// wait until the worker is ready.
func (p *Process) Start(env ...string) {
	p.tb.Helper()
	if p.Running() {
		p.tb.Fatal("the worker runs already")
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.tb.Fatal(err)
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(p.binary, append([]string{"run", "-c", p.config}, p.ignore...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	if p.child, err = startChild(cmd); err != nil {
		p.tb.Fatal(err)
	}
}

// Pid is the process id of the running worker.
func (p *Process) Pid() int { return p.child.process.Pid }

// Running tells whether the worker was started and has not ended.
func (p *Process) Running() bool { return p.child != nil && !p.child.ended() }

// Kill ends the worker as kill -9 does.
func (p *Process) Kill() {
	p.tb.Helper()
	if p.child == nil {
		return
	}
	if err := p.child.kill(); err != nil {
		p.tb.Error(err)
	}
}

// Signal sends sig to the worker.
func (p *Process) Signal(sig syscall.Signal) {
	p.tb.Helper()
	if err := p.child.signal(sig); err != nil {
		p.tb.Error(err)
	}
}

// Stop ends the worker in good order, as SIGTERM does, and returns its exit
// code.
func (p *Process) Stop() int {
	p.tb.Helper()
	p.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), exitTimeout)
	defer cancel()
	code, err := p.Wait(ctx)
	if err != nil {
		p.tb.Fatal(err)
	}
	return code
}

// Wait waits until the worker has ended and returns its exit code: -1 if a
// signal ended it, such as a failpoint's.
func (p *Process) Wait(ctx context.Context) (code int, err error) {
	select {
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for the worker to end: %w", ctx.Err())
	case <-p.child.done:
		return exitCode(p.child.err)
	}
}

// AwaitReady waits until /readyz answers 200. A worker that ends before ends
// the test.
func (p *Process) AwaitReady(timeout time.Duration) {
	p.tb.Helper()
	Eventually(p.tb, timeout, func() error {
		if !p.Running() {
			p.tb.Fatalf("the worker ended before it was ready: %v", p.child.err)
		}
		code, body, err := p.Get("/readyz")
		if err != nil || code == http.StatusOK {
			return err
		}
		return fmt.Errorf("/readyz: %d %s", code, body)
	})
}

// Get asks the worker's HTTP listener for a path.
func (p *Process) Get(path string) (code int, body []byte, err error) {
	return p.do(http.MethodGet, path)
}

// Put sends an empty PUT, as the Connect API's pause and resume want it.
func (p *Process) Put(path string) (code int, body []byte, err error) {
	return p.do(http.MethodPut, path)
}

func (p *Process) do(method, path string) (int, []byte, error) {
	r, err := http.NewRequestWithContext(context.Background(), method, "http://"+p.addr+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("asking for %s: %w", path, err)
	}
	response, err := p.http.Do(r)
	if err != nil {
		return 0, nil, fmt.Errorf("asking for %s: %w", path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return 0, nil, fmt.Errorf("reading the answer to %s: %w", path, err)
	}
	return response.StatusCode, body, nil
}

// Run runs another command of the program, such as "status", with the same
// configuration: args get -c FILE added. It returns the exit code and what
// the command wrote.
func (p *Process) Run(ctx context.Context, args ...string) (code int, stdout, stderr []byte) {
	p.tb.Helper()
	cmd := exec.CommandContext(ctx, p.binary, append(args, "-c", p.config)...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	code, err := exitCode(cmd.Run())
	if err != nil {
		p.tb.Fatalf("running twinlog %v: %v", args, err)
	}
	return code, out.Bytes(), talk.Bytes()
}

// exitCode tells how a process ended from the error of waiting for it.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	}
	return 0, err
}
