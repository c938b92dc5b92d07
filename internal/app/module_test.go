package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// Values of a module's type are carried as the payloads that DUMP gives, where
// the target has the module.
func TestModuleValuesAreRestoredWhereTheTargetHasTheModule(t *testing.T) {
	module := []string{"--loadmodule", testkit.NoteModule(t)}
	l := newLink(t, linkOptions{argsA: append(wideBacklog(), module...), argsB: append(wideBacklog(), module...)})
	client(t, l.a, "NOTE.SET old hello ; NOTE.SET dies later ; PEXPIRE dies 3600000 ; SET text 1")
	payload, err := l.a.Client().Dump(t.Context(), "old").Result()
	if err != nil {
		t.Fatal(err)
	}
	l.run()
	l.endEqual(grace)
	if err := l.a.Client().RestoreReplace(t.Context(), "text", time.Hour, payload).Err(); err != nil {
		t.Fatal(err)
	}
	client(t, l.a, "RENAME dies renamed")
	if err := l.b.Client().Restore(t.Context(), "fromb", 0, payload).Err(); err != nil {
		t.Fatal(err)
	}
	l.endEqual(grace)
	for _, r := range []*testkit.Redis{l.a, l.b} {
		for key, want := range map[string]string{"old": "hello", "renamed": "later", "text": "hello", "fromb": "hello"} {
			if got, err := r.Client().Do(t.Context(), "NOTE.GET", key).Text(); err != nil || got != want {
				t.Errorf("%s at %s says %q (%v), want %q", key, r.Addr(), got, err, want)
			}
		}
	}
	client(t, l.a, "NOTE.SET new 1") // what a module's command writes, only the module knows
	if why := l.failed("source-a"); !strings.Contains(why, "NOTE.SET") {
		t.Errorf("the reason does not name the command: %s", why)
	}
}

func TestModuleValueIsRefusedByNameWhereTheTargetLacksTheModule(t *testing.T) {
	l := newLink(t, linkOptions{argsA: append(wideBacklog(), "--loadmodule", testkit.NoteModule(t)), argsB: wideBacklog(), directions: oneWay})
	client(t, l.a, "NOTE.SET strange hello")
	l.worker.Start()
	testkit.Eventually(t, time.Minute, func() error {
		st, err := status(l.worker)
		if err != nil {
			return err
		}
		for _, part := range []string{"strange", "note-test", "module"} {
			if why := st.Directions[0].Sink.Trace; !strings.Contains(why, part) {
				return fmt.Errorf("the reason does not say %q: %s", part, why)
			}
		}
		return nil
	})
}
