package sink

import (
	"context"
	"fmt"
	"strings"
	"time"

	"twinlog/internal/kafka"
	"twinlog/offsets"
)

// start finds where to go on (DESIGN.md 6): the mark in database 0; else the
// last mark that the target's own source read, behind a fence; else, where
// no source runs, the mirror in the consumer group; else the log's start.
func (s *Sink) start(ctx context.Context, t *target) (offsets.Mark, error) {
	t.markKey = offsets.MarkKey(s.cfg.Link, s.cfg.Direction, s.cfg.Lane)
	if err := t.inspect(ctx); err != nil {
		return offsets.Mark{}, err
	}
	if err := s.checkHalt(ctx, t); err != nil {
		return offsets.Mark{}, err
	}
	if err := t.clearTemps(ctx); err != nil {
		return offsets.Mark{}, err
	}
	mark, err := s.findMark(ctx, t)
	if err != nil {
		return mark, err
	}
	s.hook("mark-read")
	if mark.IsZero() {
		if s.cfg.Intercept {
			if err := t.requireEmpty(ctx); err != nil {
				return mark, err
			}
		}
		return offsets.Mark{TopicID: s.cfg.TopicID, Offset: -1}, nil
	}
	if mark.TopicID != s.cfg.TopicID {
		return mark, fmt.Errorf("target %s was filled from another topic of the name %s (id %s, now %s): the topic was created anew. %s",
			s.cfg.Target, s.cfg.Topic, mark.TopicID, s.cfg.TopicID, s.cfg.anew())
	}
	if s.found.Seq == mark.Seq && s.found.TopicID == mark.TopicID {
		mark.Offset = s.found.Offset
	}
	s.update(func(st *Status) { st.Mark = mark })
	s.last = written{t.runID, t.replid, mark} // the session before may have ended behind its EXEC
	return mark, nil
}

// written is the last mark that this sink wrote or found, and in which process in which
// replication history. While both stay, the data has not gone back: a missing
// or older mark was moved by FLUSHALL, eviction or SWAPDB.
type written struct {
	runID, replid string
	mark          offsets.Mark
}

// findMark finds the last mark that was written at the target. Where the one in
// database 0 is missing, or older than this sink remembers, it was moved; and an
// EXEC that was cut may have written a newer one, which only the target's own
// source can tell, behind a fence.
func (s *Sink) findMark(ctx context.Context, t *target) (offsets.Mark, error) {
	mark, found, err := t.readMark(ctx)
	if err != nil {
		return mark, err
	}
	moved := s.last.runID == t.runID && s.last.replid == t.replid && s.last.mark.After(mark)
	switch {
	case moved && s.cfg.Own == nil:
		return s.last.mark, nil
	case found && !moved:
		return s.newerMark(ctx, t, mark), nil
	}
	if mark, err = s.lostMark(ctx, t); err == nil && moved && s.last.mark.After(mark) {
		mark = s.last.mark
	}
	return mark, err
}

// newerMark finds a mark that was written after the one in database 0: SWAPDB
// can bring an old one back there (apply-rules 6). The target's source knows, if
// it follows; where it does not, what the target holds is all there is.
func (s *Sink) newerMark(ctx context.Context, t *target, mark offsets.Mark) offsets.Mark {
	if s.cfg.Own == nil {
		return mark
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	read, err := s.cfg.Own.LastMark(ctx, t.replid, t.replOffset)
	if err != nil {
		s.cfg.Log.Warn("the target's source cannot say what was applied last: going by the mark", "site", s.cfg.Target, "error", err)
		return mark
	}
	if read.TopicID == mark.TopicID && read.Generation == mark.Generation && read.After(mark) {
		return read
	}
	return mark
}

// lostMark finds the place when the mark is missing: never written, or gone
// by FLUSHALL, eviction, or with all of the target's data.
func (s *Sink) lostMark(ctx context.Context, t *target) (offsets.Mark, error) {
	if s.cfg.Own != nil {
		s.setWaiting("the mark is missing at " + s.cfg.Target + ": waiting for its source to say what was applied")
		if err := t.fence(ctx); err != nil {
			return offsets.Mark{}, err
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		mark, err := s.cfg.Own.LastMark(ctx, t.replid, t.replOffset)
		if err != nil {
			return mark, &waitError{text: err.Error()}
		}
		return mark, nil
	}
	mirror, err := kafka.FetchMirror(ctx, s.cfg.Kafka, s.cfg.Group, s.cfg.Topic, 0)
	if err != nil {
		return offsets.Mark{}, fmt.Errorf("reading the offset of group %s: %w", s.cfg.Group, err)
	}
	if mirror.Metadata == "" {
		return offsets.Mark{}, nil
	}
	text, replid, _ := strings.Cut(mirror.Metadata, "@")
	mark, err := offsets.ParseMark(text)
	if err != nil {
		return mark, fmt.Errorf("group %s: %w", s.cfg.Group, err)
	}
	if replid != t.replid {
		return mark, fmt.Errorf("target %s has no mark and another replication history (%s, was %s) than when seq %d was applied: it lost its data. %s",
			s.cfg.Target, t.replid, replid, mark.Seq, s.cfg.anew())
	}
	return mark, nil
}

// metadata is what the mirrored offset carries besides itself.
func metadata(mark offsets.Mark, replid string) string { return mark.String() + "@" + replid }

// checkHalt refuses to pass an event that had no effect until someone says
// so: the mark is behind it already.
func (s *Sink) checkHalt(ctx context.Context, t *target) error {
	if err := t.simple(ctx, "SELECT", "0"); err != nil {
		return err
	}
	key := offsets.HaltKey(s.cfg.Link, s.cfg.Direction, s.cfg.Lane)
	if s.cfg.ClearHalt {
		s.cfg.ClearHalt = false
		return t.simple(ctx, "DEL", key)
	}
	reply, err := t.do(ctx, "GET", key)
	if err != nil {
		return err
	}
	if reply.Null {
		return nil
	}
	return &HaltError{string(reply.Str)}
}

// haltScript is the SET of the halt key for a target that is full.
const haltScript = `#!lua flags=allow-oom
return redis.call('SET', KEYS[1], ARGV[1])`

// halt ends the sink with e, which it records at the target, so that a restart
// does not pass it in silence (G5).
func (s *Sink) halt(ctx context.Context, t *target, e *DataError) error {
	s.hook("halting")
	key := offsets.HaltKey(s.cfg.Link, s.cfg.Direction, s.cfg.Lane)
	err := t.simple(ctx, "SET", key, e.Error())
	if isFull(err) && t.v7 {
		err = t.simple(ctx, "EVAL", haltScript, "1", key, e.Error())
	}
	if err != nil {
		e.unrecorded = err.Error()
	}
	s.halted = e
	return e
}

func (s *Sink) hook(point string) {
	if s.cfg.Hook != nil {
		s.cfg.Hook(point)
	}
}
