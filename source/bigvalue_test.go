package source

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// bigReading is values of which each is so big that it comes in parts.
func bigReading(t *testing.T) *reading {
	r := newReading(t, testkit.StartRedis(t))
	r.source.cfg.MaxEventBytes, r.source.cfg.MaxTransactionBytes = 2000, 4000
	return r
}

// captured plays the capture while key is read: it publishes what each barrier
// that the server shows brings, until the reading is done.
func (r *reading) captured(key string) (events []schema.Event, barriers int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	last, _ := r.server.Client().Get(ctx, offsets.BarrierKey("l")).Result()
	done := make(chan error, 1)
	go func() { done <- r.read(ctx, []offsets.DirtyKey{{Name: []byte(key)}}) }()
	publish := func(group []schema.Event) error {
		for _, e := range group {
			e.Value, e.Key = e.Value.Clone(), append([]byte(nil), e.Key...)
			events = append(events, e)
		}
		return nil
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ended := false; ; {
		id, _ := r.server.Client().Get(ctx, offsets.BarrierKey("l")).Result()
		if id != last {
			last, barriers = id, barriers+1
			if err := r.at(ctx, []byte(id), &offsets.Position{}, publish); err != nil {
				r.t.Fatal(err)
			}
			continue
		}
		if ended {
			return events, barriers
		}
		select {
		case err := <-done:
			if err != nil {
				r.t.Fatal(err)
			}
			ended = true
		case <-tick.C:
		}
	}
}

// fillBig makes a key of each type that can be read in parts.
func (r *reading) fillBig() {
	r.t.Helper()
	ctx, pipe := r.t.Context(), r.server.Client().Pipeline()
	for i := range 1000 {
		pipe.HSet(ctx, "hash", i, fmt.Sprint("value:", i))
		pipe.RPush(ctx, "list", fmt.Sprint("element:", i))
		pipe.SAdd(ctx, "set", fmt.Sprint("member:", i))
		pipe.Do(ctx, "ZADD", "zset", strconv.Itoa(i)+".1", fmt.Sprint("member:", i))
		pipe.Append(ctx, "string", fmt.Sprint("value:", i))
	}
	pipe.LPush(ctx, "list", strings.Repeat("large", 5000))
	pipe.PExpireAt(ctx, "list", time.UnixMilli(4102444800123))
	if _, err := pipe.Exec(ctx); err != nil {
		r.t.Fatal(err)
	}
}

func TestBigValuesAreReadInParts(t *testing.T) {
	r := bigReading(t)
	r.fillBig()
	for key, want := range map[string]int{"hash": 1000, "list": 1001, "set": 1000, "zset": 1000, "string": len(r.server.Client().Get(t.Context(), "string").Val())} {
		events, barriers := r.captured(key)
		if barriers != 1 || len(events) < 5 {
			t.Errorf("%s: %d events at %d barriers", key, len(events), barriers)
		}
		var got joined
		for i := range events {
			e := &events[i]
			if size := len(schema.AppendEvent(nil, e)); size > 2000 {
				t.Errorf("%s: part %d has %d bytes", key, i, size)
			}
			if e.Part.Index != int32(i) || e.Part.Last != (i == len(events)-1) || e.Type != key || e.Source.Snapshot != "incremental" || e.ExpireAt.Set != (key == "list") {
				t.Errorf("%s: part %d is %+v", key, i, e.Part)
			}
			got.add(t, &e.Value, e.Part.Arg == 0)
		}
		seen := map[string]bool{} // a cursor may tell an element twice
		for _, h := range got.Hash {
			seen[string(h.Field)+"="+string(h.Value)] = true
		}
		for _, e := range got.Elements {
			seen[string(e)] = true
		}
		for _, m := range got.ZSet {
			seen[fmt.Sprint(string(m.Member), m.Score)] = true
		}
		n := len(seen)
		if key == "string" {
			n = len(got.Data)
		}
		if n != want {
			t.Errorf("%s: the parts hold %d, want %d", key, n, want)
		}
	}
}

func TestAKeyWrittenBetweenItsPartsBeginsAgain(t *testing.T) {
	for name, write := range map[string]string{"an element": "RPUSH list new", "another type": "SET list x", "a deletion": "DEL list"} {
		for _, times := range []int{1, 5} {
			t.Run(fmt.Sprint(name, ", times: ", times), func(t *testing.T) {
				r := bigReading(t)
				r.fillBig()
				begun := 0
				r.source.cfg.Hook = func(point string) {
					if point == "big-value-begun" && begun < times {
						begun++
						r.do(write)
						if write == "DEL list" {
							return
						}
						if begun < times { // of its old size
							r.do("DEL list", "RPUSH list "+strings.Repeat("y", 6000))
						}
					}
				}
				if times > 1 {
					r.source.cfg.MaxTransactionBytes = 1 << 20 // of what is read at once in the end
					r.do("RPUSH list " + strings.Repeat("z", 2<<20))
				}
				events, barriers := r.captured("list")
				last := &events[len(events)-1]
				if !last.Part.Last && last.Part.Set {
					t.Errorf("the last event of %d is part %+v", len(events), last.Part)
				}
				first := len(events) - 1 - int(last.Part.Index)
				var got joined
				for i := first; i < len(events); i++ {
					got.add(t, &events[i].Value, events[i].Part.Set && events[i].Part.Arg == 0 && events[i].Part.Index > 0)
				}
				var want schema.Value
				switch typ := r.server.Client().Type(t.Context(), "list").Val(); typ {
				case "list":
					want.Kind = schema.KindList
					want.Elements = words(r.server.Client().LRange(t.Context(), "list", 0, -1).Val()...)
				case "string":
					want = schema.Value{Kind: schema.KindString, Data: []byte(r.server.Client().Get(t.Context(), "list").Val())}
				}
				if got.Kind != want.Kind || !cmp.Equal(want.Data, got.Data) || len(got.Elements) != len(want.Elements) {
					t.Errorf("kind %d with %d elements, want %d with %d", got.Kind, len(got.Elements), want.Kind, len(want.Elements))
				}
				if barriers < 2 || barriers > bigTries+1 {
					t.Errorf("%d barriers", barriers)
				}
			})
		}
	}
}

func TestABigValueWhoseBarrierIsNotMetIsAskedForAgain(t *testing.T) {
	r := bigReading(t)
	r.fillBig()
	done := make(chan error, 1)
	go func() { done <- r.read(t.Context(), []offsets.DirtyKey{{Name: []byte("list")}}) }()
	testkit.Eventually(t, time.Minute, func() error {
		if r.outstanding() == 0 {
			return errors.New("no barrier yet")
		}
		return nil
	})
	r.forget(offsets.OnDemand{}) // the link was cut
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(r.queue) != 1 || string(r.queue[0].Name) != "list" {
		t.Errorf("asked for again: %v", r.queue)
	}
	if events, _ := r.captured("list"); len(events) < 5 { // nothing is watched from before
		t.Errorf("%d events", len(events))
	}
}

func TestABigValueWhoseBarrierIsNotMetInTimeIsAskedForAgain(t *testing.T) {
	r := bigReading(t)
	r.fillBig()
	r.unmet = 10 * time.Millisecond
	if err := r.read(t.Context(), []offsets.DirtyKey{{Name: []byte("list")}}); err != nil {
		t.Fatal(err)
	}
	if n := r.outstanding(); len(r.queue) != 1 || string(r.queue[0].Name) != "list" || n != 0 || r.conn != nil {
		t.Errorf("asked for again: %v; %d barriers are outstanding, connected: %v", r.queue, n, r.conn != nil)
	}
	r.unmet = barrierWait
	if events, _ := r.captured("list"); len(events) < 5 {
		t.Errorf("%d events", len(events))
	}
}
