package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"

	"twinlog/internal/admin"
)

func newConflictsCommand() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "conflicts -c FILE",
		Short: "Show what became of keys that both sites changed",
		Long: `Asks the running worker (at http.listen) for the last hundred conflicts of both
sites, oldest first: the key, what each side did without having seen the other,
and what won. They are kept in the worker's memory and begin anew with it.

  D          a removal was left out: it had not seen what the site wrote
  R          a value was left out: what the site wrote since is on its way
  H          both sites changed the key: home publishes its value to both
  no effect  the other site's command failed on what the site wrote
  SWAPDB     both sites worked in a swapped database: look at these keys

--json prints the array "conflicts" of GET /status. A key there is a string
where it is valid UTF-8, else {"b64":"…"}.`,
		Example: `  twinlog conflicts -c twinlog.yml
  twinlog conflicts -c twinlog.yml --json | jq -c '.[] | select(.rule == "H") | .key'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			worker, err := newWorkerClient(path)
			if err != nil {
				return err
			}
			return showConflicts(cmd.Context(), cmd.OutOrStdout(), worker, asJSON)
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func showConflicts(ctx context.Context, out io.Writer, worker workerClient, asJSON bool) error {
	body, err := worker.do(ctx, http.MethodGet, "/status")
	if err != nil {
		return err
	}
	var told struct{ Conflicts json.RawMessage }
	if err := json.Unmarshal(body, &told); err != nil {
		return fmt.Errorf("reading the worker's status: %w", err)
	}
	if told.Conflicts == nil {
		return errors.New("the worker is of an older version, which does not tell conflicts: restart it with this one")
	}
	if asJSON {
		return writeIndented(out, told.Conflicts)
	}
	var status admin.Status
	if err := json.Unmarshal(body, &status); err != nil {
		return fmt.Errorf("reading the worker's status: %w", err)
	}
	return writeConflicts(out, &status)
}

func writeIndented(out io.Writer, array json.RawMessage) error {
	var text bytes.Buffer
	if err := json.Indent(&text, array, "", "  "); err != nil {
		return fmt.Errorf("reading the worker's conflicts: %w", err)
	}
	text.WriteByte('\n')
	_, err := text.WriteTo(out)
	return err
}

func writeConflicts(out io.Writer, st *admin.Status) error {
	switch {
	case len(st.Directions) < 2:
		fmt.Fprintf(out, "no conflicts: link %s goes one way, so only one site writes\n", st.Link)
		return nil
	case len(st.Conflicts) == 0:
		fmt.Fprintln(out, "no conflicts since the worker was started")
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tSITE\tWHAT\tDB\tKEY\tTHE OTHER SITE DID\tTHIS SITE DID\tWON")
	for i := range st.Conflicts {
		c := &st.Conflicts[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", c.At, c.Site, ruleText(c.Rule), c.DB, keyText(c), cell(c.Peer), cell(c.Own), cell(c.Won))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nSince the worker was started:")
	for _, name := range slices.Sorted(maps.Keys(st.Sites)) {
		s := st.Sites[name]
		fmt.Fprintf(out, "  site %s: conflicts %d, keys settled by its value %d, still to settle %d\n", name, s.Conflicts, s.Repaired, s.Dirty)
	}
	return nil
}

// ruleText says what a rule did.
func ruleText(r admin.Rule) string {
	switch r {
	case admin.RuleD:
		return "removal left out (D)"
	case admin.RuleR:
		return "value left out (R)"
	case admin.RuleH:
		return "home decided (H)"
	case admin.RuleNoEffect:
		return "command without effect"
	case admin.RuleSwap:
		return "SWAPDB, not exact"
	}
	return cell(string(r))
}

// shownKeyBytes is how much of a key a line has room for.
const shownKeyBytes = 40

// keyText shows a key as redis-cli does, and nothing that would upset a
// terminal.
func keyText(c *admin.Conflict) string {
	if c.Key == nil {
		return "-"
	}
	size := max(c.KeyBytes, len(c.Key))
	if size > shownKeyBytes {
		return strconv.Quote(string(c.Key[:min(len(c.Key), shownKeyBytes)])) + fmt.Sprintf("… (%d bytes)", size)
	}
	return strconv.Quote(string(c.Key))
}

// cell is a text as a column of the table, which it must not break.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}
