package source

import (
	"errors"
	"fmt"
)

// ErrSnapshotDone ends a source with `snapshot: initial_only`.
var ErrSnapshotDone = errors.New("snapshot done")

// TooBigError tells that one event exceeds what the topic takes (G5).
type TooBigError struct {
	Command    string // empty for a value of the snapshot
	Type       string
	DB         int32
	Key        string // shortened
	Size       int
	Limit      int
	ReplOffset int64
}

func (e *TooBigError) Error() string {
	what := "the " + e.Type + " value"
	if e.Command != "" {
		what = e.Command
	}
	return fmt.Sprintf("%s of key %q in db %d (replication offset %d) makes an event of %d bytes, more than max_event_bytes (%d): raise limits.max_event_bytes and the topic's max.message.bytes above it, or make the key smaller at its origin, then resume",
		what, e.Key, e.DB, e.ReplOffset, e.Size, e.Limit)
}

// TakenOverError tells that another process publishes this source's events
// now: this one must not go on.
type TakenOverError struct{ Topic, Instance string }

func (e *TakenOverError) Error() string {
	return fmt.Sprintf("another twinlog (%s) publishes to %s now: stop one of the two, then resume the other if it does not run", e.Instance, e.Topic)
}

// GapError tells that the Redis refused to continue from the position (G5).
type GapError struct {
	Link, Site, Topic string
	Replid            string
	ReplOffset        int64
	Mode              string // on_gap as configured
}

func (e *GapError) Error() string {
	return fmt.Sprintf("the Redis at site %s does not continue from %s:%d any more (its backlog was overrun, it restarted, or it failed over): changes since then are lost to %s. "+
		"Starting anew needs a full copy: stop twinlog, empty the target site, delete the link's topics (%s.*) and the keys __twinlog:%s:* at both sites, then run again. A larger repl-backlog-size at the site makes this rarer",
		e.Site, e.Replid, e.ReplOffset, e.Topic, e.Link, e.Link)
}

const maxShownKey = 64

// shown shortens a key for messages.
func shown(key []byte) string { return string(key[:min(len(key), maxShownKey)]) }
