package offsets

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"twinlog/internal/command"
	"twinlog/schema"
)

// play drives a ledger and a naive one with the same events.
type play struct {
	*testing.T
	rng    *rand.Rand
	ledger *Ledger
	naive  naive
	lossy  bool // the ledger has too little room: it may protect and taint more

	own       []schema.Event
	peer      []schema.Event // seq 1 is at 0
	announced int64          // the sink has told of them
	passed    int64
	log       []string
}

var lines = []string{
	"SET K v", "SET K v", "INCR K", "INCR K", "APPEND K v", "DEL K", "DEL K", "DEL K J", "PEXPIREAT K 99", "VALUE K", "VALUE K", "GONE K",
	"SADD K X", "SADD K X Y", "SREM K X", "SREM K X Y", "HSET K X v", "HSET K X 1 Y 2", "HDEL K X", "HDEL K X Y", "HINCRBY K X 1",
	"ZADD K 1 X", "ZADD K 1 X 2 Y", "ZREM K X Y", "LPUSH K X", "LREM K 1 X", "LPOP K", "LTRIM K 0 1",
	"RENAME K J", "RENAME K J", "COPY K J", "COPY K J DB O", "COPY K K DB O", "MOVE K O", "LMOVE K J LEFT RIGHT", "SUNIONSTORE K J L", "SUNIONSTORE K K J", "SMOVE K J X",
	"PUBLISH K v", "FLUSHDB", "FLUSHALL",
}

// line draws a command and its database.
func (p *play) line() (db int32, line string) {
	db = int32(p.rng.IntN(2))
	n := len(lines)
	if p.rng.IntN(10) > 0 {
		n -= 3 // seldom
	}
	words := []byte(lines[p.rng.IntN(n)])
	for i, w := range words {
		alone := (i == 0 || words[i-1] == ' ') && (i+1 == len(words) || words[i+1] == ' ')
		switch {
		case !alone:
		case w == 'K' || w == 'J' || w == 'L':
			words[i] = "abcde"[p.rng.IntN(5)]
		case w == 'X' || w == 'Y':
			words[i] = "wxyz"[p.rng.IntN(4)]
		case w == 'O':
			words[i] = byte('1' - db)
		}
	}
	return db, string(words)
}

func (p *play) note(format string, args ...any) { p.log = append(p.log, fmt.Sprintf(format, args...)) }

func (p *play) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatalf("%v, after\n%s", err, p.story())
	}
}

func (p *play) story() string {
	s := ""
	for _, line := range p.log {
		s += "\t" + line + "\n"
	}
	return s
}

func (p *play) ownLast() int64 { return int64(len(p.own)) }

func (p *play) ownEvent() {
	db, line := p.line()
	made := events(p, db, line, p.ownLast(), p.passed)
	p.note("own %d: %d> %s", p.ownLast()+1, db, line)
	for i := range made {
		p.own = append(p.own, made[i])
		p.must(p.ledger.Own(&made[i]))
		p.naive.add(changesOf(p, &made[i]), true)
	}
}

// peerEvent makes events of the peer, who sees ever more of this site, except
// after it was rewound.
func (p *play) peerEvent(rewound bool) {
	seen := int64(0)
	if n := len(p.peer); n > 0 {
		seen = p.peer[n-1].Seen
	}
	if rewound {
		seen = p.rng.Int64N(seen + 1)
	} else {
		seen += p.rng.Int64N(p.ownLast() - seen + 1)
	}
	db, line := p.line()
	p.note("peer %d: %d> %s (seen %d)", len(p.peer)+1, db, line, seen)
	p.peer = append(p.peer, events(p, db, line, int64(len(p.peer)), seen)...)
}

// announce tells what the sink is about to apply, and makes sure that all that
// these events have not seen is known. From then on nobody asks again.
func (p *play) announce() {
	to := p.announced + p.rng.Int64N(int64(len(p.peer))-p.announced+1)
	if to == p.announced {
		return
	}
	var prints Prints
	for i := range p.peer[p.announced:to] {
		var print Print
		p.must(PrintOf(&print, &p.peer[p.announced+int64(i)]))
		prints.Add(&print)
	}
	p.note("apply up to %d", to)
	p.announced = to
	p.ledger.Applying(&prints)
	p.recall()
}

func (p *play) recall() {
	seen := everything
	for _, e := range p.peer[p.passed:p.announced] {
		seen = min(seen, e.Seen)
	}
	if seen >= p.ledger.Floor() {
		return
	}
	p.note("recall from %d", seen)
	p.must(p.ledger.Recall(seen, func(visit func(*schema.Event) error) error {
		for i := range p.own {
			if err := visit(&p.own[i]); err != nil {
				return err
			}
		}
		return nil
	}))
	if p.ledger.Floor() > seen {
		p.Fatalf("floor %d after Recall(%d)", p.ledger.Floor(), seen)
	}
}

// decide compares rules D and R for an event that is not passed yet.
func (p *play) decide() {
	if p.passed == p.announced {
		return
	}
	e := &p.peer[p.passed+p.rng.Int64N(p.announced-p.passed)]
	var touch command.Touch
	p.must(touch.Of(e))
	for _, whole := range []bool{false, true} {
		var v Verdict
		p.must(p.ledger.Decide(e, &touch, whole, &v))
		if !Decides(e) {
			if v.LeaveOut || v.Elements != nil {
				p.Fatalf("event %d cannot be left out, after\n%s", e.Seq, p.story())
			}
			continue
		}
		c := changesOf(p, e)[0]
		leaveOut, rest := p.naive.decide(&c, e.Seen, whole)
		same := leaveOut == v.LeaveOut && cmp.Equal(rest, v.Elements)
		if p.lossy {
			same = v.LeaveOut || !leaveOut && len(v.Elements) <= len(rest) && (v.Elements != nil || rest == nil)
		}
		if !same {
			p.Fatalf("event %d, whole %v: leave out %v %q, want %v %q, after\n%s", e.Seq, whole, v.LeaveOut, v.Elements, leaveOut, rest, p.story())
		}
	}
	k := universe[p.rng.IntN(len(universe))]
	kept, err := protects(p.ledger, k.DB, k.Name, e.Seen)
	p.must(err)
	if want := p.naive.live(keyText(k.DB, k.Name), e.Seen); kept != want && (!p.lossy || want) {
		p.Fatalf("Protects(%d/%s, %d) = %v, want %v, after\n%s", k.DB, k.Name, e.Seen, kept, want, p.story())
	}
}

// protects tells whether a deletion of a key, one of a FLUSH, is left out.
func protects(l *Ledger, db int32, name []byte, seen int64) (bool, error) {
	e := schema.Event{Op: schema.OpDelete, DB: db, Key: name, Command: "UNLINK", Seen: seen}
	var t command.Touch
	var v Verdict
	if err := t.Of(&e); err != nil {
		return false, err
	}
	err := l.Decide(&e, &t, false, &v)
	return v.LeaveOut, err
}

// pass passes the mark of some events. There may have been no room for what
// the sink told.
func (p *play) pass() {
	to := p.passed + p.rng.Int64N(p.announced-p.passed+1)
	if to == p.passed {
		return
	}
	if p.lossy { // which chains are lost cannot be known: compare one event at a time
		to = p.passed + 1
	}
	batch := p.peer[p.passed:to]
	if p.rng.IntN(3) == 0 {
		p.ledger.applied = queue{}
	}
	p.note("pass %d", to)
	before := dirtyOf(p.ledger)
	from := p.passed
	p.must(p.ledger.PassTo(from, to, p.topic))
	p.passed = to
	for i := range batch {
		p.naivePass(&batch[i], before)
	}
	p.compareDirty()
}

func (p *play) naivePass(e *schema.Event, before map[string]int64) {
	got, upTo := dirtyOf(p.ledger), p.ownLast()
	for _, c := range changesOf(p, e) {
		strict := naive{dirty: map[string]int64{}, own: p.naive.own}
		for k := range strict.pass(&c, e.Seq, e.Seen, upTo, false) {
			if _, ok := got[k]; !ok && !p.lossy {
				p.Fatalf("%q is clean in spite of event %d, after\n%s", k[4:], e.Seq, p.story())
			}
		}
		if p.lossy {
			p.naive.dirty = maps.Clone(before)
		}
		if hit := p.naive.pass(&c, e.Seq, e.Seen, upTo, true); hit == nil || !p.lossy {
			continue
		}
		for k := range written(&c) {
			if _, ok := got[k]; !ok && !p.ledger.Requested() {
				p.Fatalf("%q is clean in spite of event %d, after\n%s", k[4:], e.Seq, p.story())
			}
		}
	}
}

// topic is the peer's topic.
func (p *play) topic(first, last int64, visit func(*schema.Event) error) error {
	for i := range p.peer[first-1 : last] {
		if err := visit(&p.peer[first-1+int64(i)]); err != nil {
			return err
		}
	}
	return nil
}

func (p *play) compareDirty() {
	p.Helper()
	got := dirtyOf(p.ledger)
	if p.lossy {
		p.naive.dirty = got
		return
	}
	if diff := cmp.Diff(shownKeys(p.naive.dirty), shownKeys(got)); diff != "" {
		p.Fatalf("dirty keys and causes differ (-want +got):\n%s after\n%s", diff, p.story())
	}
	if got, want := p.ledger.Settled(p.passed), p.naive.settled(p.passed); got != want {
		p.Fatalf("settled up to %d, want %d, after\n%s", got, want, p.story())
	}
}

// restart fills the ledger anew, from the position's settled.
func (p *play) restart() {
	pos := Position{Seen: p.passed, Settled: p.ledger.Settled(p.passed)}
	floor := p.ownLast()
	for i := range p.peer[pos.Settled:] {
		floor = min(floor, p.peer[int(pos.Settled)+i].Seen)
	}
	if n := len(p.peer); int(pos.Settled) == n && n > 0 {
		floor = p.peer[n-1].Seen
	}
	p.note("restart from %d, floor %d", pos.Settled, floor)
	p.must(p.ledger.Reset(floor, pos.Seen))
	p.must(p.ledger.Replay(pos, func(visit func(*schema.Event) error) error {
		for i := floor; i < p.ownLast(); i++ {
			if err := visit(&p.own[i]); err != nil {
				return err
			}
		}
		return nil
	}, p.topic))
	p.naive.dirty = map[string]int64{}
	n := pos.Settled
	passTo := func(seen, upTo int64) {
		for ; n < seen; n++ {
			for _, c := range changesOf(p, &p.peer[n]) {
				p.naive.pass(&c, n+1, p.peer[n].Seen, upTo, true)
			}
		}
	}
	for i := range p.own {
		if e := &p.own[i]; e.Seen > pos.Settled {
			passTo(e.Seen, e.Seq-1)
			for _, c := range changesOf(p, e) {
				p.naive.ownTouches(&c, true)
			}
		}
	}
	passTo(p.passed, p.ownLast())
	p.compareDirty()
	p.recall() // a sink asks again after that
}

// heard is a HEARTBEAT of the peer when all is passed.
func (p *play) heard() {
	if n := len(p.peer); n > 0 && int(p.passed) == n {
		seen := p.peer[n-1].Seen
		seen += p.rng.Int64N(p.ownLast() - seen + 1)
		p.note("heartbeat (seen %d)", seen)
		p.peer = append(p.peer, schema.Event{Op: schema.OpControl, Command: schema.Heartbeat, Seq: int64(n) + 1, Seen: seen})
		p.announced++
		p.must(p.ledger.Heard(seen))
	}
}

func (p *play) step() {
	switch n := p.rng.IntN(100); {
	case n < 45:
		p.ownEvent()
	case n < 65:
		p.peerEvent(false)
	case n < 66:
		p.peerEvent(true)
	case n < 74:
		p.announce()
	case n < 84:
		p.decide()
	case n < 94:
		p.pass()
	case n < 97:
		p.heard()
	default:
		if !p.lossy {
			p.restart()
		}
	}
	p.compareDirty()
}

func TestLedgerIsAsGoodAsANaiveOne(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		cfg   LedgerConfig
		lossy bool
	}{
		{"all in one generation", LedgerConfig{}, false},
		{"small generations", LedgerConfig{GenerationEntries: 6}, false},
		{"all on disk", LedgerConfig{GenerationEntries: 3, MaxMemory: 1}, false},
		{"some on disk", LedgerConfig{GenerationEntries: 4, MaxMemory: 2000}, false},
		{"little memory and no disk", LedgerConfig{GenerationEntries: 3, MaxMemory: 1000}, true},
		{"little disk", LedgerConfig{GenerationEntries: 4, MaxMemory: 1, MaxDisk: 1500}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(60) {
				p := &play{T: t, rng: rand.New(rand.NewPCG(seed, 1)), lossy: tt.lossy, naive: naive{home: true, dirty: map[string]int64{}}}
				cfg := tt.cfg
				cfg.Site, cfg.Home = "a", true
				if cfg.MaxDisk > 0 || !tt.lossy {
					cfg.Dir = t.TempDir()
				}
				p.ledger = NewLedger(cfg)
				p.note("seed %d", seed)
				for range 150 {
					p.step()
				}
				if err := p.ledger.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// own gives a ledger the events of lines, from seq 1 on.
func own(t testing.TB, l *Ledger, lines ...string) {
	t.Helper()
	last := int64(0)
	for _, line := range lines {
		for _, e := range events(t, 0, line, last, 0) {
			if err := l.Own(&e); err != nil {
				t.Fatal(err)
			}
			last = e.Seq
		}
	}
}

// Source and sink use a ledger at once.
func TestLedgerFromTwoGoroutines(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Home: true, Dir: t.TempDir(), MaxMemory: 4000, GenerationEntries: 32})
	const rounds = 2000
	passes := make(chan int64, 16)
	var both sync.WaitGroup
	both.Go(func() { // the sink
		defer close(passes)
		var touch command.Touch
		for seq := int64(1); seq <= rounds; seq++ {
			e := events(t, 0, "SREM k"+strconv.FormatInt(seq%50, 10)+" x y", seq-1, seq/2)[0]
			var prints Prints
			var print Print
			var v Verdict
			if err := PrintOf(&print, &e); err != nil {
				t.Error(err)
			}
			prints.Add(&print)
			l.Applying(&prints)
			if err := touch.Of(&e); err != nil {
				t.Error(err)
			}
			if err := l.Decide(&e, &touch, false, &v); err != nil {
				t.Error(err)
			}
			_, _, _, _ = l.IsDirty(0, e.Key), l.Floor(), l.Attachment(), l.Size()
			passes <- seq
		}
	})
	both.Go(func() { // the source
		from := int64(0)
		for to := range passes {
			for _, e := range events(t, 0, "SADD k"+strconv.FormatInt(to%70, 10)+" x", to-1, from) {
				if err := l.Own(&e); err != nil {
					t.Error(err)
				}
			}
			if err := l.PassTo(from, to, func(first, last int64, _ func(*schema.Event) error) error {
				return fmt.Errorf("events %d to %d were told", first, last)
			}); err != nil {
				t.Error(err)
			}
			from = to
			l.TakeDirty()
			l.Settled(to)
		}
	})
	both.Wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestForgetWhatThePeerHasSeen(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Home: true, GenerationEntries: 2})
	own(t, l, "SET a 1", "SET b 1", "FLUSHDB", "SET c 1", "SET d 1")
	for _, tt := range []struct{ seen, floor, shelves int64 }{{1, 0, 2}, {2, 2, 1}, {3, 3, 1}, {4, 3, 1}, {5, 5, 0}} {
		if err := l.Heard(tt.seen); err != nil {
			t.Fatal(err)
		}
		if l.Floor() != tt.floor || len(l.shelves) != int(tt.shelves) {
			t.Errorf("seen %d: floor %d, %d generations, want %d, %d", tt.seen, l.Floor(), len(l.shelves), tt.floor, tt.shelves)
		}
	}
	if size := l.Size(); size.Memory != 0 || size.Unseen != 0 {
		t.Errorf("at rest it holds %+v", size)
	}
}

// The peer's seen falls back while an event from before is still to be passed:
// what the later one has not seen must stay.
func TestNothingIsForgottenThatAnAnnouncedEventNeeds(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Home: true, GenerationEntries: 1})
	own(t, l, "SET a 1", "SET b 1", "SET c 1")
	before, rewound := events(t, 0, "SET x 1", 0, 3)[0], events(t, 0, "DEL b", 1, 1)[0]
	announce := func(e *schema.Event) {
		var print Print
		var prints Prints
		if err := PrintOf(&print, e); err != nil {
			t.Fatal(err)
		}
		prints.Add(&print)
		l.Applying(&prints)
	}
	passTo := func(from, to int64) {
		if err := l.PassTo(from, to, nil); err != nil {
			t.Fatal(err)
		}
	}
	announce(&before)
	announce(&rewound)
	passTo(0, 1)
	if v := decide(t, l, &rewound); !v.LeaveOut || l.Floor() > 1 {
		t.Errorf("floor %d: the deletion would remove what it has not seen", l.Floor())
	}
	passTo(1, 2)
	if !l.IsDirty(0, []byte("b")) {
		t.Error("the conflict was not found")
	}
	after := events(t, 0, "SET x 2", 2, 2)[0]
	announce(&after)
	l.StartAt(2) // another sink: the last event has not been applied
	if err := l.Heard(3); err != nil || l.Floor() != 3 {
		t.Errorf("floor %d, %v, want 3", l.Floor(), err)
	}
}

// Nor does a HEARTBEAT from before count any more.
func TestHeartbeatBeforeSeenFellBack(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", Home: true, GenerationEntries: 1})
	own(t, l, "SET a 1", "SET b 1", "SET c 1")
	for i, seen := range []int64{0, 1} {
		e := events(t, 0, "SET x 1", int64(i), seen)[0]
		var print Print
		var prints Prints
		if err := PrintOf(&print, &e); err != nil {
			t.Fatal(err)
		}
		prints.Add(&print)
		l.Applying(&prints)
		if i > 0 {
			break
		}
		if err := l.Heard(3); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.PassTo(0, 2, nil); err != nil || l.Floor() != 1 {
		t.Errorf("floor %d, %v, want 1", l.Floor(), err)
	}
}

// A generation ends when its keys are few but its changes are many.
func TestGenerationsAreBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		line func(i int) string
		want int
	}{
		{"one queue moved over and over", func(int) string { return "LMOVE a b LEFT RIGHT" }, 25},
		{"one set, many elements", func(i int) string { return fmt.Sprintf("SADD s %d", i) }, 13},
		{"one counter", func(int) string { return "INCR n" }, 1},
	} {
		l := NewLedger(LedgerConfig{Site: "a", GenerationEntries: 8})
		for i := range 100 {
			e := events(t, 0, tt.line(i), int64(i), 0)[0]
			if err := l.Own(&e); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(l.shelves); n < tt.want || n > 2*tt.want {
			t.Errorf("%s: %d generations, want about %d", tt.name, n, tt.want)
		}
	}
}

// What Recall read while the source began anew, or forgot more, is not used.
func TestRecallThatComesTooLate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		meanwhile func(l *Ledger) error
		floor     int64
	}{
		{"begun anew", func(l *Ledger) error { return l.Reset(7, 0) }, 7},
		{"forgot more", func(l *Ledger) error { return l.Heard(3) }, 3},
	} {
		l := NewLedger(LedgerConfig{Site: "a", Dir: t.TempDir(), MaxMemory: 1, GenerationEntries: 1})
		own(t, l, "SET a 1", "SET b 1", "SET c 1")
		if err := l.Heard(2); err != nil {
			t.Fatal(err)
		}
		old := slices.Concat(events(t, 0, "SET a 1", 0, 0), events(t, 0, "SET b 1", 1, 0))
		err := l.Recall(0, func(visit func(*schema.Event) error) error {
			for i := range old {
				if err := visit(&old[i]); err != nil {
					return err
				}
			}
			return tt.meanwhile(l)
		})
		if err != nil || l.Floor() != tt.floor || len(l.shelves) > 0 {
			t.Errorf("%s: floor %d, %d shelves, error %v", tt.name, l.Floor(), len(l.shelves), err)
		}
		if left := ledgerFiles(t, l.cfg.Dir); len(left) > 0 {
			t.Errorf("%s: left %v", tt.name, left)
		}
	}
}

// Recall has no more room than the ledger.
func TestRecallOfTooMuch(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a", MaxMemory: 150, GenerationEntries: 1})
	lines := []string{"SET a 1", "SET b 1", "SET c 1", "SET d 1", "SET e 1"}
	for i, line := range lines { // each is seen at once
		err := errors.Join(l.Own(&events(t, 0, line, int64(i), 0)[0]), l.Heard(int64(i)+1))
		if err != nil || l.Size().Lost > 0 {
			t.Fatalf("size %+v, %v", l.Size(), err)
		}
	}
	err := l.Recall(0, func(visit func(*schema.Event) error) error {
		for i, line := range lines {
			if err := visit(&events(t, 0, line, int64(i), 0)[0]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || l.Floor() != 0 || l.Size().Lost == 0 {
		t.Errorf("floor %d, size %+v, %v", l.Floor(), l.Size(), err)
	}
	for _, name := range []string{"a", "e", "never"} {
		if ok, err := protects(l, 0, []byte(name), 0); err != nil || !ok {
			t.Errorf("Protects(%s) = %v, %v: what is lost counts as unseen", name, ok, err)
		}
	}
}

// What was only sent again is no change, also when it is recalled.
func TestRecallOfAValueThatWasSentAgain(t *testing.T) {
	t.Parallel()
	l := NewLedger(LedgerConfig{Site: "a"})
	again := events(t, 0, "VALUE k", 0, 0)[0]
	again.Source.Snapshot = schema.Refresh
	if err := errors.Join(l.Own(&again), l.Own(&events(t, 0, "SET j 1", 1, 0)[0]), l.Heard(2)); err != nil {
		t.Fatal(err)
	}
	err := l.Recall(0, func(visit func(*schema.Event) error) error {
		return errors.Join(visit(&again), visit(&events(t, 0, "SET j 1", 1, 0)[0]))
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"k": false, "j": true} {
		if ok, err := protects(l, 0, []byte(name), 0); err != nil || ok != want {
			t.Errorf("Protects(%s) = %v, %v", name, ok, err)
		}
	}
}

// A million keys that the peer has not seen, in little memory.
func TestMemoryIsBounded(t *testing.T) {
	const keys, limit = 1_000_000, 4 << 20
	l := NewLedger(LedgerConfig{Site: "a", Home: true, Dir: t.TempDir(), MaxMemory: limit})
	defer l.Close()
	before := heapInUse()
	highest := uint64(0)
	e := schema.Event{Op: schema.OpWrite, Command: "SADD", Args: [][]byte{nil, []byte("x")}}
	for i := range keys {
		e.Key = fmt.Appendf(e.Key[:0], "user:%011d", i)
		e.Args[0], e.Seq = e.Key, e.Seq+1
		if err := l.Own(&e); err != nil {
			t.Fatal(err)
		}
		if i%100_000 == 99_999 {
			highest = max(highest, heapInUse())
		}
	}
	size := l.Size()
	t.Logf("heap %d KiB, ledger %+v", (highest-before)>>10, size)
	if used := highest - before; used > 3*limit {
		t.Errorf("%d bytes for a limit of %d", used, limit)
	}
	if size.Disk < keys*16 || size.Lost > 0 || size.Unseen != keys {
		t.Errorf("size %+v", size)
	}
	seen := e.Seq - 1000
	for _, i := range []int{0, 1, keys / 2, keys - 1} {
		name := fmt.Appendf(nil, "user:%011d", i)
		for _, s := range []int64{0, seen} {
			if got, err := protects(l, 0, name, s); err != nil || got != (int64(i) >= s) {
				t.Errorf("Protects(%s, %d) = %v, %v", name, s, got, err)
			}
		}
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkOwn(b *testing.B) {
	for _, keys := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("%d keys", keys), func(b *testing.B) {
			l := NewLedger(LedgerConfig{Site: "a", Home: true})
			e := schema.Event{Op: schema.OpWrite, Command: "SET", Key: []byte("user:00000000000"), Args: [][]byte{nil, []byte("v")}}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for n, at := i*7919%keys, len(e.Key)-1; n > 0; n, at = n/10, at-1 {
					e.Key[at] = byte('0' + n%10)
				}
				e.Args[0], e.Seq = e.Key, e.Seq+1
				if err := l.Own(&e); err != nil {
					b.Fatal(err)
				}
				if i%100_000 == 0 { // the peer is a little behind
					if err := l.forget(e.Seq - 50_000); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, tt := range []struct {
		name string
		cfg  LedgerConfig
	}{
		{"in memory", LedgerConfig{Site: "a"}},
		{"on disk", LedgerConfig{Site: "a", MaxMemory: 8 << 20, Dir: b.TempDir()}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			l := NewLedger(tt.cfg)
			defer l.Close()
			const keys = 100_000
			for i := range keys {
				e := events(b, 0, fmt.Sprintf("SADD user:%d x", i), int64(i), 0)[0]
				if err := l.Own(&e); err != nil {
					b.Fatal(err)
				}
			}
			peer := make([]schema.Event, 1000)
			touches := make([]command.Touch, len(peer))
			for i := range peer {
				peer[i] = events(b, 0, fmt.Sprintf("SREM user:%d x y", i*97), int64(i), 0)[0]
				if err := touches[i].Of(&peer[i]); err != nil {
					b.Fatal(err)
				}
			}
			var v Verdict
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := l.Decide(&peer[i%len(peer)], &touches[i%len(peer)], false, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
