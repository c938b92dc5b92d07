//go:build !linux

package testkit

import (
	"errors"
	"testing"
)

// Disk is a small file system of a test's own, which can be full.
type Disk struct{}

// MountDisk mounts no disk here.
func MountDisk(testing.TB, string, int64) (*Disk, error) { return nil, errors.ErrUnsupported }

// Fill does nothing here.
func (*Disk) Fill(int64) {}

// Empty does nothing here.
func (*Disk) Empty() {}
