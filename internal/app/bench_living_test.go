package app_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
)

// The benchmarks here measure what the rules for two living sites cost: a
// two-way link beside a one-way link in the same run.

// Each measurement makes so many writes, and is made so often, by turns with
// what it is compared with: the best counts.
const (
	livingWrites = 500_000
	livingTries  = 3
)

// removing are the shares of DEL in the load, of a hundred.
var removing = []int{0, 10}

// disjoint writes keys of one site alone; with deletions so many of a hundred
// are DEL of a key written before.
func disjoint(prefix string, deletions int) func(b []byte, i int) []byte {
	return func(b []byte, i int) []byte {
		if i%100 < deletions {
			return appendCommand(b, "DEL", prefix+key(i-50_000))
		}
		return appendCommand(b, "SET", prefix+key(i), hundredBytes)
	}
}

// overlapping is disjoint, but that one write of a hundred is an INCR or SET
// of one of the few keys that both sites write.
func overlapping(prefix string) func(b []byte, i int) []byte {
	alone := disjoint(prefix, 0)
	return func(b []byte, i int) []byte {
		if i%100 != 0 {
			return alone(b, i)
		}
		hot := "hot:" + strconv.Itoa(i/100%100)
		if i%200 == 0 {
			return appendCommand(b, "SET", hot, "1")
		}
		return appendCommand(b, "INCR", hot)
	}
}

// BenchmarkLivingDisjoint: both sites write, no key at both.
func BenchmarkLivingDisjoint(b *testing.B) {
	for _, deletions := range removing {
		b.Run(fmt.Sprintf("%d_percent_DEL", deletions), func(b *testing.B) {
			for range b.N {
				oneWay, twoWay := newBenchLink(b, oneWay), newBenchLink(b, twoWay)
				alone, same, both := 0.0, 0.0, 0.0
				for range livingTries {
					alone = max(alone, oneWay.written(disjoint("a:", deletions), nil))
					same = max(same, twoWay.written(disjoint("a:", deletions), nil))
					both = max(both, twoWay.written(disjoint("a:", deletions), disjoint("b:", deletions)))
				}
				b.ReportMetric(alone, "one-way-events/s")
				b.ReportMetric(same, "two-way-events/s")
				b.ReportMetric(both, "both-write-events/s")
				b.ReportMetric(same/alone, "two-way/one-way")
				b.ReportMetric(both/alone, "both-write/one-way")
				b.ReportMetric(twoWay.metric("twinlog_source_repaired_total"), "r-events")
				b.ReportMetric(twoWay.metric("twinlog_sink_fence_retries_total"), "fence-retries")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// BenchmarkLivingOverlap: one write of a hundred is of a key that both write.
func BenchmarkLivingOverlap(b *testing.B) {
	for range b.N {
		l := newBenchLink(b, twoWay)
		alone, hot := 0.0, 0.0
		for range livingTries {
			alone = max(alone, l.written(disjoint("a:", 0), disjoint("b:", 0)))
			hot = max(hot, l.written(overlapping("a:"), overlapping("b:")))
		}
		b.ReportMetric(alone, "disjoint-events/s")
		b.ReportMetric(hot, "overlap-events/s")
		b.ReportMetric(hot/alone, "overlap/disjoint")
		b.ReportMetric(l.metric("twinlog_source_repaired_total"), "r-events")
		b.ReportMetric(l.metric("twinlog_sink_fence_retries_total"), "fence-retries")
		b.ReportMetric(0, "ns/op")
		l.a.Equal(l.b, time.Minute, testkit.CompareOptions{Grace: grace})
	}
}

func newBenchLink(b *testing.B, directions string) *link {
	b.Helper()
	args := []string{"--repl-backlog-size", "512mb", "--client-output-buffer-limit", "replica 1gb 1gb 0"}
	l := newLink(b, linkOptions{directions: directions, argsA: args, argsB: args})
	l.run()
	return l
}

// written makes livingWrites writes, half of them at b if atB is given, and
// returns how many of all reached the other site a second.
func (l *link) written(atA, atB func([]byte, int) []byte) float64 {
	l.t.Helper()
	started := time.Now()
	if atB == nil {
		writeAll(l.t, l.a.Addr(), livingWrites, atA)
	} else {
		var g sync.WaitGroup
		g.Go(func() { writeAll(l.t, l.a.Addr(), livingWrites/2, atA) })
		g.Go(func() { writeAll(l.t, l.b.Addr(), livingWrites/2, atB) })
		g.Wait()
	}
	l.caughtUp()
	return livingWrites / time.Since(started).Seconds()
}

// BenchmarkLivingLatency: a PUBLISH at a until its subscriber at b has it,
// while both sites write keys of their own.
func BenchmarkLivingLatency(b *testing.B) {
	const rate = 1000
	for _, deletions := range removing {
		b.Run(fmt.Sprintf("%d_percent_DEL", deletions), func(b *testing.B) {
			for range b.N {
				oneWay, twoWay := newBenchLink(b, oneWay), newBenchLink(b, twoWay)
				best := [2]float64{math.Inf(1), math.Inf(1)}
				for range livingTries {
					for i, l := range []*link{oneWay, twoWay} {
						took := latencies(b, rate, l.besides(deletions))
						slices.Sort(took)
						best[i] = min(best[i], took[len(took)/2].Seconds()*1000)
					}
				}
				b.ReportMetric(best[0], "one-way-p50-ms")
				b.ReportMetric(best[1], "two-way-p50-ms")
				b.ReportMetric(best[1]-best[0], "p50-more-ms")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// besides is throughLink beside disjoint writes, with deletions: at a, or half
// of them at each site of a two-way link.
func (l *link) besides(deletions int) path {
	return func(ctx context.Context, b *testing.B, arrived func(time.Time)) (send, load func(context.Context, int) error) {
		b.Helper()
		send, _ = l.throughLink(ctx, b, arrived)
		sites := []*testkit.Redis{l.a}
		if st, err := status(l.worker); err == nil && len(st.Directions) == 2 {
			sites = append(sites, l.b)
		}
		i := 0
		load = func(ctx context.Context, n int) error {
			for s, r := range sites {
				if err := writeDisjoint(ctx, r.Client(), s, i, n/len(sites), deletions); err != nil {
					return err
				}
			}
			i += n / len(sites)
			return nil
		}
		return send, load
	}
}

func writeDisjoint(ctx context.Context, c *goredis.Client, site, from, n, deletions int) error {
	pipe := c.Pipeline()
	for i := from; i < from+n; i++ {
		k := fmt.Sprintf("site%d:%s", site, key(i))
		if i%100 < deletions {
			pipe.Del(ctx, fmt.Sprintf("site%d:%s", site, key(i-500)))
		} else {
			pipe.Set(ctx, k, hundredBytes, 0)
		}
	}
	_, err := pipe.Exec(ctx)
	return err
}

// BenchmarkLivingOutage: one direction is away while its site writes as fast
// as it can; what it must remember of that is bounded. TWINLOG_OUTAGE_SECONDS
// makes a longer one.
func BenchmarkLivingOutage(b *testing.B) {
	for range b.N {
		l := newBenchLink(b, twoWay)
		ctx, cancel := context.WithCancel(b.Context())
		resident := make(chan float64, 1)
		go func() { resident <- peak(ctx, l.worker) }()
		l.pause("sink-b")
		written, kept, onDisk := 0, 0.0, 0.0
		for ends := time.Now().Add(time.Duration(numberOf(b, "TWINLOG_OUTAGE_SECONDS", 20)) * time.Second); time.Now().Before(ends); written += 100_000 {
			writeAll(b, l.a.Addr(), 100_000, disjoint(fmt.Sprintf("%d:", written/1_000_000), 10))
			writeAll(b, l.b.Addr(), 1000, disjoint("b:", 10))
			inMemory, err := readMetric(l.worker, "twinlog_source_ledger_bytes", `"memory"`)
			if err != nil {
				b.Fatal(err)
			}
			all := l.metric("twinlog_source_ledger_bytes")
			kept, onDisk = max(kept, inMemory), max(onDisk, all-inMemory)
		}
		b.ReportMetric(float64(written), "events")
		b.ReportMetric(kept/(1<<20), "ledger-MiB")
		b.ReportMetric(onDisk/(1<<20), "ledger-disk-MiB")
		l.resume("sink-b")
		started := time.Now()
		l.caughtUpWithin(10 * time.Minute)
		b.ReportMetric(float64(written)/time.Since(started).Seconds(), "caught-up-events/s")
		cancel()
		b.ReportMetric(<-resident/(1<<20), "resident-MiB")
		b.ReportMetric(0, "ns/op")
	}
}
