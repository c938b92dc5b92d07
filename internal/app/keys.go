package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"twinlog/internal/admin"
	"twinlog/offsets"
	"twinlog/source"
)

// SnapshotKeys makes a direction's source publish chosen keys again.
func (w *Worker) SnapshotKeys(ctx context.Context, direction string, keys admin.Keys) (id string, begun bool, err error) {
	h, s, err := w.sourceFor(direction)
	if err != nil {
		return "", false, err
	}
	quarantined := 0
	if k := sinkOf(h.sink); k != nil {
		quarantined, _ = k.Quarantine()
	}
	id, err = s.SnapshotKeys(source.KeysRequest{Match: keys.Match, DB: keys.DB, Rate: keys.Rate, Changes: quarantined > 0})
	var busy *source.BusyError
	switch {
	case errors.Is(err, source.ErrNotStreaming), errors.As(err, &busy):
		return "", false, fmt.Errorf("%w: %w", admin.ErrNotNow, err)
	case err != nil:
		return "", false, fmt.Errorf("%w: %w", admin.ErrInvalid, err)
	}
	return id, awaitKeys(ctx, s, id), nil
}

// begins is how long a snapshot of chosen keys may take to begin before the
// answer says that it has not.
const begins = 3 * time.Second

// awaitKeys waits until Kafka holds that a snapshot of chosen keys is under
// way: from then on nothing forgets it.
func awaitKeys(ctx context.Context, s *source.Source, id string) (begun bool) {
	ctx, cancel := context.WithTimeout(ctx, begins)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.Status().Committed.OnDemand.ID != id {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// StopKeys ends that.
func (w *Worker) StopKeys(_ context.Context, direction string) error {
	_, s, err := w.sourceFor(direction)
	if err != nil {
		return err
	}
	if !s.StopKeys() {
		return fmt.Errorf("%w: %s sends no chosen keys", admin.ErrNotNow, direction)
	}
	return nil
}

// sourceFor returns a direction and its running source.
func (w *Worker) sourceFor(direction string) (*half, *source.Source, error) {
	for _, h := range w.halves {
		if h.Name() != direction {
			continue
		}
		state, _, _, _ := h.source.snapshot()
		s := sourceOf(h.source)
		if s == nil || state != admin.StateRunning && state != admin.StatePaused {
			return nil, nil, fmt.Errorf("%w: %s is %s", admin.ErrNotNow, h.source.name, state)
		}
		return h, s, nil
	}
	return nil, nil, fmt.Errorf("%w: this link has no direction %s", admin.ErrUnknownConnector, direction)
}

// shownOnDemand is what Status shows of a snapshot of chosen keys.
func shownOnDemand(d offsets.OnDemand) *admin.OnDemand {
	if d.ID == "" {
		return nil
	}
	match, _ := d.Match.MarshalText()
	return &admin.OnDemand{ID: d.ID, Match: string(match), State: string(d.State), Reason: d.Reason, Database: d.At, Progress: d.Progress(), Keys: d.Keys}
}
