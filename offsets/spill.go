package offsets

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"twinlog/internal/command"
)

// spill makes room in memory: generations are merged into files. Without a
// directory, or above MaxDisk, the oldest changes are forgotten instead.
func (l *Ledger) spill() error {
	if l.cfg.Dir == "" {
		return l.dropWhile(func() bool { return l.memory > l.cfg.MaxMemory })
	}
	for i := 0; i < len(l.shelves); i++ {
		if err := l.spillRun(i); err != nil {
			return err
		}
	}
	return l.dropWhile(func() bool { return l.cfg.MaxDisk > 0 && l.disk > l.cfg.MaxDisk })
}

// spillRun replaces the generations that stand one behind another from place
// i on by one file. Files that are there already are left alone: merging them
// again and again would cost more than looking into each.
func (l *Ledger) spillRun(i int) error {
	var run []*generation
	for _, s := range l.shelves[i:] {
		g, ok := s.(*generation)
		if !ok {
			break
		}
		run = append(run, g)
	}
	if len(run) == 0 {
		return nil
	}
	s, err := mergeToFile(l.cfg.Dir, l.cfg.Site, run)
	if err != nil {
		return err
	}
	for _, g := range run {
		l.memory -= g.memory()
	}
	l.memory += s.memory()
	l.disk += s.disk()
	l.shelves = slices.Replace(l.shelves, i, i+len(run), shelf(s))
	return nil
}

// dropWhile forgets the oldest shelves as long as there is too much. What
// they knew counts as unseen from then on.
func (l *Ledger) dropWhile(tooMuch func() bool) error {
	for len(l.shelves) > 0 && tooMuch() {
		first, last := l.shelves[0].span()
		l.lost = max(l.lost, last)
		l.dropped += last - first + 1
		if err := l.drop(1); err != nil {
			return err
		}
	}
	return nil
}

// drop removes the n oldest shelves, which are sealed.
func (l *Ledger) drop(n int) error {
	var failed error
	for _, s := range l.shelves[:n] {
		l.memory -= s.memory()
		l.disk -= s.disk()
		failed = errors.Join(failed, s.drop())
		l.recycle(s)
	}
	l.shelves = slices.Delete(l.shelves, 0, n)
	return failed
}

// ledgerFile begins the names of a site's files. Digits follow.
func ledgerFile(site string) string { return "ledger-" + site + "-" }

// removeLeftovers removes the files of a site whose process was killed. Other
// sites may keep theirs in the same directory.
func removeLeftovers(dir, site string) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking for old ledger files of site %s: %w", site, err)
	}
	for _, e := range entries {
		digits, ours := strings.CutPrefix(e.Name(), ledgerFile(site))
		if !ours || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing an old ledger file of site %s: %w", site, err)
		}
	}
	return nil
}

// mergeToFile writes generations, oldest first, into one new file.
func mergeToFile(dir, site string, run []*generation) (*spilled, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ledgerFile(site)+"*") // never one that another process has open
	if err != nil {
		return nil, err
	}
	first, last := run[0].first, run[0].to
	for _, g := range run { // what was recalled may overlap with what follows
		first, last = min(first, g.first), max(last, g.to)
	}
	w := newSpillWriter(f, first, last)
	mergeKeys(w, run)
	mergeElements(w, run)
	mergeMultis(w, run)
	s, err := w.finish()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("writing %s, is there room: %w", f.Name(), err), f.Close(), os.Remove(f.Name()))
	}
	return s, nil
}

// place is where one generation keeps a key.
type place struct {
	hash               uint64
	generation, record int32 // record -1: taken
}

func mergeKeys(w *spillWriter, run []*generation) {
	places := sortedPlaces(run)
	for len(places) > 0 {
		n := 1
		for n < len(places) && places[n].hash == places[0].hash {
			n++
		}
		mergeSame(w, run, places[:n])
		w.endHash()
		places = places[n:]
	}
	w.endSection(&w.s.keys)
}

// sortedPlaces lists all keys by hash, the newest generation first.
func sortedPlaces(run []*generation) []place {
	n := 0
	for _, g := range run {
		n += len(g.records)
	}
	places := make([]place, 0, n)
	for i, g := range run {
		for j := range g.records {
			places = append(places, place{g.records[j].hash, int32(i), int32(j)})
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		if c := cmp.Compare(a.hash, b.hash); c != 0 {
			return c
		}
		return cmp.Compare(b.generation, a.generation)
	})
	return places
}

// mergeSame writes the keys of one hash, which is one key unless two collide.
func mergeSame(w *spillWriter, run []*generation, places []place) {
	for i, p := range places {
		if p.record < 0 {
			continue
		}
		g := run[p.generation]
		r := &g.records[p.record]
		t := g.touched(r)
		for j := i + 1; j < len(places); j++ {
			if old := &places[j]; old.record >= 0 {
				older := run[old.generation]
				if x := &older.records[old.record]; x.db == r.db && bytes.Equal(older.name(x), g.name(r)) {
					t = t.before(older.touched(x))
					old.record = -1
				}
			}
		}
		w.key(r.hash, r.db, g.name(r), t)
	}
}

// elementAt is an element's hash and its last own write.
type elementAt struct {
	hash uint64
	seq  int64
}

func mergeElements(w *spillWriter, run []*generation) {
	n := 0
	for _, g := range run {
		n += len(g.elements)
	}
	all := make([]elementAt, 0, n)
	for _, g := range run {
		for hash, at := range g.elements {
			all = append(all, elementAt{hash, g.seq(at)})
		}
	}
	slices.SortFunc(all, func(a, b elementAt) int {
		if c := cmp.Compare(a.hash, b.hash); c != 0 {
			return c
		}
		return cmp.Compare(b.seq, a.seq)
	})
	all = slices.CompactFunc(all, func(a, b elementAt) bool { return a.hash == b.hash }) // keeps the newest
	for _, e := range all {
		w.element(e)
	}
	w.endSection(&w.s.elements)
}

func mergeMultis(w *spillWriter, run []*generation) {
	for _, g := range run {
		_ = g.multis(func(seq int64, keys []command.KeyTouch) { w.multi(seq, keys) }) // a generation in memory never fails
	}
	w.endSection(&w.s.several)
}
