package config

import (
	"twinlog/internal/redis"
	"twinlog/source"
)

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
		o := item.mapping("from", "to", "snapshot", "existing", "databases", "databases_map", "on_gap", "errors", "include", "exclude", "skip_commands")
		if !o.ok {
			return nil
		}
		objects = append(objects, o)
		directions = append(directions, directionConfig(o, sites))
	}
	if len(directions) == 2 {
		checkPair(directions[0], directions[1], objects[1])
		pairScopes(&directions[0], &directions[1], objects)
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
	d.Scope = scopeConfig(o)
	return d
}

var snapshotModes = []string{
	string(source.SnapshotInitial), string(source.SnapshotInitialOnly), string(source.SnapshotNoData), string(source.SnapshotAlways),
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
