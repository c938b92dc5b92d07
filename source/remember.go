package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/internal/kafka"
	"twinlog/schema"
)

// lookAtPeer looks at the peer's topic while the own position is being read:
// over a distance either takes long. What goes wrong is found again by
// remember. It returns a function that waits for the end of it.
func (s *Source) lookAtPeer(ctx context.Context) (wait func()) {
	if s.cfg.Ledger == nil {
		return func() {}
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.peer.look(ctx, 0) })
	return wg.Wait
}

// closeLogs ends what reads the topics.
func (s *Source) closeLogs() {
	s.restPeer(0)
	s.own.close()
}

// remember fills the ledger from the topics: own changes that the peer may
// not have seen, and what of the peer is not settled (rule P); and finds the
// values that are due. Nothing of this site is read or decided before.
func (s *Source) remember(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		started := time.Now()
		err := s.rememberOnce(ctx)
		switch {
		case err == nil:
			s.own.close()
			if s.cfg.Ledger != nil {
				s.cfg.Log.Debug("ledger filled", "site", s.cfg.Site, "events", s.cfg.Ledger.Size().Unseen, "took", time.Since(started))
			}
			return nil
		case ctx.Err() != nil:
			return nil //nolint:nilerr // stopped: an orderly end
		case !later(err):
			return err
		}
		if gone := s.wentBack(err, attempt); gone != nil {
			return gone
		}
		s.setWaiting("Kafka: " + err.Error())
		s.cfg.Log.Warn("reading what the peer has not seen, trying again", "site", s.cfg.Site, "error", err)
		if err := retry.Wait(ctx, attempt); err != nil {
			return nil //nolint:nilerr // stopped while it waited: an orderly end
		}
	}
}

func (s *Source) rememberOnce(ctx context.Context) error {
	if s.cfg.Ledger == nil {
		return s.rememberDue(ctx)
	}
	pos := s.lane.position()
	peer, own := s.peer, s.own
	s.peerUsed = time.Now() // what comes first in the stream may need it
	floor, err := peer.seenAfter(ctx, pos.Settled, pos.Settled == pos.Seen)
	if err != nil {
		return err
	}
	if err := s.cfg.Ledger.Reset(floor, pos.Seen); err != nil {
		return fmt.Errorf("emptying the ledger of site %s: %w", s.cfg.Site, err)
	}
	err = s.cfg.Ledger.Replay(pos, func(visit func(*schema.Event) error) error {
		return s.ownEvents(ctx, own, floor, pos.Seq, visit)
	}, func(first, last int64, visit func(*schema.Event) error) error {
		return peer.visit(ctx, first, last, s.asHere(visit))
	})
	if err != nil {
		return err
	}
	return s.rememberDue(ctx)
}

// asHere makes the peer's events name databases by their numbers here.
func (s *Source) asHere(visit func(*schema.Event) error) func(*schema.Event) error {
	if !s.cfg.PeerScope.Maps() {
		return visit
	}
	return func(e *schema.Event) error {
		if err := command.RenameDatabases(e, s.cfg.PeerScope.To); err != nil {
			return fmt.Errorf("topic %s (seq %d): %w", s.cfg.PeerTopic, e.Seq, err)
		}
		return visit(e)
	}
}

// ownEvents visits this site's events in (floor, last]. Those that retention
// has removed count as unseen.
func (s *Source) ownEvents(ctx context.Context, own *eventLog, floor, last int64, visit func(*schema.Event) error) error {
	if floor >= last {
		return nil
	}
	err := own.visit(ctx, floor+1, last, visit)
	var missing *missingError
	if !errors.As(err, &missing) {
		return err
	}
	s.cfg.Log.Warn("the topic does not hold all that the peer may not have seen: it counts as unseen", "topic", s.cfg.Topic, "from", floor+1, "first", missing.first)
	s.cfg.Ledger.Lost(missing.first - 1)
	return own.visit(ctx, missing.first, last, visit)
}

// Recall puts own changes behind seen back into the ledger, after the peer's
// seen fell back.
func (s *Source) Recall(ctx context.Context, seen int64) error {
	own := s.newLog(s.cfg.Topic)
	defer own.close()
	last := s.cfg.Ledger.Floor()
	return s.cfg.Ledger.Recall(seen, func(visit func(*schema.Event) error) error {
		return s.ownEvents(ctx, own, seen, last, visit)
	})
}

// peerEvents visits the peer's events with seqs from first to last, for the
// capture: what a worker before this one applied. The log stays open for the
// next call as long as such calls come.
func (s *Source) peerEvents(ctx context.Context, first, last int64, visit func(*schema.Event) error) error {
	if s.peer == nil {
		s.peer = s.newLog(s.cfg.PeerTopic)
	}
	defer func() { s.peerUsed = time.Now() }()
	for attempt := 0; ; attempt++ {
		err := s.peer.visit(ctx, first, last, s.asHere(visit))
		if err == nil || !later(err) {
			return err
		}
		s.setWaiting("Kafka: " + err.Error())
		if waitErr := retry.Wait(ctx, attempt); waitErr != nil {
			return errors.Join(err, waitErr)
		}
		s.setWaiting("")
	}
}

// restPeer closes the peer's log when it was not needed for a while.
func (s *Source) restPeer(after time.Duration) {
	if s.peer != nil && time.Since(s.peerUsed) >= after {
		s.peer.close()
		s.peer = nil
	}
}

// eventLog reads a topic by seq. It goes on where it stands, or looks for the
// place.
type eventLog struct {
	source   *Source
	topic    string
	decoder  *schema.Decoder
	consumer *kafka.Consumer
	next     int64 // seq that comes next; 0: not known
	rest     []*kgo.Record
	last     *kgo.Record // that was read
	event    schema.Event
	end      logEnd // when the topic was looked at last
}

func (s *Source) newLog(topic string) *eventLog {
	return &eventLog{source: s, topic: topic, decoder: s.cfg.Decoder()}
}

// missingError tells that a topic begins behind the event that is wanted.
type missingError struct {
	topic         string
	wanted, first int64 // seqs
	anew          string
}

func (e *missingError) Error() string {
	return fmt.Sprintf("topic %s begins with seq %d, but seq %d is wanted: retention has removed it, so what it did at both sites cannot be settled. A longer retention (kafka.topic.retention) prevents this; now %s", e.topic, e.first, e.wanted, e.anew)
}

// visit visits the events with seqs from first to last.
func (l *eventLog) visit(ctx context.Context, first, last int64, visit func(*schema.Event) error) error {
	if first > last {
		return nil
	}
	if l.next == 0 || first < l.next || first-l.next > skipAhead {
		if err := l.reaches(ctx, last); err != nil {
			return err
		}
		if err := l.seek(ctx, first); err != nil {
			return err
		}
	}
	for {
		e, err := l.read(ctx)
		switch {
		case err != nil:
			l.close()
			return err
		case e.Seq < first:
			continue
		case l.next == 0 && e.Seq > first:
			l.close()
			return &missingError{l.topic, first, e.Seq, l.source.cfg.anew()}
		}
		l.next = e.Seq + 1
		if err := visit(e); err != nil {
			l.close()
			return err
		}
		if e.Seq >= last {
			return nil
		}
	}
}

// skipAhead is how many events are read and passed over rather than looking
// for a place anew, which takes several round trips.
const skipAhead = 50_000

// later tells whether reading a topic may go better later.
func later(err error) bool {
	var gone *kafka.RangeError // retention moved the log's start meanwhile
	var short *shortError
	return kafka.Retryable(err) || errors.Is(err, errSilent) || errors.Is(err, schema.ErrRegistryUnavailable) || errors.As(err, &gone) || errors.As(err, &short)
}

// shortError tells that a topic ends before an event that was applied.
type shortError struct {
	topic        string
	wanted, last int64 // seqs
	anew         string
}

func (e *shortError) Error() string {
	return fmt.Sprintf("what was applied reaches up to seq %d of topic %s, but the topic ends at seq %d: waiting until its source has published the rest again. "+
		"If Kafka lost it or the topic was created anew, %s", e.wanted, e.topic, e.last, e.anew)
}

// wentBack tells that the own topic ends before what was committed to it, if err
// says so. Who publishes finds that out, too, but here nothing may be published
// before the topic is read. A commit may take a moment to be seen.
func (s *Source) wentBack(err error, attempt int) error {
	const patience = 8 // attempts
	var short *shortError
	if attempt < patience || !errors.As(err, &short) || short.topic != s.cfg.Topic {
		return nil
	}
	return s.lane.endsAt(short.last)
}

// logEnd is the last event of a topic, zero for none.
type logEnd struct {
	seq, seen     int64
	offset, start int64 // of the event; of the log
}

// reaches checks that the topic reaches up to seq.
func (l *eventLog) reaches(ctx context.Context, seq int64) error {
	if err := l.look(ctx, seq); err != nil || l.end.seq >= seq {
		return err
	}
	return &shortError{l.topic, seq, l.end.seq, l.source.cfg.anew()}
}

// look looks at the topic's end again if it was not seen to reach up to seq.
func (l *eventLog) look(ctx context.Context, seq int64) error {
	if l.end.seq >= seq && l.end.seq > 0 {
		return nil
	}
	if err := l.open(); err != nil {
		return err
	}
	tail, err := l.consumer.Tail(ctx)
	l.next = 0
	if err != nil {
		return fmt.Errorf("reading the end of %s: %w", l.topic, err)
	}
	if n := len(tail.Records); n > 0 {
		e, err := l.decode(ctx, tail.Records[n-1])
		if err != nil {
			return err
		}
		l.end = logEnd{e.Seq, e.Seen, tail.Records[n-1].Offset, tail.Start}
	}
	return nil
}

// seenAfter returns what the peer had seen of this site when it made the first
// event behind seq, or its last one. If idle, HEARTBEATs there do not count:
// nothing needs what they had not seen.
func (l *eventLog) seenAfter(ctx context.Context, seq int64, idle bool) (int64, error) {
	if err := l.look(ctx, seq); err != nil {
		return 0, err
	}
	seen := l.end.seen
	if l.end.seq <= seq {
		return seen, nil
	}
	if err := l.seek(ctx, seq+1); err != nil {
		return 0, err
	}
	var looked []*kgo.Record // to be read again
	for more := true; more; {
		e, err := l.read(ctx)
		switch {
		case err != nil:
			l.close()
			return 0, err
		case e.Seq <= seq:
			continue
		case len(looked) == 0 && e.Seq > seq+1: // the sink stops at this hole; what the peer had seen is not known
			l.close()
			return 0, nil
		}
		looked, seen = append(looked, l.last), e.Seen
		more = idle && e.Op == schema.OpControl && e.Command == schema.Heartbeat && e.Seq < l.end.seq
	}
	l.rest, l.next = append(looked, l.rest...), seq+1
	return seen, nil
}

// seek begins to read at or before the event seq, which the log reaches. An
// event lies at least as many offsets before the last one as seqs: between
// them is only what ends transactions, and what was never committed.
func (l *eventLog) seek(ctx context.Context, seq int64) error {
	if err := l.open(); err != nil {
		return err
	}
	l.next = 0
	back := l.end.seq - seq
	at := l.end.offset - back - back/16 - seekMargin
	for {
		at = max(at, l.end.start)
		l.consumer.ReadFrom(at)
		l.rest = nil
		e, err := l.read(ctx)
		if err != nil {
			l.close()
			l.end = logEnd{} // what is known of it may be old
			return err
		}
		if e.Seq <= seq || at == l.end.start {
			l.rest = append([]*kgo.Record{l.last}, l.rest...)
			return nil
		}
		at -= 4*(e.Seq-seq) + seekMargin
	}
}

func (l *eventLog) open() (err error) {
	if l.consumer == nil {
		l.consumer, err = kafka.NewReader(kafka.ConsumerConfig{Client: l.source.cfg.Kafka, Topic: l.topic, Partition: 0, MaxBytes: 4 << 20})
	}
	return err
}

// seekMargin is how many offsets more a search goes back.
const seekMargin = 64

// read returns the next event.
func (l *eventLog) read(ctx context.Context) (*schema.Event, error) {
	for {
		for len(l.rest) == 0 {
			records, err := l.poll(ctx)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", l.topic, err)
			}
			l.rest = append(l.rest[:0], records...)
		}
		r := l.rest[0]
		l.rest = l.rest[1:]
		if !r.Attrs.IsControl() {
			l.last = r
			return l.decode(ctx, r)
		}
	}
}

// errSilent tells that an event that must be there did not come.
var errSilent = errors.New("nothing more comes")

// silence is how long a log may be silent: then its end is looked at again.
const silence = 10 * time.Second

func (l *eventLog) poll(ctx context.Context) ([]*kgo.Record, error) {
	soon, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	records, err := l.consumer.Poll(soon)
	if err != nil && soon.Err() != nil && ctx.Err() == nil {
		return nil, errSilent
	}
	return records, err
}

func (l *eventLog) decode(ctx context.Context, r *kgo.Record) (*schema.Event, error) {
	if err := l.decoder.Decode(ctx, r.Value, &l.event); err != nil {
		return nil, fmt.Errorf("topic %s, offset %d: %w", l.topic, r.Offset, err)
	}
	return &l.event, nil
}

func (l *eventLog) close() {
	if l.consumer != nil {
		l.consumer.Close()
		l.consumer = nil
	}
	l.next, l.rest = 0, nil
}
