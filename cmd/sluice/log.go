package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
)

// logFlags say what is logged, and how.
type logFlags struct {
	level, format string
}

func (l *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.level, "log-level", "info", "debug, info, warn or error (SLUICE_LOG_LEVEL)")
	cmd.Flags().StringVar(&l.format, "log-format", "auto", "text, json, or auto: text on a terminal (SLUICE_LOG_FORMAT)")
}

// logger writes to stderr.
func (a *app) logger(l logFlags) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, fmt.Errorf("--log-level %q is not one of debug, info, warn, error", l.level)
	}
	o := &slog.HandlerOptions{Level: level}
	switch {
	case l.format == "text", l.format == "auto" && a.errTerminal:
		return slog.New(slog.NewTextHandler(a.stderr, o)), nil
	case l.format == "json", l.format == "auto":
		return slog.New(slog.NewJSONHandler(a.stderr, o)), nil
	}
	return nil, fmt.Errorf("--log-format %q is not one of text, json, auto", l.format)
}
