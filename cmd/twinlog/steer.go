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
	cmd := steerCommand("resume", "Go on after a pause, a stop or a failure",
		`Lets a connector of a running worker go on: after `+"`pause`"+`, and after it failed.
A sink that failed on an event which had no effect at the target goes on
behind that event. With --snapshot a source begins a new epoch: it publishes all
data of its site and goes on from there. That is what a source needs that
stopped because its Redis does not go on from its position (on_gap: fail).`, "resumed")
	cmd.Example += "\n  twinlog resume -c twinlog.yml source-a --snapshot"
	cmd.Flags().Bool("snapshot", false, "begin with a snapshot of all data (sources only)")
	return cmd
}

func newResyncCommand() *cobra.Command {
	var path, site string
	cmd := &cobra.Command{
		Use:   "resync -c FILE --site NAME",
		Short: "Empty a site and fill it again from the other one",
		Long: `Re-seeds a site that lost its data, or that is another Redis than it was: the
site is emptied, as far as it is in scope, and the other site sends all its
values. Both sites may take writes meanwhile; what was written at the site
before it was emptied, and is not in its topic, is lost. The target of a one-way
link is filled again in the same way, also where its topic lost events that it
had not applied. Nothing of the other site is touched. A worker that is killed
on the way goes on when it is started again. ` + "`twinlog status`" + ` shows how far it is.`,
		Example: "  twinlog resync -c twinlog.yml --site b",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			worker, err := newWorkerClient(path)
			if err != nil {
				return err
			}
			if _, err := worker.do(cmd.Context(), http.MethodPut, "/sites/"+url.PathEscape(site)+"/resync"); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "site %s is being filled again: see twinlog status\n", site)
			return nil
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringVar(&site, "site", "", "the site to empty and fill again")
	_ = cmd.MarkFlagRequired("site")
	return cmd
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
			path := "/connectors/" + url.PathEscape(args[0]) + "/" + verb
			if f := cmd.Flags().Lookup("snapshot"); f != nil && f.Changed {
				path += "?snapshot=" + f.Value.String()
			}
			if _, err := worker.do(cmd.Context(), http.MethodPut, path); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), args[0], done)
			return nil
		},
	}
	configFlag(cmd, &path)
	return cmd
}
