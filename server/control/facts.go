package control

import (
	"cmp"
	"slices"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// unreadable is the type of a fact that stands for a signal that could not be read.
const unreadable = "unreadable"

// typeOf is the type of the signal that makes f.
func typeOf(facet posture.Facet, held bool) string {
	switch facet {
	case posture.Registration:
		return string(signals.TypeRegister)
	case posture.Hold:
		if held {
			return string(signals.TypeQuarantine)
		}
		return string(signals.TypeRelease)
	case posture.Risk:
		return string(signals.TypeRisk)
	case posture.Attest:
		return string(signals.TypeAttest)
	case posture.Taint:
		return string(signals.TypeTaint)
	case posture.Waive:
		return string(signals.TypeWaive)
	case posture.ApprovalRequired:
		return string(signals.TypeRequireApproval)
	case posture.Narrow:
		return string(signals.TypeNarrow)
	case posture.Revoke, posture.IssuedBefore:
		return string(signals.TypeRevoke)
	case posture.Decommission:
		return string(signals.TypeDecommission)
	case posture.Lift:
		return string(signals.TypeLift)
	}
	return unreadable
}

// factOf writes f as it stands at now.
func factOf(f *posture.Fact, now authz.Instant) Fact {
	out := Fact{
		Type: typeOf(f.Facet, f.Held), Source: f.Source, ID: f.ID,
		Time: f.Time.String(), Until: end(f.Until), Active: f.Until > now,
		Actor: f.Actor, Reason: f.Reason, Ticket: f.Ticket,
	}
	switch f.Facet {
	case posture.Registration:
		if r := f.Registration; r != nil {
			out.Class, out.Labels, out.Scopes, out.Code, out.Model = r.Class, r.Labels, r.Scopes, r.Code, r.Model
		}
	case posture.Risk:
		out.Risk = &f.Risk
	case posture.Attest:
		out.Result = "fail"
		if f.Passed {
			out.Result = "pass"
		}
	case posture.Narrow:
		out.Scopes = orEmpty(f.Scopes)
	case posture.ApprovalRequired:
		out.Actions = f.Actions
	case posture.IssuedBefore:
		out.IssuedBefore = f.Cutoff.String()
	case posture.Lift:
		if t := f.Lifts; t != nil {
			out.Lifts = &FactTarget{Type: typeOf(t.Facet, true), Source: t.Source, ID: t.ID}
		}
	}
	return out
}

// factsOf writes what r keeps, oldest first.
func factsOf(r *posture.Record, now authz.Instant) []Fact {
	var facts []posture.Fact
	if r != nil {
		facts = slices.Collect(r.Facts())
	}
	// Stable: facts of one time stay in the record's canonical order.
	slices.SortStableFunc(facts, func(a, b posture.Fact) int { return cmp.Compare(a.Time, b.Time) })
	out := make([]Fact, len(facts))
	for i := range facts {
		out[i] = factOf(&facts[i], now)
	}
	return out
}

// effectiveOf writes what a record says at now.
func effectiveOf(e *posture.Effective, now authz.Instant) Effective {
	out := Effective{
		Registered: e.Registered, Status: e.Status.String(), Risk: e.Risk, Class: e.Class,
		Labels: e.Labels, Scopes: e.Standing.Scopes, Code: e.Standing.Code, Model: e.Standing.Model,
		Tainted: e.Tainted, Attested: e.Attested.String(), AttestedAt: e.AttestedAt.String(),
		Holds: holds(e), IssuedBefore: e.Cutoff.String(), Narrowed: e.Narrowed,
		ApprovalFor: e.ApprovalFor, Waived: e.Waived, Until: end(e.Until),
	}
	if e.Narrowed {
		out.ScopesLeft = orEmpty(e.Left)
	}
	for _, f := range behind(e) {
		out.By = append(out.By, factOf(&f, now))
	}
	return out
}

// behind gives the facts behind what restricts an entity, or waives that it is silent.
func behind(e *posture.Effective) []posture.Fact {
	facts := e.Holds()
	for _, f := range []*posture.Fact{e.RevokedBy(), e.CutoffBy(), e.RiskBy()} {
		if f != nil {
			facts = append(facts, *f)
		}
	}
	return slices.Concat(facts, e.NarrowedBy(), e.TaintedBy(), e.ApprovalBy(), e.AttestedBy(), e.WaivedBy())
}

// holds lists what keeps an entity from doing anything: quarantines, and what withdrew it
// for good.
func holds(e *posture.Effective) []Hold {
	out := []Hold{}
	for _, f := range e.Holds() {
		out = append(out, holdOf(&f))
	}
	if f := e.RevokedBy(); f != nil {
		out = append(out, holdOf(f))
	}
	return out
}

func holdOf(f *posture.Fact) Hold {
	return Hold{
		Type: typeOf(f.Facet, true), Source: f.Source, ID: f.ID,
		Since: f.Time.String(), Until: end(f.Until),
	}
}

// end writes a time at which something ends; what never ends has none.
func end(i authz.Instant) string {
	if i == authz.Forever {
		return ""
	}
	return i.String()
}

// orEmpty makes a list that is left out of one that is empty: no scopes left is not the
// same as scopes not narrowed.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
