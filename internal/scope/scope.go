// Package scope says what of a site a direction carries: which databases,
// under which numbers, which keys, and which kinds of commands are left out.
package scope

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// Class is a kind of commands that a direction can leave out.
type Class string

// The classes, in the words of the configuration.
const (
	Flush    Class = "flush"    // FLUSHDB, FLUSHALL
	Publish  Class = "publish"  // PUBLISH, SPUBLISH
	Function Class = "function" // FUNCTION: the libraries
)

// Classes are all classes.
var Classes = []Class{Flush, Publish, Function}

// Scope is what a direction carries. The zero value is everything. It is not
// changed once it is in use.
type Scope struct {
	Databases []int32         // of the origin, ascending; nil: all
	Map       map[int32]int32 // their numbers at the target, where they differ
	Include   []string        // patterns as of Redis's KEYS, any of which a key matches; nil: every key
	Exclude   []string        // patterns, none of which a key matches
	Skip      []Class         // left out
}

// Keyed tells whether keys are chosen by their names.
func (s *Scope) Keyed() bool { return len(s.Include)+len(s.Exclude) > 0 }

// Partial tells whether anything is out of scope.
func (s *Scope) Partial() bool { return s.Databases != nil || s.Keyed() || len(s.Skip) > 0 }

// HasDB tells whether a database of the origin is in scope.
func (s *Scope) HasDB(db int32) bool { return s.Databases == nil || slices.Contains(s.Databases, db) }

// HasKey tells whether a key of the origin is in scope.
func (s *Scope) HasKey(db int32, key []byte) bool { return s.HasDB(db) && s.HasName(key) }

// HasName tells whether a key's name is in scope.
func (s *Scope) HasName(key []byte) bool {
	matches := func(pattern string) bool { return Match(pattern, key) }
	return (len(s.Include) == 0 || slices.ContainsFunc(s.Include, matches)) && !slices.ContainsFunc(s.Exclude, matches)
}

// Skips tells whether a class of commands is left out.
func (s *Scope) Skips(c Class) bool { return slices.Contains(s.Skip, c) }

// To is the number at the target of a database of the origin.
func (s *Scope) To(db int32) int32 {
	if to, ok := s.Map[db]; ok {
		return to
	}
	return db
}

// Maps tells whether a database has another number at the target.
func (s *Scope) Maps() bool { return len(s.Map) > 0 }

// AtTarget is what of the target the direction writes: the scope under the
// target's numbers.
func (s *Scope) AtTarget() Scope {
	t := Scope{Include: s.Include, Exclude: s.Exclude}
	if s.Databases != nil {
		t.Databases = make([]int32, 0, len(s.Databases))
		for _, db := range s.Databases {
			t.Databases = append(t.Databases, s.To(db))
		}
		slices.Sort(t.Databases)
	}
	return t
}

// Back is the scope of the opposite direction: the same keys, mapped back.
func (s *Scope) Back() Scope {
	b := s.AtTarget()
	for from, to := range s.Map {
		if b.Map == nil {
			b.Map = map[int32]int32{}
		}
		b.Map[to] = from
	}
	return b
}

// Same tells whether two scopes choose the same keys and number their
// databases alike. What they skip may differ.
func (s *Scope) Same(o *Scope) bool {
	return (s.Databases == nil) == (o.Databases == nil) && slices.Equal(s.Databases, o.Databases) && maps.Equal(s.Map, o.Map) &&
		sameSet(s.Include, o.Include) && sameSet(s.Exclude, o.Exclude)
}

func sameSet(a, b []string) bool { return slices.Equal(set(a), set(b)) }

func set(all []string) []string { return slices.Compact(slices.Sorted(slices.Values(all))) }

// Clash finds two databases of the origin that would be one at the target.
func (s *Scope) Clash() (one, other, target int32, found bool) {
	from := map[int32]int32{}
	all := s.Databases
	if all == nil { // the others keep their numbers: those that a mapped one takes count
		all = slices.Sorted(maps.Keys(s.Map))
		for _, to := range s.Map {
			if _, mapped := s.Map[to]; !mapped {
				all = append(all, to)
			}
		}
	}
	slices.Sort(all)
	for _, db := range all {
		to := s.To(db)
		if first, taken := from[to]; taken {
			return first, db, to, true
		}
		from[to] = db
	}
	return 0, 0, 0, false
}

// Fingerprint tells scopes apart that choose other keys or number databases
// otherwise; empty for everything. It is kept with positions.
func (s *Scope) Fingerprint() string {
	if s.Databases == nil && !s.Keyed() && !s.Maps() {
		return ""
	}
	text := fmt.Sprintf("%t %v %v %q %q", s.Databases == nil, s.Databases, s.Map, set(s.Include), set(s.Exclude))
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
