package source

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
	readRestored(&e)
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
	client := testkit.StartRedis(t).Client()
	if err := client.Set(t.Context(), "big", strings.Repeat("x", 600<<10), 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(t.Context(), "rdbcompression", "no").Err(); err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string]string{
		"more than a part": client.Dump(t.Context(), "big").Val(),
		"no payload":       "nonsense",
		"a later version":  "\x00\x01v\x63\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		e := restoreOf(t, payload)
		readRestored(&e)
		if e.Value.Kind != schema.KindNone || !bytes.Equal(e.Args[2], []byte(payload)) {
			t.Errorf("%s: a value of kind %d, a payload of %d bytes", name, e.Value.Kind, len(e.Args[2]))
		}
	}
}
