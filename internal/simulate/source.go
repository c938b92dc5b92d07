package simulate

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"

	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/source/stream"
)

// source is what a source has in memory: it is gone with the process.
type source struct {
	turner   stream.Turner
	pos      offsets.Position // its ReplOffset is the number of units read
	own      []record         // what is committed, and what waits
	buffer   []group
	waiting  []offsets.DirtyKey
	barriers map[string]*values
}

// group is where the topic ends if a Kafka transaction ends there.
type group struct {
	records int
	pos     offsets.Position
}

// values are what was read at a barrier.
type values struct {
	entries  []entry
	snapshot bool // all keys there are
	demand   bool // whether they are in conflict or not
}

// startSource begins where Kafka says.
func (s *site) startSource() error {
	s.own, s.pos = slices.Clip(s.topic), s.committed
	s.buffer, s.waiting, s.barriers = s.buffer[:0], nil, map[string]*values{}
	for i := range s.units[min(s.pos.ReplOffset, int64(len(s.units))):] {
		s.units[s.pos.ReplOffset+int64(i)].seq = 0
	}
	floor, err := s.floor()
	if err != nil {
		return err
	}
	if err := s.ledger.Reset(floor, s.pos.Seen); err != nil {
		return err
	}
	err = s.ledger.Replay(s.pos, func(visit func(*schema.Event) error) error {
		return s.visit(floor+1, s.pos.Seq, visit)
	}, s.turner.Peer)
	if err != nil || s.pos.Phase == offsets.PhaseStream {
		return err
	}
	return s.fullSync()
}

// floor is what the peer had seen of this site when it made the first event
// that is not settled here.
func (s *site) floor() (int64, error) {
	first := min(s.pos.Settled+1, int64(len(s.peer.topic)))
	if first == 0 {
		return 0, nil
	}
	return s.peer.topic[first-1].Seen, nil
}

// fullSync attaches at the stream's end and publishes every key.
func (s *site) fullSync() error {
	if s.pos.ReplOffset < int64(len(s.units)) {
		s.world.gaps++
	}
	s.pos.ReplOffset = int64(len(s.units))
	if err := s.turner.Pass(&s.pos, s.markOf(s.mark)); err != nil {
		return err
	}
	return s.publishAll(&values{entries: slices.Clone(s.memory.entries), snapshot: true}, func(events []schema.Event) error {
		if isEnd(&events[0]) {
			s.pos.Phase = offsets.PhaseStream
		}
		if err := s.turner.Own(events, &s.pos); err != nil {
			return err
		}
		return s.emit(events, s.pos, false)
	})
}

func (s *site) markOf(seq int64) offsets.Mark {
	return offsets.Mark{Generation: 1, TopicID: topicID, Seq: seq, Offset: max(seq-1, 0)}
}

// publishAll makes the events of values, each a group.
func (s *site) publishAll(v *values, publish func(events []schema.Event) error) error {
	if v.snapshot {
		if err := publish([]schema.Event{control(schema.SnapshotBegin)}); err != nil {
			return err
		}
	}
	for i := range v.entries {
		if err := publish([]schema.Event{s.world.valueEvent(v.entries[i].key, v.entries[i].value)}); err != nil {
			return err
		}
	}
	if v.snapshot {
		// The third argument is not 0: the peer removes what the snapshot lacks.
		return publish([]schema.Event{control(schema.SnapshotEnd, strconv.Itoa(len(v.entries)), "1", "1")})
	}
	return nil
}

func control(command string, args ...string) schema.Event {
	e := schema.Event{Op: schema.OpControl, DB: schema.NoDB, Command: command}
	for _, a := range args {
		e.Args = append(e.Args, []byte(a))
	}
	return e
}

func isEnd(e *schema.Event) bool { return e.Op == schema.OpControl && e.Command == schema.SnapshotEnd }

func isHeartbeat(e *schema.Event) bool {
	return e.Op == schema.OpControl && e.Command == schema.Heartbeat
}

// valueEvent is an r event. As with DUMP, only the simulator can read its
// payload: the number of a value.
func (w *world) valueEvent(key string, v *value) schema.Event {
	e := schema.Event{Op: schema.OpValue, Key: []byte(key)}
	if v != nil {
		w.dumps = append(w.dumps, v)
		e.Value = schema.Value{Kind: schema.KindDump, Data: binary.AppendUvarint(nil, uint64(len(w.dumps)-1))}
	}
	return e
}

func (w *world) valueOf(e *schema.Event) *value {
	if e.Value.Kind == schema.KindNone {
		return nil
	}
	n, _ := binary.Uvarint(e.Value.Data)
	return w.dumps[n]
}

// emit keeps events until they are committed.
func (s *site) emit(events []schema.Event, at offsets.Position, goesOn bool) error {
	for i := range events {
		s.own = append(s.own, record{events[i], i == len(events)-1 && !goesOn})
	}
	if len(events) > 0 && !goesOn { // a position alone is not committed: it travels with events
		s.buffer = append(s.buffer, group{len(s.own), at})
	}
	return nil
}

// read passes up to n units of the replication stream.
func (s *site) read(n int) error {
	for ; n > 0 && s.pos.ReplOffset < int64(len(s.units)); n-- {
		u := &s.units[s.pos.ReplOffset]
		if _, err := s.turner.Turn(&u.Unit, &s.pos, s.emit); err != nil {
			return err
		}
		u.seq = s.pos.Seq
	}
	return nil
}

// commit is a Kafka transaction of up to n groups.
func (s *site) commit(n int) {
	if n = min(n, len(s.buffer)); n > 0 {
		g := s.buffer[n-1]
		s.topic, s.committed = s.own[:g.records], g.pos
		s.buffer = s.buffer[n:]
	}
}

// barrier reads the values of up to n dirty keys, at the place in the stream
// where it writes the barrier key. If the peer asked for a snapshot, all keys.
func (s *site) barrier(n int) {
	v := &values{}
	if s.ledger.Requested() {
		for _, other := range s.barriers {
			if other.snapshot { // on its way
				return
			}
		}
		v.snapshot, v.entries = true, slices.Clone(s.memory.entries)
	} else {
		s.waiting = append(s.waiting, s.ledger.TakeDirty()...)
		for len(s.waiting) > 0 && len(v.entries) < n {
			k := s.waiting[0]
			s.waiting = s.waiting[1:]
			if s.ledger.IsDirty(k.DB, k.Name) {
				v.entries = append(v.entries, entry{key: string(k.Name), value: s.memory.get(string(k.Name))})
			}
		}
		if len(v.entries) == 0 {
			return
		}
	}
	s.drop(v)
}

// demand reads chosen keys at a barrier, whatever became of them.
func (s *site) demand(keys []string) {
	v := &values{demand: true}
	for _, k := range keys {
		v.entries = append(v.entries, entry{key: k, value: s.memory.get(k)})
	}
	s.drop(v)
}

// drop writes the barrier at which values were read.
func (s *site) drop(v *values) {
	s.remember()
	s.world.barriers++
	id := strconv.Itoa(s.world.barriers)
	s.barriers[id] = v
	s.push(barrier, [][]byte{wordSet, barrierKey, []byte(id)})
}

var (
	wordSet    = []byte("SET")
	barrierKey = []byte(offsets.BarrierKey(link))
)

// valuesOf publishes the values of a barrier. Those of a barrier
// from before a crash are lost.
func (s *site) valuesOf(id []byte, _ *offsets.Position, publish func([]schema.Event) error) error {
	v := s.barriers[string(id)]
	if v == nil {
		return nil
	}
	delete(s.barriers, string(id))
	return s.publishAll(v, func(events []schema.Event) error {
		switch e := &events[0]; {
		case v.demand && !s.world.rules.NoRefresh && !s.ledger.IsDirty(e.DB, e.Key):
			e.Source.Snapshot = schema.Refresh
		case e.Op == schema.OpValue && !v.snapshot:
			s.world.repairs++
		}
		return publish(events)
	})
}

// heartbeat tells the peer how far this site has seen it, if nothing else did.
func (s *site) heartbeat() error {
	last := int64(0)
	if len(s.own) > 0 {
		last = s.own[len(s.own)-1].Seen
	}
	for seq := last + 1; seq <= s.pos.Seen; seq++ {
		if isHeartbeat(&s.peer.topic[seq-1].Event) {
			continue
		}
		events := []schema.Event{control(schema.Heartbeat)}
		if err := s.turner.Own(events, &s.pos); err != nil {
			return err
		}
		return s.emit(events, s.pos, false)
	}
	return nil
}

// Faults.

// resnapshot is a full synchronisation. With a gap the unread part of the
// stream is never seen.
func (s *site) resnapshot(gap bool) error {
	if !gap {
		if err := s.read(everything); err != nil {
			return err
		}
		s.commit(everything)
	}
	s.committed.Phase = offsets.PhaseSnapshot
	return s.startSource()
}

const everything = 1 << 30

// rewind is a failover to a replica that lacked the last n units.
func (s *site) rewind(n int) error {
	at := max(len(s.units)-n, 0)
	if at < len(s.units) {
		s.memory.entries, s.mark = slices.Clone(s.past[at].entries), s.past[at].mark
	}
	s.units, s.past = s.units[:at:at], s.past[:at:at]
	s.world.rewound++
	if s.committed.ReplOffset > int64(at) && s.committed.Phase == offsets.PhaseStream { // published what Redis no longer has
		s.committed.ReplOffset, s.committed.Seen, s.committed.Settled = int64(at), s.mark, s.mark
		if !s.world.rules.NoRequest {
			s.committed.Seq++
			e := control(schema.SnapshotRequest)
			e.Seq, e.Seen = s.committed.Seq, s.mark
			s.topic = append(slices.Clip(s.topic), record{e, true})
		}
	}
	s.committed.ReplOffset = min(s.committed.ReplOffset, int64(at))
	if err := s.startSource(); err != nil {
		return err
	}
	s.startSink()
	return nil
}

// publishedOnce tells whether the topic holds what was born here, in order
// and once: what the stream says now, compared with what was published.
func (s *site) publishedOnce() (bool, error) {
	next := 0
	for i := range s.units {
		events, err := s.born(&s.units[i])
		if err != nil {
			return false, err
		}
		for j := range events {
			for next < len(s.topic) && (s.topic[next].Op == schema.OpControl || s.topic[next].Op == schema.OpValue) {
				next++
			}
			if next == len(s.topic) || !sameChange(&events[j], &s.topic[next].Event) {
				return false, nil
			}
			next++
		}
	}
	for ; next < len(s.topic); next++ {
		if op := s.topic[next].Op; op != schema.OpControl && op != schema.OpValue {
			return false, nil
		}
	}
	return true, nil
}

func sameChange(a, b *schema.Event) bool {
	return a.Op == b.Op && a.Command == b.Command && bytes.Equal(a.Key, b.Key) && slices.EqualFunc(a.Args, b.Args, bytes.Equal)
}
