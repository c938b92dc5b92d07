package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	spotCost   = 512 // bytes that a batch on disk costs in memory
	spoolPause = time.Second
)

// waitForRoom makes room for the next unit (G6): above half of MaxMemory,
// batches go to disk, and while neither memory nor disk can take more it
// blocks. Only the capturing goroutine calls it.
func (l *lane) waitForRoom(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes < l.cfg.MaxMemory && !l.crowded() {
		return nil
	}
	wake := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.room.Broadcast()
	}
	defer context.AfterFunc(ctx, wake)()
	for ctx.Err() == nil {
		if l.spill() {
			continue
		}
		if l.bytes < l.cfg.MaxMemory {
			return nil
		}
		again := time.AfterFunc(spoolPause, wake) // the disk may take more by then
		l.room.Wait()
		again.Stop()
	}
	return ctx.Err()
}

// sealAt is how large a batch grows: small enough for those in flight, one
// that is read back and one that is filled to leave room.
func (l *lane) sealAt() int64 {
	if l.spool == nil {
		return batchBytes
	}
	return min(batchBytes, l.cfg.MaxMemory/8)
}

// crowded tells whether batches should go to disk. The other half of the
// memory is for what comes back from there.
func (l *lane) crowded() bool { return l.spool != nil && l.bytes >= l.cfg.MaxMemory/2 }

// spill moves one batch to disk, if that is wanted, and tells whether anything
// has changed. The lock is not held while it writes.
func (l *lane) spill() bool {
	if !l.crowded() || l.clock().Before(l.spoolRetry) {
		return false
	}
	b := l.spillable()
	if b == nil {
		return false
	}
	seq := b.pos.Seq
	l.writing = b
	l.mu.Unlock()
	at, err := l.spool.write(b, seq)
	l.mu.Lock()
	l.writing = nil
	l.noteSpool(err)
	if err != nil {
		return false
	}
	i := slices.Index(l.sealed, b)
	if i < 0 { // it is being published already
		l.spool.free(at)
		return true
	}
	l.sealed[i] = &batch{pos: b.pos, born: b.born, cost: spotCost, spot: &at}
	l.spilled++
	l.bytes += spotCost - b.cost
	if !b.sent { // otherwise a lost client may still hold it
		l.spareBatch(b)
	}
	return true
}

// spillable is the batch that is published last of those in memory, nil when
// all that waits is on disk or being filled.
func (l *lane) spillable() *batch {
	if l.spilled == len(l.sealed) {
		return nil
	}
	for _, b := range slices.Backward(l.sealed) {
		if b.spot == nil {
			return b
		}
	}
	return nil
}

// noteSpool keeps what the disk said. A disk that fails is left alone for a
// while: what is in memory stays there.
func (l *lane) noteSpool(err error) {
	known := l.spoolErr != nil
	l.spoolErr = err
	if err == nil || errors.Is(err, errSpoolFull) {
		return
	}
	l.spoolRetry = l.clock().Add(spoolPause)
	if !known {
		l.cfg.Log.Warn("the spool cannot be written: what Kafka has not taken stays in memory, and at limits.memory the replication socket is not read", "site", l.cfg.Site, "error", err)
	}
}

// load brings the oldest batch that waits back from disk. The lock is not held
// while it reads; nobody else takes what waits.
func (l *lane) load() error {
	waiting := l.sealed[0]
	b := l.newBatch(waiting.born)
	l.mu.Unlock()
	err := l.spool.read(*waiting.spot, b)
	l.mu.Lock()
	if err != nil {
		return err
	}
	l.spool.free(*waiting.spot)
	b.pos = waiting.pos
	l.bytes += b.weigh() - waiting.cost
	l.sealed[0] = b
	l.spilled--
	l.room.Broadcast() // the disk has room
	return nil
}

// blocked tells why the socket is not read, empty if it is. The caller holds
// the lock.
func (l *lane) blocked() string {
	const until = ", the replication socket is not read until Kafka has taken events"
	switch {
	case l.bytes < l.cfg.MaxMemory:
		return ""
	case errors.Is(l.spoolErr, errSpoolFull):
		return fmt.Sprintf("the spool is full (spool.max_bytes: %d MiB of it for this source)%s", l.cfg.SpoolBytes>>20, until)
	case l.spoolErr != nil:
		return fmt.Sprintf("the spool cannot be written%s, or the disk has: %v", until, l.spoolErr)
	}
	return "limits.memory is reached" + until
}

// spooled returns the bytes on disk.
func (l *lane) spooled() int64 {
	if l.spool == nil {
		return 0
	}
	return l.spool.bytes()
}

// openSpool makes the disk ready, before anything is appended; closeSpool
// gives it back at the end, when nobody uses the lane any more.
func (l *lane) openSpool() error {
	if l.spool == nil {
		return nil
	}
	return l.spool.begin()
}

func (l *lane) closeSpool() error {
	if l.spool == nil {
		return nil
	}
	return l.spool.close()
}
