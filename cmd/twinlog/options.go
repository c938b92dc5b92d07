package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"twinlog/internal/app"
	"twinlog/internal/config"
	"twinlog/internal/precheck"
)

// configFlag adds -c to a command.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", "", "configuration file (YAML), required")
}

// loadConfig reads a configuration; what is wrong with it is a usage error.
func loadConfig(path string) (*config.Config, error) {
	if path == "" {
		return nil, usage(errors.New("name the configuration file: -c FILE"))
	}
	c, err := config.Load(path)
	if err != nil {
		return nil, usage(err)
	}
	return c, nil
}

// workerOptions says what a configuration means to a worker.
func workerOptions(c *config.Config, log *slog.Logger) app.Options {
	o := app.Options{
		Link: c.Link, Home: c.Home, Kafka: c.Kafka, Registry: c.Registry, Sites: c.Sites,
		Memory: c.Limits.Memory, MaxEventBytes: c.Limits.MaxEventBytes, MaxTransactionBytes: c.Limits.MaxTransactionBytes,
		CommitPause: c.Timing.CommitPause, ExpiryGrace: c.Timing.ExpiryGrace,
		SpoolDir: c.Spool.Dir, SpoolBytes: c.Spool.MaxBytes, Listen: c.HTTP.Listen, Log: log, Hook: failpoint(),
		Precheck: func(ctx context.Context) (precheck.Report, error) {
			p := precheckConfig(c)
			p.Watch = 200 * time.Millisecond // a start should not take longer for it
			return precheck.Run(ctx, p)
		},
	}
	for _, d := range c.Directions {
		o.Directions = append(o.Directions, app.Direction{From: d.From, To: d.To, Snapshot: d.Snapshot, Existing: d.Existing, OnGap: d.OnGap, Scope: d.Scope, DeadLetter: d.Errors == config.ErrorsDeadLetter})
	}
	return o
}

// precheckConfig says what a configuration means to the pre-check.
func precheckConfig(c *config.Config) precheck.Config {
	p := precheck.Config{
		Link: c.Link, Kafka: c.Kafka, Registry: c.Registry, Sites: c.Sites,
		MaxEventBytes: c.Limits.MaxEventBytes, MaxTransactionBytes: c.Limits.MaxTransactionBytes, Warnings: c.Warnings(),
	}
	for _, d := range c.Directions {
		p.Directions = append(p.Directions, precheck.Direction{From: d.From, To: d.To, Snapshot: string(d.Snapshot), Existing: d.Existing, Scope: d.Scope, DeadLetter: d.Errors == config.ErrorsDeadLetter})
	}
	return p
}
