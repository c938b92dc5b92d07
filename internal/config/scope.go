package config

import (
	"slices"
	"strconv"

	"twinlog/internal/scope"
)

// maxDatabase is the highest database number that a Redis can be set up with.
const maxDatabase = 1<<31 - 2

// scopeFields choose keys and number databases. They concern both directions
// of a link; skip_commands concerns one.
var scopeFields = []string{"databases", "databases_map", "include", "exclude"}

func scopeConfig(o object) scope.Scope {
	s := scope.Scope{
		Databases: databases(o.field("databases")),
		Include:   patterns(o.field("include")),
		Exclude:   patterns(o.field("exclude")),
		Skip:      classes(o.field("skip_commands")),
	}
	s.Map = databasesMap(o.field("databases_map"), &s)
	if one, other, target, clash := s.Clash(); clash {
		o.field("databases_map").problem("databases %d and %d would both become %d: give each its own, or leave one out with databases", one, other, target)
	}
	return s
}

// pairScopes gives both directions of a link the same keys: what both sites
// write is settled key by key. A direction that does not say takes over what
// the other one says.
func pairScopes(first, second *Direction, objects []object) {
	back := first.Scope.Back()
	switch {
	case !givesScope(objects[1]):
		back.Skip = second.Scope.Skip
		second.Scope = back
	case !givesScope(objects[0]):
		back = second.Scope.Back()
		back.Skip = first.Scope.Skip
		first.Scope = back
	case !second.Scope.Same(&back):
		for _, name := range scopeFields {
			if at := objects[1].field(name); at.given() {
				at.problem("this is not the scope of %s mapped back, and both directions must carry the same keys, or what both sites write could not be settled: remove databases, databases_map, include and exclude here, and this direction takes them over", first.Name())
				return
			}
		}
	}
}

func givesScope(o object) bool {
	return slices.ContainsFunc(scopeFields, func(name string) bool { return o.field(name).given() })
}

// some are the items of a list that has at least one.
func some(v value, need string) []value {
	items, ok := v.items()
	if ok && len(items) == 0 {
		v.fault("is empty: %s", need)
	}
	return items
}

func databases(v value) []int32 {
	items := some(v, "name at least one database, or remove it for all")
	var dbs []int32
	for _, item := range items {
		n := int32(item.whole(-1, 0, maxDatabase))
		if n < 0 {
			continue
		}
		if slices.Contains(dbs, n) {
			item.problem("database %d is named twice: remove one", n)
			continue
		}
		dbs = append(dbs, n)
	}
	slices.Sort(dbs)
	return dbs
}

// databasesMap leaves out databases that keep their number.
func databasesMap(v value, s *scope.Scope) map[int32]int32 {
	if !v.given() {
		return nil
	}
	entries, _ := v.entries()
	dbs, from := map[int32]int32{}, map[int32]int32{}
	for _, e := range entries {
		key := value{v.r, v.path, e.keyNode}
		n, err := strconv.ParseInt(e.key, 10, 32)
		origin := int32(n)
		if err != nil || origin < 0 || origin > maxDatabase {
			key.problem("%q is not the number of a database", keyText(e.key))
			continue
		}
		target := int32(e.value.whole(-1, 0, maxDatabase))
		if target < 0 {
			continue
		}
		if other, twice := from[target]; twice {
			e.value.problem("databases %d and %d would both become %d: give each its own", other, origin, target)
			continue
		}
		if !s.HasDB(origin) {
			key.problem("database %d is not among databases: remove it here, or name it there", origin)
			continue
		}
		from[target] = origin
		if origin != target {
			dbs[origin] = target
		}
	}
	return dbs
}

func patterns(v value) []string {
	items := some(v, "name at least one pattern, as in [session:*], or remove it")
	var patterns []string
	for _, item := range items {
		p, ok := item.text()
		if !ok {
			continue
		}
		if p == "" {
			item.fault("is empty: name a pattern, as in session:*")
		}
		patterns = append(patterns, p)
	}
	return patterns
}

func classes(v value) []scope.Class {
	items := some(v, "name what is left out, as in [flush], or remove it")
	names := make([]string, 0, len(scope.Classes))
	for _, c := range scope.Classes {
		names = append(names, string(c))
	}
	var all []scope.Class
	for _, item := range items {
		c := scope.Class(item.oneOf("", names...))
		if slices.Contains(all, c) {
			item.problem("%s is named twice: remove one", c)
		}
		if c != "" {
			all = append(all, c)
		}
	}
	return all
}
