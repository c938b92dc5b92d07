package testkit

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

func TestSharedWritesEveryTypeAndKnowsItsSums(t *testing.T) {
	server := StartRedis(t)
	ctx := t.Context()
	loads := []*Shared{
		StartShared(t, SharedOptions{Addr: server.Addr(), Site: "a", Seed: 1}),
		StartShared(t, SharedOptions{Addr: server.Addr(), Site: "b", Seed: 2}),
	}
	Eventually(t, 30*time.Second, func() error {
		for _, s := range loads {
			if all, _ := s.Operations(); all < 20_000 {
				return errors.New("not yet")
			}
		}
		return nil
	})
	for _, s := range loads {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if all, refused := s.Operations(); refused == 0 || refused > all/2 {
			t.Errorf("%d of %d operations were refused", refused, all)
		}
	}
	if err := VerifySums(ctx, server.Addr(), loads...); err != nil {
		t.Error(err)
	}
	types := map[string]bool{}
	for _, key := range server.Client().Keys(ctx, "shared:*").Val() {
		types[server.Client().Type(ctx, key).Val()] = true
	}
	delete(types, "none") // a key may expire between the two
	if len(types) != len(kinds) {
		t.Errorf("types: %v", types)
	}
	for _, tt := range []struct{ change, want string }{
		{"INCR sum:counter:3", "sum:counter:3 of db 0"},
		{"SREM sum:set:0 a-0-7", `missing ["a-0-7"], 0 were`},
		{"SADD sum:set:1 x", `1 were never added ["x"]`},
	} {
		run(t, server.Client(), tt.change)
		if err := VerifySums(ctx, server.Addr(), loads...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error = %v, want %s", tt.change, err, tt.want)
		}
	}
}

// Every line is a command that some server takes: what it answers is no
// mistake in the line.
func TestSharedCommandsAreWellFormed(t *testing.T) {
	server := StartRedis(t)
	keys := sharedKeys{rand.New(rand.NewPCG(1, 1)), 3}
	for _, words := range sharedCommands {
		for range 20 {
			args := keys.fill(words)
			err := server.Client().Do(t.Context(), args...).Err()
			if err == nil || errors.Is(err, goredis.Nil) {
				continue
			}
			for _, mistake := range []string{"syntax", "wrong number", "unknown command", "payload", "invalid expire", "timeout"} {
				if strings.Contains(err.Error(), mistake) {
					t.Errorf("%q: %v", args, err)
				}
			}
		}
	}
}
