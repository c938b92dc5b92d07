package stream

import (
	"twinlog/internal/command"
	"twinlog/internal/scope"
	"twinlog/offsets"
	"twinlog/schema"
)

// A direction with a scope publishes nothing else. What a command does to keys
// in scope can be carried as the command if all keys that it reads and writes
// are carried, if it means the same at the target, and if it fits into events.
// Otherwise each key in scope that it writes is published as a value, read at a
// barrier behind it, and VALUE_DUE says so: until the value comes, the key
// counts as not carried. A key that was moved out of scope is deleted.

// anyAsValue tells whether any of a command's events is carried as a value.
func (t *Turner) anyAsValue(events []schema.Event) bool {
	for i := range events {
		if t.asValue(&events[i]) {
			return true
		}
	}
	return false
}

// asValue tells whether what e does is carried as the value that it leaves,
// whatever it touches. What SORT … STORE leaves follows as a value on a two-way
// link in any case.
func (t *Turner) asValue(e *schema.Event) bool {
	switch {
	case e.Op != schema.OpWrite:
		return false
	case command.NeedsRefresh(e):
		return t.Ledger == nil || t.Scope.Partial() // SORT reads keys that it does not name
	case e.Command == "RESTORE" && e.Type != "" && e.Value.Kind == schema.KindNone: // see Turner.Restored
		return true
	}
	return t.MaxEventBytes > 0 && !fits(e, t.MaxEventBytes)
}

// within appends what of changes, which are one command's, is in scope. Their
// seqs go on behind those of events, which go on behind pos.
func (t *Turner) within(events, changes []schema.Event, pos *offsets.Position) ([]schema.Event, error) {
	var err error
	for i := range changes {
		e := &changes[i]
		switch e.Op {
		case schema.OpMessage:
			if !t.Scope.Skips(scope.Publish) {
				events = append(events, *e)
			}
		case schema.OpFunction:
			if !t.Scope.Skips(scope.Function) {
				events = append(events, *e)
			}
		case schema.OpTruncate:
			if events, err = t.truncateWithin(events, e, pos); err != nil {
				return events, err
			}
		case schema.OpDelete, schema.OpValue: // a RESTORE brings a value
			if t.carried(e.DB, e.Key, pos) {
				events = append(events, *e)
			}
		case schema.OpWrite:
			if events, err = t.writeWithin(events, e, pos); err != nil {
				return events, err
			}
		case schema.OpControl: // no command becomes one
		}
	}
	return events, nil
}

// wanted tells whether the peer is to hold a key as it is here.
func (t *Turner) wanted(db int32, name []byte, pos *offsets.Position) bool {
	return t.Scope.HasKey(db, name) && !pos.Rescan.Has(db)
}

// carried tells whether the peer holds a key as it is here, up to the events
// so far.
func (t *Turner) carried(db int32, name []byte, pos *offsets.Position) bool {
	return t.wanted(db, name, pos) && !t.Due.IsDirty(db, name)
}

func (t *Turner) writeWithin(events []schema.Event, e *schema.Event, pos *offsets.Position) ([]schema.Event, error) {
	if err := t.touch.Of(e); err != nil {
		return events, err
	}
	whole := !t.asValue(e)
	for _, k := range t.touch.Keys {
		whole = whole && t.carried(k.DB, k.Name, pos)
	}
	if whole {
		return append(events, *e), nil
	}
	for i, k := range t.touch.Keys {
		switch {
		case !k.Written || !t.carried(k.DB, k.Name, pos):
			continue
		case i == 0 && command.TakesAway(e):
			events = append(events, schema.Event{Op: schema.OpDelete, DB: k.DB, Key: k.Name, Command: "DEL", Args: [][]byte{k.Name}})
			continue
		}
		events = append(events, schema.Event{Op: schema.OpControl, DB: k.DB, Key: k.Name, Command: schema.ValueDue})
		if err := t.Due.Add(k.DB, k.Name, pos.Seq+int64(len(events))); err != nil {
			return events, err
		}
	}
	return events, nil
}

// truncateWithin is FLUSHDB, FLUSHALL and SWAPDB. A SWAPDB that brings content
// from out of scope makes its databases be copied anew.
func (t *Turner) truncateWithin(events []schema.Event, e *schema.Event, pos *offsets.Position) ([]schema.Event, error) {
	switch {
	case e.Command == "SWAPDB":
		return t.swapWithin(events, e, pos)
	case t.Scope.Skips(scope.Flush):
		return events, nil
	case e.DB == schema.NoDB && t.Scope.Databases != nil:
		for _, db := range t.Scope.Databases {
			events = append(events, schema.Event{Op: schema.OpTruncate, DB: db, Command: "FLUSHDB"})
		}
		return events, nil
	case e.DB == schema.NoDB || t.Scope.HasDB(e.DB):
		return append(events, *e), nil
	}
	return events, nil
}

func (t *Turner) swapWithin(events []schema.Event, e *schema.Event, pos *offsets.Position) ([]schema.Event, error) {
	if err := t.touch.Of(e); err != nil {
		return events, err
	}
	if len(t.touch.DBs) != 2 || t.touch.DBs[0] == t.touch.DBs[1] {
		return events, nil
	}
	whole := !t.Scope.Keyed() && !t.Due.Any()
	for _, db := range t.touch.DBs {
		whole = whole && t.Scope.HasDB(db) && !pos.Rescan.Has(db)
	}
	if whole {
		return append(events, *e), nil
	}
	for _, db := range t.touch.DBs {
		if t.Scope.HasDB(db) && !pos.Rescan.Has(db) {
			pos.Rescan = pos.Rescan.With(db)
		}
	}
	return events, nil
}

// AppendFlushes appends the events that empty the databases of pos.Rescan,
// whose content follows as values.
func AppendFlushes(events []schema.Event, pos *offsets.Position) []schema.Event {
	for _, db := range pos.Rescan.All() {
		events = append(events, schema.Event{Op: schema.OpTruncate, DB: db, Command: "FLUSHDB", Source: schema.Source{Snapshot: "incremental"}})
	}
	return events
}
