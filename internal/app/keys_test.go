package app_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"twinlog/internal/admin"
	"twinlog/internal/testkit"
)

// demand asks for keys of a direction to be sent again and returns the id.
func (l *link) demand(direction, query string) string {
	l.t.Helper()
	code, body, err := l.worker.Put("/directions/" + direction + "/snapshot?" + query)
	var answer struct{ ID string }
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || code != 202 || answer.ID == "" {
		l.t.Fatalf("asking for keys to be sent again: %d %s %v", code, body, err)
	}
	return answer.ID
}

// onDemand returns what the worker says of a snapshot of chosen keys.
func (l *link) onDemand(direction, id string) (admin.OnDemand, error) {
	st, err := status(l.worker)
	if err != nil {
		return admin.OnDemand{}, err
	}
	for _, d := range st.Directions {
		if d.Name == direction && d.OnDemand != nil && d.OnDemand.ID == id {
			return *d.OnDemand, nil
		}
	}
	return admin.OnDemand{}, fmt.Errorf("%s knows nothing of the snapshot %s", direction, id)
}

// sent waits until a snapshot of chosen keys has ended.
func (l *link) sent(direction, id string) admin.OnDemand {
	l.t.Helper()
	var end admin.OnDemand
	testkit.Eventually(l.t, time.Minute, func() (err error) {
		if end, err = l.onDemand(direction, id); err == nil && end.State == admin.OnDemandRunning {
			err = fmt.Errorf("%d keys are sent, database %d is %.2f through", end.Keys, end.Database, end.Progress)
		}
		return err
	})
	return end
}

// begun waits until so many keys are sent.
func (l *link) begun(direction, id string, keys int64) {
	l.t.Helper()
	testkit.Eventually(l.t, time.Minute, func() error {
		at, err := l.onDemand(direction, id)
		if err == nil && at.State == admin.OnDemandRunning && at.Keys < keys {
			err = fmt.Errorf("%d keys are sent, want %d", at.Keys, keys)
		}
		return err
	})
}

// Every key of the target is broken, so that only values that are sent again
// mend it, all of them.
func TestKeysSentAgainMendTheTargetWhoeverDiesMeanwhile(t *testing.T) {
	const keys = 3000
	l := newLink(t, linkOptions{directions: oneWay, argsA: append(wideBacklog(), "--save", "3600 1"), argsB: wideBacklog()})
	at, target := databasesAt(t, l.a), databasesAt(t, l.b)
	l.sets(l.a, "k", keys, "1")
	for db := range 3 {
		runLine(t, at[db], "HSET h f 1 g 2")
		runLine(t, at[db], "RPUSH l a b c")
		runLine(t, at[db], "SET e 1 EX 36000")
	}
	l.run()
	l.endEqual(grace)
	random := rand.New(rand.NewPCG(seedOf(t), 6))
	for _, dies := range []string{"nobody", "worker", "redis"} {
		l.sets(l.b, "k", keys, "broken")
		l.drop(l.b, "k", 0, 3, keys)
		for db := range 3 {
			runLine(t, target[db], "DEL h e")
			runLine(t, target[db], "RPUSH l d")
		}
		rate := 2000
		id := l.demand("a-to-b", fmt.Sprintf("match=*&rate=%d", rate))
		l.begun("a-to-b", id, 1)
		switch dies {
		case "worker":
			for range 3 {
				<-time.After(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
				l.worker.Kill()
				l.run()
			}
		case "redis": // its cursors mean nothing to the next one
			l.a.Stop()
			l.a.Restart()
		}
		end := l.sent("a-to-b", id)
		l.endEqual(grace)
		want := int64(keys + 9)
		switch {
		case dies == "redis" && end.State == "COVERED": // by a snapshot, if the stream was lost with it
		case end.State != "DONE":
			t.Errorf("%s dies: the end is %+v", dies, end)
		case dies == "nobody" && (end.Keys < want || end.Keys > want+50): // SCAN may tell of a key twice
			t.Errorf("%d keys were sent, want %d", end.Keys, want)
		case end.Keys < want:
			t.Errorf("%s dies: %d keys were sent, there are %d", dies, end.Keys, want)
		}
	}
}

// What the worker says has begun outlives it; what it could not begin, since
// its source publishes nothing, it does not say of.
func TestKeysOfWhichTheAnswerSaysThatTheyAreSentOutliveTheWorker(t *testing.T) {
	l := newLink(t, linkOptions{directions: oneWay, argsA: wideBacklog()})
	l.sets(l.a, "k", 100, "1")
	l.run()
	asked := func(want bool) (id string) {
		t.Helper()
		code, body, err := l.worker.Put("/directions/a-to-b/snapshot?rate=1")
		var answer struct {
			ID    string
			Begun bool
		}
		if err == nil {
			err = json.Unmarshal(body, &answer)
		}
		if err != nil || code != 202 || answer.ID == "" || answer.Begun != want {
			t.Fatalf("the answer is %d %s %v, want one that has begun: %v", code, body, err, want)
		}
		return answer.ID
	}
	for range 3 {
		id := asked(true)
		l.worker.Kill()
		l.run()
		if at, err := l.onDemand("a-to-b", id); err != nil || at.State != admin.OnDemandRunning {
			t.Errorf("behind a restart it is %+v: %v", at, err)
		}
		l.twinlog("snapshot", "--direction", "a-to-b", "--stop")
		l.sent("a-to-b", id)
	}
	l.pause("source-a")
	id := asked(false)
	l.resume("source-a")
	l.begun("a-to-b", id, 1)
}

// While both sites write, what is sent again takes nothing away.
func TestCrashWhileKeysAreSentAgainUnderLoad(t *testing.T) {
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog()})
	l.run()
	ls := l.load("w", l.a, l.b)
	ls.more(2000)
	random := rand.New(rand.NewPCG(seedOf(t), 7))
	for range 3 {
		ids := map[string]string{}
		for _, direction := range []string{"a-to-b", "b-to-a"} {
			ids[direction] = l.demand(direction, "rate=3000")
			l.begun(direction, ids[direction], 1)
		}
		<-time.After(time.Duration(random.Int64N(int64(500 * time.Millisecond))))
		l.worker.Kill()
		l.run()
		for direction, id := range ids {
			if end := l.sent(direction, id); end.State != "DONE" {
				t.Errorf("%s: the end is %+v", direction, end)
			}
		}
	}
	ls.stop()
	l.endEqual(grace)
	ls.exact()
}

// The command as an operator uses it.
func TestSnapshotCommandRepairsKeysAndCanBeStopped(t *testing.T) {
	l := newLink(t, linkOptions{argsA: wideBacklog(), argsB: wideBacklog(), directions: "  - {from: a, to: b, existing: ignore, databases: [0, 2], exclude: [\"out:*\"]}\n"})
	at, target := databasesAt(t, l.a), databasesAt(t, l.b)
	l.sets(l.a, "k", 2000, "1")
	runLine(t, at[2], "SET k:1 2")
	l.run()
	l.caughtUp()
	command := func(wantCode int, want string, args ...string) {
		t.Helper()
		code, out, talk := l.worker.Run(t.Context(), append([]string{"snapshot", "--direction", "a-to-b"}, args...)...)
		if code != wantCode || !strings.Contains(string(out)+string(talk), want) {
			t.Errorf("%q: exit code %d, want %d with %q: %s%s", args, code, wantCode, want, out, talk)
		}
	}
	for _, db := range []int{0, 2} {
		runLine(t, target[db], "SET k:1 broken")
		runLine(t, target[db], "SET k:2 broken")
		runLine(t, target[db], "SET stranger 1")
	}
	reads := func(db int, key, want string) {
		t.Helper()
		testkit.Eventually(t, 20*time.Second, func() error {
			if got := target[db].Get(t.Context(), key).Val(); got != want {
				return fmt.Errorf("%s of database %d is %q, want %q", key, db, got, want)
			}
			return nil
		})
	}
	command(0, "a-to-b: sent 1 keys that match k:1", "--match", "k:1", "--db", "0")
	reads(0, "k:1", "1")
	reads(2, "k:1", "broken")
	command(0, `"state": "DONE"`, "--match", "k:1", "--json")
	reads(2, "k:1", "2")
	command(0, "sent 2 keys", "--match", "stranger") // the origin has none: it goes
	reads(0, "stranger", "")
	reads(2, "stranger", "")
	reads(0, "k:2", "broken")
	reads(2, "k:2", "broken")
	command(0, "sent 1 keys", "--match", "k:[2]", "--rate", "50/s") // database 2 has none at the origin
	reads(0, "k:2", "1")
	reads(2, "k:2", "broken")

	id := l.demand("a-to-b", "rate=20")
	l.begun("a-to-b", id, 1)
	command(1, "under way", "--match", "k:1")
	command(0, "stops", "--stop")
	if end := l.sent("a-to-b", id); end.State != "STOPPED" || end.Keys == 0 {
		t.Errorf("the end is %+v", end)
	}
	command(1, "sends no chosen keys", "--stop")
	runLine(t, at[0], "ACL SETUSER default -dump")
	command(1, "failed after 0 keys that match k:*: reading values at a barrier at site a: NOPERM", "--match", "k:*")
	runLine(t, at[0], "ACL SETUSER default +dump")
	command(0, "sent 2 keys", "--match", "k:2")
	reads(2, "k:2", "")
	command(1, "database 1 is not in the scope", "--db", "1")
	command(1, `key "out:x" is not in the scope`, "--match", "out:x")
	command(2, "--rate fast", "--rate", "fast")
}
