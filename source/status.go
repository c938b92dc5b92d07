package source

import (
	"fmt"
	"time"

	"twinlog/offsets"
	"twinlog/source/replica"
)

// Status is what a source tells about itself.
type Status struct {
	Connected     bool             // to the Redis
	Waiting       string           // what it waits for, empty when nothing
	Position      offsets.Position // captured
	Committed     offsets.Position // in Kafka
	OnDemand      offsets.OnDemand // the last snapshot of chosen keys, as far as Kafka holds it; zero: there was none
	SnapshotBytes int64            // read of the running or last snapshot
	Behind        time.Duration    // age of the oldest change that Kafka does not hold
}

// Status returns a snapshot of the source's state. It may be called from any
// goroutine.
func (s *Source) Status() Status {
	position, committed, behind, blocked := s.lane.progress()
	onDemand := s.values.onDemand(committed.OnDemand)
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Position, st.Committed, st.Behind, st.OnDemand = position, committed, behind, onDemand
	switch {
	case blocked == "":
	case st.Waiting == "":
		st.Waiting = blocked
	default:
		st.Waiting = blocked + "; " + st.Waiting
	}
	if st.Waiting == "" && s.cfg.Ledger != nil {
		if first, last, waiting := s.cfg.Ledger.Asked(); waiting {
			st.Waiting = fmt.Sprintf("site %s has lost what it published as seq %d to %d: waiting for all values of site %s", s.cfg.Site, first, last, s.peerSite())
		}
	}
	return st
}

func (s *Source) setWaiting(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Waiting = what
}

// setConn tells which replication link is up, nil for none.
func (s *Source) setConn(conn *replica.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.ackOwed, s.read = conn, false, offsets.Position{}
	s.status.Connected = conn != nil
}

// acknowledge tells the Redis what Kafka holds (G7). With now, the answer is
// sent at once, and again as soon as it covers what the Redis asked for. A link
// that is not followed yet is told nothing: what Kafka takes meanwhile may be
// of another history.
func (s *Source) acknowledge(now bool) error {
	s.mu.Lock()
	conn, followed := s.conn, s.read.Phase == offsets.PhaseStream
	offset := s.lane.acknowledgeable() // of the history of this link
	answer := now || s.ackOwed && offset >= s.read.ReplOffset
	s.ackOwed = (now || s.ackOwed) && offset < s.read.ReplOffset
	s.mu.Unlock()
	if conn == nil || !followed {
		return nil
	}
	conn.Ack(offset)
	if answer {
		return conn.AckNow()
	}
	return nil
}

func (s *Source) setSnapshotBytes(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.SnapshotBytes = n
}

// setRead tells those who wait behind a fence how far the stream was read.
func (s *Source) setRead(pos offsets.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = pos
	if s.waiters > 0 {
		close(s.moved)
		s.moved = make(chan struct{})
	}
}

// committed is told each position that Kafka holds.
func (s *Source) committed(pos offsets.Position) {
	if pos.Phase == offsets.PhaseStream {
		s.setAttached()
	}
	if err := s.acknowledge(false); err != nil {
		s.cfg.Log.Debug("acknowledging", "site", s.cfg.Site, "error", err) // the reader of the link meets it too
	}
}

func (s *Source) setAttached() { s.once.Do(func() { close(s.attached) }) }
