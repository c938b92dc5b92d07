package source

import (
	"context"
	"strconv"
	"testing"
	"time"

	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// demanding is a reading from which keys k0, k1, … are demanded.
func demanding(t *testing.T, keys int) *reading {
	t.Helper()
	r := newReading(t, testkit.StartRedis(t))
	pipe := r.server.Client().Pipeline()
	for i := range keys {
		pipe.Set(t.Context(), "k"+strconv.Itoa(i), "v", 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.source.lane.restore(offsets.Position{Phase: offsets.PhaseStream, Seq: 1})
	r.forget(offsets.OnDemand{}) // the stream is followed
	if _, err := r.source.SnapshotKeys(KeysRequest{Match: "k*", DB: offsets.AllDatabases}); err != nil {
		t.Fatal(err)
	}
	return r
}

// What was under way when the source ended can be stopped before the stream is
// followed again; until then nothing is read, since whose site this is may not
// be known yet.
func TestDemandOfTheLastRunCanBeStoppedAtOnce(t *testing.T) {
	r := newReading(t, testkit.StartRedis(t))
	before := offsets.OnDemand{ID: "1", Match: "k*", DB: offsets.AllDatabases, State: offsets.OnDemandRunning, At: -1}
	r.rememberDemand(before)
	r.source.lane.restore(offsets.Position{Phase: offsets.PhaseStream, Seq: 1, OnDemand: before})
	if _, err := r.source.SnapshotKeys(KeysRequest{Match: "*", DB: offsets.AllDatabases}); err == nil {
		t.Error("another one begins while it is under way")
	}
	if !r.source.StopKeys() {
		t.Error("it cannot be stopped")
	}
	if _, on := r.demanded(); on {
		t.Error("something is read before the stream is followed")
	}
	r.forget(before)
	pos := offsets.Position{OnDemand: before}
	if err := r.serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.at(t.Context(), []byte(r.id(1)), &pos, func([]schema.Event) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if pos.OnDemand.State != offsets.OnDemandStopped {
		t.Errorf("its end is %+v", pos.OnDemand)
	}
}

// Barriers that the capture will not meet are read again, also if the link is
// cut while the next keys are being looked for.
func TestDemandedKeysOfForgottenBarriersAreReadAgain(t *testing.T) {
	const keys = 3000
	r := demanding(t, keys)
	pos, sent := &offsets.Position{}, map[string]bool{}
	meet := func(id string) {
		t.Helper()
		err := r.at(t.Context(), []byte(id), pos, func(parts []schema.Event) error {
			sent[string(parts[0].Key)] = true
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	serve := func() {
		t.Helper()
		if err := r.serve(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for r.outstanding() == 0 {
		serve()
	}
	meet(r.id(1))
	for r.outstanding() < 3 {
		serve()
	}
	r.demanded()           // serve begins,
	r.forget(pos.OnDemand) // meanwhile the link was cut,
	if err := r.serveSome(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := r.outstanding(); n != 0 {
		t.Errorf("%d barriers were written for keys behind those that are read again", n)
	}
	for range keys {
		if serve(); r.outstanding() > 0 {
			meet(r.id(r.number))
		}
		if pos.OnDemand.State == offsets.OnDemandDone {
			break
		}
	}
	if pos.OnDemand.State != offsets.OnDemandDone || len(sent) != keys {
		t.Errorf("%s after %d of %d keys", pos.OnDemand.State, len(sent), keys)
	}
}

// A demand whose end no barrier can tell, since the site refuses to write one,
// ends all the same; the source goes on.
func TestDemandEndsWhereNoBarrierCanBeWritten(t *testing.T) {
	r := demanding(t, 10)
	if err := r.server.Client().Do(t.Context(), "ACL", "SETUSER", "default", "-set").Err(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := r.serve(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d := r.onDemand(offsets.OnDemand{}); d.State != offsets.OnDemandFailed || d.Reason == "" {
		t.Errorf("it is %+v", d)
	}
	if _, err := r.source.SnapshotKeys(KeysRequest{Match: "k*", DB: offsets.AllDatabases}); err != nil {
		t.Errorf("nothing can be demanded any more: %v", err)
	}
}

// A right that is missing is not taken for small values.
func TestDemandEndsWithoutTheRightToAskForSizes(t *testing.T) {
	r := demanding(t, 10)
	if err := r.server.Client().Do(t.Context(), "ACL", "SETUSER", "default", "-memory").Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := r.serve(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d := &r.demand.state; d.State != offsets.OnDemandFailed || d.Keys != 0 {
		t.Errorf("it is %+v", d)
	}
}

// The capture comes to the barrier of a big value whose reader has given up.
func TestBarrierOfABigValueWithoutReaderBringsNothing(t *testing.T) {
	r := bigReading(t)
	r.fillBig()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.read(ctx, []offsets.DirtyKey{{Name: []byte("list")}}) }()
	testkit.Eventually(t, time.Minute, func() error {
		if r.outstanding() == 0 {
			return context.DeadlineExceeded
		}
		return nil
	})
	stop()
	<-done
	id, err := r.server.Client().Get(t.Context(), offsets.BarrierKey("l")).Result()
	if err != nil {
		t.Fatal(err)
	}
	if all, err := r.brought([]byte(id)); err != nil || len(all) != 0 {
		t.Errorf("it brings %d groups, %v", len(all), err)
	}
}
