package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

// A gate is a check that no rule can loosen. Gates are checked in the order of this
// table; the first that stops is the reason given. Where "registered" lets pass,
// q.profile is set, which the gates by profile need.
type gate struct {
	name      string
	check     func(*inquiry) *stop // nil lets pass
	byProfile bool
}

var gates = [...]gate{
	{name: "agent", check: (*inquiry).agentNamed},
	{name: "registered", check: (*inquiry).registered},
	{name: "members", check: (*inquiry).membersNamed, byProfile: true},
	{name: "unexpired", check: (*inquiry).unexpired},
	{name: "readable", check: (*inquiry).readable},
	{name: "decommission", check: (*inquiry).notDecommissioned},
	{name: "revocation", check: (*inquiry).notRevoked},
	{name: "quarantine", check: (*inquiry).notQuarantined},
	{name: "issued", check: (*inquiry).issuedAfterCutoff},
	{name: "action", check: (*inquiry).actionDeclared},
	{name: "scope", check: (*inquiry).scopeHeld},
	{name: "attestation", check: (*inquiry).attested, byProfile: true},
	{name: "freshness", check: (*inquiry).fresh, byProfile: true},
	{name: "monitoring", check: (*inquiry).monitored, byProfile: true},
}

// stop says why a gate stopped.
type stop struct {
	code   authz.Code
	entity authz.Ref
	input  string
	reason string // for operators
}

func (q *inquiry) agentNamed() *stop {
	p := q.principal
	switch {
	case p.Problem == authz.CouldNotEvaluate:
		return &stop{code: p.Problem, input: p.Input, reason: "the claim " + p.Input + " could not be read"}
	case p.Problem != "":
		return &stop{code: p.Problem, input: p.Input, reason: "see the claim " + p.Input}
	case p.Agent != "":
		return nil
	}
	if q.mayBeAgentless() && q.basis.rules.Agentless(q.request.Subject.Type) != nil {
		return nil
	}
	return &stop{code: authz.NoAgent, reason: "the request names no agent, and subjects of type " +
		quote(q.request.Subject.Type) + " may not act without one here"}
}

// registered finds the class and the profile.
func (q *inquiry) registered() *stop {
	set := q.basis.rules
	if q.agent < 0 {
		q.profile = set.Agentless(q.request.Subject.Type)
		if q.profile == nil {
			return &stop{code: authz.NoAgent, reason: "no agent is named, so none is registered"}
		}
		q.class = q.profile.Name
		return nil
	}
	t := &q.touched[q.agent]
	if !t.effect.Registered {
		q.class, q.profile = unregistered, set.Profile(unregistered)
		if q.profile == nil {
			return t.stop(authz.Unregistered, "is not registered")
		}
		return nil
	}
	q.class, q.profile = t.effect.Class, set.Profile(t.effect.Class)
	if q.profile == nil {
		return t.stop(authz.UnknownClass, "has the class "+quote(q.class)+", which the rules do not declare")
	}
	return nil
}

// unregistered is the profile of agents without a registration. Bundles rarely declare
// it; where they do not, such agents are denied.
const unregistered = "unregistered"

func (q *inquiry) membersNamed() *stop {
	for _, kind := range q.profile.Requires {
		if !slices.ContainsFunc(q.touched, func(t touched) bool { return t.ref.Kind == kind }) {
			return &stop{code: authz.MissingMember, input: kind.String(),
				reason: "agents of class " + quote(q.class) + " must name a " + kind.String()}
		}
	}
	return nil
}

func (q *inquiry) unexpired() *stop {
	if !q.expired(q.now) {
		return nil
	}
	p := q.principal
	for i := range p.Grants {
		if g := &p.Grants[i]; g.Expires != 0 && q.now >= g.Expires {
			ref := authz.Ref{Kind: authz.KindGrant, ID: g.ID}
			return &stop{code: authz.CredentialExpired, entity: ref, reason: ref.String() + " expired at " + g.Expires.String()}
		}
	}
	return &stop{code: authz.CredentialExpired, entity: q.credential(),
		reason: "the credential expired at " + p.Expires.String()}
}

// credential names what the request's own times belong to.
func (q *inquiry) credential() authz.Ref {
	p := q.principal
	switch {
	case p.Token != "":
		return authz.Ref{Kind: authz.KindToken, ID: p.Token}
	case p.Session != "":
		return authz.Ref{Kind: authz.KindSession, ID: p.Session}
	case p.Agent != "":
		return authz.Ref{Kind: authz.KindAgent, ID: p.Agent}
	}
	return authz.Ref{Kind: authz.KindUser, ID: p.User}
}

func (q *inquiry) readable() *stop {
	return q.standing(authz.Unreadable, authz.UnreadableSignal, "has a signal that this version cannot read")
}

func (q *inquiry) notDecommissioned() *stop {
	return q.standing(authz.Decommissioned, authz.EntityDecommission, "decommissioned")
}

func (q *inquiry) notRevoked() *stop {
	return q.standing(authz.Revoked, authz.EntityRevoked, "revoked")
}

func (q *inquiry) notQuarantined() *stop {
	return q.standing(authz.Quarantined, authz.EntityQuarantined, "quarantined")
}

// standing stops at the first touched entity with the given status.
func (q *inquiry) standing(status authz.Status, code authz.Code, word string) *stop {
	if q.unrestricted {
		return nil
	}
	for i := range q.touched {
		t := &q.touched[i]
		if t.effect.Status != status {
			continue
		}
		by := t.effect.RevokedBy()
		if holds := t.effect.Holds(); by == nil && len(holds) > 0 {
			by = &holds[0]
		}
		return t.stop(code, word+byWhom(by))
	}
	return nil
}

func (q *inquiry) issuedAfterCutoff() *stop {
	if q.unrestricted {
		return nil
	}
	for i := range q.touched {
		t := &q.touched[i]
		if cutoff := t.effect.Cutoff; cutoff != 0 && t.issuedAt < cutoff {
			said := "no issue time was stated"
			if t.issuedAt != 0 {
				said = "issued " + t.issuedAt.String()
			}
			return t.stop(authz.IssuedBefore, "is revoked for what was issued before "+cutoff.String()+
				byWhom(t.effect.CutoffBy())+": "+said)
		}
	}
	return nil
}

func (q *inquiry) actionDeclared() *stop {
	if q.plan != nil {
		return nil
	}
	return &stop{code: authz.UnknownAction, input: "action.name",
		reason: "the rules declare no action " + quote(q.request.Action.Name)}
}

// scopeHeld checks the effective scope: what the credential claims, what each grant of
// the chain passes on, and what posture has left. An agent acting for itself holds the
// scopes of its registration, within what its credential claims.
func (q *inquiry) scopeHeld() *stop {
	if q.plan == nil || q.plan.Action.Scope == "" {
		return nil
	}
	p, scope := q.principal, q.plan.Action.Scope
	lacks := func(entity authz.Ref, where string) *stop {
		return &stop{code: authz.ScopeNotHeld, entity: entity, input: scope,
			reason: "scope " + quote(scope) + " is not " + where}
	}
	if p.User == "" && q.agent >= 0 {
		t := &q.touched[q.agent]
		if !slices.Contains(t.effect.Scopes, scope) {
			return lacks(t.ref, "in the registration of "+t.ref.String())
		}
		if p.HasScopes && !slices.Contains(p.Scopes, scope) {
			return lacks(authz.Ref{}, "claimed")
		}
	} else if !slices.Contains(p.Scopes, scope) {
		return lacks(authz.Ref{}, "claimed")
	}
	for i := range p.Grants {
		if g := &p.Grants[i]; g.HasScopes && !slices.Contains(g.Scopes, scope) {
			ref := authz.Ref{Kind: authz.KindGrant, ID: g.ID}
			return lacks(ref, "passed on by "+ref.String())
		}
	}
	if q.unrestricted {
		return nil
	}
	for i := range q.touched {
		if t := &q.touched[i]; t.effect.Narrowed && !slices.Contains(t.effect.Left, scope) {
			return lacks(t.ref, "left by the narrowing of "+t.ref.String())
		}
	}
	return nil
}

// attested demands that the agent, and the instance where one is named, has not failed
// attestation, and that one of them passed it lately enough for its class.
func (q *inquiry) attested() *stop {
	bound := q.profile.MaxAttestationAge
	if bound == 0 || q.agent < 0 || q.plan == nil || q.plan.Action.Low {
		return nil
	}
	var newest *touched
	for i := range q.touched {
		t := &q.touched[i]
		if i != q.agent && t.ref.Kind != authz.KindInstance {
			continue
		}
		switch t.effect.Attested {
		case authz.AttestFailed:
			return t.stop(authz.AttestationFailed, "failed attestation")
		case authz.AttestPassed:
			if newest == nil || t.effect.AttestedAt > newest.effect.AttestedAt {
				newest = t
			}
		}
	}
	if newest == nil {
		return q.touched[q.agent].stop(authz.AttestationMissing, "has no attestation")
	}
	if end := newest.effect.AttestedAt.Add(bound); q.now >= end {
		return newest.stop(authz.AttestationStale, fmt.Sprintf("was last attested at %s, more than %s ago",
			newest.effect.AttestedAt, bound))
	}
	return nil
}

func (q *inquiry) fresh() *stop {
	if !q.stale() || q.profile.OnStale == rules.StaleApproval {
		return nil // conclude turns an allow into the need of an approval
	}
	return &stop{code: authz.StaleView, reason: q.staleReason()}
}

func (q *inquiry) stale() bool {
	return q.profile.MaxFeedAge > 0 && q.feedAge > q.profile.MaxFeedAge
}

func (q *inquiry) staleReason() string {
	return fmt.Sprintf("the view of the signals is %s old; agents of class %q may act on one of at most %s",
		q.feedAge.Round(time.Millisecond), q.class, q.profile.MaxFeedAge)
}

func (t *touched) stop(code authz.Code, what string) *stop {
	return &stop{code: code, entity: t.ref, reason: t.ref.String() + " " + what}
}

// byWhom renders who is behind a fact, why, and until when:
// " by soar (kim@acme), INC-4711, beaconing, until 2026-11-23T05:04:05Z".
func byWhom(f *posture.Fact) string {
	if f == nil {
		return ""
	}
	var b strings.Builder
	_, name, _ := strings.Cut(f.Source, ":")
	b.WriteString(" by " + name)
	if f.Actor != "" {
		b.WriteString(" (" + f.Actor + ")")
	}
	for _, more := range []string{f.Ticket, f.Reason} {
		if more != "" {
			b.WriteString(", " + more)
		}
	}
	if f.Until != authz.Forever {
		b.WriteString(", until " + f.Until.String())
	}
	return b.String()
}

func quote(s string) string { return strconv.Quote(s) }
