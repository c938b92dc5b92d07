package testkit

import (
	"testing"
	"time"
)

func TestClockStepsWhileTheServerRuns(t *testing.T) {
	r, clock := StartRedisWithClock(t)
	ctx := t.Context()
	run(t, r.Client(), "SET short v PX 60000\nSET long v PX 7200000")
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour} {
		clock.Step(ahead)
		now, err := r.Client().Time(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		if off := now.Sub(time.Now().Add(ahead)); off.Abs() > time.Minute {
			t.Errorf("stepped by %v the server's clock is off by %v", ahead, off)
		}
		left, err := r.Client().Exists(ctx, "short", "long").Result()
		if want := map[time.Duration]int64{0: 2, time.Hour: 1, -time.Hour: 1}[ahead]; err != nil || left != want {
			t.Errorf("stepped by %v: %d keys are left, want %d (%v)", ahead, left, want, err)
		}
	}
}
