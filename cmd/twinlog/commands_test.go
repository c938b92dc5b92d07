package main_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"twinlog/internal/testkit"
)

// run runs a command on the worker's configuration, which must succeed.
func run(t *testing.T, worker *testkit.Process, args ...string) string {
	t.Helper()
	code, out, talk := worker.Run(t.Context(), args...)
	if code != 0 {
		t.Fatalf("twinlog %v: exit code %d\n%s%s", args, code, out, talk)
	}
	return string(out)
}

func TestCommandsShowAndSteerALivingLink(t *testing.T) {
	broker, a, b := testkit.StartKafka(t), testkit.StartRedis(t), testkit.StartRedis(t)
	worker := testkit.NewProcess(t, fmt.Sprintf("link: shown\nkafka: {brokers: [%q]}\nsites:\n  a: {redis: {addrs: [%q]}}\n  b: {redis: {addrs: [%q]}}\n"+
		"directions: [{from: a, to: b}, {from: b, to: a, snapshot: no_data}]", broker.Brokers()[0], a.Addr(), b.Addr()))
	ctx := t.Context()
	if err := a.Client().Set(ctx, "before", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	worker.Start()
	worker.AwaitReady(time.Minute)
	if err := a.Client().Set(ctx, "text\xff", "caf\u00e9", 0).Err(); err != nil {
		t.Fatal(err)
	}
	a.Equal(b, 20*time.Second, testkit.CompareOptions{})

	t.Run("precheck is content", func(t *testing.T) {
		var report struct {
			Items []struct{ Name, Status string }
		}
		if err := json.Unmarshal([]byte(run(t, worker, "precheck", "--json")), &report); err != nil {
			t.Fatal(err)
		}
		if len(report.Items) < 10 {
			t.Errorf("only %d items", len(report.Items))
		}
	})
	t.Run("tail prints events as JSON lines", func(t *testing.T) {
		out := run(t, worker, "tail", "--direction", "a-to-b", "--from-beginning", "--max-messages", "4")
		var ops, keys []string
		for line := range strings.Lines(out) {
			var e struct {
				Offset  *int64
				Op      string
				Command string
				Key     any
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Offset == nil {
				t.Fatalf("%s: %v", line, err)
			}
			ops, keys = append(ops, e.Op+e.Command), append(keys, fmt.Sprint(e.Key))
		}
		if got, want := strings.Join(ops, " "), "xSNAPSHOT_BEGIN r xSNAPSHOT_END uSET"; got != want {
			t.Errorf("events %s, want %s", got, want)
		}
		if keys[1] != "before" || !strings.Contains(keys[3], "b64") {
			t.Errorf("keys %v", keys)
		}
	})
	t.Run("conflicts are none where one site writes", func(t *testing.T) {
		if out := run(t, worker, "conflicts"); out != "no conflicts since the worker was started\n" {
			t.Errorf("conflicts:\n%s", out)
		}
		if out := run(t, worker, "conflicts", "--json"); out != "[]\n" {
			t.Errorf("conflicts --json:\n%s", out)
		}
	})
	t.Run("offsets list shows group, mark and position", func(t *testing.T) {
		testkit.Eventually(t, 10*time.Second, func() error { // the mirror is a second behind
			var rows []struct {
				Group    string
				Lag      *int64
				Mark     *struct{ Seq int64 }
				Position *struct{ Seq int64 }
			}
			if err := json.Unmarshal([]byte(run(t, worker, "offsets", "list", "--direction", "a-to-b", "--json")), &rows); err != nil {
				return err
			}
			if len(rows) != 1 || rows[0].Group != "twinlog.shown.a-to-b" || rows[0].Mark == nil || rows[0].Position == nil || rows[0].Lag == nil {
				return fmt.Errorf("rows %+v", rows)
			}
			if *rows[0].Lag != 0 {
				return fmt.Errorf("lag %d", *rows[0].Lag)
			}
			return nil
		})
		if out := run(t, worker, "offsets", "list"); !strings.Contains(out, "CURRENT-OFFSET") || strings.Count(out, "\n") != 3 {
			t.Errorf("table:\n%s", out)
		}
	})
	t.Run("pause and resume steer a connector", func(t *testing.T) {
		state := func() string {
			var st struct {
				Directions []struct{ Sink struct{ Name, State string } }
			}
			if err := json.Unmarshal([]byte(run(t, worker, "status", "--json")), &st); err != nil {
				t.Fatal(err)
			}
			return st.Directions[0].Sink.Name + " " + st.Directions[0].Sink.State
		}
		run(t, worker, "pause", "sink-b")
		if got := state(); got != "sink-b PAUSED" {
			t.Errorf("after pause: %s", got)
		}
		if err := a.Client().Set(ctx, "later", "1", 0).Err(); err != nil {
			t.Fatal(err)
		}
		run(t, worker, "resume", "sink-b")
		if got := state(); got != "sink-b RUNNING" {
			t.Errorf("after resume: %s", got)
		}
		a.Equal(b, 20*time.Second, testkit.CompareOptions{})
		if out := run(t, worker, "status"); !strings.Contains(out, "SYNCHRONIZING") {
			t.Errorf("status:\n%s", out)
		}
		if code, _, talk := worker.Run(ctx, "pause", "sink-z"); code != 1 || !strings.Contains(string(talk), "sink-z") {
			t.Errorf("pausing an unknown connector: exit code %d, %s", code, talk)
		}
	})
	if code := worker.Stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}
