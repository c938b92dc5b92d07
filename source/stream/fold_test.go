package stream

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	goredis "github.com/redis/go-redis/v9"

	"twinlog/internal/command"
	"twinlog/internal/testkit"
	"twinlog/schema"
)

// What is made of many keys is the same, made in several steps, also if it is
// made of itself.
func TestFoldedCommandsMakeTheSame(t *testing.T) {
	c, ctx, random := testkit.StartRedis(t).Client(), t.Context(), rand.New(rand.NewPCG(1, 2))
	const limit = 600
	for round := range 60 {
		if err := c.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		pipe := c.Pipeline()
		for i := range 40 { // some keys are missing
			for range random.IntN(6) {
				pipe.SAdd(ctx, fmt.Sprintf("set:%d", i), "all", random.IntN(30))
				pipe.PFAdd(ctx, fmt.Sprintf("log:%d", i), random.IntN(1000))
				pipe.SetBit(ctx, fmt.Sprintf("bits:%d", i), random.Int64N(200), 1)
			}
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		for head, kind := range map[string]string{
			"SUNIONSTORE": "set", "SINTERSTORE": "set", "SDIFFSTORE": "set", "PFMERGE": "log", "BITOP and": "bits", "BITOP OR": "bits", "BITOP XOR": "bits",
		} {
			words := append(strings.Fields(head), kind+":0")
			for range 60 + random.IntN(100) {
				words = append(words, fmt.Sprintf("%s:%d", kind, 1+random.IntN(40)))
			}
			for range random.IntN(3) { // of itself too
				words[len(strings.Fields(head))+1+random.IntN(50)] = kind + ":0"
			}
			var argv [][]byte
			for _, w := range words {
				argv = append(argv, []byte(w))
			}
			events, err := command.AppendChanges(nil, 0, argv)
			if err != nil || len(events) != 1 {
				t.Fatal(events, err)
			}
			folded := Cut(nil, &events[0], limit)
			if len(folded) < 2 {
				t.Fatalf("%s of %d keys is one event", head, len(words))
			}
			want := made(t, c, events, kind+":0")
			if diff := cmp.Diff(want, made(t, c, folded, kind+":0")); diff != "" {
				t.Errorf("round %d: %s in %d steps: %s", round, words, len(folded), diff)
			}
			for i := range folded {
				if n := len(schema.AppendEvent(nil, &folded[i])); n > limit || folded[i].Part.Set {
					t.Errorf("an event has %d bytes, part %v", n, folded[i].Part)
				}
			}
		}
	}
}

// made is what a key holds behind events, which are taken back.
func made(t *testing.T, c *goredis.Client, events []schema.Event, key string) string {
	t.Helper()
	ctx := t.Context()
	before, err := c.Dump(ctx, key).Result()
	if err != nil && err != goredis.Nil { //nolint:errorlint // it is never wrapped
		t.Fatal(err)
	}
	for _, e := range events {
		args := []any{e.Command}
		for _, a := range e.Args {
			args = append(args, a)
		}
		if err := c.Do(ctx, args...).Err(); err != nil {
			t.Fatalf("%s: %v", e.Command, err)
		}
	}
	var after string
	if strings.HasPrefix(key, "set") {
		members, err := c.Sort(ctx, key, &goredis.Sort{Alpha: true}).Result()
		if err != nil {
			t.Fatal(err)
		}
		after = strings.Join(members, " ")
	} else if after, err = c.Get(ctx, key).Result(); err != nil && err != goredis.Nil { //nolint:errorlint // it is never wrapped
		t.Fatal(err)
	}
	if strings.HasPrefix(key, "log") {
		n, err := c.PFCount(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		after = fmt.Sprint(n)
	}
	c.Del(ctx, key)
	if before != "" {
		if err := c.RestoreReplace(ctx, key, 0, before).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return after
}

func TestWhatIsNotFolded(t *testing.T) {
	keys := strings.Repeat(" key:with:a:name", 100)
	for name, line := range map[string]string{
		"sums depend on the order":    "ZUNIONSTORE d 100" + keys,
		"not a chain":                 "BITOP DIFF d" + keys,
		"a key larger than an event":  "SUNIONSTORE d a " + strings.Repeat("x", 2000),
		"itself more often than fits": "BITOP XOR destination a" + strings.Repeat(" destination", 100),
	} {
		t.Run(name, func(t *testing.T) {
			e := schema.Event{Op: schema.OpWrite}
			for i, w := range strings.Fields(line) {
				if i == 0 {
					e.Command = w
				} else {
					e.Args = append(e.Args, []byte(w))
				}
			}
			e.Key = e.Args[0]
			if e.Command == "BITOP" {
				e.Key = e.Args[1]
			}
			if got := Cut(nil, &e, 600); len(got) != 1 || got[0].Part.Set {
				t.Errorf("%d events", len(got))
			}
		})
	}
}
