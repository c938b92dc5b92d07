package testkit

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestDiskIsFullAndEmptyAgain(t *testing.T) {
	dir := t.TempDir()
	d, err := MountDisk(t, dir, 1<<20)
	if err != nil {
		t.Skip(err) // only root may
	}
	d.Fill(64 << 10)
	file, half := filepath.Join(dir, "file"), make([]byte, 512<<10)
	if err := os.WriteFile(file, half, 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing to a full disk: %v", err)
	}
	d.Empty()
	if err := os.WriteFile(file, half, 0o600); err != nil {
		t.Error(err)
	}
}
