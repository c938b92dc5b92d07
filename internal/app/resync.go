package app

import (
	"context"
	"errors"
	"fmt"

	"twinlog/internal/admin"
	"twinlog/source"
)

// Resync empties a site and has it filled again by the other one.
func (w *Worker) Resync(ctx context.Context, site string) error {
	if _, ok := w.o.Sites[site]; !ok {
		return fmt.Errorf("%w: this link has no site %s", admin.ErrUnknownConnector, site)
	}
	return w.holding(ctx, func(running context.Context) error {
		for _, h := range w.halves {
			switch o := w.opposite(h); {
			case h.To != site:
			case o == nil:
				return resyncTarget(ctx, running, h)
			default:
				return w.resyncSite(ctx, running, o, h)
			}
		}
		return fmt.Errorf("site %s is the origin of a one-way link: nothing fills it", site)
	}, w.connectors()...)
}

// resyncSite fills a site of a two-way link. Its own source does it: it follows
// the site from where it was emptied and asks the other side for its values.
// All connectors that stopped go on.
func (w *Worker) resyncSite(ctx, running context.Context, own, opposite *half) error {
	if err := w.canFill(own, opposite); err != nil {
		return err
	}
	if err := own.sink.halt(ctx, admin.StateStopped); err != nil {
		return err
	}
	if err := opposite.sink.halt(ctx, admin.StateStopped); err != nil {
		return err
	}
	if err := own.source.restart(ctx, running, how{reseed: true}); err != nil {
		return err
	}
	for _, c := range w.connectors() {
		if err := c.resume(ctx, running, how{clear: true}); err != nil {
			return err
		}
	}
	return nil
}

// canFill refuses to empty a site while it is the only one that has the data.
func (w *Worker) canFill(own, opposite *half) error {
	_, _, waiting := w.ledgers[opposite.From].Asked()
	switch {
	case own.hasLost():
	case opposite.hasLost():
		return fmt.Errorf("%[1]w: it is site %[2]s that lost its data, and site %[3]s has it: `twinlog resync --site %[2]s` fills site %[2]s", admin.ErrInvalid, opposite.From, own.From)
	case waiting, opposite.source.isEmptying():
		return fmt.Errorf("%w: site %s is being filled again from site %s: wait until it is", admin.ErrNotNow, opposite.From, own.From)
	}
	return nil
}

// hasLost tells whether the origin was found without its data.
func (h *half) hasLost() bool {
	var lost *source.LostError
	return errors.As(h.source.whyFailed(), &lost) && lost.Site == h.From
}

// resyncTarget fills the target of a one-way link: its sink empties it, and the
// origin's source begins a snapshot.
func resyncTarget(ctx, running context.Context, h *half) error {
	if err := h.source.halt(ctx, admin.StateStopped); err != nil {
		return err
	}
	if err := h.sink.halt(ctx, admin.StateStopped); err != nil {
		return errors.Join(err, h.source.restart(ctx, running, how{}))
	}
	emptied, err := h.newSink(nil, how{}).Reseed(ctx)
	return errors.Join(err,
		h.source.restart(ctx, running, how{newEpoch: emptied}),
		h.sink.restart(ctx, running, how{clear: emptied}))
}

// beginSnapshot has a direction's source begin an epoch. It is the sink that
// asks, and it may be halted meanwhile: the source is started all the same.
func (w *Worker) beginSnapshot(ctx context.Context, h *half) error {
	return w.holding(ctx, func(running context.Context) error {
		return h.source.restart(running, running, how{newEpoch: true})
	}, h.source)
}
