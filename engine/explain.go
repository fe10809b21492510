package engine

import (
	"strings"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

// Explanation is a decision and how it came about.
type Explanation struct {
	Answer   authz.Answer
	Action   string
	Agent    authz.Ref
	User     authz.Ref
	Resource string // "type:id"
	Gates    []GateTrace
	Rules    []rules.Trace
	// Without is what the decision would have been had no gate stopped. Nil where
	// none did, or where the action is not declared, so that there are no rules to ask.
	Without *authz.Decision
}

// GateTrace is what one gate said.
type GateTrace struct {
	Gate   string
	OK     bool
	Entity authz.Ref
	Detail string
}

// Explain decides without the cache, by what is in force now, and says how. It
// evaluates past a failed gate. The strings of the result do not alias req.
func (e *Engine) Explain(caller *authz.Caller, req *authz.Request, p *authz.Principal) Explanation {
	b := e.basis.Load()
	asOf := b.posture.AsOf()
	q := e.inquire(b, caller, req, p)
	defer e.release(q)
	q.gather(e.cfg.Now)
	q.feedAge = e.feedAge(q.now)
	x := q.explain()
	x.Answer.AsOf = asOf
	return x
}

// ExplainAgain explains a decision made earlier by its evidence: the rules, the
// records, now and the feed's age as they were then. req and p must be those of that
// decision.
func (e *Engine) ExplainAgain(ev *Evidence, caller *authz.Caller, req *authz.Request, p *authz.Principal) Explanation {
	b := &basis{rules: ev.rules, posture: e.basis.Load().posture}
	q := e.inquire(b, caller, req, p)
	defer e.release(q)
	ev.replay(q)
	return q.explain()
}

func (q *inquiry) explain() Explanation {
	p, req := q.principal, q.request.Clone()
	x := Explanation{
		Action:   req.Action.Name,
		Resource: req.Resource.Type + ":" + req.Resource.ID,
	}
	if p.Agent != "" {
		x.Agent = authz.Ref{Kind: authz.KindAgent, ID: strings.Clone(p.Agent)}
	}
	if p.User != "" {
		x.User = authz.Ref{Kind: authz.KindUser, ID: strings.Clone(p.User)}
	}
	x.Answer = authz.Answer{Decision: q.judge(), At: q.now, Expires: p.Ends()}

	stopped := false
	for i := range gates {
		if q.profile == nil && gates[i].byProfile {
			continue // without a class there is nothing that it could demand
		}
		s := gates[i].check(q)
		trace := GateTrace{Gate: gates[i].name, OK: s == nil}
		if !trace.OK {
			stopped = true
			trace.Entity = authz.Ref{Kind: s.entity.Kind, ID: strings.Clone(s.entity.ID)}
			trace.Detail = s.reason
		}
		x.Gates = append(x.Gates, trace)
	}
	if q.plan == nil {
		return x
	}
	q.fillFrame()
	verdict, traces := q.plan.Explain(&q.frame, q.class)
	x.Rules = traces
	if stopped && q.profile != nil {
		x.Without = q.seal(q.ruled(&verdict))
	}
	return x
}

// Suppose decides at now as if store were posture, by the rules in use and without the
// cache. It counts and remembers nothing. The strings of the result do not alias req.
func (e *Engine) Suppose(store *posture.Store, now authz.Instant, caller *authz.Caller, req *authz.Request, p *authz.Principal) authz.Answer {
	q := e.inquire(&basis{rules: e.basis.Load().rules, posture: store}, caller, req.Clone(), p)
	defer e.release(q)
	q.gather(func() authz.Instant { return now })
	q.feedAge = e.feedAge(now)
	return authz.Answer{Decision: q.judge(), At: now, Expires: p.Ends(), AsOf: store.AsOf()}
}
