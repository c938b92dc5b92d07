package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

// Kafka can lose what it had confirmed, and the target has applied. Then the
// topic does not hold, where the mark says, the event that the mark names. The
// source puts an EVENTS_LOST in the place of each such event and publishes them
// again behind (source/lost.go): behind the one that has the mark's seq the sink
// goes on, and passes over what comes again. Anything else there means other
// changes, and the sink stops.

// displacedError tells that the topic does not hold the mark's event in its place.
type displacedError struct{ error }

func (e *displacedError) Unwrap() error { return e.error }

// again tells whether e is a change that the target has applied, under another
// seq: one up to where in the replication stream it was.
func (b *builder) again(e *schema.Event) bool {
	return b.start.Epoch > 0 && e.Source.Epoch == b.start.Epoch && e.Source.ReplOffset <= b.start.ReplOffset &&
		e.Source.Snapshot == "false" && e.Op != schema.OpControl
}

// startsBehind tells that the consumer begins behind the mark's event instead,
// since retention has just removed that.
func (b *builder) startsBehind(err error) bool {
	var gone *kafka.RangeError
	if b.verified || !errors.As(err, &gone) || gone.Offset != b.start.Offset {
		return false
	}
	if gone.Start == b.start.Offset+1 {
		b.verified = true
		b.consumer.ReadFrom(gone.Start)
		return true
	}
	gone.Offset++ // what is wanted
	return false
}

// verify checks that the first record is the mark's event, and takes it out.
func (b *builder) verify(ctx context.Context, records []*kgo.Record) ([]*kgo.Record, error) {
	if b.verified || len(records) == 0 {
		return records, nil
	}
	cfg, first := &b.sink.cfg, records[0]
	what := ""
	switch {
	case first.Offset != b.start.Offset, first.Attrs.IsControl():
		what = "no event"
	default:
		var e schema.Event
		if err := cfg.Decoder.Decode(ctx, first.Value, &e); errors.Is(err, schema.ErrRegistryUnavailable) {
			return nil, cfg.readError(err)
		} else if err == nil && e.Seq != b.start.Seq { // what cannot be read was set aside
			what = fmt.Sprintf("seq %d", e.Seq)
		}
	}
	if what != "" {
		return nil, &displacedError{fmt.Errorf("topic %s holds %s at offset %d, where seq %d was that target %s has applied: Kafka lost what it had confirmed, or something else writes to the topic. %s",
			cfg.Topic, what, b.start.Offset, b.start.Seq, cfg.Target, cfg.anew())}
	}
	b.verified = true
	return records[1:], nil
}

// relocate looks for the place of the last mark's event in the topic. Until the
// topic reaches so far, the source has not told what is lost.
func (s *Sink) relocate(ctx context.Context, displaced *displacedError) error {
	mark := s.last.mark // HEARTBEATs that were passed without a mark may be others now
	end, start, err := s.endOfTopic(ctx)
	if err != nil {
		return err
	}
	if end.Seq < mark.Seq {
		return &waitError{text: fmt.Sprintf("topic %s ends at seq %d, and target %s has applied up to seq %d: Kafka lost what it had confirmed. Waiting until the source has told which events are lost",
			s.cfg.Topic, end.Seq, s.cfg.Target, mark.Seq)}
	}
	place, err := s.placeOf(ctx, mark, start, end.Offset, end.Offset-(end.Seq-mark.Seq))
	if err != nil {
		return err
	}
	if place < 0 {
		return displaced.error
	}
	s.cfg.Log.Warn("Kafka lost what it had confirmed: going on behind the last event that is applied", "site", s.cfg.Target, "topic", s.cfg.Topic, "seq", mark.Seq, "was_at", mark.Offset, "offset", place)
	s.found = offsets.Mark{TopicID: s.cfg.TopicID, Seq: mark.Seq, Offset: place}
	return nil
}

// placeOf returns the offset of the mark's event if it is where it was, since
// only what was not applied is lost, or an EVENTS_LOST; and -1 otherwise. It lies
// at or before offset latest: each seq takes an offset at least.
func (s *Sink) placeOf(ctx context.Context, mark offsets.Mark, start, end, latest int64) (int64, error) {
	c, err := kafka.NewReader(kafka.ConsumerConfig{Client: s.cfg.Kafka, Topic: s.cfg.Topic, Partition: 0, MaxBytes: s.cfg.MaxMemory / 4})
	if err != nil {
		return -1, fmt.Errorf("looking for seq %d in topic %s: %w", mark.Seq, s.cfg.Topic, err)
	}
	defer c.Close()
	for back := int64(1000); ; back *= 16 {
		from := max(latest-back, start)
		found, before, err := s.lookFrom(ctx, c, mark, from, end)
		if err != nil || !before || from == start {
			return found, err
		}
	}
}

// lookFrom reads from an offset on until the mark's event. Before tells that it
// lies before that offset.
func (s *Sink) lookFrom(ctx context.Context, c *kafka.Consumer, mark offsets.Mark, from, end int64) (found int64, before bool, err error) {
	c.ReadFrom(from)
	first := true
	var e schema.Event
	for {
		records, err := c.Poll(ctx)
		if err != nil {
			return -1, false, s.cfg.readError(err)
		}
		for _, r := range records {
			if !r.Attrs.IsControl() && s.cfg.Decoder.Decode(ctx, r.Value, &e) == nil {
				switch {
				case e.Seq == mark.Seq && (r.Offset == mark.Offset || e.Op == schema.OpControl && e.Command == schema.EventsLost):
					return r.Offset, false, nil
				case e.Seq >= mark.Seq:
					return -1, first && e.Seq > mark.Seq, nil
				}
				first = false
			}
			if r.Offset >= end {
				return -1, false, nil
			}
		}
	}
}
