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
// replication stream. If that cannot tell, a new epoch says what the site holds.

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

// fillLost publishes that events are lost which the target has applied, if so.
func (s *Source) fillLost(ctx context.Context, applied offsets.Mark) error {
	pos := s.lane.position()
	if applied.Seq <= pos.Seq {
		return nil
	}
	again := pos.Phase == offsets.PhaseStream && pos.Epoch == applied.Epoch
	s.cfg.Log.Error("Kafka lost events that it had confirmed and the other site has applied", "topic", s.cfg.Topic, "from_seq", pos.Seq+1, "to_seq", applied.Seq, "published_again", again)
	if !again {
		pos.Epoch, pos.Phase, pos.Gap, pos.Scope = max(pos.Epoch, applied.Epoch), offsets.PhaseSnapshot, true, s.cfg.Scope.Fingerprint()
	}
	s.lane.numbering.Lock()
	defer s.lane.numbering.Unlock()
	for n := 0; s.lane.seq() < applied.Seq; n++ {
		if n%1000 == 0 {
			if err := s.lane.waitForRoom(ctx); err != nil {
				return err
			}
		}
		lost := schema.Event{
			Op: schema.OpControl, DB: schema.NoDB, Command: schema.EventsLost, Source: schema.Source{Snapshot: "false", Replid: pos.Replid},
		}
		if err := s.appendOwn([]schema.Event{lost}, &pos); err != nil {
			return fmt.Errorf("telling that events are lost: %w", err)
		}
	}
	return nil
}
