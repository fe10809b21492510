package control

import (
	"math"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

const (
	defaultDecisions = 100
	maxDecisions     = 10_000
)

// listDecisions shows the latest decisions that were not an allow.
func (s *Server) listDecisions(c *call) error {
	query, err := parameters(c.r, "tenant", "ref", "since", "limit")
	if err != nil {
		return err
	}
	tenants, err := c.tenants(query["tenant"])
	if err != nil {
		return err
	}
	var filter RecentFilter
	if v, ok := query["ref"]; ok {
		if filter.Ref, err = authz.ParseRef(v); err != nil {
			return badParameter("ref", err.Error())
		}
	}
	if v, ok := query["since"]; ok {
		at, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			return badParameter("since", "want a time as in RFC 3339")
		}
		filter.Since = authz.InstantOf(at)
	}
	if filter.Limit, err = limitOf(query, defaultDecisions, maxDecisions); err != nil {
		return err
	}
	if !s.lists.enter(c.r.Context()) {
		return busy("too many lists are being made")
	}
	defer s.lists.leave()
	answer := DecisionsResponse{Decisions: []RecentDecision{}}
	for _, known := range c.parts.Recent.Find(tenants, filter) {
		answer.Decisions = append(answer.Decisions, recentDecision(&known, c.now))
	}
	return c.respond(http.StatusOK, &answer)
}

func recentDecision(k *Remembered, now authz.Instant) RecentDecision {
	out := RecentDecision{
		ID: k.ID, Tenant: k.Tenant, Count: k.Count, First: k.First.String(), Last: k.Last.String(),
		Client: k.Client, RequestID: k.RequestID, Decision: decisionBody(k.Answer).Context,
	}
	if r := k.Request; r != nil {
		out.Action, out.Resource = r.Action.Name, r.Resource.Type+":"+r.Resource.ID
	}
	if p := k.Principal; p != nil {
		out.Agent, out.User = named(authz.KindAgent, p.Agent), named(authz.KindUser, p.User)
	}
	return out
}

func named(kind authz.Kind, id string) string {
	if id == "" {
		return ""
	}
	return authz.Ref{Kind: kind, ID: id}.String()
}

// requestJSON writes r in AuthZEN's words.
func requestJSON(r *authz.Request) jsontext.Value {
	if r == nil {
		return nil
	}
	party := func(p authz.Party) map[string]any {
		return withProperties(map[string]any{"type": p.Type, "id": p.ID}, p.Properties)
	}
	body := map[string]any{
		"subject": party(r.Subject), "resource": party(r.Resource),
		"action": withProperties(map[string]any{"name": r.Action.Name}, r.Action.Properties),
	}
	if len(r.Context) > 0 {
		body["context"] = plainObject(r.Context)
	}
	encoded, err := json.Marshal(body, json.Deterministic(true))
	if err != nil {
		return nil
	}
	return encoded
}

func withProperties(party map[string]any, properties authz.Object) map[string]any {
	if len(properties) > 0 {
		party["properties"] = plainObject(properties)
	}
	return party
}

func plainObject(o authz.Object) map[string]any {
	out := make(map[string]any, len(o))
	for i := range o {
		out[o[i].Name] = plainValue(&o[i].Value)
	}
	return out
}

func plainValue(v *authz.Value) any {
	switch v.Kind {
	case authz.Bool:
		return v.Num != 0
	case authz.Number:
		if v.Num == math.Trunc(v.Num) && math.Abs(v.Num) < 1<<53 {
			return int64(v.Num)
		}
		return v.Num
	case authz.String:
		return v.Str
	case authz.List:
		list := make([]any, len(v.Members))
		for i := range v.Members {
			list[i] = plainValue(&v.Members[i].Value)
		}
		return list
	case authz.Map:
		return plainObject(v.Members)
	}
	return nil
}
