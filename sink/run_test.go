package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/redis"
	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// rig is a whole sink, from an embedded broker to a real server.
type rig struct {
	t     *testing.T
	sink  *Sink
	kafka []kgo.Opt
	stop  context.CancelFunc
	ended chan error
}

// sinkOf makes a sink of events, seq from 1, with addr as its target.
func sinkOf(t *testing.T, addr string, events ...*schema.Event) *rig {
	t.Helper()
	w := &rig{t: t, kafka: filled(t, "l.a-to-b", events)}
	w.begin(addr)
	return w
}

// begin makes the sink of a worker that begins.
func (w *rig) begin(addr string) {
	w.sink = testSink()
	w.sink.cfg.Kafka, w.sink.cfg.Group, w.sink.cfg.Redis = w.kafka, "twinlog.l.a-to-b", redis.Config{Addrs: []string{addr}}
	w.sink.cfg.Own = ownAt{} // or the group would have to be there
}

// run runs the sink until the test ends, or stop is called.
func (w *rig) run() {
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	w.stop, w.ended = cancel, ended
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- w.sink.Run(ctx)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// end waits until Run has ended.
func (w *rig) end() error {
	w.t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(6 * time.Second):
		w.t.Fatalf("the sink goes on, waiting for %q", w.sink.Status().Waiting)
		return nil
	}
}

// applied waits until the mark is at seq.
func (w *rig) applied(seq int64) {
	w.t.Helper()
	testkit.Eventually(w.t, 30*time.Second, func() error {
		select {
		case err := <-w.ended:
			w.t.Fatalf("the sink ended: %v", err)
		default:
		}
		if st := w.sink.Status(); st.Mark.Seq != seq {
			return errors.New(st.Mark.String() + ", waiting for " + st.Waiting)
		}
		return nil
	})
}

// waits waits until the sink's status tells that it waits for something.
func (w *rig) waits(text string) {
	w.t.Helper()
	testkit.Eventually(w.t, 30*time.Second, func() error {
		if got := w.sink.Status().Waiting; !strings.Contains(got, text) {
			return fmt.Errorf("the sink waits for %q, not %q", got, text)
		}
		return nil
	})
}

// What stopped a sink is behind its mark: whatever else goes wrong then, the
// sink must not go on (G5).
func TestACommandWithoutEffectEndsTheSinkWhateverHappensThen(t *testing.T) {
	for _, tt := range []struct {
		name     string
		config   []string // of the target
		happens  func(w *rig, server *testkit.Redis, way *testkit.Delay)
		recorded bool
		why      string
	}{
		{"nothing else", nil, func(*rig, *testkit.Redis, *testkit.Delay) {}, true, ""},
		{"a target that is full", []string{"maxmemory", "1mb"}, func(*rig, *testkit.Redis, *testkit.Delay) {}, true, ""},
		{"a target that lacks replicas", nil, func(w *rig, server *testkit.Redis, _ *testkit.Delay) {
			if err := server.Client().ConfigSet(w.t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
				w.t.Error(err)
			}
		}, false, "NOREPLICAS"},
		{"a connection that is cut", nil, func(_ *rig, _ *testkit.Redis, way *testkit.Delay) { way.Cut() }, false, "redis at"},
		{"a sink that is being stopped, too", nil, func(w *rig, _ *testkit.Redis, way *testkit.Delay) {
			w.stop()
			way.Cut()
		}, false, "redis at"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := testkit.StartRedis(t)
			if err := server.Client().Set(t.Context(), "k", "no set", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if len(tt.config) > 0 {
				if err := server.Client().ConfigSet(t.Context(), tt.config[0], tt.config[1]).Err(); err != nil {
					t.Fatal(err)
				}
			}
			way := testkit.StartDelay(t, "127.0.0.1:0", server.Addr())
			w := sinkOf(t, way.Addr(), write("SREM", "k", "x"))
			w.sink.cfg.Hook = func(point string) {
				if point == "halting" {
					tt.happens(w, server, way)
				}
			}
			w.run()
			err := w.end()
			var data *DataError
			if !errors.As(err, &data) || !strings.Contains(err.Error(), `SREM on key "k" in db 0`) {
				t.Fatalf("the sink ends with %v", err)
			}
			if why := "could not be noted at the target"; strings.Contains(err.Error(), why) == tt.recorded || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("recorded %v, but the error is %v", tt.recorded, err)
			}
			halted := server.Client().Get(t.Context(), offsets.HaltKey("l", "a-to-b", "0")).Val()
			if tt.recorded && halted != err.Error() || !tt.recorded && halted != "" {
				t.Errorf("the target holds %q", halted)
			}
			if !tt.recorded {
				return
			}
			w.begin(way.Addr())
			w.run()
			var halt *HaltError
			if err := w.end(); !errors.As(err, &halt) {
				t.Errorf("the next sink ends with %v", err)
			}
		})
	}
}

func TestALivingTargetThatCutsTheSameBatchAgainAndAgainEndsTheSink(t *testing.T) {
	server := testkit.StartRedis(t, "--proto-max-bulk-len", "1mb")
	w := sinkOf(t, server.Addr(), write("SET", "k", "v"), write("SET", "k", strings.Repeat("v", 1<<20+1)), write("SET", "k", "w"))
	w.run()
	err := w.end()
	if want := "target b cut the connection 5 times on the events behind offset "; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "proto-max-bulk-len") {
		t.Errorf("the sink ends with %v, want %q", err, want)
	}
}

// Building a big value, or a FLUSHDB key by key, takes many batches that leave
// the mark where it is: that each is cut once is no reason to stop.
func TestCutsOfOtherBatchesBehindTheSameMarkDoNotEndTheSink(t *testing.T) {
	const parts, keys, sessions = 9, 20_000, mostCuts + 2
	var big []*schema.Event
	for i := range parts {
		e := value(0, "big")
		e.Value = text(strings.Repeat(string(rune('a'+i)), batchBytes))
		e.Part = schema.OptPart{Set: true, Part: schema.Part{Index: int32(i), Last: i == parts-1, Arg: -1}}
		big = append(big, e)
	}
	for name, tt := range map[string]struct {
		events []*schema.Event
		at     func(session int) int // which EXEC of a session is cut
	}{
		"a big value": {big, func(session int) int { return session }},
		"a FLUSHDB":   {[]*schema.Event{{Op: schema.OpTruncate, Origin: "a", DB: 0, Command: "FLUSHDB"}}, func(int) int { return 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.StartRedis(t)
			pipe := server.Client().Pipeline()
			for i := range keys {
				pipe.Set(t.Context(), fmt.Sprint("in:", i), "v", 0)
			}
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			way := testkit.StartDelay(t, "127.0.0.1:0", server.Addr())
			w := sinkOf(t, way.Addr(), tt.events...)
			w.sink.cfg.Scope.Include = []string{"*"} // FLUSHDB is done key by key
			session, execs := 0, 0
			w.sink.cfg.Hook = func(point string) {
				switch point {
				case "mark-read":
					session, execs = session+1, 0
				case "exec-sent":
					if execs++; session <= sessions && execs == tt.at(session) {
						way.Cut()
					}
				}
			}
			w.run()
			w.applied(int64(len(tt.events)))
			w.stop()
			if err := w.end(); err != nil || session <= sessions {
				t.Errorf("%d sessions, error %v", session, err)
			}
			n := server.Client().StrLen(t.Context(), "big").Val()
			if left := server.Client().DBSize(t.Context()).Val(); name == "a FLUSHDB" && left != 1 || name != "a FLUSHDB" && n != parts*batchBytes {
				t.Errorf("%d keys are left, the value has %d bytes", left, n)
			}
		})
	}
}

// The mark is in database 0 alone, also behind a FLUSHDB key by key of another
// one, at a target that is full too.
func TestAFlushOfAnotherDatabaseLeavesNoMarkThere(t *testing.T) {
	for _, memory := range []string{"0", "1mb"} {
		t.Run("maxmemory "+memory, func(t *testing.T) {
			t.Parallel()
			server := testkit.StartRedis(t, "--maxmemory", memory)
			fill := server.Client().Pipeline()
			fill.Do(t.Context(), "CONFIG", "SET", "maxmemory", "0")
			fill.Do(t.Context(), "SELECT", 2)
			for _, key := range []string{"in:1", "in:2", "out:1"} {
				fill.Set(t.Context(), key, "v", 0)
			}
			fill.Do(t.Context(), "SELECT", 0)
			fill.Do(t.Context(), "CONFIG", "SET", "maxmemory", memory)
			if _, err := fill.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			w := sinkOf(t, server.Addr(), &schema.Event{Op: schema.OpTruncate, Origin: "a", DB: 2, Command: "FLUSHDB"}, &schema.Event{Op: schema.OpDelete, Origin: "a", DB: 2, Key: []byte("in:1"), Command: "DEL"})
			w.sink.cfg.Scope.Include = []string{"in:*"}
			w.run()
			testkit.Eventually(t, 20*time.Second, func() error {
				there := map[int]string{}
				for db := range 3 {
					read := server.Client().Pipeline()
					read.Do(t.Context(), "SELECT", db)
					keys := read.Keys(t.Context(), "*")
					read.Do(t.Context(), "SELECT", 0)
					if _, err := read.Exec(t.Context()); err != nil {
						return err
					}
					there[db] = strings.Join(keys.Val(), " ")
				}
				if want := map[int]string{0: "__twinlog:l:a-to-b:0", 1: "", 2: "out:1"}; !maps.Equal(there, want) {
					return fmt.Errorf("the target holds %v, want %v; waiting for %s", there, want, w.sink.Status().Waiting)
				}
				return nil
			})
		})
	}
}

// A target whose machine is gone, or whose process is frozen, closes nothing.
func TestATargetThatIsSilentIsGivenUp(t *testing.T) {
	const text = "target b does not answer"
	for _, tt := range []struct {
		name string
		most time.Duration
		then func(w *rig, thaw func())
	}{
		{"and answers again", time.Second, func(w *rig, thaw func()) {
			w.waits("no answer in time") // the next connection is tried
			w.waits(text)
			thaw()
			w.applied(2)
		}},
		{"and the sink is stopped", 3 * time.Second, func(w *rig, _ func()) {
			w.stop()
			if err := w.end(); err != nil {
				w.t.Error(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := testkit.StartRedis(t)
			signal := func(s syscall.Signal) {
				if err := syscall.Kill(server.Pid(), s); err != nil {
					t.Error(err)
				}
			}
			w := sinkOf(t, server.Addr(), write("INCR", "k"))
			w.sink.cfg.MostSilence = tt.most
			w.run()
			t.Cleanup(func() { signal(syscall.SIGCONT) }) // before the sink's end is waited for
			w.applied(1)
			if waiting := w.sink.Status().Waiting; waiting != "" {
				t.Errorf("a target that answers is waited for: %s", waiting)
			}
			signal(syscall.SIGSTOP)
			produce(t, w.kafka, "l.a-to-b", 2, []*schema.Event{write("INCR", "k")})
			w.waits(text)
			tt.then(w, func() { signal(syscall.SIGCONT) })
			signal(syscall.SIGCONT)
			testkit.Eventually(t, 10*time.Second, func() error { // once, also what was sent to the frozen server
				if got := server.Client().Get(t.Context(), "k").Val(); got != "2" {
					return fmt.Errorf("k is %q", got)
				}
				return nil
			})
		})
	}
}
