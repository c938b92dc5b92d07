package precheck

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

const (
	// batchBytes is how much a sink puts into one EXEC (DESIGN.md 6), unless a
	// transaction of the origin alone is larger.
	batchBytes = 1 << 20
	// sourceBuffer is what a server should be ready to hold for a source that
	// does not read for a while, since Kafka is away or a snapshot is under way.
	sourceBuffer = 64 << 20
)

func (s *site) replicaBuffer(ctx context.Context) error {
	value, err := s.config(ctx, "client-output-buffer-limit")
	if err != nil {
		return s.unknown("redis-replica-buffer", "client-output-buffer-limit", err)
	}
	hard, err := replicaLimit(value)
	if err != nil {
		return s.unknown("redis-replica-buffer", "client-output-buffer-limit", err)
	}
	what := "client-output-buffer-limit replica is " + bytesText(hard)
	remedy := func(need int64) string {
		return fmt.Sprintf("CONFIG SET client-output-buffer-limit \"replica %d %d 60\", and the same in redis.conf", 4*need, need)
	}
	switch transaction := s.cfg.MaxTransactionBytes; {
	case hard == 0:
		s.ok("redis-replica-buffer", "client-output-buffer-limit replica has no limit")
	case s.target && hard < 2*batchBytes:
		s.error("redis-replica-buffer", what+": one batch of the sink ("+bytesText(batchBytes)+") may cut every replica of this server, a source too", remedy(sourceBuffer))
	case s.target && hard < 2*transaction:
		s.warning("redis-replica-buffer", what+": a transaction above half of it stops the direction, limits.max_transaction_bytes allows "+bytesText(transaction), remedy(max(transaction, sourceBuffer)))
	case s.origin && hard < sourceBuffer:
		s.warning("redis-replica-buffer", what+": when Kafka is away or slow, the server soon cuts the source, and a full synchronisation follows", remedy(sourceBuffer))
	default:
		s.ok("redis-replica-buffer", what)
	}
	return nil
}

// replicaLimit finds the hard limit of replicas in the parameter's value:
// "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60".
func replicaLimit(value string) (int64, error) {
	words := strings.Fields(value)
	for i, w := range words[:max(0, len(words)-1)] {
		if w == "slave" || w == "replica" {
			n, err := strconv.ParseInt(words[i+1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("its value is %q: %w", value, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("its value is %q", value)
}

func (s *site) queryBuffer(ctx context.Context) error {
	value, err := s.config(ctx, "client-query-buffer-limit")
	if err != nil {
		return s.unknown("redis-query-buffer", "client-query-buffer-limit", err)
	}
	limit, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return s.unknown("redis-query-buffer", "client-query-buffer-limit", err)
	}
	what := "client-query-buffer-limit is " + bytesText(limit)
	remedy := fmt.Sprintf("CONFIG SET client-query-buffer-limit %d, and the same in redis.conf", max(1<<30, 4*s.cfg.MaxTransactionBytes))
	switch transaction := s.cfg.MaxTransactionBytes; {
	case limit == 0:
		s.ok("redis-query-buffer", "client-query-buffer-limit has no limit")
	case limit < 2*batchBytes:
		s.error("redis-query-buffer", what+": it cuts the sink's connection at a full batch ("+bytesText(batchBytes)+")", remedy)
	case limit < 2*transaction:
		s.warning("redis-query-buffer", what+": a transaction above half of it stops the direction, limits.max_transaction_bytes allows "+bytesText(transaction), remedy)
	default:
		s.ok("redis-query-buffer", what)
	}
	return nil
}

func (s *site) disklessDelay(ctx context.Context) error {
	diskless, err := s.config(ctx, "repl-diskless-sync")
	if err != nil {
		return s.unknown("redis-diskless-delay", "repl-diskless-sync", err)
	}
	delay, err := s.config(ctx, "repl-diskless-sync-delay")
	if err != nil {
		return s.unknown("redis-diskless-delay", "repl-diskless-sync-delay", err)
	}
	switch {
	case diskless != "yes":
		s.ok("redis-diskless-delay", "repl-diskless-sync is off: a full synchronisation goes through a file on the server's disk")
	case delay == "0":
		s.ok("redis-diskless-delay", "a full synchronisation begins at once")
	default:
		s.ok("redis-diskless-delay", "a full synchronisation begins after "+delay+" s (repl-diskless-sync-delay)")
	}
	return nil
}

// bytesText writes a size as people read it.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20 || n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10 || n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
