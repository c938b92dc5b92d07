package sink

import (
	"errors"
	"fmt"
	"strings"

	"twinlog/internal/kafka"
	"twinlog/internal/redis"
	"twinlog/schema"
)

// anew is what to do when nothing but a fresh copy helps.
func (c *Config) anew() string {
	if c.Own == nil {
		origin, _, _ := strings.Cut(c.Direction, "-to-")
		return fmt.Sprintf("`twinlog resync --site %s` empties site %s and fills it again from site %s", c.Target, c.Target, origin)
	}
	return fmt.Sprintf("Start the link anew: stop twinlog, empty the target, delete the link's topics and the keys __twinlog:%s:* at both sites, run", c.Link)
}

// readError explains why the topic cannot be read.
func (c *Config) readError(err error) error {
	var gone *kafka.RangeError
	if errors.As(err, &gone) && gone.BehindEnd() {
		return &displacedError{fmt.Errorf("reading events: %w. %s", err, c.anew())}
	}
	if errors.As(err, &gone) {
		return fmt.Errorf("reading events: %w. %s", err, c.anew())
	}
	return fmt.Errorf("reading %s: %w", c.Topic, err)
}

// DataError tells that commands inside a committed EXEC had no effect: wrong
// type, no such key, not an integer. The rest of the batch took effect.
type DataError struct {
	Target, Topic string
	Seq, Offset   int64
	DB            int32
	Command, Key  string
	Reply         string // of the first one
	Count         int    // how many commands of the batch failed

	Fatal     bool      // not all are conflicts of a key on a two-way link
	failed    []failure // conflicts, on a two-way link
	fatal     []failure // the others, but for those that are no event's
	markMoved bool      // since

	unrecorded string // why the target does not hold this for the next start; empty: it does
}

// failure is one command that had no effect.
type failure struct {
	item
	reply string
}

func (e *DataError) Error() string {
	if e.unrecorded == "" {
		return e.text()
	}
	return e.text() + ". That this happened could not be noted at the target, so a worker that is started anew goes on without a word: " + e.unrecorded
}

func (e *DataError) text() string {
	more := ""
	if e.Count > 1 {
		more = fmt.Sprintf(" (and %d more of the same batch)", e.Count-1)
	}
	what := fmt.Sprintf("topic %s, offset %d (seq %d): %s on key %q in db %d had no effect at site %s: %s%s. ", e.Topic, e.Offset, e.Seq, e.Command, e.Key, e.DB, e.Target, e.Reply, more)
	if strings.HasPrefix(e.Command, restoreOf) {
		return what + fmt.Sprintf("Such a payload takes the module of that type, of a version that reads it: load it at %s (MODULE LIST shows what is there). "+
			"`twinlog resume sink-%s` goes on behind this event, `twinlog snapshot --match KEY` then brings the value", e.Target, e.Target)
	}
	return what + fmt.Sprintf("The key differs between the sites: make it at %s what it is at the origin, then `twinlog resume sink-%s` goes on behind this event", e.Target, e.Target)
}

// restoreOf begins the name of a RESTORE in errors: the type of its payload
// follows.
const restoreOf = "RESTORE ("

// RefusedError tells that the target refused a command before anything took
// effect, and always will: unknown command, wrong arity, no permission.
type RefusedError struct {
	Target, Topic string
	Seq, Offset   int64
	Command, Key  string
	Reply         string

	items []failure // all events of the batch that it refuses; none: no event is to blame
}

func (e *RefusedError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("target %s refuses %s: %s: give its user the right to (see `twinlog precheck`), then resume", e.Target, e.Command, e.Reply)
	}
	return fmt.Sprintf("topic %s, offset %d (seq %d): target %s refuses %s on key %q: %s. Nothing of this batch took effect. "+
		"Upgrade the target to the origin's version, or give its user the right, then resume",
		e.Topic, e.Offset, e.Seq, e.Target, e.Command, e.Key, e.Reply)
}

// repeatedError tells that a seq was there before.
type repeatedError struct{ place, what, remedy string }

func (e *repeatedError) Error() string {
	return e.place + ": " + e.what + ". Nothing of it was applied. " + e.remedy
}

// HaltError repeats, after a restart, what stopped the sink before it: the
// mark has passed that event already.
type HaltError struct{ Text string }

func (e *HaltError) Error() string { return e.Text }

// waitError is a state of the target that heals by itself or by an operator.
type waitError struct {
	text string
	full bool // the target has no memory left
}

func (e *waitError) Error() string { return e.text }

// cutError is a lost connection: what was in flight may have taken effect.
type cutError struct{ err error }

func (e *cutError) Error() string { return e.err.Error() }
func (e *cutError) Unwrap() error { return e.err }

// waitCodes are the replies that mean "not now" (apply-rules 3).
var waitCodes = map[string]string{
	"OOM":         "it is full (maxmemory): free memory there or raise maxmemory",
	"READONLY":    "it is a read-only replica: waiting for a master",
	"LOADING":     "it is loading its data",
	"BUSY":        "a script blocks it (SCRIPT KILL ends one that has not written)",
	"MISCONF":     "it cannot save and refuses writes: see its log and its disk",
	"NOREPLICAS":  "it has fewer replicas than min-replicas-to-write",
	"CLUSTERDOWN": "its cluster is down",
	"MOVED":       "a slot moved",
	"ASK":         "a slot is moving",
	"TRYAGAIN":    "a slot is moving",
	"MASTERDOWN":  "its master is down",
}

// refused judges an error reply to one of the sink's own commands.
func (t *target) refused(command string, err error) error { return t.judgeReply(command, nil, err) }

// refusedItem judges an error reply to an event's command.
func (t *target) refusedItem(it *item, err error) error {
	if it == nil {
		return t.refused("SET", err)
	}
	return t.judgeReply(it.command, it, err)
}

func (t *target) judgeReply(command string, it *item, err error) error {
	var server *redis.ServerError
	if errors.As(err, &server) {
		if why, ok := waitCodes[server.Code]; ok {
			return &waitError{text: fmt.Sprintf("target %s answers %s: %s", t.cfg.Target, server.Code, why), full: server.Code == "OOM"}
		}
	}
	e := &RefusedError{Target: t.cfg.Target, Topic: t.cfg.Topic, Offset: -1, Command: command, Reply: strings.TrimSpace(err.Error())}
	if it != nil {
		e.Seq, e.Offset, e.Key = it.seq, it.offset, shown(it.key)
		e.items = []failure{{*it, e.Reply}}
	}
	return e
}

// healable tells whether going on from the mark may help.
func healable(err error) bool {
	var wait *waitError
	var cut *cutError
	if errors.As(err, &wait) || errors.As(err, &cut) || errors.Is(err, errMarkMoved) || errors.Is(err, errPartsLost) || errors.Is(err, schema.ErrRegistryUnavailable) {
		return true
	}
	return redis.Retryable(err) || kafka.Retryable(err)
}
