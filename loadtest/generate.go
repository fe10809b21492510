package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// shape is how large a generated workload is.
type shape struct {
	agents, requests, rules int
	zipf                    float64
	seed                    uint64
}

func (s *shape) flags(set *flag.FlagSet) {
	set.IntVar(&s.agents, "agents", 1000, "agents, 1 to 1,000,000")
	set.IntVar(&s.requests, "requests", 1024, "different requests, 1 to 1,000,000")
	set.IntVar(&s.rules, "rules", 12, "rules, 6 to 10,000")
	set.Float64Var(&s.zipf, "zipf", 1.1, "exponent of the requests' popularity, above 1; 0 for all alike")
	set.Uint64Var(&s.seed, "seed", 1, "the same seed gives the same workload")
}

func (s *shape) check() error {
	if s.agents < 1 || s.agents > maxAgents || s.requests < 1 || s.requests > maxRequests || s.rules < fixedRules || s.rules > 10_000 {
		return badUsage("--agents, --requests or --rules is out of range")
	}
	return nil
}

func generateCommand(_ context.Context, args []string, out, log io.Writer) error {
	var s shape
	set := newFlags("gen", log)
	s.flags(set)
	name := set.String("out", "-", "file to write; - for the output")
	if err := parse(set, args); err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	w, err := generate(s)
	if err != nil {
		return err
	}
	return w.write(*name, out)
}

const manifest = `vigil: 1
files: [rules.yaml]
profiles:
  default: {max_feed_age: 30s, on_stale: deny}
`

// fixedRules is how many rules there are besides those for tools, one for each.
const fixedRules = 6

const rulesHead = `vigil: 1
attributes:
  subject.user: {role: {type: string, default: ""}}
  resource.payment:
    amount:   {type: number, min: 0, required: true}
    supplier: {type: string, max: 64, required: true}
  resource.tool: {}
  resource.document: {}
actions:
  pay:  {scope: "pay"}
  read: {impact: low}
  call: {}
lists: {approved: [acme, globex, initech]}
rules:
  - {id: pay-small, effect: allow, on: {actions: [pay], resources: [payment]}, when: 'agent.labels.role == "payer" && resource.amount <= 5000 && resource.supplier in lists.approved && agent.risk < 70'}
  - {id: pay-large, effect: allow, on: {actions: [pay], resources: [payment]}, when: 'agent.labels.role == "payer" && resource.amount > 5000 && resource.supplier in lists.approved && agent.risk < 70'}
  - {id: pay-large-approval, effect: require, on: {actions: [pay], resources: [payment]}, when: resource.amount > 5000, obligations: [{type: approval, properties: {group: managers}}]}
  - {id: never-pay, effect: deny, on: {actions: [pay], resources: [payment]}, when: 'resource.supplier == "shady"'}
  - {id: risky, effect: deny, on: {actions: [pay, call]}, when: agent.risk >= 90}
  - {id: read, effect: allow, on: {actions: [read], resources: [document]}, when: '"role" in agent.labels'}
`

// generate makes a workload: payments, documents and tools. What each request has to be
// answered is worked out here, by a few lines that know nothing of rules.
func generate(s shape) (*Workload, error) {
	random := rand.New(rand.NewPCG(s.seed, 0x7669_6769_6c))
	w := &Workload{V: workloadVersion, Name: fmt.Sprintf("generated, %d agents, %d requests, %d rules, seed %d", s.agents, s.requests, s.rules, s.seed), Zipf: s.zipf}
	tools := s.rules - fixedRules
	var rules strings.Builder
	rules.WriteString(rulesHead)
	for i := range tools {
		fmt.Fprintf(&rules, "  - {id: tool-%d, effect: allow, on: {actions: [call], resources: [\"tool:t-%d\"]}, when: 'agent.labels.team == \"team-%d\"'}\n", i, i, i%teams)
	}
	w.Bundle = map[string]string{"bundle.yaml": manifest, "rules.yaml": rules.String()}
	for i := range s.agents {
		a := Agent{ID: fmt.Sprintf("agent-%06d", i), Class: "default", Labels: map[string]string{"role": "payer", "team": fmt.Sprintf("team-%d", i%teams)}, Scopes: []string{"pay"}}
		if random.IntN(4) == 0 {
			a.Labels["role"] = "reader"
		}
		switch random.IntN(20) {
		case 0:
			a.Risk = 70 + random.IntN(20)
		case 1:
			a.Risk = 90 + random.IntN(11)
		}
		w.Agents = append(w.Agents, a)
	}
	for i := range s.requests {
		body, expect := question(random, i, &w.Agents[random.IntN(s.agents)], tools)
		encoded, err := json.Marshal(body, json.Deterministic(true))
		if err != nil {
			return nil, err
		}
		w.Requests = append(w.Requests, Request{Body: jsontext.Value(encoded), Expect: expect})
	}
	w.Race.Agent = Agent{ID: "race-agent", Class: "default", Labels: map[string]string{"role": "payer"}, Scopes: []string{"pay"}}
	w.Race.Body = `{"subject":{"type":"agent","id":"$AGENT"},"action":{"name":"read"},"resource":{"type":"document","id":"d-1"},"context":{"session":"$SESSION"}}`
	return w, w.check()
}

// teams is how many teams the agents belong to; each may call its own tools.
const teams = 10

// question makes request i, of an agent, and says what it has to be answered.
func question(random *rand.Rand, i int, agent *Agent, tools int) (body map[string]any, expect string) {
	user := fmt.Sprintf("user-%d", random.IntN(1000))
	subject := map[string]any{"type": "user", "id": user, "properties": map[string]any{"role": "clerk", "scope": "pay", "act": map[string]any{"sub": agent.ID}}}
	action, resource := "read", map[string]any{"type": "document", "id": fmt.Sprintf("doc-%d", i)}
	expect = allow
	kind := random.IntN(4)
	switch {
	case kind < 2:
		amount, supplier := 1+random.IntN(8000), []string{"acme", "globex", "initech", "unknown", "shady"}[random.IntN(5)]
		action = "pay"
		resource = map[string]any{"type": "payment", "id": fmt.Sprintf("inv-%d", i), "properties": map[string]any{"amount": amount, "supplier": supplier}}
		switch {
		case supplier == "shady", agent.Risk >= 90:
			expect = deny
		case amount > 5000:
			expect = require
		case agent.Labels["role"] != "payer", supplier == "unknown", agent.Risk >= 70:
			expect = deny
		}
	case kind == 2 && tools > 0:
		tool := random.IntN(tools)
		action, resource = "call", map[string]any{"type": "tool", "id": fmt.Sprintf("t-%d", tool)}
		if agent.Risk >= 90 || agent.Labels["team"] != fmt.Sprintf("team-%d", tool%teams) {
			expect = deny
		}
	}
	return map[string]any{
		"subject": subject, "action": map[string]any{"name": action}, "resource": resource,
		"context": map[string]any{"session": fmt.Sprintf("session-%d", random.IntN(1000))},
	}, expect
}
