package sink

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"twinlog/internal/command"
	"twinlog/offsets"
	"twinlog/schema"
)

// pastExpiry is how long a value lives at the target whose expiry has passed
// already: the origin's own deletion or renewal follows in the topic, and
// only the origin decides (apply-rules 1).
const pastExpiry = 60 * time.Second

// translator turns events into commands for the target.
type translator struct {
	grace int64 // ms
	now   func() time.Time
	v7    bool   // the target is Redis 7.0 or newer, or Valkey
	mark  string // key of this sink's mark

	expiresFields bool // the target knows HPEXPIREAT: Redis 7.4, Valkey 9
	hsetex        bool // and HSETEX: Redis 8.0, Valkey 9
}

// expiry returns when a value expires at the target: later than at its
// origin by the grace, and never in the past.
func (t *translator) expiry(ms int64) int64 {
	now := t.now().UnixMilli()
	if ms <= now {
		return now + pastExpiry.Milliseconds()
	}
	const end = int64(1)<<62 - 1 // Redis refuses times that overflow when added to
	return min(ms, end-t.grace) + t.grace
}

// add appends the commands of one event to b. Control events append nothing
// here; the caller knows SNAPSHOT_END.
func (t *translator) add(b *batch, e *schema.Event, offset int64) error {
	switch e.Op {
	case schema.OpWrite:
		return t.write(b, e, offset)
	case schema.OpDelete:
		t.remove(b, e, offset, e.Key)
	case schema.OpValue:
		return t.value(b, e, offset)
	case schema.OpTruncate:
		return t.truncate(b, e, offset)
	case schema.OpMessage, schema.OpFunction:
		b.command(e, offset, e.DB, e.Command, 1+len(e.Args))
		b.args(e.Args)
	case schema.OpControl:
		switch e.Command {
		case schema.Heartbeat, schema.SnapshotBegin, schema.SnapshotEnd, schema.SnapshotRequest, schema.ValueDue, schema.EventsLost:
		default:
			return fmt.Errorf("control event %s is not known to this program: run the newer twinlog that wrote it", e.Command)
		}
	default:
		return fmt.Errorf("op %q is not known to this program: run the newer twinlog that wrote it", byte(e.Op))
	}
	return nil
}

// write applies a command in effect form. HDEL names its first field twice,
// so that the deletion is not taken for the target's own (apply-rules 2).
func (t *translator) write(b *batch, e *schema.Event, offset int64) error {
	if len(e.Args) == 0 {
		return fmt.Errorf("%s without arguments", e.Command)
	}
	if e.Value.Kind != schema.KindNone {
		return t.restored(b, e, offset)
	}
	if e.Command == "HSETEX" && !t.hsetex {
		if done, err := t.withoutHSETEX(b, e, offset); done || err != nil {
			return err
		}
	}
	if !t.v7 {
		e = withoutCounters(e)
	}
	n := 1 + len(e.Args)
	hdel := e.Command == "HDEL" && len(e.Args) > 1
	if hdel {
		n++
	}
	at, expires := command.ExpiryArg(e.Command, e.Args)
	b.command(e, offset, e.DB, e.Command, n)
	for i, a := range e.Args {
		if expires && i == at {
			ms, err := strconv.ParseInt(string(a), 10, 64)
			if err != nil {
				return fmt.Errorf("%s: %q is not a time in ms", e.Command, a)
			}
			if ms > 0 || e.Command != "RESTORE" { // RESTORE: 0 is none
				b.number(t.expiry(ms))
				continue
			}
		}
		b.arg(a)
	}
	if hdel {
		b.arg(e.Args[1])
	}
	return nil
}

// withoutCounters leaves out the counters of streams and groups, which servers
// before 7.0 do not have. Redis 7.2 and newer send one with each XREADGROUP.
func withoutCounters(e *schema.Event) *schema.Event {
	keep := len(e.Args)
	switch {
	case e.Command == "XSETID":
		keep = min(keep, 2)
	case e.Command == "XGROUP" && keep > 2 && strings.EqualFold(string(e.Args[keep-2]), "ENTRIESREAD"):
		keep -= 2
	}
	cut := *e
	cut.Args = e.Args[:keep]
	return &cut
}

// restored applies a RESTORE whose payload the source has read.
func (t *translator) restored(b *batch, e *schema.Event, offset int64) error {
	if e.Command != "RESTORE" || len(e.Args) < 2 {
		return fmt.Errorf("%s with a value is not known to this program: run the newer twinlog that wrote it", e.Command)
	}
	whole := *e
	if at, expires := command.ExpiryArg(e.Command, e.Args); expires {
		ms, err := strconv.ParseInt(string(e.Args[at]), 10, 64)
		if err != nil {
			return fmt.Errorf("RESTORE: %q is not a time in ms", e.Args[at])
		}
		whole.ExpireAt = schema.OptInt64{Set: true, Int64: ms}
	}
	return t.value(b, &whole, offset)
}

// remove deletes a key, with a second one that never exists, so that the
// deletion is not taken for the target's own expiry (apply-rules 2).
func (t *translator) remove(b *batch, e *schema.Event, offset int64, key []byte) {
	name := "UNLINK"
	if e.Command == "DEL" {
		name = "DEL"
	}
	b.command(e, offset, e.DB, name, 3)
	b.arg(key)
	b.text(offsets.Nothing)
}

// truncate applies FLUSHDB, FLUSHALL and SWAPDB. They may take the mark away
// or move it, so it is written once more behind them.
func (t *translator) truncate(b *batch, e *schema.Event, offset int64) error {
	b.command(e, offset, e.DB, e.Command, 1+len(e.Args))
	b.args(e.Args)
	b.wipes = true
	if e.Command != "SWAPDB" {
		return nil
	}
	if len(e.Args) != 2 {
		return fmt.Errorf("SWAPDB with %d arguments", len(e.Args))
	}
	for i, a := range e.Args {
		other, err := strconv.ParseInt(string(e.Args[1-i]), 10, 32)
		if err != nil {
			return fmt.Errorf("SWAPDB: %q is not a database", e.Args[1-i])
		}
		if string(a) == "0" && other != 0 { // the mark of this block went there
			b.command(e, offset, int32(other), "DEL", 2)
			b.text(t.mark)
			break
		}
	}
	return nil
}
