package signals

import (
	"fmt"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// MaxAhead is how far ahead of its append time an event may be dated. Clocks differ; a
// fact dated in the far future would outlast every later word of its source.
const MaxAhead = 5 * time.Second

// MaxIssuerSkew is how far ahead of the log the clock of an issuer of security events can be
// for what it says to show that it is alive.
const MaxIssuerSkew = 5 * time.Minute

// Facts gives what a signal says of each of its entities, which share the fact; nothing for
// a heartbeat. It is pure: the same record
// gives the same facts wherever and whenever it is applied. appended is when the log
// took it.
//
// An event time up to MaxAhead beyond appended stands. Beyond that a restrictive signal
// is dated appended+MaxAhead, and one that can permit something is refused: the error.
// issued_before is never after appended.
func Facts(rec *Record, s *Signal, appended authz.Instant) ([]posture.Change, error) {
	own := rec.Source.String()
	if s.Tenant != "" && s.Tenant != rec.Tenant {
		return nil, fmt.Errorf("it says tenant %q, but was accepted for %q", clip(s.Tenant), clip(rec.Tenant))
	}
	if s.Line != "" && s.Line != own && s.Line != rec.Target {
		return nil, fmt.Errorf("it speaks in the line of %s without authority", clip(s.Line))
	}
	if s.Type == TypeHeartbeat {
		return nil, nil // it says nothing; whoever applies it has heard its source
	}
	f := posture.Fact{
		Source: own,
		ID:     s.ID,
		Time:   s.Time,
		Until:  s.Expires,
		Actor:  s.Actor,
		Reason: s.Reason,
		Ticket: s.Ticket,
	}
	if latest := appended.Add(MaxAhead); f.Time > latest {
		if s.permissive() {
			return nil, fmt.Errorf("its time is %v ahead of the log's", time.Duration(s.Time-appended).Round(time.Second))
		}
		f.Time = latest
	}
	if rec.Target != "" {
		f.Source, f.ID, f.Time = rec.Target, OverrulingID(rec.Source, s.ID), rec.Dated
		if f.Until <= f.Time {
			return nil, fmt.Errorf("it ends before what it overrules began")
		}
	}
	s.value(&f, own, appended)
	same := []posture.Fact{f}
	changes := make([]posture.Change, len(s.Entities))
	for i, ref := range s.Entities {
		changes[i] = posture.Change{Key: ref.In(rec.Tenant), Facts: same}
	}
	return changes, nil
}

// OverrulingID is the id of a fact that source states in another source's line. It names
// who spoke, for the fact's Source names the line, and it never meets an id of the line's
// own.
func OverrulingID(source Source, id string) string { return source.String() + "/" + id }

// SplitOverrulingID is the inverse of OverrulingID. It reports false for an id that
// nobody made so.
func SplitOverrulingID(id string) (source, own string, ok bool) {
	if source, ok = borrowedID(id); !ok {
		return "", id, false
	}
	return source, id[len(source)+1:], true
}

// value sets the facet of f and its value.
func (s *Signal) value(f *posture.Fact, own string, appended authz.Instant) {
	switch s.Type {
	case TypeRegister:
		f.Facet = posture.Registration
		f.Registration = &posture.Registered{Class: s.Class, Labels: s.Labels, Scopes: s.Scopes, Code: s.Code, Model: s.Model}
	case TypeAttest:
		f.Facet, f.Passed = posture.Attest, s.Passed
	case TypeRisk:
		f.Facet, f.Risk = posture.Risk, s.Risk
	case TypeQuarantine, TypeRelease:
		f.Facet, f.Held = posture.Hold, s.Type == TypeQuarantine
	case TypeNarrow:
		f.Facet, f.Scopes = posture.Narrow, s.Scopes
	case TypeRequireApproval:
		f.Facet, f.Actions = posture.ApprovalRequired, s.Actions
	case TypeTaint:
		f.Facet = posture.Taint
	case TypeWaive:
		f.Facet = posture.Waive
	case TypeRevoke:
		f.Facet = posture.Revoke
		if s.IssuedBefore != 0 {
			f.Facet, f.Cutoff = posture.IssuedBefore, min(s.IssuedBefore, appended)
		}
	case TypeDecommission:
		f.Facet = posture.Decommission
	case TypeLift:
		f.Facet = posture.Lift
		f.Lifts = &posture.Target{Facet: s.Lifts.Type.facet(), Source: s.Lifts.Source, ID: s.Lifts.ID}
		if f.Lifts.Source == "" {
			f.Lifts.Source = own
		}
	}
}

// facet is the facet of the facts that signals of type t state.
func (t Type) facet() posture.Facet {
	switch t {
	case TypeRegister:
		return posture.Registration
	case TypeAttest:
		return posture.Attest
	case TypeRisk:
		return posture.Risk
	case TypeQuarantine, TypeRelease:
		return posture.Hold
	case TypeNarrow:
		return posture.Narrow
	case TypeRequireApproval:
		return posture.ApprovalRequired
	case TypeTaint:
		return posture.Taint
	case TypeWaive:
		return posture.Waive
	case TypeDecommission:
		return posture.Decommission
	case TypeUnreadable:
		return posture.UnreadableSignal
	case TypeLift:
		return posture.Lift
	}
	return posture.Revoke
}

// unreadable gives the facts that stand in for a signal which this version cannot read:
// on each entity that it knows and that the source may quarantine. The facts depend on
// the entry alone, not on why it could not be read, so that versions agree on them.
func unreadable(rec *Record, e *Envelope, from *Entry) []posture.Change {
	record := from.Record
	if rec.Under != nil {
		judged := *rec
		judged.Verdict = Verdict{} // is found anew, by who can read it
		record = EncodeRecord(nil, &judged)
	}
	f := posture.Fact{
		Facet:  posture.UnreadableSignal,
		Source: rec.Source.String(),
		ID:     e.ID,
		Time:   min(e.Time, from.Appended.Add(MaxAhead)),
		Until:  authz.Forever,
		Record: kept(from.Appended, record),
		Reason: fmt.Sprintf("a signal of type %q, version %d, could not be read", clip(e.Type), e.Version),
	}
	var changes []posture.Change
	for i, text := range e.Entities {
		if i >= MaxEntities || rec.Verdict.MayQuarantine&(1<<i) == 0 {
			continue
		}
		if ref, err := authz.ParseRef(text); err == nil {
			changes = append(changes, posture.Change{Key: ref.In(rec.Tenant), Facts: []posture.Fact{f}})
		}
	}
	return changes
}
