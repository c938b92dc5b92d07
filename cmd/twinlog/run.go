package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"twinlog/internal/app"
)

// drainTime is how long a stopping worker may commit what it has read.
const drainTime = 10 * time.Second

func newRunCommand() *cobra.Command {
	var path, format, level string
	var ignore []string
	cmd := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Run the worker: the sources and sinks of a link",
		Long: `Runs the pre-check, then the sources and sinks of the link until SIGTERM or
Ctrl-C. The first signal drains (everything read is committed, at most 10 s)
and exits 0; a second one aborts, which loses nothing either: the next start
goes on from the positions and marks.`,
		Example: `  twinlog run -c twinlog.yml
  twinlog run -c twinlog.yml --log-format json --ignore redis-backlog`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(cmd.ErrOrStderr(), format, level)
			if err != nil {
				return usage(err)
			}
			return runWorker(cmd.Context(), path, ignore, log, cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().StringSliceVar(&ignore, "ignore", nil, "pre-check items to pass (see `twinlog precheck`)")
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func runWorker(ctx context.Context, path string, ignore []string, log *slog.Logger, out io.Writer) error {
	c, err := loadConfig(path)
	if err != nil {
		return err
	}
	if err := checkIgnored(ignore); err != nil {
		return err
	}
	for _, w := range c.Warnings() {
		log.Warn("not in effect in this version", "option", w)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapLimit(c.Limits.Memory))
	}
	options := workerOptions(c, log)
	options.Ignore = ignore
	worker, err := app.New(options)
	if err != nil {
		return err
	}
	log.Info("worker starts", "version", version, "link", c.Link, "http", worker.Addr())
	err = drained(ctx, worker)
	var failed *app.PrecheckError
	if errors.As(err, &failed) {
		if err := failed.Report.Ignore(ignore).WriteText(out, isTerminal(out)); err != nil {
			return fmt.Errorf("writing the pre-check's result: %w", err)
		}
		return &codeError{exitCheck, errors.New("the pre-check found what must be mended first (--ignore ITEM passes one)")}
	}
	return err
}

const (
	// programBytes is what a worker takes besides what its collector counts:
	// the pages of the program itself.
	programBytes = 24 << 20
	// leastHeap is what the clients of a small worker take at any rate: a
	// collector held below it takes the time of all else.
	leastHeap = 64 << 20
)

// heapLimit is the collector's part in G6: with the program's pages it stays
// below limits.memory.
func heapLimit(memory int64) int64 { return max(memory-programBytes, leastHeap) }

// drained runs the worker and bounds the time that its end may take.
func drained(ctx context.Context, worker *app.Worker) error {
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return fmt.Errorf("not drained within %s: stopping all the same; the next start goes on from what is committed", drainTime)
	}
}

func newLogger(out io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(out, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", format)
}

// isTerminal tells whether colours make sense.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}
