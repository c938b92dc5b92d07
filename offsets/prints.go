package offsets

import (
	"errors"
	"math"
	"slices"

	"twinlog/internal/command"
	"twinlog/schema"
)

// Print is what the source must know of one event of the peer when it passes
// the event's mark.
type Print struct {
	Seq, Seen int64
	Command   string
	Control   bool
	Touch     command.Touch
}

// PrintOf makes the print of e. It aliases e.
func PrintOf(p *Print, e *schema.Event) error {
	p.Seq, p.Seen, p.Command, p.Control = e.Seq, e.Seen, e.Command, e.Op == schema.OpControl
	if e.IsRefresh() {
		p.Touch.Clear()
		return nil
	}
	if err := p.Touch.Of(e); err != nil {
		return err
	}
	if removesUnnamed(e) {
		p.Touch.Kind = command.Wipe
	}
	return nil
}

// Prints are the prints of a batch of the peer's events, made by the sink and
// kept in the ledger until the source passes their mark. They hold copies
// without pointers: neither the events nor the garbage collector's work stay.
type Prints struct {
	prints   []flatPrint
	keys     []flatKey
	elements []uint32 // ends in bytes
	dbs      []int32
	bytes    []byte
	commands []string // few different ones
}

// flatPrint is a Print whose slices end at these places.
type flatPrint struct {
	seq, seen           int64
	keys, elements, dbs uint32
	command             uint16
	kind                command.Kind
	control             bool
}

// flatKey is a key whose name ends at this place in bytes.
type flatKey struct {
	db      int32
	end     uint32
	written bool
}

// NewPrints returns empty prints with room for as much as last holds, nil for
// none.
func NewPrints(last *Prints) *Prints {
	if last == nil {
		return &Prints{}
	}
	return &Prints{
		prints: make([]flatPrint, 0, len(last.prints)), keys: make([]flatKey, 0, len(last.keys)), elements: make([]uint32, 0, len(last.elements)),
		bytes: make([]byte, 0, len(last.bytes)),
	}
}

// Add appends a copy of p.
func (s *Prints) Add(p *Print) {
	for i := range p.Touch.Keys {
		k := &p.Touch.Keys[i]
		s.bytes = append(s.bytes, k.Name...)
		s.keys = append(s.keys, flatKey{k.DB, uint32(len(s.bytes)), k.Written})
	}
	if p.Touch.Kind == command.PutFields || p.Touch.Kind == command.PutMembers { // else rule 8 does not ask for them
		for _, e := range p.Touch.Elements {
			s.bytes = append(s.bytes, e...)
			s.elements = append(s.elements, uint32(len(s.bytes)))
		}
	}
	s.dbs = append(s.dbs, p.Touch.DBs...)
	s.prints = append(s.prints, flatPrint{
		seq: p.Seq, seen: p.Seen, keys: uint32(len(s.keys)), elements: uint32(len(s.elements)), dbs: uint32(len(s.dbs)),
		command: s.command(p.Command), kind: p.Touch.Kind, control: p.Control,
	})
}

// command is the number of a command's name.
func (s *Prints) command(name string) uint16 {
	n := slices.Index(s.commands, name)
	if n < 0 {
		n = len(s.commands)
		s.commands = append(s.commands, name)
	}
	return uint16(n)
}

// Join appends the prints of o, which come next.
func (s *Prints) Join(o *Prints) {
	var p Print
	_ = o.each(0, &p, func(p *Print) error {
		s.Add(p)
		return nil
	})
}

// Find finds the print of the event seq.
func (s *Prints) Find(seq int64, p *Print) bool {
	found := false
	_ = s.each(0, p, func(p *Print) error {
		if p.Seq == seq {
			found = true
			return errFound
		}
		return nil
	})
	return found
}

var errFound = errors.New("found")

// Len is the number of events.
func (s *Prints) Len() int { return len(s.prints) }

// each visits the prints in order, from event number first on. What it visits
// is valid until the next one.
func (s *Prints) each(first int, p *Print, visit func(*Print) error) error {
	var at flatPrint // where the next one begins
	from := uint32(0)
	for i := range s.prints {
		f := &s.prints[i]
		t := &p.Touch
		t.Keys, t.Elements = t.Keys[:0], t.Elements[:0]
		for _, k := range s.keys[at.keys:f.keys] {
			t.Keys = append(t.Keys, command.KeyTouch{DB: k.db, Name: s.bytes[from:k.end:k.end], Written: k.written})
			from = k.end
		}
		for _, end := range s.elements[at.elements:f.elements] {
			t.Elements = append(t.Elements, s.bytes[from:end:end])
			from = end
		}
		p.Seq, p.Seen, p.Command, p.Control = f.seq, f.seen, s.commands[f.command], f.control
		t.Kind, t.DBs = f.kind, s.dbs[at.dbs:f.dbs]
		at = *f
		if i < first {
			continue
		}
		if err := visit(p); err != nil {
			return err
		}
	}
	return nil
}

// queue holds what the sink applied and the source has not passed.
type queue struct {
	batches       []*Prints
	events, bytes int
}

// The bounds of the queue. What does not fit is read from the topic again.
const (
	keptPrints     = 50_000
	keptPrintBytes = 4 << 20
)

// announcement is a batch that the sink has told, up to the peer's seq last.
type announcement struct {
	last int64
	seen int64 // the lowest in it
}

const mostAnnounced = 1000

// announce keeps what p has not seen from being forgotten until the source has
// passed it, though events before it may have seen more: the peer's seen falls
// back when the peer lost something.
func (l *Ledger) announce(p *Prints) {
	a := announcement{p.prints[p.Len()-1].seq, math.MaxInt64}
	for i := range p.prints {
		a.seen = min(a.seen, p.prints[i].seen)
	}
	l.withdraw(p.prints[0].seq - 1)
	if n := len(l.announced); n < mostAnnounced {
		l.announced = append(l.announced, a)
	} else { // the source is far behind
		l.announced[n-1] = announcement{a.last, min(a.seen, l.announced[n-1].seen)}
	}
	l.appliedTo = a.last
	l.heard = 0 // p tells more
}

// withdraw drops announcements beyond the peer's seq: the sink began again.
func (l *Ledger) withdraw(seq int64) {
	n := len(l.announced)
	for n > 0 && l.announced[n-1].last > seq {
		n--
	}
	l.announced = l.announced[:n]
}

// setPassed tells that the source has passed the peer's events up to to.
func (l *Ledger) setPassed(to int64) {
	l.passedTo = to
	n := 0
	for n < len(l.announced) && l.announced[n].last <= to {
		n++
	}
	l.announced = slices.Delete(l.announced, 0, n)
}

// needed is seen, or less if an announced event has seen less.
func (l *Ledger) needed(seen int64) int64 {
	for _, a := range l.announced {
		seen = min(seen, a.seen)
	}
	return seen
}

// Applying tells which events the sink is about to apply. They are dropped if
// they do not continue what is there, or there is no room: the source reads
// them from the topic then. What they have not seen is not forgotten any more:
// where it was, Floor tells, and Recall brings it back.
func (l *Ledger) Applying(p *Prints) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.applied
	if p.Len() == 0 {
		return
	}
	l.announce(p)
	if q.events+p.Len() > keptPrints || q.bytes+len(p.bytes) > keptPrintBytes {
		return
	}
	first := p.prints[0].seq
	for n := len(q.batches); n > 0; n-- { // a sink that began again from the mark
		last := q.batches[n-1]
		if last.prints[last.Len()-1].seq < first {
			break
		}
		q.events, q.bytes = q.events-last.Len(), q.bytes-len(last.bytes)
		q.batches = q.batches[:n-1]
	}
	q.batches = append(q.batches, p)
	q.events, q.bytes = q.events+p.Len(), q.bytes+len(p.bytes)
}

// StartAt tells that a sink begins behind the mark seq: what it had announced
// beyond has not been applied.
func (l *Ledger) StartAt(seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appliedTo = seq
	l.withdraw(seq)
}

// Heard tells that the peer has seen own changes up to seen, by a HEARTBEAT
// that no mark is written for.
func (l *Ledger) Heard(seen int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = max(l.heard, seen)
	return l.forgetHeard()
}

func (l *Ledger) forgetHeard() error {
	if l.heard == 0 || l.appliedTo > l.passedTo { // an event that is not passed may have seen less
		return nil
	}
	return l.forget(l.heard)
}

// take hands out the prints of (from, to] that are in the queue, and removes
// all up to to. It returns the first one that it did not have.
func (l *Ledger) take(from, to int64, visit func(*Print) error) (missing int64, err error) {
	l.mu.Lock()
	var batches []*Prints
	q := &l.applied
	for len(q.batches) > 0 && q.batches[0].prints[0].seq <= to {
		b := q.batches[0]
		batches = append(batches, b)
		if b.prints[b.Len()-1].seq > to { // the mark lies inside: keep the rest
			break
		}
		q.batches, q.events, q.bytes = q.batches[1:], q.events-b.Len(), q.bytes-len(b.bytes)
	}
	l.mu.Unlock()
	next := from + 1
	var p Print
	for _, b := range batches {
		i := max(next-b.prints[0].seq, 0)
		if i >= int64(b.Len()) {
			continue
		}
		if b.prints[i].seq != next {
			return next, nil
		}
		err := b.each(int(i), &p, func(p *Print) error {
			if p.Seq > to {
				return nil
			}
			next = p.Seq + 1
			return visit(p)
		})
		if err != nil {
			return next, err
		}
	}
	return next, nil
}

// PassTo is rule H for all events of the peer in (from, to]: the source has
// read the mark of to. Those that the sink has not told are asked of topic,
// which visits the events of the peer's topic with seqs from first to last.
func (l *Ledger) PassTo(from, to int64, topic func(first, last int64, visit func(*schema.Event) error) error) error {
	seen, err := l.passAll(from, to, topic)
	if err != nil {
		return err
	}
	return l.passed(to, seen)
}

// passAll returns what the last event had seen.
func (l *Ledger) passAll(from, to int64, topic func(first, last int64, visit func(*schema.Event) error) error) (seen int64, err error) {
	pass := func(p *Print) error {
		seen = p.Seen
		switch {
		case p.Control && p.Command == schema.SnapshotRequest:
			l.Request(p.Seq)
			return nil
		case p.Control && p.Command == schema.SnapshotEnd:
			l.answer(p.Seen)
		}
		if !l.cfg.Home {
			return nil
		}
		return l.Pass(p.Seq, p.Seen, p.Command, &p.Touch)
	}
	next, err := l.take(from, to, pass)
	if err != nil || next > to {
		return seen, err
	}
	var p Print
	err = topic(next, to, func(e *schema.Event) error {
		if err := PrintOf(&p, e); err != nil {
			return err
		}
		return pass(&p)
	})
	return seen, err
}

// passed forgets what the peer had seen when it made its event to.
func (l *Ledger) passed(to, seen int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setPassed(to)
	if err := l.forget(seen); err != nil {
		return err
	}
	return l.forgetHeard()
}
