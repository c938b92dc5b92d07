package app

import (
	"context"
	"errors"
	"fmt"

	"twinlog/internal/admin"
)

// Resync empties a site and has it filled again by the other one.
func (w *Worker) Resync(ctx context.Context, site string) error {
	running, err := w.life()
	if err != nil {
		return err
	}
	if _, ok := w.o.Sites[site]; !ok {
		return fmt.Errorf("%w: this link has no site %s", admin.ErrUnknownConnector, site)
	}
	for _, h := range w.halves {
		switch o := w.opposite(h); {
		case h.To != site:
		case o == nil:
			return w.resyncTarget(ctx, running, h)
		default:
			return w.resyncSite(ctx, running, o, h)
		}
	}
	return fmt.Errorf("site %s is the origin of a one-way link: nothing fills it", site)
}

// life is the context that connectors run in.
func (w *Worker) life() (context.Context, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == nil || w.running.Err() != nil {
		return nil, errNotRunning
	}
	return w.running, nil
}

// resyncSite fills a site of a two-way link. Its own source does it: it follows
// the site from where it was emptied and asks the other side for its values.
// All connectors that stopped go on.
func (w *Worker) resyncSite(ctx, running context.Context, own, opposite *half) error {
	if err := own.sink.halt(ctx, admin.StateStopped); err != nil {
		return err
	}
	if err := opposite.sink.halt(ctx, admin.StateStopped); err != nil {
		return err
	}
	if err := own.source.restart(ctx, running, how{reseed: true}); err != nil {
		return err
	}
	for _, h := range w.halves {
		for _, c := range []*connector{h.source, h.sink} {
			if err := c.resume(ctx, running, how{clear: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// resyncTarget fills the target of a one-way link: its sink empties it, and the
// origin's source begins a snapshot.
func (w *Worker) resyncTarget(ctx, running context.Context, h *half) error {
	if err := h.sink.halt(ctx, admin.StateStopped); err != nil {
		return err
	}
	if err := h.source.halt(ctx, admin.StateStopped); err != nil {
		return err
	}
	if err := h.newSink(nil).Reseed(ctx); err != nil { // nothing was changed: as before
		return errors.Join(err, h.source.restart(ctx, running, how{}), h.sink.restart(ctx, running, how{}))
	}
	if err := h.source.restart(ctx, running, how{newEpoch: true}); err != nil {
		return err
	}
	return h.sink.restart(ctx, running, how{clear: true})
}

// beginSnapshot has a direction's source begin an epoch.
func (w *Worker) beginSnapshot(ctx context.Context, h *half) error {
	running, err := w.life()
	if err != nil {
		return err
	}
	return h.source.restart(ctx, running, how{newEpoch: true})
}
