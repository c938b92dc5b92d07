package offsets

import (
	"twinlog/internal/command"
	"twinlog/schema"
)

// Verdict is what a sink does with one event.
type Verdict struct {
	LeaveOut bool
	// Elements are the ones to remove where some of those that the event
	// names are left out; nil: all of them.
	Elements [][]byte
	// Conflict is to be noted when the event is applied so.
	Conflict Conflict
}

// Decides tells whether what becomes of e depends on what this site has
// written: e only removes (rule D) or replaces a whole value (rule R).
func Decides(e *schema.Event) bool {
	switch e.Op {
	case schema.OpDelete, schema.OpValue:
		return true
	case schema.OpWrite:
		return command.OnlyRemoves(e.Command)
	case schema.OpTruncate, schema.OpMessage, schema.OpFunction, schema.OpControl:
	}
	return false
}

// Decide applies rules D and R to an event of the peer: what it would remove
// or replace and this site has written since without the event having seen
// it, stays. It is asked behind a fence. With whole, elements count as their
// key: for keys so hot that nothing finer can be decided in time.
func (l *Ledger) Decide(e *schema.Event, t *command.Touch, whole bool, v *Verdict) error {
	*v = Verdict{Elements: v.Elements[:0]}
	if len(t.Keys) == 0 || !Decides(e) {
		v.Elements = nil
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.hasher.key(t.Keys[0].DB, t.Keys[0].Name)
	own, err := l.look(k, e.Seen)
	if err != nil {
		return err
	}
	swap := l.swapped(k.db, e.Seen)
	rule := RuleD
	if e.Op == schema.OpValue {
		rule = RuleR
	}
	due := l.causeOf(k.db, k.name)
	switch {
	case e.IsRefresh(): // a change made here says more, a deletion too
		v.LeaveOut, v.Elements = due != nil || l.request > 0 || max(own.last, l.wiped(k.db, e.Seen)) > e.Seen, nil
		return nil
	case rule == RuleR && l.cfg.Rules.NoR, rule == RuleD && l.cfg.Rules.NoD:
	case due != nil && due.due: // the peer cannot have seen what is here
		v.LeaveOut = true
	case t.Kind != command.Removal, whole:
		if own.lastBut(command.Deletion) > e.Seen || swap > e.Seen {
			v.LeaveOut = rule == RuleR || t.Kind == command.Deletion || !l.cfg.Rules.WholeOnly
		}
	case l.cfg.Rules.WholeOnly:
	case own.whole > e.Seen || swap > e.Seen:
		v.LeaveOut = true
	case own.last > e.Seen:
		if err := l.elements(k, e, t, v); err != nil {
			return err
		}
	}
	if v.LeaveOut && e.Seen < l.unknown() { // perhaps for nothing: then only this site's value makes both equal
		l.taint(k.db, k.name, e.Seq)
	}
	if v.LeaveOut || len(v.Elements) > 0 {
		v.Conflict = l.conflict(rule, k, e.Command, e.Seq, own)
	}
	if !v.LeaveOut && len(v.Elements) == 0 {
		v.Elements = nil
	}
	return nil
}

// elements keeps those that this site has not written since.
func (l *Ledger) elements(k key, e *schema.Event, t *command.Touch, v *Verdict) error {
	left := 0
	for _, x := range t.Elements {
		seq, err := l.wrote(k, x, e.Seen)
		if err != nil {
			return err
		}
		if seq > e.Seen {
			left++
			continue
		}
		v.Elements = append(v.Elements, x)
	}
	switch left {
	case 0:
		v.Elements = v.Elements[:0]
	case len(t.Elements):
		v.LeaveOut = true
	}
	return nil
}
