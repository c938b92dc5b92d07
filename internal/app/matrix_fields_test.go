//go:build matrix

package app_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

const (
	fieldRounds = 6  // hashes
	roundFields = 40 // of each
)

// Each field expires at the site that set it, and at that moment is written
// again: there, at the other site, or at both. The removal that the expiry
// sends may meet the new field anywhere; it must take none (G8).
func TestMatrixFieldsThatAreRefreshedAsTheyExpireAreNotLost(t *testing.T) {
	for _, p := range []pair{{a: testkit.Redis86, b: testkit.Redis86}, {a: testkit.Valkey91, b: testkit.Valkey91}, {a: testkit.Redis86, b: testkit.Valkey91}} {
		t.Run(p.String(), func(t *testing.T) {
			l := refreshFields(t, p)
			l.settled(30 * time.Second)
			for round := range fieldRounds {
				l.holds(fmt.Sprintf("HLEN h%d", round), fmt.Sprint(roundFields))
				for i := range roundFields {
					if i%3 != 2 {
						l.holds(fmt.Sprintf("HGET h%d f%d", round, i), []string{"b", "a"}[i%3])
					}
				}
			}
		})
	}
}

// Without the rules of two living sites the same loses fields, so it is worth
// something that it does not.
func TestMatrixFieldsAreLostWithoutTheRules(t *testing.T) {
	l := refreshFields(t, pair{a: testkit.Redis86, b: testkit.Redis86}, "TWINLOG_RULES=off")
	testkit.Eventually(t, 30*time.Second, func() error {
		left := int64(0)
		for round := range fieldRounds {
			left += l.a.Client().HLen(t.Context(), fmt.Sprintf("h%d", round)).Val() + l.b.Client().HLen(t.Context(), fmt.Sprintf("h%d", round)).Val()
		}
		if left == 2*fieldRounds*roundFields {
			return errors.New("no field is lost")
		}
		return nil
	})
}

func refreshFields(t *testing.T, p pair, env ...string) *link {
	t.Helper()
	l := newLink(t, p.options())
	l.record(l.siteA(), l.siteB())
	l.worker.Start(env...)
	l.worker.AwaitReady(time.Minute)
	sites := []site{{l.a, "a"}, {l.b, "b"}}
	for round := range fieldRounds {
		key := fmt.Sprintf("h%d", round)
		origin := sites[round%2]
		now := origin.Client().Time(t.Context()).Val()
		expiry := func(i int) time.Time { return now.Add(time.Duration(400+10*i) * time.Millisecond) }
		for i := range roundFields {
			client(t, origin.Redis, fmt.Sprintf("HSETEX %s PXAT %d FIELDS 1 f%d old", key, expiry(i).UnixMilli(), i))
		}
		for i := range roundFields {
			awaitClock(t, origin, expiry(i))
			for at, s := range sites {
				if i%3 != at { // 0: b, 1: a, 2: both
					client(t, s.Redis, fmt.Sprintf("HSETEX %s PX 600000 FIELDS 1 f%d %s", key, i, s.name))
				}
			}
		}
	}
	return l
}
