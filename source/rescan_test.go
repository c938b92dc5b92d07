package source

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"twinlog/internal/redis"
	"twinlog/internal/testkit"
	"twinlog/offsets"
	"twinlog/source/replica"
)

// A Redis that saves to disk lets a second replica share the save of the
// first, though that is older than what was published.
func TestAFullSynchronisationIsNotOlderThanThePosition(t *testing.T) {
	server := testkit.StartRedis(t, "--repl-diskless-sync", "no", "--rdb-key-save-delay", "2000")
	client := server.Client()
	for i := range 500 { // the save takes a second
		if err := client.Set(t.Context(), fmt.Sprint("k", i), "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := newReading(t, server).source
	first, err := replica.Connect(t.Context(), replica.Options{Redis: s.cfg.Redis, Log: s.cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := first.Psync(t.Context(), "?", -1); err != nil {
		t.Fatal(err)
	}
	if err := client.Incr(t.Context(), "n").Err(); err != nil {
		t.Fatal(err)
	}
	pos := offsets.Position{Seq: 1}
	err = s.ask(t.Context(), func(c *redis.Conn) error {
		info, err := redis.Info(t.Context(), c, "replication")
		if err == nil {
			pos.Replid = info["master_replid"]
			_, err = fmt.Sscan(info["master_repl_offset"], &pos.ReplOffset)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	testkit.Eventually(t, time.Minute, func() error {
		conn, offset, err := s.copyAnew(t.Context(), &pos)
		if err == nil {
			conn.Close()
			if offset < pos.ReplOffset {
				t.Errorf("the copy is of replication offset %d, published is up to %d", offset, pos.ReplOffset)
			}
			return nil
		}
		if !redis.Retryable(err) || !strings.Contains(err.Error(), "the save that another replica waits for") {
			t.Fatalf("it is not tried again: %v", err)
		}
		refused++
		return err
	})
	if refused == 0 {
		t.Error("no save was shared: this test shows nothing")
	}
	if reached, err := s.reaches(t.Context(), pos); err != nil || !reached {
		t.Errorf("the site does not reach its own position: %v", err)
	}
	pos.ReplOffset += 1 << 30
	if reached, err := s.reaches(t.Context(), pos); reached || errors.Is(err, context.Canceled) {
		t.Errorf("the site reaches a position that is not there yet")
	}
}
