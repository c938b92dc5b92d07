package source

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/command"
	"twinlog/internal/testkit"
	"twinlog/schema"
)

// restoreOf is the event of a RESTORE of payload, as the stream has it.
func restoreOf(t *testing.T, payload string) schema.Event {
	t.Helper()
	events, err := command.AppendChanges(nil, 0, [][]byte{[]byte("RESTORE"), []byte("k"), []byte("4102444800000"), []byte(payload), []byte("ABSTTL")})
	if err != nil || len(events) != 1 {
		t.Fatalf("%d events, error %v", len(events), err)
	}
	return events[0]
}

func TestTheValueOfARESTOREIsPublishedInPlaceOfItsPayload(t *testing.T) {
	client := testkit.StartRedis(t).Client()
	if err := client.RPush(t.Context(), "l", "a", "b").Err(); err != nil {
		t.Fatal(err)
	}
	payload := client.Dump(t.Context(), "l").Val()
	e := restoreOf(t, payload)
	args := e.Args
	newTestSource(nil, 1<<20).cfg.readRestored(&e)
	want := schema.Value{Kind: schema.KindList, Elements: [][]byte{[]byte("a"), []byte("b")}}
	if d := cmp.Diff(want, e.Value); d != "" || e.Type != "list" || e.Command != "RESTORE" {
		t.Errorf("%s %s (-want +got):\n%s", e.Command, e.Type, d)
	}
	if got := fmt.Sprintf("%q", e.Args); got != `["k" "4102444800000" "" "ABSTTL" "REPLACE"]` {
		t.Errorf("arguments %s", got)
	}
	if string(args[2]) != payload {
		t.Error("the arguments of the unit were written to")
	}
}

func TestAPayloadThatCannotBePublishedAsAValueStays(t *testing.T) {
	c := &newTestSource(nil, 1<<20).cfg
	for name, payload := range map[string]string{
		"no payload":      "nonsense",
		"a later version": "\x00\x01v\x63\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		e := restoreOf(t, payload)
		c.readRestored(&e)
		if e.Value.Kind != schema.KindNone || e.Type != "" || !bytes.Equal(e.Args[2], []byte(payload)) {
			t.Errorf("%s: a %s value of kind %d, a payload of %d bytes", name, e.Type, e.Value.Kind, len(e.Args[2]))
		}
	}
}

// A value is put in place of its payload if the event is small enough then,
// however small the payload is; otherwise only its type is told.
func TestARestoredValueFitsItsEvent(t *testing.T) {
	const most = 2000
	client := testkit.StartRedis(t).Client()
	ctx := t.Context()
	for name, fill := range map[string]func(size int) error{
		"string": func(n int) error { return client.Set(ctx, "k", strings.Repeat("x", n), 0).Err() },
		"list":   func(n int) error { return client.RPush(ctx, "k", "first", strings.Repeat("x", n)).Err() },
		"hash": func(n int) error {
			return client.HSet(ctx, "k", "f", strings.Repeat("x", n/2), "g", strings.Repeat("y", n-n/2)).Err()
		},
		"stream": func(n int) error {
			args := &goredis.XAddArgs{Stream: "k", ID: "1-1", Values: []string{"f", strings.Repeat("x", n)}}
			return errors.Join(client.XAdd(ctx, args).Err(), client.XGroupCreate(ctx, "k", "g", "0").Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			whole, large := 0, 0
			for _, size := range append(sizes(most/2, most), 10*most, 1<<20) {
				if err := errors.Join(client.Del(ctx, "k").Err(), fill(size)); err != nil {
					t.Fatal(err)
				}
				s := newTestSource(nil, most)
				s.cfg.MaxTransactionBytes = 4 << 20
				e := restoreOf(t, client.Dump(ctx, "k").Val())
				s.cfg.readRestored(&e)
				switch {
				case e.Type != name:
					t.Fatalf("%d bytes: it is a %q", size, e.Type)
				case e.Value.Kind == schema.KindNone:
					large++
					continue
				case large > 0:
					t.Errorf("%d bytes are put in place, fewer were not", size)
				}
				whole++
				if err := s.lane.append([]schema.Event{e}, at(1)); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
			if whole == 0 || large < 2 {
				t.Errorf("%d values were put in place, %d were not", whole, large)
			}
		})
	}
}

// sizes are all numbers from one up to another, in steps.
func sizes(from, to int) (all []int) {
	for n := from; n < to; n += 7 {
		all = append(all, n)
	}
	return all
}
