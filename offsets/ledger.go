package offsets

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"twinlog/internal/command"
	"twinlog/schema"
)

// Rules switches single rules of convergence.md off, so that a test can show
// what each is for. The zero value has all of them on.
type Rules struct {
	NoD         bool // apply removals whatever this site has written
	WholeOnly   bool // D for whole keys only, not for elements
	NoR         bool // apply values whatever this site has written
	NoH         bool // find no conflicts
	NoChain     bool // H without following own changes of several keys
	NoDirtyPeer bool // H without looking whether the peer touched a dirty key
	NoDirtyOwn  bool // no H2
	NoCommute   bool // no C: changes that commute are conflicts too
	NoHidden    bool // no E: expiries inside applied blocks are not published
	LateHidden  bool // E, but with the new seen
	NoSettled   bool // P without settled: a restart finds no conflict again
}

// LedgerConfig says what a ledger is for.
type LedgerConfig struct {
	Site      string
	Home      bool   // conflicts are settled here
	Dir       string // for what does not fit into memory
	MaxMemory int64  // bytes of it
	MaxDisk   int64  // bytes; above it the oldest changes are forgotten, and count as unseen
	Rules     Rules
	Conflicts *Conflicts

	MaxDirty          int64 // bytes of keys in conflict; 0: a quarter of MaxMemory, at least leastDirty
	GenerationEntries int   // keys and elements that are forgotten together; 0: 16,384
}

// Ledger is what a site knows of its own changes that the peer has not seen,
// and of the keys that both sites changed. The site's source feeds it, in
// stream order; its sink asks it. It may be used from several goroutines.
type Ledger struct {
	cfg    LedgerConfig
	hasher hasher

	fencing atomic.Bool

	mu       sync.Mutex
	shelves  []shelf       // oldest first; the newest one is current
	spare    []*generation // forgotten ones
	current  *generation
	memory   int64 // of sealed shelves
	disk     int64
	last     int64  // own seq
	floor    int64  // own changes up to here are not known any more
	lost     int64  // own changes up to here cannot be known again
	dropped  int64  // own changes forgotten for want of room
	wipes    []wipe // own FLUSHDB, FLUSHALL, SWAPDB
	touch    command.Touch
	commands *commandNames

	dirty               map[string]*dirtyKey
	causes              causes
	chained             map[string]chainRoot // by key, since own seq chainedAt
	chainedAt           int64
	chainedAll          chainRoot     // all keys that a chain can find are dirty
	fresh               []*dirtyKey   // dirty since TakeDirty was called last
	wake                chan struct{} // signalled when fresh grows
	dirtyBytes          int64         // of keys in conflict but for those that are awaited
	room                chan struct{} // closed when there is room for more of them; nil: nobody waits
	request             int64         // the peer's event for which all values are to be published; 0: none
	requestLate         bool          // since the last SNAPSHOT_BEGIN
	asked               request       // what this site asked for last
	answered            int64         // the peer's snapshot has seen own events up to here
	text                []byte
	applied             queue
	announced           []announcement
	heard               int64 // seen of HEARTBEATs that wrote no mark
	passedTo, appliedTo int64 // peer's seqs: passed by the source, applied by the sink
	attached            int64 // counts Reset
}

// wipe is an own change of whole databases.
type wipe struct {
	seq  int64
	dbs  []int32 // none: all
	swap bool
}

func (w *wipe) covers(db int32) bool {
	for _, d := range w.dbs {
		if d == db {
			return true
		}
	}
	return len(w.dbs) == 0
}

// NewLedger returns an empty ledger.
func NewLedger(cfg LedgerConfig) *Ledger {
	if cfg.Conflicts == nil {
		cfg.Conflicts = &Conflicts{}
	}
	if cfg.GenerationEntries == 0 {
		cfg.GenerationEntries = generationEntries
	}
	if cfg.MaxDirty == 0 && cfg.MaxMemory > 0 {
		cfg.MaxDirty = max(cfg.MaxMemory/4, leastDirty)
	}
	l := &Ledger{cfg: cfg, hasher: hasher{maphash.MakeSeed()}, wake: make(chan struct{}, 1)}
	l.reset(0)
	return l
}

// leastDirty is room for some thousand keys in conflict: a snapshot costs more
// than their values.
const leastDirty = 1 << 20

// Rules returns the rules that this ledger goes by.
func (l *Ledger) Rules() Rules { return l.cfg.Rules }

// Home tells whether conflicts are settled at this site.
func (l *Ledger) Home() bool { return l.cfg.Home }

// Conflicts is where what was decided is noted.
func (l *Ledger) Conflicts() *Conflicts { return l.cfg.Conflicts }

// Reset forgets everything: a source starts and tells again what it finds in
// its own topic behind seq floor. It has passed the peer's events up to passed.
func (l *Ledger) Reset(floor, passed int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attached++
	err := errors.Join(l.clear(), removeLeftovers(l.cfg.Dir, l.cfg.Site))
	l.reset(floor)
	l.setPassed(passed)
	return err
}

func (l *Ledger) reset(floor int64) {
	l.shelves, l.current, l.memory, l.disk = nil, nil, 0, 0
	l.last, l.floor, l.lost, l.dropped, l.heard, l.wipes = floor, floor, 0, 0, 0, nil
	l.dirty, l.causes, l.fresh, l.request, l.asked, l.answered = map[string]*dirtyKey{}, nil, nil, 0, request{}, 0
	l.requestLate = false
	l.weigh(-l.dirtyBytes)
	l.chained, l.chainedAt = map[string]chainRoot{}, -1
	l.commands = &commandNames{numbers: map[string]uint16{}}
}

// Close removes what lies on disk.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clear()
}

func (l *Ledger) clear() error {
	err := l.drop(len(l.shelves))
	l.current, l.memory, l.disk = nil, 0, 0
	return err
}

// Attachment counts how often a source has begun anew: what was decided
// before is void.
func (l *Ledger) Attachment() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attached
}

// Own notes a change that the site's source has read, in stream order: rules
// L and H2. Its seq is set.
func (l *Ledger) Own(e *schema.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.IsRefresh() {
		l.last = e.Seq
		return nil
	}
	if err := l.note(e); err != nil {
		return err
	}
	l.ownTouches(e)
	return nil
}

func (l *Ledger) note(e *schema.Event) error {
	t := &l.touch
	if err := t.Of(e); err != nil {
		return err
	}
	l.last = e.Seq
	switch {
	case e.Op == schema.OpControl && e.Command == schema.SnapshotRequest:
		l.asked = requestOf(e)
	case t.Kind == command.Wipe || t.Kind == command.Swap:
		l.wipes = append(l.wipes, wipe{seq: e.Seq, dbs: append([]int32(nil), t.DBs...), swap: t.Kind == command.Swap})
	case removesUnnamed(e):
		t.Kind = command.Wipe
		l.wipes = append(l.wipes, wipe{seq: e.Seq})
	case len(t.Keys) > 0:
		if l.current == nil || l.current.full(e.Seq, l.cfg.GenerationEntries) {
			if err := l.seal(e.Seq - 1); err != nil {
				return err
			}
		}
		l.current.add(l.hasher, e.Seq, t, l.commands.number(e.Command))
	}
	return nil
}

// removesUnnamed tells whether e is a SNAPSHOT_END that removes keys which
// only interrupted snapshots had, or which were deleted in a gap: which,
// nobody here knows.
func removesUnnamed(e *schema.Event) bool {
	if e.Op != schema.OpControl || e.Command != schema.SnapshotEnd {
		return false
	}
	end, err := schema.ParseEnd(e.Args)
	return err == nil && (end.Interrupted > 0 || end.Gap)
}

// commandNames gives names of commands numbers that fit into a record.
type commandNames struct {
	names   []string
	numbers map[string]uint16
}

func (c *commandNames) number(name string) uint16 {
	n, ok := c.numbers[name]
	if !ok && len(c.names) < math.MaxUint16 {
		c.names = append(c.names, name)
		n = uint16(len(c.names))
		c.numbers[name] = n
	}
	return n
}

func (c *commandNames) name(n uint16) string {
	if n == 0 {
		return ""
	}
	return named(c.names[n-1])
}

// seal ends the current generation and begins another one behind seq base.
func (l *Ledger) seal(base int64) error {
	if l.current != nil {
		l.memory += l.current.memory()
		l.current = nil
		if l.memory > l.cfg.MaxMemory && l.cfg.MaxMemory > 0 {
			if err := l.spill(); err != nil {
				return fmt.Errorf("moving the ledger of site %s to disk: %w", l.cfg.Site, err)
			}
		}
	}
	l.current = l.emptyGeneration(base)
	l.shelves = append(l.shelves, l.current)
	return nil
}

// spareGenerations are how many forgotten generations are kept for their
// memory: under load they come and go.
const spareGenerations = 2

func (l *Ledger) emptyGeneration(base int64) *generation {
	n := len(l.spare)
	if n == 0 {
		return newGeneration(base)
	}
	g := l.spare[n-1]
	l.spare = l.spare[:n-1]
	g.reset(base)
	return g
}

// recycle keeps a generation that is not needed any more.
func (l *Ledger) recycle(s shelf) {
	if g, ok := s.(*generation); ok && len(l.spare) < spareGenerations {
		l.spare = append(l.spare, g)
	}
}

// forget drops what the peer has seen.
func (l *Ledger) forget(seen int64) error {
	seen = l.needed(seen)
	n := 0
	for n < len(l.shelves) {
		s := l.shelves[n]
		if _, last := s.span(); last > seen || s == shelf(l.current) {
			break
		}
		n++
	}
	err := l.drop(n)
	forgot := n > 0
	if g := l.current; g != nil && g.to > 0 && g.to <= seen { // idle: nothing is unseen
		l.recycle(g)
		l.current, l.shelves, forgot = nil, l.shelves[:0], true
	}
	w := 0
	for w < len(l.wipes) && l.wipes[w].seq <= seen {
		w++
	}
	l.wipes = slices.Delete(l.wipes, 0, w)
	if forgot || w > 0 {
		l.floor = max(l.floor, seen)
	}
	return err
}

// look joins what is known of a key in own changes behind seen.
func (l *Ledger) look(k key, seen int64) (touched, error) {
	var t touched
	for i := len(l.shelves) - 1; i >= 0; i-- {
		if _, last := l.shelves[i].span(); last <= seen {
			break
		}
		old, err := l.shelves[i].find(k)
		if err != nil {
			return t, err
		}
		t = t.before(old)
	}
	if u := l.unknown(); seen < u { // it may have been written then: never guess
		t = t.before(touched{last: u, kind: command.Overwrite, other: u, whole: u})
		t.other = max(t.other, u)
	}
	return t, nil
}

// unknown is the seq up to which own changes are not known: they count as
// unseen.
func (l *Ledger) unknown() int64 { return max(l.floor, l.lost) }

// wrote returns the last own write of an element behind seen.
func (l *Ledger) wrote(k key, element []byte, seen int64) (int64, error) {
	h := l.hasher.element(k, element)
	for i := len(l.shelves) - 1; i >= 0; i-- {
		if _, last := l.shelves[i].span(); last <= seen {
			break
		}
		if seq, err := l.shelves[i].element(h); err != nil || seq > 0 {
			return seq, err
		}
	}
	return 0, nil
}

// swapped returns the last own SWAPDB of db behind seen.
func (l *Ledger) swapped(db int32, seen int64) int64 {
	for i := len(l.wipes) - 1; i >= 0 && l.wipes[i].seq > seen; i-- {
		if w := &l.wipes[i]; w.swap && w.covers(db) {
			return w.seq
		}
	}
	return 0
}

// wiped returns the last own FLUSHDB, FLUSHALL or SWAPDB of db behind seen.
func (l *Ledger) wiped(db int32, seen int64) int64 {
	for i := len(l.wipes) - 1; i >= 0 && l.wipes[i].seq > seen; i-- {
		if l.wipes[i].covers(db) {
			return l.wipes[i].seq
		}
	}
	return 0
}

// SetFencing tells that the sink tries again and again to apply a batch, which
// each barrier voids: values are to wait for a moment.
func (l *Ledger) SetFencing(is bool) { l.fencing.Store(is) }

// Fencing tells whether no barrier should be written now.
func (l *Ledger) Fencing() bool { return l.fencing.Load() }

// Floor is the own seq up to which changes are not known any more. A peer's
// event with a smaller seen needs Recall first.
func (l *Ledger) Floor() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.floor
}

// Lost tells that own changes up to seq cannot be known again: they count as
// unseen.
func (l *Ledger) Lost(seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = max(l.lost, seq)
}

// Recall puts own changes back that were forgotten: from the own topic, in
// order, behind seq from and up to the floor. If the source began anew or more
// was forgotten meanwhile, it does nothing: Floor tells whether to call again.
func (l *Ledger) Recall(from int64, events func(visit func(*schema.Event) error) error) error {
	older := NewLedger(l.cfg)
	older.hasher = l.hasher
	l.mu.Lock()
	floor, attached := l.floor, l.attached
	older.commands = l.commands
	l.mu.Unlock()
	err := events(func(e *schema.Event) error {
		if e.Seq <= from || e.Seq > floor || e.IsRefresh() {
			return nil
		}
		l.mu.Lock() // for the names of commands, which both have
		defer l.mu.Unlock()
		return older.note(e)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || l.floor != floor || l.attached != attached {
		return errors.Join(err, older.clear())
	}
	if older.current != nil {
		older.memory += older.current.memory()
	}
	l.shelves = append(older.shelves, l.shelves...)
	l.wipes = append(older.wipes, l.wipes...)
	l.chainedAt = -1
	l.memory += older.memory
	l.disk += older.disk
	l.floor, l.lost, l.dropped = min(l.floor, from), max(l.lost, older.lost), l.dropped+older.dropped
	return nil
}

// LedgerSize is how much a ledger holds.
type LedgerSize struct {
	Memory, Disk int64 // bytes
	Unseen       int64 // own changes since the one that the peer has seen last, about
	Lost         int64 // own changes forgotten for want of room; they count as unseen
	Dirty        int   // keys in conflict whose value is not published yet
}

// Size tells how much the ledger holds.
func (l *Ledger) Size() LedgerSize {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := LedgerSize{Memory: l.memory, Disk: l.disk, Lost: l.dropped, Dirty: len(l.dirty)}
	if l.current != nil {
		s.Memory += l.current.memory()
	}
	if len(l.shelves) > 0 {
		s.Unseen = l.last - l.floor
	}
	return s
}

func seqText(what string, seq int64) string {
	if seq == 0 {
		return what
	}
	return what + " (seq " + strconv.FormatInt(seq, 10) + ")"
}
