package main

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"vigil/authz"
	"vigil/engine"
	"vigil/identity"
	"vigil/posture"
	"vigil/rules"
)

// A rule test goes the whole way of a decision: who is asking, the gates, the rules,
// and what posture demands. Only the entities and the now are made up.

type ruleTestRunner struct {
	filter  *regexp.Regexp
	mapping identity.Mapping
}

func newRuleTestRunner(env environment, filter, config string) (*ruleTestRunner, error) {
	re, err := regexp.Compile(filter)
	if err != nil {
		return nil, badInput("--run: %s", err)
	}
	r := &ruleTestRunner{filter: re, mapping: identity.DefaultMapping()}
	if config != "" {
		cfg, err := loadSettings(config, env, nil)
		if err != nil {
			return nil, &failure{code: exitInput, err: err}
		}
		r.mapping = cfg.Principal
	}
	return r, nil
}

// run runs the cases of the bundle in dir.
func (r *ruleTestRunner) run(dir string) (*rules.Report, rules.Errors) {
	bundle, set, errs := rules.LoadDir(dir)
	if len(errs) > 0 {
		return nil, errs
	}
	report := rules.TestRun{Match: r.filter, Now: time.Now}.Run(bundle, func(c rules.TestCase) (authz.Decision, []string) {
		return r.decide(bundle, set, &c)
	})
	return &report, nil
}

// decide decides one case and gives the rules whose condition was true in it.
func (r *ruleTestRunner) decide(bundle *rules.Bundle, set *rules.Set, c *rules.TestCase) (authz.Decision, []string) {
	store := posture.NewStore()
	populate(store, set, c)
	e, err := engine.New(engine.Config{Cache: engine.CacheOff, Now: func() authz.Instant { return c.Now }})
	if err != nil {
		panic(err) // the configuration above is right
	}
	defer e.Close()
	e.Use(set, store)

	caller := &authz.Caller{Name: "test", Tenants: []string{authz.DefaultTenant}, Agentless: bundle.Agentless.Types, Full: true}
	var p authz.Principal
	r.mapping.Principal(caller, c.Request, &p)
	answer := e.Decide(caller, c.Request, &p)
	var exercised []string
	for _, t := range e.Explain(caller, c.Request, &p).Rules {
		if t.Result == "true" {
			exercised = append(exercised, t.Rule)
		}
	}
	return *answer.Decision, exercised
}

// populate puts the entities of a case into a store, as the facts that would have made
// them so, and lets it have heard the sources that the rules require.
func populate(store *posture.Store, set *rules.Set, c *rules.TestCase) {
	for _, source := range set.Required() {
		if silent := c.Silence[source.Source]; silent != rules.NeverHeard {
			store.Hear(source.Source, c.Now-authz.Instant(silent), c.Now)
		}
	}
	for name, entity := range c.Entities {
		ref, err := authz.ParseRef(name)
		if err != nil {
			panic(err) // the bundle's reader has checked it
		}
		key := ref.In(authz.DefaultTenant)
		store.Apply(c.Now, []posture.Change{{Key: key, Facts: factsOf(&entity, c.Now)}})
	}
}

func factsOf(e *rules.TestEntity, now authz.Instant) []posture.Fact {
	var facts []posture.Fact
	add := func(f posture.Fact) {
		f.Source, f.ID = "client:test", fmt.Sprintf("test-%d", len(facts))
		if f.Time == 0 {
			f.Time = now
		}
		f.Until = authz.Forever
		facts = append(facts, f)
	}
	if e.Registered {
		add(posture.Fact{Facet: posture.Registration, Registration: &posture.Registered{
			Class: e.Class, Labels: e.Labels, Scopes: e.Scopes, Code: e.Code, Model: e.Model,
		}})
	}
	if e.Risk > 0 {
		add(posture.Fact{Facet: posture.Risk, Risk: e.Risk})
	}
	if e.Attested != nil {
		add(posture.Fact{Facet: posture.Attest, Passed: *e.Attested, Time: e.AttestedAt})
	}
	if e.Tainted {
		add(posture.Fact{Facet: posture.Taint})
	}
	if e.Waived {
		add(posture.Fact{Facet: posture.Waive})
	}
	if e.IssuedBefore != 0 {
		add(posture.Fact{Facet: posture.IssuedBefore, Cutoff: e.IssuedBefore})
	}
	if e.Narrowed != nil {
		add(posture.Fact{Facet: posture.Narrow, Scopes: slices.Sorted(slices.Values(e.Narrowed))})
	}
	if len(e.ApprovalRequired) > 0 {
		add(posture.Fact{Facet: posture.ApprovalRequired, Actions: slices.Sorted(slices.Values(e.ApprovalRequired))})
	}
	switch e.Status {
	case "quarantined":
		add(posture.Fact{Facet: posture.Hold, Held: true})
	case "revoked":
		add(posture.Fact{Facet: posture.Revoke})
	case "decommissioned":
		add(posture.Fact{Facet: posture.Decommission})
	}
	return facts
}
