package simulate

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// What `make simulate` sets. The default suits the race detector.
var (
	schedules = flag.Int("schedules", 8000, "schedules to run, over all configurations")
	seed      = flag.Uint64("seed", 0, "seed of the first schedule of each configuration")
	config    = flag.String("config", "", "only this configuration")
)

// TestSchedules runs random schedules: both sites must come to rest equal, and
// nothing may be lost on the way.
func TestSchedules(t *testing.T) {
	configs := Configs()
	if *config != "" {
		configs = []Config{configOf(t, *config)}
	}
	for _, c := range configs {
		t.Run(c.Name, func(t *testing.T) {
			n := (*schedules + len(configs) - 1) / len(configs)
			rules := Rules{Crowded: c.Crowded}
			r := runMany(c, rules, *seed, n)
			t.Logf("%d schedules, %d conflicts, %d values published for them, %d batches decided again", r.schedules, r.conflicts, r.repairs, r.voids)
			switch {
			case r.wrong != "":
				t.Error(explain(c, rules, r.seed, r.wrong))
			case n == 1:
				t.Log("\n" + show(scheduleOf(c, *seed), rules, c.Disjoint))
			}
		})
	}
}

func configOf(t *testing.T, name string) Config {
	t.Helper()
	for _, c := range Configs() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("-config %s: there is no such configuration", name)
	return Config{}
}

// result is what came of many schedules.
type result struct {
	schedules, conflicts, repairs, voids int64
	wrong                                string // what was wrong with the schedule of the lowest seed, "" if nothing was
	seed                                 uint64
}

// runMany runs the schedules of seeds from first on, on all processors, until
// one fails. The others end their seeds below it, so that the result is the
// same each time.
func runMany(c Config, rules Rules, first uint64, n int) result {
	var r result
	var mu sync.Mutex
	var next atomic.Int64
	var workers sync.WaitGroup
	var end atomic.Int64
	end.Store(int64(n))
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < end.Load(); i = next.Add(1) - 1 {
				at := first + uint64(i)
				wrong, w := run(scheduleOf(c, at), rules, c.Disjoint, nil)
				mu.Lock()
				r.schedules++
				r.conflicts += w.a.ledger.Conflicts().Count("H")
				r.repairs += int64(w.repairs)
				r.voids += int64(w.voids)
				if wrong != "" && (r.wrong == "" || at < r.seed) {
					r.wrong, r.seed = wrong, at
					end.Store(i)
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return r
}

// explain tells what is wrong with a schedule, shrunk, and how to see it again.
func explain(c Config, rules Rules, at uint64, wrong string) string {
	steps := shrink(scheduleOf(c, at), rules, c.Disjoint)
	return fmt.Sprintf("%s; the steps that matter:\n%s\nagain: make simulate CONFIG=%s SEED=%d N=1", wrong, show(steps, rules, c.Disjoint), c.Name, at)
}

// TestSchedulesAreTheSameEachTime: a seed that failed can be looked at again.
func TestSchedulesAreTheSameEachTime(t *testing.T) {
	for _, c := range Configs() {
		first, second := scheduleOf(c, 7), scheduleOf(c, 7)
		if show(first, Rules{}, c.Disjoint) != show(second, Rules{}, c.Disjoint) {
			t.Errorf("%s: two runs of one seed differ", c.Name)
		}
		again, err := parse(lines(first))
		if err != nil {
			t.Fatal(err)
		}
		if lines(again) != lines(first) {
			t.Errorf("read again:\n%s\nwant:\n%s", lines(again), lines(first))
		}
	}
}

func lines(steps []step) string {
	b := ""
	for i := range steps {
		b += steps[i].String() + "\n"
	}
	return b
}

func TestShrinkKeepsWhatIsWrong(t *testing.T) {
	c := configOf(t, "crash")
	rules := Rules{NoFence: true}
	r := runMany(c, rules, 0, 5000)
	if r.wrong == "" {
		t.Fatal("nothing is wrong without the fence")
	}
	all := scheduleOf(c, r.seed)
	few := shrink(all, rules, c.Disjoint)
	if wrong, _ := run(few, rules, c.Disjoint, nil); wrong != r.wrong || len(few) >= len(all) || len(few) > 12 {
		t.Errorf("%d of %d steps left, %q is wrong with them, not %q:\n%s", len(few), len(all), wrong, r.wrong, lines(few))
	}
}
