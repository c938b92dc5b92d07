package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cached returns the path of name/what in the user's cache. Where it is
// missing, fill makes it, at a path that is then moved into place; dir is
// name's directory, for what fill needs besides. Test binaries that come at
// the same time wait for one another.
func cached(name, what string, fill func(dir, path string) error) (path string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for the cache directory: %w", err)
	}
	dir := filepath.Join(cache, "twinlog", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the cache directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("locking the cache directory: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("locking the cache directory: %w", err)
	}
	path = filepath.Join(dir, what)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return path, err
	}
	partial := path + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", fmt.Errorf("clearing the cache directory: %w", err)
	}
	if err := fill(dir, partial); err != nil {
		return "", err
	}
	return path, os.Rename(partial, path)
}

// runTool runs a tool in a directory. Its error has the end of what the tool said.
func runTool(ctx context.Context, dir, tool string, args ...string) error {
	_, err := toolOutput(ctx, dir, tool, args...)
	return err
}

// toolOutput runs a tool as runTool does and returns what it wrote to its output.
func toolOutput(ctx context.Context, dir, tool string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir = dir
	var said tailBuffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running %s: %w\n%s%s", filepath.Base(tool), err, out[max(0, len(out)-shownLog):], said.end)
	}
	return string(out), nil
}

// tailBuffer keeps the end of what is written to it.
type tailBuffer struct{ end []byte }

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.end = append(b.end, p...)
	b.end = b.end[max(0, len(b.end)-shownLog):]
	return len(p), nil
}
