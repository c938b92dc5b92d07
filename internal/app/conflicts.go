package app

import (
	"cmp"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"twinlog/internal/admin"
	"twinlog/offsets"
)

// newConflicts returns a place for the conflicts of each site that both
// writes and is written; nil on a one-way link, which has none.
func (w *Worker) newConflicts() map[string]*offsets.Conflicts {
	var all map[string]*offsets.Conflicts
	for _, h := range w.halves {
		if w.opposite(h) == nil {
			continue
		}
		if all == nil {
			all = map[string]*offsets.Conflicts{}
		}
		all[h.From] = &offsets.Conflicts{Site: h.From}
	}
	return all
}

// lastConflicts returns the last conflicts of all sites, oldest first.
func (w *Worker) lastConflicts() []offsets.Conflict {
	var all []offsets.Conflict
	for _, site := range slices.Sorted(maps.Keys(w.conflicts)) {
		all = append(all, w.conflicts[site].Last()...)
	}
	return newest(all)
}

// newest sorts conflicts by time and keeps as many as a site remembers.
func newest(all []offsets.Conflict) []offsets.Conflict {
	slices.SortStableFunc(all, func(x, y offsets.Conflict) int { return cmp.Compare(x.TsMs, y.TsMs) })
	return all[max(len(all)-offsets.KeptConflicts, 0):]
}

// countConflicts adds what was counted at a site to its state.
func (w *Worker) countConflicts(name string, site admin.Site) admin.Site {
	if c := w.conflicts[name]; c != nil {
		for rule := range shownRules {
			site.Conflicts += c.Count(rule)
		}
		site.Repaired = c.Repaired()
	}
	if l := w.ledgers[name]; l != nil {
		site.Dirty = l.Size().Dirty
	}
	return site
}

var shownRules = map[offsets.Rule]admin.Rule{
	offsets.RuleD: admin.RuleD, offsets.RuleR: admin.RuleR, offsets.RuleH: admin.RuleH, offsets.RuleNoEffect: admin.RuleNoEffect, offsets.RuleSwap: admin.RuleSwap,
}

func shownConflicts(list []offsets.Conflict) []admin.Conflict {
	shown := make([]admin.Conflict, 0, len(list))
	for i := range list {
		shown = append(shown, shownConflict(&list[i]))
	}
	return shown
}

func shownConflict(c *offsets.Conflict) admin.Conflict {
	shown := admin.Conflict{
		At:   time.UnixMilli(c.TsMs).UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Site: c.Site, Rule: shownRules[c.Rule], DB: c.DB, Key: admin.Key(shortKey(c.Key)), Peer: c.Peer, Own: c.Own, Won: c.Won,
	}
	if len(shown.Key) < c.KeyBytes {
		shown.KeyBytes = c.KeyBytes
	}
	return shown
}

// shortKey ends a key that was cut between two characters, where it is text.
func shortKey(key []byte) []byte {
	for n := len(key); len(key) == offsets.MaxConflictKey && n > len(key)-utf8.UTFMax; n-- {
		if utf8.Valid(key[:n]) {
			return key[:n]
		}
	}
	return key
}
