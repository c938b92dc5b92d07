package app

import (
	"context"
	"fmt"
	"time"

	"twinlog/internal/admin"
	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/offsets"
)

// appliedWait is how long a source waits for the target to say what it has
// applied. Where it does not answer the source goes on, and the sink finds
// out.
const appliedWait = 10 * time.Second

// applied asks a direction's target for its mark of the topic; zero is nothing,
// or not known.
func (w *Worker) applied(ctx context.Context, h *half) offsets.Mark {
	ctx, cancel := context.WithTimeout(ctx, appliedWait)
	defer cancel()
	backoff := kafka.Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for attempt := 0; ; attempt++ {
		mark, err := readMark(ctx, w.o.Sites[h.To], offsets.MarkKey(w.o.Link, h.Name(), lane))
		switch {
		case err == nil && mark.TopicID == h.topicID:
			return mark
		case err == nil:
			return offsets.Mark{}
		}
		if backoff.Wait(ctx, attempt) != nil {
			w.o.Log.Warn("the target does not say what it has applied: going on without", "site", h.To, "error", err)
			return offsets.Mark{}
		}
	}
}

// readMark reads a mark at a site; the zero Mark if there is none.
func readMark(ctx context.Context, site redis.Config, key string) (offsets.Mark, error) {
	c, err := redis.Dial(ctx, site)
	if err != nil {
		return offsets.Mark{}, err
	}
	defer c.Close()
	reply, err := c.Do(ctx, "GET", key)
	switch {
	case err != nil:
		return offsets.Mark{}, err
	case reply.Err() != nil:
		return offsets.Mark{}, reply.Err()
	case reply.Null:
		return offsets.Mark{}, nil
	}
	return offsets.ParseMark(string(reply.Str))
}

// restartApplying has a direction's sink forget what it read of the topic, of
// which Kafka has lost the end, and write what it has begun: after it, the mark
// tells all that is applied.
func (w *Worker) restartApplying(ctx context.Context, h *half) error {
	err := w.holding(ctx, func(running context.Context) error {
		if state, _, _, _ := h.sink.snapshot(); state != admin.StateRunning {
			return nil
		}
		return h.sink.restart(ctx, running, how{})
	}, h.sink)
	if err != nil {
		return fmt.Errorf("having %s read %s anew: %w", h.sink.name, h.topic, err)
	}
	return nil
}
