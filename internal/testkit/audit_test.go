package testkit

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/offsets"
	"twinlog/schema"
)

const auditedMark = "SET __twinlog:l:b-to-a:0 mark"

// echoBlock is the unit of an applied batch, as it stands in the stream.
const echoBlock = "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$20\r\n__twinlog:l:b-to-a:0\r\n$4\r\nmark\r\n" +
	"*3\r\n$3\r\nSET\r\n$6\r\nechoed\r\n$1\r\n1\r\n*1\r\n$4\r\nEXEC\r\n"

// publication is what a source would publish: units, each a list of events.
type publication [][]schema.Event

// captured writes to a Redis, reads the stream and makes events of it as a
// source does. The first unit is the HEARTBEAT of an attach.
func captured(t *testing.T, server *Redis, from int64) publication {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	link, err := openReplica(ctx, server.Addr(), "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer link.conn.Close()
	seeded(t, server.Client())
	end, err := masterOffset(ctx, server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	p := publication{{{Op: schema.OpControl, DB: schema.NoDB, Command: schema.Heartbeat, Source: schema.Source{ReplOffset: from}}}}
	for link.offset < end {
		raw, err := link.next()
		if err != nil {
			t.Fatal(err)
		}
		if len(raw.commands) == 0 || string(raw.commands[0].args[1]) == "__twinlog:l:b-to-a:0" {
			continue
		}
		var events []schema.Event
		for _, c := range raw.commands {
			if events, err = command.AppendChanges(events, c.db, c.args); err != nil {
				t.Fatal(err)
			}
		}
		for i := range events {
			events[i].Source.ReplOffset = raw.offset
		}
		p = append(p, events)
	}
	for i := range p {
		p.number(i)
	}
	return p
}

// number sets what the events of unit i have besides their change.
func (p publication) number(i int) {
	seq := int64(1)
	for _, events := range p[:i] {
		seq += int64(len(events))
	}
	group := []byte(strconv.FormatInt(seq, 10))
	for k := range p[i] {
		e := &p[i][k]
		e.Origin, e.Seq, e.Source.Epoch, e.Source.Snapshot = "a", seq+int64(k), 1, "false"
		if e.Transaction.Set = len(p[i]) > 1; e.Transaction.Set {
			e.Transaction.Transaction = schema.Transaction{ID: group, Index: int32(k), Last: k == len(p[i])-1}
		}
	}
}

// seeded makes a stream of nine units, two of them echoes, in two databases.
func seeded(t *testing.T, client *goredis.Client) {
	t.Helper()
	run(t, client, `
SET k 1
MULTI
INCR k
LPUSH l a b
EXEC
MULTI
`+auditedMark+`
SET echoed 1
EXEC
`+auditedMark+`
MSET x 1 y 2 z 3
SELECT 2
DEL nothing
SET k `+strings.Repeat("long", 40)+`
SELECT 0
UNLINK x y
EVAL return{redis.call('INCR','k'),redis.call('APPEND','s','x')} 0
PUBLISH channel message
`)
}

// publish puts units into the topic, each list of units in one transaction.
func publish(t *testing.T, brokers []string, units publication, perTransaction int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID("t"), kgo.DefaultProduceTopic("l.a-to-b"), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	encoder := schema.NewEncoder(0)
	var events []schema.Event
	for _, u := range units {
		events = append(events, u...)
	}
	for len(events) > 0 {
		n := min(perTransaction, len(events))
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for i, e := range events[:n] {
			r := &kgo.Record{Key: e.Key, Value: encoder.Append(nil, &e), Headers: []kgo.RecordHeader{
				{Key: schema.HeaderOrigin, Value: []byte(e.Origin)}, {Key: schema.HeaderOp, Value: []byte{byte(e.Op)}},
			}}
			if i == n-1 {
				position, err := offsets.AppendPosition(nil, offsets.Position{Seq: e.Seq, Phase: offsets.PhaseStream})
				if err != nil {
					t.Fatal(err)
				}
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: schema.HeaderPosition, Value: position})
			}
			if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		events = events[n:]
	}
}

func TestAudit(t *testing.T) {
	all := 1 << 20
	for _, tt := range []struct {
		name           string
		perTransaction int
		change         func(p publication) publication
		want           string // in the error; empty: none
	}{
		{"a true copy passes", all, func(p publication) publication { return p }, ""},
		{"a unit lost at the end", all, func(p publication) publication { return p[:len(p)-1] }, "is missing: m db -1 PUBLISH"},
		{"a unit lost in the middle", all, func(p publication) publication { return renumbered(append(p[:2:2], p[3:]...)) }, "is missing: u db 0 INCR"},
		{"a unit twice", all, func(p publication) publication {
			again := append([]schema.Event(nil), p[1]...)
			return renumbered(append(p[:3:3], append(publication{again}, p[3:]...)...))
		}, "published again: u db 0 SET"},
		{"units out of order", all, func(p publication) publication { p[1], p[2] = p[2], p[1]; return renumbered(p) }, "is missing: u db 0 SET"},
		{"half a unit", all, func(p publication) publication { p[2] = p[2][:1]; return renumbered(p) }, "is missing: u db 0 LPUSH"},
		{"an echo", all, func(p publication) publication {
			echo := schema.Event{Op: schema.OpWrite, Key: []byte("echoed"), Command: "SET", Args: [][]byte{[]byte("echoed"), []byte("1")}}
			echo.Source.ReplOffset = p[2][0].Source.ReplOffset + int64(len(echoBlock))
			return renumbered(append(p[:3:3], append(publication{{echo}}, p[3:]...)...))
		}, "an echo: u db 0 SET"},
		{"another argument", all, func(p publication) publication { p[1][0].Args[1] = []byte("2"); return p }, `key "k" "k" "2", want`},
		{"another database", all, func(p publication) publication { p[1][0].DB = 1; return p }, "u db 1 SET"},
		{"a hole in seq", all, func(p publication) publication { p[3][0].Seq += 5; return p }, "follows"},
		{"another origin", all, func(p publication) publication { p[1][0].Origin = "b"; return p }, `origin "b", want "a"`},
		{"an event outside its group", all, func(p publication) publication { p[2][1].Transaction.Set = false; return p }, "is in no group"},
		{"a group without an end", all, func(p publication) publication { p[2][1].Transaction.Last = false; return p }, "last false"},
		{"a group over two transactions", 3, func(p publication) publication { return p }, "is split"},
		{"a heartbeat that passes a unit by", all, func(p publication) publication {
			beat := append([]schema.Event(nil), p[0]...)
			beat[0].Source.ReplOffset = p[1][0].Source.ReplOffset
			return renumbered(append(p[:1:1], append(publication{beat}, p[1:]...)...))
		}, "was not published whole"},
		{"a heartbeat that goes back", all, func(p publication) publication {
			return renumbered(append(p, append([]schema.Event(nil), p[0]...)))
		}, "follows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "l.a-to-b"))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			server := StartRedis(t)
			audit := NewAudit(t, "l", cluster.ListenAddrs(), AuditSite{Name: "a", Peer: "b", Addr: server.Addr()})
			from, err := masterOffset(t.Context(), server.Addr())
			if err != nil {
				t.Fatal(err)
			}
			publish(t, cluster.ListenAddrs(), tt.change(captured(t, server, from)), tt.perTransaction)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			err = audit.Check(ctx)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

// A recording whose link is cut goes on where it ended.
func TestRecorderJoinsAgain(t *testing.T) {
	server := StartRedis(t)
	r, err := startRecorder(t.Context(), server.Addr(), newClassifier("l", AuditSite{Name: "a", Peer: "b"}))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for range 5 {
		run(t, server.Client(), "SELECT 3\nSET k v\nCLIENT KILL TYPE replica\nMULTI\nINCR n\nINCR n\nEXEC")
	}
	end, err := masterOffset(t.Context(), server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.await(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	units := r.recorded()
	if len(units) != 10 {
		t.Fatalf("%d units: %v", len(units), units)
	}
	for i, u := range units {
		want := []string{`u db 3 SET key "k" "k" "v"`, `u db 3 INCR key "n" "n"`}[i%2]
		if len(u.changes) != 1+i%2 || u.changes[0] != want {
			t.Errorf("unit %d: %v", i, u.changes)
		}
	}
}

func renumbered(p publication) publication {
	for i := range p {
		p.number(i)
	}
	return p
}
