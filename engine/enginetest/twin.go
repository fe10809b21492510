package enginetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

// Twin is the contract, written as plainly as it can be: it keeps everything that was
// ever said, and decides by reading all of it. It has no cache, no index, no stamps, no
// joins, no records. It is slow, and it is who is right. It is for one goroutine.
type Twin struct {
	Said    map[authz.Key][]posture.Fact // of each entity, everything, in any order
	Heard   map[string]authz.Instant     // when each source was heard last
	Rules   *Rules
	FeedAge time.Duration // how old the view is, where a profile bounds that
}

// Rules are a rule set in the form that a Twin reads.
type Rules struct {
	Bundle *rules.Bundle
	Alone  map[string]*rules.Set // each rule compiled by itself, by its id
}

// Plain compiles every rule of a bundle by itself.
func Plain(bundle *rules.Bundle) (*Rules, error) {
	r := &Rules{Bundle: bundle, Alone: map[string]*rules.Set{}}
	for _, rule := range bundle.Rules {
		one := *bundle
		one.Rules = []*rules.Rule{rule}
		set, errs := rules.Compile(&one)
		if len(errs) > 0 {
			return nil, errs
		}
		r.Alone[rule.ID] = set
	}
	return r, nil
}

// Outcome is what of a decision must agree. Outcomes are compared with ==.
type Outcome struct {
	Effect authz.Effect
	Class  authz.Class
	Code   authz.Code
	Entity authz.Ref
	Input  string
	Rules  string
	Owed   string // the obligations' types
	Waived string // the exceptions that it rests on
}

// OutcomeOf gives the outcome of a decision.
func OutcomeOf(d *authz.Decision) Outcome {
	owed := ""
	for _, o := range d.Obligations {
		owed += o.Type + " "
	}
	return Outcome{d.Effect, d.Class, d.Code, d.Entity, d.Input, fmt.Sprint(d.Rules), owed, exceptions(d.Waived)}
}

// exceptions writes names as a set; "" for none.
func exceptions(names []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), " ")
}

// member is an entity that a request names.
type member struct {
	ref    authz.Ref
	issued authz.Instant
}

// Decide says what the answer to a request is at now.
func (t *Twin) Decide(caller *authz.Caller, req *authz.Request, p *authz.Principal, now authz.Instant) Outcome {
	gate := func(code authz.Code, entity authz.Ref, input string) Outcome {
		return Outcome{Class: authz.ClassGate, Code: code, Entity: entity, Input: input, Rules: "[]"}
	}
	// Who asks, and what the request touches.
	if p.Problem == authz.CouldNotEvaluate {
		return Outcome{Class: authz.ClassError, Code: p.Problem, Input: p.Input, Rules: "[]"}
	} else if p.Problem != "" {
		return gate(p.Problem, authz.Ref{}, p.Input)
	}
	know := func(r authz.Ref) held { return t.standing(r.In(p.Tenant), now) }
	agent := authz.Ref{Kind: authz.KindAgent, ID: p.Agent}
	members := []member{{authz.Ref{Kind: authz.KindEverything}, p.IssuedAt}}
	name := func(kind authz.Kind, id string, issued authz.Instant) {
		if id != "" {
			members = append(members, member{authz.Ref{Kind: kind, ID: id}, issued})
		}
	}
	name(authz.KindTenant, p.Tenant, p.IssuedAt)
	name(authz.KindAgent, p.Agent, p.IssuedAt)
	for _, a := range p.Actors {
		name(authz.KindAgent, a, p.IssuedAt)
	}
	name(authz.KindInstance, p.Instance, p.IssuedAt)
	name(authz.KindUser, p.User, p.IssuedAt)
	name(authz.KindSession, p.Session, p.IssuedAt)
	name(authz.KindToken, p.Token, p.IssuedAt)
	for _, g := range p.Grants {
		name(authz.KindGrant, g.ID, g.IssuedAt)
	}
	name(authz.KindTool, p.Tool, p.IssuedAt)
	var code, model string
	for _, r := range []authz.Ref{{Kind: authz.KindInstance, ID: p.Instance}, agent} {
		if reg := know(r).registered; r.ID != "" && reg != nil {
			code, model = first(code, reg.Code), first(model, reg.Model)
		}
	}
	name(authz.KindCode, code, p.IssuedAt)
	name(authz.KindModel, model, p.IssuedAt)
	var needs []rules.Need
	if profile := t.profileOf(req, p, know(agent)); profile != nil {
		needs = profile.Needs
	}
	var silent authz.Ref // the first that nobody waives
	var waived []string
	for _, need := range needs {
		name(authz.KindSource, need.Source, 0)
		source := authz.Ref{Kind: authz.KindSource, ID: need.Source}
		if heard := t.Heard[need.Source]; heard != 0 && now < heard.Add(need.MaxSilence) {
			continue
		}
		by := know(source).waived
		if waived = append(waived, by...); len(by) == 0 && silent.ID == "" {
			silent = source
		}
	}

	// The gates.
	var profile *rules.Profile
	class := ""
	switch reg := know(agent).registered; {
	case p.Agent == "":
		if !slices.Contains(caller.Agentless, req.Subject.Type) || !slices.Contains(t.Rules.Bundle.Agentless.Types, req.Subject.Type) {
			return gate(authz.NoAgent, authz.Ref{}, "")
		}
		class = t.Rules.Bundle.Agentless.Profile
		profile = t.Rules.Bundle.Profiles[class]
	case reg == nil:
		class = "unregistered"
		if profile = t.Rules.Bundle.Profiles[class]; profile == nil {
			return gate(authz.Unregistered, agent, "")
		}
	default:
		class = reg.Class
		if profile = t.Rules.Bundle.Profiles[class]; profile == nil {
			return gate(authz.UnknownClass, agent, "")
		}
	}
	for _, kind := range profile.Requires {
		if !slices.ContainsFunc(members, func(m member) bool { return m.ref.Kind == kind }) {
			return gate(authz.MissingMember, authz.Ref{}, kind.String())
		}
	}
	for _, g := range p.Grants {
		if g.Expires != 0 && now >= g.Expires {
			return gate(authz.CredentialExpired, authz.Ref{Kind: authz.KindGrant, ID: g.ID}, "")
		}
	}
	if p.Expires != 0 && now >= p.Expires {
		entity := authz.Ref{Kind: authz.KindUser, ID: p.User}
		for _, r := range []authz.Ref{{Kind: authz.KindAgent, ID: p.Agent}, {Kind: authz.KindSession, ID: p.Session}, {Kind: authz.KindToken, ID: p.Token}} {
			if r.ID != "" {
				entity = r
			}
		}
		return gate(authz.CredentialExpired, entity, "")
	}
	for _, worst := range []struct {
		status authz.Status
		code   authz.Code
	}{
		{authz.Unreadable, authz.UnreadableSignal}, {authz.Decommissioned, authz.EntityDecommission},
		{authz.Revoked, authz.EntityRevoked}, {authz.Quarantined, authz.EntityQuarantined},
	} {
		for _, m := range members {
			if know(m.ref).status == worst.status {
				return gate(worst.code, m.ref, "")
			}
		}
	}
	for _, m := range members {
		if cutoff := know(m.ref).cutoff; cutoff != 0 && m.issued < cutoff {
			return gate(authz.IssuedBefore, m.ref, "")
		}
	}
	action := t.Rules.Bundle.Actions[req.Action.Name]
	if action == nil {
		return gate(authz.UnknownAction, authz.Ref{}, "action.name")
	}
	if scope := action.Scope; scope != "" {
		if p.User == "" && p.Agent != "" {
			reg := know(agent).registered
			if reg == nil || !slices.Contains(reg.Scopes, scope) {
				return gate(authz.ScopeNotHeld, agent, scope)
			}
			if p.HasScopes && !slices.Contains(p.Scopes, scope) {
				return gate(authz.ScopeNotHeld, authz.Ref{}, scope)
			}
		} else if !slices.Contains(p.Scopes, scope) {
			return gate(authz.ScopeNotHeld, authz.Ref{}, scope)
		}
		for _, g := range p.Grants {
			if g.HasScopes && !slices.Contains(g.Scopes, scope) {
				return gate(authz.ScopeNotHeld, authz.Ref{Kind: authz.KindGrant, ID: g.ID}, scope)
			}
		}
		for _, m := range members {
			for _, left := range know(m.ref).narrowed {
				if !slices.Contains(left, scope) {
					return gate(authz.ScopeNotHeld, m.ref, scope)
				}
			}
		}
	}
	if profile.MaxAttestationAge > 0 && !action.Low && p.Agent != "" {
		var passed []authz.Ref
		for _, r := range []authz.Ref{agent, {Kind: authz.KindInstance, ID: p.Instance}} {
			if r.ID == "" {
				continue
			}
			switch know(r).attested {
			case authz.AttestFailed:
				return gate(authz.AttestationFailed, r, "")
			case authz.AttestPassed:
				passed = append(passed, r)
			}
		}
		if len(passed) == 0 {
			return gate(authz.AttestationMissing, agent, "")
		}
		newest := slices.MaxFunc(passed, func(a, b authz.Ref) int { return int(know(a).attestedAt - know(b).attestedAt) })
		if now >= know(newest).attestedAt.Add(profile.MaxAttestationAge) {
			return gate(authz.AttestationStale, newest, "")
		}
	}
	stale := profile.MaxFeedAge > 0 && t.FeedAge > profile.MaxFeedAge
	if stale && profile.OnStale == rules.StaleDeny {
		return Outcome{Class: authz.ClassStale, Code: authz.StaleView, Rules: "[]"}
	}
	if silent.ID != "" && profile.OnSilence == rules.StaleDeny {
		return Outcome{Class: authz.ClassStale, Code: authz.SourceSilent, Entity: silent, Rules: "[]"}
	}

	// The rules, then what posture demands of an answer that is not a denial.
	o := t.ask(req, class, func(kind authz.Kind) (held, authz.Ref, bool) {
		for _, m := range members {
			if m.ref.Kind == kind {
				return know(m.ref), m.ref, true
			}
		}
		return held{}, authz.Ref{}, false
	}, now)
	if o.Effect == authz.Deny {
		return o
	}
	owed := o.Owed + "approval "
	for _, m := range members {
		if a := know(m.ref).approval; slices.Contains(a, "*") || slices.Contains(a, req.Action.Name) {
			if o.Effect == authz.Allow {
				o = Outcome{Effect: authz.Require, Class: authz.ClassRequire, Code: authz.ApprovalRequired, Entity: m.ref, Rules: "[]"}
			}
			o.Owed = owed
			break
		}
	}
	if stale || silent.ID != "" {
		if o.Effect == authz.Allow {
			o.Effect, o.Rules = authz.Require, "[]"
		}
		o.Class, o.Code, o.Entity, o.Owed = authz.ClassStale, authz.SourceSilent, silent, owed
	}
	if stale {
		o.Code, o.Entity = authz.StaleView, authz.Ref{}
	}
	o.Waived = exceptions(waived)
	return o
}

// profileOf gives the profile that a request is judged by, or nil.
func (t *Twin) profileOf(req *authz.Request, p *authz.Principal, agent held) *rules.Profile {
	bundle := t.Rules.Bundle
	switch {
	case p.Agent == "" && slices.Contains(bundle.Agentless.Types, req.Subject.Type):
		return bundle.Profiles[bundle.Agentless.Profile]
	case p.Agent == "":
		return nil
	case agent.registered == nil:
		return bundle.Profiles["unregistered"]
	}
	return bundle.Profiles[agent.registered.Class]
}

// ask evaluates every rule of the bundle by itself and combines what they say.
func (t *Twin) ask(req *authz.Request, class string, know func(authz.Kind) (held, authz.Ref, bool), now authz.Instant) Outcome {
	var spoke [3][]string // by effect
	var failed []string
	inputs := map[string]string{}
	for _, r := range t.Rules.Bundle.Rules {
		if r.Observe || !applies(r, req, class) {
			continue
		}
		var f rules.Frame
		f.Request, f.Now = req, now
		for _, kind := range authz.Kinds() {
			if h, ref, ok := know(kind); ok {
				f.Standings[kind] = h.asStanding(ref.ID)
			}
		}
		switch v := t.Rules.Alone[r.ID].Plan(req.Action.Name, req.Resource.Type, req.Resource.ID).Evaluate(&f, class); v.Class {
		case authz.ClassError:
			inputs[r.ID] = v.Input
			failed = append(failed, r.ID)
		case authz.ClassAllow, authz.ClassRequire, authz.ClassRule:
			spoke[r.Effect] = append(spoke[r.Effect], r.ID)
		}
	}
	slices.Sort(failed)
	failedStrong := slices.DeleteFunc(slices.Clone(failed), func(id string) bool { return t.rule(id).Effect == authz.Allow })
	say := func(e authz.Effect, c authz.Class, code authz.Code) Outcome {
		slices.Sort(spoke[e])
		return Outcome{Effect: e, Class: c, Code: code, Rules: fmt.Sprint(spoke[e])}
	}
	could := func(which []string) Outcome {
		return Outcome{Class: authz.ClassError, Code: authz.CouldNotEvaluate, Input: inputs[which[0]], Rules: fmt.Sprint(which[:1])}
	}
	switch {
	case len(spoke[authz.Deny]) > 0:
		return say(authz.Deny, authz.ClassRule, authz.DeniedByRule)
	case len(failedStrong) > 0:
		return could(failedStrong)
	case len(spoke[authz.Require]) > 0:
		o := say(authz.Require, authz.ClassRequire, authz.Obliged)
		for _, id := range spoke[authz.Require] {
			for _, due := range t.rule(id).Obligations {
				o.Owed += due.Type + " "
			}
		}
		return o
	case len(spoke[authz.Allow]) > 0:
		return say(authz.Allow, authz.ClassAllow, authz.Allowed)
	case len(failed) > 0:
		return could(failed)
	}
	return Outcome{Class: authz.ClassDefault, Code: authz.NoAllowRule, Rules: "[]"}
}

func (t *Twin) rule(id string) *rules.Rule {
	return t.Rules.Bundle.Rules[slices.IndexFunc(t.Rules.Bundle.Rules, func(r *rules.Rule) bool { return r.ID == id })]
}

func applies(r *rules.Rule, req *authz.Request, class string) bool {
	oneOf := func(list []string, names ...string) bool {
		return len(list) == 0 || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(list, n) })
	}
	return oneOf(r.Actions, req.Action.Name) && oneOf(r.Classes, class) && oneOf(r.Subjects, req.Subject.Type) &&
		oneOf(r.Resources, req.Resource.Type, req.Resource.Type+":"+req.Resource.ID)
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
