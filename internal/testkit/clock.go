package testkit

import (
	_ "embed"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Clock is the wall clock of a redis-server, which a test may step while the
// server runs.
type Clock struct {
	tb   testing.TB
	file *os.File
}

//go:embed testdata/clock.c
var clockSource []byte

// StartRedisWithClock starts a redis-server whose wall clock can be stepped.
// It takes a C compiler to make what is loaded into the server: faketime does
// not work with a server that has jemalloc.
func StartRedisWithClock(tb testing.TB, args ...string) (*Redis, *Clock) {
	tb.Helper()
	dir := tb.TempDir()
	c := &Clock{tb: tb}
	var err error
	if c.file, err = os.Create(filepath.Join(dir, "ahead")); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.file.Close() })
	c.Step(0)
	env := []string{"LD_PRELOAD=" + buildLibrary(tb, dir, "clock", clockSource), "TWINLOG_TEST_CLOCK=" + c.file.Name()}
	return startRedis(tb, installedRedis(tb), env, args), c
}

// Step sets how far the server's clock is ahead of this machine's, at once.
func (c *Clock) Step(ahead time.Duration) {
	c.tb.Helper()
	seconds := binary.NativeEndian.AppendUint64(nil, uint64(int64(ahead/time.Second)))
	if _, err := c.file.WriteAt(seconds, 0); err != nil {
		c.tb.Fatal(err)
	}
}
