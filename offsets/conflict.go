package offsets

import (
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sort"
	"strconv"

	"twinlog/internal/command"
	"twinlog/schema"
)

// DirtyKey is a key that both sites changed without having seen each other:
// home publishes its value.
type DirtyKey struct {
	DB   int32
	Name []byte
}

type dirtyKey struct {
	DirtyKey
	cause   int64 // seq of the peer's event; -1: cleaned meanwhile
	covered bool  // by the snapshot under way
	due     bool  // a VALUE_DUE is out: the peer does not hold what this site does
	awaited bool  // the peer's VALUE_DUE was passed: its value is to come, this site's is not asked for
	fresh   bool  // TakeDirty has not told of it
}

// causes is a heap of dirty keys, the lowest cause first. Entries of keys that
// were cleaned, or got a lower cause, are passed over when they come up.
type causes []causeEntry

type causeEntry struct {
	key   *dirtyKey
	cause int64
}

func (c causes) Len() int           { return len(c) }
func (c causes) Less(i, j int) bool { return c[i].cause < c[j].cause }
func (c causes) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *causes) Push(x any)        { *c = append(*c, x.(causeEntry)) } //nolint:forcetypeassert // container/heap's way
func (c *causes) Pop() any {
	old := *c
	x := old[len(old)-1]
	*c = old[:len(old)-1]
	return x
}

// Settled is the peer's seq up to which conflicts are settled, when the
// source has seen the peer up to seen (rule P).
func (l *Ledger) Settled(seen int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Rules.NoSettled {
		return seen
	}
	lowest := seen + 1
	if l.request > 0 {
		lowest = min(lowest, l.request)
	}
	for len(l.causes) > 0 {
		top := l.causes[0]
		if top.key.cause == top.cause {
			lowest = min(lowest, top.cause)
			break
		}
		heap.Pop(&l.causes)
	}
	return max(lowest-1, 0)
}

// TakeDirty returns the keys that have become dirty since it was called last.
func (l *Ledger) TakeDirty() []DirtyKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken []DirtyKey
	for _, d := range l.fresh {
		d.fresh = false
		if d.cause >= 0 {
			taken = append(taken, d.DirtyKey)
		}
	}
	l.fresh = l.fresh[:0]
	return taken
}

// Woken is signalled when TakeDirty has something to return.
func (l *Ledger) Woken() <-chan struct{} { return l.wake }

// IsDirty tells whether a key's value is still to be published.
func (l *Ledger) IsDirty(db int32, name []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.causeOf(db, name)
	return d != nil && !d.awaited
}

// Requested tells whether the peer has asked for a snapshot (rule W).
func (l *Ledger) Requested() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.request > 0
}

// dirtyCost is what a key in conflict costs here and where its value is read,
// besides its name.
const dirtyCost = 320

func (d *dirtyKey) cost() int64 { return dirtyCost + 2*int64(len(d.Name)) }

// crowded tells whether no more keys may become dirty (G6).
func (l *Ledger) crowded(more int64) bool {
	return l.cfg.MaxDirty > 0 && l.dirtyBytes+more > l.cfg.MaxDirty
}

// HasRoom tells whether AwaitRoom would not wait.
func (l *Ledger) HasRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.crowded(0)
}

// AwaitRoom waits until there is room for keys in conflict: until the values of
// those that there are have been published. A sink that goes on before may make
// more of them than memory holds.
func (l *Ledger) AwaitRoom(ctx context.Context) error {
	for {
		l.mu.Lock()
		if !l.crowded(0) {
			l.mu.Unlock()
			return nil
		}
		if l.room == nil {
			l.room = make(chan struct{})
		}
		room := l.room
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-room:
		}
	}
}

// weigh counts what becomes dirty, or is not any more. What is awaited does not
// count: the peer bounds it, and it ends only when the sink goes on.
func (l *Ledger) weigh(bytes int64) {
	l.dirtyBytes += bytes
	if l.room != nil && !l.crowded(0) {
		close(l.room)
		l.room = nil
	}
}

// undirty removes a key from those that are dirty.
func (l *Ledger) undirty(text string, d *dirtyKey) {
	d.cause = -1
	delete(l.dirty, text)
	if !d.awaited {
		l.weigh(-d.cost())
	}
}

// because notes that d is dirty because of the peer's event cause.
func (l *Ledger) because(d *dirtyKey, cause int64) {
	d.cause, d.covered = cause, false
	heap.Push(&l.causes, causeEntry{d, cause})
	if len(l.causes) > 2*len(l.dirty)+causesSlack { // behind one that stays dirty
		l.causes = slices.DeleteFunc(l.causes, func(c causeEntry) bool { return c.key.cause != c.cause })
		heap.Init(&l.causes)
	}
}

// causesSlack is how many entries of keys that were cleaned are kept at least.
const causesSlack = 1024

func (l *Ledger) causeOf(db int32, name []byte) *dirtyKey {
	if len(l.dirty) == 0 {
		return nil
	}
	l.text = append(binary.BigEndian.AppendUint32(l.text[:0], uint32(db)), name...)
	return l.dirty[string(l.text)]
}

// taint makes a key dirty because of the peer's event cause.
func (l *Ledger) taint(db int32, name []byte, cause int64) {
	d := l.causeOf(db, name)
	if d == nil {
		d = &dirtyKey{DirtyKey: DirtyKey{db, append([]byte(nil), name...)}, cause: cause}
		l.dirty[keyText(db, name)] = d
		l.weigh(d.cost())
		l.ask(d)
	} else {
		if d.awaited { // changed here as well: home's value settles it
			d.awaited = false
			l.weigh(d.cost())
			l.ask(d)
		}
		if d.cause <= cause {
			d.covered = false
			return
		}
	}
	l.because(d, cause)
}

// ask makes TakeDirty tell of d.
func (l *Ledger) ask(d *dirtyKey) {
	if !d.fresh {
		d.fresh = true
		l.fresh = append(l.fresh, d)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Ledger) clean(db int32, name []byte) {
	if d := l.causeOf(db, name); d != nil {
		l.undirty(string(l.text), d)
		l.cfg.Conflicts.repaired()
	}
}

// Taint makes the keys of a peer's event dirty at home: it had no effect there.
func (l *Ledger) Taint(t *command.Touch, cause int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cfg.Home || l.cfg.Rules.NoH {
		return
	}
	for i := range t.Keys {
		if t.Keys[i].Written {
			l.taint(t.Keys[i].DB, t.Keys[i].Name, cause)
		}
	}
}

// ownTouches is rule H2: an own change that touches a dirty key makes what it
// writes dirty; an own value cleans its key.
func (l *Ledger) ownTouches(e *schema.Event) {
	if e.Op == schema.OpControl {
		if e.Command == schema.ValueDue {
			l.due(e.DB, e.Key, e.Seen)
			return
		}
		l.ownSnapshot(e.Command)
		return
	}
	t := &l.touch // of e, see note
	if e.Op == schema.OpValue {
		if !e.Part.Set || e.Part.Last {
			l.clean(e.DB, e.Key)
		}
		return
	}
	if command.NeedsRefresh(e) { // it cannot be carried as it is: its value follows
		l.taint(e.DB, e.Key, e.Seen)
	}
	if len(l.dirty) == 0 || l.cfg.Rules.NoDirtyOwn {
		return
	}
	if t.Kind == command.Swap {
		l.taintSwapped(t.DBs, 0, true)
		return
	}
	cause, hit := int64(math.MaxInt64), false
	for i := range t.Keys {
		if d := l.causeOf(t.Keys[i].DB, t.Keys[i].Name); d != nil {
			cause, hit = min(cause, d.cause), true
		}
	}
	if !hit {
		return
	}
	for i := range t.Keys {
		if t.Keys[i].Written {
			l.taint(t.Keys[i].DB, t.Keys[i].Name, cause)
		}
	}
}

// due makes a key dirty whose VALUE_DUE was published when the peer was seen up
// to seen.
func (l *Ledger) due(db int32, name []byte, seen int64) {
	l.taint(db, name, seen)
	l.causeOf(db, name).due = true
}

// Due is Own for the VALUE_DUE of an event that was published before.
func (l *Ledger) Due(e *schema.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.due(e.DB, e.Key, e.Seen)
}

// awaits notes what the peer's events tell of values that are due: what this
// site holds of such a key is not what the peer holds, so what is made of it
// here differs too (rule H2).
func (l *Ledger) awaits(seq int64, name string, t *command.Touch) {
	if len(t.Keys) != 1 {
		return
	}
	k := &t.Keys[0]
	switch d := l.causeOf(k.DB, k.Name); {
	case name == schema.ValueDue && d == nil:
		d = &dirtyKey{DirtyKey: DirtyKey{k.DB, append([]byte(nil), k.Name...)}, cause: seq, awaited: true}
		l.dirty[keyText(k.DB, k.Name)] = d
		l.because(d, seq)
	case name == "" && d != nil && d.awaited: // its value
		l.undirty(string(l.text), d)
	}
}

// ownSnapshot: a snapshot's values clean what was dirty when it began. What
// became dirty since, by a mark found inside it, stays so.
func (l *Ledger) ownSnapshot(control string) {
	switch control {
	case schema.SnapshotBegin:
		for _, d := range l.dirty {
			d.covered = true
		}
		l.requestLate = false
	case schema.SnapshotEnd:
		for text, d := range l.dirty {
			switch {
			case d.awaited || d.due: // its value is to come by itself
				d.covered = false
			case d.covered:
				l.undirty(text, d)
				l.cfg.Conflicts.repaired()
			default:
				l.ask(d)
			}
		}
		if !l.requestLate {
			l.request = 0
		}
	}
}

// Pass is rule H: the source passes the mark of the peer's event. Own changes
// known so far came before that mark.
func (l *Ledger) Pass(seq, seen int64, name string, t *command.Touch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Rules.NoH || !l.cfg.Home {
		return nil
	}
	// What this site lost before it asked for the peer's values is not its to
	// settle: they come, and what the peer did until then is in them.
	seen = max(seen, l.asked.Seq)
	if name == "" {
		l.awaits(seq, name, t)
	}
	if name == schema.ValueDue {
		defer l.awaits(seq, name, t)
	}
	unseen := l.last > seen && (len(l.shelves) > 0 || len(l.wipes) > 0) || seen < l.unknown()
	if !unseen && len(l.dirty) == 0 {
		return nil
	}
	switch t.Kind {
	case command.Wipe:
		return l.passWipe(seq, seen, name, t)
	case command.Swap:
		return l.passSwap(seq, seen, name, t)
	default:
	}
	if len(t.Keys) == 0 {
		return nil
	}
	return l.passKeys(seq, seen, name, t, unseen)
}

// Request is Pass for a SNAPSHOT_REQUEST (rule W). The peer may have lost the
// values that are awaited of it; whatever this site makes meanwhile of its own
// is in the snapshot that answers.
func (l *Ledger) Request(seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.request == 0 {
		l.request = seq
	}
	for text, d := range l.dirty {
		if d.awaited {
			l.undirty(text, d)
		}
	}
}

// request is a SNAPSHOT_REQUEST of this site.
type request struct {
	Seq         int64 // its own
	First, Last int64 // seqs of the events that the site has lost
}

func requestOf(e *schema.Event) request {
	r := request{Seq: e.Seq}
	if len(e.Args) == 2 {
		r.First, _ = strconv.ParseInt(string(e.Args[0]), 10, 64)
		r.Last, _ = strconv.ParseInt(string(e.Args[1]), 10, 64)
	}
	return r
}

// answer tells that the peer has sent all its values, having seen own events up
// to seen.
func (l *Ledger) answer(seen int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered = max(l.answered, seen)
}

// Asked tells which events this site has lost, by seq, while the peer's values
// that it asked for have not all come; 0, 0 otherwise.
func (l *Ledger) Asked() (first, last int64, waiting bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked.First, l.asked.Last, l.asked.Seq > l.answered
}

func (l *Ledger) passKeys(seq, seen int64, name string, t *command.Touch, unseen bool) error {
	cause, hit := seq, false
	if !l.cfg.Rules.NoDirtyPeer {
		for i := range t.Keys {
			if d := l.causeOf(t.Keys[i].DB, t.Keys[i].Name); d != nil {
				cause, hit = min(cause, d.cause), true
			}
		}
	}
	var more []command.KeyTouch
	if unseen {
		several := false
		for i := range t.Keys {
			k := l.hasher.key(t.Keys[i].DB, t.Keys[i].Name)
			own, err := l.look(k, seen)
			if err != nil {
				return err
			}
			several = several || own.read > seen
			conflict, err := l.conflicts(k, own, t, t.Keys[i].Written, seen)
			if err != nil {
				return err
			}
			if conflict {
				hit = true
				l.cfg.Conflicts.Note(l.conflict(RuleH, k, name, seq, own))
				if !t.Keys[i].Written {
					more = append(more, t.Keys[i])
				}
				more = l.swappedKeys(more, k, seen)
			}
		}
		if several {
			chain, found, err := l.chainOnce(t, more, seen, seq)
			if err != nil {
				return err
			}
			hit, more = hit || found, chain
		}
	}
	if !hit {
		return nil
	}
	for i := range t.Keys {
		if t.Keys[i].Written {
			l.taint(t.Keys[i].DB, t.Keys[i].Name, cause)
		}
	}
	for i := range more { // a restart that knows of this event only finds them again
		l.taint(more[i].DB, more[i].Name, seq)
	}
	return nil
}

// swappedKeys adds k in the databases that own SWAPDBs behind seen swapped.
func (l *Ledger) swappedKeys(more []command.KeyTouch, k key, seen int64) []command.KeyTouch {
	for i := range l.wipes {
		if w := &l.wipes[i]; w.swap && w.seq > seen && w.covers(k.db) {
			for _, db := range w.dbs {
				more = append(more, command.KeyTouch{DB: db, Name: k.name, Written: true})
			}
		}
	}
	return more
}

// conflicts tells whether an own unseen change of k does not commute with c,
// which touches it (rule 8).
func (l *Ledger) conflicts(k key, own touched, c *command.Touch, written bool, seen int64) (bool, error) {
	for i := range l.wipes {
		w := &l.wipes[i]
		if w.seq > seen && w.covers(k.db) && (w.swap || c.Kind != command.Deletion || c.Multi() || l.cfg.Rules.NoCommute) {
			return true, nil
		}
	}
	switch {
	case own.last <= seen && (own.read <= seen || !written):
		return false, nil
	case written && own.read > seen, c.Multi(), l.cfg.Rules.NoCommute:
		return true, nil
	}
	switch c.Kind {
	case command.Deletion, command.Increment, command.Addition:
		return own.lastBut(c.Kind) > seen, nil
	case command.PutFields, command.PutMembers:
		if own.lastBut(c.Kind) > seen {
			return true, nil
		}
		for _, x := range c.Elements {
			if seq, err := l.wrote(k, x, seen); err != nil || seq > seen {
				return true, err
			}
		}
		return false, nil
	case command.Overwrite, command.Removal, command.Pop, command.Whole, command.Wipe, command.Swap:
	}
	return true, nil
}

// chainRoot says that conflicts were followed from a key: all that they lead to
// is dirty because of cause, or something before it.
type chainRoot struct {
	seen, cause int64
	written     bool // else from what writes the key only
	found       bool // something
}

const mostChained = 10_000

// chainOnce is chain, unless all that it can find is dirty already: it was
// followed from the same keys and nothing was changed here since. It tells
// whether there is such a conflict.
func (l *Ledger) chainOnce(c *command.Touch, found []command.KeyTouch, seen, cause int64) ([]command.KeyTouch, bool, error) {
	if l.chainedAt != l.last || len(l.chained) > mostChained {
		clear(l.chained)
		l.chainedAt, l.chainedAll = l.last, chainRoot{}
	}
	if all := &l.chainedAll; all.found && all.seen <= seen && all.cause <= cause {
		return found, len(found) > 0, nil
	}
	known, any := true, len(found) > 0
	is := func(k *command.KeyTouch, written bool) {
		r, ok := l.chained[keyText(k.DB, k.Name)]
		known = known && ok && r.seen <= seen && r.cause <= cause && (r.written || !written)
		any = any || r.found
	}
	for i := range c.Keys {
		is(&c.Keys[i], c.Keys[i].Written)
	}
	for i := range found {
		is(&found[i], true)
	}
	if known {
		return found, any, nil
	}
	chain, all, err := l.chain(c, found, seen)
	if err != nil {
		return nil, false, err
	}
	if all {
		l.chainedAll = chainRoot{seen: seen, cause: cause, found: true}
	}
	root := chainRoot{seen: seen, cause: cause, found: len(chain) > 0}
	for i := range c.Keys {
		root.written = c.Keys[i].Written
		l.chained[keyText(c.Keys[i].DB, c.Keys[i].Name)] = root
	}
	root.written = true
	for i := range found {
		l.chained[keyText(found[i].DB, found[i].Name)] = root
	}
	return chain, root.found, nil
}

// chain follows own unseen changes of several keys, in order: one that
// touches what c writes, or writes what c touches, passes the conflict on to
// all keys that it writes. It returns the keys that c does not write itself.
// Those found to be in conflict by what c reads count from the beginning,
// whatever the order was: more may become dirty than rule H asks for. all
// tells that nothing is left that a chain could find.
func (l *Ledger) chain(c *command.Touch, found []command.KeyTouch, seen int64) (more []command.KeyTouch, all bool, err error) {
	w := chainWalk{at: map[string]int{}, more: found, follow: !l.cfg.Rules.NoChain}
	for i := range c.Keys {
		bits := byte(markTouched)
		if c.Keys[i].Written {
			bits |= markTainted | markWritten
		}
		w.add(l.hasher, c.Keys[i].DB, c.Keys[i].Name, bits)
	}
	for i := range found {
		w.add(l.hasher, found[i].DB, found[i].Name, markTainted|markWritten)
	}
	for _, s := range l.shelves {
		if _, last := s.span(); last <= seen {
			continue
		}
		if g, ok := s.(*generation); ok {
			w.through(g, l.hasher, seen)
			continue
		}
		w.unknown = true
		err := s.multis(func(seq int64, keys []command.KeyTouch) {
			if seq > seen {
				w.pass(l.hasher, keys)
			}
		})
		if err != nil {
			return nil, false, err
		}
	}
	return w.more, w.all(seen), nil
}

// chainWalk is chain on its way through the shelves.
type chainWalk struct {
	keys   []chainKey
	at     map[string]int // in keys
	more   []command.KeyTouch
	follow bool

	left    []*generation // hold keys that could have become tainted
	unknown bool          // whether shelves on disk do
}

type chainKey struct {
	key
	bits byte
}

const (
	markTainted = 1 << iota
	markWritten // passes the conflict on to what reads it
	markTouched
)

func (w *chainWalk) add(h hasher, db int32, name []byte, bits byte) byte {
	text := keyText(db, name)
	n, ok := w.at[text]
	if !ok {
		n = len(w.keys)
		w.at[text] = n
		w.keys = append(w.keys, chainKey{key: h.key(db, []byte(text[4:]))})
	}
	w.keys[n].bits |= bits
	return w.keys[n].bits
}

// taint adds a key that c does not write itself, and returns its marks.
func (w *chainWalk) taint(h hasher, db int32, name []byte) byte {
	bits := byte(markTainted)
	if w.follow {
		bits |= markWritten
	}
	w.more = append(w.more, command.KeyTouch{DB: db, Name: append([]byte(nil), name...), Written: true})
	return w.add(h, db, name, bits)
}

func (w *chainWalk) bits(k *command.KeyTouch) byte {
	if n, ok := w.at[keyText(k.DB, k.Name)]; ok {
		return w.keys[n].bits
	}
	return 0
}

// hits tells whether a change of several keys passes the conflict on through
// one of them.
func hits(bits byte, written bool) bool {
	return bits&markWritten != 0 || written && bits&markTouched != 0
}

// pass goes on to one change of several keys.
func (w *chainWalk) pass(h hasher, keys []command.KeyTouch) {
	if !slices.ContainsFunc(keys, func(k command.KeyTouch) bool { return hits(w.bits(&k), k.Written) }) {
		return
	}
	for i := range keys {
		if keys[i].Written && w.bits(&keys[i])&markTainted == 0 {
			w.taint(h, keys[i].DB, keys[i].Name)
		}
	}
}

// through is pass for all changes behind seen of a shelf in memory: keys are
// the numbers of its records there, so that a walk over many changes neither
// makes nor compares names. It ends once it can find no more.
func (w *chainWalk) through(g *generation, h hasher, seen int64) {
	marks := make([]byte, len(g.records))
	left := g.writtenBySeveral(seen) // and may become tainted
	for i := range w.keys {
		n, ok := g.number(w.keys[i].key)
		if !ok {
			continue
		}
		marks[n] = w.keys[i].bits
		if marks[n]&markTainted != 0 && g.seq(g.records[n].several) > seen {
			left--
		}
	}
	first := sort.Search(len(g.several), func(i int) bool { return g.seq(g.several[i].seq) > seen })
	from := uint32(0)
	if first > 0 {
		from = g.several[first-1].keysEnd
	}
	for _, m := range g.several[first:] {
		if left == 0 {
			return
		}
		keys := g.severalKeys[from:m.keysEnd]
		from = m.keysEnd
		if !slices.ContainsFunc(keys, func(k multiKey) bool { return hits(marks[k.record], k.written) }) {
			continue
		}
		for _, k := range keys {
			if !k.written || marks[k.record]&markTainted != 0 {
				continue
			}
			r := &g.records[k.record]
			marks[k.record] = w.taint(h, r.db, g.name(r))
			left--
		}
	}
	if left > 0 {
		w.left = append(w.left, g)
	}
}

// all tells whether in the end every key is tainted that own changes of
// several keys behind seen wrote.
func (w *chainWalk) all(seen int64) bool {
	for _, g := range w.left {
		left := g.writtenBySeveral(seen)
		for i := range w.keys {
			if n, ok := g.number(w.keys[i].key); ok && w.keys[i].bits&markTainted != 0 && g.seq(g.records[n].several) > seen {
				left--
			}
		}
		if left > 0 {
			return false
		}
	}
	return !w.unknown
}

// passWipe is rule H for FLUSHDB and FLUSHALL, which count as one deletion
// a key.
func (l *Ledger) passWipe(seq, seen int64, name string, t *command.Touch) error {
	w := wipe{dbs: t.DBs}
	for _, d := range l.dirtyIn(&w) {
		l.taint(d.DB, d.Name, min(seq, d.cause))
	}
	if seen < l.unknown() { // which keys are kept from it is not known: home publishes all
		l.requestAll(seq)
	}
	for i := range l.wipes {
		if o := &l.wipes[i]; o.swap && o.seq > seen {
			l.cfg.Conflicts.Note(swapConflict(0, nil, seqText(name, seq), seqText("SWAPDB", o.seq)))
		}
	}
	if fit, err := l.fits(&w, seen, 1); err != nil {
		return err
	} else if !fit {
		c := Conflict{Rule: RuleH, Peer: seqText(named(name), seq), Own: "more keys than can be remembered", Won: "all values at " + l.cfg.Site + " (home), at both sites"}
		c.at(schema.NoDB, nil)
		l.cfg.Conflicts.Note(c)
		l.requestAll(seq)
		return nil
	}
	return l.eachUnseen(seen, func(db int32, key []byte) error {
		if !w.covers(db) {
			return nil
		}
		one := command.Touch{Kind: command.Deletion, Keys: []command.KeyTouch{{DB: db, Name: key, Written: true}}}
		return l.passKeys(seq, seen, name, &one, true)
	})
}

// requestAll has home publish all its values, as if the peer had asked for them:
// whatever the peer's event seq put in doubt is among them.
func (l *Ledger) requestAll(seq int64) {
	if l.request == 0 {
		l.request = seq
	}
	l.requestLate = true
}

// fits tells whether the keys of whole databases that own changes behind seen
// have written find room among those in conflict, each as often as copies says.
func (l *Ledger) fits(w *wipe, seen int64, copies int) (bool, error) {
	bytes := int64(0)
	err := l.eachUnseen(seen, func(db int32, key []byte) error {
		if w.covers(db) {
			bytes += int64(copies) * (dirtyCost + 2*int64(len(key)))
		}
		if l.crowded(bytes) {
			return errCrowded
		}
		return nil
	})
	if errors.Is(err, errCrowded) {
		return false, nil
	}
	return true, err
}

var errCrowded = errors.New("too many keys in conflict")

// passSwap: what both sites did around a SWAPDB cannot be ordered. The keys
// written here become dirty in both databases; this is counted as not exact.
func (l *Ledger) passSwap(seq, seen int64, name string, t *command.Touch) error {
	w := wipe{dbs: t.DBs}
	l.taintSwapped(t.DBs, seq, false)
	if fit, err := l.fits(&w, seen, len(t.DBs)); err != nil {
		return err
	} else if !fit {
		l.cfg.Conflicts.Note(swapConflict(schema.NoDB, nil, seqText(name, seq), "more keys than can be remembered"))
		l.requestAll(seq)
		return nil
	}
	noted := false
	return l.eachUnseen(seen, func(db int32, key []byte) error {
		if !w.covers(db) {
			return nil
		}
		if !noted {
			noted = true
			l.cfg.Conflicts.Note(swapConflict(db, key, seqText(name, seq), "writes"))
		}
		for _, d := range t.DBs {
			l.taint(d, key, seq)
		}
		return nil
	})
}

// taintSwapped makes dirty keys of swapped databases dirty in both; with
// cause 0 each keeps its own.
func (l *Ledger) taintSwapped(dbs []int32, cause int64, own bool) {
	w := wipe{dbs: dbs}
	for _, d := range l.dirtyIn(&w) {
		at := d.cause
		if !own {
			at = min(at, cause)
		}
		for _, db := range dbs {
			l.taint(db, d.Name, at)
		}
	}
}

func (l *Ledger) dirtyIn(w *wipe) []*dirtyKey {
	var in []*dirtyKey
	for _, d := range l.dirty {
		if w.covers(d.DB) {
			in = append(in, d)
		}
	}
	return in
}

// eachUnseen visits every key that an own change behind seen has written.
func (l *Ledger) eachUnseen(seen int64, visit func(db int32, key []byte) error) error {
	var failed error
	for _, s := range l.shelves {
		if _, last := s.span(); last <= seen {
			continue
		}
		err := s.each(func(db int32, key []byte, t touched) {
			if failed == nil && (t.last > seen || t.read > seen) {
				failed = visit(db, key)
			}
		})
		if err != nil {
			return err
		}
	}
	return failed
}

// Swapping notes a SWAPDB of the peer that is applied where this site has
// written: not exact. At home Pass does it.
func (l *Ledger) Swapping(p *Print) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := wipe{dbs: p.Touch.DBs}
	for _, s := range l.shelves {
		if _, last := s.span(); last <= p.Seen {
			continue
		}
		noted := false
		_ = s.each(func(db int32, key []byte, t touched) {
			if !noted && t.last > p.Seen && w.covers(db) {
				noted = true
				l.cfg.Conflicts.Note(swapConflict(db, key, seqText(p.Command, p.Seq), seqText(l.commands.name(t.command), t.last)))
			}
		})
	}
}
