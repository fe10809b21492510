package posture

import (
	"slices"

	"vigil/authz"
)

// overflow is the source and the id of the synthetic facts that stand for those which
// a cap does not keep one by one. Real sources are typed ("client:soar") and never
// equal it.
const overflow = "overflow"

const overflowReason = "more facts than are kept one by one"

// normal gives f in the one form that facts with its meaning share: members that its
// facet does not use are zero, lists are sorted sets, ends are as the facet has them.
// It reports false for a fact that says nothing.
func normal(f *Fact) (Fact, bool) {
	n := Fact{
		Facet: f.Facet, Source: f.Source, ID: f.ID, Time: f.Time, Until: f.Until,
		Actor: f.Actor, Reason: f.Reason, Ticket: f.Ticket,
	}
	if n.Until == 0 || neverEnds(n.Facet) {
		n.Until = authz.Forever
	}
	switch f.Facet {
	case Registration:
		n.Registration = f.Registration
		if n.Registration == nil {
			n.Registration = &Registered{}
		}
		if !strictlySorted(n.Registration.Scopes) {
			whole := *n.Registration
			whole.Scopes = sortedSet(whole.Scopes)
			n.Registration = &whole
		}
	case Hold:
		n.Held = f.Held
	case Risk:
		n.Risk = min(max(f.Risk, 0), 100)
	case Attest:
		n.Passed = f.Passed
	case ApprovalRequired:
		n.Actions = sortedSet(f.Actions)
		if len(n.Actions) == 0 || slices.Contains(n.Actions, "*") {
			n.Actions = []string{"*"}
		}
	case Narrow:
		n.Scopes = sortedSet(f.Scopes)
	case IssuedBefore:
		n.Cutoff = f.Cutoff
		return n, n.Cutoff > 0
	case Lift:
		if f.Lifts == nil || !liftable(f.Lifts.Facet) || f.Lifts.Source == overflow {
			return n, false
		}
		n.Lifts = f.Lifts
	case UnreadableSignal:
		if len(f.Record) <= MaxRecord {
			n.Record = f.Record
		}
	case Taint, Revoke, Decommission, Waive:
	default:
		// A statement that this version does not know may be as bad as they come.
		n.Facet, n.Until = UnreadableSignal, authz.Forever
	}
	return n, true
}

// neverEnds says which facets pay no heed to Until: what they say stands for good, or
// until it is lifted.
func neverEnds(f Facet) bool {
	switch f {
	case Revoke, IssuedBefore, Decommission, UnreadableSignal, Lift:
		return true
	}
	return false
}

// liftable says where all facts stand, so that one of them can be lifted.
func liftable(f Facet) bool {
	switch f {
	case Taint, ApprovalRequired, Narrow, UnreadableSignal, Waive:
		return true
	}
	return false
}

// gone reports whether f can no longer matter at now. A registration or an attestation
// matters past its end: it still hides what is older.
func (f *Fact) gone(now authz.Instant) bool {
	return f.Until <= now && f.Facet != Registration && f.Facet != Attest
}

func strictlySorted(s []string) bool {
	for i := 1; i < len(s); i++ {
		if s[i-1] >= s[i] {
			return false
		}
	}
	return true
}

func sortedSet(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	if strictlySorted(s) {
		return s
	}
	c := slices.Clone(s)
	slices.Sort(c)
	return slices.Compact(c)
}
