package source

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/command"
	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/schema"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// reading is a source whose values are read without a capture.
type reading struct {
	*values
	ledger *offsets.Ledger
	t      *testing.T
	server *testkit.Redis
	seq    int64
}

// newReading is the values of a home's source; server may be nil.
func newReading(t *testing.T, server *testkit.Redis) *reading {
	t.Helper()
	cfg := newTestSource(server, 1<<20).cfg
	cfg.Decoder = func() *schema.Decoder { return schema.NewDecoder(nil) }
	cfg.Instance, cfg.Ledger = "me", offsets.NewLedger(offsets.LedgerConfig{Site: "a", Home: true, Dir: t.TempDir(), MaxMemory: 1 << 20, MaxDisk: 1 << 20})
	v := New(cfg).values
	t.Cleanup(v.disconnect)
	return &reading{values: v, ledger: cfg.Ledger, t: t, server: server}
}

// dirty makes keys of database 0 dirty.
func (r *reading) dirty(names ...string) {
	for _, n := range names {
		r.dirtyIn(0, n)
	}
}

func (r *reading) dirtyIn(db int32, name string) {
	r.ledger.Taint(&command.Touch{Keys: []command.KeyTouch{{DB: db, Name: []byte(name), Written: true}}}, 1)
}

// published tells the ledger that the value of a key is in the stream.
func (r *reading) published(names ...string) {
	r.t.Helper()
	for _, n := range names {
		r.seq++
		if err := r.ledger.Own(&schema.Event{Op: schema.OpValue, Key: []byte(n), Seq: r.seq}); err != nil {
			r.t.Fatal(err)
		}
	}
}

func names(keys []offsets.DirtyKey) string {
	var all []string
	for _, k := range keys {
		all = append(all, string(k.Name))
	}
	return strings.Join(all, " ")
}

// instant is a time that a test names by its milliseconds.
func instant(ms int) time.Time {
	return time.UnixMilli(1_700_000_000_000).Add(time.Duration(ms) * time.Millisecond)
}

func TestAHotKeyIsReadAtABoundedRate(t *testing.T) {
	r := newReading(t, nil)
	// takenAt makes the key dirty and returns the first ms at which it is read.
	takenAt := func(from int) int {
		t.Helper()
		r.dirty("hot")
		for ms := from; ms < from+1000; ms++ {
			r.enqueue(instant(ms))
			if keys := r.take(instant(ms)); len(keys) > 0 {
				r.published("hot")
				return ms
			}
		}
		t.Fatal("it is never read")
		return 0
	}
	at := takenAt(0)
	var waits []int
	for range 8 {
		next := takenAt(at + 1)
		waits = append(waits, next-at)
		at = next
	}
	if diff := cmp.Diff([]int{8, 16, 32, 64, 128, 250, 250, 250}, waits); at != 998 || diff != "" {
		t.Errorf("ms from one read to the next (-want +got):\n%s", diff)
	}
	at = takenAt(at + 1001)
	if at != 998+1001 {
		t.Errorf("behind a quiet time it waits until ms %d", at)
	}
	if next := takenAt(at + 1); next-at != 8 {
		t.Errorf("the key was quiet, but the next read comes after %d ms", next-at)
	}
}

func TestACoolKeyDoesNotWaitForAHotOne(t *testing.T) {
	r := newReading(t, nil)
	r.dirty("hot")
	r.enqueue(instant(0))
	r.take(instant(0))
	r.published("hot")
	r.dirty("hot", "cool")
	r.enqueue(instant(1))
	if got := names(r.take(instant(1))); got != "cool" {
		t.Errorf("read %q", got)
	}
	if got := names(r.take(instant(8))); got != "hot" {
		t.Errorf("then %q", got)
	}
}

func TestWhatIsDirtyTogetherIsReadTogether(t *testing.T) {
	r := newReading(t, nil)
	var all []string
	for i := range barrierKeys + 44 {
		all = append(all, fmt.Sprint("k", i))
	}
	r.dirty(all...)
	r.dirty(all[:100]...) // once more
	r.published("k3", "k7")
	r.enqueue(instant(0))
	first, second := names(r.take(instant(0))), names(r.take(instant(0)))
	if strings.Count(first, "k") != barrierKeys || strings.Count(second, "k") != 42 {
		t.Errorf("%d and %d keys", strings.Count(first, "k"), strings.Count(second, "k"))
	}
	if got := strings.Fields(first); got[2] != "k2" || got[3] != "k4" {
		t.Errorf("in the order %q: who became dirty first is read first, and not if the value came otherwise", got[:4])
	}
	if keys := r.take(instant(1000)); len(keys) > 0 {
		t.Errorf("%q are read twice", names(keys))
	}
}

func TestOnlySoManyKeysArePaced(t *testing.T) {
	r := newReading(t, nil)
	for i := range mostPaced + 3*barrierKeys {
		r.dirty(fmt.Sprint("k", i))
	}
	r.enqueue(instant(0))
	for len(r.queue) > 0 {
		r.take(instant(0))
	}
	if len(r.pace) > mostPaced+barrierKeys {
		t.Errorf("%d keys are paced", len(r.pace))
	}
}

func TestBigValuesAreReadAFewAtATime(t *testing.T) {
	r := newReading(t, testkit.StartRedis(t))
	r.source.cfg.MaxTransactionBytes = 32 << 20
	var keys []offsets.DirtyKey
	for i := range 6 {
		keys = append(keys, offsets.DirtyKey{DB: int32(i % 2), Name: fmt.Append(nil, "k", i)})
		r.do(fmt.Sprint("SELECT ", i%2), fmt.Sprintf("SETRANGE k%d %d x", i, barrierBytes/3))
		r.dirtyIn(int32(i%2), fmt.Sprint("k", i))
	}
	var got []int
	for len(keys) > 0 {
		got = append(got, len(r.readAt(keys...)))
		keys = keys[:0]
		for _, k := range r.queue { // what is left for the next barrier
			keys = append(keys, k.DirtyKey)
		}
		r.queue = nil
	}
	if diff := cmp.Diff([]int{2, 2, 2}, got); diff != "" {
		t.Errorf("values of a third of what one barrier brings (-want +got):\n%s", diff)
	}
	r.do("SETRANGE huge 20000000 x")
	if n := len(r.readAt(offsets.DirtyKey{Name: []byte("huge")}, offsets.DirtyKey{Name: []byte("k1")})); n != 1 {
		t.Errorf("%d values at a barrier that one value fills", n)
	}
}

// do sends commands, words separated by blanks.
func (r *reading) do(commands ...string) {
	r.t.Helper()
	doAt(r.t, r.server, commands...)
}

func doAt(t *testing.T, server *testkit.Redis, commands ...string) {
	t.Helper()
	conn := server.Client().Conn() // so that SELECT holds
	defer conn.Close()
	for _, c := range append(commands, "SELECT 0") {
		var args []any
		for _, w := range strings.Fields(c) {
			args = append(args, w)
		}
		if err := conn.Do(t.Context(), args...).Err(); err != nil && !errors.Is(err, goredis.Nil) {
			t.Fatalf("%s: %v", c, err)
		}
	}
}

// readAt reads keys at a barrier and hands out what the capture would get.
func (r *reading) readAt(keys ...offsets.DirtyKey) [][]schema.Event {
	r.t.Helper()
	if err := r.read(r.t.Context(), keys); err != nil {
		r.t.Fatal(err)
	}
	id, err := r.server.Client().Get(r.t.Context(), offsets.BarrierKey("l")).Bytes()
	if err != nil {
		r.t.Fatal(err)
	}
	all, err := r.brought(id)
	if err != nil {
		r.t.Fatal(err)
	}
	if again, err := r.brought(id); again != nil || err != nil {
		r.t.Errorf("the barrier %s brings its values twice: %v, error %v", id, again, err)
	}
	return all
}

// brought is what the capture would publish at a barrier.
func (r *reading) brought(id []byte) (all [][]schema.Event, err error) {
	err = r.at(r.t.Context(), id, &offsets.Position{}, func(events []schema.Event) error {
		all = append(all, events)
		return nil
	})
	return all, err
}

func words(ws ...string) (all [][]byte) {
	for _, w := range ws {
		all = append(all, []byte(w))
	}
	return all
}

func TestValuesOfAllTypesAreReadAtABarrier(t *testing.T) {
	r := newReading(t, testkit.StartRedis(t))
	r.do("SET string v PXAT 4102444800123", "RPUSH list b a b", "SADD set x", "HSET hash f v", "ZADD zset inf m",
		"XADD stream 5-1 f 1", "XGROUP CREATE stream g 0", "SELECT 9", "SET there 1", "SET string other")
	in := func(db int32, name string) offsets.DirtyKey { return offsets.DirtyKey{DB: db, Name: []byte(name)} }
	event := func(db int32, name, typ string, v schema.Value) schema.Event {
		return schema.Event{Op: schema.OpValue, DB: db, Key: []byte(name), Type: typ, Value: v, Part: schema.OptPart{Part: schema.Part{Last: true, Arg: -1}}, Source: schema.Source{Snapshot: "incremental"}}
	}
	expires := event(0, "string", "string", schema.Value{Kind: schema.KindString, Data: []byte("v")})
	expires.ExpireAt = schema.OptInt64{Set: true, Int64: 4102444800123}
	missing := event(9, "missing", "", schema.Value{})
	missing.Part = schema.OptPart{}
	want := []schema.Event{
		expires,
		event(9, "there", "string", schema.Value{Kind: schema.KindString, Data: []byte("1")}),
		event(9, "string", "string", schema.Value{Kind: schema.KindString, Data: []byte("other")}),
		missing,
		event(0, "list", "list", schema.Value{Kind: schema.KindList, Elements: words("b", "a", "b")}),
		event(0, "set", "set", schema.Value{Kind: schema.KindSet, Elements: words("x")}),
		event(0, "hash", "hash", schema.Value{Kind: schema.KindHash, Hash: []schema.HashEntry{{Field: []byte("f"), Value: []byte("v")}}}),
		event(0, "zset", "zset", schema.Value{Kind: schema.KindZSet, ZSet: []schema.ZSetMember{{Member: []byte("m"), Score: math.Inf(1)}}}),
		event(0, "stream", "stream", schema.Value{
			Kind: schema.KindStream, Stream: []schema.StreamEntry{{ID: schema.StreamID{Ms: 5, Seq: 1}, Fields: words("f", "1")}},
			Meta: &schema.StreamMeta{LastID: schema.StreamID{Ms: 5, Seq: 1}, EntriesAdded: 1, Groups: []schema.StreamGroup{{Name: []byte("g"), EntriesRead: -1}}},
		}),
		event(0, "list", "list", schema.Value{Kind: schema.KindList, Elements: words("b", "a", "b")}),
	}
	all := r.readAt(in(0, "string"), in(9, "there"), in(9, "string"), in(9, "missing"), in(0, "list"), in(0, "set"), in(0, "hash"), in(0, "zset"), in(0, "stream"), in(0, "list"))
	var got []schema.Event
	for _, parts := range all {
		got = append(got, parts...)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The next barrier does not change what the last one brought.
	r.do("SET string much-longer-than-before")
	r.readAt(in(0, "string"), in(9, "string"))
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("behind another barrier (-want +got):\n%s", diff)
	}
	if n := r.outstanding(); n != 0 {
		t.Errorf("%d barriers are outstanding", n)
	}
}

func TestABigValueComesInParts(t *testing.T) {
	r := newReading(t, testkit.StartRedis(t))
	var want [][]byte
	for i := range 200 {
		e := fmt.Sprintf("%d-%s", i, strings.Repeat("v", 20))
		want = append(want, []byte(e))
		r.do("RPUSH big " + e)
	}
	r.do("PEXPIREAT big 4102444800123")
	r.source.cfg.MaxEventBytes = 1000
	parts := r.readAt(offsets.DirtyKey{Name: []byte("big")})[0]
	var whole schema.Value
	for i := range parts {
		e := &parts[i]
		whole.Append(&e.Value)
		if wantPart := (schema.OptPart{Set: true, Part: schema.Part{Index: int32(i), Last: i == len(parts)-1, Arg: -1}}); e.Part != wantPart {
			t.Errorf("part %d is %+v", i, e.Part)
		}
		if e.ExpireAt.Int64 != 4102444800123 || e.Type != "list" || e.Value.Kind != schema.KindList {
			t.Errorf("part %d: %+v", i, e)
		}
		if size := len(schema.AppendEvent(nil, e)); size > 1000 {
			t.Errorf("part %d has %d bytes", i, size)
		}
	}
	if diff := cmp.Diff(want, whole.Elements); diff != "" || len(parts) < 5 {
		t.Errorf("%d parts (-want +joined):\n%s", len(parts), diff)
	}
}

func TestAValueThatIsTooBigIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name string
		fill func(*reading)
	}{
		{"a stream", func(r *reading) { r.do("CONFIG SET rdbcompression no", "XADD big 1-1 f "+strings.Repeat("x", 5000)) }},
		{"a stream whose only entry is small when it is compressed", func(r *reading) { r.do("XADD big 1-1 f " + strings.Repeat("x", 5000)) }},
		{"a stream that takes far too much memory", func(r *reading) { r.do("XADD big 1-1 f " + strings.Repeat("x", 50_000)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReading(t, testkit.StartRedis(t))
			tt.fill(r)
			r.source.cfg.MaxTransactionBytes = 4000
			r.dirty("big")
			err := r.run(t.Context())
			var big *TooBigError
			if !errors.As(err, &big) || big.Key != "big" || big.Size < 5000 || big.Limit != 4000 || !big.Group {
				t.Fatalf("error %v", err)
			}
			for _, want := range []string{`key "big" in db 0`, "has to be read at one moment", "max_transaction_bytes (4000)", "raise limits.max_transaction_bytes", "make the key smaller"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
		})
	}
}

// running reads values in the background until the test ends.
func (r *reading) running() {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error)
	go func() { done <- r.run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

// id names the nth barrier.
func (r *reading) id(n int) string { return fmt.Sprintf("me-%s-%d", r.nonce, n) }

// barrier waits until the server holds the nth barrier.
func (r *reading) barrier(n int) []byte {
	r.t.Helper()
	want := r.id(n)
	testkit.Eventually(r.t, patience, func() error {
		if got := r.server.Client().Get(r.t.Context(), offsets.BarrierKey("l")).Val(); got != want {
			return fmt.Errorf("the barrier is %q, want %q", got, want)
		}
		return nil
	})
	return []byte(want)
}

// brings checks what the capture gets at a barrier: values of the strings.
func (r *reading) brings(id []byte, want ...string) {
	r.t.Helper()
	all, err := r.brought(id)
	if err != nil {
		r.t.Fatal(err)
	}
	var got []string
	for _, parts := range all {
		got = append(got, string(parts[0].Key)+"="+string(parts[0].Value.Data))
		r.published(string(parts[0].Key))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("at barrier %s (-want +got):\n%s", id, diff)
	}
}

func TestDirtyKeysAreReadAsTheyCome(t *testing.T) {
	r := newReading(t, testkit.StartRedis(t))
	r.do("SET k 1", "SET other 2")
	r.running()
	r.dirty("k")
	r.brings(r.barrier(1), "k=1")
	r.dirty("k", "other")
	id := r.barrier(2) // the other; k was read a moment ago, unless that is long ago
	first, err := r.brought(id)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) == 1 {
		r.brings(r.barrier(3), "k=1")
	}
	r.brings([]byte("someone else's"))
}

func TestACutConnectionIsTriedAgainAtAnotherBarrier(t *testing.T) {
	r := newReading(t, testkit.StartRedis(t))
	r.do("SET k 1", "CLIENT PAUSE 60000 WRITE") // the barrier waits
	r.running()
	r.dirty("k")
	ctx := t.Context()
	testkit.Eventually(t, patience, func() error {
		for line := range strings.SplitSeq(r.server.Client().ClientList(ctx).Val(), "\n") {
			if !strings.Contains(line, "cmd=set") {
				continue
			}
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			return r.server.Client().ClientKillByFilter(ctx, "ID", id).Err()
		}
		return errors.New("nobody writes a barrier")
	})
	r.do("CLIENT UNPAUSE")
	r.brings(r.barrier(2), "k=1")
	r.brings([]byte(r.id(1)))
}

// A full Redis, for one, refuses barriers: that must not use them up.
func TestRefusedBarriersAreNotWaitedFor(t *testing.T) {
	r := newReading(t, testkit.StartRedis(t))
	r.do("SET k 1", "CONFIG SET maxmemory 1")
	r.running()
	r.dirty("k")
	testkit.Eventually(t, patience, func() error {
		rejected := r.server.Client().Info(t.Context(), "commandstats").Val()
		for line := range strings.SplitSeq(rejected, "\r\n") {
			if stats, is := strings.CutPrefix(line, "cmdstat_set:"); is {
				var calls, usec, rejected int
				var each float64
				if _, err := fmt.Sscanf(stats, "calls=%d,usec=%d,usec_per_call=%g,rejected_calls=%d", &calls, &usec, &each, &rejected); err != nil {
					t.Fatal(err)
				}
				if rejected > mostBarriers {
					return nil
				}
			}
		}
		return errors.New("not often enough")
	})
	r.do("CONFIG SET maxmemory 0")
	testkit.Eventually(t, patience, func() error {
		return r.server.Client().Get(t.Context(), offsets.BarrierKey("l")).Err()
	})
	id, err := r.server.Client().Get(t.Context(), offsets.BarrierKey("l")).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	r.brings(id, "k=1")
	if n := r.outstanding(); n != 0 {
		t.Errorf("%d barriers are outstanding", n)
	}
}

func TestOutstandingBarriersAreBounded(t *testing.T) {
	r := newReading(t, testkit.StartRedis(t))
	for i := range mostBarriers + 2 {
		r.do(fmt.Sprintf("SET k%d %d", i, i))
	}
	r.running()
	for i := range mostBarriers {
		r.dirty(fmt.Sprint("k", i))
		r.barrier(i + 1)
	}
	r.dirty("k4", "k5")
	writes := func() int64 {
		return r.server.Client().Exists(t.Context(), offsets.BarrierKey("l")).Val() + int64(r.outstanding())
	}
	for begin := time.Now(); time.Since(begin) < 20*barrierPause; {
		if n := writes(); n != 1+mostBarriers {
			t.Fatalf("%d barriers are outstanding", n-1)
		}
	}
	r.brings([]byte(r.id(1)), "k0=0")
	r.brings(r.barrier(mostBarriers+1), "k4=4", "k5=5")
	r.brings([]byte(r.id(3)), "k2=2")
}

// waitingForBarriers has read as much as it may before the capture meets a
// barrier.
func waitingForBarriers(t *testing.T) *reading {
	t.Helper()
	r := newReading(t, testkit.StartRedis(t))
	for i := range mostBarriers {
		r.do(fmt.Sprintf("SET k%d %d", i, i))
	}
	r.running()
	for i := range mostBarriers {
		r.dirty(fmt.Sprint("k", i))
		r.barrier(i + 1)
	}
	return r
}

// Behind a link that was cut nobody knows which barriers come.
func TestForgottenBarriersAreReadAgain(t *testing.T) {
	r := waitingForBarriers(t)
	r.published("k1") // by a snapshot
	r.forget(offsets.OnDemand{})
	if n := r.outstanding(); n > 1 {
		t.Errorf("%d barriers are outstanding", n)
	}
	all, err := r.brought(r.barrier(mostBarriers + 1))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, parts := range all {
		got[string(parts[0].Key)] = true
	}
	if diff := cmp.Diff(map[string]bool{"k0": true, "k2": true, "k3": true}, got); diff != "" {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
	for i := range mostBarriers {
		r.brings([]byte(r.id(i + 1)))
	}
}

// Barriers may have been written at a server that the capture does not follow:
// values are not left unread for that, and asked for on another connection.
func TestBarriersThatAreNotMetInTimeAreReadAgain(t *testing.T) {
	r := waitingForBarriers(t)
	connection := func() string {
		for line := range strings.Lines(r.server.Client().ClientList(t.Context()).Val()) {
			if strings.Contains(line, " cmd=exec ") {
				return strings.Fields(line)[0]
			}
		}
		return ""
	}
	before := connection()
	r.mu.Lock()
	for _, read := range r.reading {
		read.begun = read.begun.Add(-barrierWait)
	}
	r.mu.Unlock()
	r.wake()
	all, err := r.brought(r.barrier(mostBarriers + 1))
	if err != nil || len(all) != mostBarriers {
		t.Errorf("%d of %d values are read again, error %v", len(all), mostBarriers, err)
	}
	for i := range mostBarriers {
		r.brings([]byte(r.id(i + 1)))
	}
	if now := connection(); before == "" || now == "" || now == before {
		t.Errorf("read on connection %q, and before on %q", now, before)
	}
}

// Nothing else happens when the time is over: one barrier that is not met is
// enough.
func TestOneBarrierThatIsNotMetInTimeIsReadAgain(t *testing.T) {
	r := newReading(t, testkit.StartRedis(t))
	r.do("SET k 1")
	r.unmet = 50 * time.Millisecond
	r.running()
	r.dirty("k")
	testkit.Eventually(t, patience, func() error {
		if got := r.server.Client().Get(t.Context(), offsets.BarrierKey("l")).Val(); got == "" || got == r.id(1) {
			return fmt.Errorf("the barrier is %q", got)
		}
		return nil
	})
}

func TestABarrierWhoseAnswerIsLostBringsNothing(t *testing.T) {
	r := newReading(t, nil)
	r.reading[r.id(1)] = &barrierRead{done: make(chan struct{}), err: errors.New("cut")}
	close(r.reading[r.id(1)].done)
	r.brings([]byte(r.id(1)))
	if n := r.outstanding(); n != 0 {
		t.Errorf("%d barriers are outstanding", n)
	}
}
