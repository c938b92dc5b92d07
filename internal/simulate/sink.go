package simulate

import (
	"bytes"
	"slices"

	"twinlog/internal/command"
	"twinlog/offsets"
	"twinlog/schema"
)

// sink is what a sink has in memory.
type sink struct {
	markKey []byte
	next    int64 // seq of the event that comes next
	plan    *plan
	wiping  *wiping
}

// plan is a batch that was decided and waits for EXEC.
type plan struct {
	mark       int64 // what it writes
	events     []record
	actions    []change
	chunk      int      // keys of a wipe that it ends
	decided    bool     // something depends on what this site has written
	watched    []string // keys
	at         int      // units there were at WATCH
	attachment int64
}

// change is one command of a batch.
type change struct {
	event *schema.Event
	args  [][]byte // nil: a value
}

// wiping is an event that removes keys one by one: FLUSHDB, SNAPSHOT_END.
type wiping struct {
	seq  int64
	keys []string
}

// startSink begins behind the mark.
func (s *site) startSink() {
	s.next, s.plan, s.wiping = s.mark+1, nil, nil
	s.ledger.StartAt(s.mark)
}

// decide makes the plan of up to n groups, or of n keys of a wipe.
func (s *site) decide(n int) error {
	if s.plan != nil || s.wiping == nil && !s.ledger.HasRoom() {
		return nil
	}
	for s.next <= int64(len(s.peer.topic)) && isHeartbeat(&s.peer.topic[s.next-1].Event) { // no mark is written for it
		if err := s.ledger.Heard(s.peer.topic[s.next-1].Seen); err != nil {
			return err
		}
		s.next++
	}
	events := s.batch(n)
	if len(events) == 0 {
		return nil
	}
	p := &plan{events: events, mark: events[len(events)-1].Seq}
	for i := range events {
		p.decided = p.decided || offsets.Decides(&events[i].Event) || wipes(&events[i].Event)
		if err := s.recall(events[i].Seen); err != nil {
			return err
		}
	}
	if p.decided && !s.world.rules.NoFence {
		if err := s.read(everything); err != nil {
			return err
		}
	}
	p.at, p.attachment = len(s.units), s.ledger.Attachment()
	s.plan = p
	if wipes(&events[0].Event) {
		return s.planChunk(p, n)
	}
	return s.planEvents(p)
}

func wipes(e *schema.Event) bool { return e.Op == schema.OpTruncate || isEnd(e) }

// batch is the next n groups. A wipe is a batch of its own.
func (s *site) batch(n int) []record {
	rest := s.peer.topic[min(s.next-1, int64(len(s.peer.topic))):]
	end := 0
	for i := range rest {
		if wipes(&rest[i].Event) {
			if end == 0 {
				end = 1
			}
			break
		}
		if rest[i].last {
			end = i + 1
			if n--; n == 0 {
				break
			}
		}
	}
	return rest[:end]
}

func (s *site) planEvents(p *plan) error {
	var touch command.Touch
	var verdict offsets.Verdict
	for i := range p.events {
		e := &p.events[i].Event
		if e.Op == schema.OpControl {
			continue
		}
		if err := touch.Of(e); err != nil {
			return err
		}
		verdict = offsets.Verdict{}
		if offsets.Decides(e) {
			if err := s.ledger.Decide(e, &touch, false, &verdict); err != nil {
				return err
			}
			for j := range touch.Keys {
				p.watched = append(p.watched, string(touch.Keys[j].Name))
			}
		}
		if !verdict.LeaveOut {
			p.actions = append(p.actions, change{e, argsOf(e, verdict.Elements)})
		}
	}
	return nil
}

// argsOf is the command that applies e, with only some of its elements if
// these are given.
func argsOf(e *schema.Event, elements [][]byte) [][]byte {
	switch {
	case e.Op == schema.OpValue && e.Value.Kind != schema.KindNone:
		return nil
	case e.Op == schema.OpDelete || e.Op == schema.OpValue:
		return [][]byte{wordDel, e.Key, nothingKey}
	}
	args := e.Args
	if elements != nil {
		args = slices.Concat(args[:1], elements)
	}
	args = slices.Concat([][]byte{[]byte(e.Command)}, args)
	if e.Command == "HDEL" {
		args = append(args, args[2])
	}
	return args
}

var (
	wordDel     = []byte("DEL")
	wordHdel    = []byte("HDEL")
	wordRestore = []byte("RESTORE")
	nothingKey  = []byte(offsets.Nothing)
)

// planChunk decides about the next n keys that a wipe removes. When no key is
// left it moves the mark behind the event.
func (s *site) planChunk(p *plan, n int) error {
	e := &p.events[0].Event
	if s.wiping == nil || s.wiping.seq != e.Seq {
		s.wiping = &wiping{seq: e.Seq, keys: s.removedBy(e)}
	}
	p.chunk = min(n, len(s.wiping.keys))
	if p.chunk == 0 {
		return nil
	}
	p.events, p.mark = nil, e.Seq-1
	var touch command.Touch
	var verdict offsets.Verdict
	for _, key := range s.wiping.keys[:p.chunk] {
		gone := schema.Event{Op: schema.OpDelete, Key: []byte(key), Command: "UNLINK", Seq: e.Seq, Seen: e.Seen}
		if err := touch.Of(&gone); err != nil {
			return err
		}
		if err := s.ledger.Decide(&gone, &touch, false, &verdict); err != nil {
			return err
		}
		p.watched = append(p.watched, key)
		if !verdict.LeaveOut {
			p.actions = append(p.actions, change{e, [][]byte{wordDel, []byte(key), nothingKey}})
		}
	}
	return nil
}

// removedBy are the keys here that e removes.
func (s *site) removedBy(e *schema.Event) []string {
	var keys []string
	for i := range s.memory.entries {
		keys = append(keys, s.memory.entries[i].key)
	}
	if !isEnd(e) {
		return keys
	}
	for seq := e.Seq - 1; seq > 0; seq-- {
		r := &s.peer.topic[seq-1].Event
		if r.Op == schema.OpControl && r.Command == schema.SnapshotBegin {
			break
		}
		if r.Op == schema.OpValue {
			keys = slices.DeleteFunc(keys, func(k string) bool { return k == string(r.Key) })
		}
	}
	return keys
}

// execute is MULTI, mark, commands, EXEC. hide names keys ("k") and fields
// ("h.f") whose time is up: Redis deletes them inside the block. Quiet: the
// ledger is told of the last event only, so the source reads the topic.
func (s *site) execute(hide []string, quiet bool) error {
	p := s.plan
	s.plan = nil
	if p == nil {
		return nil
	}
	told := p.events
	if quiet {
		told = told[max(len(told)-1, 0):]
	}
	if err := s.tell(told); err != nil {
		return err
	}
	if s.isVoid(p) {
		s.world.voids++
		return nil
	}
	s.remember()
	block := [][][]byte{{wordSet, s.markKey, offsets.AppendMark(nil, s.markOf(p.mark))}}
	for _, name := range hide {
		if args := s.expireInside(p, name); args != nil {
			block = append(block, args)
		}
	}
	for i := range p.actions {
		args, err := s.apply(&p.actions[i])
		if err != nil {
			return err
		}
		if args != nil {
			block = append(block, args)
		}
	}
	s.mark = p.mark
	s.push(applied, block...)
	if s.wiping != nil && p.chunk > 0 {
		s.wiping.keys = s.wiping.keys[p.chunk:]
	}
	if len(p.events) > 0 {
		s.next, s.wiping = p.mark+1, nil
	}
	return nil
}

// tell tells the ledger what is about to be applied.
func (s *site) tell(events []record) error {
	prints := &offsets.Prints{}
	var p offsets.Print
	for i := range events {
		if err := offsets.PrintOf(&p, &events[i].Event); err != nil {
			return err
		}
		prints.Add(&p)
	}
	s.ledger.Applying(prints)
	return nil
}

// isVoid tells whether what was decided does not hold any more: EXEC answers
// nil, or the source has begun anew. The second, and WATCH of the barrier, have
// no switch: other rules cover for them, and no schedule fails without them.
func (s *site) isVoid(p *plan) bool {
	watch := !s.world.rules.NoWatch
	if !p.decided {
		return false
	}
	if p.attachment != s.ledger.Attachment() {
		return true
	}
	for i := range s.units[p.at:] {
		switch u := &s.units[p.at+i]; u.origin {
		case barrier:
			if watch {
				return true
			}
		case local:
			if watch && slices.ContainsFunc(u.changed, func(k string) bool { return slices.Contains(p.watched, k) }) {
				return true
			}
		case applied:
		}
	}
	return false
}

// expireInside removes a key or field that the block touches, as its own
// expiry does. It returns what the stream says of it.
func (s *site) expireInside(p *plan, name string) [][]byte {
	args := expiry(name)
	if slices.ContainsFunc(p.events, func(r record) bool { return r.IsRefresh() && bytes.Equal(r.Key, args[1]) }) {
		return nil // the sink sees to that
	}
	if isExact(string(args[1])) || !slices.ContainsFunc(p.actions, func(a change) bool { return a.touches(string(args[1])) }) {
		return nil
	}
	if s.memory.run(args) != done {
		return nil
	}
	return args
}

func (a *change) touches(key string) bool {
	if string(a.event.Key) == key {
		return true
	}
	return a.event.Op == schema.OpWrite && slices.ContainsFunc(a.args, func(w []byte) bool { return string(w) == key })
}

// apply runs one command of the peer, and notes what no rule may let happen.
// It returns what the stream says, nil if there was no effect.
func (s *site) apply(a *change) ([][]byte, error) {
	e := a.event
	key := string(e.Key)
	if a.args != nil && len(e.Key) == 0 { // of a wipe
		key = string(a.args[1])
	}
	before := s.memory.get(key)
	unseen := before != nil && s.unseenUnit(s.memory.fresh(key), e.Seen)
	if a.args == nil {
		if unseen {
			s.world.undone++
		}
		s.memory.replace(key, s.world.valueOf(e))
		return [][]byte{wordRestore, e.Key, []byte("0"), e.Value.Data, []byte("REPLACE")}, nil
	}
	if unseen && string(a.args[0]) == "DEL" {
		s.world.eaten++
	}
	switch s.memory.run(a.args) {
	case nothing:
		return nil, nil
	case failed:
		var touch command.Touch
		if err := touch.Of(e); err != nil {
			return nil, err
		}
		s.ledger.Taint(&touch, e.Seq)
		return nil, nil
	case done:
	}
	if unseen && command.OnlyRemoves(e.Command) {
		s.noteTaken(key, before, e)
	}
	return a.args, nil
}

// noteTaken counts elements that e took and that only an own write put there
// which e had not seen.
func (s *site) noteTaken(key string, before *value, e *schema.Event) {
	after := s.memory.get(key)
	for i := range before.items {
		name := before.items[i].name
		if (after == nil || after.index(name) < 0) && s.made(key, name, e.Seen) {
			s.world.took++
		}
	}
}

// born are the events of a unit's commands that were born here.
func (s *site) born(u *unit) (events []schema.Event, err error) {
	for i, c := range u.Commands {
		hidden := u.origin == applied && i > 0 && isExpiry(c.Args)
		if u.origin == local || hidden {
			if events, err = command.AppendChanges(events, c.DB, c.Args); err != nil {
				return nil, err
			}
		}
	}
	return events, nil
}

// isExpiry tells whether a command of an applied block is Redis's own.
func isExpiry(args [][]byte) bool {
	return string(args[0]) == "DEL" && len(args) == 2 || string(args[0]) == "HDEL" && len(args) == 3
}
