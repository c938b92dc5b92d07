//go:build failpoints

package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// failpoint returns a hook that kills this process, as kill -9 does, the nth
// time it passes a point: TWINLOG_FAILPOINT=<point>[:n]. Only binaries built
// for crash tests (-tags failpoints) have it.
func failpoint() func(point string) {
	name, count, _ := strings.Cut(os.Getenv("TWINLOG_FAILPOINT"), ":")
	if name == "" {
		return nil
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil {
		n = 1
	}
	var passed atomic.Int64
	return func(point string) {
		if point == name && passed.Add(1) == n {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // nothing runs on while the signal is delivered
		}
	}
}
