package main

import (
	"context"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/rules"
	"vigil/signals"
	"vigil/signals/spool"
)

// feed keeps an applier following a log, and says how old the view is.
type feed struct {
	kind   string
	logger *slog.Logger

	// refused is told of an error of a feed that never caught up; nil for nobody. See Run.
	refused func(error)

	// What follows is set before attach, which stores attached. Until then only Age,
	// wrong and tooOld may be called.
	applier *signals.Applier
	log     signals.Log
	// freshAt is how new the view of a log is that others write, too, and partitionNames
	// names its partitions; nil with a journal.
	freshAt        func() authz.Instant
	partitionNames func(partition int32) string
	spool          *spool.Spool // nil with a journal
	attached       atomic.Bool
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
	if f.spool == nil {
		return all
	}
	if f.spool.Stats().Waiting > 0 {
		all = append(all, "signals wait in the spool: they are in force on this replica alone")
	}
	if f.spool.Health() != nil {
		all = append(all, "the spool cannot take signals")
	}
	return all
}

// tooOld says that the view is older than a profile allows, or nothing.
func (f *feed) tooOld(now authz.Instant, profiles map[string]*rules.Profile) []string {
	bound := time.Duration(0)
	for _, p := range profiles {
		if p.MaxFeedAge > 0 && (bound == 0 || p.MaxFeedAge < bound) {
			bound = p.MaxFeedAge
		}
	}
	if bound == 0 || f.Age(now) <= bound {
		return nil
	}
	return []string{"the view of the signals is older than the rules allow some agents"}
}

// WaitFor waits until the view is at least as new as token, which may be gone after the
// call.
func (f *feed) WaitFor(ctx context.Context, token string) error {
	return f.applier.WaitApplied(ctx, strings.Clone(token))
}

func (f *feed) Progress() signals.Progress { return f.applier.Progress() }
func (f *feed) Health() error              { return f.log.Health() }
func (f *feed) Kind() string               { return f.kind }

// PartitionName names a partition for people: "topic/3" of Kafka, "0" of a journal.
func (f *feed) PartitionName(partition int32) string {
	if f.partitionNames != nil {
		return f.partitionNames(partition)
	}
	return strconv.Itoa(int(partition))
}

func (f *feed) WaitApplied(ctx context.Context, asOf string) error {
	return f.applier.WaitApplied(ctx, asOf)
}

// Age is how old the view is at now: since when the applier has been broken, and of a log
// that others write, too, since when nothing shows that this replica has all of it. A
// journal is written by this process alone, so that its view is never old while it is
// followed. It is on the hot path: three loads.
func (f *feed) Age(now authz.Instant) time.Duration {
	if !f.attached.Load() {
		return 0
	}
	age := time.Duration(0)
	if since := f.applier.BrokenSince(); since != 0 {
		age = max(age, time.Duration(now-since))
	}
	if f.freshAt == nil {
		return age
	}
	at := f.freshAt()
	if at == 0 {
		return math.MaxInt64 // it never was fresh
	}
	return max(age, time.Duration(now-at))
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
		if f.refused != nil && !f.applier.Progress().CaughtUp {
			f.refused(err)
		}
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
