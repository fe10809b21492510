package enginetest

import (
	"fmt"
	"slices"

	"vigil/authz"
	"vigil/posture"
)

// held is what is known of one entity at one instant.
type held struct {
	status     authz.Status
	registered *posture.Registered
	risk       int
	attested   authz.Attestation
	attestedAt authz.Instant
	tainted    bool
	approval   []string
	narrowed   [][]string
	cutoff     authz.Instant
	waived     []string // by which exceptions
}

// standing reads everything ever said of an entity.
func (t *Twin) standing(key authz.Key, now authz.Instant) held {
	var h held
	facts := t.Said[key]
	lifted := func(f posture.Fact) bool {
		return slices.ContainsFunc(facts, func(l posture.Fact) bool {
			return l.Facet == posture.Lift && l.Lifts.Facet == f.Facet && l.Lifts.Source == f.Source && l.Lifts.ID == f.ID
		})
	}
	// newest finds, per source, the fact of a facet that speaks: the newest, among the
	// unexpired where expired counts for nothing. Of two equally new ones the more
	// restrictive speaks.
	newest := func(facet posture.Facet, source string, unexpired bool, stricter func(a, b posture.Fact) bool) *posture.Fact {
		var best *posture.Fact
		for i, f := range facts {
			if f.Facet != facet || source != "" && f.Source != source || unexpired && f.Until <= now {
				continue
			}
			if best == nil || f.Time > best.Time || f.Time == best.Time && stricter(f, *best) {
				best = &facts[i]
			}
		}
		return best
	}
	var sources []string
	for _, f := range facts {
		if !slices.Contains(sources, f.Source) {
			sources = append(sources, f.Source)
		}
	}

	passes, fails := 0, 0
	for _, source := range sources {
		if f := newest(posture.Hold, source, true, func(a, b posture.Fact) bool { return a.Held && !b.Held }); f != nil && f.Held {
			h.status = max(h.status, authz.Quarantined)
		}
		if f := newest(posture.Risk, source, true, func(a, b posture.Fact) bool { return a.Risk > b.Risk }); f != nil {
			h.risk = max(h.risk, f.Risk)
		}
		if f := newest(posture.Attest, source, false, func(a, b posture.Fact) bool {
			return !a.Passed && b.Passed || a.Passed == b.Passed && a.Until < b.Until
		}); f != nil {
			if f.Passed && f.Until > now {
				passes++
				if f.Time > h.attestedAt {
					h.attestedAt = f.Time
				}
			} else if !f.Passed {
				fails++
			}
		}
	}
	switch {
	case fails > 0:
		h.attested, h.attestedAt = authz.AttestFailed, 0
	case passes > 0:
		h.attested = authz.AttestPassed
	}
	if f := newest(posture.Registration, "", false, func(a, b posture.Fact) bool { return false }); f != nil && f.Until > now {
		h.registered = f.Registration
	}
	for _, f := range facts {
		standing := f.Until > now && !lifted(f)
		switch {
		case f.Facet == posture.Revoke:
			h.status = max(h.status, authz.Revoked)
		case f.Facet == posture.Decommission:
			h.status = max(h.status, authz.Decommissioned)
		case f.Facet == posture.IssuedBefore:
			h.cutoff = max(h.cutoff, f.Cutoff)
		case f.Facet == posture.UnreadableSignal && standing:
			h.status = max(h.status, authz.Unreadable)
		case f.Facet == posture.Taint && standing:
			h.tainted = true
		case f.Facet == posture.ApprovalRequired && standing:
			h.approval = append(h.approval, f.Actions...)
		case f.Facet == posture.Waive && standing:
			h.waived = append(h.waived, f.Source+"/"+f.ID)
		case f.Facet == posture.Narrow && standing:
			h.narrowed = append(h.narrowed, f.Scopes)
		}
	}
	return h
}

func (h held) asStanding(id string) *authz.Standing {
	s := &authz.Standing{ID: id, Status: h.status, Risk: h.risk, Tainted: h.tainted, Attested: h.attested}
	if h.registered != nil {
		s.Registered, s.Class, s.Labels, s.Scopes = true, h.registered.Class, h.registered.Labels, h.registered.Scopes
	}
	return s
}

// Differs says in what a store's view of an entity at now differs from what was ever said
// of it; "" where it does not.
func (t *Twin) Differs(key authz.Key, now authz.Instant, eff *posture.Effective) string {
	h := t.standing(key, now)
	var left []string
	for i, scopes := range h.narrowed {
		if i == 0 {
			left = scopes
			continue
		}
		left = slices.DeleteFunc(slices.Clone(left), func(s string) bool { return !slices.Contains(scopes, s) })
	}
	approval := slices.Compact(slices.Sorted(slices.Values(h.approval)))
	if slices.Contains(approval, "*") {
		approval = []string{"*"}
	}
	registered := posture.Registered{}
	if h.registered != nil {
		registered = *h.registered
	}
	for _, c := range []struct {
		what       string
		store, own any
	}{
		{"status", eff.Status, h.status},
		{"risk", eff.Risk, h.risk},
		{"tainted", eff.Tainted, h.tainted},
		{"attestation", eff.Attested, h.attested},
		{"attested at", eff.AttestedAt, h.attestedAt},
		{"cut-off", eff.Cutoff, h.cutoff},
		{"approval for", fmt.Sprint(eff.ApprovalFor), fmt.Sprint(approval)},
		{"waived", eff.Waived, len(h.waived) > 0},
		{"narrowed", eff.Narrowed, len(h.narrowed) > 0},
		{"scopes left", fmt.Sprint(eff.Left), fmt.Sprint(left)},
		{"registered", eff.Registered, h.registered != nil},
		{"registration", fmt.Sprint(eff.Class, eff.Labels, eff.Scopes, eff.Code, eff.Model),
			fmt.Sprint(registered.Class, registered.Labels, registered.Scopes, registered.Code, registered.Model)},
	} {
		if c.store != c.own {
			return fmt.Sprintf("%s %s of %s at %s: the store says %v, the twin %v", key.Tenant, c.what, key.Ref(), now, c.store, c.own)
		}
	}
	return ""
}
