package control

import (
	"errors"
	"net/http"

	"github.com/go-json-experiment/json"

	"vigil/authz"
	"vigil/authzen"
	"vigil/engine"
	"vigil/rules"
	"vigil/server/recent"
)

// explainRequest says what would be decided about a request now, and how. With ?id= it
// explains a remembered decision instead.
func (s *Server) explainRequest(c *call) error {
	if c.r.ContentLength == 0 {
		return s.explainRecorded(c)
	}
	query, err := parameters(c.r, "tenant")
	if err != nil {
		return err
	}
	tenants, err := c.tenants(query["tenant"])
	if err != nil {
		return err
	}
	body, release, err := s.receive(c)
	if err != nil {
		return err
	}
	defer release()
	var decoder authzen.Decoder
	request, err := decoder.Evaluation(body)
	if err != nil {
		return ofDecode(err)
	}
	caller := c.client.Caller
	caller.Tenants = tenants // one that was asked for is the one meant
	if !s.explain.enter(c.r.Context()) {
		return busy("too many requests are being explained")
	}
	defer s.explain.leave()
	var principal authz.Principal
	s.cfg.Principal(&caller, request, &principal)
	return c.respond(http.StatusOK, explanationOf(c.parts.Engine.Explain(&caller, request, &principal), principal.Tenant))
}

// explainRecorded says how a remembered decision came about, by the rules and records
// of that time, and what would be decided now.
func (s *Server) explainRecorded(c *call) error {
	query, err := parameters(c.r, "id", "tenant")
	if err != nil {
		return err
	}
	if query["id"] == "" {
		return badParameter("id", "want the id of a remembered decision, or a POST with a request")
	}
	tenants, err := c.tenants(query["tenant"])
	if err != nil {
		return err
	}
	known, ok := recall(c.parts.Recent, tenants, query["id"])
	if !ok {
		return fail(http.StatusNotFound, CodeUnknownDecision, "no such decision is remembered; only the latest that were not an allow are")
	}
	if !s.explain.enter(c.r.Context()) {
		return busy("too many requests are being explained")
	}
	defer s.explain.leave()
	return c.respond(http.StatusOK, explainEntry(c.parts.Engine, &known))
}

func recall(r Recent, tenants []string, id string) (recent.Entry, bool) {
	for _, tenant := range tenants {
		if e, ok := r.Get(tenant, id); ok {
			return e, true
		}
	}
	return recent.Entry{}, false
}

// explainEntry explains a remembered decision by its evidence, and what would be decided
// now. Of a request that was too large to be kept, only the answer is known.
func explainEntry(e Engine, known *recent.Entry) *ExplainResponse {
	then := engine.Explanation{
		Answer: known.Answer, Action: known.Request.Action.Name,
		Agent:    agentOf(known.Principal),
		Resource: known.Request.Resource.Type + ":" + known.Request.Resource.ID,
	}
	note := "The request was too large to be kept: how it was decided cannot be shown again."
	var now *DecisionBody
	if !known.Bare {
		note = ""
		explained := e.Explain(&known.Caller, known.Request, known.Principal)
		now = decisionBody(explained.Answer)
		if evidence, ok := known.Answer.Evidence.(*engine.Evidence); ok && evidence != nil {
			then = e.ExplainAgain(evidence, &known.Caller, known.Request, known.Principal)
			then.Answer.AsOf, then.Answer.At = known.Answer.AsOf, known.Answer.At
		} else {
			note = "What the decision was made from is no longer kept: the rules have changed several times since."
		}
	}
	out := explanationOf(then, known.Tenant)
	recorded := recentDecision(known)
	recorded.Request = requestJSON(known.Request)
	for _, r := range known.Records {
		recorded.Entities = append(recorded.Entities, RecordedEntity{
			Ref: r.Ref.String(), Effective: effectiveOf(r.Record.At(known.Answer.At), known.Answer.At),
		})
	}
	out.Recorded, out.Now, out.Note = &recorded, now, note
	return out
}

func agentOf(p *authz.Principal) authz.Ref {
	if p.Agent == "" {
		return authz.Ref{}
	}
	return authz.Ref{Kind: authz.KindAgent, ID: p.Agent}
}

// ofDecode says what is wrong with a request, in the words of the decision port.
func ofDecode(err error) *problem {
	var e *authzen.Error
	if !errors.As(err, &e) {
		return fail(http.StatusBadRequest, CodeBadBody, "not a request").because(err)
	}
	p := fail(http.StatusBadRequest, e.Code, e.Detail)
	p.Pointer = e.Pointer
	return p
}

func explanationOf(x engine.Explanation, tenant string) *ExplainResponse {
	out := &ExplainResponse{
		Decision: *decisionBody(x.Answer), Action: x.Action, Agent: x.Agent.String(),
		User: x.User.String(), Resource: x.Resource, Tenant: tenant,
		Gates: []GateStep{}, Rules: []RuleStep{},
	}
	for _, g := range x.Gates {
		out.Gates = append(out.Gates, GateStep{Gate: g.Gate, OK: g.OK, Entity: g.Entity.String(), Detail: g.Detail})
	}
	for _, r := range x.Rules {
		out.Rules = append(out.Rules, ruleStep(r))
	}
	if x.Without != nil {
		out.Without = decisionBody(authz.Answer{Decision: x.Without})
	}
	return out
}

func ruleStep(t rules.Trace) RuleStep {
	return RuleStep{
		Rule: t.Rule, File: t.Pos.File, Line: t.Pos.Line, Effect: t.Effect.String(),
		Mode: t.Mode, Result: t.Result, Error: t.Error, Detail: t.Detail,
	}
}

// decisionBody writes a decision with everything in it.
func decisionBody(a authz.Answer) *DecisionBody {
	d := a.Decision
	if d == nil {
		d = &authz.Decision{}
		a.Decision = d
	}
	out := &DecisionBody{Decision: d.Effect == authz.Allow, Context: DecisionContext{
		Effect: d.Effect.String(), Class: d.Class.String(), Code: string(d.Code),
		Obligations: []Obligation{}, ValidUntil: milliseconds(a.GoodUntil()),
		ReasonUser: d.ReasonUser, ReasonAdmin: d.ReasonAdmin,
		Entity: d.Entity.String(), Input: d.Input, Rules: orEmpty(d.Rules),
		Bundle: d.Bundle, AsOf: a.AsOf, DecidedAt: milliseconds(a.At),
	}}
	out.Context.Waived = d.Waived
	for _, o := range d.Obligations {
		out.Context.Obligations = append(out.Context.Obligations, obligationOf(o))
	}
	for _, e := range d.Errors {
		out.Context.Errors = append(out.Context.Errors, EvaluationErr{Rule: e.Rule, Input: e.Input, Message: e.Message})
	}
	for _, o := range d.Observed {
		out.Context.Observed = append(out.Context.Observed, Observed{Rule: o.Rule, Effect: o.Effect.String()})
	}
	return out
}

// milliseconds writes a time as the decision port does.
func milliseconds(i authz.Instant) string {
	if i == 0 || i == authz.Forever {
		return ""
	}
	return string(authz.AppendInstant(nil, i))
}

func obligationOf(o authz.Obligation) Obligation {
	out := Obligation{ID: o.ID, Type: o.Type}
	if len(o.Properties) > 0 {
		_ = json.Unmarshal(o.Properties, &out.Properties) // the bundle's own, checked when it was loaded
	}
	return out
}
