package simulate

import (
	"slices"
	"strconv"
	"strings"
)

// Keys of any type.

func del(m *memory, args [][]byte) outcome {
	how := nothing
	for _, key := range args {
		if k := string(key); m.get(k) != nil {
			m.replace(k, nil)
			how = done
		}
	}
	return how
}

func flush(m *memory, _ [][]byte) outcome {
	if len(m.entries) == 0 {
		return nothing
	}
	for _, e := range m.entries {
		m.changed = append(m.changed, e.key)
	}
	m.entries = m.entries[:0:0]
	return done
}

func rename(m *memory, args [][]byte) outcome {
	from, to := string(args[0]), string(args[1])
	v := m.get(from)
	if v == nil {
		return failed
	}
	m.replace(from, nil)
	m.replace(to, v)
	return done
}

func copyKey(m *memory, args [][]byte) outcome {
	v := m.get(string(args[0]))
	if v == nil {
		return nothing
	}
	m.replace(string(args[1]), v)
	return done
}

func persist(m *memory, args [][]byte) outcome {
	key := string(args[0])
	v := m.get(key)
	if v == nil || v.ttl == 0 {
		return nothing
	}
	c := *v
	c.ttl = 0
	m.put(key, &c)
	return done
}

func expireAt(m *memory, args [][]byte) outcome {
	key := string(args[0])
	v := m.get(key)
	if v == nil {
		return nothing
	}
	c := *v
	c.ttl = number(args[1])
	m.put(key, &c)
	return done
}

// Strings.

func setText(m *memory, args [][]byte) outcome {
	v := &value{text: string(args[1])}
	if len(args) == 4 { // PXAT ms
		v.ttl = number(args[3])
	}
	m.replace(string(args[0]), v)
	return done
}

func mset(m *memory, args [][]byte) outcome {
	for i := 0; i < len(args); i += 2 {
		m.replace(string(args[i]), &value{text: string(args[i+1])})
	}
	return done
}

func incr(m *memory, args [][]byte) outcome {
	key := string(args[0])
	v, ok := m.of(key, text)
	if !ok {
		return failed
	}
	n, err := int64(0), error(nil)
	if v.text != "" {
		n, err = strconv.ParseInt(v.text, 10, 64)
	}
	if err != nil {
		return failed
	}
	m.put(key, &value{text: strconv.FormatInt(n+1, 10), ttl: v.ttl})
	return done
}

func appendText(m *memory, args [][]byte) outcome {
	key := string(args[0])
	v, ok := m.of(key, text)
	if !ok {
		return failed
	}
	m.put(key, &value{text: v.text + string(args[1]), ttl: v.ttl})
	return done
}

// Lists.

func rpush(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), list)
	if !ok {
		return failed
	}
	items := slices.Clone(v.items)
	for _, a := range args[1:] {
		items = append(items, item{name: string(a)})
	}
	m.put(string(args[0]), v.with(items))
	return done
}

func lpush(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), list)
	if !ok {
		return failed
	}
	items := make([]item, 0, len(v.items)+len(args))
	for _, a := range slices.Backward(args[1:]) {
		items = append(items, item{name: string(a)})
	}
	m.put(string(args[0]), v.with(append(items, v.items...)))
	return done
}

// popFirst removes the first element of a list, or of a sorted set.
func popFirst(k kind) func(*memory, [][]byte) outcome {
	return func(m *memory, args [][]byte) outcome {
		v, ok := m.of(string(args[0]), k)
		switch {
		case !ok:
			return failed
		case len(v.items) == 0:
			return nothing
		}
		m.put(string(args[0]), v.with(v.items[1:]))
		return done
	}
}

func ltrim(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), list)
	if !ok {
		return failed
	}
	kept := span(v.items, number(args[1]), number(args[2]))
	if len(kept) == len(v.items) {
		return nothing
	}
	m.put(string(args[0]), v.with(kept))
	return done
}

// span is the part of items from start to stop, both counted from the end if
// negative.
func span(items []item, start, stop int64) []item {
	n := int64(len(items))
	if start < 0 {
		start = max(n+start, 0)
	}
	if stop < 0 {
		stop += n
	}
	if stop = min(stop, n-1); start > stop {
		return nil
	}
	return items[start : stop+1]
}

func lrem(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), list)
	if !ok {
		return failed
	}
	name := string(args[2])
	kept := slices.DeleteFunc(slices.Clone(v.items), func(i item) bool { return i.name == name })
	if len(kept) == len(v.items) {
		return nothing
	}
	m.put(string(args[0]), v.with(kept))
	return done
}

func lset(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), list)
	at := number(args[1])
	if !ok || at >= int64(len(v.items)) { // no such key, index out of range
		return failed
	}
	items := slices.Clone(v.items)
	items[at].name = string(args[2])
	m.put(string(args[0]), v.with(items))
	return done
}

// lmove is LMOVE source destination LEFT RIGHT.
func lmove(m *memory, args [][]byte) outcome {
	from, ok := m.of(string(args[0]), list)
	to, okTo := m.of(string(args[1]), list)
	switch {
	case !ok:
		return failed
	case len(from.items) == 0:
		return nothing
	case !okTo:
		return failed
	}
	m.put(string(args[1]), to.with(append(slices.Clone(to.items), from.items[0])))
	m.put(string(args[0]), from.with(from.items[1:]))
	return done
}

// Sets, and what they share with hashes and sorted sets.

func sadd(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), set)
	if !ok {
		return failed
	}
	items := slices.Clone(v.items)
	for _, a := range args[1:] {
		if v.with(items).index(string(a)) < 0 {
			items = append(items, item{name: string(a)})
		}
	}
	if len(items) == len(v.items) {
		return nothing
	}
	m.put(string(args[0]), v.with(order(set, items)))
	return done
}

// removeMembers is SREM, HDEL and ZREM.
func removeMembers(k kind) func(*memory, [][]byte) outcome {
	return func(m *memory, args [][]byte) outcome {
		v, ok := m.of(string(args[0]), k)
		if !ok {
			return failed
		}
		kept := v
		for _, a := range args[1:] {
			if i := kept.index(string(a)); i >= 0 {
				kept = kept.with(kept.without(i))
			}
		}
		if kept == v {
			return nothing
		}
		m.put(string(args[0]), kept)
		return done
	}
}

func smove(m *memory, args [][]byte) outcome {
	from, ok := m.of(string(args[0]), set)
	if len(from.items) == 0 && from.kind == set {
		return nothing
	}
	to, okTo := m.of(string(args[1]), set)
	if !ok || !okTo {
		return failed
	}
	i := from.index(string(args[2]))
	if i < 0 {
		return nothing
	}
	moved := from.items[i]
	m.put(string(args[0]), from.with(from.without(i)))
	if to.index(moved.name) < 0 {
		m.put(string(args[1]), to.with(order(set, append(slices.Clone(to.items), moved))))
	}
	return done
}

// sunionstore is SUNIONSTORE destination key key.
func sunionstore(m *memory, args [][]byte) outcome {
	union := &value{kind: set}
	for _, key := range args[1:] {
		v, ok := m.of(string(key), set)
		if !ok {
			return failed
		}
		for _, i := range v.items {
			if union.index(i.name) < 0 {
				union.items = append(union.items, i)
			}
		}
	}
	if len(union.items) == 0 && m.get(string(args[0])) == nil {
		return nothing
	}
	order(set, union.items)
	m.replace(string(args[0]), union)
	return done
}

// Hashes.

// setMember returns items with one member changed or added.
func (v *value) setMember(name string, change func(*item)) *value {
	items := slices.Clone(v.items)
	i := v.index(name)
	if i < 0 {
		i = len(items)
		items = append(items, item{name: name})
	}
	change(&items[i])
	return v.with(order(v.kind, items))
}

func hset(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), hash)
	if !ok {
		return failed
	}
	for i := 1; i < len(args); i += 2 {
		v = v.setMember(string(args[i]), func(f *item) { f.value, f.ttl = string(args[i+1]), 0 })
	}
	m.put(string(args[0]), v)
	return done
}

func hincrby(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), hash)
	if !ok {
		return failed
	}
	n, err := int64(0), error(nil)
	if i := v.index(string(args[1])); i >= 0 {
		n, err = strconv.ParseInt(v.items[i].value, 10, 64)
	}
	if err != nil {
		return failed
	}
	m.put(string(args[0]), v.setMember(string(args[1]), func(f *item) { f.value = strconv.FormatInt(n+number(args[2]), 10) }))
	return done
}

// hexpireAt is HPEXPIREAT key ms FIELDS 1 field.
func hexpireAt(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), hash)
	if !ok {
		return failed
	}
	if v.index(string(args[4])) < 0 {
		return nothing
	}
	m.put(string(args[0]), v.setMember(string(args[4]), func(f *item) { f.ttl = number(args[1]) }))
	return done
}

// Sorted sets.

func zadd(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), zset)
	if !ok {
		return failed
	}
	old := v
	for i := 1; i < len(args); i += 2 {
		v = v.setMember(string(args[i+1]), func(f *item) { f.score = number(args[i]) })
	}
	if slices.Equal(old.items, v.items) {
		return nothing
	}
	m.put(string(args[0]), v)
	return done
}

func zincrby(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), zset)
	if !ok {
		return failed
	}
	m.put(string(args[0]), v.setMember(string(args[2]), func(f *item) { f.score += number(args[1]) }))
	return done
}

func zremrange(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), zset)
	if !ok {
		return failed
	}
	gone := span(v.items, number(args[1]), number(args[2]))
	if len(gone) == 0 {
		return nothing
	}
	kept := slices.DeleteFunc(slices.Clone(v.items), func(i item) bool { return slices.Contains(gone, i) })
	m.put(string(args[0]), v.with(kept))
	return done
}

// Streams.

func entryID(b []byte) int64 {
	ms, _, _ := strings.Cut(string(b), "-")
	return number([]byte(ms))
}

// xadd is XADD key id name value.
func xadd(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), log)
	id := entryID(args[1])
	if !ok || id <= v.lastID {
		return failed
	}
	c := v.with(append(slices.Clone(v.items), item{name: string(args[1]), value: string(args[3]), score: id}))
	c.lastID = id
	m.put(string(args[0]), c)
	return done
}

func xdel(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), log)
	if !ok {
		return failed
	}
	i := v.index(string(args[1]))
	if i < 0 {
		return nothing
	}
	m.put(string(args[0]), v.with(v.without(i)))
	return done
}

// xtrim is XTRIM key MAXLEN = count.
func xtrim(m *memory, args [][]byte) outcome {
	v, ok := m.of(string(args[0]), log)
	if !ok {
		return failed
	}
	over := int64(len(v.items)) - number(args[3])
	if over <= 0 {
		return nothing
	}
	m.put(string(args[0]), v.with(v.items[over:]))
	return done
}
