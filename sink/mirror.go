package sink

import (
	"context"
	"sync"
	"time"

	"twinlog/internal/kafka"
)

// mirror commits the applied offset to the sink's consumer group, for lag
// tools and other consumers. It is behind the mark by a second at most and
// never ahead of it.
type mirror struct {
	cfg       *Config
	committer *kafka.MirrorCommitter
	wake      chan struct{}

	mu       sync.Mutex
	offset   int64
	metadata string
	done     int64
}

func (m *mirror) set(offset int64, metadata string) {
	m.mu.Lock()
	m.offset, m.metadata = offset, metadata
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run commits at most once a second, and once more when it ends.
func (m *mirror) run(ctx context.Context) error {
	pause := time.NewTicker(time.Second)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			m.flush(ctx)
			return nil
		case <-m.wake:
		}
		m.flush(ctx)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}

// flush commits what was set last. Trouble is only logged: the truth is the
// mark, and the next commit brings the group up to date.
func (m *mirror) flush(ctx context.Context) {
	m.mu.Lock()
	offset, metadata := m.offset, m.metadata
	m.mu.Unlock()
	if offset == 0 || offset == m.done {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := m.committer.Commit(ctx, offset, metadata); err != nil {
		m.cfg.Log.Warn("committing the mirrored offset", "group", m.cfg.Group, "offset", offset, "error", err)
		return
	}
	m.done = offset
}
