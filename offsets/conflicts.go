package offsets

import (
	"sync"
	"time"
)

// Rule names what settled a conflict: the letters of DESIGN.md 6.
type Rule string

// The rules that show in a conflict.
const (
	RuleD        Rule = "D"         // a removal left out: it had not seen what this site wrote
	RuleR        Rule = "R"         // a value left out: what this site wrote since is on its way
	RuleH        Rule = "H"         // both sites changed the key: home publishes its value
	RuleNoEffect Rule = "no effect" // the command failed at the target
	RuleSwap     Rule = "SWAPDB"    // both sites worked in a swapped database: not exact
)

// Conflict is one thing that was decided.
type Conflict struct {
	TsMs int64  // when, Unix ms
	Site string // where
	Rule Rule
	DB   int32
	Key  []byte // at most MaxConflictKey bytes of it
	Peer string // what the other site did
	Own  string // what this site did
	Won  string

	KeyBytes int // length of the whole key
}

// MaxConflictKey is how much of a key is remembered.
const MaxConflictKey = 1024

// at sets the key.
func (c *Conflict) at(db int32, key []byte) {
	c.DB, c.Key, c.KeyBytes = db, append([]byte(nil), key[:min(len(key), MaxConflictKey)]...), len(key)
}

// KeptConflicts is how many conflicts are remembered.
const KeptConflicts = 100

// Conflicts remembers the last conflicts of a site and counts all. The zero
// value is ready; it may be used from several goroutines.
type Conflicts struct {
	Site string

	mu      sync.Mutex
	ring    []Conflict
	next    int
	counts  map[Rule]int64
	repairs int64
}

// conflict describes what a rule decided about an event of the peer.
func (l *Ledger) conflict(rule Rule, k key, peer string, seq int64, own touched) Conflict {
	c := Conflict{Rule: rule, Peer: seqText(named(peer), seq), Own: "what is not known any more"}
	c.at(k.db, k.name)
	if swap := l.swapped(k.db, 0); own.command != 0 {
		c.Own = seqText(l.commands.name(own.command), max(own.last, own.read))
	} else if swap > 0 {
		c.Own = seqText("SWAPDB", swap)
	} else if len(l.wipes) > 0 {
		c.Own = seqText("FLUSHALL or FLUSHDB", l.wipes[len(l.wipes)-1].seq)
	}
	switch rule {
	case RuleD:
		c.Won = "what " + l.cfg.Site + " wrote stays"
	case RuleR:
		c.Won = "what " + l.cfg.Site + " wrote is newer"
	case RuleH:
		c.Won = "the value at " + l.cfg.Site + " (home), at both sites"
	case RuleNoEffect, RuleSwap:
	}
	return c
}

// NoEffect notes a command of the peer that failed at this site.
func (c *Conflicts) NoEffect(db int32, key []byte, peer string, seq int64, reply, won string) {
	n := Conflict{Rule: RuleNoEffect, Peer: seqText(named(peer), seq), Own: reply, Won: won}
	n.at(db, key)
	c.Note(n)
}

// swapConflict describes work of both sites around a SWAPDB.
func swapConflict(db int32, key []byte, peer, own string) Conflict {
	c := Conflict{Rule: RuleSwap, Peer: peer, Own: own, Won: "not exact: compare the swapped databases at both sites"}
	c.at(db, key)
	return c
}

// named is a command's name; an event of a value has none.
func named(command string) string {
	if command == "" {
		return "value"
	}
	return command
}

// Note remembers and counts a conflict of this site.
func (c *Conflicts) Note(n Conflict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[Rule]int64{}
	}
	c.counts[n.Rule]++
	n.Site, n.TsMs = c.Site, time.Now().UnixMilli()
	if len(c.ring) < KeptConflicts {
		c.ring = append(c.ring, n)
		return
	}
	c.ring[c.next] = n
	c.next = (c.next + 1) % KeptConflicts
}

func (c *Conflicts) repaired() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.repairs++
}

// Last returns the last conflicts, oldest first.
func (c *Conflicts) Last() []Conflict {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(append([]Conflict(nil), c.ring[c.next:]...), c.ring[:c.next]...)
}

// Count is how often a rule decided, since the program started.
func (c *Conflicts) Count(r Rule) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[r]
}

// Repaired is how many keys in conflict had their value published.
func (c *Conflicts) Repaired() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.repairs
}
