package testkit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/scope"
	"twinlog/offsets"
)

// CompareOptions says which differences do not count.
type CompareOptions struct {
	// Grace is how far the expiry times of two copies may be apart: a sink
	// writes them expiry_grace later than the origin.
	Grace time.Duration
	// WithReserved compares Twinlog's own keys too.
	WithReserved bool
	// IgnoreIdleConsumers leaves out consumers of stream groups that have
	// nothing pending: XREADGROUP makes some that no server replicates.
	IgnoreIdleConsumers bool
	// Scope is what of a is compared, with its place at b.
	Scope scope.Scope
	// Most ends the comparison after so many differences; 0 means 100.
	Most int
}

// Difference is one thing that is not the same in two data sets.
type Difference struct {
	DB   int    // -1: not in a database
	Key  string // a function library's name if DB is -1
	What string // "type", "expiry", "element 3", …
	A, B string // what each has
}

// String tells the difference in one line.
func (d Difference) String() string {
	if d.DB < 0 {
		return fmt.Sprintf("function library %q: %s: a has %s, b has %s", d.Key, d.What, d.A, d.B)
	}
	return fmt.Sprintf("db %d, key %q: %s: a has %s, b has %s", d.DB, d.Key, d.What, d.A, d.B)
}

// Compare reads two data sets, which nobody writes to meanwhile, and returns
// how they differ: type, value and expiry of every key of every database, and
// the function libraries. Values are compared as clients see them, never by
// their encoding.
func Compare(ctx context.Context, a, b *goredis.Client, o CompareOptions) ([]Difference, error) {
	if o.Most == 0 {
		o.Most = 100
	}
	left, err := openSide(ctx, a)
	if err != nil {
		return nil, err
	}
	defer left.close()
	right, err := openSide(ctx, b)
	if err != nil {
		return nil, err
	}
	defer right.close()
	c := &comparison{CompareOptions: o, sides: [2]*side{left, right}, entriesRead: left.replicatesEntriesRead && right.replicatesEntriesRead, counters: !left.before7 && !right.before7}
	back := o.Scope.Back()
	all := map[int]bool{}
	for db := range left.dbs {
		all[db] = true
	}
	for db := range right.dbs {
		all[int(back.To(int32(db)))] = true
	}
	for _, db := range slices.Sorted(maps.Keys(all)) {
		if !o.Scope.HasDB(int32(db)) {
			continue
		}
		if err := c.compareDB(ctx, db); err != nil {
			return nil, err
		}
	}
	if err := c.compareFunctions(ctx); err != nil {
		return nil, err
	}
	return c.found, nil
}

// Equal polls until r and other do not differ, and ends the test with the
// differences if they still do after timeout.
func (r *Redis) Equal(other *Redis, timeout time.Duration, o CompareOptions) {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout+startTimeout)
	defer cancel()
	Eventually(r.tb, timeout, func() error {
		differences, err := Compare(ctx, r.client, other.client, o)
		if err != nil || len(differences) == 0 {
			return err
		}
		lines := make([]string, len(differences))
		for i, d := range differences {
			lines[i] = d.String()
		}
		return fmt.Errorf("%d differences:\n  %s", len(differences), strings.Join(lines, "\n  "))
	})
}

type comparison struct {
	CompareOptions
	entriesRead bool // compare the entries-read counters of stream groups
	counters    bool // compare the counters of streams
	sides       [2]*side
	found       []Difference
}

// chunk is how many keys are read at a time.
const chunk = 200

func (c *comparison) compareDB(ctx context.Context, db int) error {
	var keys [2]map[string]bool
	for i, s := range c.sides {
		at := db
		if i == 1 {
			at = int(c.Scope.To(int32(db)))
		}
		if err := s.selectDB(ctx, at); err != nil {
			return err
		}
		var err error
		if keys[i], err = s.keys(ctx, c.WithReserved); err != nil {
			return fmt.Errorf("listing db %d: %w", db, err)
		}
	}
	all := slices.DeleteFunc(slices.Sorted(maps.Keys(union(keys[0], keys[1]))), func(key string) bool { return !c.Scope.HasName([]byte(key)) })
	for part := range slices.Chunk(all, chunk) {
		var values [2][]value
		for i, s := range c.sides {
			var err error
			if values[i], err = s.values(ctx, part, c); err != nil {
				return fmt.Errorf("reading db %d: %w", db, err)
			}
		}
		for i, key := range part {
			if len(c.found) == c.Most {
				return nil
			}
			c.compareKey(db, key, values[0][i], values[1][i])
		}
	}
	return nil
}

func (c *comparison) compareKey(db int, key string, a, b value) {
	differ := func(what, a, b string) {
		c.found = append(c.found, Difference{DB: db, Key: key, What: what, A: a, B: b})
	}
	if a.kind != b.kind {
		differ("type", a.kind, b.kind)
		return
	}
	if i, same := firstDifference(a.parts, b.parts); !same {
		what := "value"
		if a.kind != "string" {
			what = fmt.Sprintf("part %d (of %d and %d)", i, len(a.parts), len(b.parts))
		}
		differ(what, part(a.parts, i), part(b.parts, i))
	}
	for _, field := range slices.Sorted(maps.Keys(union(a.fields, b.fields))) {
		left, right := expiryOf(a.fields, field), expiryOf(b.fields, field)
		if c.apart(left, right) {
			differ(fmt.Sprintf("expiry of field %q", field), expiryText(left), expiryText(right))
		}
	}
	if c.apart(a.expireAt, b.expireAt) {
		differ("expiry", expiryText(a.expireAt), expiryText(b.expireAt))
	}
}

// apart tells whether two expiries differ by more than the grace.
func (c *comparison) apart(a, b int64) bool {
	between := time.Duration(max(a, b)-min(a, b)) * time.Millisecond
	return (a < 0) != (b < 0) || a >= 0 && between > c.Grace
}

// expiryOf returns a field's expiry, -1 for none.
func expiryOf(fields map[string]int64, field string) int64 {
	if at, ok := fields[field]; ok {
		return at
	}
	return -1
}

// compareFunctions compares the libraries by name, engine and code.
func (c *comparison) compareFunctions(ctx context.Context) error {
	if c.Scope.Skips(scope.Function) {
		return nil
	}
	var libraries [2]map[string]string
	for i, s := range c.sides {
		var err error
		if libraries[i], err = s.functions(ctx); err != nil {
			return fmt.Errorf("listing functions: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(union(libraries[0], libraries[1]))) {
		if a, b := libraries[0][name], libraries[1][name]; a != b {
			c.found = append(c.found, Difference{DB: -1, Key: name, What: "code", A: shown(a), B: shown(b)})
		}
	}
	return nil
}

// firstDifference returns where two lists part.
func firstDifference(a, b []string) (at int, same bool) {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i, false
		}
	}
	return min(len(a), len(b)), len(a) == len(b)
}

func part(parts []string, i int) string {
	if i >= len(parts) {
		return "nothing"
	}
	return shown(parts[i])
}

func expiryText(ms int64) string {
	if ms < 0 {
		return "none"
	}
	return strconv.FormatInt(ms, 10) + " (" + time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") + ")"
}

const maxShown = 120

// shown shortens and quotes what a message shows.
func shown(s string) string {
	if len(s) > maxShown {
		return strconv.Quote(s[:maxShown]) + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return strconv.Quote(s)
}

func union[K comparable, V any](a, b map[K]V) map[K]V {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

func isReserved(key string) bool { return offsets.IsReserved([]byte(key)) }
