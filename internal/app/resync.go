package app

import (
	"context"
	"fmt"

	"twinlog/internal/admin"
)

// Resync empties a site and has it filled again by the other one. On a two-way
// link the site's own source does it: it follows the site from where it was
// emptied and asks the other side for its values. All connectors that stopped
// go on.
func (w *Worker) Resync(ctx context.Context, site string) error {
	w.mu.Lock()
	running := w.running
	w.mu.Unlock()
	if running == nil || running.Err() != nil {
		return errNotRunning
	}
	if _, ok := w.o.Sites[site]; !ok {
		return fmt.Errorf("%w: this link has no site %s", admin.ErrUnknownConnector, site)
	}
	var own *half
	for _, h := range w.halves {
		if h.From == site {
			own = h
		}
	}
	if own == nil || w.opposite(own) == nil {
		return fmt.Errorf("link %s is one-way, and only a site of a two-way link can be filled again so: stop twinlog, empty site %s, delete the link's topics and the keys __twinlog:%s:* at both sites, run", w.o.Link, site, w.o.Link)
	}
	if err := own.sink.halt(ctx, admin.StateStopped); err != nil {
		return err
	}
	if err := w.opposite(own).sink.halt(ctx, admin.StateStopped); err != nil {
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
