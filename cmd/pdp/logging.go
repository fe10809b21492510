package main

import (
	"io"
	"log/slog"
)

// newLogger writes to w as configured. The message's key and the time's are those of
// slog: time, level, msg.
func newLogger(cfg *loggingConfig, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
