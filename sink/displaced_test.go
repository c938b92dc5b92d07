package sink

import (
	"testing"

	"twinlog/offsets"
	"twinlog/schema"
)

// What is published again is known by its place in the origin's replication
// stream, and only by that.
func TestWhatComesAgainIsKnownByItsPlace(t *testing.T) {
	change := func(epoch, replOffset int64) schema.Event {
		return schema.Event{Op: schema.OpWrite, Command: "INCR", Source: schema.Source{Snapshot: "false", Epoch: epoch, ReplOffset: replOffset}}
	}
	of := func(e schema.Event, edit func(*schema.Event)) schema.Event {
		edit(&e)
		return e
	}
	at := offsets.Mark{Seq: 9, Epoch: 2, ReplOffset: 100}
	for name, tt := range map[string]struct {
		start offsets.Mark
		event schema.Event
		want  bool
	}{
		"before it":            {at, change(2, 99), true},
		"the unit itself":      {at, change(2, 100), true},
		"behind it":            {at, change(2, 101), false},
		"a later epoch":        {at, change(3, 50), false},
		"a control event":      {at, of(change(2, 50), func(e *schema.Event) { e.Op = schema.OpControl }), false},
		"a value of a barrier": {at, of(change(2, 100), func(e *schema.Event) { e.Op, e.Source.Snapshot = schema.OpValue, "incremental" }), false},
		"no place is known":    {offsets.Mark{Seq: 9}, change(0, 0), false},
	} {
		b := &builder{start: tt.start}
		if got := b.again(&tt.event); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// The mark's place in the replication stream is the end of a whole group, and
// never goes back within an epoch.
func TestTheMarkTellsTheLastWholeGroup(t *testing.T) {
	before := offsets.Mark{Generation: 1, TopicID: "t", Seq: 9, Offset: 19, Epoch: 2, ReplOffset: 100}
	event := func(seq, epoch, replOffset int64, goesOn bool) *schema.Event {
		e := &schema.Event{Op: schema.OpWrite, Seq: seq, Source: schema.Source{Epoch: epoch, ReplOffset: replOffset}}
		e.Transaction.Set, e.Transaction.Last = goesOn, false
		return e
	}
	for name, tt := range map[string]struct {
		events     []*schema.Event
		epoch, end int64
	}{
		"a unit":                       {[]*schema.Event{event(10, 2, 120, false)}, 2, 120},
		"the beginning of a unit":      {[]*schema.Event{event(10, 2, 120, false), event(11, 2, 130, true)}, 2, 120},
		"nothing but such a beginning": {[]*schema.Event{event(10, 2, 130, true)}, 2, 100},
		"what comes again":             {[]*schema.Event{event(10, 2, 70, false)}, 2, 100},
		"a new epoch":                  {[]*schema.Event{event(10, 3, 70, false)}, 3, 70},
		"an event that has no place":   {[]*schema.Event{event(10, 2, 120, false), event(11, 0, 0, false)}, 2, 120},
	} {
		var b batch
		b.reset()
		for _, e := range tt.events {
			b.cover(e, 2*e.Seq)
		}
		last := tt.events[len(tt.events)-1].Seq
		if got, want := b.markBehind(before, "t"), (offsets.Mark{Generation: 1, TopicID: "t", Seq: last, Offset: 2 * last, Epoch: tt.epoch, ReplOffset: tt.end}); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
