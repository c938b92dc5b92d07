package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"twinlog/internal/command"
	"twinlog/internal/kafka"
	"twinlog/offsets"
	"twinlog/schema"
)

// With `errors: dead_letter`, an event that cannot be applied and never could
// be is set aside: its record is written to the dead-letter topic, as it is,
// and the keys that it writes are quarantined. Kafka has it before the mark
// passes it. What a command could not do inside an EXEC is known only when the
// mark has passed it: so the same EXEC notes that something failed, and the
// next session sets aside what it was (reckon.go).

// DeadLetter says where events go that cannot be applied.
type DeadLetter struct {
	Topic    string // empty: they stop the sink
	MaxBytes int32  // of the largest record
}

// Names of the headers of a dead letter, as Kafka Connect writes them.
const (
	headerTopic     = "__connect.errors.topic"
	headerPartition = "__connect.errors.partition"
	headerOffset    = "__connect.errors.offset"
	headerConnector = "__connect.errors.connector.name"
	headerTask      = "__connect.errors.task.id"
	headerStage     = "__connect.errors.stage"
	headerClass     = "__connect.errors.class.name"
	headerException = "__connect.errors.exception.class.name"
	headerMessage   = "__connect.errors.exception.message"
)

// cause is the kind of reason for which an event is set aside.
type cause string

const (
	causeUnreadable  cause = "unreadable"   // the record cannot be decoded
	causeRepeated    cause = "repeated_seq" // its seq was there before
	causeMalformed   cause = "malformed"    // no command can be made of it
	causeTooLarge    cause = "too_large"    // for one EXEC of the target
	causeRefused     cause = "refused"      // the target does not take the command
	causeNoEffect    cause = "no_effect"    // the command failed at the target
	causeUncertain   cause = "uncertain"    // the worker was killed before it read whether the command failed
	causeQuarantined cause = "quarantined"  // it touches a quarantined key
)

// stage is where Kafka Connect would have met it.
func (c cause) stage() string {
	if c == causeUnreadable {
		return "VALUE_CONVERTER"
	}
	return "TASK_PUT"
}

// reason is why an event is set aside.
type reason struct {
	cause cause
	text  string
}

// deadLetters is where one session puts what cannot be applied.
type deadLetters struct {
	*quarantine
	sink  *Sink
	out   letterBox
	touch command.Touch
}

// letterBox is where letters are written: *kafka.Letters. Write calls done,
// on any goroutine, when the record is acknowledged or has failed.
type letterBox interface {
	Write(ctx context.Context, r *kgo.Record, done func(error))
	Close()
}

// newDeadLetters reads the quarantine at the target and sets aside what failed
// in an EXEC before this session.
func (s *Sink) newDeadLetters(ctx context.Context, t *target, mark offsets.Mark) (*deadLetters, error) {
	if s.cfg.DeadLetter.Topic == "" {
		return nil, s.requireNoQuarantine(ctx, t)
	}
	q, open, err := t.readQuarantine(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.putBack(ctx, t, q, mark); err != nil {
		return nil, err
	}
	out, err := kafka.NewLetters(kafka.LettersConfig{
		Client: s.cfg.Kafka, Metrics: s.cfg.Clients, ClientID: s.cfg.Group + ".dead-letter", Topic: s.cfg.DeadLetter.Topic, MaxBytes: s.cfg.DeadLetter.MaxBytes,
	})
	if err != nil {
		return nil, err
	}
	d := &deadLetters{quarantine: q, sink: s, out: out}
	if err := d.reckon(ctx, t, open, mark); err != nil {
		d.close()
		return nil, err
	}
	maps.DeleteFunc(s.refused, func(offset int64, _ string) bool { return offset <= mark.Offset })
	s.forgetLetters(mark)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quarantine = q
	return d, nil
}

// putBack restores keys to the quarantine that this process knows of and that
// its hash lacks: FLUSHDB or SWAPDB at the target have taken it, or have brought
// an old one, whatever database the keys are in.
func (s *Sink) putBack(ctx context.Context, t *target, q *quarantine, mark offsets.Mark) error {
	if s.quarantine == nil || s.quarantine.swapped > mark.Offset && len(q.keys) > 0 { // what is known is of what comes again
		return nil
	}
	back := 0
	for _, p := range s.quarantine.sorted() {
		h := s.quarantine.keys[p]
		if _, there := q.keys[p]; there || h.offset > mark.Offset { // its event comes again
			continue
		}
		if err := t.simple(ctx, "HSET", s.cfg.quarantineKey(), p.member(), h.text()); err != nil {
			return err
		}
		q.put(p, h)
		back++
	}
	if back > 0 {
		s.cfg.Log.Warn("keys in quarantine were gone at the target and are put back: repair them, also where their database was emptied", "site", s.cfg.Target, "keys", back)
	}
	return nil
}

// requireNoQuarantine refuses a target with keys that were quarantined when
// the direction had dead letters.
func (s *Sink) requireNoQuarantine(ctx context.Context, t *target) error {
	reply, err := t.do(ctx, "EXISTS", s.cfg.quarantineKey())
	if err != nil || reply.Int == 0 {
		return err
	}
	return fmt.Errorf("site %s has keys in quarantine from when this direction had `errors: dead_letter`, and their events would be applied to values that they do not build on: "+
		"set it again, repair the keys (`twinlog snapshot -c FILE --direction %s --match KEY`), and then change it; if these keys may differ, delete the key %s there",
		s.cfg.Target, s.cfg.Direction, s.cfg.quarantineKey())
}

func (d *deadLetters) close() {
	if d != nil {
		d.out.Close()
	}
}

func (c *Config) quarantineKey() string {
	return offsets.QuarantineKey(c.Link, c.Direction, c.Lane)
}

// readQuarantine reads the hash at the target.
func (t *target) readQuarantine(ctx context.Context) (*quarantine, *suspect, error) {
	key := t.cfg.quarantineKey()
	reply, err := t.do(ctx, "HGETALL", key)
	if err != nil {
		return nil, nil, err
	}
	q := &quarantine{keys: map[place]held{}}
	var open *suspect
	for i := 0; i+1 < len(reply.Elems); i += 2 {
		member, text := string(reply.Elems[i].Str), string(reply.Elems[i+1].Str)
		switch member {
		case fieldErrors:
		case fieldSuspect:
			open, err = parseSuspect(text)
		default:
			err = q.load(member, text)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("target %s, key %s: %w", t.cfg.Target, key, err)
		}
	}
	return q, open, nil
}

// touched makes d.touch what e reads and writes. Of a command that this
// program does not know, it is what the event names.
func (d *deadLetters) touched(e *schema.Event) *command.Touch {
	if err := d.touch.Of(e); err != nil {
		d.touch = command.Touch{Keys: []command.KeyTouch{{DB: e.DB, Name: e.Key, Written: true}}}
		for _, k := range e.OtherKeys {
			d.touch.Keys = append(d.touch.Keys, command.KeyTouch{DB: e.DB, Name: k, Written: true})
		}
	}
	return &d.touch
}

// concernsKeys tells whether an event may be set aside: what it would have
// done is known to concern its keys alone. The loss of any other event makes a
// whole database differ, or all of what follows.
func concernsKeys(op schema.Op) bool {
	switch op {
	case schema.OpValue, schema.OpWrite, schema.OpDelete, schema.OpMessage, schema.OpFunction:
		return true
	case schema.OpTruncate, schema.OpControl:
	}
	return false
}

// tooMany tells that the quarantine would grow above its bound.
func (d *deadLetters) tooMany(h held) error {
	cfg := &d.sink.cfg
	return fmt.Errorf("more than %d keys, or %d bytes of their names, would be quarantined at site %s, the last one because of seq %d, offset %d: %s. "+
		"See topic %s for the reasons, mend the cause, and repair the keys: `twinlog snapshot -c FILE --direction %s --match PATTERN`, then resume",
		mostQuarantined, mostQuarantinedBytes, cfg.Target, h.seq, h.offset, h.reason, cfg.DeadLetter.Topic, cfg.Direction)
}

// write sends a record to the dead-letter topic. What it returns tells when
// Kafka has it. A record that this process has written already, before the
// target could be written, is not written again.
func (d *deadLetters) write(ctx context.Context, r *kgo.Record, seq int64, why reason) <-chan error {
	done := make(chan error, 1)
	if d.sink.isLettered(r.Offset) {
		done <- nil
		return done
	}
	letter := &kgo.Record{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, Headers: append(slices.Clone(r.Headers), d.headers(r, why)...)}
	key := shown(r.Key)
	d.out.Write(ctx, letter, func(err error) {
		if err == nil {
			d.sink.cfg.Metrics.deadLetters.add(1)
			d.sink.lettered(key, seq, r.Offset, why)
		}
		done <- err
	})
	return done
}

func (d *deadLetters) headers(r *kgo.Record, why reason) []kgo.RecordHeader {
	cfg := &d.sink.cfg
	h := func(name, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: name, Value: []byte(value)} }
	return []kgo.RecordHeader{
		h(headerTopic, r.Topic), h(headerPartition, strconv.Itoa(int(r.Partition))), h(headerOffset, strconv.FormatInt(r.Offset, 10)),
		h(headerConnector, "sink-"+cfg.Target), h(headerTask, "0"), h(headerStage, why.cause.stage()),
		h(headerClass, "twinlog/sink"), h(headerException, string(why.cause)), h(headerMessage, why.text),
	}
}

// enter adds what quarantines a key to a batch. On a two-way link the key must
// not expire meanwhile: its deletion would be taken for one that has seen what
// was set aside, and take that away at the other site (G8).
func (d *deadLetters) enter(b *batch, e *schema.Event, offset int64, p place, h held) {
	b.keep(e, offset, "HSET", d.sink.cfg.quarantineKey(), p.member(), h.text())
	if d.sink.cfg.Ledger != nil && p.db != schema.NoDB {
		b.ownIn(e, offset, p.db, "PERSIST", p.key)
	}
}

// await waits until Kafka has all of the letters.
func (d *deadLetters) await(ctx context.Context, letters []<-chan error) error {
	if len(letters) == 0 {
		return nil
	}
	defer d.sink.tellIfSlow("Kafka has not taken what goes to " + d.sink.cfg.DeadLetter.Topic + " yet")()
	for _, done := range letters {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-done:
			if err != nil {
				return err
			}
		}
	}
	d.sink.hook("letters-written")
	return nil
}

// tellIfSlow shows what is waited for if done is not called within a second.
func (s *Sink) tellIfSlow(what string) (done func()) {
	slow := time.AfterFunc(time.Second, func() { s.setWaiting(what) })
	return func() {
		if !slow.Stop() {
			s.setWaiting("")
		}
	}
}

// lettersLogged is how many dead letters are logged in lettersPeriod.
const (
	lettersLogged = 20
	lettersPeriod = 10 * time.Second
)

// letterLog bounds how much is logged.
type letterLog struct {
	since        time.Time
	shown, quiet int
}

// pass tells whether one more may be logged, and how many were not since.
func (l *letterLog) pass(now time.Time) (ok bool, quiet int) {
	if now.Sub(l.since) >= lettersPeriod {
		l.since, l.shown = now, 0
	}
	if l.shown == lettersLogged {
		l.quiet++
		return false, 0
	}
	l.shown++
	quiet, l.quiet = l.quiet, 0
	return true, quiet
}

// lettered tells of a record that the dead-letter topic has now.
func (s *Sink) lettered(key string, seq, offset int64, why reason) {
	s.mu.Lock()
	ok, quiet := s.letters.pass(time.Now())
	if s.lettersAhead == nil {
		s.lettersAhead = map[int64]struct{}{}
	}
	s.lettersAhead[offset] = struct{}{}
	s.mu.Unlock()
	if ok {
		s.cfg.Log.Warn("an event went to the dead-letter topic", "site", s.cfg.Target, "topic", s.cfg.Topic, "offset", offset, "seq", seq, "key", key,
			"cause", why.cause, "reason", why.text, "not_logged_before", quiet)
	}
}

func (s *Sink) isLettered(offset int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, is := s.lettersAhead[offset]
	return is
}

// forgetLetters forgets those that the mark has passed.
func (s *Sink) forgetLetters(mark offsets.Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.lettersAhead, func(offset int64, _ struct{}) bool { return offset <= mark.Offset })
}

// DeadLetters is how many records went to the dead-letter topic since the
// worker was started.
func (s *Sink) DeadLetters() int64 { return s.cfg.Metrics.deadLetters.n.Load() }

// quarantined is how many keys are quarantined.
func (s *Sink) quarantined() int {
	s.mu.Lock()
	q := s.quarantine
	s.mu.Unlock()
	if q == nil {
		return 0
	}
	return q.size()
}

// Quarantine returns the number of quarantined keys and the last ones, newest
// first.
func (s *Sink) Quarantine() (int, []Quarantined) {
	s.mu.Lock()
	q := s.quarantine
	s.mu.Unlock()
	if q == nil {
		return 0, nil
	}
	return q.size(), q.last(mostShown)
}

// mostShown is how many quarantined keys the status names.
const mostShown = 20

// setAsideError ends a session in which the target refused events or did not
// do what they say: the next one sets them aside. Each tells, by offset, what
// the target answered.
type setAsideError struct {
	refused map[int64]string // nothing took effect
	failed  *failures        // in an EXEC that took effect; nil: none
}

// failures are events that had no effect in an EXEC that took effect.
type failures struct {
	suspect
	answers map[int64]string // what the target said, by offset
}

func (e *setAsideError) Error() string {
	n := len(e.refused)
	if e.failed != nil {
		n += len(e.failed.answers)
	}
	return fmt.Sprintf("%d events cannot be applied and are set aside", n)
}

// aside turns an error into a setAsideError if all that it tells belongs to
// single events; otherwise it returns err.
func (s *Sink) aside(ctx context.Context, t *target, b *batch, err error) error {
	if s.cfg.DeadLetter.Topic == "" {
		return err
	}
	var refused *RefusedError
	var data *DataError
	switch {
	case errors.As(err, &refused):
		return s.refuse(refused.items, err)
	case !errors.As(err, &data) || len(data.fatal) < data.Count-len(data.failed) || b.wipe != nil:
		return err
	case b.adds != nil: // the mark is before it still
		return s.refuse(data.fatal, err)
	}
	answers, ok := answersOf(data.fatal)
	if !ok {
		return err
	}
	s.hook("effect-missing")
	failed := &failures{suspect{from: b.from, offsets: slices.Sorted(maps.Keys(answers))}, answers}
	if noteErr := t.simple(context.WithoutCancel(ctx), "HSET", s.cfg.quarantineKey(), fieldSuspect, failed.text()); noteErr != nil {
		return errors.Join(noteErr, &setAsideError{failed: failed})
	}
	s.hook("effect-noted")
	return &setAsideError{failed: failed}
}

// refuse has the events of items set aside by the next session, unless that
// was tried before: then it returns err.
func (s *Sink) refuse(items []failure, err error) error {
	answers, ok := answersOf(items)
	for offset := range answers {
		_, again := s.refused[offset]
		ok = ok && !again
	}
	if !ok {
		return err
	}
	return &setAsideError{refused: answers}
}

// answersOf gives what the target answered by offset; false if that does not
// belong to the events alone.
func answersOf(items []failure) (map[int64]string, bool) {
	answers := map[int64]string{}
	for _, f := range items {
		if !concernsKeys(f.op) || !belongsToEvent(f.reply) {
			return nil, false
		}
		for offset := f.offset - f.fragments; offset <= f.offset; offset++ {
			if _, there := answers[offset]; !there {
				answers[offset] = f.command + ": " + f.reply
			}
		}
	}
	return answers, len(items) > 0
}

// belongsToEvent tells whether an error reply is about the command and its
// key, not about the server, the user or the connection.
func belongsToEvent(reply string) bool {
	code, _, _ := strings.Cut(reply, " ")
	if _, wait := waitCodes[code]; wait {
		return false
	}
	switch code {
	case "NOPERM", "NOAUTH", "WRONGPASS", "EXECABORT", "NOSCRIPT", "NOPROTO":
		return false
	}
	return !strings.Contains(reply, "user executing the script can't") // how a script is told of NOPERM
}

// take remembers what the next session sets aside.
func (s *Sink) take(e *setAsideError) {
	if s.refused == nil {
		s.refused = map[int64]string{}
	}
	maps.Copy(s.refused, e.refused)
	if e.failed != nil {
		s.failed = e.failed
	}
}
