package simulate

import (
	"strings"
	"testing"

	"twinlog/offsets"
)

// meanwhile brings both sites to rest in the middle of a scenario.
const meanwhile = `
a read
a commit
b apply
b read
b commit
a apply
a read
a commit
b apply
b read`

func scenario(t *testing.T, text string) []step {
	t.Helper()
	steps, err := parse(strings.ReplaceAll(text, "sync", meanwhile))
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func TestCounterExamples(t *testing.T) {
	off := func(r offsets.Rules) Rules { return Rules{Rules: r} }
	for _, tt := range []struct {
		name  string
		off   Rules
		steps string
	}{
		{"no H", off(offsets.Rules{NoH: true}), `
			b write SET k 5
			a write INCR k`},
		{"no chain", off(offsets.Rules{NoChain: true}), `
			a write SADD s x ; RENAME s h ; RENAME h k ; COPY k j REPLACE
			b write SADD s y`},
		{"no peer dirty check", off(offsets.Rules{NoDirtyPeer: true}), `
			b write RPUSH l 1
			b write RENAME l k
			a write RPUSH l 2
			b write LMOVE k s LEFT RIGHT
			b read
			b commit
			a apply 3`},
		{"no peer dirty check, strings", off(offsets.Rules{NoDirtyPeer: true}), `
			b write INCR j
			b write INCR k
			b write RENAME j l
			a write SET j t17
			b write RENAME l h`},
		{"no own dirty check", off(offsets.Rules{NoDirtyOwn: true}), `
			a write SET k 5
			b write APPEND k t8
			b read
			b commit
			a apply
			a write RENAME k s`},
		{"no settled", off(offsets.Rules{NoSettled: true}), `
			a write SET k 5
			b write APPEND k t2
			b read
			b commit
			a apply
			a write SET j 1
			a read
			a commit
			a restart-source`},
		{"no E", off(offsets.Rules{NoHidden: true}), `
			a write SET k 5
			sync
			a write INCR k
			a read
			a commit
			b apply hide k`},
		{"E with the new seen", off(offsets.Rules{LateHidden: true}), `
			a write SET k 5
			sync
			a write SET k 6
			a read
			a commit
			b apply hide k`},
		{"no fence", Rules{NoFence: true}, `
			b write SET j 7
			b read
			b commit
			a apply
			b write DEL j
			b read
			b commit
			a write APPEND j x
			a apply`},
		{"no watch", Rules{NoWatch: true}, `
			b write SET j 7
			b write DEL j
			b read
			b commit
			a apply 1
			a decide
			a write APPEND j x
			a execute`},
		{"no D", off(offsets.Rules{NoD: true}), `
			b write SET j 7
			b write DEL j
			b read
			b commit
			a apply 1
			a write APPEND j x
			a apply`},
		{"D for whole keys only", off(offsets.Rules{WholeOnly: true}), `
			b write SADD s x
			b write SREM s x
			b read
			b commit
			a write SADD s x y
			a apply`},
		{"no R", off(offsets.Rules{NoR: true}), `
			a write SET k 1
			b write APPEND k 2
			b read
			b commit
			a apply
			a read
			a barrier
			a read
			a commit
			b apply 1
			b write APPEND k 3
			b apply`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steps := scenario(t, tt.steps)
			if wrong, _ := run(steps, Rules{}, false, nil); wrong != "" {
				t.Errorf("with all rules:\n%s", show(steps, Rules{}, false))
			}
			if wrong, _ := run(steps, tt.off, false, nil); wrong == "" {
				t.Errorf("nothing is wrong without the rule:\n%s", show(steps, tt.off, false))
			}
		})
	}
}

// TestWhatSlipsInBetweenWatchAndExec: a value of the own site that is
// published after a decision and before its EXEC.
func TestWhatSlipsInBetweenWatchAndExec(t *testing.T) {
	for _, tt := range []struct{ name, steps string }{
		{"a barrier", `
			b write SET j 7
			b write DEL j
			a write SET j 1
			b read
			b commit
			a apply 1
			a read
			a decide
			a barrier
			a execute`},
		{"a full synchronisation", `
			b write SET j 7
			b write DEL j
			a write SET j 1
			b read
			b commit
			a apply 1
			a read
			a decide
			a resnapshot
			a execute`},
		{"a snapshot that the peer asked for", `
			a write SET j 7
			sync
			a write SET j 8
			a read
			a commit
			a rewind 1
			a write DEL j
			a read
			a commit
			b apply 1
			b read
			b decide
			b barrier
			b execute`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steps := scenario(t, tt.steps)
			if wrong, _ := run(steps, Rules{}, false, nil); wrong != "" {
				t.Error(show(steps, Rules{}, false))
			}
		})
	}
}

// TestWhatIsForgottenCountsAsUnseen: what is left out for that, perhaps for
// nothing, has its value published, so both sites end equal with Recall or
// without.
func TestWhatIsForgottenCountsAsUnseen(t *testing.T) {
	steps := scenario(t, `
		a write HINCRBY q f 1
		b write ZADD z 1 x 2 y
		b write SADD m t
		b read
		b commit 1
		a apply 1
		a resnapshot
		a commit 3
		a rewind 8`)
	for _, rules := range []Rules{{}, {NoRecall: true}} {
		if wrong, _ := run(steps, rules, false, nil); wrong != "" {
			t.Errorf("%s, with %+v:\n%s", wrong, rules, show(steps, rules, false))
		}
	}
	const once = 420290 // diverged when such a value was left out and nothing followed
	if wrong, _ := run(scheduleOf(configOf(t, "all"), once), Rules{}, false, nil); wrong != "" {
		t.Errorf("seed %d: %s", once, wrong)
	}
}
