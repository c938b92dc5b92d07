package app_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// seedOf is TWINLOG_SEED, or another one each time. It is logged, to repeat a
// run that failed.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64N(1_000_000)
	if text := os.Getenv("TWINLOG_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("TWINLOG_SEED: %v", err)
		}
	}
	t.Logf("TWINLOG_SEED=%d", seed)
	return seed
}

func TestCrashOfTheWorkerThirtyTimesAndOfTheBrokerTwice(t *testing.T) {
	const kills = 30
	random := rand.New(rand.NewPCG(seedOf(t), 0))
	brokerDies := map[int]bool{3 + random.IntN(10): true, 16 + random.IntN(10): true}
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
	seed(t, l.a)
	l.start()
	ls := l.load("w", l.a, l.b)
	for i := range kills {
		if brokerDies[i] && l.kafka.Real() {
			l.killBroker(random, ls)
		}
		if random.IntN(3) == 0 { // anywhere in the start, which nothing outside can follow
			<-time.After(time.Duration(900+random.IntN(500)) * time.Millisecond)
		} else {
			l.applied([]string{"a-to-b", "b-to-a"}[random.IntN(2)], random.Int64N(800))
		}
		l.worker.Kill()
		if random.IntN(2) == 0 {
			ls.more(random.Int64N(1000))
		}
		l.worker.Start()
	}
	l.worker.AwaitReady(time.Minute)
	ls.more(100)
	ls.stop()
	l.settled(time.Minute)
	ls.exact()
}

// killBroker kills the broker under load, half the time the worker with it.
func (l *link) killBroker(random *rand.Rand, ls *loads) {
	l.t.Helper()
	l.applied("a-to-b", random.Int64N(500))
	l.kafka.Kill()
	ls.more(random.Int64N(1000))
	if random.IntN(2) == 0 {
		l.worker.Kill()
		l.worker.Start()
	}
	l.kafka.Restart()
	l.applied("b-to-a", 1)
}
