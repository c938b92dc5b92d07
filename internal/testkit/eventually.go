package testkit

import (
	"testing"
	"time"
)

// pollEvery is how often a condition is asked again.
const pollEvery = 10 * time.Millisecond

// Eventually asks condition again and again until it returns nil, and ends
// the test with its last error if it has not within timeout.
func Eventually(tb testing.TB, timeout time.Duration, condition func() error) {
	tb.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			tb.Fatalf("still not true after %v: %v", timeout, err)
		case <-tick.C:
		}
	}
}
