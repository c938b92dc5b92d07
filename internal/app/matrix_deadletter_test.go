//go:build matrix

package app_test

import (
	"testing"

	"twinlog/internal/testkit"
)

// Every server notes by itself that a command failed inside an EXEC, so that a
// worker that is killed right behind it does not pass that in silence.
func TestMatrixOfDeadLetters(t *testing.T) {
	broker := testkit.StartKafka(t)
	for _, target := range []testkit.Server{testkit.Redis62, testkit.Redis70, testkit.Valkey80, testkit.Redis80, testkit.Redis82, testkit.Redis86, testkit.Valkey91} {
		t.Run(string(target), func(t *testing.T) {
			letterCrash(t, broker, linkOptions{directions: oneWayDeadLetter, serverB: target}, "effect-missing", 1)
		})
	}
}
