package source

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrSnapshotDone ends a source with `snapshot: initial_only`.
var ErrSnapshotDone = errors.New("snapshot done")

// ErrKafkaWentBack tells that Kafka does not hold what it had confirmed: it
// was killed before it ended the transaction, or lost data (an unclean leader
// election, a disk). A fresh source goes on from what it holds, and the Redis
// tells the rest once more, or all of it if the target has applied more (lost.go).
var ErrKafkaWentBack = errors.New("the topic does not hold what Kafka had confirmed")

// anew is what to do when nothing but a fresh copy helps.
func (c *Config) anew() string {
	return fmt.Sprintf("start the link anew: stop twinlog, empty the target, delete the link's topics and the keys __twinlog:%s:* at both sites, run", c.Link)
}

// TooBigError tells that one event exceeds what the topic takes (G5).
type TooBigError struct {
	Command    string // empty for a value of the snapshot
	Type       string
	DB         int32
	Key        string // shortened
	Size       int    // of the event; 0: not known, it was not read to its end
	Limit      int
	ReplOffset int64
	Group      bool // a whole value in parts exceeds max_transaction_bytes
}

func (e *TooBigError) Error() string {
	if e.Group {
		return fmt.Sprintf("the value of key %q in db %d has to be read at one moment, and its %d bytes are more than max_transaction_bytes (%d): raise limits.max_transaction_bytes and start twinlog again, or make the key smaller and resume",
			e.Key, e.DB, e.Size, e.Limit)
	}
	what := "the " + e.Type + " value"
	if e.Command != "" {
		what = e.Command
	}
	size := ""
	if e.Size > 0 {
		size = fmt.Sprintf(" of %d bytes", e.Size)
	}
	smaller := ", or make the key smaller at its origin and resume"
	if e.Command != "" { // it is in the stream for good
		smaller = ""
	}
	return fmt.Sprintf("%s of key %q in db %d (replication offset %d) makes an event%s that is larger than max_event_bytes (%d): raise limits.max_event_bytes, and the topic's max.message.bytes above it, and start twinlog again%s",
		what, e.Key, e.DB, e.ReplOffset, size, e.Limit, smaller)
}

// TakenOverError tells that another process publishes this source's events
// now: this one must not go on.
type TakenOverError struct{ Topic, Instance string }

func (e *TakenOverError) Error() string {
	return fmt.Sprintf("another twinlog (%s) publishes to %s now: stop one of the two, then resume the other if it does not run", e.Instance, e.Topic)
}

// GapError tells that the Redis refused to continue from the position (G5).
type GapError struct {
	Site, Topic string
	Replid      string
	ReplOffset  int64
}

func (e *GapError) Error() string {
	return fmt.Sprintf("the Redis at site %s does not continue from %s:%d any more (its backlog was overrun, it restarted, or it failed over): changes since then are not in %s. "+
		"on_gap is fail: `twinlog resume source-%s --snapshot` goes on with a snapshot of all that is there now. A larger repl-backlog-size at the site makes this rarer",
		e.Site, e.Replid, e.ReplOffset, e.Topic, e.Site)
}

// SpoolError tells that the spool's disk refuses to work. Nothing is lost by
// it: what it does not take stays in memory, what it does not give back is not
// published.
type SpoolError struct {
	Err    error  // names the file
	Resume string // the connector to resume, when a file cannot be read back
}

func (e *SpoolError) Error() string {
	remedy := "let the user who runs twinlog write there, or name another directory in spool.dir and start twinlog again"
	switch {
	case e.Resume != "":
		remedy = "look after that disk. Nothing of it was published: resume " + e.Resume + ", then the Redis tells it again as far as its backlog reaches"
	case errors.Is(e.Err, syscall.ENOSPC), errors.Is(e.Err, syscall.EDQUOT):
		remedy = "make room there, or lower spool.max_bytes and start twinlog again"
	}
	return fmt.Sprintf("spool: %v: %s", e.Err, remedy)
}

// Unwrap returns what the disk said.
func (e *SpoolError) Unwrap() error { return e.Err }

const maxShownKey = 64

// shown shortens a key for messages.
func shown(key []byte) string { return string(key[:min(len(key), maxShownKey)]) }
