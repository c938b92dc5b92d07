package source

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
)

// reseed empties the site and follows it from there. One transaction flushes
// it, writes a mark (the peer's events up to now are not applied again), and a
// barrier, behind which the source begins: what clients write later is
// published. The peer is asked for its values with the first event, so that
// whoever is killed now, they come (rule W of convergence.md).
func (s *Source) reseed(ctx context.Context, pos offsets.Position) error {
	h, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	if err := s.refuseOtherLinks(ctx); err != nil {
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
	begin := place{epoch: pos.Epoch + 1, with: [][]string{
		{"FLUSHALL", "ASYNC"},
		{"SET", s.filter.MarkKey(), mark.String()},
		{"SET", offsets.ReseedKey(s.cfg.Link), s.cfg.Instance},
		{"SET", offsets.WitnessKey(s.cfg.Link), s.cfg.Site},
	}}
	begin.publish = func(at offsets.Position) error {
		at.Settled, at.UnfinishedSeq, at.Gap = at.Seen, pos.UnfinishedSeq, pos.Gap
		return s.beginAt(ctx, schema.Event{
			Op: schema.OpControl, DB: schema.NoDB, Command: schema.SnapshotRequest, Args: [][]byte{[]byte("1"), strconv.AppendInt(nil, pos.Seq, 10)},
		}, at)
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

// refuseOtherLinks refuses to flush what other links go by.
func (s *Source) refuseOtherLinks(ctx context.Context) error {
	return s.ask(ctx, func(c *redis.Conn) error {
		for cursor := "0"; ; {
			reply, err := c.Do(ctx, "SCAN", cursor, "MATCH", offsets.Reserved+"*", "COUNT", "1000")
			if err := errors.Join(err, reply.Err()); err != nil {
				return fmt.Errorf("looking for other links at site %s: %w", s.cfg.Site, err)
			}
			if len(reply.Elems) != 2 {
				return fmt.Errorf("site %s answers SCAN with %d elements", s.cfg.Site, len(reply.Elems))
			}
			for _, key := range reply.Elems[1].Elems {
				if !strings.HasPrefix(string(key.Str), offsets.Reserved+s.cfg.Link+":") && string(key.Str) != offsets.Nothing {
					return &refusedError{fmt.Sprintf("site %s carries the mark %q of another link, which emptying it would lose: end that link and delete its keys there, then resync again", s.cfg.Site, key.Str)}
				}
			}
			if cursor = string(reply.Elems[0].Str); cursor == "0" {
				return nil
			}
		}
	})
}

// refusedError is final: someone must mend what it names.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }
