// Command twinlog keeps two Redis in step, in both directions, through Kafka.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set at build time.
var version = "dev"

// Exit codes, as docs and scripts know them.
const (
	exitRuntime = 1
	exitUsage   = 2 // also a configuration that cannot be used
	exitCheck   = 3 // a check found something
)

// codeError is an error with its exit code. Its message may be empty: then
// everything was said already.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

func usage(err error) error { return &codeError{exitUsage, err} }

// errSaid is for checks that have printed what they found.
var errSaid = errors.New("")

func main() { os.Exit(run()) }

func run() int {
	err := newRootCommand().ExecuteContext(untilSignal())
	if err == nil {
		return 0
	}
	if err.Error() != "" {
		fmt.Fprintln(os.Stderr, "twinlog:", err)
	}
	var coded *codeError
	if errors.As(err, &coded) {
		return coded.code
	}
	return exitRuntime
}

// untilSignal returns a context that the first SIGTERM or Ctrl-C ends. The
// second one aborts the program, whatever it is doing.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan os.Signal, 2)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-got
		cancel()
		<-got
		fmt.Fprintln(os.Stderr, "twinlog: aborted by a second signal; the next start goes on from what is committed")
		os.Exit(exitRuntime)
	}()
	return ctx
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "twinlog",
		Short: "Keeps two Redis in step, in both directions, through Kafka",
		Long: `Twinlog joins each Redis as a replica, publishes its changes to a Kafka topic
and applies them to the other one, exactly once and without echo.`,
		Example: `  twinlog demo                         # see it work: two private Redis, an embedded broker
  twinlog precheck -c twinlog.yml      # what would stop a link, and what to do
  twinlog run -c twinlog.yml           # the worker
  twinlog status -c twinlog.yml        # what it does`,
		Version:       version,
		SilenceErrors: true, // main prints them
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          listCommands,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath()))
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newRunCommand(), newDemoCommand(), newPrecheckCommand(), newStatusCommand(), newConflictsCommand(), newTailCommand(),
		newOffsetsCommand(), newPauseCommand(), newResumeCommand(), newResyncCommand(), newSnapshotCommand(),
	)
	for _, cmd := range root.Commands() {
		wrapArgs(cmd)
	}
	return root
}

// listCommands is what twinlog does without a command that it knows.
func listCommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return usage(fmt.Errorf("unknown command %q; see `%s --help`", args[0], cmd.CommandPath()))
}

// wrapArgs makes wrong arguments end with exit code 2.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage(fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath()))
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}
