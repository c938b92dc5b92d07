package source

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"twinlog/internal/redis"
	"twinlog/offsets"
	"twinlog/schema"
)

// A site may come back without what its topic says that it had: restarted from
// an old RDB, failed over to a replica that lagged, or emptied. Its source must
// not copy such a state over the peer. So on a two-way link, before it joins,
// it looks whose history the Redis follows (DESIGN.md 7).

// history is what INFO tells of a Redis's replication history.
type history struct {
	replid   string
	offset   int64  // where it ends
	before   string // the replication id that it went on from; empty: none
	forkedAt int64  // the last offset that it shares with before
	mark     offsets.Mark
	marked   bool // there is a mark
	known    bool // a source of this link has followed it
	reseeded bool // it was emptied to be filled again, and perhaps nobody follows it yet
}

// verdict is how a history stands to a position.
type verdict int

const (
	goesOn   verdict = iota // nothing of the position is known to be lost
	forked                  // what came behind forkedAt is lost
	lost                    // more, and it cannot be told what
	behind                  // it is not there yet
	reseeded                // it was emptied to be filled again, and nobody follows it yet
)

// judge compares a history with where the source stood.
func (h *history) judge(pos offsets.Position) verdict {
	switch {
	case h.reseeded && (h.replid != pos.Replid || h.mark.Generation > pos.Mark.Generation): // its mark is the next generation's
		return reseeded
	case h.replid == pos.Replid && h.offset < pos.ReplOffset:
		return behind
	case h.replid == pos.Replid:
		return goesOn // PSYNC tells whether it can go on
	case h.before == pos.Replid && h.forkedAt >= pos.ReplOffset:
		return goesOn
	case h.before == pos.Replid:
		return forked
	case pos.Mark.IsZero(): // nothing was ever applied there, that the position knows of
		if h.known || h.marked {
			return goesOn
		}
		return lost
	case !h.marked, pos.Mark.After(h.mark):
		return lost
	}
	return goesOn
}

// shares tells whether this history surely goes on from the one of pos behind
// replOffset. If it does not, what was read behind the fork may be of either.
func (h *history) shares(pos offsets.Position, replOffset int64) bool {
	return h.replid == pos.Replid || h.before == pos.Replid && h.forkedAt >= replOffset
}

// lineage reads which history the site follows, and what it went on from.
func (s *Source) lineage(ctx context.Context) (h history, err error) {
	err = s.ask(ctx, func(c *redis.Conn) error { return h.readLineage(ctx, c) })
	if err != nil {
		return h, fmt.Errorf("looking at the replication history of site %s: %w", s.cfg.Site, err)
	}
	return h, nil
}

func (h *history) readLineage(ctx context.Context, c *redis.Conn) error {
	info, err := redis.Info(ctx, c, "replication")
	if err != nil {
		return err
	}
	if h.replid, h.offset, err = streamEnd(info); err != nil {
		return err
	}
	if second, err := strconv.ParseInt(info["second_repl_offset"], 10, 64); err == nil && second > 0 {
		h.before, h.forkedAt = info["master_replid2"], second-1
	}
	return nil
}

// inspect reads the history of the site, and what the link has written there.
func (s *Source) inspect(ctx context.Context) (history, error) {
	var h history
	err := s.ask(ctx, func(c *redis.Conn) error {
		err := h.readLineage(ctx, c)
		if err != nil {
			return err
		}
		if _, h.known, err = get(ctx, c, offsets.WitnessKey(s.cfg.Link)); err != nil {
			return fmt.Errorf("looking whether it was followed before: %w", err)
		}
		if _, h.reseeded, err = get(ctx, c, offsets.ReseedKey(s.cfg.Link)); err != nil {
			return fmt.Errorf("looking for a re-seeding: %w", err)
		}
		text, found, err := get(ctx, c, s.filter.MarkKey())
		if err != nil || !found {
			return err
		}
		h.marked = true
		h.mark, err = offsets.ParseMark(text)
		return err
	})
	if err != nil {
		return h, fmt.Errorf("looking at the replication history of site %s: %w", s.cfg.Site, err)
	}
	return h, nil
}

// streamEnd is where a site's replication stream ends, as INFO tells it.
func streamEnd(info map[string]string) (replid string, offset int64, err error) {
	if offset, err = strconv.ParseInt(info["master_repl_offset"], 10, 64); err != nil {
		return "", 0, fmt.Errorf("INFO has no master_repl_offset: %w", err)
	}
	return info["master_replid"], offset, nil
}

func get(ctx context.Context, c *redis.Conn, key string) (text string, found bool, err error) {
	reply, err := c.Do(ctx, "GET", key)
	if err := errors.Join(err, reply.Err()); err != nil {
		return "", false, err
	}
	return string(reply.Str), !reply.Null, nil
}

// ask opens a connection to the site for a moment. A stopped process still
// accepts it, so the site has to answer before it is asked what may take long.
func (s *Source) ask(ctx context.Context, do func(c *redis.Conn) error) error {
	c, err := redis.Dial(ctx, s.cfg.Redis)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := answers(ctx, c); err != nil {
		return fmt.Errorf("waiting for an answer of site %s: %w", s.cfg.Site, err)
	}
	return do(c)
}

// answers waits for any answer of a server.
func answers(ctx context.Context, c *redis.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	_, err := c.Do(ctx, "PING")
	return err
}

// answerWait is how long a server may take to answer at all.
const answerWait = 10 * time.Second

// LostError tells that a site came back without its data, or with other data:
// nothing of it may be copied to the peer (G5).
type LostError struct {
	Site, Peer string
	Position   offsets.Position
	How        string
}

func (e *LostError) Error() string {
	return fmt.Sprintf("site %s is not where it was: its topic goes up to seq %d, read at %s:%d, but %s. Nothing of site %s was changed. "+
		"Both directions stop. `twinlog resync --site %s` empties site %s and fills it again from site %s",
		e.Site, e.Position.Seq, e.Position.Replid, e.Position.ReplOffset, e.How, e.Peer, e.Site, e.Site, e.Peer)
}

func (s *Source) lostError(pos offsets.Position, h *history) error {
	how := fmt.Sprintf("it follows another history now (%s) and has no mark: it lost its data, or is another Redis", h.replid)
	if h.marked {
		how = fmt.Sprintf("it follows another history now (%s) and holds what was applied up to seq %d, where seq %d was before: it is older", h.replid, h.mark.Seq, pos.Mark.Seq)
	}
	return &LostError{Site: s.cfg.Site, Peer: s.peerSite(), Position: pos, How: how}
}

// peerSite is the other site's name.
func (s *Source) peerSite() string {
	name, _, _ := strings.Cut(s.cfg.Peer, "-to-")
	return name
}

// behindError tells that the Redis has not received what the source has read:
// it is a replica that lags. It is asked again.
type behindError struct {
	site        string
	at, replica int64
}

func (e *behindError) Error() string {
	return fmt.Sprintf("the Redis at site %s stands at replication offset %d of the history in which its source has read up to %d: it is a replica that lags. Waiting; sites.%s.redis.addrs must name the master", e.site, e.replica, e.at, e.site)
}

// check looks whose history the site follows, and goes on elsewhere if it
// lost something. A one-way link follows its origin whatever it holds.
func (s *Source) check(ctx context.Context, pos offsets.Position) error {
	if s.cfg.Ledger == nil {
		return nil
	}
	h, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	switch h.judge(pos) {
	case forked:
		return s.fork(ctx, pos, &h)
	case lost:
		return s.lostError(pos, &h)
	case behind:
		return &behindError{s.cfg.Site, pos.ReplOffset, h.offset}
	case reseeded:
		s.cfg.Log.Warn("re-seeding was interrupted: beginning again", "site", s.cfg.Site)
		return s.reseed(ctx, pos)
	case goesOn:
	}
	if h.reseeded { // killed when it was done
		if err := s.endReseed(ctx); err != nil {
			return err
		}
	}
	if !h.known {
		return s.witness(ctx)
	}
	return nil
}

// witness writes the key by which the site is known again.
func (s *Source) witness(ctx context.Context) error {
	return s.ask(ctx, func(c *redis.Conn) error {
		reply, err := c.Do(ctx, "SET", offsets.WitnessKey(s.cfg.Link), s.cfg.Site)
		if err := errors.Join(err, reply.Err()); err != nil {
			return fmt.Errorf("writing the key by which site %s is known again: %w", s.cfg.Site, err)
		}
		return nil
	})
}

// ErrBegunAnew tells that the source has published a new place to go on from,
// and has to be started again there.
var ErrBegunAnew = errors.New("the source goes on from another place")

// fork makes the source go on where the site's history left the one that the
// topic follows. What was published behind that place is lost at the site: the
// peer has it, and is asked for its values (rule W of convergence.md).
func (s *Source) fork(ctx context.Context, pos offsets.Position, h *history) error {
	kept, err := s.keptAt(ctx, pos, h.forkedAt)
	if err != nil {
		return err
	}
	if kept.Seq == 0 {
		return s.lostError(pos, h)
	}
	first, last := kept.Seq+1, pos.Seq
	at := pos
	at.Epoch++ // replication offsets go back
	at.ReplOffset, at.Database, at.Seen, at.Settled, at.Mark = h.forkedAt, 0, kept.Seen, kept.Seen, h.mark
	s.cfg.Log.Warn("the site went back: it lost what it had published, and the other site is asked for its values",
		"site", s.cfg.Site, "from_seq", first, "to_seq", last, "forked_at", h.forkedAt, "was_at", pos.ReplOffset)
	event := schema.Event{Op: schema.OpControl, DB: schema.NoDB, Command: schema.Heartbeat}
	if first <= last {
		event = snapshotRequest(first, last)
	}
	return s.beginAt(ctx, event, at)
}

// snapshotRequest asks the peer for its values, since the site has lost its
// events from first to last, or may have.
func snapshotRequest(first, last int64) schema.Event {
	return schema.Event{
		Op: schema.OpControl, DB: schema.NoDB, Command: schema.SnapshotRequest, Args: [][]byte{strconv.AppendInt(nil, first, 10), strconv.AppendInt(nil, last, 10)},
	}
}

// beginAt publishes a control event with the place that the source goes on
// from, and waits until Kafka holds it.
func (s *Source) beginAt(ctx context.Context, event schema.Event, at offsets.Position) error {
	event.Seen, event.Source = at.Seen, schema.Source{Snapshot: "false", Replid: at.Replid}
	s.lane.numbering.Lock() // no HEARTBEAT takes a seq in between
	err := s.lane.append([]schema.Event{event}, at)
	want := s.lane.seq()
	s.lane.numbering.Unlock()
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, committed, _, _ := s.lane.progress(); committed.Seq >= want {
			return ErrBegunAnew
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// keptAt finds the last event of this site that it had made at a replication
// offset of the epoch of pos; the zero Event if there is none.
func (s *Source) keptAt(ctx context.Context, pos offsets.Position, replOffset int64) (schema.Event, error) {
	for attempt := 0; ; attempt++ {
		kept, err := s.keptAtOnce(ctx, pos, replOffset)
		if err == nil || !later(err) {
			return kept, err
		}
		if gone := s.wentBack(err, attempt); gone != nil {
			return kept, gone
		}
		s.setWaiting("Kafka: " + err.Error())
		if waitErr := retry.Wait(ctx, attempt); waitErr != nil {
			return kept, errors.Join(err, waitErr)
		}
		s.setWaiting("")
	}
}

func (s *Source) keptAtOnce(ctx context.Context, pos offsets.Position, replOffset int64) (kept schema.Event, err error) {
	own := s.newLog(s.cfg.Topic)
	defer own.close()
	for back := int64(1000); ; back *= 16 {
		first := max(pos.Seq-back, 1)
		err := own.visit(ctx, first, pos.Seq, func(e *schema.Event) error {
			if e.Source.Epoch == pos.Epoch && e.Source.ReplOffset <= replOffset {
				kept.Seq, kept.Seen = e.Seq, e.Seen
			}
			return nil
		})
		var missing *missingError
		if errors.As(err, &missing) { // retention has removed what lies before
			return schema.Event{}, nil
		}
		if err != nil || kept.Seq > 0 || first == 1 {
			return kept, err
		}
	}
}
