package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"twinlog/internal/precheck"
)

func newPrecheckCommand() *cobra.Command {
	var path string
	var ignore []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "precheck -c FILE",
		Short: "Tell what would stop the link, and what to do about it",
		Long: `Asks both Redis and Kafka everything that a link needs, changes nothing, and
names each item that is not in order with its remedy. ` + "`twinlog run`" + ` does the
same before it starts.

Items: ` + strings.Join(precheck.Names(), ", ") + `.

Exit code 3 if an item is an error and not ignored.`,
		Example: `  twinlog precheck -c twinlog.yml
  twinlog precheck -c twinlog.yml --json --ignore redis-backlog`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(path)
			if err != nil {
				return err
			}
			if err := checkIgnored(ignore); err != nil {
				return err
			}
			report, err := precheck.Run(cmd.Context(), precheckConfig(c))
			if err != nil {
				return fmt.Errorf("running the pre-check: %w", err)
			}
			failed := report.Failed(ignore)
			report = report.Ignore(ignore)
			out := cmd.OutOrStdout()
			if asJSON {
				encoder := json.NewEncoder(out)
				encoder.SetIndent("", "  ")
				err = encoder.Encode(report)
			} else {
				err = report.WriteText(out, isTerminal(out))
			}
			if err != nil {
				return fmt.Errorf("writing the result: %w", err)
			}
			if failed {
				return &codeError{exitCheck, errSaid}
			}
			return nil
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringSliceVar(&ignore, "ignore", nil, "items to pass")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// checkIgnored refuses names that no item has.
func checkIgnored(ignore []string) error {
	if err := precheck.CheckNames(ignore); err != nil {
		return usage(err)
	}
	return nil
}
