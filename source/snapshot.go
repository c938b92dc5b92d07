package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/source/rdb"
	"twinlog/source/replica"
	"twinlog/source/stream"
)

// snapshot publishes a whole data set: SNAPSHOT_BEGIN, a value event for each
// key, a function event for each library, SNAPSHOT_END. The last one follows
// only when the RDB's checksum was verified. It returns the position at which
// the stream begins.
func (s *Source) snapshot(ctx context.Context, conn *replica.Conn, pos offsets.Position) (offsets.Position, error) {
	begin := stream.AppendFlushes([]schema.Event{{Op: schema.OpControl, DB: schema.NoDB, Command: schema.SnapshotBegin, Source: schema.Source{Snapshot: "first", Replid: pos.Replid}}}, &pos)
	interrupted := pos.UnfinishedSeq
	s.lane.numbering.Lock() // no HEARTBEAT takes this seq
	beginSeq := s.lane.seq() + 1
	if pos.UnfinishedSeq == 0 {
		pos.UnfinishedSeq = beginSeq
	}
	err := s.appendOwn(begin, &pos)
	s.lane.numbering.Unlock()
	if err != nil {
		return pos, err
	}
	s.full = false // from here on the position says so
	s.cfg.Log.Info("snapshot begins", "site", s.cfg.Site, "epoch", pos.Epoch, "replid", pos.Replid, "repl_offset", pos.ReplOffset)
	keys, publish := int64(0), s.publishValues(ctx, &pos, "true", "snapshot-event")
	err = s.readSnapshot(ctx, conn, func(e *rdb.Entry) error {
		if err := s.noteSnapshotEntry(e, &pos); err != nil {
			return err
		}
		if e.Kind == rdb.Aux || e.Kind == rdb.Value && (offsets.IsReserved(e.Key) || isNothing(e)) || s.outOfScope(e) {
			return nil
		}
		if e.Index == 0 {
			keys++
			s.cfg.Metrics.snapshotKeys.Inc()
		}
		if e.Kind == rdb.Function {
			return s.snapshotFunction(ctx, e, &pos)
		}
		return publish(e)
	})
	if err != nil {
		return pos, err
	}
	end := []schema.Event{{
		Op: schema.OpControl, DB: schema.NoDB, Command: schema.SnapshotEnd,
		Args:   schema.End{Keys: keys, Begin: beginSeq, Interrupted: interrupted, Gap: pos.Gap}.Args(),
		Source: schema.Source{Snapshot: "last", Replid: pos.Replid},
	}}
	pos.Phase, pos.UnfinishedSeq, pos.Gap, pos.Rescan = offsets.PhaseStream, 0, false, ""
	if err := s.appendOwn(end, &pos); err != nil {
		return pos, err
	}
	s.cfg.Log.Info("snapshot read", "site", s.cfg.Site, "epoch", pos.Epoch, "keys", keys)
	return pos, nil
}

// publishValues returns what publishes the values of an RDB, part by part, with
// snapshot as their Source.Snapshot. The failpoint hook is passed before each
// event.
func (s *Source) publishValues(ctx context.Context, pos *offsets.Position, snapshot, hook string) func(e *rdb.Entry) error {
	event, value := make([]schema.Event, 1), parts{}
	publish := func() error {
		if err := s.lane.waitForRoom(ctx); err != nil {
			return err
		}
		s.hook(hook)
		event[0].Source = schema.Source{Snapshot: snapshot}
		s.cfg.Metrics.events.Inc()
		return s.appendOwn(event, pos)
	}
	return func(e *rdb.Entry) error {
		if e.Index == 0 {
			value = parts{}
		}
		event[0] = schema.Event{Op: schema.OpValue, DB: e.DB, Key: e.Key, ExpireAt: e.ExpireAt}
		return value.each(&s.cfg, &event[0], e, publish)
	}
}

// appendOwn appends events that are not from the stream, one group. No
// HEARTBEAT comes between while the phase is a snapshot's.
func (s *Source) appendOwn(events []schema.Event, pos *offsets.Position) error {
	pos.Seq = s.lane.seq()
	if err := s.turner.Own(events, pos); err != nil {
		return err
	}
	return s.lane.append(events, *pos)
}

// readSnapshot hands every entry of the RDB to visit and verifies its end.
func (s *Source) readSnapshot(ctx context.Context, conn *replica.Conn, visit func(*rdb.Entry) error) error {
	transfer, err := conn.RDB()
	if err != nil {
		return fmt.Errorf("receiving the snapshot of site %s: %w", s.cfg.Site, err)
	}
	largest := max(s.cfg.MaxTransactionBytes, rdb.DefaultMaxElementBytes)
	r := rdb.NewReader(transfer.Reader(), rdb.Options{ChunkBytes: s.cfg.chunkBytes(), MaxElementBytes: largest})
	for {
		entry, err := r.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		var limit *rdb.LimitError
		if errors.As(err, &limit) {
			return fmt.Errorf("reading the snapshot of site %s: %w. The limit is limits.max_transaction_bytes, and 64 MiB at least: raise that option above it and start twinlog again", s.cfg.Site, err)
		}
		if err != nil {
			return fmt.Errorf("reading the snapshot of site %s: %w", s.cfg.Site, err)
		}
		s.setSnapshotBytes(r.BytesRead())
		if err := visit(entry); err != nil {
			return err
		}
	}
	if err := transfer.Finish(r.BytesRead()); err != nil {
		return fmt.Errorf("ending the snapshot of site %s: %w", s.cfg.Site, err)
	}
	return nil
}

// noteSnapshotEntry takes from an entry what the position needs: the database
// in which the stream begins, and the link's mark.
func (s *Source) noteSnapshotEntry(e *rdb.Entry, pos *offsets.Position) error {
	switch {
	case e.Kind == rdb.Aux && string(e.Name) == "repl-stream-db":
		db, err := strconv.Atoi(string(e.Text))
		if err != nil {
			return fmt.Errorf("snapshot of site %s: repl-stream-db %q is not a database", s.cfg.Site, e.Text)
		}
		pos.Database = max(db, 0)
	case e.Kind == rdb.Value && e.DB == 0 && string(e.Key) == s.filter.MarkKey():
		mark, err := offsets.ParseMark(string(e.Value.Data))
		if err != nil {
			return fmt.Errorf("snapshot of site %s: %w", s.cfg.Site, err)
		}
		if err := s.turner.Pass(pos, mark); err != nil {
			return fmt.Errorf("snapshot of site %s: %w", s.cfg.Site, err)
		}
	}
	return nil
}

// snapshotFunction publishes a function library.
func (s *Source) snapshotFunction(ctx context.Context, e *rdb.Entry, pos *offsets.Position) error {
	if err := s.lane.waitForRoom(ctx); err != nil {
		return err
	}
	events := stream.Cut(nil, &schema.Event{
		Op: schema.OpFunction, DB: schema.NoDB, Command: "FUNCTION", Args: [][]byte{[]byte("LOAD"), []byte("REPLACE"), e.Text},
		Source: schema.Source{Snapshot: "true"},
	}, s.cfg.MaxEventBytes)
	s.cfg.Metrics.events.Add(float64(len(events)))
	return s.appendOwn(events, pos)
}

// isNothing tells whether an entry is a collection without elements, which
// old servers could write and every server drops when it loads it.
func isNothing(e *rdb.Entry) bool {
	if e.Index > 0 || !e.Last {
		return false
	}
	v := &e.Value
	switch v.Kind {
	case schema.KindList, schema.KindSet:
		return len(v.Elements) == 0
	case schema.KindHash:
		return len(v.Hash) == 0
	case schema.KindZSet:
		return len(v.ZSet) == 0
	case schema.KindNone, schema.KindString, schema.KindStream, schema.KindDump: // there, even if empty
	}
	return false
}
