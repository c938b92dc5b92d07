package offsets

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"twinlog/internal/command"
	"twinlog/schema"
)

// naive is a ledger that forgets nothing and walks everything: rules L, D, R,
// H, H2 and C of convergence.md, word for word.
type naive struct {
	home  bool
	own   []change
	dirty map[string]int64 // cause by key
}

// change is what one own event did. FLUSH is one deletion a key.
type change struct {
	seq      int64
	kind     command.Kind
	keys     []command.KeyTouch
	elements [][]byte
	value    bool // an r event
}

// universe are all keys that tests use, in all databases.
var universe = func() (all []command.KeyTouch) {
	for db := range int32(2) {
		for _, name := range strings.Fields("a b c d e") {
			all = append(all, command.KeyTouch{DB: db, Name: []byte(name), Written: true})
		}
	}
	return all
}()

func changesOf(t testing.TB, e *schema.Event) []change {
	t.Helper()
	var touch command.Touch
	if err := touch.Of(e); err != nil {
		t.Fatal(err)
	}
	if touch.Kind != command.Wipe {
		if len(touch.Keys) == 0 {
			return nil
		}
		return []change{{e.Seq, touch.Kind, touch.Keys, touch.Elements, e.Op == schema.OpValue}}
	}
	var all []change
	for _, k := range universe {
		if len(touch.DBs) == 0 || slices.Contains(touch.DBs, k.DB) {
			all = append(all, change{seq: e.Seq, kind: command.Deletion, keys: []command.KeyTouch{k}})
		}
	}
	return all
}

func (c *change) multi() bool { return len(c.keys) > 1 }

func (c *change) touches(text string) bool {
	return slices.ContainsFunc(c.keys, func(k command.KeyTouch) bool { return keyText(k.DB, k.Name) == text })
}

func (c *change) writes(text string) bool {
	return slices.ContainsFunc(c.keys, func(k command.KeyTouch) bool { return k.Written && keyText(k.DB, k.Name) == text })
}

func (c *change) names(element []byte) bool {
	return slices.ContainsFunc(c.elements, func(x []byte) bool { return bytes.Equal(x, element) })
}

func (n *naive) unseen(seen, upTo int64) []change {
	from, _ := slices.BinarySearchFunc(n.own, seen+1, func(c change, seq int64) int { return int(c.seq - seq) })
	to, _ := slices.BinarySearchFunc(n.own, upTo+1, func(c change, seq int64) int { return int(c.seq - seq) })
	return n.own[from:max(from, to)]
}

const everything = int64(1) << 62

// live tells whether an own write protects key: own deletions do not.
func (n *naive) live(text string, seen int64) bool {
	return slices.ContainsFunc(n.unseen(seen, everything), func(o change) bool {
		return o.kind != command.Deletion && o.writes(text)
	})
}

// liveElement tells the same of one element.
func (n *naive) liveElement(text string, element []byte, seen int64) bool {
	return slices.ContainsFunc(n.unseen(seen, everything), func(o change) bool {
		switch {
		case !o.writes(text):
			return false
		case o.multi():
			return true
		case o.kind == command.Deletion, o.kind == command.Pop, o.kind == command.Removal:
			return false
		}
		return len(o.elements) == 0 || o.names(element)
	})
}

// decide is rules D and R: what is left out of c.
func (n *naive) decide(c *change, seen int64, whole bool) (leaveOut bool, left [][]byte) {
	text := keyText(c.keys[0].DB, c.keys[0].Name)
	if c.kind != command.Removal || whole {
		return n.live(text, seen), nil
	}
	var gone [][]byte
	for _, x := range c.elements {
		if n.liveElement(text, x, seen) {
			left = append(left, x)
		} else {
			gone = append(gone, x)
		}
	}
	switch {
	case len(left) == len(c.elements):
		return true, nil
	case len(left) == 0:
		return false, nil
	}
	return false, gone
}

// add is rule L and H2: an own change.
func (n *naive) add(changes []change, last bool) {
	n.own = append(n.own, changes...)
	for i := range changes {
		n.ownTouches(&changes[i], last)
	}
}

func (n *naive) ownTouches(o *change, last bool) {
	if o.value {
		if last {
			delete(n.dirty, keyText(o.keys[0].DB, o.keys[0].Name))
		}
		return
	}
	if cause, hit := n.causeOf(o); hit {
		n.taint(written(o), cause)
	}
}

func (n *naive) causeOf(c *change) (cause int64, hit bool) {
	for _, k := range c.keys {
		if d, ok := n.dirty[keyText(k.DB, k.Name)]; ok && (!hit || d < cause) {
			cause, hit = d, true
		}
	}
	return cause, hit
}

func (n *naive) taint(keys map[string]bool, cause int64) {
	for k := range keys {
		if d, ok := n.dirty[k]; !ok || cause < d {
			n.dirty[k] = cause
		}
	}
}

func written(c *change) map[string]bool {
	m := map[string]bool{}
	for _, k := range c.keys {
		if k.Written {
			m[keyText(k.DB, k.Name)] = true
		}
	}
	return m
}

// pass is rule H for one part of an event of the peer. What was read of own
// writes counts from the beginning if early: see chain.
func (n *naive) pass(c *change, seq, seen, upTo int64, early bool) (tainted map[string]bool) {
	tainted = written(c)
	cause, hit := n.causeOf(c)
	if !hit {
		cause = seq
	}
	unseen := n.unseen(seen, upTo)
	for _, k := range c.keys {
		text := keyText(k.DB, k.Name)
		if early && slices.ContainsFunc(unseen, func(o change) bool { return o.writes(text) && c.multi() }) {
			tainted[text] = true
		}
	}
	for i := range unseen {
		o := &unseen[i]
		reaches := slices.ContainsFunc(o.keys, func(k command.KeyTouch) bool {
			text := keyText(k.DB, k.Name)
			return tainted[text] || k.Written && c.touches(text)
		})
		if reaches && !commute(o, c) {
			hit = true
			maps.Copy(tainted, written(o))
		}
	}
	if !hit {
		return nil
	}
	n.taint(written(c), cause)
	n.taint(tainted, seq) // what is found anew from c alone needs no lower cause
	return tainted
}

// commute is rule C.
func commute(o, c *change) bool {
	if o.multi() || c.multi() || !c.touches(keyText(o.keys[0].DB, o.keys[0].Name)) || o.kind != c.kind {
		return false
	}
	switch c.kind {
	case command.Deletion, command.Increment, command.Addition:
		return true
	case command.PutFields, command.PutMembers:
		return !slices.ContainsFunc(c.elements, o.names)
	default:
		return false
	}
}

func (n *naive) settled(seen int64) int64 {
	for _, cause := range n.dirty {
		seen = min(seen, cause-1)
	}
	return seen
}

// events makes what a line becomes in a stream, numbered behind last.
func events(t testing.TB, db int32, line string, last, seen int64) []schema.Event {
	t.Helper()
	var made []schema.Event
	words := bytes.Fields([]byte(line))
	switch string(words[0]) {
	case "VALUE": // an r event
		made = []schema.Event{{Op: schema.OpValue, DB: db, Key: words[1], Value: schema.Value{Kind: schema.KindString}}}
	case "GONE":
		made = []schema.Event{{Op: schema.OpValue, DB: db, Key: words[1]}}
	default:
		var err error
		if made, err = command.AppendChanges(nil, db, words); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	for i := range made {
		made[i].Seq, made[i].Seen = last+1+int64(i), seen
	}
	return made
}

// shownKeys makes dirty keys readable.
func shownKeys(dirty map[string]int64) map[string]int64 {
	m := map[string]int64{}
	for k, cause := range dirty {
		m[strconv.Itoa(int(k[3]))+"/"+k[4:]] = cause
	}
	return m
}

// dirtyOf is what a ledger holds dirty.
func dirtyOf(l *Ledger) map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := map[string]int64{}
	for k, d := range l.dirty {
		m[k] = d.cause
	}
	return m
}
