package posture

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	"vigil/authz"
)

// twin is posture as the contract's table has it, told as plainly as can be: it keeps
// every fact ever said of an entity and reads all of them each time. It has no caps.
type twin map[authz.Key][]Fact

func (t twin) apply(changes []Change) {
	for _, c := range changes {
		for _, f := range c.Facts {
			if f, ok := normal(&f); ok { // one form for what means the same
				t[c.Key] = append(t[c.Key], f)
			}
		}
	}
}

// saying is everything that posture says of one entity at one instant; facts by id.
type saying struct {
	authz.Standing
	AttestedAt  authz.Instant
	Cutoff      authz.Instant
	Narrowed    bool
	Left        []string
	ApprovalFor []string
	Waived      bool

	Holds, Tainted, Approval, NarrowedBy, AttestedBy, WaivedBy []string
	RevokedBy, CutoffBy, RiskBy                                string
}

func (t twin) at(key authz.Key, now authz.Instant) (say saying) {
	say.ID = key.ID
	facts := t[key]
	unexpired := func(f Fact) bool { return f.Until > now }

	// Registration: the newest of all sources speaks, and stays when it has expired,
	// which means unregistered.
	if r := newest(of(facts, Registration)); r != nil && unexpired(*r) {
		say.Registered = true
		say.Class, say.Labels, say.Scopes = r.Registration.Class, r.Registration.Labels, sortedSet(r.Registration.Scopes)
		say.Code, say.Model = r.Registration.Code, r.Registration.Model
	}

	// Hold: in each source the newest unexpired speaks; held while any source holds.
	var holds []Fact
	for _, line := range bySource(only(of(facts, Hold), unexpired)) {
		if f := newest(line); f.Held {
			holds = append(holds, *f)
		}
	}
	slices.SortFunc(holds, func(a, b Fact) int { return newness(&a, &b) })
	say.Holds = ids(holds)

	// Risk: in each source the newest unexpired speaks; the maximum over the sources.
	var risks []Fact
	for _, line := range bySource(only(of(facts, Risk), unexpired)) {
		f := newest(line)
		risks = append(risks, *f)
		say.Risk = max(say.Risk, f.Risk)
	}
	risks = only(risks, func(f Fact) bool { return f.Risk == say.Risk })
	if len(risks) > 0 {
		say.RiskBy = name(slices.MinFunc(risks, func(a, b Fact) int { return newness(&a, &b) }))
	}

	// Attestation: in each source the newest speaks. One that fails is enough to fail and
	// does not end; to pass takes one that passes and has not ended.
	var passes, fails []Fact
	for _, line := range bySource(of(facts, Attest)) {
		switch f := newest(line); {
		case !f.Passed:
			fails = append(fails, *f)
			say.AttestedBy = append(say.AttestedBy, name(*f))
		case unexpired(*f):
			passes = append(passes, *f)
			say.AttestedBy = append(say.AttestedBy, name(*f))
		}
	}
	if len(fails) > 0 {
		say.Attested = authz.AttestFailed
	} else if len(passes) > 0 {
		say.Attested = authz.AttestPassed
		say.AttestedAt = slices.MaxFunc(passes, func(a, b Fact) int { return cmp.Compare(a.Time, b.Time) }).Time
	}

	// Taint, approval, narrowing, waiving: all stand until they expire or are lifted.
	standing := func(facet Facet) []Fact {
		return distinct(only(of(facts, facet), func(f Fact) bool { return unexpired(f) && !lifted(facts, f) }))
	}
	taints, approvals, narrows := standing(Taint), standing(ApprovalRequired), standing(Narrow)
	say.Standing.Tainted = len(taints) > 0
	say.Tainted, say.Approval, say.NarrowedBy = ids(taints), ids(approvals), ids(narrows)
	waives := standing(Waive)
	say.Waived, say.WaivedBy = len(waives) > 0, ids(waives)
	for _, f := range approvals {
		say.ApprovalFor = sortedSet(append(say.ApprovalFor, f.Actions...))
	}
	if slices.Contains(say.ApprovalFor, "*") {
		say.ApprovalFor = []string{"*"}
	}
	for i, f := range narrows {
		if i == 0 {
			say.Left = f.Scopes
		}
		say.Left = only(say.Left, func(s string) bool { return slices.Contains(f.Scopes, s) })
	}
	say.Narrowed, say.Left = len(narrows) > 0, sortedSet(say.Left)

	// Issued before: the maximum.
	if cutoffs := of(facts, IssuedBefore); len(cutoffs) > 0 {
		say.Cutoff = slices.MaxFunc(cutoffs, func(a, b Fact) int { return cmp.Compare(a.Cutoff, b.Cutoff) }).Cutoff
		say.CutoffBy = name(first(only(cutoffs, func(f Fact) bool { return f.Cutoff == say.Cutoff })))
	}

	// Status: the worst. Revoked and decommissioned never end; an unreadable signal
	// stands until it is lifted.
	unreadable := distinct(only(of(facts, UnreadableSignal), func(f Fact) bool { return !lifted(facts, f) }))
	switch revoked, gone := of(facts, Revoke), of(facts, Decommission); {
	case len(unreadable) > 0:
		say.Status, say.RevokedBy = authz.Unreadable, name(unreadable[len(unreadable)-1])
	case len(gone) > 0:
		say.Status, say.RevokedBy = authz.Decommissioned, name(first(gone))
	case len(revoked) > 0:
		say.Status, say.RevokedBy = authz.Revoked, name(first(revoked))
	case len(holds) > 0:
		say.Status = authz.Quarantined
	}
	return say
}

func of(facts []Fact, facet Facet) []Fact {
	return only(facts, func(f Fact) bool { return f.Facet == facet })
}

func only[T any](all []T, want func(T) bool) (some []T) {
	for _, one := range all {
		if want(one) {
			some = append(some, one)
		}
	}
	return some
}

// newest of facts that exclude one another: by time; then the more restrictive; then
// the content hash.
func newest(facts []Fact) *Fact {
	if len(facts) == 0 {
		return nil
	}
	strict := func(f Fact) int {
		if f.Facet == Hold && f.Held || f.Facet == Attest && !f.Passed {
			return 1
		}
		return f.Risk
	}
	lasting := func(f Fact) authz.Instant { // what permits is stricter when it ends sooner
		if f.Facet == Registration || f.Facet == Attest {
			return -f.Until
		}
		return f.Until
	}
	f := slices.MaxFunc(facts, func(a, b Fact) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(strict(a), strict(b)), cmp.Compare(lasting(a), lasting(b)), byHash(&a, &b))
	})
	return &f
}

// first of facts that never end: by time, then the content hash.
func first(facts []Fact) Fact {
	return slices.MinFunc(facts, func(a, b Fact) int { return earliest(&a, &b) })
}

// bySource gives the facts of each source, the sources in order.
func bySource(facts []Fact) (lines [][]Fact) {
	facts = slices.Clone(facts)
	slices.SortStableFunc(facts, func(a, b Fact) int { return cmp.Compare(a.Source, b.Source) })
	for i, f := range facts {
		if i == 0 || f.Source != facts[i-1].Source {
			lines = append(lines, nil)
		}
		lines[len(lines)-1] = append(lines[len(lines)-1], f)
	}
	return lines
}

// lifted reports whether a lift, of whatever time, names f.
func lifted(facts []Fact, f Fact) bool {
	return slices.ContainsFunc(of(facts, Lift), func(l Fact) bool {
		return *l.Lifts == Target{f.Facet, f.Source, f.ID}
	})
}

// distinct drops facts that say the same, and orders what is left.
func distinct(facts []Fact) []Fact {
	all := slices.Clone(facts)
	slices.SortFunc(all, func(a, b Fact) int { return order(&a, &b) })
	return slices.CompactFunc(all, func(a, b Fact) bool { return order(&a, &b) == 0 })
}

func ids(facts []Fact) (all []string) {
	for _, f := range facts {
		all = append(all, name(f))
	}
	return all
}

// name tells a fact from every other.
func name(f Fact) string { return string(AppendFact(nil, &f)) }

// said reads the same from an Effective.
func said(e *Effective) (say saying) {
	say.Standing = e.Standing
	say.AttestedAt, say.Cutoff, say.Narrowed = e.AttestedAt, e.Cutoff, e.Narrowed
	say.Left, say.ApprovalFor = e.Left, e.ApprovalFor
	say.Holds, say.Tainted, say.Approval = ids(e.Holds()), ids(e.TaintedBy()), ids(e.ApprovalBy())
	say.NarrowedBy, say.AttestedBy = ids(e.NarrowedBy()), ids(e.AttestedBy())
	say.Waived, say.WaivedBy = e.Waived, ids(e.WaivedBy())
	for to, f := range map[*string]*Fact{&say.RevokedBy: e.RevokedBy(), &say.CutoffBy: e.CutoffBy(), &say.RiskBy: e.RiskBy()} {
		if f != nil {
			*to = name(*f)
		}
	}
	return say
}

// difference compares two sayings; "" where they are the same.
func difference(got, want saying) string {
	if !reflect.DeepEqual(got, want) {
		return fmt.Sprintf("got  %+q\nwant %+q", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
	}
	return ""
}
