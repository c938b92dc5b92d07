package sink

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"twinlog/internal/command"
	"twinlog/schema"
)

// A key one of whose events was set aside is quarantined: its value at the
// target is not what later events build on, so they are set aside too, until
// an event says what the key holds as a whole. The quarantine is kept at the
// target, in a hash beside the mark, and changes in the EXEC of the event that
// changes it; what is in memory is how it will be behind the last batch built.

// The quarantine is bounded: above that something is wrong with more than some
// keys.
const (
	mostQuarantined      = 10_000
	mostQuarantinedBytes = 16 << 20 // of their names (G6)
)

// place is a key in a database; schema.NoDB: in any, for a record that does
// not tell.
type place struct {
	db  int32
	key string
}

// follower is why an event is set aside that touches a quarantined key.
func (p place) follower(h held) reason {
	return reason{causeQuarantined, fmt.Sprintf("key %q is quarantined since seq %d, offset %d: %s", shown([]byte(p.key)), h.seq, h.offset, h.reason)}
}

// held is why a key is quarantined: the first event of it that was set aside,
// or the last one that would have replaced it.
type held struct {
	seq, offset int64
	reason      string
}

// maxReason bounds what is kept of a reason.
const maxReason = 512

func newHeld(seq, offset int64, why reason) held {
	return held{seq, offset, why.text[:min(len(why.text), maxReason)]}
}

type quarantine struct {
	mu    sync.Mutex // held to change keys, and to read them beside the builder
	keys  map[place]held
	bytes int // of their names

	swapped int64 // offset of the last SWAPDB that changed keys
}

func (q *quarantine) put(p place, h held) {
	if _, there := q.keys[p]; !there {
		q.bytes += len(p.key)
	}
	q.keys[p] = h
}

func (q *quarantine) drop(p place) {
	delete(q.keys, p)
	q.bytes -= len(p.key)
}

// hit finds a quarantined key among those that an event reads or writes.
func (q *quarantine) hit(t *command.Touch) (place, held, bool) {
	if len(q.keys) == 0 {
		return place{}, held{}, false
	}
	for i := range t.Keys {
		k := &t.Keys[i]
		for _, db := range [...]int32{k.DB, schema.NoDB} {
			if h, ok := q.keys[place{db, string(k.Name)}]; ok {
				return place{db, string(k.Name)}, h, true
			}
		}
	}
	return place{}, held{}, false
}

// add quarantines the keys that an event writes and returns those for which h
// is why: all that were not quarantined yet, and with newer the others too.
func (q *quarantine) add(t *command.Touch, h held, newer bool) []place {
	q.mu.Lock()
	defer q.mu.Unlock()
	var added []place
	for i := range t.Keys {
		k := &t.Keys[i]
		p := place{k.DB, string(k.Name)}
		if _, there := q.keys[p]; there && !newer || !k.Written {
			continue
		}
		q.put(p, h)
		added = append(added, p)
	}
	return added
}

// room tells whether the keys that an event writes find room in q and others,
// which count together; others may be nil.
func (q *quarantine) room(t *command.Touch, others *quarantine) bool {
	n, bytes := len(q.keys), q.bytes
	if others != nil {
		n, bytes = n+len(others.keys), bytes+others.bytes
	}
	for i := range t.Keys {
		k := &t.Keys[i]
		if _, there := q.keys[place{k.DB, string(k.Name)}]; k.Written && !there {
			n++
			bytes += len(k.Name)
		}
	}
	return n <= mostQuarantined && bytes <= mostQuarantinedBytes
}

// replaces tells whether an event says what its key holds as a whole, whatever
// was there: such an event is never set aside because of what came before.
func replaces(e *schema.Event) bool { return e.Op == schema.OpValue || e.Op == schema.OpDelete }

// repaired ends the quarantine of the key that an event replaced and returns
// what ended.
func (q *quarantine) repaired(e *schema.Event) []place {
	if len(q.keys) == 0 || !replaces(e) || e.Part.Set && !e.Part.Last {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var ended []place
	for _, db := range [...]int32{e.DB, schema.NoDB} {
		p := place{db, string(e.Key)}
		if _, there := q.keys[p]; there && (db == e.DB || e.Op == schema.OpValue) {
			q.drop(p)
			ended = append(ended, p)
		}
	}
	return ended
}

// wiped ends the quarantine of a database, or swaps two of them, as FLUSHDB,
// FLUSHALL and SWAPDB do to the keys.
func (q *quarantine) wiped(t *command.Touch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	moved := map[place]held{}
	for p, h := range q.keys {
		switch {
		case t.Kind == command.Wipe && (len(t.DBs) == 0 || slices.Contains(t.DBs, p.db)):
			q.bytes -= len(p.key)
			continue
		case t.Kind == command.Swap && p.db == t.DBs[0]:
			p.db = t.DBs[1]
		case t.Kind == command.Swap && p.db == t.DBs[1]:
			p.db = t.DBs[0]
		}
		moved[p] = h
	}
	q.keys = moved
}

func (q *quarantine) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.keys)
}

// Quarantined is a key whose events go to the dead-letter topic.
type Quarantined struct {
	DB     int32 // schema.NoDB: any
	Key    []byte
	Seq    int64 // of the first event that was set aside
	Reason string
}

// last returns the keys that were quarantined last, at most n, newest first.
func (q *quarantine) last(n int) []Quarantined {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Quarantined, 0, len(q.keys))
	for p, h := range q.keys {
		all = append(all, Quarantined{p.db, []byte(p.key), h.seq, h.reason})
	}
	slices.SortFunc(all, func(x, y Quarantined) int {
		return cmp.Or(cmp.Compare(y.Seq, x.Seq), bytes.Compare(x.Key, y.Key), cmp.Compare(x.DB, y.DB))
	})
	return all[:min(n, len(all))]
}

// sorted returns all places in a fixed order.
func (q *quarantine) sorted() []place {
	all := make([]place, 0, len(q.keys))
	for p := range q.keys {
		all = append(all, p)
	}
	slices.SortFunc(all, func(x, y place) int { return cmp.Or(cmp.Compare(x.db, y.db), strings.Compare(x.key, y.key)) })
	return all
}

// member is a place as a field of the hash: "<db>:<key>".
func (p place) member() string { return strconv.Itoa(int(p.db)) + ":" + p.key }

// text is a held as the value of its field: "<seq> <offset> <reason>".
func (h held) text() string { return fmt.Sprintf("%d %d %s", h.seq, h.offset, h.reason) }

// load reads one field of the hash.
func (q *quarantine) load(member, text string) error {
	db, key, ok := strings.Cut(member, ":")
	n, err := strconv.ParseInt(db, 10, 32)
	words := strings.SplitN(text, " ", 3)
	if !ok || err != nil || len(words) != 3 {
		return fmt.Errorf("field %q with %q is not a quarantined key", member, text)
	}
	seq, err1 := strconv.ParseInt(words[0], 10, 64)
	offset, err2 := strconv.ParseInt(words[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("field %q with %q is not a quarantined key: %w", member, text, err)
	}
	q.put(place{int32(n), key}, held{seq, offset, words[2]})
	return nil
}

// Fields of the hash that are no quarantined key.
const (
	fieldErrors  = "errors"  // error replies of the server when the EXEC under way began
	fieldSuspect = "suspect" // see suspect
)

// suspect tells that commands of an EXEC that has taken effect failed, and
// their events were not set aside yet. The mark has passed them.
type suspect struct {
	from    int64   // offset of the first event of that EXEC
	offsets []int64 // of the events that failed; none: not known which
}

func (s *suspect) text() string {
	words := strconv.AppendInt(nil, s.from, 10)
	for _, o := range s.offsets {
		words = strconv.AppendInt(append(words, ' '), o, 10)
	}
	return string(words)
}

func parseSuspect(text string) (*suspect, error) {
	var all []int64
	for _, w := range strings.Fields(text) {
		n, err := strconv.ParseInt(w, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("field %s with %q: %w", fieldSuspect, text, err)
		}
		all = append(all, n)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("field %s is empty", fieldSuspect)
	}
	return &suspect{all[0], all[1:]}, nil
}
