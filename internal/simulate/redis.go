package simulate

import (
	"slices"
	"strconv"
	"strings"
)

// memory is what a Redis holds: so few keys that a sorted slice is quickest.
// Values are never changed, only replaced, so a copy of the slice is a copy
// of the whole.
type memory struct {
	entries []entry
	unit    int      // number of the own unit that is running; 0: an applied one
	changed []string // keys changed since it was emptied last
}

type entry struct {
	key   string
	value *value
	fresh int // number of the last own unit that made the present value
}

// value is a Redis value of any type.
type value struct {
	kind   kind
	text   string // of a string
	items  []item // of all others
	lastID int64  // of a stream
	ttl    int64  // Unix ms at which it expires, 0: never
}

// item is a list's element; a set's, hash's or sorted set's member, in order
// of score and name; an entry of a stream, whose id is its score.
type item struct {
	name, value string
	score       int64
	ttl         int64 // of a hash field
}

type kind byte

const (
	text kind = iota
	list
	set
	hash
	zset
	log
)

// outcome is how a command ended.
type outcome byte

const (
	nothing outcome = iota // no effect: Redis does not replicate it
	done
	failed // answered with an error
)

func (m *memory) at(key string) (int, bool) {
	for i := range m.entries {
		if m.entries[i].key >= key {
			return i, m.entries[i].key == key
		}
	}
	return len(m.entries), false
}

func (m *memory) get(key string) *value {
	if i, ok := m.at(key); ok {
		return m.entries[i].value
	}
	return nil
}

// fresh is the number of the last own unit in the present value of key.
func (m *memory) fresh(key string) int {
	if i, ok := m.at(key); ok {
		return m.entries[i].fresh
	}
	return 0
}

// replace sets the whole value of key; nil removes it.
func (m *memory) replace(key string, v *value) {
	m.put(key, v)
	if i, ok := m.at(key); ok {
		m.entries[i].fresh = m.unit
	}
}

// put sets a value that grew out of the one that was there. Collections
// without elements vanish, but for streams.
func (m *memory) put(key string, v *value) {
	m.changed = append(m.changed, key)
	i, there := m.at(key)
	if v == nil || len(v.items) == 0 && v.kind != text && v.kind != log {
		if there {
			m.entries = slices.Delete(m.entries, i, i+1)
		}
		return
	}
	if !there {
		m.entries = slices.Insert(m.entries, i, entry{key: key})
	}
	m.entries[i].value = v
	if m.unit > 0 {
		m.entries[i].fresh = m.unit
	}
}

// of returns the value of key for a command of type k: an empty one if there
// is none. It is not ok if there is a value of another type.
func (m *memory) of(key string, k kind) (v *value, ok bool) {
	if v = m.get(key); v == nil {
		return &value{kind: k}, true
	}
	return v, v.kind == k
}

// with returns a copy of v with other items.
func (v *value) with(items []item) *value {
	c := *v
	c.items = items
	return &c
}

func (v *value) index(name string) int {
	for i := range v.items {
		if v.items[i].name == name {
			return i
		}
	}
	return -1
}

// without returns the items without number i.
func (v *value) without(i int) []item {
	return append(slices.Clone(v.items[:i]), v.items[i+1:]...)
}

func (v *value) equal(o *value) bool {
	return v == o || v != nil && o != nil && v.kind == o.kind && v.text == o.text && v.lastID == o.lastID && v.ttl == o.ttl && slices.Equal(v.items, o.items)
}

// order sorts members as their type does; lists and streams stay as they are.
func order(k kind, items []item) []item {
	switch k {
	case set, hash:
		slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	case zset:
		slices.SortFunc(items, func(a, b item) int {
			if a.score != b.score {
				return int(a.score - b.score)
			}
			return strings.Compare(a.name, b.name)
		})
	case text, list, log:
	}
	return items
}

func equalMemory(a, b *memory) bool {
	return slices.EqualFunc(a.entries, b.entries, func(x, y entry) bool { return x.key == y.key && x.value.equal(y.value) })
}

// run runs a command, name first.
func (m *memory) run(args [][]byte) outcome {
	f := commands[string(args[0])]
	if f == nil {
		panic("the simulated Redis does not know " + string(args[0]))
	}
	return f(m, args[1:])
}

// commands are those of the generator and of the sink.
var commands = map[string]func(m *memory, args [][]byte) outcome{
	"COPY": copyKey, "DEL": del, "FLUSHDB": flush, "PERSIST": persist, "PEXPIREAT": expireAt, "RENAME": rename, "UNLINK": del,
	"APPEND": appendText, "INCR": incr, "MSET": mset, "SET": setText,
	"LMOVE": lmove, "LPOP": popFirst(list), "LPUSH": lpush, "LREM": lrem, "LSET": lset, "LTRIM": ltrim, "RPUSH": rpush,
	"SADD": sadd, "SMOVE": smove, "SREM": removeMembers(set), "SUNIONSTORE": sunionstore,
	"HDEL": removeMembers(hash), "HINCRBY": hincrby, "HPEXPIREAT": hexpireAt, "HSET": hset,
	"ZADD": zadd, "ZINCRBY": zincrby, "ZPOPMIN": popFirst(zset), "ZREM": removeMembers(zset), "ZREMRANGEBYRANK": zremrange,
	"XADD": xadd, "XDEL": xdel, "XTRIM": xtrim,
}

func number(b []byte) int64 {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}
