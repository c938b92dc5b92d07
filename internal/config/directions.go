package config

import (
	"strconv"

	"twinlog/internal/redis"
	"twinlog/source"
)

// maxDatabase is the highest database number that a Redis can be set up with.
const maxDatabase = 1<<31 - 2

func directionsConfig(v value, sites map[string]redis.Config) []Direction {
	items, ok := v.items()
	if ok && len(items) == 0 {
		v.fault("is empty: say what is copied, as in [{from: a, to: b}]")
	}
	var directions []Direction
	var objects []object
	for i, item := range items {
		if i == 2 {
			item.problem("a link has at most two directions, one each way: remove this one")
			break
		}
		o := item.mapping("from", "to", "snapshot", "existing", "databases", "databases_map", "on_gap", "errors", "include", "exclude")
		if !o.ok {
			return nil
		}
		objects = append(objects, o)
		directions = append(directions, directionConfig(o, sites))
	}
	if len(directions) == 2 {
		checkPair(directions[0], directions[1], objects[1])
	}
	return directions
}

func directionConfig(o object, sites map[string]redis.Config) Direction {
	d := Direction{
		From:     siteName(o.require("from", "name the site whose changes are copied"), sites),
		To:       siteName(o.require("to", "name the site that they are copied to"), sites),
		Snapshot: source.SnapshotMode(o.field("snapshot").oneOf(string(source.SnapshotInitial), snapshotModes...)),
		Existing: o.field("existing").oneOf("intercept", "intercept", "ignore"),
		OnGap:    o.field("on_gap").oneOf("snapshot", "snapshot", "fail"),
		Errors:   o.field("errors").oneOf(ErrorsFail, ErrorsFail, ErrorsDeadLetter),
	}
	if d.From == d.To && d.From != "" {
		o.field("to").problem("a direction leads from one site to the other: name the other site")
	}
	if d.Snapshot == source.SnapshotNoData {
		if existing := o.field("existing"); existing.given() {
			existing.fault("has no meaning with snapshot: no_data, which copies nothing: remove it")
		}
		d.Existing = "ignore"
	}
	d.Databases = databases(o.field("databases"))
	d.DatabasesMap = databasesMap(o.field("databases_map"))
	d.Include = patterns(o.field("include"))
	d.Exclude = patterns(o.field("exclude"))
	warnDirection(o)
	return d
}

var snapshotModes = []string{
	string(source.SnapshotInitial), string(source.SnapshotInitialOnly), string(source.SnapshotNoData), string(source.SnapshotAlways),
}

// warnDirection tells what of a direction is not in effect yet.
func warnDirection(o object) {
	o.field("databases").notYet(o.path+".databases", "all databases are carried")
	o.field("databases_map").notYet(o.path+".databases_map", "all databases are carried, under their own numbers")
	o.field("include").notYet(o.path+".include", "all keys of all databases are carried")
	o.field("exclude").notYet(o.path+".exclude", "all keys of all databases are carried")
}

// checkPair holds what two directions owe each other; o is the second.
func checkPair(first, second Direction, o object) {
	if second.From != "" && first.From == second.From || second.To != "" && first.To == second.To {
		o.problem("both directions lead the same way: a two-way link has one each way, so write {from: %s, to: %s, snapshot: no_data}", keyText(first.To), keyText(first.From))
		return
	}
	if first.Snapshot != source.SnapshotNoData && second.Snapshot != source.SnapshotNoData {
		at := o.field("snapshot")
		if !at.given() {
			at = o.value
		}
		at.problem("both directions have a snapshot, and each would overwrite the other site: write snapshot: no_data in the direction whose target has the data")
	}
}

func databases(v value) []int {
	items, ok := v.items()
	if ok && len(items) == 0 {
		v.fault("is empty: name at least one database, or remove it for all")
	}
	var dbs []int
	seen := map[int]bool{}
	for _, item := range items {
		n := int(item.whole(-1, 0, maxDatabase))
		if n < 0 {
			continue
		}
		if seen[n] {
			item.problem("database %d is named twice: remove one", n)
		}
		seen[n] = true
		dbs = append(dbs, n)
	}
	return dbs
}

func databasesMap(v value) map[int]int {
	if !v.given() {
		return nil
	}
	entries, _ := v.entries()
	dbs, from := map[int]int{}, map[int]int{}
	for _, e := range entries {
		origin, err := strconv.ParseInt(e.key, 10, 32)
		if err != nil || origin < 0 || origin > maxDatabase {
			(value{v.r, v.path, e.keyNode}).problem("%q is not the number of a database", keyText(e.key))
			continue
		}
		target := int(e.value.whole(-1, 0, maxDatabase))
		if target < 0 {
			continue
		}
		if other, twice := from[target]; twice {
			e.value.problem("databases %d and %d would both become %d: give each its own", other, origin, target)
		}
		dbs[int(origin)], from[target] = target, int(origin)
	}
	return dbs
}

func patterns(v value) []string {
	items, ok := v.items()
	if ok && len(items) == 0 {
		v.fault("is empty: name at least one pattern, as in [session:*], or remove it")
	}
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
