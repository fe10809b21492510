package rules_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
	"vigil/authzen"
	"vigil/engine"
	"vigil/identity"
	"vigil/posture"
	"vigil/rules"
	"vigil/signals"
)

const (
	invoice = "../examples/invoice/"
	todo    = "../examples/authzen-todo/"
)

func instantOf(t *testing.T, text string) authz.Instant {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return authz.InstantOf(at)
}

// bench is an engine over one bundle and one posture, as the program wires them.
type bench struct {
	engine *engine.Engine
	caller authz.Caller
}

func newBench(t *testing.T, bundle *rules.Bundle, set *rules.Set, store *posture.Store, now authz.Instant) *bench {
	t.Helper()
	e, err := engine.New(engine.Config{Cache: engine.CacheOff, Now: func() authz.Instant { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	e.Use(set, store)
	return &bench{e, authz.Caller{Name: "test", Tenants: []string{authz.DefaultTenant}, Agentless: bundle.Agentless.Types}}
}

func (b *bench) decide(req *authz.Request) (*authz.Decision, []rules.Trace) {
	mapping := identity.DefaultMapping()
	var p authz.Principal
	mapping.Principal(&b.caller, req, &p)
	return b.engine.Decide(&b.caller, req, &p).Decision, b.engine.Explain(&b.caller, req, &p).Rules
}

func mustLoad(t *testing.T, dir string) (*rules.Bundle, *rules.Set) {
	t.Helper()
	bundle, set, errs := rules.LoadDir(dir)
	if errs != nil {
		t.Fatalf("%s:\n%s", dir, errs)
	}
	return bundle, set
}

// TestTheTestsOfTheExamplesPass runs the tests that the examples ship, all the way through
// gates and rules, and demands that they exercise every rule.
func TestTheTestsOfTheExamplesPass(t *testing.T) {
	for _, dir := range []string{invoice + "rules", todo + "rules", "testdata/good/payments"} {
		bundle, set := mustLoad(t, dir)
		report := rules.RunTests(bundle, func(c rules.TestCase) (authz.Decision, []string) {
			store := posture.NewStore()
			for name, entity := range c.Entities {
				ref, err := authz.ParseRef(name)
				if err != nil {
					t.Fatal(err)
				}
				store.Apply(c.Now, []posture.Change{{Key: ref.In(authz.DefaultTenant), Facts: factsOf(&entity, c.Now)}})
			}
			decision, traces := newBench(t, bundle, set, store, c.Now).decide(c.Request)
			var exercised []string
			for _, trace := range traces {
				if trace.Result == "true" {
					exercised = append(exercised, trace.Rule)
				}
			}
			return *decision, exercised
		})
		var table strings.Builder
		if err := report.WriteTable(&table); err != nil {
			t.Fatal(err)
		}
		if !report.OK() {
			t.Errorf("%s:\n%s", dir, table.String())
		}
		if strings.HasPrefix(dir, "../examples") {
			for _, effect := range []authz.Effect{authz.Deny, authz.Require, authz.Allow} {
				if ids := report.Uncovered(effect); len(ids) > 0 {
					t.Errorf("%s: no test exercises %q", dir, ids)
				}
			}
		}
	}
}

// factsOf gives the facts that make an entity what a test says it is.
func factsOf(e *rules.TestEntity, now authz.Instant) []posture.Fact {
	var facts []posture.Fact
	add := func(stated bool, f posture.Fact) {
		if stated {
			f.Source, f.ID, f.Time, f.Until = "client:test", fmt.Sprint(len(facts)), now, authz.Forever
			facts = append(facts, f)
		}
	}
	add(e.Registered, posture.Fact{Facet: posture.Registration, Registration: &posture.Registered{
		Class: e.Class, Labels: e.Labels, Scopes: e.Scopes, Code: e.Code, Model: e.Model}})
	add(e.Risk > 0, posture.Fact{Facet: posture.Risk, Risk: e.Risk})
	add(e.Attested != nil, posture.Fact{Facet: posture.Attest, Passed: e.Attested != nil && *e.Attested})
	add(e.Tainted, posture.Fact{Facet: posture.Taint})
	add(e.Narrowed != nil, posture.Fact{Facet: posture.Narrow, Scopes: e.Narrowed})
	add(e.ApprovalRequired != nil, posture.Fact{Facet: posture.ApprovalRequired, Actions: e.ApprovalRequired})
	add(e.Status == "quarantined", posture.Fact{Facet: posture.Hold, Held: true})
	add(e.Status == "revoked", posture.Fact{Facet: posture.Revoke})
	add(e.Status == "decommissioned", posture.Fact{Facet: posture.Decommission})
	return facts
}

// registered gives the posture that a file of signals makes.
func registered(t *testing.T, file string, now authz.Instant) *posture.Store {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := signals.Decode(body)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	source, ok := signals.ParseSource("client:local")
	if !ok {
		t.Fatal("no source")
	}
	store := posture.NewStore()
	for i := range batch.Signals {
		record := signals.Record{Source: source, Tenant: authz.DefaultTenant, Body: batch.Bodies[i]}
		changes, err := signals.Facts(&record, &batch.Signals[i], now)
		if err != nil {
			t.Fatalf("%s: /%d: %v", file, i, err)
		}
		store.Apply(now, changes)
	}
	return store
}

func TestTheRequestsOfTheInvoiceExample(t *testing.T) {
	bundle, set := mustLoad(t, invoice+"rules")
	now := instantOf(t, "2026-11-23T09:00:00Z")
	b := newBench(t, bundle, set, registered(t, invoice+"registrations.json", now), now)
	for name, want := range map[string]struct {
		effect authz.Effect
		code   authz.Code
		rules  []string
	}{
		"pay":                  {authz.Allow, authz.Allowed, []string{"pay-small"}},
		"pay-too-much":         {authz.Require, authz.Obliged, []string{"pay-large-approval"}},
		"pay-unknown-supplier": {authz.Deny, authz.NoAllowRule, nil},
		"read-invoice":         {authz.Allow, authz.Allowed, []string{"read-invoice"}},
	} {
		body, err := os.ReadFile(invoice + "requests/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		req, err := new(authzen.Decoder).Evaluation(body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, _ := b.decide(req)
		if got.Effect != want.effect || got.Code != want.code || !slices.Equal(got.Rules, want.rules) {
			t.Errorf("%s: got %s %s by %q (%s), want %s %s by %q", name, got.Effect, got.Code, got.Rules, got.ReasonAdmin, want.effect, want.code, want.rules)
		}
		if want.effect == authz.Require && (len(got.Obligations) != 1 || got.Obligations[0].Type != "approval") {
			t.Errorf("%s: obligations %+v", name, got.Obligations)
		}
	}
}

// TestTheDecisionsOfTheTodoInterop gives the answers of the AuthZEN Todo interop (its test
// data and their licence are with package authzen).
func TestTheDecisionsOfTheTodoInterop(t *testing.T) {
	data, err := os.ReadFile("../authzen/testdata/interop/todo-decisions-1_0-02.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Evaluation []struct {
			Request  rawJSON `json:"request"`
			Expected bool    `json:"expected"`
		} `json:"evaluation"`
		Evaluations []struct {
			Request  rawJSON `json:"request"`
			Expected []struct {
				Decision bool `json:"decision"`
			} `json:"expected"`
		} `json:"evaluations"`
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors.Evaluation) != 40 || len(vectors.Evaluations) != 3 {
		t.Fatalf("%d and %d vectors", len(vectors.Evaluation), len(vectors.Evaluations))
	}
	bundle, set := mustLoad(t, todo+"rules")
	now := instantOf(t, "2026-11-23T09:00:00Z")
	b := newBench(t, bundle, set, registered(t, todo+"registrations.json", now), now)
	for i, v := range vectors.Evaluation {
		req, err := new(authzen.Decoder).Evaluation(v.Request)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := b.decide(req); (got.Effect == authz.Allow) != v.Expected {
			t.Errorf("%d: %s: got %s %s (%s), want %v", i, v.Request, got.Effect, got.Code, got.ReasonAdmin, v.Expected)
		}
	}
	for i, v := range vectors.Evaluations {
		batch, err := new(authzen.Decoder).Evaluations(v.Request)
		if err != nil {
			t.Fatal(err)
		}
		if len(batch.Items) != len(v.Expected) {
			t.Fatalf("%d: %d requests", i, len(batch.Items))
		}
		for j := range batch.Items {
			if got, _ := b.decide(&batch.Items[j].Request); (got.Effect == authz.Allow) != v.Expected[j].Decision {
				t.Errorf("%d/%d: got %s %s, want %v", i, j, got.Effect, got.Code, v.Expected[j].Decision)
			}
		}
	}
}

// rawJSON is a member kept as it stands.
type rawJSON []byte

func (r *rawJSON) UnmarshalJSON(data []byte) error {
	*r = slices.Clone(data)
	return nil
}
