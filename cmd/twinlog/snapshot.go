package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"twinlog/internal/admin"
)

func newSnapshotCommand() *cobra.Command {
	var path, direction, rate string
	var stop bool
	s := snapshotKeys{keys: admin.Keys{}}
	cmd := &cobra.Command{
		Use:   "snapshot -c FILE --direction a-to-b",
		Short: "Send chosen keys again while changes flow",
		Long: `Makes the running worker publish the values of chosen keys again, each as it is
at its place in the stream of changes: to repair keys at the target, or for a new
consumer of the topic. The origin pays for SCAN and for a DUMP of each key; there
is no fork and no full synchronisation. Keys that only the target holds are left
alone, but for a single key, named without *, ?, [ or \: if the origin does not
have it, it is removed at the target.

The worker goes on when this command is ended, and, once it has begun, after a
restart from where it was; --stop ends it. One at a time for each direction.`,
		Example: `  twinlog snapshot -c twinlog.yml --direction a-to-b --match 'user:*' --rate 1000/s
  twinlog snapshot -c twinlog.yml --direction a-to-b --match cart:4711
  twinlog snapshot -c twinlog.yml --direction a-to-b --stop`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := loadDirection(path, direction); err != nil {
				return err
			}
			var err error
			if s.keys.Rate, err = parseRate(rate); err != nil {
				return usage(err)
			}
			if s.keys.DB < -1 {
				return usage(fmt.Errorf("--db %d: want the number of a database, or -1 for all", s.keys.DB))
			}
			if s.worker, err = newWorkerClient(path); err != nil {
				return err
			}
			s.direction, s.out, s.progress = direction, cmd.OutOrStdout(), cmd.ErrOrStderr()
			if stop {
				return s.stop(cmd.Context())
			}
			return s.run(cmd.Context())
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringVar(&direction, "direction", "", "direction, as in a-to-b; required")
	cmd.Flags().StringVar(&s.keys.Match, "match", "*", "pattern of keys, as Redis's SCAN MATCH takes it")
	cmd.Flags().Int32Var(&s.keys.DB, "db", -1, "database at the origin (-1: all in scope)")
	cmd.Flags().StringVar(&rate, "rate", "0", "keys a second, at most, as in 1000/s (0: no limit)")
	cmd.Flags().BoolVar(&stop, "stop", false, "end the snapshot of chosen keys under way")
	cmd.Flags().BoolVar(&s.asJSON, "json", false, "print what came of it as JSON")
	return cmd
}

// parseRate reads 1000 or 1000/s.
func parseRate(text string) (int, error) {
	n, err := strconv.ParseUint(strings.TrimSuffix(text, "/s"), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("--rate %s: want a whole number of keys a second, as in 1000/s", text)
	}
	return int(n), nil
}

// snapshotKeys asks a worker for a snapshot of chosen keys and shows how far
// it is.
type snapshotKeys struct {
	worker        workerClient
	direction     string
	keys          admin.Keys
	asJSON        bool
	out, progress io.Writer
}

func (s *snapshotKeys) path() string {
	return "/directions/" + url.PathEscape(s.direction) + "/snapshot"
}

func (s *snapshotKeys) stop(ctx context.Context) error {
	if _, err := s.worker.do(ctx, http.MethodDelete, s.path()); err != nil {
		return err
	}
	_, err := fmt.Fprintln(s.out, s.direction, "stops sending chosen keys")
	return err
}

func (s *snapshotKeys) run(ctx context.Context) error {
	query := url.Values{"match": {s.keys.Match}, "rate": {strconv.Itoa(s.keys.Rate)}}
	if s.keys.DB >= 0 {
		query.Set("db", strconv.Itoa(int(s.keys.DB)))
	}
	body, err := s.worker.do(ctx, http.MethodPut, s.path()+"?"+query.Encode())
	if err != nil {
		return err
	}
	var begun struct {
		ID    string `json:"id"`
		Begun bool   `json:"begun"`
	}
	if err := json.Unmarshal(body, &begun); err != nil {
		return fmt.Errorf("reading the worker's answer: %w", err)
	}
	if !begun.Begun {
		_, _ = fmt.Fprintln(s.progress, "accepted, and not begun yet: if the worker is started again before it begins, ask again")
	}
	end, err := s.follow(ctx, begun.ID)
	if err != nil {
		return err
	}
	return s.tell(end)
}

// follow waits until the snapshot has ended. Its progress is told as it goes:
// on a terminal in one line.
func (s *snapshotKeys) follow(ctx context.Context, id string) (*admin.OnDemand, error) {
	every, before, after := 10*time.Second, "", "\n"
	if isTerminal(s.progress) {
		every, before, after = time.Second, "\r\x1b[K", ""
		defer fmt.Fprint(s.progress, before)
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	told := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the worker goes on by itself: see `twinlog status`, or end it with --stop: %w", ctx.Err())
		case <-tick.C:
		}
		at, failed, err := s.status(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			return nil, err
		case err != nil:
			continue
		case failed != "":
			return nil, fmt.Errorf("the source of %s has failed, and goes on with this when it is resumed: %s", s.direction, failed)
		case at == nil || at.ID != id:
			return nil, errors.New("the worker was started again before it had begun: nothing was sent, ask again")
		case at.State != admin.OnDemandRunning:
			return at, nil
		}
		if time.Since(told) >= every {
			told = time.Now()
			fmt.Fprintf(s.progress, "%s%s%s", before, onDemandText(at), after)
		}
	}
}

// status returns how far it is, and why its source has failed, empty if it has
// not.
func (s *snapshotKeys) status(ctx context.Context) (at *admin.OnDemand, failed string, err error) {
	body, err := s.worker.do(ctx, http.MethodGet, "/status")
	if err != nil {
		return nil, "", err
	}
	var st admin.Status
	if err := json.Unmarshal(body, &st); err != nil {
		return nil, "", fmt.Errorf("reading the worker's status: %w", err)
	}
	for i := range st.Directions {
		if d := &st.Directions[i]; d.Name == s.direction {
			if d.Source.State == admin.StateFailed {
				failed = d.Source.Trace
			}
			at = d.OnDemand
		}
	}
	return at, failed, nil
}

// tell says what came of it. Only what has been sent as a whole is a success.
func (s *snapshotKeys) tell(end *admin.OnDemand) error {
	if s.asJSON {
		encoder := json.NewEncoder(s.out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(end); err != nil {
			return err
		}
	}
	switch end.State {
	case "DONE", "COVERED":
		if s.asJSON {
			return nil
		}
		_, err := fmt.Fprintf(s.out, "%s: %s\n", s.direction, onDemandText(end))
		return err
	}
	return fmt.Errorf("%s: %s", s.direction, onDemandText(end))
}

// onDemandText says in words where a snapshot of chosen keys is.
func onDemandText(d *admin.OnDemand) string {
	what := fmt.Sprintf("%d keys that match %s", d.Keys, d.Match)
	switch d.State {
	case admin.OnDemandRunning:
		return fmt.Sprintf("sent %s, database %d is %.0f %% through", what, max(d.Database, 0), 100*d.Progress)
	case "DONE":
		return "sent " + what
	case "COVERED":
		return "sent " + what + ", then a snapshot of all data sent the others"
	case "STOPPED":
		return "was stopped after " + what
	}
	return fmt.Sprintf("failed after %s: %s", what, d.Reason)
}
