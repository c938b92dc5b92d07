package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a small file system of a test's own, which can be full.
type Disk struct {
	tb  testing.TB
	dir string
}

// MountDisk mounts a disk of so many bytes at an empty directory, until the
// test ends. That takes root; anyone else gets an error.
func MountDisk(tb testing.TB, dir string, size int64) (*Disk, error) {
	tb.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		return nil, fmt.Errorf("mounting a disk at %s: %w", dir, err)
	}
	tb.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			tb.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return &Disk{tb, dir}, nil
}

func (d *Disk) filler() string { return filepath.Join(d.dir, "filler") }

// Fill leaves so many bytes of the disk free, if more are.
func (d *Disk) Fill(left int64) {
	d.tb.Helper()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &disk); err != nil {
		d.tb.Fatal(err)
	}
	free := int64(disk.Bavail) * disk.Bsize
	if err := os.WriteFile(d.filler(), make([]byte, max(free-left, 0)), 0o600); err != nil {
		d.tb.Fatal(err)
	}
}

// Empty gives back what Fill took.
func (d *Disk) Empty() {
	d.tb.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.tb.Fatal(err)
	}
}
