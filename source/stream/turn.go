package stream

import (
	"fmt"
	"slices"

	"twinlog/internal/command"
	"twinlog/internal/scope"
	"twinlog/offsets"
	"twinlog/schema"
)

// Turner turns a site's units into the events that were born there. It is the
// part of a source that decides and does nothing else: what is an echo, what
// is published and with which seen, and, with a ledger, what is in conflict
// with what the peer did (rules E, L, H, H2 and P of convergence.md).
type Turner struct {
	Site   string
	Filter *Filter
	Ledger *offsets.Ledger // nil on a one-way link
	// Values publishes the values that this source read at a barrier, group by
	// group; nothing for a barrier that is not its own. It may note in pos what
	// they belong to.
	Values func(id []byte, pos *offsets.Position, publish func(events []schema.Event) error) error
	// Peer visits the events of the peer's topic with seqs from first to last.
	Peer func(first, last int64, visit func(*schema.Event) error) error
	// Restored puts the value of a RESTORE in place of its payload, if it can, or
	// tells only its type, if the value is too big for an event; nil leaves all
	// payloads.
	Restored func(*schema.Event)
	// PeerTopicID is Kafka's id of the peer's topic; empty: any mark is taken.
	PeerTopicID string
	// MaxEventBytes is where commands are cut into fragments; 0: nowhere.
	MaxEventBytes int
	Scope         scope.Scope
	Due           *Due // what is not carried but as a value

	events  []schema.Event
	changes []schema.Event // of one command, of which some may be in scope
	touch   command.Touch
}

// mostEvents is how many events of a unit are in memory at a time, about.
const mostEvents = 4096

// Emit takes the events of one group and the position behind them. Their seqs
// go on from the position before. Without events only the position has moved.
// A large group comes in several calls: if it goes on, at is no position yet
// and tells only the replication offset of its events.
type Emit func(events []schema.Event, at offsets.Position, goesOn bool) error

// Turn turns one unit, which ends behind pos, into groups of events and moves
// pos behind it. It uses up what the unit holds. Echo tells that the unit was
// an applied block.
func (t *Turner) Turn(u *Unit, pos *offsets.Position, emit Emit) (echo bool, err error) {
	verdict, err := t.Filter.Judge(u)
	if err != nil {
		return false, err
	}
	if verdict.Echo && t.Ledger != nil {
		switch rules := t.Ledger.Rules(); {
		case rules.NoHidden:
			verdict.Born = nil
		case rules.LateHidden:
			if err := t.Pass(pos, verdict.Mark); err != nil {
				return true, err
			}
		}
	}
	seen := pos.Seen // what stands in an echo was done before its mark took effect
	events := t.events[:0]
	for i, c := range verdict.Born {
		if len(verdict.Born) > mostEvents { // its memory can go while its events come
			verdict.Born[i] = Command{}
		}
		if len(c.Args) > mostEvents {
			if events, err = t.wide(events, c, u, pos, seen, emit); err != nil {
				return verdict.Echo, err
			}
			continue
		}
		if len(events) > mostEvents {
			if events, err = t.publishPart(events, u, pos, seen, emit); err != nil {
				return verdict.Echo, err
			}
		}
		if events, err = t.born(events, c, u.Offset, pos); err != nil {
			return verdict.Echo, err
		}
	}
	if t.events = events; cap(events) > 2*mostEvents {
		t.events = nil
	}
	if err := t.number(events, pos, seen); err != nil {
		return verdict.Echo, err
	}
	pos.ReplOffset, pos.Database = u.Offset, int(u.DB)
	if verdict.Echo {
		if err := t.Pass(pos, verdict.Mark); err != nil {
			return true, err
		}
	}
	t.settle(pos)
	if err := emit(events, *pos, false); err != nil {
		return verdict.Echo, err
	}
	if u.Bytes > keptBuffer { // nothing keeps its bytes alive
		clear(t.events[:cap(t.events)])
		clear(t.changes[:cap(t.changes)])
	}
	if verdict.Barrier == nil || t.Values == nil {
		return verdict.Echo, nil
	}
	return verdict.Echo, t.values(verdict.Barrier, pos, emit)
}

// number makes what was born in a unit this source's own events.
func (t *Turner) number(events []schema.Event, pos *offsets.Position, seen int64) error {
	for i := range events {
		events[i].Source.Snapshot = "false"
	}
	return t.own(events, pos, seen)
}

// publishPart emits events of a unit that goes on, and returns what is left:
// one, since the group's last event is known at its end.
func (t *Turner) publishPart(events []schema.Event, u *Unit, pos *offsets.Position, seen int64, emit Emit) ([]schema.Event, error) {
	n := len(events) - 1
	if err := t.number(events[:n], pos, seen); err != nil {
		return events, err
	}
	at := *pos
	at.ReplOffset = u.Offset // of all events of the unit
	if err := emit(events[:n], at, true); err != nil {
		return events, err
	}
	return append(events[:0], events[n]), nil
}

// wide appends the events of a command of many arguments, in pieces where it
// is one event for each key.
func (t *Turner) wide(events []schema.Event, c Command, u *Unit, pos *offsets.Position, seen int64, emit Emit) (_ []schema.Event, err error) {
	for args := range command.Pieces(c.Args, mostEvents) {
		if len(events) > mostEvents {
			if events, err = t.publishPart(events, u, pos, seen, emit); err != nil {
				return events, err
			}
		}
		if events, err = t.born(events, Command{DB: c.DB, Args: args}, u.Offset, pos); err != nil {
			return events, err
		}
	}
	return events, nil
}

// values publishes what was read at a barrier.
func (t *Turner) values(barrier []byte, pos *offsets.Position, emit Emit) error {
	before := pos.OnDemand
	err := t.Values(barrier, pos, func(events []schema.Event) error {
		if err := t.Own(events, pos); err != nil {
			return err
		}
		before = pos.OnDemand
		return emit(events, *pos, false)
	})
	if err != nil || pos.OnDemand == before {
		return err
	}
	return emit(nil, *pos, false)
}

// ForeignMarkError tells that a site was filled from a topic that is not there
// any more.
type ForeignMarkError struct {
	Site    string
	Mark    offsets.Mark
	TopicID string // of the topic that is there now
}

func (e *ForeignMarkError) Error() string {
	return fmt.Sprintf("site %s was filled up to seq %d from a topic with the id %s, and now that topic has the id %s: it was created anew, so what the site has seen cannot be told",
		e.Site, e.Mark.Seq, e.Mark.TopicID, e.TopicID)
}

// Own gives events that are not from the stream their seqs and seen, tells the
// ledger of them and moves pos behind them.
func (t *Turner) Own(events []schema.Event, pos *offsets.Position) error {
	if err := t.own(events, pos, pos.Seen); err != nil {
		return err
	}
	t.settle(pos)
	return nil
}

func (t *Turner) own(events []schema.Event, pos *offsets.Position, seen int64) error {
	for i := range events {
		e := &events[i]
		pos.Seq++
		e.Seq, e.Seen = pos.Seq, seen
		if e.Op == schema.OpValue && (!e.Part.Set || e.Part.Last) {
			t.Due.Remove(e.DB, e.Key)
		}
		if t.Ledger == nil {
			continue
		}
		if err := t.Ledger.Own(e); err != nil {
			return fmt.Errorf("site %s: %w", t.Site, err)
		}
	}
	return nil
}

// Pass moves pos behind a mark of the peer's direction.
func (t *Turner) Pass(pos *offsets.Position, mark offsets.Mark) error {
	if t.PeerTopicID != "" && mark.TopicID != t.PeerTopicID {
		return &ForeignMarkError{Site: t.Site, Mark: mark, TopicID: t.PeerTopicID}
	}
	if t.Ledger != nil && mark.Seq > pos.Seen {
		if err := t.Ledger.PassTo(pos.Seen, mark.Seq, t.Peer); err != nil {
			return fmt.Errorf("site %s, settling what the peer did up to seq %d: %w", t.Site, mark.Seq, err)
		}
	}
	pos.Mark, pos.Seen = mark, mark.Seq
	return nil
}

func (t *Turner) settle(pos *offsets.Position) {
	pos.Settled = pos.Seen
	if t.Ledger != nil {
		pos.Settled = t.Ledger.Settled(pos.Seen)
	}
	pos.Due = t.Due.Oldest()
}

// born appends the events of one command that was born here, as far as they
// are in scope, and as values where they are not carried otherwise.
func (t *Turner) born(events []schema.Event, c Command, at int64, pos *offsets.Position) ([]schema.Event, error) {
	from := len(events)
	events, err := t.translate(events, c, at)
	if err != nil {
		return events, err
	}
	if t.Scope.Partial() || t.Due.Any() || t.anyAsValue(events[from:]) {
		t.changes = append(t.changes[:0], events[from:]...)
		if events, err = t.within(events[:from], t.changes, pos); err != nil {
			return events, fmt.Errorf("site %s, replication offset %d: %w", t.Site, at, err)
		}
	}
	return t.cut(events, from), nil
}

// translate appends one command's events. Reserved keys are never published.
func (t *Turner) translate(events []schema.Event, c Command, at int64) ([]schema.Event, error) {
	from := len(events)
	events, err := command.AppendChanges(events, c.DB, c.Args)
	if err != nil {
		return events, fmt.Errorf("site %s, replication offset %d: %w", t.Site, at, err)
	}
	kept := events[:from]
	for i := from; i < len(events); i++ {
		reserved, others := offsets.IsReserved(events[i].Key), 0
		for _, k := range events[i].OtherKeys {
			if offsets.IsReserved(k) {
				others++
			}
		}
		switch {
		case reserved && others == len(events[i].OtherKeys):
			continue
		case reserved || others > 0:
			return events, fmt.Errorf("site %s, replication offset %d: %s moves data between key %q and a reserved key (%s…): such a change cannot be carried; nothing but twinlog may touch these keys",
				t.Site, at, events[i].Command, events[i].Key[:min(len(events[i].Key), maxShownKey)], offsets.Reserved)
		}
		if t.Restored != nil && events[i].Command == "RESTORE" {
			t.Restored(&events[i])
		}
		kept = append(kept, events[i])
	}
	return kept, nil
}

// cut cuts the events from from on, which are one command's, into fragments
// where it is too big.
func (t *Turner) cut(events []schema.Event, from int) []schema.Event {
	if t.MaxEventBytes == 0 {
		return events
	}
	for i := from; i < len(events); i++ {
		if size(&events[i]) <= t.MaxEventBytes {
			continue
		}
		rest := slices.Clone(events[i:])
		events = events[:i]
		for j := range rest {
			events = Cut(events, &rest[j], t.MaxEventBytes)
		}
		break
	}
	return events
}
