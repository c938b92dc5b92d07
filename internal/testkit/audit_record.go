package testkit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"twinlog/internal/command"
	"twinlog/offsets"
	"twinlog/schema"
)

// recorder keeps what of a stream must be published, unit by unit.
type recorder struct {
	addr     string
	classify *classifier
	start    int64 // recording begins behind this replication offset
	cancel   context.CancelFunc
	done     chan struct{}

	mu     sync.Mutex
	offset int64  // read up to here
	units  []unit // that hold commands
	echoes int
	cut    error // why the link was joined again the last time
	err    error // ended the recording
}

// unit is what must be published of one unit of the stream.
type unit struct {
	offset  int64
	echo    bool     // written by the link's own sink
	changes []string // canonical
}

func startRecorder(ctx context.Context, addr string, c *classifier) (*recorder, error) {
	link, err := openReplica(ctx, addr, "", 0, 0)
	if err != nil {
		return nil, err
	}
	own, cancel := context.WithCancel(context.Background())
	r := &recorder{addr: addr, classify: c, start: link.offset, offset: link.offset, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		err := r.run(own, link)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = err
	}()
	return r, nil
}

// close ends the recording.
func (r *recorder) close() {
	r.cancel()
	<-r.done
}

// run records until ctx is done. A link that is cut is joined again where it
// ended.
func (r *recorder) run(ctx context.Context, link *replica) error {
	for {
		stop := context.AfterFunc(ctx, func() { link.conn.Close() })
		err := r.record(link)
		stop()
		link.conn.Close()
		if err != nil {
			return err
		}
		for {
			again, err := openReplica(ctx, r.addr, link.replid, link.offset, link.db)
			if err == nil {
				link = again
				break
			}
			if strings.Contains(err.Error(), "FULLRESYNC") {
				return fmt.Errorf("the recording has a gap: %w", err)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pollEvery):
			}
		}
	}
}

// record reads until the link is cut. Only a unit that it does not
// understand is an error.
func (r *recorder) record(link *replica) error {
	for {
		raw, err := link.next()
		if err != nil {
			r.mu.Lock()
			r.cut = err
			r.mu.Unlock()
			return nil //nolint:nilerr // a cut link is joined again
		}
		u, err := r.classify.unit(raw)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.offset = raw.offset
		if len(raw.commands) > 0 {
			r.units = append(r.units, u)
		}
		if u.echo {
			r.echoes++
		}
		r.mu.Unlock()
	}
}

// await waits until the stream was read up to offset.
func (r *recorder) await(ctx context.Context, offset int64) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		r.mu.Lock()
		at, cut, err := r.offset, r.cut, r.err
		r.mu.Unlock()
		switch {
		case at >= offset:
			return nil
		case err != nil:
			return fmt.Errorf("recording the stream of %s, at replication offset %d: %w", r.addr, at, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("recording the stream of %s up to replication offset %d, at %d: %w", r.addr, offset, at, errors.Join(ctx.Err(), cut))
		case <-tick.C:
		}
	}
}

// recorded returns the units so far.
func (r *recorder) recorded() []unit {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.units)
}

// sums tells how many units there were, and how many the link's own sink wrote.
func (r *recorder) sums() (units, echoes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.units), r.echoes
}

// classifier turns raw units into what must be published of them.
type classifier struct {
	mark   string // key that the link's sink writes at this site
	events []schema.Event
}

func newClassifier(link string, s AuditSite) *classifier {
	return &classifier{mark: offsets.MarkKey(link, s.Peer+"-to-"+s.Name, "0")}
}

func (c *classifier) unit(raw rawUnit) (unit, error) {
	u := unit{offset: raw.offset, echo: slices.ContainsFunc(raw.commands, c.isMark)}
	for _, cmd := range raw.commands {
		if u.echo && !ownDeletion(cmd.args) {
			continue
		}
		var err error
		if c.events, err = command.AppendChanges(c.events[:0], cmd.db, cmd.args); err != nil {
			return u, fmt.Errorf("unit at replication offset %d: %w", raw.offset, err)
		}
		for i := range c.events {
			if !offsets.IsReserved(c.events[i].Key) {
				u.changes = append(u.changes, canonicalChange(&c.events[i]))
			}
		}
	}
	return u, nil
}

func (c *classifier) isMark(cmd rawCommand) bool {
	return len(cmd.args) >= 3 && strings.EqualFold(string(cmd.args[0]), "SET") && string(cmd.args[1]) == c.mark
}

// ownDeletion tells what a site deleted by itself inside an applied block
// (apply-rules 2) from what the sink did: a sink names a key too many.
func ownDeletion(args [][]byte) bool {
	switch strings.ToUpper(string(args[0])) {
	case "DEL", "UNLINK":
		return len(args) == 2 && !offsets.IsReserved(args[1])
	case "HDEL":
		return len(args) == 3 || !bytes.Equal(args[2], args[len(args)-1])
	}
	return false
}

// canonicalChange tells an event apart from every other change. It leaves out
// what the source adds: numbers and times.
func canonicalChange(e *schema.Event) string {
	b := fmt.Appendf(nil, "%c db %d %s", e.Op, e.DB, e.Command)
	b = appendShort(append(b, " key "...), e.Key)
	for _, k := range e.OtherKeys {
		b = appendShort(append(b, " and "...), k)
	}
	for i, a := range e.Args {
		if i == 2 && e.Command == "RESTORE" {
			continue // its payload, or the value read from it
		}
		b = appendShort(append(b, ' '), a)
	}
	return string(b)
}

// appendShort quotes an argument; a long one is told by its hash.
func appendShort(b, arg []byte) []byte {
	if len(arg) <= 64 {
		return fmt.Appendf(b, "%q", arg)
	}
	sum := sha256.Sum256(arg)
	return fmt.Appendf(b, "%q…(%d bytes, %x)", arg[:16], len(arg), sum[:8])
}
