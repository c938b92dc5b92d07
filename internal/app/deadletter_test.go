package app_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

const oneWayDeadLetter = "  - {from: a, to: b, errors: dead_letter}\n"

// With errors: dead_letter, an event that cannot be applied goes to the
// dead-letter topic with all that follows of its keys; everything else stays
// equal, and a snapshot repairs the keys. All cases share one broker.
func TestDeadLetters(t *testing.T) {
	broker := testkit.StartKafka(t)
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *testkit.Kafka)
	}{
		{"a command that has no effect, and what follows of its keys", letterNoEffect},
		{"a command in fragments that has no effect", letterFragments},
		{"a value in parts of which the target refuses one", letterParts},
		{"records that are no events", letterUnreadable},
		{"an event that no source of the link wrote with its seq", letterForeignEvents},
		{"a database that is flushed, or swapped, while keys are quarantined", letterFlushAndSwap},
		{"a database that a client flushes at the target while keys of another are quarantined", letterTargetFlushed},
		{"a removal that has no effect at a target that is full", letterFullTarget},
		{"what concerns more than a key still stops the direction", letterStops},
		{"keys in quarantine stop a direction that is set back to fail", letterSetBack},
		{"a two-way link keeps its other keys equal", letterTwoWay},
		{"a value that the target of a two-way link does not take", letterTwoWayValue},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, broker)
		})
	}
}

// A worker that is killed around a dead letter loses none and forgets no
// quarantine.
func TestCrashAroundDeadLetters(t *testing.T) {
	broker := testkit.StartKafka(t)
	for _, tt := range []struct {
		point string
		nth   int
	}{
		{"exec-sent", 1},
		{"effect-missing", 1},
		{"effect-noted", 1},
		{"letters-written", 1},
		{"reckoned", 1},
		{"exec-sent", 2},
		{"letters-written", 2},
		{"exec-sent", 3},
		{"applied", 1}, // of what follows
	} {
		t.Run(fmt.Sprint(tt.point, "-", tt.nth), func(t *testing.T) {
			t.Parallel()
			letterCrash(t, broker, linkOptions{directions: oneWayDeadLetter}, tt.point, tt.nth)
		})
	}
}

// letter is a record of the dead-letter topic.
type letter struct {
	key, value string
	headers    map[string]string
}

func (l letter) offset() int64 {
	n, _ := strconv.ParseInt(l.headers["__connect.errors.offset"], 10, 64)
	return n
}

func (l letter) cause() string { return l.headers["__connect.errors.exception.class.name"] }

// records reads a topic from its start to where it ends now.
func (l *badLink) records(topic string) []*kgo.Record {
	l.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(l.kafka.Brokers()...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(l.t.Context(), topic)
	if err != nil {
		l.t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	var all []*kgo.Record
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(l.t.Context())
		if err := fetches.Err(); err != nil {
			l.t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			if next = r.Offset + 1; !r.Attrs.IsControl() {
				all = append(all, r)
			}
		}
	}
	return all
}

// letters are the dead letters in order.
func (l *badLink) letters() []letter {
	l.t.Helper()
	records := l.records(l.name + ".dead-letter")
	all := make([]letter, 0, len(records))
	for _, r := range records {
		d := letter{string(r.Key), string(r.Value), map[string]string{}}
		for _, h := range r.Headers {
			d.headers[h.Key] = string(h.Value)
		}
		all = append(all, d)
	}
	return all
}

// setAside waits until so many dead letters are there and returns them.
func (l *badLink) setAside(n int) []letter {
	l.t.Helper()
	var all []letter
	testkit.Eventually(l.t, 30*time.Second, func() error {
		if all = l.letters(); len(all) < n {
			return fmt.Errorf("%d dead letters, want %d", len(all), n)
		}
		return nil
	})
	return all
}

// original checks that each letter is what stands in the direction's topic.
func (l *badLink) original(all []letter) {
	l.t.Helper()
	topic := map[int64]*kgo.Record{}
	for _, r := range l.records(l.topic()) {
		topic[r.Offset] = r
	}
	for _, d := range all {
		r := topic[d.offset()]
		if r == nil || string(r.Key) != d.key || string(r.Value) != d.value {
			l.t.Errorf("the letter of key %q, offset %d, is not the record that stands there", d.key, d.offset())
			continue
		}
		want := map[string]string{
			"__connect.errors.topic": l.topic(), "__connect.errors.partition": "0", "__connect.errors.connector.name": "sink-b", "__connect.errors.task.id": "0",
		}
		for _, h := range r.Headers {
			want[h.Key] = string(h.Value)
		}
		for name, value := range want {
			if d.headers[name] != value {
				l.t.Errorf("header %s of offset %d is %q, want %q", name, r.Offset, d.headers[name], value)
			}
		}
		for _, name := range []string{"stage", "class.name", "exception.class.name", "exception.message"} {
			if d.headers["__connect.errors."+name] == "" {
				l.t.Errorf("offset %d has no header %s", r.Offset, name)
			}
		}
	}
}

// quarantined waits until exactly these keys ("<db>:<key>") are in quarantine
// at site b.
func (l *badLink) quarantined(want ...string) {
	l.t.Helper()
	slices.Sort(want)
	testkit.Eventually(l.t, 30*time.Second, func() error {
		fields, err := l.b.Client().HGetAll(l.t.Context(), offsets.QuarantineKey(l.name, "a-to-b", "0")).Result()
		delete(fields, "errors")
		got := slices.Sorted(maps.Keys(fields))
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("in quarantine are %q, want %q", got, want)
		}
		return err
	})
}

// repair publishes all values of site a again and waits until both are equal.
func (l *badLink) repair() {
	l.t.Helper()
	l.twinlog("resume", "source-a", "--snapshot")
	l.quarantined()
	l.equal()
}

// sendAgain repairs one key.
func (l *badLink) sendAgain(key string) {
	l.t.Helper()
	l.twinlog("snapshot", "--direction", "a-to-b", "--match", key)
	l.quarantined()
	l.equal()
}

// differ writes something at b behind the link's back.
func (l *badLink) differ(args ...any) { l.does(l.b, args...) }

func letterNoEffect(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: oneWayDeadLetter})
	l.differ("SET", "list", "a string where the origin has none")
	unit := l.a.Client().TxPipeline()
	unit.Set(t.Context(), "before", "1", 0)
	unit.RPush(t.Context(), "list", "x")
	unit.Copy(t.Context(), "list", "copy", 0, false)
	unit.Set(t.Context(), "after", "1", 0)
	if _, err := unit.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.arrives("before", "1")
	l.arrives("after", "1") // the rest of the unit took effect
	l.does(l.a, "RPUSH", "list", "y")
	l.does(l.a, "RPUSH", "copy", "z")
	l.does(l.a, "SET", "k", "2")
	l.arrives("k", "2")
	all := l.setAside(4)
	l.original(all)
	var causes []string
	for _, d := range all {
		causes = append(causes, d.key+" "+d.cause())
	}
	if want := []string{"list no_effect", "copy quarantined", "list quarantined", "copy quarantined"}; !slices.Equal(causes, want) {
		t.Errorf("the letters are %q, want %q", causes, want)
	}
	if m := all[0].headers["__connect.errors.exception.message"]; !strings.Contains(m, "RPUSH: WRONGTYPE") {
		t.Errorf("the reason is %q", m)
	}
	l.quarantined("0:list", "0:copy")

	// It is told, and a restart forgets nothing.
	l.toldOf(2, "list", "WRONGTYPE")
	if n := metric(t, l.worker, "twinlog_sink_dead_letters_total", `site="b"`); n != 4 {
		t.Errorf("twinlog_sink_dead_letters_total is %v, want 4", n)
	}
	l.stop()
	l.does(l.a, "RPUSH", "list", "while it is down")
	l.run()
	l.setAside(5)
	l.toldOf(2, "list", "WRONGTYPE")

	// A deletion repairs one key, its value the other.
	l.does(l.a, "DEL", "copy")
	l.quarantined("0:list")
	l.does(l.a, "RPUSH", "copy", "new")
	l.sendAgain("list")
	l.does(l.a, "RPUSH", "list", "end")
	l.does(l.a, "RPUSH", "copy", "end")
	l.equal()
	if n := len(l.letters()); n != 5 {
		t.Errorf("%d dead letters after the repair, want 5", n)
	}
	l.goesOn()
}

func letterFragments(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: oneWayDeadLetter, extra: "limits: {max_event_bytes: 1KiB}\n"})
	l.does(l.a, "SET", "text", "x")
	l.arrives("text", "x")
	l.does(l.b, "DEL", "text")
	l.does(l.b, "RPUSH", "text", "differs")
	l.does(l.a, "APPEND", "text", strings.Repeat("long", 1000))
	l.quarantined("0:text")
	all := l.setAside(4)
	l.original(all)
	for i, d := range all {
		if d.key != "text" || d.cause() != "no_effect" || i > 0 && d.offset() != all[i-1].offset()+1 {
			t.Errorf("letter %d of key %q, cause %s, offset %d is no fragment of it", i, d.key, d.cause(), d.offset())
		}
	}
	l.does(l.a, "APPEND", "text", strings.Repeat("more", 1000))
	if more := l.setAside(2 * len(all)); more[len(all)].cause() != "quarantined" {
		t.Errorf("the cause is %s", more[len(all)].cause())
	}
	l.repair()
}

// The first parts lie in batches of their own, which took effect.
func letterParts(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: oneWayDeadLetter})
	l.does(l.a, "SET", "x", "1")
	l.arrives("x", "1")
	const n = 7
	seq := l.applied().Seq
	for i := range n {
		field := schema.HashEntry{Field: fmt.Append(nil, i), Value: []byte(strings.Repeat("v", 300<<10))}
		if i == n-2 { // fields expire since Redis 7.4
			field.Value, field.ExpireAt = nil, schema.OptInt64{Set: true, Int64: time.Now().Add(time.Hour).UnixMilli()}
		}
		e := schema.Event{Op: schema.OpValue, Origin: "a", Key: []byte("k"), Type: "hash", Seq: seq + 1 + int64(i), Source: schema.Source{Snapshot: "false"}}
		e.Value = schema.Value{Kind: schema.KindHash, Hash: []schema.HashEntry{field}}
		e.Part = schema.OptPart{Set: true, Part: schema.Part{Index: int32(i), Last: i == n-1, Arg: -1}}
		l.produceRecord(&kgo.Record{Key: e.Key, Value: schema.NewEncoder(0).Append(nil, &e)})
	}
	l.quarantined("0:k")
	all := l.setAside(n)
	for i, d := range all {
		if d.key != "k" || i > 0 && d.offset() != all[i-1].offset()+1 {
			t.Errorf("letter %d of key %q, cause %s, offset %d is no part of it", i, d.key, d.cause(), d.offset())
		}
	}
	if why := all[0].headers["__connect.errors.exception.message"]; all[0].cause() != "refused" || !strings.Contains(why, "HPEXPIREAT") {
		t.Errorf("the first part was set aside as %s: %s", all[0].cause(), why)
	}
	testkit.Eventually(t, 30*time.Second, func() error {
		if keys := l.b.Client().Keys(t.Context(), "*:part:*").Val(); len(keys) > 0 || l.applied().Seq < seq+n {
			return fmt.Errorf("left at site b: %q; applied up to seq %d", keys, l.applied().Seq)
		}
		return nil
	})
	l.goesOn()
}

// toldOf checks what /status, `twinlog status` and the metrics say.
func (l *badLink) toldOf(n int, key, why string) {
	l.t.Helper()
	testkit.Eventually(l.t, 10*time.Second, func() error {
		st, err := status(l.worker)
		if err != nil {
			return err
		}
		sink := st.Directions[0].Sink
		for _, q := range sink.Quarantine {
			if string(q.Key) == key && strings.Contains(q.Reason, why) && q.Seq > 0 && sink.QuarantinedKeys == n {
				return nil
			}
		}
		return fmt.Errorf("/status tells of %d keys: %+v", sink.QuarantinedKeys, sink.Quarantine)
	})
	if got := metric(l.t, l.worker, "twinlog_sink_quarantined_keys", `site="b"`); int(got) != n {
		l.t.Errorf("twinlog_sink_quarantined_keys is %v, want %d", got, n)
	}
	code, out, _ := l.worker.Run(l.t.Context(), "status")
	if err := lacks(string(out), []string{key, why, "twinlog snapshot -c FILE --direction a-to-b --match KEY"}); err != nil || code != 0 {
		l.t.Errorf("twinlog status: exit code %d: %v", code, err)
	}
}

// produceRecord writes a record as it is and returns its offset.
func (l *badLink) produceRecord(r *kgo.Record) int64 {
	l.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(l.kafka.Brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		l.t.Fatal(err)
	}
	defer client.Close()
	r.Topic = l.topic()
	if err := client.ProduceSync(l.t.Context(), r).FirstErr(); err != nil {
		l.t.Fatal(err)
	}
	return r.Offset
}

// damaged is a record that a source of the link seems to have written.
func damaged(op, key string) *kgo.Record {
	return &kgo.Record{Key: []byte(key), Value: []byte("damaged"), Headers: []kgo.RecordHeader{{Key: schema.HeaderOrigin, Value: []byte("a")}, {Key: schema.HeaderOp, Value: []byte(op)}}}
}

func letterUnreadable(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: oneWayDeadLetter})
	l.produce([]byte("hello")) // of something else: it had no seq
	l.produce([]byte("again"))
	l.does(l.a, "SET", "k", "2")
	l.arrives("k", "2")
	all := l.setAside(2)
	l.original(all)
	if all[0].cause() != "unreadable" || all[0].headers["__connect.errors.stage"] != "VALUE_CONVERTER" {
		t.Errorf("the letter's headers are %v", all[0].headers)
	}
	l.quarantined()
	l.equal()

	// One of the link's own had a seq: what follows has the next one, also
	// behind a restart.
	seq := l.applied().Seq
	at := l.produceRecord(damaged("u", "p"))
	l.setAside(3)
	l.quarantined("-1:p")
	testkit.Eventually(t, 10*time.Second, func() error {
		if mark := l.applied(); mark.Seq != seq+1 || mark.Offset != at {
			return fmt.Errorf("the mark is %v, want seq %d at offset %d", mark, seq+1, at)
		}
		return nil
	})
	l.stop()
	l.worker.Start() // the source fails behind a record that it did not write
	l.fails("source-a", "this link did not write")
	l.produce(event(seq + 2))
	l.arrives("k", "foreign")
	e := schema.Event{Op: schema.OpWrite, Origin: "a", DB: 3, Key: []byte("p"), Command: "SET", Args: [][]byte{[]byte("p"), []byte("v")}, Seq: seq + 3, Source: schema.Source{Snapshot: "false"}}
	l.produce(schema.NewEncoder(0).Append(nil, &e)) // in quarantine in any database
	all = l.setAside(4)
	if all[3].cause() != "quarantined" || len(all) != 4 {
		t.Errorf("%d letters, the last one of cause %s", len(all), all[len(all)-1].cause())
	}
	// A hole that no such record explains is one.
	l.produce(event(seq + 5))
	l.fails("sink-b", fmt.Sprintf("seq %d follows seq %d", seq+5, seq+3), "events are missing")
}

// forge appends an event as a source might have written it, with the seq
// behind the last one.
func (l *badLink) forge(e schema.Event) {
	l.t.Helper()
	e.Origin, e.Seq, e.Source = "a", l.applied().Seq+1, schema.Source{Snapshot: "false"}
	l.produceRecord(&kgo.Record{Key: e.Key, Value: schema.NewEncoder(0).Append(nil, &e)})
}

func letterForeignEvents(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: oneWayDeadLetter})
	n := 0
	for _, tt := range []struct {
		name, cause, why string
		event            schema.Event
	}{
		{"a command that the target does not know", "refused", "unknown command", schema.Event{Op: schema.OpWrite, Command: "NOSUCH", Args: [][]byte{[]byte("x")}}},
		{"a command with a wrong number of arguments", "refused", "wrong number of arguments", schema.Event{Op: schema.OpWrite, Command: "INCR", Args: [][]byte{[]byte("x"), []byte("y")}}},
		{"a command that is no command", "malformed", "not a time in ms", schema.Event{Op: schema.OpWrite, Command: "PEXPIREAT", Args: [][]byte{[]byte("x"), []byte("soon")}}},
		{"a value of a module that the target lacks", "no_effect", "RESTORE (ReJSON-RL): ERR", schema.Event{Op: schema.OpValue, Type: "ReJSON-RL", Value: schema.Value{Kind: schema.KindDump, Data: []byte("\x07payload of a module\x0b\x00........")}}},
		{"a part without the one before it", "malformed", "without the one before it", schema.Event{Op: schema.OpValue, Type: "list", Value: schema.Value{Kind: schema.KindList, Elements: [][]byte{[]byte("x")}}, Part: schema.OptPart{Set: true, Part: schema.Part{Index: 3, Last: true, Arg: -1}}}},
	} {
		key := fmt.Sprintf("forged-%d", n)
		l.does(l.a, "SET", "throw-away", "1") // it takes the seq of the one that was forged before
		l.does(l.a, "SET", key, "1")
		l.does(l.a, "SET", "flow", n)
		l.arrives("flow", strconv.Itoa(n))
		before := len(l.letters())
		tt.event.Key = []byte(key)
		l.forge(tt.event)
		d := l.setAside(before + 1)[before]
		if d.key != key || d.cause() != tt.cause || !strings.Contains(d.headers["__connect.errors.exception.message"], tt.why) {
			t.Errorf("%s: key %q, %v", tt.name, d.key, d.headers)
		}
		n++
	}
	// The seq of the last forged event comes again.
	before := len(l.letters())
	l.does(l.a, "SET", "repeated", "1")
	l.does(l.a, "SET", "flow", "end")
	l.arrives("flow", "end")
	if d := l.setAside(before + 1)[before]; d.key != "repeated" || d.cause() != "repeated_seq" {
		t.Errorf("key %q, %v", d.key, d.headers)
	}
	l.original(l.letters())
	l.repair()
}

func letterFlushAndSwap(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: oneWayDeadLetter})
	do := func(r *testkit.Redis, db int, args ...any) {
		t.Helper()
		pipe := r.Client().Pipeline()
		pipe.Do(t.Context(), "SELECT", db)
		pipe.Do(t.Context(), args...)
		pipe.Do(t.Context(), "SELECT", 0)
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, db := range []int{0, 1, 2} {
		do(l.b, db, "SET", "list", "differs")
		do(l.a, db, "RPUSH", "list", "x")
	}
	l.quarantined("0:list", "1:list", "2:list")
	do(l.a, 1, "FLUSHDB")
	l.quarantined("0:list", "2:list")
	do(l.a, 0, "SWAPDB", 0, 1)
	l.quarantined("1:list", "2:list")
	do(l.a, 0, "SWAPDB", 1, 2)
	l.quarantined("1:list", "2:list")
	do(l.a, 0, "RPUSH", "list", "in a database that was flushed")
	do(l.a, 1, "RPUSH", "list", "y")
	do(l.a, 2, "RPUSH", "list", "y")
	l.setAside(5)
	do(l.a, 0, "FLUSHDB") // takes the hash with it
	l.quarantined("1:list", "2:list")
	do(l.a, 1, "RPUSH", "list", "z")
	l.setAside(6)
	do(l.a, 2, "FLUSHALL")
	l.quarantined()
	do(l.a, 1, "RPUSH", "list", "end")
	l.equal()
	if n := len(l.letters()); n != 6 {
		t.Errorf("%d dead letters, want 6", n)
	}
}

// FLUSHDB of database 0 takes the hash away, but not the keys of others.
func letterTargetFlushed(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: oneWayDeadLetter})
	at, target := databasesAt(t, l.a), databasesAt(t, l.b)
	runLine(t, target[3], "SET list differs")
	runLine(t, at[3], "RPUSH list x")
	l.quarantined("3:list")
	runLine(t, target[0], "FLUSHDB")
	l.does(l.a, "SET", "k", "1")
	l.arrives("k", "1")
	l.quarantined("3:list")
	runLine(t, at[3], "RPUSH list y")
	if all := l.setAside(2); all[1].cause() != "quarantined" {
		t.Errorf("the letters are of offset %d %s and %d %s", all[0].offset(), all[0].cause(), all[1].offset(), all[1].cause())
	}
	l.sendAgain("list")
}

func letterFullTarget(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: oneWayDeadLetter})
	l.does(l.a, "RPUSH", "list", "x", "y")
	l.does(l.a, "RPUSH", "other", "x", "y")
	l.equal()
	l.does(l.b, "SET", "list", "differs")
	l.does(l.b, "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1mb")
	l.does(l.a, "LPOP", "list")
	l.does(l.a, "LPOP", "other")
	l.waits("target b answers OOM")
	l.does(l.a, "LPOP", "list")
	l.does(l.b, "CONFIG", "SET", "maxmemory", "0")
	all := l.setAside(2)
	l.original(all)
	if all[0].cause() != "no_effect" || all[1].cause() != "quarantined" || len(all) != 2 {
		t.Errorf("%d letters, the first of cause %s", len(all), all[0].cause())
	}
	l.quarantined("0:list")
	l.repair()
}

func letterStops(t *testing.T, broker *testkit.Kafka) {
	for _, tt := range []struct {
		name string
		bad  func(*badLink)
		why  []string
	}{
		{"a hole", func(l *badLink) { l.produce(event(l.applied().Seq + 2)) }, []string{"events are missing"}},
		{"a FLUSHALL that cannot be read", func(l *badLink) { l.produceRecord(damaged("t", "")) }, []string{"not an event of this link", "not set aside", `"t"`}},
		{"a user without the right", func(l *badLink) { l.does(l.b, "ACL", "SETUSER", "default", "-incr"); l.does(l.a, "INCR", "n") }, []string{"INCR", "NOPERM"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := running(t, broker, linkOptions{directions: oneWayDeadLetter})
			tt.bad(l)
			l.fails("sink-b", tt.why...)
			if all := l.letters(); len(all) > 0 {
				t.Errorf("it went to the dead-letter topic: %v", all)
			}
		})
	}
}

func letterSetBack(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: oneWayDeadLetter})
	l.differ("SET", "list", "differs")
	l.does(l.a, "RPUSH", "list", "x")
	l.quarantined("0:list")
	l.stop()
	l.options.directions = oneWay
	l.configure(l.yaml())
	l.worker.Start()
	l.fails("sink-b", "has keys in quarantine", "errors: dead_letter", "twinlog snapshot", offsets.QuarantineKey(l.name, "a-to-b", "0"))
	l.stop()
	l.options.directions = oneWayDeadLetter
	l.configure(l.yaml())
	l.run()
	l.repair()
}

func letterTwoWay(t *testing.T, broker *testkit.Kafka) {
	l := newBadLink(t, broker, linkOptions{
		directions: "  - {from: a, to: b, errors: dead_letter}\n  - {from: b, to: a, snapshot: no_data, errors: dead_letter}\n",
		argsB:      []string{"--rename-command", "SETRANGE", ""},
	})
	l.worker.Ignore("redis-commands")
	l.run()
	l.does(l.a, "SET", "text", "hello", "PX", "3000")
	l.arrives("text", "hello")
	l.does(l.a, "SETRANGE", "text", "0", "J") // site b does not know the command
	l.does(l.a, "PERSIST", "text")
	all := l.setAside(2)
	l.original(all)
	if all[0].cause() != "refused" || all[1].cause() != "quarantined" {
		t.Errorf("the causes are %s and %s", all[0].cause(), all[1].cause())
	}
	l.quarantined("0:text")
	if ttl := l.b.Client().PTTL(t.Context(), "text").Val(); ttl > 0 {
		t.Errorf("a quarantined key expires in %v at site b: its deletion would take away what site a has", ttl)
	}
	for i := range 100 {
		l.does(l.a, "INCR", "n")
		l.does(l.b, "INCR", "n")
		l.does(l.b, "SET", fmt.Sprint("b-", i), i)
		l.does(l.a, "HSET", "h", "f", i)
		l.does(l.b, "HSET", "h", "f", i)
	}
	l.does(l.a, "SET", "end", "1")
	l.arrives("end", "1")
	if got := l.value(l.a, "text"); got != "Jello" {
		t.Errorf("text is %q at site a, which nothing changed", got)
	}
	l.does(l.b, "APPEND", "text", "!")
	l.sendAgain("text")
	if got := l.value(l.b, "text"); got != "Jello!" {
		t.Errorf("text is %q at site b after its repair", got)
	}
	if got := l.value(l.b, "n"); got != "200" {
		t.Errorf("a counter of both sites is %s, want 200", got)
	}
}

// Such an error is known behind the EXEC, and is no conflict that home's value
// could settle.
func letterTwoWayValue(t *testing.T, broker *testkit.Kafka) {
	l := running(t, broker, linkOptions{directions: "  - {from: a, to: b, errors: dead_letter}\n  - {from: b, to: a, snapshot: no_data}\n"})
	l.does(l.a, "SET", "m", "v", "PX", "60000")
	l.arrives("m", "v")
	l.pause("source-a") // so that no event of it has the seq of the one that follows
	l.forge(schema.Event{Op: schema.OpValue, Key: []byte("m"), Type: "ReJSON-RL", Value: schema.Value{Kind: schema.KindDump, Data: []byte("\x07payload of a module\x0b\x00........")}})
	all := l.setAside(1)
	l.original(all)
	if all[0].cause() != "no_effect" {
		t.Errorf("the cause is %s", all[0].cause())
	}
	l.quarantined("0:m")
	l.toldOf(1, "m", "RESTORE (ReJSON-RL): ERR")
	if ttl := l.b.Client().PTTL(t.Context(), "m").Val(); ttl > 0 {
		t.Errorf("a quarantined key expires in %v at site b", ttl)
	}
	l.does(l.b, "SET", "here", "1")
	testkit.Eventually(t, 30*time.Second, func() error {
		if got := l.value(l.a, "here"); got != "1" {
			return fmt.Errorf("what site b writes does not arrive: %q", got)
		}
		return nil
	})
	if ttl := l.a.Client().PTTL(t.Context(), "m").Val(); ttl <= 0 {
		t.Error("that a key is quarantined at site b was published as a change of site b")
	}
	l.goesOn()
}

// setAsideOrDead waits until the first dead letters are there, or a failpoint
// has killed the worker.
func (l *badLink) setAsideOrDead() {
	l.t.Helper()
	testkit.Eventually(l.t, 30*time.Second, func() error {
		if l.worker.Running() && len(l.letters()) < 2 {
			return fmt.Errorf("the worker runs and has set nothing aside")
		}
		return nil
	})
}

func letterCrash(t *testing.T, broker *testkit.Kafka, o linkOptions, point string, nth int) {
	l := running(t, broker, o)
	l.stop()
	l.differ("SET", "list", "a string where the origin has none")
	l.does(l.a, "SET", "before", "1")
	l.does(l.a, "RPUSH", "list", "x")
	l.does(l.a, "COPY", "list", "copy")
	l.does(l.a, "SET", "after", "1")
	l.worker.Start(testkit.Failpoint(point, nth))
	l.setAsideOrDead()
	l.does(l.a, "RPUSH", "list", "y")
	l.does(l.a, "RPUSH", "copy", "y")
	l.does(l.a, "SET", "k", "2")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if code, err := l.worker.Wait(ctx); err != nil || code != -1 { // not by a signal
		t.Fatalf("the worker ended with exit code %d (%v) before it passed %s %d times", code, err, point, nth)
	}
	l.run()
	l.arrives("k", "2")
	want := map[string]int{"list": 2, "copy": 2}
	testkit.Eventually(t, 30*time.Second, func() error {
		places := map[string]map[int64]bool{}
		for _, d := range l.letters() {
			if places[d.key] == nil {
				places[d.key] = map[int64]bool{}
			}
			places[d.key][d.offset()] = true
		}
		for key, n := range want {
			if len(places[key]) != n {
				return fmt.Errorf("%d events of key %s are dead letters, want %d", len(places[key]), key, n)
			}
		}
		return nil
	})
	l.original(l.letters())
	l.arrives("before", "1")
	l.arrives("after", "1")
	l.repair()
	l.does(l.a, "RPUSH", "list", "end")
	l.does(l.a, "RPUSH", "copy", "end")
	l.equal()
}
