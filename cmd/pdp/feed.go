package main

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/signals"
)

// feed keeps an applier following a log, and says how old the view is.
type feed struct {
	kind   string
	logger *slog.Logger

	// applier and log are set by attach, which then stores attached. Until then only Age
	// and wrong may be called.
	applier  *signals.Applier
	log      signals.Log
	attached atomic.Bool
}

// attach gives the feed what it follows.
func (f *feed) attach(applier *signals.Applier, log signals.Log) {
	f.applier, f.log = applier, log
	f.attached.Store(true)
}

// wrong says what is wrong, in words that are fit for anyone; the log has the details.
func (f *feed) wrong() []string {
	if !f.attached.Load() {
		return nil
	}
	var all []string
	if f.applier.Err() != nil {
		all = append(all, "the signal feed is broken")
	}
	if f.log.Health() != nil {
		all = append(all, "the signal log cannot take signals")
	}
	return all
}

// WaitFor waits until the view is at least as new as token, which may be gone after the
// call.
func (f *feed) WaitFor(ctx context.Context, token string) error {
	return f.applier.WaitApplied(ctx, strings.Clone(token))
}

func (f *feed) Progress() signals.Progress { return f.applier.Progress() }
func (f *feed) Health() error              { return f.log.Health() }
func (f *feed) Kind() string               { return f.kind }
func (f *feed) PartitionName(partition int32) string {
	return strconv.Itoa(int(partition))
}
func (f *feed) WaitApplied(ctx context.Context, asOf string) error {
	return f.applier.WaitApplied(ctx, asOf)
}

// Age is how old the view is at now: since when the applier has been broken. A journal is
// written by this process alone, so that its view is never old while it is followed. It is
// on the hot path: two loads.
func (f *feed) Age(now authz.Instant) time.Duration {
	if !f.attached.Load() {
		return 0
	}
	since := f.applier.BrokenSince()
	if since == 0 {
		return 0
	}
	return max(0, time.Duration(now-since))
}

// The pauses before a feed that broke is tried again.
const (
	firstRetry   = 100 * time.Millisecond
	longestRetry = 10 * time.Second
)

// Run follows the log from a position until ctx ends. When it breaks, decisions go on
// and degrade as their profiles say, and it is tried again from where it came to.
func (f *feed) Run(ctx context.Context, from signals.Positions) {
	pause := firstRetry
	for {
		applied := from
		err := f.applier.Run(ctx, f.log, from)
		if ctx.Err() != nil {
			return
		}
		f.logger.Error("THE SIGNAL FEED IS BROKEN", "error", err, "retry_in", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		from = f.applier.Progress().Applied
		if pause = min(2*pause, longestRetry); moved(applied, from) {
			pause = firstRetry
		}
	}
}

// moved reports whether the feed had come further before it broke again.
func moved(before, after signals.Positions) bool {
	for partition, at := range after {
		if at > before[partition] {
			return true
		}
	}
	return false
}
