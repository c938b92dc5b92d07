package scope_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"twinlog/internal/scope"
	"twinlog/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAKeyIsInScopeIfAnIncludeAndNoExcludeMatches(t *testing.T) {
	s := scope.Scope{Databases: []int32{0, 2}, Include: []string{"order:*", "user:?"}, Exclude: []string{"order:tmp:*"}}
	for _, c := range []struct {
		db   int32
		key  string
		want bool
	}{
		{0, "order:1", true}, {2, "user:x", true}, {1, "order:1", false}, {0, "user:xy", false}, {0, "order:tmp:1", false}, {0, "order", false}, {0, "", false},
	} {
		if got := s.HasKey(c.db, []byte(c.key)); got != c.want {
			t.Errorf("db %d, key %q: %v, want %v", c.db, c.key, got, c.want)
		}
	}
	all := scope.Scope{Exclude: []string{"tmp:*"}}
	if !all.HasKey(7, []byte("x")) || all.HasKey(7, []byte("tmp:x")) || all.HasKey(0, []byte("tmp:")) {
		t.Error("without include every key is in scope but those that exclude names")
	}
	if nothing := (&scope.Scope{}); nothing.Partial() || nothing.Maps() || nothing.Fingerprint() != "" {
		t.Error("the zero scope is not everything")
	}
}

func TestBackMapsBack(t *testing.T) {
	for _, s := range []scope.Scope{
		{},
		{Databases: []int32{0, 1, 5}, Map: map[int32]int32{0: 3, 5: 0}, Include: []string{"a*"}},
		{Map: map[int32]int32{0: 1, 1: 2, 2: 0}},
		{Databases: []int32{4}},
	} {
		back := s.Back()
		again := back.Back()
		if !s.Same(&again) {
			t.Errorf("%+v mapped back twice is %+v", s, again)
		}
		for db := range int32(8) {
			if s.HasDB(db) && back.To(s.To(db)) != db {
				t.Errorf("%+v: db %d becomes %d and comes back as %d", s, db, s.To(db), back.To(s.To(db)))
			}
			if s.HasDB(db) != back.HasDB(s.To(db)) && s.Databases == nil {
				t.Errorf("%+v: db %d", s, db)
			}
		}
	}
	two := scope.Scope{Databases: []int32{0, 1}, Map: map[int32]int32{0: 3}}
	want := scope.Scope{Databases: []int32{1, 3}, Map: map[int32]int32{3: 0}}
	if diff := cmp.Diff(want, two.Back()); diff != "" {
		t.Error(diff)
	}
}

func TestClashIsTwoDatabasesThatWouldBeOne(t *testing.T) {
	for _, c := range []struct {
		given scope.Scope
		clash bool
	}{
		{scope.Scope{}, false},
		{scope.Scope{Map: map[int32]int32{0: 3}}, true}, // 3 keeps its number
		{scope.Scope{Map: map[int32]int32{0: 3, 3: 0}}, false},
		{scope.Scope{Databases: []int32{0}, Map: map[int32]int32{0: 3}}, false},
		{scope.Scope{Databases: []int32{0, 3}, Map: map[int32]int32{0: 3}}, true},
	} {
		if _, _, _, clash := c.given.Clash(); clash != c.clash {
			t.Errorf("%+v: %v, want %v", c.given, clash, c.clash)
		}
	}
}

func TestFingerprintTellsScopesApart(t *testing.T) {
	scopes := []scope.Scope{
		{},
		{Databases: []int32{0}},
		{Databases: []int32{0}, Map: map[int32]int32{0: 1}},
		{Include: []string{"a"}},
		{Exclude: []string{"a"}},
		{Include: []string{"a", "b"}},
		{Include: []string{"a b"}},
	}
	seen := map[string]int{}
	for i := range scopes {
		if j, twice := seen[scopes[i].Fingerprint()]; twice {
			t.Errorf("scopes %d and %d have one fingerprint", i, j)
		}
		seen[scopes[i].Fingerprint()] = i
	}
	one, other := scope.Scope{Include: []string{"a", "b"}}, scope.Scope{Include: []string{"b", "a", "b"}, Skip: []scope.Class{scope.Flush}}
	if one.Fingerprint() != other.Fingerprint() || !one.Same(&other) {
		t.Error("the order of patterns, and what is skipped, choose no other keys")
	}
}

// The server itself says what its patterns match.
func TestMatchIsAsTheServerMatches(t *testing.T) {
	server := testkit.StartRedis(t)
	r := rand.New(rand.NewPCG(1, 2))
	text := func(alphabet string, most int) string {
		b := make([]byte, 1+r.IntN(most))
		for i := range b {
			b[i] = alphabet[r.IntN(len(alphabet))]
		}
		return string(b)
	}
	var keys []string
	for range 200 {
		keys = append(keys, text("abc-]^[\\*?", 6))
	}
	keys = append(keys, "\x00", "a\xffb", "ab", "abc")
	slices.Sort(keys)
	keys = slices.Compact(keys)
	for _, k := range keys {
		if err := server.Client().Set(t.Context(), k, 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	patterns := []string{"*", "a*", "*b", "[a-c]b", "[^a]b", "[c-a]b", "[abc", "[a-", "[\\]]", "[]", "[]a]", "[^]", "\\", "\\*", "a\\", "**", "?", "[^", "[", "[-a]", "[a-]", "[a-]]", "[\\a-c]", "[a-\\]"}
	for range 1500 {
		patterns = append(patterns, text("abc-]^[\\*?", 8))
	}
	for _, p := range patterns {
		want, err := server.Client().Keys(t.Context(), p).Result()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, k := range keys {
			if scope.Match(p, []byte(k)) {
				got = append(got, k)
			}
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
			t.Errorf("pattern %q: %s", p, diff)
		}
	}
}

func FuzzMatch(f *testing.F) {
	for _, p := range []string{"*", "a*b?c", "[^a-c]*", "\\", "[", "[a-", "*a*a*a*a*a*b"} {
		f.Add(p, []byte("aaaaaaaaaaaaaaaaaaaaaaaa"))
	}
	f.Fuzz(func(t *testing.T, pattern string, key []byte) {
		got := scope.Match(pattern, key)
		if plain := strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, `\`, `\\`).Replace(string(key)); !scope.Match(plain, key) {
			t.Errorf("%q does not match %q", plain, key)
		}
		if !scope.Match("*"+"*", key) {
			t.Errorf("** does not match %q", key)
		}
		if got && !scope.Match("*"+pattern, append([]byte("x"), key...)) {
			t.Errorf("%q matches %q, and not behind a star", pattern, key)
		}
	})
}
