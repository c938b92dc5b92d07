package simulate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/testkit"
)

// TestMemoryIsLikeRedis runs the generator's commands at a real Redis as well:
// the same ones take effect, the same ones fail, and the same is there after.
func TestMemoryIsLikeRedis(t *testing.T) {
	client := testkit.StartRedis(t).Client()
	for at := range uint64(60) {
		c := configOf(t, []string{"multi", "chains"}[at%2])
		c.Old = true
		client.FlushAll(t.Context())
		m := &memory{}
		for _, s := range scheduleOf(c, at) {
			for _, args := range s.commands {
				want, got := runReal(t, client, args), m.run(args)
				if want != got {
					t.Fatalf("seed %d, %s: outcome %d, Redis says %d", at, args, got, want)
				}
				if want, got := contents(t, client), m.contents(); want != got {
					t.Fatalf("seed %d, behind %s:\n%s\nRedis holds\n%s", at, args, got, want)
				}
			}
		}
	}
}

// runReal runs a command at a real Redis.
func runReal(t *testing.T, client *goredis.Client, args [][]byte) outcome {
	t.Helper()
	words := make([]any, len(args))
	for i := range args {
		words[i] = string(args[i])
	}
	before := changes(t, client)
	err := client.Do(t.Context(), words...).Err()
	switch {
	case changes(t, client) > before:
		return done
	case err != nil && err != goredis.Nil: //nolint:errorlint // never wrapped
		return failed
	}
	return nothing
}

// changes is how many changes the server counts.
func changes(t *testing.T, client *goredis.Client) int {
	t.Helper()
	info := client.Info(t.Context(), "persistence").Val()
	_, rest, _ := strings.Cut(info, "rdb_changes_since_last_save:")
	n, _, _ := strings.Cut(rest, "\r\n")
	count, err := strconv.Atoi(n)
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// contents is all that a real Redis holds, in the words of memory.contents.
func contents(t *testing.T, client *goredis.Client) string {
	t.Helper()
	ctx := t.Context()
	keys := client.Keys(ctx, "*").Val()
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		var what any
		switch kind := client.Type(ctx, k).Val(); kind {
		case "string":
			what = client.Get(ctx, k).Val()
		case "list":
			what = client.LRange(ctx, k, 0, -1).Val()
		case "set":
			members := client.SMembers(ctx, k).Val()
			slices.Sort(members)
			what = members
		case "hash":
			what = client.HGetAll(ctx, k).Val()
		case "zset":
			what = client.ZRangeWithScores(ctx, k, 0, -1).Val()
		case "stream":
			what = client.XRange(ctx, k, "-", "+").Val()
		}
		fmt.Fprintf(&b, "%s=%v expires %d\n", k, what, max(client.PExpireTime(ctx, k).Val().Milliseconds(), 0))
	}
	return b.String()
}

func (m *memory) contents() string {
	var b strings.Builder
	for _, e := range m.entries {
		var what any
		names, pairs, scores, entries := []string{}, map[string]string{}, []goredis.Z{}, []goredis.XMessage{}
		for _, i := range e.value.items {
			names, pairs[i.name] = append(names, i.name), i.value
			scores = append(scores, goredis.Z{Score: float64(i.score), Member: i.name})
			entries = append(entries, goredis.XMessage{ID: i.name, Values: map[string]any{"f": i.value}})
		}
		switch e.value.kind {
		case text:
			what = e.value.text
		case list, set:
			what = names
		case hash:
			what = pairs
		case zset:
			what = scores
		case log:
			what = entries
		}
		fmt.Fprintf(&b, "%s=%v expires %d\n", e.key, what, e.value.ttl)
	}
	return b.String()
}
