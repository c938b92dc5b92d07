package rdb

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"twinlog/schema"
)

func id(ms, seq uint64) schema.StreamID { return schema.StreamID{Ms: ms, Seq: seq} }

func entryOf(id schema.StreamID, fields ...string) schema.StreamEntry {
	e := schema.StreamEntry{ID: id}
	for _, f := range fields {
		e.Fields = append(e.Fields, []byte(f))
	}
	return e
}

// streamFile is a stream with a tombstone, shared and own fields, fields in
// any order and more than once, two groups, and a consumer that has nothing.
func streamFile(typ byte) file {
	node := packListpack(
		3, 1, 2, "f", "g", 0, // master entry
		flagSameFields, 0, 0, "1", 2, 5,
		flagSameFields|flagDeleted, 0, 1, "x", "y", 5,
		0, 5, -1, 3, "g", "a", "f", "b", "g", "c", 10,
		0, 7, 0, 1, "f", strings.Repeat("long ", 30), 6,
	)
	f := file{}.key(typ, "stream").length(2).strings(string(file{}.rawID(1000, 5)), node)
	f = f.strings(string(file{}.rawID(2000, 0)), packListpack(1, 0, 0, 0, flagSameFields, 0, 0, 3))
	f = f.lengths(4, 2000, 0)
	if typ >= 19 {
		f = f.lengths(1000, 5, 1000, 6, 5)
	}
	f = f.length(2)

	f = f.strings("group one").lengths(1007, 5)
	if typ >= 19 {
		f = f.length(math.MaxUint64)
	}
	f = f.length(3).rawID(1000, 5).le64(111).length(1).rawID(1005, 4).le64(222).length(70).rawID(1007, 5).le64(333).length(2)
	f = f.length(2)
	f = f.strings("alice").le64(444)
	if typ >= 21 {
		f = f.le64(555)
	}
	f = f.length(2).rawID(1000, 5).rawID(1007, 5)
	f = f.strings("bob").le64(666)
	if typ >= 21 {
		f = f.le64(-1)
	}
	f = f.length(1).rawID(1005, 4)

	f = f.strings("group two").lengths(0, 0)
	if typ >= 19 {
		f = f.length(0)
	}
	f = f.length(0).length(1).strings("idle").le64(777)
	if typ >= 21 {
		f = f.le64(-1)
	}
	f = f.length(0)
	if typ >= 26 { // two producers, one of which has sent two messages
		f = f.lengths(100, 1000, 2).strings("producer").length(2).strings("first").lengths(1000, 5).strings(strings.Repeat("second", 50)).lengths(1005, 4)
		f = f.strings("idle").length(0).lengths(2, 1)
	}
	return f
}

func streamValue(typ byte) schema.Value {
	v := schema.Value{
		Kind: schema.KindStream,
		Stream: []schema.StreamEntry{
			entryOf(id(1000, 5), "f", "1", "g", "2"),
			entryOf(id(1005, 4), "g", "a", "f", "b", "g", "c"),
			entryOf(id(1007, 5), "f", strings.Repeat("long ", 30)),
			entryOf(id(2000, 0)),
		},
		Meta: &schema.StreamMeta{
			LastID: id(2000, 0), MaxDeletedID: id(1000, 6), EntriesAdded: 5,
			Groups: []schema.StreamGroup{
				{Name: []byte("group one"), LastID: id(1007, 5), EntriesRead: -1, Consumers: []schema.StreamConsumer{
					{Name: []byte("alice"), SeenMs: 444, ActiveMs: 555, Pending: []schema.PendingEntry{
						{ID: id(1000, 5), DeliveredMs: 111, Deliveries: 1},
						{ID: id(1007, 5), DeliveredMs: 333, Deliveries: 2},
					}},
					{Name: []byte("bob"), SeenMs: 666, ActiveMs: -1, Pending: []schema.PendingEntry{
						{ID: id(1005, 4), DeliveredMs: 222, Deliveries: 70},
					}},
				}},
				{Name: []byte("group two"), Consumers: []schema.StreamConsumer{{Name: []byte("idle"), SeenMs: 777, ActiveMs: -1}}},
			},
		},
	}
	if typ < 21 {
		v.Meta.Groups[0].Consumers[0].ActiveMs = -1
	}
	if typ < 19 {
		v.Meta.MaxDeletedID, v.Meta.EntriesAdded = id(0, 0), -1
		v.Meta.Groups[1].EntriesRead = -1
	}
	return v
}

func TestReaderReadsStreamsOfEveryVersion(t *testing.T) {
	for _, typ := range []byte{15, 19, 21, 26} {
		data := append(newFile("REDIS0013"), streamFile(typ)...).key(0, "next").strings("intact").end()
		for _, chunk := range []int{0, 1, 50, 100, 200, 400} {
			t.Run(fmt.Sprintf("type %d in parts of %d", typ, chunk), func(t *testing.T) {
				got := values(t, data, Options{ChunkBytes: chunk})
				if d := cmp.Diff(streamValue(typ), got["stream"].Value, exact); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
				if chunk == 1 && got["stream"].parts < 9 {
					t.Errorf("only %d parts", got["stream"].parts)
				}
				if string(got["next"].Value.Data) != "intact" {
					t.Error("the key behind is wrong")
				}
			})
		}
	}
}

func TestReaderRefusesStreamsThatContradictThemselves(t *testing.T) {
	node := func(elements ...any) file {
		return file{}.key(19, "s").length(1).strings(string(file{}.rawID(1, 1)), packListpack(elements...))
	}
	// tail ends the entries and begins a group with one pending entry.
	tail := func(f file) file {
		return f.lengths(1, 1, 1, 1, 1, 0, 0, 1, 1).strings("g").lengths(0, 0, 0)
	}
	good := []any{1, 0, 1, "f", 0, flagSameFields, 0, 0, "v", 4}
	for _, c := range []struct {
		name, want string
		file       file
	}{
		{"a node key that is no id", "id of 3 bytes", file{}.key(19, "s").length(1).strings("abc", packListpack(good...))},
		{"more entries than counted", "short of its count", node(append(append([]any{}, good...), good[5:]...)...)},
		{"fewer entries than counted", "short of its count", node(2, 0, 1, "f", 0, flagSameFields, 0, 0, "v", 4)},
		{"a negative count", "counts -1", node(-1, 0, 1, "f", 0)},
		{"a negative number of fields", "counts -9223372036854775808", node(1, 0, math.MinInt64, "f", 0)},
		{"far more fields than there are", "ends inside an entry", node(1, 0, math.MaxUint32, "f", 0)},
		{"text for a number", "where a number belongs", node("one", 0, 1, "f", 0)},
		{"unknown flags", "unknown flags 4", node(1, 0, 1, "f", 0, 4, 0, 0, "v", 4)},
		{"a wrong element count", "says it has 5", node(1, 0, 1, "f", 0, flagSameFields, 0, 0, "v", 5)},
		{"a master entry without its end", "ends with 1", node(1, 0, 1, "f", 1)},
		{"an entry cut off", "ends inside an entry", node(1, 0, 1, "f", 0, flagSameFields, 0)},
		{"a pending entry without a consumer", "have no consumer", tail(node(good...)).length(1).rawID(1, 1).le64(0).length(1).length(0)},
		{"a consumer's pending entry that the group lacks", "is not, or not only, its group's", tail(node(good...)).length(0).length(1).strings("c").le64(0).length(1).rawID(1, 1)},
		{"a pending entry of two consumers", "is not, or not only, its group's", tail(node(good...)).length(1).rawID(1, 1).le64(0).length(1).length(1).strings("c").le64(0).length(2).rawID(1, 1).rawID(1, 1)},
		{"pending entries out of order", "not in order", tail(node(good...)).length(2).rawID(1, 1).le64(0).length(1).rawID(1, 1).le64(0).length(1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := collect(append(newFile("REDIS0010"), c.file...).endUnchecked(), Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// The oracle keeps fields in a map, so here the server itself is asked.
func TestReaderAgreesWithTheServerAboutStreams(t *testing.T) {
	s := startServer(t, "--stream-node-max-entries", "7")
	ctx := t.Context()
	s.do(t, "XADD plain 5-1 f 1 f 2 g 3 f 1", "XADD empty 1-1 a b", "XDEL empty 1-1", "XGROUP CREATE made $ $ MKSTREAM")
	for i := range 200 {
		fields := []any{"same", i, "fields", strings.Repeat("v", i)}
		if i%3 == 0 {
			fields = []any{i, -i, "z", "own", "a", i * 1_000_000_007}
		}
		if err := s.XAdd(ctx, &redis.XAddArgs{Stream: "big", ID: fmt.Sprintf("%d-%d", 100+i/4, i), Values: fields}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		s.do(t, fmt.Sprintf("XDEL big %d-%d", 100+i*5/4, i*5))
	}
	s.do(t, "XTRIM big MAXLEN 150", "XGROUP CREATE big g1 0", "XGROUP CREATE big g2 $", "XGROUP CREATE big g3 130-120 ENTRIESREAD 3",
		"XREADGROUP GROUP g1 alice COUNT 60 STREAMS big >", "XREADGROUP GROUP g1 bob COUNT 10 STREAMS big >", "XGROUP CREATECONSUMER big g1 idle",
		"XREADGROUP GROUP g3 carol COUNT 5 STREAMS big >", "XCLAIM big g1 carol 0 130-121 FORCE RETRYCOUNT 9", "XDEL big 130-121")
	want := map[string]schema.Value{}
	for _, k := range []string{"plain", "empty", "made", "big"} {
		want[k] = s.streamValue(t, k)
	}
	data := s.dump(t)
	compareWithOracle(t, data)
	for _, chunk := range []int{0, 1, 500} {
		got := values(t, data, Options{ChunkBytes: chunk})
		for k := range want {
			if d := diff(item{Value: want[k]}, item{Value: got[k].Value}); d != "" {
				t.Errorf("%s in parts of %d (-server +reader):\n%s", k, chunk, d)
			}
		}
	}
}

func (s *server) streamValue(t *testing.T, key string) schema.Value {
	t.Helper()
	parse := func(v any) schema.StreamID {
		ms, seq, _ := strings.Cut(v.(string), "-")
		a, err1 := strconv.ParseUint(ms, 10, 64)
		b, err2 := strconv.ParseUint(seq, 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("%v is no stream id", v)
		}
		return id(a, b)
	}
	pairs := func(v any) map[string]any {
		m := map[string]any{}
		for l := v.([]any); len(l) > 1; l = l[2:] {
			m[l[0].(string)] = l[1]
		}
		return m
	}
	count := func(v any) int64 {
		if v == nil {
			return -1
		}
		return v.(int64)
	}
	reply, err := s.Do(t.Context(), "XINFO", "STREAM", key, "FULL", "COUNT", "0").Result()
	if err != nil {
		t.Fatal(err)
	}
	info := pairs(reply)
	v := schema.Value{Kind: schema.KindStream, Meta: &schema.StreamMeta{
		LastID: parse(info["last-generated-id"]), MaxDeletedID: parse(info["max-deleted-entry-id"]), EntriesAdded: count(info["entries-added"]),
	}}
	for _, e := range info["entries"].([]any) {
		entry := schema.StreamEntry{ID: parse(e.([]any)[0])}
		for _, f := range e.([]any)[1].([]any) {
			entry.Fields = append(entry.Fields, []byte(f.(string)))
		}
		v.Stream = append(v.Stream, entry)
	}
	for _, g := range info["groups"].([]any) {
		g := pairs(g)
		group := schema.StreamGroup{Name: []byte(g["name"].(string)), LastID: parse(g["last-delivered-id"]), EntriesRead: count(g["entries-read"])}
		for _, c := range g["consumers"].([]any) {
			c := pairs(c)
			consumer := schema.StreamConsumer{Name: []byte(c["name"].(string)), SeenMs: c["seen-time"].(int64), ActiveMs: -1}
			if at, ok := c["active-time"]; ok { // since 7.2
				consumer.ActiveMs = at.(int64)
			}
			for _, p := range c["pending"].([]any) {
				p := p.([]any)
				consumer.Pending = append(consumer.Pending, schema.PendingEntry{ID: parse(p[0]), DeliveredMs: p[1].(int64), Deliveries: p[2].(int64)})
			}
			group.Consumers = append(group.Consumers, consumer)
		}
		v.Meta.Groups = append(v.Meta.Groups, group)
	}
	return v
}
