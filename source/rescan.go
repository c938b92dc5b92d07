package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"twinlog/internal/redis"
	"twinlog/internal/scope"
	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/source/rdb"
	"twinlog/source/replica"
	"twinlog/source/stream"
)

// A SWAPDB with one database in scope brings content that was never
// published. Its database is copied anew: a second link asks for a full
// synchronisation, the first one is read up to where that stands, so that
// nothing of the other databases is missed, and the database is emptied and
// filled in the topic. The position names it until all of that is in Kafka: a
// restart in between begins it again.

// copyAnew asks for a full synchronisation and returns the link that brings
// it, and its place in the replication stream.
func (s *Source) copyAnew(ctx context.Context, pos *offsets.Position) (*replica.Conn, int64, error) {
	s.cfg.Log.Info("databases are copied anew, since SWAPDB brought content from out of scope", "site", s.cfg.Site, "databases", pos.Rescan)
	if s.cfg.Ledger != nil { // as before any snapshot
		if err := s.dropBarrier(ctx, &place{}); err != nil {
			return nil, 0, err
		}
	}
	conn, err := replica.Connect(ctx, replica.Options{Redis: s.cfg.Redis, Log: s.cfg.Log})
	if err != nil {
		return nil, 0, fmt.Errorf("joining site %s as a replica once more: %w", s.cfg.Site, err)
	}
	full, err := conn.Psync(ctx, "?", -1)
	switch {
	case err != nil:
	case full.Replid != pos.Replid:
		// The first link is cut too, and resuming it tells what became of it.
		err = &redis.ConnError{Addr: s.cfg.Redis.Addrs[0], Op: "copying anew", Err: fmt.Errorf("it has the replication id %s now, not %s", full.Replid, pos.Replid)}
	case full.Offset < pos.ReplOffset:
		err = s.sharedSave(full.Offset, pos.ReplOffset)
	}
	if err != nil {
		conn.Close()
		return nil, 0, fmt.Errorf("asking site %s for a full synchronisation: %w", s.cfg.Site, err)
	}
	s.cfg.Metrics.fullSyncs.Inc()
	return conn, full.Offset, nil
}

// sharedSave is the error of a full synchronisation that gives what a site held
// before the position: a Redis that saves to disk for another replica lets this
// one share that save. Later it makes a new one.
func (s *Source) sharedSave(offset, position int64) error {
	return &redis.ConnError{
		Addr: s.cfg.Redis.Addrs[0], Op: "asking for a full synchronisation",
		Err: fmt.Errorf("it offers the save that another replica waits for, of replication offset %d, and what is published reaches up to %d: asking again", offset, position),
	}
}

// rescan publishes the content of pos.Rescan, which conn brings as of pos: a
// FLUSHDB of each, then every key's value.
func (s *Source) rescan(ctx context.Context, conn *replica.Conn, pos *offsets.Position) error {
	s.setConn(nil)
	s.lane.numbering.Lock() // no HEARTBEAT comes between the parts of a value
	defer s.lane.numbering.Unlock()
	pos.Epoch++
	if err := s.appendOwn(stream.AppendFlushes(nil, pos), pos); err != nil {
		return err
	}
	keys, publish := 0, s.publishValues(ctx, pos, "incremental", "rescan-event")
	err := s.readSnapshot(ctx, conn, func(e *rdb.Entry) error {
		if e.Kind != rdb.Value || !pos.Rescan.Has(e.DB) || offsets.IsReserved(e.Key) || isNothing(e) || s.outOfScope(e) {
			return nil
		}
		if e.Index == 0 {
			keys++
		}
		return publish(e)
	})
	if err != nil {
		return err
	}
	s.cfg.Log.Info("databases copied anew", "site", s.cfg.Site, "databases", pos.Rescan, "keys", keys)
	pos.Rescan = ""
	pos.Seq = s.lane.seq()
	return s.lane.heartbeatAt(*pos)
}

// outOfScope tells whether a snapshot's entry is not published.
func (s *Source) outOfScope(e *rdb.Entry) bool {
	switch e.Kind {
	case rdb.Value:
		return !s.cfg.Scope.HasKey(e.DB, e.Key)
	case rdb.Function:
		return s.cfg.Scope.Skips(scope.Function)
	case rdb.Aux:
	}
	return false
}

// ScopeError tells that the topic was begun with another scope: what came
// into scope since was never published (G5).
type ScopeError struct{ Link, Direction, Topic, Anew string }

func (e *ScopeError) Error() string {
	return fmt.Sprintf("direction %s has another scope (databases, databases_map, include, exclude) than topic %s was published with: keys that came into scope were never copied. "+
		"Set the scope back as it was, or %s", e.Direction, e.Topic, e.Anew)
}

func (s *Source) checkScope() error {
	pos := s.lane.position()
	if pos.IsZero() || pos.Scope == s.cfg.Scope.Fingerprint() {
		return nil
	}
	return &ScopeError{s.cfg.Link, s.cfg.Direction, s.cfg.Topic, s.cfg.anew()}
}

// rememberDue finds the values that were due when this source ended, in its
// own topic.
func (s *Source) rememberDue(ctx context.Context) error {
	pos := s.lane.position()
	if pos.Due == 0 {
		return nil
	}
	published := map[string]schema.Event{} // VALUE_DUE by key
	id := func(e *schema.Event) string { return fmt.Sprintf("%d %s", e.DB, e.Key) }
	err := s.own.visit(ctx, pos.Due, pos.Seq, func(e *schema.Event) error {
		switch {
		case e.Op == schema.OpControl && e.Command == schema.ValueDue:
			published[id(e)] = schema.Event{Op: e.Op, DB: e.DB, Key: append([]byte(nil), e.Key...), Command: e.Command, Seq: e.Seq, Seen: e.Seen}
		case e.Op == schema.OpValue && (!e.Part.Set || e.Part.Last):
			delete(published, id(e))
		}
		return nil
	})
	var missing *missingError
	if errors.As(err, &missing) {
		return fmt.Errorf("values were due when this source ended: %w", err)
	}
	if err != nil {
		return err
	}
	for _, e := range inOrder(published) {
		if err := s.due.Add(e.DB, e.Key, e.Seq); err != nil {
			return err
		}
		if s.cfg.Ledger != nil {
			s.cfg.Ledger.Due(&e)
		}
	}
	return nil
}

// inOrder returns events by seq.
func inOrder(events map[string]schema.Event) []schema.Event {
	return slices.SortedFunc(maps.Values(events), func(a, b schema.Event) int { return cmp.Compare(a.Seq, b.Seq) })
}
