package app

import (
	"context"
	"fmt"

	"twinlog/internal/admin"
)

// Pause stops a connector's work and keeps its place.
func (w *Worker) Pause(ctx context.Context, name string) error {
	return w.steer(ctx, name, func(c *connector, _ context.Context) error { return c.pause(ctx) })
}

// Resume ends Pause and Stop, and starts a failed connector again; a sink
// passes the event that stopped it.
func (w *Worker) Resume(ctx context.Context, name string) error {
	return w.steer(ctx, name, func(c *connector, parent context.Context) error { return c.resume(ctx, parent, how{clear: true}) })
}

// Snapshot makes a source begin a new epoch.
func (w *Worker) Snapshot(ctx context.Context, name string) error {
	for _, h := range w.halves {
		if h.sink.name == name {
			return fmt.Errorf("%s is a sink, and only a source takes a snapshot: ask %s", name, h.source.name)
		}
	}
	return w.steer(ctx, name, func(c *connector, parent context.Context) error { return c.resume(ctx, parent, how{newEpoch: true}) })
}

// Stop ends a connector and frees what it holds.
func (w *Worker) Stop(ctx context.Context, name string) error {
	return w.steer(ctx, name, func(c *connector, _ context.Context) error { return c.halt(ctx, admin.StateStopped) })
}

// Restart ends a connector and starts it again.
func (w *Worker) Restart(ctx context.Context, name string) error {
	return w.steer(ctx, name, func(c *connector, parent context.Context) error { return c.restart(ctx, parent, how{}) })
}

func (w *Worker) steer(ctx context.Context, name string, do func(c *connector, parent context.Context) error) error {
	for _, c := range w.connectors() {
		if c.name == name {
			return w.holding(ctx, func(running context.Context) error { return do(c, running) }, c)
		}
	}
	return fmt.Errorf("%w: %s", admin.ErrUnknownConnector, name)
}

// holding calls do while nobody else steers the connectors, with the context
// that they run in.
func (w *Worker) holding(ctx context.Context, do func(running context.Context) error, connectors ...*connector) error {
	release, err := hold(ctx, connectors...)
	if err != nil {
		return err
	}
	defer release()
	running, err := w.life()
	if err != nil {
		return err
	}
	return do(running)
}

// hold takes the turns of connectors, which are in the order of
// Worker.connectors: then two that need several never wait for each other.
func hold(ctx context.Context, connectors ...*connector) (release func(), err error) {
	release = func() {}
	for _, c := range connectors {
		if err := c.turn.take(ctx); err != nil {
			release()
			return nil, fmt.Errorf("waiting for another request to %s: %w", c.name, err)
		}
		before := release
		release = func() {
			c.turn.giveBack()
			before()
		}
	}
	return release, nil
}

// connectors are all of the link: each direction's source, then its sink.
func (w *Worker) connectors() []*connector {
	all := make([]*connector, 0, 2*len(w.halves))
	for _, h := range w.halves {
		all = append(all, h.source, h.sink)
	}
	return all
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
