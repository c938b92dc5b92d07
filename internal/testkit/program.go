package testkit

import (
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// program builds cmd/twinlog once per test binary.
var program = sync.OnceValues(buildProgram)

// buildProgram builds the program with failpoints, into the user's cache: the
// tests of several packages share the file, and each build of it is put in
// place at once. TWINLOG_TEST_RACE=1 adds the race detector.
func buildProgram() (path string, err error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for a cache directory: %w", err)
	}
	dir := filepath.Join(cache, "twinlog", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the cache directory: %w", err)
	}
	args := []string{"build", "-buildvcs=false", "-tags", "failpoints"}
	name := fmt.Sprintf("twinlog-failpoints-%08x", crc32.ChecksumIEEE([]byte(root))) // other checkouts have theirs
	if os.Getenv("TWINLOG_TEST_RACE") == "1" {
		args, name = append(args, "-race"), name+"-race"
	}
	fresh, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", fmt.Errorf("making a build directory: %w", err)
	}
	defer os.RemoveAll(fresh)
	built := filepath.Join(fresh, name)
	cmd := exec.Command("go", append(args, "-o", built, "./cmd/twinlog")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building cmd/twinlog: %w\n%s", err, out)
	}
	path = filepath.Join(dir, name)
	if err := os.Rename(built, path); err != nil {
		return "", fmt.Errorf("putting the program in place: %w", err)
	}
	return path, nil
}

// moduleRoot is the directory of go.mod.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("looking for go.mod: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// Program builds the twinlog program, with failpoints, and returns its path.
func Program(tb testing.TB) string {
	tb.Helper()
	path, err := program()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}
