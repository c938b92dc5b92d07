package simulate

import (
	"errors"
	"slices"

	"twinlog/offsets"
	"twinlog/schema"
	"twinlog/source/stream"
)

// Rules are what can be switched off: the rules of the production code, and
// what the simulated surroundings have to do for them.
type Rules struct {
	offsets.Rules

	NoFence   bool // the sink decides without waiting for its site's source
	NoWatch   bool // EXEC whatever was written since
	NoRequest bool // a site that lost published writes does not ask for a snapshot
	NoRefresh bool // what is sent again counts as a change
	Crowded   bool // there is room for no key in conflict
	NoRecall  bool // what was forgotten is not read again when the peer's seen falls back
}

// site is a Redis with the source and the sink that are next to it, and the
// topic that the source writes.
type site struct {
	name  string
	world *world
	peer  *site

	// Redis.
	memory memory
	mark   int64
	units  []unit
	past   []snapshot // as it was before each unit; only in schedules that need it

	// Kafka.
	topic     []record
	committed offsets.Position

	ledger *offsets.Ledger
	source
	sink
}

// unit is a unit of the replication stream, with what only the simulator knows.
type unit struct {
	stream.Unit

	origin  origin
	changed []string // keys
	seq     int64    // of its last event, once the source has read it
}

type origin byte

const (
	local origin = iota
	applied
	barrier
)

// snapshot is what a Redis held once.
type snapshot struct {
	entries []entry
	mark    int64
}

// record is an event in a topic; last tells that it ends its group.
type record struct {
	schema.Event

	last bool
}

const (
	link    = "l"
	topicID = "0123456789abcdef0123456789abcdef"
	lane    = "0"
)

func newSite(w *world, name, direction string) *site {
	s := &site{name: name, world: w}
	cfg := offsets.LedgerConfig{Site: name, Home: name == "a", Rules: w.rules.Rules, GenerationEntries: 2}
	if w.rules.Crowded {
		cfg.MaxDirty = 1
	}
	s.ledger = offsets.NewLedger(cfg)
	s.committed.Phase = offsets.PhaseStream
	s.turner = stream.Turner{
		Site: name, Filter: stream.NewFilter(link, direction, lane), Ledger: s.ledger, Due: stream.NewDue(0, false), // everything is carried
		Values: s.valuesOf, Peer: func(first, last int64, visit func(*schema.Event) error) error {
			return s.peer.visit(first, last, visit)
		},
	}
	s.markKey = []byte(offsets.MarkKey(link, direction, lane))
	return s
}

// push ends a unit of the replication stream.
func (s *site) push(o origin, commands ...[][]byte) {
	u := unit{origin: o, changed: slices.Clone(s.memory.changed)}
	s.memory.changed = s.memory.changed[:0]
	u.Offset = int64(len(s.units) + 1)
	for _, args := range commands {
		u.Commands = append(u.Commands, stream.Command{Args: args})
	}
	s.units = append(s.units, u)
}

// remember keeps what the Redis holds before the next unit.
func (s *site) remember() {
	if s.world.rewinds {
		s.past = append(s.past, snapshot{slices.Clone(s.memory.entries), s.mark})
	}
}

// local runs commands of a client, in a transaction if there are several.
func (s *site) local(commands ...[][]byte) {
	s.remember()
	s.memory.unit = len(s.units) + 1
	effective := make([][][]byte, 0, len(commands))
	for _, args := range commands {
		if s.memory.run(args) == done {
			effective = append(effective, args)
		}
	}
	s.memory.unit = 0
	if len(effective) == 0 {
		s.past = s.past[:max(len(s.past)-1, 0)]
		return
	}
	s.push(local, effective...)
}

// visit visits the events of the topic with seqs from first to last.
func (s *site) visit(first, last int64, visit func(*schema.Event) error) error {
	if first < 1 || last > int64(len(s.topic)) {
		return errors.New("the topic does not hold what is asked for")
	}
	for i := first; i <= last; i++ {
		e := s.topic[i-1].Event // a copy: it is valid only during the visit
		if err := visit(&e); err != nil {
			return err
		}
	}
	return nil
}

// recall puts own changes back into the ledger that an event of the peer had
// not seen, if they were forgotten.
func (s *site) recall(seen int64) error {
	floor := s.ledger.Floor()
	if seen >= floor || s.world.rules.NoRecall {
		return nil
	}
	return s.ledger.Recall(seen, func(visit func(*schema.Event) error) error { return s.visit(seen+1, floor, visit) })
}

// unseenUnit tells whether an event that had seen own events up to seen had
// not seen unit number n.
func (s *site) unseenUnit(n int, seen int64) bool {
	return n > 0 && (int64(n) > s.pos.ReplOffset || s.units[n-1].seq > seen)
}

// writesElement are the commands that put a named element, with the place of
// the first name and the distance between names.
var writesElement = map[string][2]int{
	"SADD": {2, 1}, "RPUSH": {2, 1}, "LPUSH": {2, 1}, "LSET": {3, 1}, "HSET": {2, 2}, "HINCRBY": {2, 2}, "ZADD": {3, 2}, "ZINCRBY": {3, 1}, "XADD": {2, 9},
}

// made tells whether an own write that seen had not seen put an element.
func (s *site) made(key, element string, seen int64) bool {
	for i := range s.units {
		u := &s.units[i]
		if u.origin != local || !s.unseenUnit(i+1, seen) {
			continue
		}
		for _, c := range u.Commands {
			at, ok := writesElement[string(c.Args[0])]
			if !ok || string(c.Args[1]) != key {
				continue
			}
			for j := at[0]; j < len(c.Args); j += at[1] {
				if string(c.Args[j]) == element {
					return true
				}
			}
		}
	}
	return false
}
