package testkit

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestWorkloadKnowsWhatItWrote(t *testing.T) {
	server := StartRedis(t)
	w := StartWorkload(t, WorkloadOptions{Addr: server.Addr(), Prefix: "a", Seed: 1, Most: 20_000})
	if err := w.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Verify(t.Context(), server.Client()); err != nil {
		t.Fatal(err)
	}
	if n := w.Operations(); n < 20_000 {
		t.Errorf("%d operations", n)
	}
	for _, tt := range []struct{ name, change, want string }{
		{"an increment applied twice", "INCR a:0:counter:1", `"a:0:counter:1": part 0`},
		{"an append applied twice", "APPEND a:1:text:1 x", `"a:1:text:1"`},
		{"a push lost", "LPOP a:2:list:1", `"a:2:list:1"`},
		{"a field increased twice", "HINCRBY a:3:hash:1 t 1", `"a:3:hash:1"`},
		{"a score changed", "ZINCRBY a:0:zset:1 0.5 m1", `"a:0:zset:1"`},
		{"a member too many", "SADD a:0:set:1 zzz", `"a:0:set:1"`},
		{"a stream entry lost", "XTRIM a:0:stream:1 MAXLEN 1", `"a:0:stream:1"`},
		{"an expiry lost", "PERSIST a:0:counter:2", `"a:0:counter:2": an expiry is wanted`},
		{"a missing key", "DEL a:1:counter:2", `"a:1:counter:2"`},
		{"a key of another type", "DEL a:1:set:2\nSET a:1:set:2 x", `"a:1:set:2": want a set`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, server.Client(), tt.change)
			if err := w.Verify(t.Context(), server.Client()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %s", err, tt.want)
			}
		})
	}
}

func TestWorkloadKeepsItsRate(t *testing.T) {
	server := StartRedis(t)
	started := time.Now()
	w := StartWorkload(t, WorkloadOptions{Addr: server.Addr(), Prefix: "a", Clients: 2, Rate: 1000, Most: 300})
	if err := w.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took < 250*time.Millisecond {
		t.Errorf("300 operations at 1,000 a second took %v", took)
	}
}

func TestWorkloadEndsWithTheServer(t *testing.T) {
	server := StartRedis(t)
	w := StartWorkload(t, WorkloadOptions{Addr: server.Addr(), Prefix: "a"})
	Eventually(t, 10*time.Second, func() error {
		if w.Operations() < 100 {
			return errors.New("not yet")
		}
		return nil
	})
	server.Kill()
	if err := w.Wait(t.Context()); err == nil {
		t.Error("a load whose server was killed ended without an error")
	}
}

// A real replica is the best copy there is: what differs there differs
// everywhere and must not count.
func TestCompareFindsNothingAtARealReplica(t *testing.T) {
	master := StartRedis(t)
	host, port, _ := strings.Cut(master.Addr(), ":")
	plant(t, master.Client())
	replica := StartRedis(t, "--replicaof", host, port)
	w := StartWorkload(t, WorkloadOptions{Addr: master.Addr(), Prefix: "a", Seed: 2, Most: 5_000})
	if err := w.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	master.Equal(replica, 20*time.Second, CompareOptions{})
	if err := w.Verify(t.Context(), replica.Client()); err != nil {
		t.Error(err)
	}
}

// A load that outages do not end knows what it does not know: it holds what
// was answered, and takes either for what was not.
func TestLoadsThatSurviveAnOutageKnowWhatWasAnswered(t *testing.T) {
	server := StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	w := StartWorkload(t, WorkloadOptions{Addr: server.Addr(), Prefix: "w", Seed: 1, Outages: true})
	s := StartShared(t, SharedOptions{Addr: server.Addr(), Site: "a", Seed: 1, Outages: true})
	wrote := func(more int64) {
		t.Helper()
		all, _ := s.Operations()
		goal, goalShared := w.Operations()+more, all+more
		Eventually(t, 20*time.Second, func() error {
			if all, _ := s.Operations(); w.Operations() < goal || all < goalShared {
				return errors.New("not yet")
			}
			return nil
		})
	}
	for range 3 {
		wrote(300)
		server.Kill()
		server.Restart()
	}
	wrote(300)
	if err := errors.Join(w.Stop(), s.Stop()); err != nil {
		t.Fatal(err)
	}
	if w.Cut() == 0 || s.Cut() == 0 {
		t.Errorf("%d and %d operations were not answered", w.Cut(), s.Cut())
	}
	if err := errors.Join(w.Verify(t.Context(), server.Client()), VerifySums(t.Context(), server.Addr(), s)); err != nil {
		t.Error(err)
	}
	run(t, server.Client(), "INCRBY sum:counter:3 1000000")
	if err := VerifySums(t.Context(), server.Addr(), s); err == nil {
		t.Error("a sum that is too high by far goes unnoticed")
	}
}
