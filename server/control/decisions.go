package control

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
	"vigil/server/recent"
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
	var want recent.Query
	if v, ok := query["ref"]; ok {
		if want.Ref, err = authz.ParseRef(v); err != nil {
			return badParameter("ref", err.Error())
		}
	}
	if v, ok := query["since"]; ok {
		at, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			return badParameter("since", "want a time as in RFC 3339")
		}
		want.Since = authz.InstantOf(at)
	}
	limit, err := limitOf(query, defaultDecisions, maxDecisions)
	if err != nil {
		return err
	}
	if !s.lists.enter(c.r.Context()) {
		return busy("too many lists are being made")
	}
	defer s.lists.leave()
	var found []recent.Entry
	for _, tenant := range tenants {
		want.Tenant = tenant
		found = append(found, latest(c.parts.Recent, want, limit)...)
	}
	slices.SortStableFunc(found, func(a, b recent.Entry) int { return cmp.Compare(b.Last, a.Last) })
	answer := DecisionsResponse{Decisions: []RecentDecision{}}
	for i := range found[:min(limit, len(found))] {
		answer.Decisions = append(answer.Decisions, recentDecision(&found[i]))
	}
	return c.respond(http.StatusOK, &answer)
}

// latest asks for up to limit entries of one tenant, a page at a time.
func latest(r Recent, want recent.Query, limit int) []recent.Entry {
	const page = 1000
	var found []recent.Entry
	for len(found) < limit {
		want.Limit = min(page, limit-len(found))
		entries := r.Query(want)
		found = append(found, entries...)
		if len(entries) < want.Limit {
			break
		}
		want.Before = entries[len(entries)-1].Cursor
	}
	return found
}

func recentDecision(e *recent.Entry) RecentDecision {
	return RecentDecision{
		ID: e.ID, Tenant: e.Tenant, Count: e.Count, First: e.First.String(), Last: e.Last.String(),
		Client: e.Client, RequestID: e.RequestID, TraceID: e.TraceID,
		Agent: named(authz.KindAgent, e.Principal.Agent), User: named(authz.KindUser, e.Principal.User),
		Action: e.Request.Action.Name, Resource: e.Request.Resource.Type + ":" + e.Request.Resource.ID,
		Decision: decisionBody(e.Answer).Context,
	}
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
	encoded, err := json.Marshal(body, encoding)
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
