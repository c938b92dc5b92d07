package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"twinlog/internal/redis"
	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/source/rdb"
)

func newTestSource(r *testkit.Redis, maxEventBytes int) *Source {
	cfg := Config{
		Link: "l", Site: "a", Direction: "a-to-b", Peer: "b-to-a", Lane: "0", Topic: "l.a-to-b", Encoder: schema.NewEncoder(0),
		Decoder:   func() *schema.Decoder { return schema.NewDecoder(nil) },
		MaxMemory: 64 << 20, MaxEventBytes: maxEventBytes, MaxTransactionBytes: 1 << 20, Snapshot: SnapshotInitialOnly,
		Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry(), "l", "a-to-b", "a"),
	}
	if r != nil {
		cfg.Redis = redis.Config{Addrs: []string{r.Addr()}}
	}
	return New(cfg)
}

// copied makes a full synchronisation from the given position and returns
// what is in the lane then.
func copied(t *testing.T, s *Source, from offsets.Position) ([]schema.Event, offsets.Position, error) {
	t.Helper()
	s.lane.restore(from)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = s.synchronise(ctx, conn)
	r := &rig{lane: s.lane, t: t}
	var all []schema.Event
	pos := offsets.Position{}
	for {
		events, p := r.take()
		if events == nil {
			return all, pos, err
		}
		all, pos = append(all, events...), p
	}
}

func TestSnapshotBeginsAndEndsWithControlEvents(t *testing.T) {
	server := testkit.StartRedis(t)
	ctx := t.Context()
	mark := offsets.Mark{TopicID: strings.Repeat("0", 32), Seq: 33, Offset: 44}
	pipe := server.Client().Pipeline()
	pipe.Set(ctx, "text", "v", 0)
	pipe.RPush(ctx, "list", "x", "y")
	pipe.Set(ctx, offsets.MarkKey("l", "b-to-a", "0"), mark.String(), 0)
	pipe.Set(ctx, offsets.Reserved+"other", "x", 0)
	pipe.Do(ctx, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	events, pos, err := copied(t, newTestSource(server, 1<<20), offsets.Position{Seq: 10, Epoch: 2, Phase: offsets.PhaseSnapshot, UnfinishedSeq: 4})
	if !errors.Is(err, ErrSnapshotDone) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{11, 12, 13, 14, 15}, seqs(events)); diff != "" {
		t.Fatal(diff)
	}
	begin, end := events[0], events[4]
	if begin.Command != schema.SnapshotBegin || begin.Source.Snapshot != "first" || begin.Source.Epoch != 3 {
		t.Errorf("SNAPSHOT_BEGIN %+v", begin)
	}
	// Keys and libraries, the seq of its own begin, and of the oldest
	// interrupted one.
	if diff := cmp.Diff([][]byte{[]byte("3"), []byte("11"), []byte("4")}, end.Args); end.Command != schema.SnapshotEnd || diff != "" {
		t.Errorf("%s: %s", end.Command, diff)
	}
	if end.Source.Snapshot != "last" || end.Seen != 33 {
		t.Errorf("SNAPSHOT_END %+v", end)
	}
	if pos.Phase != offsets.PhaseStream || pos.UnfinishedSeq != 0 || pos.Epoch != 3 || pos.Mark != mark || pos.Seen != 33 || pos.Seq != 15 {
		t.Errorf("position %+v", pos)
	}
	found := map[string]schema.Op{}
	for _, e := range events[1:4] {
		found[string(e.Key)+e.Command] = e.Op
		if offsets.IsReserved(e.Key) {
			t.Errorf("a reserved key is in the snapshot: %q", e.Key)
		}
	}
	if diff := cmp.Diff(map[string]schema.Op{"text": schema.OpValue, "list": schema.OpValue, "FUNCTION": schema.OpFunction}, found); diff != "" {
		t.Error(diff)
	}
}

func TestSnapshotThatIsCutKeepsTheFirstUnfinishedBegin(t *testing.T) {
	for _, before := range []int64{0, 4} {
		t.Run(fmt.Sprintf("the oldest begin is %d", before), func(t *testing.T) {
			server := testkit.StartRedis(t)
			for i := range 100 {
				if err := server.Client().RPush(t.Context(), "big"+strings.Repeat("k", 2000), i).Err(); err != nil {
					t.Fatal(err)
				}
			}
			events, pos, err := copied(t, newTestSource(server, 1024), offsets.Position{Seq: 10, Phase: offsets.PhaseSnapshot, UnfinishedSeq: before})
			var big *TooBigError
			if !errors.As(err, &big) || !strings.HasPrefix(big.Key, "big") || big.Type != "list" || big.Limit != 1024 {
				t.Errorf("error %v", err)
			}
			if len(events) != 1 || events[0].Command != schema.SnapshotBegin {
				t.Errorf("%d events", len(events))
			}
			want := before
			if want == 0 {
				want = 11
			}
			if pos.Phase != offsets.PhaseSnapshot || pos.UnfinishedSeq != want {
				t.Errorf("position %+v, want unfinished seq %d", pos, want)
			}
		})
	}
}

func TestSnapshotEntriesThatMoveThePosition(t *testing.T) {
	aux := func(value string) *rdb.Entry {
		return &rdb.Entry{Kind: rdb.Aux, Name: []byte("repl-stream-db"), Text: []byte(value)}
	}
	mark := func(db int32, text string) *rdb.Entry {
		return &rdb.Entry{Kind: rdb.Value, DB: db, Key: []byte(offsets.MarkKey("l", "b-to-a", "0")), Value: schema.Value{Kind: schema.KindString, Data: []byte(text)}}
	}
	good := offsets.Mark{TopicID: strings.Repeat("0", 32), Seq: 3, Offset: 4}
	for _, tt := range []struct {
		name  string
		entry *rdb.Entry
		want  offsets.Position
		wrong string
	}{
		{"the selected database", aux("5"), offsets.Position{Database: 5}, ""},
		{"no selected database", aux("-1"), offsets.Position{}, ""},
		{"a database that is none", aux("five"), offsets.Position{}, `repl-stream-db "five" is not a database`},
		{"the mark", mark(0, good.String()), offsets.Position{Mark: good, Seen: 3}, ""},
		{"a key of the mark's name elsewhere", mark(1, good.String()), offsets.Position{}, ""},
		{"a mark that is none", mark(0, "x"), offsets.Position{}, `site a: mark "x"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var pos offsets.Position
			err := newTestSource(nil, 1<<20).noteSnapshotEntry(tt.entry, &pos)
			if tt.wrong == "" && err != nil || tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)) {
				t.Errorf("error %v, want %q", err, tt.wrong)
			}
			if diff := cmp.Diff(tt.want, pos); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEmptyCollectionsAreNothing(t *testing.T) {
	for kind, want := range map[schema.Kind]bool{
		schema.KindString: false, schema.KindDump: false, schema.KindStream: false,
		schema.KindList: true, schema.KindSet: true, schema.KindHash: true, schema.KindZSet: true,
	} {
		if isNothing(&rdb.Entry{Last: true, Value: schema.Value{Kind: kind}}) != want {
			t.Errorf("kind %d without elements: nothing is %v", kind, !want)
		}
	}
}

// An element above what the reader takes by itself needs the option that says
// how large a unit may be.
func TestALargeElementOfASnapshotIsReadWhereAUnitMayBeSoLarge(t *testing.T) {
	server := testkit.StartRedis(t)
	const size = rdb.DefaultMaxElementBytes + 1<<20
	if err := server.Client().Eval(t.Context(), "return redis.call('RPUSH', KEYS[1], string.rep('x', ARGV[1]))", []string{"k"}, size).Err(); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int64{1 << 20, 2 * size} {
		read, err := elementBytes(t, server, limit)
		switch {
		case limit > size && (err != nil || read != size):
			t.Errorf("%d bytes read of %d: %v", read, size, err)
		case limit < size && (err == nil || !strings.Contains(err.Error(), "limits.max_transaction_bytes")):
			t.Errorf("error %v", err)
		}
	}
}

// elementBytes makes a full synchronisation and counts the bytes of elements.
func elementBytes(t *testing.T, server *testkit.Redis, maxTransactionBytes int64) (n int, err error) {
	t.Helper()
	s := newTestSource(server, 1<<20)
	s.cfg.MaxTransactionBytes = maxTransactionBytes
	conn, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Psync(t.Context(), "?", -1); err != nil {
		t.Fatal(err)
	}
	err = s.readSnapshot(t.Context(), conn, func(e *rdb.Entry) error {
		for _, element := range e.Value.Elements {
			n += len(element)
		}
		return nil
	})
	return n, err
}

// Between the look at a site's history and the link the site may come back
// empty: that is not the truth, although a snapshot is due anyway.
func TestASiteThatCameBackEmptyIsNotCopied(t *testing.T) {
	server := testkit.StartRedis(t)
	s := newReading(t, server).source
	s.full = true
	s.lane.restore(offsets.Position{
		Replid: "before", ReplOffset: 100, Seq: 9, Epoch: 1, Phase: offsets.PhaseStream, Seen: 5, Settled: 5, Mark: offsets.Mark{TopicID: strings.Repeat("0", 32), Seq: 5},
	})
	conn, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = s.synchronise(t.Context(), conn)
	var lost *LostError
	if !errors.As(err, &lost) || s.lane.seq() != 9 {
		t.Errorf("error %v, events up to seq %d", err, s.lane.seq())
	}
	if keys := server.Client().DBSize(t.Context()).Val(); keys != 0 {
		t.Errorf("%d keys were written to a site that lost its data", keys)
	}
}
