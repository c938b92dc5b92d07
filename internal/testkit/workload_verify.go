package testkit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// verify returns how the keys of client differ from what they must hold.
func (w *writer) verify(ctx context.Context, client *goredis.Client) (wrong []error, err error) {
	expected := w.expected()
	for _, k := range slices.Sorted(maps.Keys(expected)) {
		want := expected[k]
		reply, err := client.Do(ctx, readCommand(want.kind, k)...).Result()
		if err != nil && !errors.Is(err, goredis.Nil) && !strings.HasPrefix(err.Error(), "WRONGTYPE") {
			return nil, fmt.Errorf("reading %q: %w", k, err)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%q: want a %s: %w", k, want.kind, err))
			continue
		}
		got, err := canonical(want.kind, reply)
		if err != nil {
			return nil, fmt.Errorf("reading %q: %w", k, err)
		}
		if i, same := firstDifference(want.parts, got); !same {
			wrong = append(wrong, fmt.Errorf("%q: part %d: want %s, got %s (%d and %d parts)", k, i, part(want.parts, i), part(got, i), len(want.parts), len(got)))
		}
		ttl, err := client.PTTL(ctx, k).Result()
		if err != nil {
			return nil, fmt.Errorf("reading the expiry of %q: %w", k, err)
		}
		if ttl > 0 != w.expiring[k] && len(want.parts) > 0 {
			wrong = append(wrong, fmt.Errorf("%q: an expiry is wanted: %v; its time to live is %v", k, w.expiring[k], ttl))
		}
	}
	return wrong, nil
}

// expected returns what every key must hold, in canonical form.
func (w *writer) expected() map[string]value {
	all := map[string]value{}
	for k, n := range w.counters {
		all[k] = value{kind: "string", parts: []string{strconv.FormatInt(n, 10)}}
	}
	for k, s := range w.texts {
		all[k] = value{kind: "string", parts: []string{s}}
	}
	for k, l := range w.lists {
		all[k] = value{kind: "list", parts: l}
	}
	for k, h := range w.hashes {
		v := value{kind: "hash"}
		for f, n := range h {
			v.parts = append(v.parts, fmt.Sprintf("%q = \"%d\"", f, n))
		}
		slices.Sort(v.parts)
		all[k] = v
	}
	for k, z := range w.scores {
		v := value{kind: "zset"}
		members := slices.SortedFunc(maps.Keys(z), func(a, b string) int {
			if z[a] != z[b] {
				return int(2 * (z[a] - z[b]))
			}
			return strings.Compare(a, b)
		})
		for _, m := range members {
			v.parts = append(v.parts, fmt.Sprintf("%q at %q", m, strconv.FormatFloat(z[m], 'g', -1, 64)))
		}
		all[k] = v
	}
	for k, s := range w.sets {
		all[k] = value{kind: "set", parts: slices.Sorted(maps.Keys(s))}
	}
	for k, s := range w.streams {
		all[k] = value{kind: "stream", parts: s}
	}
	return all
}
