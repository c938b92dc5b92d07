package kafka

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before trying again: doubling from Min to
// Max, with jitter, so that many do not come back at the same moment.
type Backoff struct{ Min, Max time.Duration }

// Wait blocks before attempt number attempt (0 is the first retry), or until
// ctx is done and returns its error.
func (b Backoff) Wait(ctx context.Context, attempt int) error {
	pause := b.Max
	if attempt < 20 && b.Min<<attempt < b.Max {
		pause = b.Min << attempt
	}
	pause = pause/2 + rand.N(pause/2+1)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
