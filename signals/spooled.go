package signals

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vigil/authz"
	"vigil/posture"
)

// Spool makes signals durable on this machine while the log cannot take them, and sends
// them there later (package signals/spool).
type Spool interface {
	// Append makes the records durable. Whoever follows the spool applies them. When it
	// returns an error some may be kept all the same, unless the error is ErrUnavailable:
	// then none is.
	Append(ctx context.Context, records [][]byte) error
}

// FollowSpool applies what the log of a spool delivers, besides what Run applies, until
// ctx ends or that log fails. Its entries are in force like any other, but have no place
// in the log that Run follows: they move neither the as-of position nor that of Progress.
// applied is called after each batch, from the calling goroutine, when it is in force and
// before those who pushed it are told. caughtUp is called as by Log.Follow. It may be
// called again, after a failure; not twice at once.
func (a *Applier) FollowSpool(ctx context.Context, spool Log, from Positions, applied func([]Entry), caughtUp func()) error {
	a.mu.Lock()
	if a.mu.spooled {
		a.mu.Unlock()
		return errors.New("signals: the applier follows a spool already")
	}
	a.mu.spooled = true
	a.mu.Unlock()

	err := spool.Follow(ctx, from, func(entries []Entry) error { return a.deliverSpooled(entries, applied) }, caughtUp)

	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.spooled = false
	a.abandonLocked(true)
	return err
}

// deliverSpooled takes a batch of the spool's log: durable there, then applied, then
// acknowledged.
func (a *Applier) deliverSpooled(entries []Entry, applied func([]Entry)) error {
	if len(entries) == 0 {
		return nil
	}
	here := slices.Clone(entries) // which may be kept by who delivers them
	for i := range here {
		here[i].Position.Partition = SpoolPartition
	}
	a.applying.Lock()
	defer a.applying.Unlock()
	defer a.clearScratch()
	if err := a.applyAll(here); err != nil {
		return err
	}
	applied(entries)
	asOf := ""
	if r := a.reached.Load(); r != nil {
		asOf = r.asOf
	}
	a.acknowledgeSpooled(asOf)
	a.observe(here)
	return nil
}

func (a *Applier) acknowledgeSpooled(asOf string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settleLocked(asOf)
}

// acceptingSpooledLocked says why no signal can be taken into the spool now, or nil. A feed
// that broke later is no reason; before it has caught up for the first time, posture does
// not say yet who may speak about what.
func (a *Applier) acceptingSpooledLocked() error {
	switch {
	case !a.mu.spooled:
		return fmt.Errorf("%w: nobody follows the spool", ErrUnavailable)
	case !a.mu.ready:
		return fmt.Errorf("%w: it is still being read", ErrUnavailable)
	}
	return nil
}

// spoolable says why a batch may not be in force here before the log has it, or nil. What
// only withdraws may: it can do no harm that others do not know it yet. And it must make
// the same facts of the record when the log has taken it later, so nothing in it may be
// dated ahead.
func (in *Intake) spoolable(batch *Batch, records []Record) error {
	now := in.cfg.Now()
	for i := range batch.Signals {
		if why := in.notSpoolable(&records[i], &batch.Signals[i], now); why != "" {
			return fmt.Errorf("signal %s %s", clip(batch.Signals[i].ID), why)
		}
	}
	return nil
}

func (in *Intake) notSpoolable(rec *Record, s *Signal, now authz.Instant) string {
	switch s.Type {
	case TypeQuarantine, TypeRevoke, TypeNarrow, TypeTaint, TypeRequireApproval, TypeDecommission:
	case TypeAttest:
		if s.Passed {
			return "may permit something"
		}
	case TypeRisk:
		for _, ref := range s.Entities {
			r := in.cfg.Store.Get(ref.In(s.Tenant))
			if s.Risk <= r.At(now).Risk && !says(r, rec, s) {
				return fmt.Sprintf("does not raise the risk of %s", clip(ref.String()))
			}
		}
	default:
		return "may permit something"
	}
	if s.Time > now || s.IssuedBefore > now {
		return "is dated ahead of this clock"
	}
	return ""
}

// says reports whether an entity has the fact of a signal: it is sent again.
func says(r *posture.Record, rec *Record, s *Signal) bool {
	line, id := rec.Source.String(), s.ID
	if rec.Target != "" {
		line, id = rec.Target, OverrulingID(rec.Source, s.ID)
	}
	for f := range r.Facts() {
		if f.Source == line && f.ID == id && f.Facet == s.Type.facet() {
			return true
		}
	}
	return false
}
