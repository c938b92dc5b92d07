package stream

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"twinlog/offsets"
)

// Due holds the keys whose values have to be read, since what changed them
// cannot be carried (within.go): a VALUE_DUE stands in the topic for each, and
// until its value follows, changes of it are not published. It may be used from
// several goroutines.
type Due struct {
	some  atomic.Bool // any key; asked for each command
	mu    sync.Mutex
	keys  map[string]dueKey
	order []dueKey // by seq; entries of keys whose value came are passed over
	fresh []offsets.DirtyKey
	wake  chan struct{}
	bytes int64
	limit int64
	tells bool // TakeDirty is asked
}

type dueKey struct {
	id  string
	seq int64 // of its VALUE_DUE
}

// NewDue returns an empty Due that holds at most limit bytes of names. Where
// nobody asks it which keys they are, since a ledger is asked, it tells nothing.
func NewDue(limit int64, tells bool) *Due {
	return &Due{keys: map[string]dueKey{}, wake: make(chan struct{}, 1), limit: limit, tells: tells}
}

// TooManyDueError tells that more values are due than may be remembered (G6).
type TooManyDueError struct {
	Keys  int
	Limit int64
}

func (e *TooManyDueError) Error() string {
	return fmt.Sprintf("the values of %d keys are due, whose names take more than %d bytes: commands that come as the values that they leave are made faster than values can be read. "+
		"Raise limits.memory, or widen the scope so that such commands lie within it, and start twinlog again", e.Keys, e.Limit)
}

// dueCost is what a key costs besides its name.
const dueCost = 128

// Add notes a key whose VALUE_DUE is the event seq.
func (d *Due) Add(db int32, name []byte, seq int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := dueKey{dueID(db, name), seq}
	if _, known := d.keys[k.id]; known {
		return nil
	}
	d.keys[k.id] = k
	d.some.Store(true)
	d.order = append(d.order, k)
	if d.tells {
		d.fresh = append(d.fresh, offsets.DirtyKey{DB: db, Name: append([]byte(nil), name...)})
	}
	if d.bytes += int64(dueCost + 3*len(name)); d.bytes > d.limit {
		return &TooManyDueError{len(d.keys), d.limit}
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return nil
}

// Remove tells that a key's value is published.
func (d *Due) Remove(db int32, name []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := dueID(db, name)
	if _, known := d.keys[id]; !known {
		return
	}
	delete(d.keys, id)
	d.some.Store(len(d.keys) > 0)
	d.bytes -= int64(dueCost + 3*len(name))
	for len(d.order) > 0 {
		if k, due := d.keys[d.order[0].id]; due && k.seq == d.order[0].seq {
			break
		}
		d.order = d.order[1:]
	}
	if len(d.order) > 2*len(d.keys)+dueSlack { // behind one that stays due
		d.order = slices.DeleteFunc(d.order, func(k dueKey) bool { return d.keys[k.id] != k })
	}
}

// dueSlack is how many keys whose value came are kept in order at least.
const dueSlack = 1024

// IsDirty tells whether a key's value is due.
func (d *Due) IsDirty(db int32, name []byte) bool {
	if !d.Any() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, due := d.keys[dueID(db, name)]
	return due
}

// Any tells whether any value is due.
func (d *Due) Any() bool { return d.some.Load() }

// Oldest is the seq of the oldest VALUE_DUE whose value has not followed; 0:
// none.
func (d *Due) Oldest() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.order) == 0 {
		return 0
	}
	return d.order[0].seq
}

// TakeDirty returns the keys that have become due since it was called last.
func (d *Due) TakeDirty() []offsets.DirtyKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh := d.fresh
	d.fresh = nil
	return fresh
}

// Woken is signalled when TakeDirty has something to return.
func (d *Due) Woken() <-chan struct{} { return d.wake }

// Fencing tells whether no barrier should be written now: never, nobody
// decides at a site whose changes nobody contests.
func (d *Due) Fencing() bool { return false }

func dueID(db int32, name []byte) string { return strconv.Itoa(int(db)) + ":" + string(name) }
