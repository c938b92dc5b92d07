package source

import (
	"context"
	"fmt"
	"sync"

	"twinlog/offsets"
	"twinlog/schema"
)

// Kafka can lose what it had confirmed: one replica, and a machine that dies
// before its disk has it. It is published again from the position that is left.
// But numbers of events that the target has applied must not come to mean other
// events: an EVENTS_LOST takes the place of each. Behind them everything comes
// again, and the target passes over what it has applied, by its place in the
// replication stream. If that cannot tell, since the site follows another
// history or another epoch since, a new epoch says what the site holds, and the
// peer says what it holds.

// askApplied asks what the target has applied while the own position is being
// read. It returns a function that waits for the answer.
func (s *Source) askApplied(ctx context.Context) (wait func() offsets.Mark) {
	if s.cfg.Applied == nil {
		return func() offsets.Mark { return offsets.Mark{} }
	}
	var wg sync.WaitGroup
	var applied offsets.Mark
	wg.Go(func() { applied = s.cfg.Applied(ctx) })
	return func() offsets.Mark {
		wg.Wait()
		return applied
	}
}

// tellLost publishes that events are lost which the target has applied, if so.
func (s *Source) tellLost(ctx context.Context) error {
	pos := s.lane.position()
	missing := s.applied.Seq > pos.Seq
	again := pos.Phase == offsets.PhaseStream && pos.Epoch == s.applied.Epoch
	coming := again && s.applied.ReplOffset > pos.ReplOffset
	if !missing && !coming { // Kafka lost nothing of it
		return nil
	}
	if again {
		h, err := s.lineage(ctx)
		if err != nil {
			return err
		}
		again = h.shares(pos, s.applied.ReplOffset)
	}
	if again && !missing { // told, and coming
		return nil
	}
	first, last := min(pos.Seq+1, s.applied.Seq), max(pos.Seq, s.applied.Seq)
	s.cfg.Log.Error("Kafka lost events that it had confirmed and the other site has applied", "topic", s.cfg.Topic, "from_seq", first, "to_seq", last, "published_again", again)
	if !again {
		pos.Epoch, pos.Phase, pos.Gap, pos.Scope = max(pos.Epoch, s.applied.Epoch), offsets.PhaseSnapshot, true, s.cfg.Scope.Fingerprint()
	}
	s.lane.numbering.Lock()
	defer s.lane.numbering.Unlock()
	if err := s.fillLost(ctx, &pos); err != nil || again {
		return err
	}
	if s.cfg.Ledger == nil { // on a one-way link nobody is asked
		return s.appendControl(&pos, schema.Event{Op: schema.OpControl, DB: schema.NoDB, Command: schema.Heartbeat})
	}
	return s.appendControl(&pos, snapshotRequest(first, last)) // nobody can tell any more what the site itself has lost
}

// fillLost lets an EVENTS_LOST take the place of each lost event. The caller
// holds the lock of the numbering.
func (s *Source) fillLost(ctx context.Context, pos *offsets.Position) error {
	for n := 0; s.lane.seq() < s.applied.Seq; n++ {
		if n%1000 == 0 {
			if err := s.lane.waitForRoom(ctx); err != nil {
				return err
			}
		}
		if err := s.appendControl(pos, schema.Event{Op: schema.OpControl, DB: schema.NoDB, Command: schema.EventsLost}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) appendControl(pos *offsets.Position, e schema.Event) error {
	e.Source = schema.Source{Snapshot: "false", Replid: pos.Replid}
	if err := s.appendOwn([]schema.Event{e}, pos); err != nil {
		return fmt.Errorf("telling what Kafka has lost: %w", err)
	}
	return nil
}
