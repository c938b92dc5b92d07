package main_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"twinlog/internal/testkit"
)

func answers(port int) bool {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// nobody is an address at which nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// twinlog runs the program to its end.
func twinlog(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testkit.Program(t), args...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), talk.String()
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "twinlog.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// deadLink is a configuration of servers that are not there.
func deadLink(t *testing.T) string {
	t.Helper()
	return configFile(t, fmt.Sprintf("link: dead\nkafka: {brokers: [%q]}\nsites:\n  a: {redis: {addrs: [%q]}}\n  b: {redis: {addrs: [%q]}}\n"+
		"directions: [{from: a, to: b}]\nhttp: {listen: %q}\n", nobody(t), nobody(t), nobody(t), nobody(t)))
}

func TestExitCodesAndMessages(t *testing.T) {
	dead := deadLink(t)
	tests := []struct {
		name string
		args []string
		code int
		want string // in what is written
	}{
		{"help is no error", []string{"--help"}, 0, "twinlog demo"},
		{"the version is told", []string{"--version"}, 0, "twinlog version"},
		{"an unknown command is a usage error", []string{"dance"}, 2, "unknown command"},
		{"an unknown flag is a usage error", []string{"run", "--dance"}, 2, "--help"},
		{"a missing flag is a usage error", []string{"run"}, 2, "config"},
		{"a missing argument is a usage error", []string{"pause", "-c", dead}, 2, "accepts 1 arg"},
		{"a configuration that is not there is named", []string{"run", "-c", "nowhere.yml"}, 2, "nowhere.yml"},
		{"a misspelt key is named with its line", []string{"run", "-c", configFile(t, "lnk: x\n")}, 2, "1:1"},
		{"an unknown log level is a usage error", []string{"run", "-c", dead, "--log-level", "loud"}, 2, "use debug, info, warn or error"},
		{"an unknown item to ignore is a usage error", []string{"precheck", "-c", dead, "--ignore", "weather"}, 2, "weather"},
		{"an unknown direction is a usage error", []string{"tail", "-c", dead, "--direction", "b-to-a"}, 2, "a-to-b"},
		{"a worker that does not run is named with its address", []string{"status", "-c", dead}, 1, "no worker listens at http://127.0.0.1:"},
		{"a worker that cannot tell its conflicts is named too", []string{"conflicts", "-c", dead}, 1, "no worker listens at http://127.0.0.1:"},
		{"a pre-check that finds something says so", []string{"precheck", "-c", dead}, 3, "kafka-reachable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, talk := twinlog(t, tt.args...)
			if code != tt.code || !strings.Contains(out+talk, tt.want) {
				t.Errorf("exit code %d, want %d and %q in\n%s%s", code, tt.code, tt.want, out, talk)
			}
		})
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	for _, command := range []string{"run", "demo", "precheck", "status", "conflicts", "tail", "offsets list", "pause", "resume"} {
		code, out, _ := twinlog(t, append(strings.Fields(command), "--help")...)
		if code != 0 || !strings.Contains(out, "Examples:") {
			t.Errorf("%s --help: exit code %d, no example in\n%s", command, code, out)
		}
	}
}
