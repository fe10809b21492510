package engine

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

// judge decides a gathered inquiry. It is a function of the rule set, the records, when the
// needed sources were heard, the request, now and the feed's age, and of nothing else.
func (q *inquiry) judge() *authz.Decision {
	q.class, q.profile = "", nil
	q.cacheable = q.plan != nil && q.principal.Problem == "" && !q.expired(q.now)
	for i := range gates {
		if s := gates[i].check(q); s != nil {
			return q.seal(q.stopped(s))
		}
	}
	q.fillFrame()
	v := q.plan.Evaluate(&q.frame, q.class)
	return q.seal(q.ruled(&v))
}

// stopped makes the decision of a gate that stopped.
func (q *inquiry) stopped(s *stop) *authz.Decision {
	class := authz.ClassGate
	switch s.code {
	case authz.CouldNotEvaluate:
		class = authz.ClassError
	case authz.StaleView:
		class = authz.ClassStale
		q.cacheable = false
	case authz.SourceSilent:
		class = authz.ClassStale
	}
	return &authz.Decision{
		Class: class, Code: s.code,
		Entity:      authz.Ref{Kind: s.entity.Kind, ID: strings.Clone(s.entity.ID)},
		Input:       strings.Clone(s.input),
		ReasonUser:  notPermitted,
		ReasonAdmin: s.reason,
		ValidUntil:  authz.Forever,
	}
}

const notPermitted = "Not permitted."

// fillFrame hands the standings to the rules.
func (q *inquiry) fillFrame() {
	q.frame.Request, q.frame.Now = q.request, q.now
	clear(q.frame.Standings[:])
	for i := range q.touched {
		t := &q.touched[i]
		if q.frame.Standings[t.ref.Kind] != nil {
			continue // prior actors and further grants: rules see the first
		}
		if t.record != nil {
			q.frame.Standings[t.ref.Kind] = &t.effect.Standing
			continue
		}
		q.unknown[t.ref.Kind].ID = t.ref.ID
		q.frame.Standings[t.ref.Kind] = &q.unknown[t.ref.Kind]
	}
}

// ruled adds posture's own demands to what the rules say.
func (q *inquiry) ruled(v *rules.Verdict) *authz.Decision {
	d := &authz.Decision{
		Effect: v.Effect, Class: v.Class, Code: v.Code, Input: v.Input,
		Rules: v.Rules, Errors: v.Errors, Observed: v.Observed, Obligations: v.Obligations,
		ReasonUser: v.ReasonUser, ReasonAdmin: v.ReasonAdmin, ValidUntil: v.ValidUntil,
	}
	if d.ReasonUser == "" && d.Effect != authz.Allow {
		d.ReasonUser = notPermitted
	}
	if d.Effect == authz.Deny {
		return d
	}
	if t, by := q.approvalDemanded(); t != nil {
		q.demandApproval(d, authz.ClassRequire, authz.ApprovalRequired,
			authz.Ref{Kind: t.ref.Kind, ID: strings.Clone(t.ref.ID)},
			t.ref.String()+" needs an approval for this action, required"+byWhom(by))
	}
	if q.stale() {
		q.cacheable = false
		q.demandApproval(d, authz.ClassStale, authz.StaleView, authz.Ref{}, q.staleReason())
	} else if i := q.silent(); i >= 0 && q.profile.OnSilence == rules.StaleApproval {
		t := q.source(i)
		q.demandApproval(d, authz.ClassStale, authz.SourceSilent,
			authz.Ref{Kind: t.ref.Kind, ID: t.ref.ID}, t.ref.String()+" "+q.silence(i))
	}
	return d
}

// demandApproval adds the demand for an approval to an answer that is not a denial. An
// answer that rules made into a demand already keeps their reason; a stale view is always
// the reason, for whatever else was found was found in it.
func (q *inquiry) demandApproval(d *authz.Decision, class authz.Class, code authz.Code, entity authz.Ref, reason string) {
	if d.Effect == authz.Allow || class == authz.ClassStale {
		if d.Effect == authz.Allow {
			d.Rules, d.ReasonUser = nil, "An approval is needed."
		}
		d.Effect, d.Class, d.Code, d.Entity, d.ReasonAdmin = authz.Require, class, code, entity, reason
	}
	if !slices.ContainsFunc(d.Obligations, func(o authz.Obligation) bool { return o.ID == postureApproval }) {
		d.Obligations = append(slices.Clip(d.Obligations), authz.Obligation{ID: postureApproval, Type: "approval"})
	}
}

// postureApproval is the id of the obligation that posture, not a rule, demands.
const postureApproval = "posture-approval"

// approvalDemanded finds the first touched entity for which posture demands an
// approval of this action.
func (q *inquiry) approvalDemanded() (*touched, *posture.Fact) {
	if q.unrestricted {
		return nil, nil
	}
	for i := range q.touched {
		t := &q.touched[i]
		if !slices.Contains(t.effect.ApprovalFor, "*") && !slices.Contains(t.effect.ApprovalFor, q.request.Action.Name) {
			continue
		}
		for _, by := range t.effect.ApprovalBy() {
			if slices.Contains(by.Actions, "*") || slices.Contains(by.Actions, q.request.Action.Name) {
				return t, &by
			}
		}
		return t, nil
	}
	return nil, nil
}

// seal fills in what every decision has.
func (q *inquiry) seal(d *authz.Decision) *authz.Decision {
	d.ValidUntil = min(d.ValidUntil, q.until)
	if q.profile != nil && q.profile.MaxAttestationAge > 0 {
		d.ValidUntil = min(d.ValidUntil, q.attestationEnds(q.profile.MaxAttestationAge))
	}
	if len(q.needs) > 0 {
		q.sources(d)
	}
	d.Bundle = q.basis.rules.Digest()
	if d.Effect != authz.Allow {
		d.Evidence = q.evidence()
	}
	return d
}

// attestationEnds is when a pass that counts now becomes too old.
func (q *inquiry) attestationEnds(bound time.Duration) authz.Instant {
	end := authz.Forever
	for i := range q.touched {
		t := &q.touched[i]
		if i != q.agent && t.ref.Kind != authz.KindInstance || t.effect.Attested != authz.AttestPassed {
			continue
		}
		if at := t.effect.AttestedAt.Add(bound); at > q.now {
			end = min(end, at)
		}
	}
	return end
}

// same reports whether two decisions say the same for the same reasons.
func same(a, b *authz.Decision) bool {
	return a.Effect == b.Effect && a.Class == b.Class && a.Code == b.Code && a.Entity == b.Entity &&
		a.Input == b.Input && slices.Equal(a.Rules, b.Rules) && a.Bundle == b.Bundle &&
		slices.EqualFunc(a.Obligations, b.Obligations, func(x, y authz.Obligation) bool {
			return x.ID == y.ID && x.Type == y.Type && bytes.Equal(x.Properties, y.Properties)
		}) && slices.Equal(a.Observed, b.Observed) && a.ReasonUser == b.ReasonUser && slices.Equal(a.Waived, b.Waived)
}
