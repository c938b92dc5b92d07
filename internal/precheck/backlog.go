package precheck

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"twinlog/internal/redis"
)

const (
	// watchedFor is how long writes are watched.
	watchedFor = time.Second
	// enough is the shortest interruption that a backlog should outlast: a
	// restart of the worker, a broken connection.
	enough = time.Minute
)

func (c *Config) watched() time.Duration {
	if c.Watch > 0 {
		return c.Watch
	}
	return watchedFor
}

// sample is how many bytes of writes a server had seen at a moment.
type sample struct {
	at    time.Time
	bytes int64
	err   error
}

// firstSample begins the measurement; backlog ends it.
func (s *site) firstSample(ctx context.Context) error {
	s.first = s.sample(ctx)
	return nil
}

func (s *site) sample(ctx context.Context) sample {
	if s.infoErr != nil {
		return sample{err: s.infoErr}
	}
	info, err := redis.Info(ctx, s.conn, "replication", "stats")
	taken := sample{at: time.Now(), err: err}
	if err == nil {
		taken.bytes, taken.err = strconv.ParseInt(info[s.counter()], 10, 64)
	}
	return taken
}

// counter is the field of INFO that counts writes. Without a backlog the
// offset of the replication stream stands still; incoming traffic is more
// than the writes.
func (s *site) counter() string {
	if s.info["repl_backlog_active"] == "1" {
		return "master_repl_offset"
	}
	return "total_net_input_bytes"
}

func (s *site) backlog(ctx context.Context) error {
	text, err := s.field("repl_backlog_size")
	if err != nil {
		return s.unknown("redis-backlog", "the backlog", err)
	}
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return s.unknown("redis-backlog", "the backlog", err)
	}
	if err := waitUntil(ctx, s.first.at.Add(s.cfg.watched())); err != nil {
		return &redis.ConnError{Addr: s.conn.Addr(), Op: "measuring the write rate", Err: err}
	}
	second := s.sample(ctx)
	for _, err := range []error{s.first.err, second.err} {
		if err != nil {
			return s.unknown("redis-backlog", "the write rate", err)
		}
	}
	rate := float64(second.bytes-s.first.bytes) / second.at.Sub(s.first.at).Seconds()
	s.judgeBacklog(size, rate, s.info["repl_backlog_active"] == "1")
	return nil
}

// idle is the traffic of the pre-check itself, and of a replica's heartbeats.
const idle = 4 << 10 // bytes/s

// judgeBacklog tells how long an interruption the backlog covers. Where it is
// not active, rate is an upper bound.
func (s *site) judgeBacklog(size int64, rate float64, active bool) {
	what := "the backlog of " + bytesText(size)
	if !active {
		what += " (kept from the first synchronisation on)"
	}
	if rate <= 0 || !active && rate < idle {
		s.ok("redis-backlog", what+": no writes seen in "+s.cfg.watched().String())
		return
	}
	covers := time.Duration(float64(size) / rate * float64(time.Second)).Round(time.Second)
	if float64(size)/rate > 1e6 {
		s.ok("redis-backlog", fmt.Sprintf("%s covers days at your write rate (%s/s)", what, bytesText(int64(rate))))
		return
	}
	seconds := fmt.Sprintf("covers %d s at your write rate", int64(covers.Seconds()))
	if !active {
		seconds = fmt.Sprintf("covers at least %d s, if all that comes in is writes", int64(covers.Seconds()))
	}
	detail := fmt.Sprintf("%s %s (%s/s)", what, seconds, bytesText(int64(rate)))
	if covers >= enough {
		s.ok("redis-backlog", detail)
		return
	}
	hour := int64(rate*3600)>>20 + 1
	s.warning("redis-backlog", detail+": a longer interruption costs a full synchronisation",
		fmt.Sprintf("CONFIG SET repl-backlog-size %dmb covers an hour; the same in redis.conf", hour))
}

func waitUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
