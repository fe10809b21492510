package main

import (
	"errors"
	"fmt"
	"time"

	"vigil/authz"
	"vigil/authzen"
	"vigil/clock"
	"vigil/engine"
	"vigil/identity"
	"vigil/posture"
	"vigil/rules"
)

// agentID is the name of an agent, no more regular than names are: what stands in a
// snapshot compresses as it would.
func agentID(i int) string {
	name := []byte("agent-0000000")
	writeAgent(name[len(name)-agentDigits:], i)
	return string(name)
}

const agentDigits = 7

// writeAgent writes the hexadecimal digits that name an agent. Agents below 2^28 have
// different ones: to multiply by an odd number leaves them apart.
func writeAgent(digits []byte, i int) {
	n := uint32(i) * 0x9E3779B1
	for k := range digits {
		digits[k] = "0123456789abcdef"[n&15]
		n >>= 4
	}
}

func agentKey(i int) authz.Key {
	return authz.Ref{Kind: authz.KindAgent, ID: agentID(i)}.In(authz.DefaultTenant)
}

// registration is what a platform says of an agent: few kinds of them, each with its own id.
func registration(i int, at authz.Instant) []posture.Fact {
	return []posture.Fact{{
		Facet: posture.Registration, Source: "client:orchestrator", ID: fmt.Sprintf("reg-%07d", i), Time: at, Until: authz.Forever,
		Registration: &posture.Registered{
			Class:  []string{"low-low", "low-high", "high-low", "high-high"}[i%4],
			Labels: map[string]string{"role": "invoice-agent", "team": fmt.Sprint("team-", i%50)},
			Scopes: []string{"propose:payments", "view:invoices"},
			Code:   fmt.Sprintf("sha256:%064x", i%20), Model: fmt.Sprintf("sha256:%064x", i%5),
		},
	}}
}

// registered is the time of registrations: before everything that is decided.
func registered() authz.Instant { return authz.InstantOf(time.Now().Add(-time.Hour)) }

// newFleet makes a store that knows so many agents.
func newFleet(agents int) *posture.Store {
	store, at := posture.NewStore(), registered()
	for i := range agents {
		store.Apply(at, []posture.Change{{Key: agentKey(i), Facts: registration(i, at+authz.Instant(i))}})
	}
	return store
}

// bodyOf is a payment by an agent on behalf of a user, as a gateway asks. serial makes the
// session, the token and the invoice: another serial is another request.
func bodyOf(agent, serial int) []byte {
	return fmt.Appendf(nil, `{"subject":{"type":"user","id":"kim-%04d@acme.example","properties":{"role":"AP-analyst","scope":"propose:payments view:invoices",`+
		`"act":{"sub":"%s"}}},"action":{"name":"pay","properties":{"method":"tools/call"}},"resource":{"type":"payment","id":"inv-%09d",`+
		`"properties":{"amount":4200.50,"supplier":"acme","currency":"EUR"}},"context":{"hour":12,"instance":"%s/7f3a","session":"s-%09d","token":"t-%09d","trace_id":"4bf92f35"}}`,
		serial%1000, agentID(agent), serial, agentID(agent), serial, serial)
}

var caller = &authz.Caller{Name: "gateway", Tenants: []string{authz.DefaultTenant}}

// itemOf is that request, parsed, with its principal.
func itemOf(agent, serial int) (engine.Item, error) {
	var d authzen.Decoder
	request, err := d.Evaluation(bodyOf(agent, serial))
	if err != nil {
		return engine.Item{}, err
	}
	item := engine.Item{Request: request.Clone(), Principal: &authz.Principal{}}
	mapping := identity.DefaultMapping()
	mapping.Principal(caller, item.Request, item.Principal)
	return item, nil
}

// itemsOf makes n requests, each of another agent, spread over all of them.
func itemsOf(n, agents int) ([]engine.Item, error) {
	items := make([]engine.Item, n)
	for i := range items {
		var err error
		if items[i], err = itemOf(i*max(1, agents/n)%agents, i); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// house is an engine in this process, as the program has it, without wire and log.
type house struct {
	*engine.Engine
	clock *clock.Clock
	store *posture.Store
}

func newHouse(set *rules.Set, store *posture.Store, cfg engine.Config) (*house, error) {
	c, err := clock.New(clock.Config{})
	if err != nil {
		return nil, err
	}
	cfg.Now = c.Now
	e, err := engine.New(cfg)
	if err != nil {
		return nil, err
	}
	e.Use(set, store)
	return &house{e, c, store}, nil
}

// warm asks until everything is answered from the cache, and gives the items that are. The
// cache takes what it is offered in its own time and may drop it.
func (h *house) warm(items []engine.Item) (kept []engine.Item, err error) {
	for range 100 {
		kept = kept[:0]
		for _, it := range items {
			a := h.Decide(caller, it.Request, it.Principal)
			if a.Effect != authz.Allow {
				return nil, fmt.Errorf("a payment is not allowed: %s %s", a.Code, a.ReasonAdmin)
			}
			if a.Cache == authz.Hit {
				kept = append(kept, it)
			}
		}
		if len(kept) == len(items) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if len(kept) == 0 {
		return nil, errors.New("the cache keeps nothing")
	}
	return kept, nil
}

// deciding decides the items in the order that next gives.
func (h *house) deciding(name string, items []engine.Item, order []uint32) subject {
	i := 0
	return subject{name: name, run: func(n int) {
		for range n {
			it := &items[order[i&(len(order)-1)]]
			h.Decide(caller, it.Request, it.Principal)
			i++
		}
	}}
}
