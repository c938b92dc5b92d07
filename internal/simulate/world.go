// Package simulate runs two sites in one goroutine: Redis, Kafka, crashes and
// the order of things are simulated, what is decided is decided by the code
// that production runs (stream.Turner, offsets.Ledger). A schedule is a list of
// steps made from a seed, so a failure can be repeated, and shrunk to the few
// steps that matter.
//
// It is the counterpart of convergence-model.py, whose rules it checks.
package simulate

import (
	"fmt"
)

// world is two sites and what was counted.
type world struct {
	rules   Rules
	a, b    *site
	rewinds bool // a schedule has some: keep the past
	dumps   []*value

	barriers, repairs, voids  int
	gaps, rewound, flushed    int
	eaten, took, undone       int // what the rules are to prevent
	increments, steps, shared int // INCR n and HINCRBY q there were; keys that both sites expired
	members                   map[string]bool
}

func newWorld(rules Rules) *world {
	w := &world{rules: rules, members: map[string]bool{}}
	w.a, w.b = newSite(w, "a", "b-to-a"), newSite(w, "b", "a-to-b")
	w.a.peer, w.b.peer = w.b, w.a
	return w
}

// run runs a schedule, lets everything come to rest and returns what is wrong,
// or "". Visit, if given, is called after each step.
func run(steps []step, rules Rules, disjoint bool, visit func(*step, *world)) (wrong string, w *world) {
	w = newWorld(rules)
	for i := range steps {
		w.rewinds = w.rewinds || steps[i].action == rewind
	}
	err := w.play(steps, visit)
	if err == nil {
		wrong, err = w.rest(disjoint)
	}
	if err != nil {
		wrong = "error: " + err.Error()
	}
	if visit != nil {
		visit(nil, w)
	}
	return wrong, w
}

func (w *world) play(steps []step, visit func(*step, *world)) error {
	for _, s := range []*site{w.a, w.b} {
		if err := s.startSource(); err != nil {
			return err
		}
		s.startSink()
	}
	for i := range steps {
		if err := w.do(&steps[i]); err != nil {
			return fmt.Errorf("%s: %w", &steps[i], err)
		}
		if visit != nil {
			visit(&steps[i], w)
		}
	}
	return nil
}

func (w *world) do(step *step) error {
	s := w.a
	if step.site == 'b' {
		s = w.b
	}
	switch step.action {
	case write:
		w.count(step.commands)
		s.local(step.commands...)
	case expire:
		w.expire(s, step)
	case read:
		return s.read(step.n)
	case commit:
		s.commit(step.n)
	case apply:
		if err := s.decide(step.n); err != nil {
			return err
		}
		return s.execute(step.hide, step.quiet)
	case decide:
		return s.decide(step.n)
	case execute:
		return s.execute(step.hide, step.quiet)
	case setBarrier:
		s.barrier(step.n)
	case demand:
		s.demand(step.hide)
	case heartbeat:
		return s.heartbeat()
	case restartSource:
		return s.startSource()
	case restartSink:
		s.startSink()
	case restartWorker:
		s.startSink()
		return s.startSource()
	case resnapshot:
		return s.resnapshot(false)
	case resnapshotGap:
		return s.resnapshot(true)
	case rewind:
		return s.rewind(step.n)
	}
	return nil
}

// expire deletes a key or field at one site, or at both if nothing of the key
// is on its way.
func (w *world) expire(s *site, step *step) {
	args := expiry(step.hide[0])
	if isExact(string(args[1])) {
		return
	}
	if !step.both {
		s.local(args)
		return
	}
	for _, s := range []*site{w.a, w.b} {
		if key := string(args[1]); !w.a.inFlight(key) && !w.b.inFlight(key) {
			w.shared++
			s.local(args)
		}
	}
}

// inFlight tells whether the peer has not applied all that was done to key.
func (s *site) inFlight(key string) bool {
	for i := range s.units {
		u := &s.units[i]
		if u.origin != local || int64(i) < s.pos.ReplOffset && u.seq <= s.peer.mark {
			continue
		}
		for _, c := range u.Commands {
			for _, a := range c.Args[1:] {
				if string(a) == key && string(c.Args[0]) != "DEL" {
					return true
				}
			}
		}
	}
	return false
}

// Exact keys are only ever added to: their sums must come out.
const (
	counter = "n" // INCR
	members = "m" // SADD
	fields  = "q" // HINCRBY q f 1
)

func isExact(key string) bool { return key == counter || key == members || key == fields }

func (w *world) count(commands [][][]byte) {
	for _, c := range commands {
		switch {
		case string(c[0]) == "FLUSHDB":
			w.flushed++
		case string(c[0]) == "INCR" && string(c[1]) == counter:
			w.increments++
		case string(c[0]) == "HINCRBY" && string(c[1]) == fields:
			w.steps++
		case string(c[0]) == "SADD" && string(c[1]) == members:
			w.members[string(c[2])] = true
		}
	}
}

// turns is how many rounds a world may take to come to rest.
const turns = 300

// rest lets everything come to rest and checks what has to hold then.
func (w *world) rest(disjoint bool) (string, error) {
	for turn := range turns {
		before := w.progress()
		for _, s := range []*site{w.a, w.b} {
			if err := s.drain(turn); err != nil {
				return "", err
			}
		}
		if w.progress() == before {
			return w.check(disjoint)
		}
	}
	return "livelock", nil
}

func (w *world) progress() [6]int {
	return [6]int{len(w.a.topic), len(w.a.units), int(w.a.next), len(w.b.topic), len(w.b.units), int(w.b.next)}
}

func (s *site) drain(turn int) error {
	if err := s.read(everything); err != nil {
		return err
	}
	s.barrier(2)
	if err := s.read(everything); err != nil {
		return err
	}
	s.commit(everything)
	quiet := turn%2 == 1
	if err := s.execute(nil, quiet); err != nil {
		return err
	}
	if err := s.decide(1 + turn%3); err != nil {
		return err
	}
	if err := s.execute(nil, quiet); err != nil {
		return err
	}
	if err := s.read(everything); err != nil {
		return err
	}
	if err := s.heartbeat(); err != nil {
		return err
	}
	s.commit(everything)
	return nil
}

func (w *world) check(disjoint bool) (string, error) {
	if !equalMemory(&w.a.memory, &w.b.memory) {
		return "diverged", nil
	}
	if w.gaps == 0 && w.rewound == 0 {
		if w.flushed == 0 && !w.exact() {
			return "not exact", nil
		}
		for _, s := range []*site{w.a, w.b} {
			once, err := s.publishedOnce()
			if err != nil || !once && !w.rules.NoHidden {
				return "not published once", err
			}
		}
	}
	switch {
	case w.eaten > 0:
		return "deleted an unseen value", nil
	case w.took > 0:
		return "took an unseen element", nil
	case w.undone > 0:
		return "a value undid a fresh write", nil
	case disjoint && w.shared == 0 && w.repairs > 0:
		return "needless r event", nil
	}
	for _, s := range []*site{w.a, w.b} {
		if s.ledger.Size().Unseen != 0 {
			return "ledger not empty", nil
		}
	}
	return "", nil
}

func (w *world) exact() bool {
	n, q, m := int64(0), int64(0), 0
	if v := w.a.memory.get(counter); v != nil {
		n = number([]byte(v.text))
	}
	if v := w.a.memory.get(fields); v != nil {
		q = number([]byte(v.items[0].value))
	}
	if v := w.a.memory.get(members); v != nil {
		m = len(v.items)
	}
	return n == int64(w.increments) && q == int64(w.steps) && m == len(w.members)
}
