package source

import (
	"context"
	"errors"
	"fmt"

	"twinlog/internal/redis"
	"twinlog/offsets"
)

// reseed empties the site, as far as it is in scope, and follows it from there.
// One transaction flushes it, writes a mark (the peer's events up to now are not
// applied again), and a barrier, behind which the source begins: what clients write later is
// published. The peer is asked for its values with the first event, so that
// whoever is killed now, they come (rule W of convergence.md).
func (s *Source) reseed(ctx context.Context, pos offsets.Position) error {
	h, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	err = s.ask(ctx, func(c *redis.Conn) error {
		return offsets.RefuseOtherLinks(&s.cfg.Scope, s.cfg.Link, s.cfg.Site, func(match string, visit func(key []byte) error) error {
			return redis.Scan(ctx, c, match, visit)
		})
	})
	if err != nil {
		return err
	}
	peer := s.newLog(s.cfg.PeerTopic)
	defer peer.close()
	if err := peer.look(ctx, 0); err != nil {
		return err
	}
	mark := offsets.Mark{Generation: max(h.mark.Generation, pos.Mark.Generation) + 1, TopicID: s.cfg.PeerTopicID, Seq: peer.end.seq, Offset: peer.end.offset}
	if mark.Seq == 0 {
		mark.Offset = -1
	}
	s.cfg.Log.Warn("re-seeding: the site is emptied and filled again by the other one", "site", s.cfg.Site, "seq", mark.Seq)
	begin := place{epoch: pos.Epoch + 1, with: append(offsets.Emptying(&s.cfg.Scope, s.cfg.Link),
		[]string{"SET", s.filter.MarkKey(), mark.String()},
		[]string{"SET", offsets.ReseedKey(s.cfg.Link), s.cfg.Instance},
		[]string{"SET", offsets.WitnessKey(s.cfg.Link), s.cfg.Site},
	)}
	begin.publish = func(at offsets.Position) error {
		s.hook("reseeded")
		at.Settled, at.UnfinishedSeq, at.Gap = at.Seen, pos.UnfinishedSeq, pos.Gap
		return s.beginAt(ctx, snapshotRequest(1, pos.Seq), at)
	}
	err = s.attach(ctx, begin)
	if !errors.Is(err, ErrBegunAnew) {
		return err
	}
	return errors.Join(err, s.endReseed(ctx))
}

// endReseed notes that the site is followed.
func (s *Source) endReseed(ctx context.Context) error {
	return s.ask(ctx, func(c *redis.Conn) error {
		reply, err := c.Do(ctx, "DEL", offsets.ReseedKey(s.cfg.Link))
		if err := errors.Join(err, reply.Err()); err != nil {
			return fmt.Errorf("ending the re-seeding of site %s: %w", s.cfg.Site, err)
		}
		return nil
	})
}
