package posture

import (
	"maps"
	"math"
	"slices"

	"vigil/authz"
)

// Effective is what a record says during an interval of time. It is immutable.
//
// It is laid out for millions of records of which most say little: what is rarely
// there is behind a pointer that such records share. The facts behind it are decoded
// when they are asked for; that allocates and is for explaining.
type Effective struct {
	authz.Standing
	*Span // never nil

	facts string // every fact of the record, encoded, in order
	dict  *dict
}

// Span is when an Effective holds, and what few records say.
type Span struct {
	AttestedAt authz.Instant // event time of the newest pass that counts; 0 where attestation has not passed
	// From <= now < Until is when the Effective holds.
	From, Until authz.Instant
	*Limits     // never nil
}

// Limits is what posture withdraws short of a status, and what it waives.
type Limits struct {
	Cutoff      authz.Instant // issued before this is dead; 0 for none
	Narrowed    bool          // Left counts
	Left        []string      // scopes left by narrowing, sorted
	ApprovalFor []string      // actions for which posture demands approval, sorted; ["*"] is every action
	Waived      bool          // that the source is silent is to stop nobody
}

const beginning authz.Instant = math.MinInt64

var (
	noLimits   = &Limits{}
	forAllTime = &Span{From: beginning, Until: authz.Forever, Limits: noLimits}
	nothing    = Effective{Span: forAllTime}
)

// effectiveAt computes what encoded facts say at now. It is pure.
func effectiveAt(id, facts string, d *dict, now authz.Instant) Effective {
	e := Effective{Standing: authz.Standing{ID: id}, facts: facts, dict: d}
	span := Span{From: beginning, Until: authz.Forever}
	var limits Limits
	var passed, failed bool
	approve := map[string]bool(nil)
	var line struct { // the newest unexpired hold or risk so far of one source
		facet  Facet
		source string
		held   bool
		risk   int
	}
	speak := func() {
		if line.held {
			e.Status = max(e.Status, authz.Quarantined)
		}
		e.Risk = max(e.Risk, line.risk)
		line.facet, line.source, line.held, line.risk = 0, "", false, 0
	}
	for c := e.cursor(); c.next(); {
		f := &c.fact
		if line.facet != f.Facet || line.source != f.Source {
			speak()
		}
		expired := f.Until <= now
		if !neverEnds(f.Facet) && (f.Facet != Attest || f.Passed) {
			if expired {
				span.From = max(span.From, f.Until)
			} else {
				span.Until = min(span.Until, f.Until)
			}
		}
		if expired && (f.Facet != Attest || f.Passed) {
			continue
		}
		switch f.Facet {
		case Registration:
			r := f.Registration
			e.Registered = true
			e.Class, e.Labels, e.Scopes, e.Code, e.Model = r.Class, r.Labels, r.Scopes, r.Code, r.Model
		case Hold, Risk:
			// In order, so the last of the source is the newest.
			line.facet, line.source, line.held, line.risk = f.Facet, f.Source, f.Held, f.Risk
		case Attest:
			if !f.Passed {
				failed = true
				break
			}
			if !passed || f.Time > span.AttestedAt {
				span.AttestedAt = f.Time
			}
			passed = true
		case Taint:
			e.Tainted = true
		case ApprovalRequired:
			if approve == nil {
				approve = map[string]bool{}
			}
			for _, a := range f.Actions {
				approve[a] = true
			}
		case Narrow:
			if limits.Narrowed {
				limits.Left = intersect(limits.Left, f.Scopes)
			} else {
				limits.Narrowed, limits.Left = true, f.Scopes
			}
		case Revoke:
			e.Status = max(e.Status, authz.Revoked)
		case Decommission:
			e.Status = max(e.Status, authz.Decommissioned)
		case UnreadableSignal:
			e.Status = authz.Unreadable
		case IssuedBefore:
			limits.Cutoff = f.Cutoff
		case Waive:
			limits.Waived = true
		}
	}
	speak()
	switch {
	case failed:
		e.Attested, span.AttestedAt = authz.AttestFailed, 0
	case passed:
		e.Attested = authz.AttestPassed
	}
	if approve["*"] {
		limits.ApprovalFor = []string{"*"}
	} else if approve != nil {
		for a := range approve {
			limits.ApprovalFor = append(limits.ApprovalFor, a)
		}
		slices.Sort(limits.ApprovalFor)
	}
	span.Limits = noLimits
	if limits.Cutoff != 0 || limits.Narrowed || limits.ApprovalFor != nil || limits.Waived {
		own := limits
		span.Limits = &own
	}
	if span == *forAllTime {
		e.Span = forAllTime
	} else {
		own := span
		e.Span = &own
	}
	return e
}

func intersect(a, b []string) []string {
	var both []string
	for _, s := range a {
		if _, ok := slices.BinarySearch(b, s); ok {
			both = append(both, s)
		}
	}
	return both
}

// cursor goes through the facts of a record in order, decoding one at a time into the
// same place: it allocates nothing, where callers do not let it escape. Next comes first.
type cursor struct {
	fact Fact
	raw  string // its encoded form

	in            decoder
	sources       []string
	registrations []*Registered
}

func (e *Effective) cursor() cursor {
	if e.facts == "" {
		return cursor{}
	}
	return cursor{in: decoder{s: e.facts}, sources: *e.dict.sources.Load(), registrations: *e.dict.registrations.Load()}
}

// next goes to the next fact. It reports whether there is one.
func (c *cursor) next() bool {
	start := c.in.at
	if start >= len(c.in.s) {
		return false
	}
	c.in.fact(&c.fact, c.sources, c.registrations)
	if c.in.err != nil {
		panic("posture: a record that cannot be decoded: " + c.in.err.Error())
	}
	c.raw = c.in.s[start:c.in.at]
	return true
}

// unexpiring reports whether none of the facts has expired at now, without decoding
// them: From is when the last that did expired, Until when the next will.
func (e *Effective) unexpiring(now authz.Instant) bool {
	return e.From == beginning && now < e.Until
}

// empty reports whether every fact is gone at now.
func (e *Effective) empty(now authz.Instant) bool {
	if e.unexpiring(now) {
		return false
	}
	for c := e.cursor(); c.next(); {
		if !c.fact.gone(now) {
			return false
		}
	}
	return true
}

// find gives the last fact in order that is wanted, or nil.
func (e *Effective) find(want func(*Fact) bool) (found *Fact) {
	for c := e.cursor(); c.next(); {
		if want(&c.fact) {
			one := c.fact
			found = &one
		}
	}
	return found
}

// standing reports whether f is unexpired while e holds.
func (e *Effective) standing(f *Fact) bool { return f.Until > e.From }

func (e *Effective) all(facet Facet) (all []Fact) {
	for c := e.cursor(); c.next(); {
		if c.fact.Facet == facet && e.standing(&c.fact) {
			all = append(all, c.fact)
		}
	}
	return all
}

// speakers gives the newest unexpired fact of each source's line.
func (e *Effective) speakers(facet Facet) (speak []Fact) {
	for _, f := range e.all(facet) {
		if n := len(speak); n > 0 && speak[n-1].Source == f.Source {
			speak[n-1] = f
		} else {
			speak = append(speak, f)
		}
	}
	return speak
}

// withdrawals gives the facts that each withdraw something, or waive it, while e holds:
// those in force of the facets whose facts do not exclude one another, and that there is a
// revocation or a decommission, by whomever.
func (e *Effective) withdrawals() (all []Fact) {
	for c := e.cursor(); c.next(); {
		f := &c.fact
		switch f.Facet {
		case Hold:
			if n := len(all); n > 0 && all[n-1].Facet == Hold && all[n-1].Source == f.Source && e.standing(f) {
				all = all[:n-1] // f is newer
			}
			if e.standing(f) {
				all = append(all, *f)
			}
		case Taint, ApprovalRequired, Narrow, UnreadableSignal, Waive:
			if e.standing(f) {
				all = append(all, *f)
			}
		case Revoke, Decommission:
			all = append(all, Fact{Facet: f.Facet})
		}
	}
	return slices.DeleteFunc(all, func(f Fact) bool { return f.Facet == Hold && !f.Held })
}

// Holds gives the quarantines in force, oldest first.
func (e *Effective) Holds() []Fact {
	holds := slices.DeleteFunc(e.speakers(Hold), func(f Fact) bool { return !f.Held })
	slices.SortFunc(holds, func(a, b Fact) int { return newness(&a, &b) })
	return holds
}

// RevokedBy gives the unreadable signal, decommission or revocation behind Status, the
// worst of them, or nil.
func (e *Effective) RevokedBy() *Fact {
	var facet Facet
	switch e.Status {
	case authz.Unreadable:
		facet = UnreadableSignal
	case authz.Decommissioned:
		facet = Decommission
	case authz.Revoked:
		facet = Revoke
	default:
		return nil
	}
	return e.find(func(f *Fact) bool { return f.Facet == facet })
}

// CutoffBy gives the fact behind Cutoff, or nil.
func (e *Effective) CutoffBy() *Fact {
	return e.find(func(f *Fact) bool { return f.Facet == IssuedBefore })
}

// RiskBy gives the fact behind Risk, or nil. Of several that say the same it is the
// oldest.
func (e *Effective) RiskBy() (by *Fact) {
	for _, f := range e.speakers(Risk) {
		if f.Risk == e.Risk && (by == nil || newness(&f, by) < 0) {
			by = &f
		}
	}
	return by
}

// ApprovalBy gives the facts behind ApprovalFor.
func (e *Effective) ApprovalBy() []Fact { return e.all(ApprovalRequired) }

// NarrowedBy gives the facts behind Left.
func (e *Effective) NarrowedBy() []Fact { return e.all(Narrow) }

// TaintedBy gives the facts behind Tainted.
func (e *Effective) TaintedBy() []Fact { return e.all(Taint) }

// WaivedBy gives the facts behind Waived.
func (e *Effective) WaivedBy() []Fact { return e.all(Waive) }

// AttestedBy gives the newest attestation of each source, expired passes left out.
func (e *Effective) AttestedBy() (by []Fact) {
	for c := e.cursor(); c.next(); {
		if f := &c.fact; f.Facet == Attest && (!f.Passed || e.standing(f)) {
			by = append(by, *f)
		}
	}
	return by
}

func sameRegistration(a, b *Effective) bool {
	return a.Class == b.Class && a.Code == b.Code && a.Model == b.Model &&
		slices.Equal(a.Scopes, b.Scopes) && maps.Equal(a.Labels, b.Labels)
}
