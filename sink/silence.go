package sink

import (
	"cmp"
	"sync"
	"time"

	"twinlog/internal/redis"
)

// mostSilence is for how long the target may neither send nor take a byte that
// is waited for: its machine may be gone without a word, or its Redis frozen.
// Redis is silent while it works, too: a FLUSHALL of a large site takes seconds,
// a unit of the allowed size much less. If it takes longer than this, it takes
// effect all the same, and the next session learns that from the mark.
const mostSilence = time.Minute

// watch says so when the target is silent, and gives the connection up when
// that lasts. It ends with stop.
func (s *Sink) watch(conn *redis.Conn) (stop func()) {
	most := cmp.Or(s.cfg.MostSilence, mostSilence)
	text := "target " + s.cfg.Target + " does not answer"
	said, done := false, make(chan struct{})
	unsay := func() {
		s.update(func(st *Status) {
			if said && st.Waiting == text {
				st.Waiting = ""
			}
		})
		said = false
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer unsay()
		tick := time.NewTicker(most / 60)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			switch silence := conn.Silence(); {
			case silence >= most:
				conn.GiveUp()
			case silence < most/12:
				unsay()
			case !said:
				said = true
				s.setWaiting(text)
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}
