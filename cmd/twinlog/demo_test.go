package main_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// demo runs `twinlog demo` with a temporary directory of its own.
type demo struct {
	t    *testing.T
	tmp  string
	cmd  *exec.Cmd
	out  *bufio.Reader
	text strings.Builder
}

func startDemo(t *testing.T, tmp string, args ...string) *demo {
	t.Helper()
	d := &demo{t: t, tmp: tmp, cmd: exec.Command(testkit.Program(t), append([]string{"demo"}, args...)...)}
	d.cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	d.cmd.Stderr = os.Stderr
	pipe, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.out = bufio.NewReader(pipe)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // it has ended, unless the test failed
		_ = d.cmd.Wait()
	})
	return d
}

// until reads the demo's output up to a line with text. The demo bounds its
// own time.
func (d *demo) until(text string) {
	d.t.Helper()
	for {
		line, err := d.out.ReadString('\n')
		d.text.WriteString(line)
		if err != nil {
			d.t.Fatalf("waiting for %q: %v\n%s", text, err, d.text.String())
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

func (d *demo) dirs() []string {
	d.t.Helper()
	found, err := filepath.Glob(filepath.Join(d.tmp, "*"))
	if err != nil {
		d.t.Fatal(err)
	}
	return found
}

var portOfSite = regexp.MustCompile(`redis-cli -p (\d+)`)

// ports are those of the two redis-servers.
func (d *demo) ports() []int {
	d.t.Helper()
	var ports []int
	for _, m := range portOfSite.FindAllStringSubmatch(d.text.String(), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			d.t.Fatal(err)
		}
		ports = append(ports, n)
	}
	if len(ports) < 2 {
		d.t.Fatalf("no ports in\n%s", d.text.String())
	}
	return ports[:2]
}

func (d *demo) serversAreGone() {
	d.t.Helper()
	for _, port := range d.ports() {
		testkit.Eventually(d.t, 10*time.Second, func() error {
			if answers(port) {
				return fmt.Errorf("a server still answers at port %d", port)
			}
			return nil
		})
	}
}

func TestDemoOnceShowsARoundTripAndLeavesNothing(t *testing.T) {
	d := startDemo(t, t.TempDir(), "--once")
	d.until("both directions work")
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	for _, want := range []string{"a → b", "b → a", "mark at a", "mark at b"} {
		if !strings.Contains(d.text.String(), want) {
			t.Errorf("no %q in\n%s", want, d.text.String())
		}
	}
	d.serversAreGone()
	if left := d.dirs(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDemoLeavesNothingAfterCtrlC(t *testing.T) {
	d := startDemo(t, t.TempDir())
	d.until("Ctrl-C")
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	d.until("stopping")
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	d.serversAreGone()
	if left := d.dirs(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDemoThatWasKilledTakesItsServersAlongAndTheNextCleansUp(t *testing.T) {
	tmp := t.TempDir()
	killed := startDemo(t, tmp)
	killed.until("Ctrl-C")
	if err := killed.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed.serversAreGone()
	left := killed.dirs()
	if len(left) != 1 {
		t.Fatalf("want the one directory of the killed demo, got %v", left)
	}
	next := startDemo(t, tmp, "--once")
	next.until("removed the directories of 1 demos")
	next.until("both directions work")
	if err := next.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if left := next.dirs(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
