package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/schema"
)

// judge holds a topic against the record of the stream, event by event.
type judge struct {
	site     AuditSite
	recorder *recorder
	end      int64 // replication offset up to which everything must be published
	units    []unit
	decoder  *schema.Decoder
	ledger   transactions

	seq      int64
	epoch    int64
	offset   int64 // replication offset of the last event
	stream   bool  // past the snapshot of this epoch
	keys     map[string]bool
	next     int          // unit that must come next
	at       int          // its change that must come next
	whole    schema.Event // what came of a command in fragments; without one its Op is 0
	steps    [][]byte     // arguments of a command that goes on in further ones; nil without one
	groupID  string
	groupAt  int      // its event that must come next
	producer producer // of the group being read
	sums     auditSums
	wrong    []error
}

// mostWrong ends an audit: what follows is a consequence.
const mostWrong = 20

func newJudge(site AuditSite, r *recorder, end int64) *judge {
	return &judge{site: site, recorder: r, end: end, units: r.recorded(), decoder: schema.NewDecoder(nil), ledger: transactions{}}
}

func (j *judge) blame(r *kgo.Record, format string, args ...any) {
	if len(j.wrong) < mostWrong {
		j.wrong = append(j.wrong, fmt.Errorf("offset %d: %w", r.Offset, fmt.Errorf(format, args...)))
	}
}

// take judges one record.
func (j *judge) take(ctx context.Context, r *kgo.Record) error {
	if r.Attrs.IsControl() {
		j.transactionEnds(r)
		return nil
	}
	var e schema.Event
	if err := j.decoder.Decode(ctx, r.Value, &e); err != nil {
		return fmt.Errorf("offset %d: %w", r.Offset, err)
	}
	if e.Seq != j.seq+1 {
		j.blame(r, "seq %d follows %d", e.Seq, j.seq)
	}
	j.seq = e.Seq
	j.record(r, &e)
	if e.Source.Epoch == j.epoch && e.Source.ReplOffset < j.offset {
		j.blame(r, "replication offset %d follows %d", e.Source.ReplOffset, j.offset)
	}
	j.offset = e.Source.ReplOffset
	switch {
	case e.Op == schema.OpControl && e.Command == schema.ValueDue:
		return j.change(ctx, r, &e)
	case e.Op == schema.OpControl:
		j.control(r, &e)
	case e.Source.Snapshot != "false":
		j.snapshot(r, &e)
	default:
		return j.change(ctx, r, &e)
	}
	return nil
}

// record checks what every record must have.
func (j *judge) record(r *kgo.Record, e *schema.Event) {
	if e.Origin != j.site.Name {
		j.blame(r, "origin %q, want %q", e.Origin, j.site.Name)
	}
	if got := header(r, schema.HeaderOrigin); got != e.Origin {
		j.blame(r, "header %s is %q, the event's origin %q", schema.HeaderOrigin, got, e.Origin)
	}
	if got := header(r, schema.HeaderOp); got != string(e.Op) {
		j.blame(r, "header %s is %q, the event's op %q", schema.HeaderOp, got, e.Op)
	}
	if !bytes.Equal(r.Key, e.Key) || (r.Key == nil) != (e.Key == nil) {
		j.blame(r, "the record's key is %q, the event's %q", r.Key, e.Key)
	}
	if err := j.ledger.add(r, e.Seq); err != nil {
		j.blame(r, "%w", err)
	}
}

func (j *judge) transactionEnds(r *kgo.Record) {
	seen, err := j.ledger.end(r)
	if err != nil {
		j.blame(r, "%w", err)
	}
	if seen {
		j.sums.transactions++
	}
	if j.at > 0 && r.ProducerID == j.producer.id { // the epoch may have been raised by the end itself
		j.blame(r, "group %s is split: its Kafka transaction ends after %d of %d events", j.groupID, j.at, len(j.units[j.next].changes))
	}
}

// control follows where a source says that it stands.
func (j *judge) control(r *kgo.Record, e *schema.Event) {
	switch {
	case e.Source.Epoch != j.epoch:
		j.begin(e)
	case e.Source.ReplOffset <= j.recorder.start:
	case j.stream && j.missing(e.Source.ReplOffset):
		j.blame(r, "%s at replication offset %d, but the unit at %d was not published whole: %s", e.Command, e.Source.ReplOffset, j.units[j.next].offset, j.units[j.next].changes[j.at])
	}
	switch e.Command {
	case schema.SnapshotBegin:
		j.stream, j.keys = false, map[string]bool{}
	case schema.SnapshotEnd:
		j.stream = true
	case schema.Heartbeat:
		if !j.stream {
			j.blame(r, "HEARTBEAT inside a snapshot")
		}
	}
}

// begin starts an epoch: from here on every unit behind e's place must come.
func (j *judge) begin(e *schema.Event) {
	j.epoch, j.stream, j.at = e.Source.Epoch, e.Command != schema.SnapshotBegin, 0
	j.next = j.indexBehind(e.Source.ReplOffset)
}

func (j *judge) snapshot(r *kgo.Record, e *schema.Event) {
	j.sums.snapshot++
	if j.stream {
		return // a refresh
	}
	if e.Op != schema.OpValue || e.Part.Set && !e.Part.Last {
		return
	}
	id := fmt.Sprintf("%d %q", e.DB, e.Key)
	if j.keys[id] {
		j.blame(r, "key %q of db %d is twice in the snapshot", e.Key, e.DB)
	}
	j.keys[id] = true
}

// change judges an event of the stream.
func (j *judge) change(ctx context.Context, r *kgo.Record, e *schema.Event) error {
	at := e.Source.ReplOffset
	if err := j.catchUp(ctx, at); err != nil {
		return err
	}
	j.sums.events++
	if at <= j.recorder.start {
		return nil // published before the recording began
	}
	if !j.stream || e.Source.Epoch != j.epoch {
		j.blame(r, "%s of epoch %d in epoch %d, outside its stream", e.Command, e.Source.Epoch, j.epoch)
		return nil
	}
	j.skipSilent()
	if j.next >= len(j.units) || j.units[j.next].offset != at {
		j.misplaced(r, e)
		j.next, j.at = j.indexBehind(at), 0
		return nil
	}
	u := &j.units[j.next]
	begins := j.steps == nil
	goesOn := j.step(e, u.changes[j.at])
	j.group(r, e, u, begins, goesOn)
	if goesOn {
		return nil
	}
	if e.Part.Set {
		if e = j.join(r, e); e == nil {
			return nil
		}
	}
	if got := canonicalChange(e); got != u.changes[j.at] && !isSorted(e, u.changes[j.at]) {
		j.blame(r, "change %d of the unit at replication offset %d is\n  %s, want\n  %s", j.at, at, got, u.changes[j.at])
	}
	if j.at++; j.at == len(u.changes) {
		j.next, j.at = j.next+1, 0
	}
	return nil
}

// isSorted tells whether e says that a value follows in the place of want, which
// is a SORT … STORE of its key: all that a one-way link carries so.
func isSorted(e *schema.Event, want string) bool {
	sort := schema.Event{Op: schema.OpWrite, DB: e.DB, Command: "SORT", Key: e.Key}
	return e.Command == schema.ValueDue && strings.HasPrefix(want, canonicalChange(&sort)+" ")
}

// step puts together a command that makes one key of many others in several:
// each further one makes it of itself and some more. It tells whether want
// goes on behind e, and makes the last one the whole command.
func (j *judge) step(e *schema.Event, want string) (goesOn bool) {
	if e.Command != "SUNIONSTORE" {
		return false
	}
	whole := *e
	if j.steps != nil && len(e.Args) > 2 && bytes.Equal(e.Args[0], e.Key) && bytes.Equal(e.Args[1], e.Key) {
		whole.Args = slices.Concat(j.steps, e.Args[2:])
	}
	j.steps = nil
	if strings.HasPrefix(want, canonicalChange(&whole)+" ") {
		for _, a := range whole.Args {
			j.steps = append(j.steps, bytes.Clone(a))
		}
		return true
	}
	e.Args = whole.Args
	return false
}

// join puts a command's fragments together and returns it with the last one.
func (j *judge) join(r *kgo.Record, e *schema.Event) *schema.Event {
	w := &j.whole
	if e.Part.Index == 0 {
		*w = *e
		w.Args, w.Key, w.OtherKeys = nil, bytes.Clone(e.Key), nil
		for _, k := range e.OtherKeys {
			w.OtherKeys = append(w.OtherKeys, bytes.Clone(k))
		}
	}
	for i, a := range e.Args {
		switch at := int(e.Part.Arg) + i; at {
		case len(w.Args):
			w.Args = append(w.Args, bytes.Clone(a))
		case len(w.Args) - 1:
			w.Args[at] = append(w.Args[at], a...)
		default:
			j.blame(r, "fragment %d of %s begins with argument %d behind %d", e.Part.Index, e.Command, at, len(w.Args))
		}
	}
	if !e.Part.Last {
		return nil
	}
	w.Part = schema.OptPart{}
	return w
}

// group checks that the events of one unit are one group.
func (j *judge) group(r *kgo.Record, e *schema.Event, u *unit, begins, goesOn bool) {
	if j.at == 0 && begins && (!e.Part.Set || e.Part.Index == 0) {
		j.groupID, j.producer, j.groupAt = strconv.FormatInt(e.Seq, 10), producerOf(r), 0
	}
	index := j.groupAt
	j.groupAt++
	last := j.at == len(u.changes)-1 && (!e.Part.Set || e.Part.Last) && !goesOn
	t, size := e.Transaction, len(u.changes)
	switch {
	case last && index == 0 && !t.Set:
	case !t.Set:
		j.blame(r, "event %d of the %d changes of the unit at replication offset %d is in no group", index, size, u.offset)
	case string(t.ID) != j.groupID || int(t.Index) != index || t.Last != last:
		j.blame(r, "group %q, index %d, last %v; want %q, %d, %v", t.ID, t.Index, t.Last, j.groupID, index, last)
	case producerOf(r) != j.producer:
		j.blame(r, "group %q is split over two Kafka transactions", t.ID)
	}
}

// misplaced tells how an event's unit is not the one that must come.
func (j *judge) misplaced(r *kgo.Record, e *schema.Event) {
	at := e.Source.ReplOffset
	i, found := slices.BinarySearchFunc(j.units, at, func(u unit, at int64) int { return int(u.offset - at) })
	switch {
	case !found:
		j.blame(r, "%s %q: no unit ends at replication offset %d", e.Command, e.Key, at)
	case j.units[i].echo && len(j.units[i].changes) == 0:
		j.blame(r, "an echo: %s of the unit at replication offset %d, which the link's own sink wrote", canonicalChange(e), at)
	case len(j.units[i].changes) == 0:
		j.blame(r, "%s of the unit at replication offset %d, which holds nothing to publish", canonicalChange(e), at)
	case i < j.next:
		j.blame(r, "the unit at replication offset %d is published again: %s", at, canonicalChange(e))
	default:
		j.blame(r, "the unit at replication offset %d is missing: %s", j.units[j.next].offset, j.units[j.next].changes[j.at])
	}
}

// missing tells whether something up to a replication offset is not published.
func (j *judge) missing(upTo int64) bool {
	j.skipSilent()
	return j.next < len(j.units) && j.units[j.next].offset <= upTo
}

// skipSilent passes the units of which nothing must be published.
func (j *judge) skipSilent() {
	for j.next < len(j.units) && len(j.units[j.next].changes) == 0 {
		j.next++
	}
}

// indexBehind returns the first unit that ends behind a replication offset.
func (j *judge) indexBehind(offset int64) int {
	i, _ := slices.BinarySearchFunc(j.units, offset+1, func(u unit, at int64) int { return int(u.offset - at) })
	return i
}

// catchUp waits for the recorder to have read what the source has published.
func (j *judge) catchUp(ctx context.Context, offset int64) error {
	if n := len(j.units); n > 0 && j.units[n-1].offset >= offset {
		return nil
	}
	if err := j.recorder.await(ctx, offset); err != nil {
		return err
	}
	j.units = j.recorder.recorded()
	return nil
}

// complete tells whether everything up to the end is published, and else why not.
func (j *judge) complete() error {
	switch {
	case j.epoch == 0:
		return errors.New("no event yet")
	case !j.stream:
		return errors.New("the snapshot is not complete")
	case j.missing(j.end):
		return fmt.Errorf("the unit at replication offset %d is missing: %s", j.units[j.next].offset, j.units[j.next].changes[j.at])
	}
	return nil
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
