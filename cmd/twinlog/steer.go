package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func newPauseCommand() *cobra.Command {
	return steerCommand("pause", "Stop a connector's work, keeping its place",
		`Pauses a connector of a running worker. A source stays attached to its Redis
and keeps what it reads in memory up to its limit; a sink just stops. Neither
loses its place. A worker that is started again starts with nothing paused.`, "paused")
}

func newResumeCommand() *cobra.Command {
	return steerCommand("resume", "Go on after a pause, a stop or a failure",
		`Lets a connector of a running worker go on: after `+"`pause`"+`, and after it failed.
A sink that failed on an event which had no effect at the target goes on
behind that event.`, "resumed")
}

func steerCommand(verb, short, long, done string) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:     verb + " -c FILE NAME",
		Short:   short,
		Long:    long,
		Example: fmt.Sprintf("  twinlog %s -c twinlog.yml source-a\n  twinlog %s -c twinlog.yml sink-b", verb, verb),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			worker, err := newWorkerClient(path)
			if err != nil {
				return err
			}
			if _, err := worker.do(cmd.Context(), http.MethodPut, "/connectors/"+url.PathEscape(args[0])+"/"+verb); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), args[0], done)
			return nil
		},
	}
	configFlag(cmd, &path)
	return cmd
}
