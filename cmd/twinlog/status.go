package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"twinlog/internal/admin"
)

func newStatusCommand() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status -c FILE",
		Short: "Show what the worker does",
		Long: `Asks the running worker (at http.listen) what its link does. --json prints the
document of GET /status.`,
		Example: `  twinlog status -c twinlog.yml
  twinlog status -c twinlog.yml --json | jq '.directions[].sink.lag_seconds'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			worker, err := newWorkerClient(path)
			if err != nil {
				return err
			}
			body, err := worker.do(cmd.Context(), http.MethodGet, "/status")
			if err != nil {
				return err
			}
			if asJSON {
				_, err := cmd.OutOrStdout().Write(body)
				return err
			}
			var status admin.Status
			if err := json.Unmarshal(body, &status); err != nil {
				return fmt.Errorf("reading the worker's status: %w", err)
			}
			return writeStatus(cmd.OutOrStdout(), &status)
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func lagText(s *admin.SinkStatus) string {
	if s.LagEvents < 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.1f s, %d events", s.LagSeconds, s.LagEvents)
}

func writeStatus(out io.Writer, st *admin.Status) error {
	fmt.Fprintf(out, "link %s, home %s", st.Link, st.Home)
	for _, name := range slices.Sorted(maps.Keys(st.Sites)) {
		fmt.Fprintf(out, ", site %s %s", name, st.Sites[name].State)
	}
	fmt.Fprint(out, "\n\n")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DIRECTION\tPHASE\tCONNECTOR\tSTATE\tSEQ\tPLACE\tBEHIND")
	for i := range st.Directions {
		d := &st.Directions[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%.1f s\n", d.Name, d.Phase, d.Source.Name, d.Source.State, d.Source.Seq, d.Source.Position, d.Source.BehindSeconds)
		fmt.Fprintf(t, "\t\t%s\t%s\t%d\toffset %d\t%s\n", d.Sink.Name, d.Sink.State, d.Sink.Seq, d.Sink.Offset, lagText(&d.Sink))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range st.Directions {
		d := &st.Directions[i]
		if d.OnDemand != nil {
			fmt.Fprintf(out, "\n%s on demand: %s\n", d.Name, onDemandText(d.OnDemand))
		}
		for _, said := range []struct{ who, what string }{{d.Name + " waits", d.Reason}, {d.Source.Name, d.Source.Trace}, {d.Sink.Name, d.Sink.Trace}} {
			if said.what != "" {
				fmt.Fprintf(out, "\n%s: %s\n", said.who, said.what)
			}
		}
		writeQuarantine(out, d.Name, &d.Sink)
	}
	return nil
}

// writeQuarantine tells which keys are not kept in step, and what to do.
func writeQuarantine(out io.Writer, direction string, s *admin.SinkStatus) {
	if s.QuarantinedKeys == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s: %d keys are quarantined, the last ones below: mend the cause, then `twinlog snapshot -c FILE --direction %s --match KEY` repairs a key\n", s.Name, s.QuarantinedKeys, direction)
	for _, q := range s.Quarantine {
		fmt.Fprintf(out, "  db %d, key %q, since seq %d: %s\n", q.DB, []byte(q.Key), q.Seq, q.Reason)
	}
}
