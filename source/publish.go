package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

// publisher is the supervisor of publishing.md: open a ring, read the
// position, publish; on any error all of it again (rule 7).
type publisher struct {
	cfg    *Config
	lane   *lane
	source *Source
	drain  chan struct{}    // closed: end once the lane is empty
	known  chan struct{}    // closed once the position was read for the first time
	found  offsets.Position // at the start

	decoder *schema.Decoder // of the topic's last event
}

// ready waits until the position that Kafka holds is known; false if ctx ended
// before.
func (p *publisher) ready(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-p.known:
		return true
	}
}

func (p *publisher) run(ctx context.Context) error {
	headers := newHeaders(p.cfg.Site)
	for attempt := 0; ; attempt++ {
		started := time.Now()
		err := p.session(ctx, headers)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case final(err):
			return err
		case kafka.Fenced(err):
			if p.draining() { // a successor may wait: what is not committed is its to read again
				return fmt.Errorf("committing the last events of %s before stopping: %w", p.cfg.Topic, err)
			}
			if err := p.stillOurs(ctx); err != nil {
				return err
			}
		}
		if p.draining() && attempt > 3 {
			return fmt.Errorf("committing the last events of %s before stopping: %w", p.cfg.Topic, err)
		}
		if time.Since(started) > 10*time.Second {
			attempt = 0
		}
		p.cfg.Metrics.ringErrors.Inc()
		p.source.setWaiting("Kafka: " + err.Error())
		p.cfg.Log.Warn("publishing interrupted, opening a new ring", "topic", p.cfg.Topic, "error", err)
		if err := retry.Wait(ctx, attempt); err != nil {
			return err
		}
	}
}

// stillOurs tells whether this process may go on after it was fenced: not if
// the newest position names another one (rule 8).
func (p *publisher) stillOurs(ctx context.Context) error {
	tail, err := kafka.ReadTail(ctx, p.cfg.Kafka, p.cfg.Topic, 0)
	if err != nil {
		return nil //nolint:nilerr // Kafka is away: the new ring will tell
	}
	pos, err := p.tailPosition(ctx, tail)
	if err != nil {
		return err
	}
	return p.checkOwner(pos)
}

// checkOwner refuses a position that another process has published since this
// one began: the numbers of its events mean other events (G1). One that is older
// than what this one found is all that Kafka has left.
func (p *publisher) checkOwner(pos offsets.Position) error {
	if pos.IsZero() || pos.Instance == p.cfg.Instance || pos.Seq < p.found.Seq || pos.Seq == p.found.Seq && pos.Instance == p.found.Instance {
		return nil
	}
	return &TakenOverError{Topic: p.cfg.Topic, Instance: pos.Instance}
}

// final tells whether opening a new ring cannot help.
func final(err error) bool {
	var taken *TakenOverError
	var damaged *SpoolError
	return kafka.Permanent(err) || errors.As(err, &taken) || errors.As(err, &damaged) || errors.Is(err, ErrKafkaWentBack)
}

// session holds one ring until its first error, or until the lane is drained.
func (p *publisher) session(ctx context.Context, headers *headers) error {
	ring, err := kafka.OpenRing(ctx, kafka.RingConfig{
		Client: p.cfg.Kafka, Metrics: p.cfg.Clients, Prefix: fmt.Sprintf("twinlog.%s.%s.%s", p.cfg.Link, p.cfg.Site, p.cfg.Lane),
		Topic: p.cfg.Topic, Partition: 0, Pause: p.cfg.CommitPause,
		MaxBufferedBytes: int(p.cfg.MaxTransactionBytes) + 4*batchBytes, BatchMaxBytes: int32(p.cfg.MaxEventBytes) + recordOverhead, Hook: p.cfg.Hook,
	})
	if err != nil {
		return fmt.Errorf("opening the transactional ids of %s: %w", p.cfg.Topic, err)
	}
	defer ring.Close()
	tail, err := ring.Tail(ctx)
	if err != nil {
		return fmt.Errorf("reading the position of %s: %w", p.cfg.Topic, err)
	}
	pos, err := p.tailPosition(ctx, tail)
	if err != nil {
		return err
	}
	reader := ring.TakeReader()
	if !isClosed(p.known) && p.source.own != nil {
		p.source.own.consumer = reader
		if n := len(tail.Records); n > 0 {
			p.source.own.end = logEnd{seq: pos.Seq, offset: tail.Records[n-1].Offset, start: tail.Start}
		}
	} else {
		reader.Close()
	}
	if err := p.adopt(pos); err != nil {
		return err
	}
	p.source.hook("position-read")
	p.source.setWaiting("")
	return p.pump(ctx, ring, headers)
}

// pump publishes batch after batch until the lane is drained.
func (p *publisher) pump(ctx context.Context, ring *kafka.Ring, headers *headers) error {
	for {
		draining := p.draining() // asked first: what was captured before the drain is in the lane
		if paused := p.source.unpaused(); !isClosed(paused) {
			if draining {
				return ring.Wait(ctx)
			}
			if err := p.await(ctx, ring, paused); err != nil {
				return err
			}
			continue
		}
		b, err := p.lane.next()
		switch {
		case err != nil:
			return err
		case b != nil:
			if err := p.send(ctx, ring, b, headers); err != nil {
				return err
			}
		case draining:
			return ring.Wait(ctx)
		default:
			if err := p.await(ctx, ring, p.lane.wake); err != nil {
				return err
			}
		}
	}
}

// await blocks until something arrives, the drain begins or the ring fails.
func (p *publisher) await(ctx context.Context, ring *kafka.Ring, something <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ring.Done():
		return ring.Err()
	case <-p.drain:
	case <-something:
	}
	return nil
}

// adopt takes the position that Kafka holds: as the start the first time, as
// the answer to what became of the last commits later on.
func (p *publisher) adopt(pos offsets.Position) error {
	if isClosed(p.known) {
		if err := p.checkOwner(pos); err != nil {
			return err
		}
		if err := p.lane.rewind(pos); err != nil {
			return err
		}
		_, committed, _, _ := p.lane.progress() // what was found to be committed was told to nobody
		p.source.committed(committed)
		return nil
	}
	p.source.values.rememberDemand(pos.OnDemand)
	p.lane.restore(pos)
	p.found = pos
	if pos.Phase == offsets.PhaseStream {
		p.source.setAttached()
	}
	close(p.known)
	return nil
}

func (p *publisher) draining() bool { return isClosed(p.drain) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (p *publisher) send(ctx context.Context, ring *kafka.Ring, b *batch, headers *headers) error {
	b.pos.Instance = p.cfg.Instance
	position, err := offsets.AppendPosition(nil, b.pos)
	if err != nil {
		return err
	}
	at, started := b.pos, time.Now()
	return ring.Publish(ctx, b.pieces(p.cfg.Topic, headers, position), func() {
		p.lane.commit()
		p.cfg.Metrics.commits.Inc()
		p.cfg.Metrics.commitSeconds.Observe(time.Since(started).Seconds())
		p.source.committed(at)
	})
}

// tailPosition reads the position from a topic's last event. The two must
// agree (rule 9).
func (p *publisher) tailPosition(ctx context.Context, tail kafka.Tail) (offsets.Position, error) {
	if len(tail.Records) == 0 {
		return offsets.Position{}, nil
	}
	last := tail.Records[len(tail.Records)-1]
	at := fmt.Sprintf("topic %s, offset %d", p.cfg.Topic, last.Offset)
	var event schema.Event
	if err := p.decoder.Decode(ctx, last.Value, &event); errors.Is(err, schema.ErrRegistryUnavailable) {
		return offsets.Position{}, fmt.Errorf("%s: %w", at, err)
	} else if err != nil {
		return offsets.Position{}, p.altered(last.Offset, err.Error())
	}
	for _, h := range last.Headers {
		if h.Key != schema.HeaderPosition {
			continue
		}
		pos, err := offsets.ParsePosition(h.Value)
		if err != nil {
			return pos, p.altered(last.Offset, err.Error())
		}
		if pos.Seq != event.Seq {
			return pos, p.altered(last.Offset, fmt.Sprintf("its event has seq %d and its position says %d", event.Seq, pos.Seq))
		}
		return pos, nil
	}
	return offsets.Position{}, p.altered(last.Offset, fmt.Sprintf("its event carries no %s header", schema.HeaderPosition))
}

func (p *publisher) altered(offset int64, how string) error {
	return &kafka.TopicError{
		Topic: p.cfg.Topic, Problem: fmt.Sprintf("ends at offset %d with what this link did not write (%s)", offset, how),
		Remedy: "give the link a topic of its own, or " + p.cfg.anew(),
	}
}

// recordOverhead is what a record's key, headers and framing may add to its value.
const recordOverhead = 64 << 10
