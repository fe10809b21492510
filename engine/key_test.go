package engine

import (
	"testing"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/engine/enginetest"
	"vigil/posture"
)

func keyOf(e *Engine, q question) string {
	i := e.inquire(e.basis.Load(), q.caller, q.request, q.principal)
	defer e.release(i)
	i.buildKey()
	return string(i.key)
}

func paying() question {
	return question{
		caller: &authz.Caller{Tenants: []string{"default", "acme"}},
		request: &authz.Request{
			Subject:  authz.Party{Type: "user", ID: "kim", Properties: authz.Object{{Name: "role", Value: text("clerk")}}},
			Action:   authz.Action{Name: "pay"},
			Resource: authz.Party{Type: "payment", ID: "inv-1", Properties: authz.Object{{Name: "amount", Value: number(4200)}, {Name: "supplier", Value: text("acme")}}},
			Context:  authz.Object{{Name: "trace", Value: text("1")}},
		},
		principal: &authz.Principal{
			Tenant: "default", Agent: "a", Actors: []string{"p"}, Instance: "i", User: "kim", Session: "s", Token: "t",
			Grants: []authz.Delegation{{ID: "g", Scopes: []string{"x"}, HasScopes: true, IssuedAt: 5}},
			Scopes: []string{"propose:payments"}, HasScopes: true, IssuedAt: 7, Expires: 9,
		},
	}
}

// The key is what was read: each line changes one thing of a request, and says whether
// anything that decides reads it. Gates read tokens, sessions and grants that no rule
// names; expiries are not in the key, for they are checked on every request.
func TestTheKeyIsWhatIsRead(t *testing.T) {
	e := newEngine(t, Config{Now: newHand().Now})
	_, set := load(t, ruleSets[0])
	e.Use(set, posture.NewStore())
	base := keyOf(e, paying())
	for _, c := range []struct {
		name   string
		read   bool
		change func(q *question)
	}{
		{"nothing", false, func(q *question) {}},
		{"an attribute that no rule declares", false, func(q *question) { q.request.Context[0].Value = text("2") }},
		{"a declared attribute that no candidate reads", false, func(q *question) { q.request.Subject.Properties[0].Value = text("boss") }},
		{"the resource's id, which no candidate reads", false, func(q *question) { q.request.Resource.ID = "inv-2" }},
		{"the expiry of the credential", false, func(q *question) { q.principal.Expires = 10 }},
		{"the expiry of a grant", false, func(q *question) { q.principal.Grants[0].Expires = 10 }},
		{"who the client is", false, func(q *question) { q.caller.Name = "other" }},

		{"an attribute that a rule reads", true, func(q *question) { q.request.Resource.Properties[0].Value = number(4201) }},
		{"its type", true, func(q *question) { q.request.Resource.Properties[0].Value = text("4200") }},
		{"its presence", true, func(q *question) { q.request.Resource.Properties = q.request.Resource.Properties[1:] }},
		{"its being null", true, func(q *question) { q.request.Resource.Properties[0].Value = authz.Value{} }},
		{"the action", true, func(q *question) { q.request.Action.Name = "look" }},
		{"the resource's type", true, func(q *question) { q.request.Resource.Type = "invoice" }},
		{"the subject's type", true, func(q *question) { q.request.Subject.Type = "service" }},
		{"the tenant", true, func(q *question) { q.principal.Tenant = "acme" }},
		{"the agent", true, func(q *question) { q.principal.Agent = "b" }},
		{"a prior actor", true, func(q *question) { q.principal.Actors[0] = "q" }},
		{"the instance", true, func(q *question) { q.principal.Instance = "" }},
		{"the user", true, func(q *question) { q.principal.User = "lee" }},
		{"the session", true, func(q *question) { q.principal.Session = "s2" }},
		{"the token", true, func(q *question) { q.principal.Token = "t2" }},
		{"session and token swapped", true, func(q *question) { q.principal.Session, q.principal.Token = "t", "s" }},
		{"the tool", true, func(q *question) { q.principal.Tool = "mail" }},
		{"a grant", true, func(q *question) { q.principal.Grants[0].ID = "g2" }},
		{"one grant less", true, func(q *question) { q.principal.Grants = nil }},
		{"what a grant passes on", true, func(q *question) { q.principal.Grants[0].Scopes = nil }},
		{"whether a grant says what it passes on", true, func(q *question) { q.principal.Grants[0].HasScopes, q.principal.Grants[0].Scopes = false, nil }},
		{"when a grant was issued", true, func(q *question) { q.principal.Grants[0].IssuedAt = 6 }},
		{"the claimed scopes", true, func(q *question) { q.principal.Scopes = nil }},
		{"when the credential was issued", true, func(q *question) { q.principal.IssuedAt = 8 }},
		{"what the client may ask about", true, func(q *question) { q.caller.Agentless = []string{"user"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := paying()
			c.change(&q)
			if changed := keyOf(e, q) != base; changed != c.read {
				t.Errorf("the key changed: %v, the input is read: %v", changed, c.read)
			}
		})
	}
}

// Whatever two requests are: if they share a key, they share the answer, whatever the
// posture. What a key leaves out therefore decides nothing.
func TestRequestsThatShareAKeyShareTheAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{t: t, clock: newHand(), store: posture.NewStore(), twin: &enginetest.Twin{Said: map[authz.Key][]posture.Fact{}}}
		e, err := New(Config{Now: h.clock.Now, Cache: CacheOff})
		if err != nil {
			t.Fatal(err)
		}
		i := rapid.IntRange(0, len(ruleSets)-1).Draw(t, "rule set")
		_, set := load(t, ruleSets[i])
		h.engine, h.set = e, set
		e.Use(set, h.store)
		h.store.Apply(start, change(agentKey("1"), register(start, "default")))
		for range rapid.IntRange(0, 8).Draw(t, "signals") {
			h.signal()
		}
		seen := map[string]question{}
		for range 40 {
			q := h.question()
			q.principal.Expires = 0
			if set.Plan(q.request.Action.Name, q.request.Resource.Type, q.request.Resource.ID) == nil {
				continue
			}
			key := keyOf(e, q)
			other, ok := seen[key]
			if !ok {
				seen[key] = q
				continue
			}
			a := enginetest.OutcomeOf(e.Decide(q.caller, q.request, q.principal).Decision)
			b := enginetest.OutcomeOf(e.Decide(other.caller, other.request, other.principal).Decision)
			if a != b {
				t.Fatalf("one key, two answers:\n%+v %+v\n%+v\n%+v %+v\n%+v", q.request, q.principal, a, other.request, other.principal, b)
			}
		}
	})
}
