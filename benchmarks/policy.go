package main

import (
	"fmt"
	"strings"
	"testing/fstest"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"vigil/authz"
	"vigil/rules"
)

const policyManifest = `vigil: 1
files: [policy.yaml]
profiles:
  low-low:   {max_feed_age: 30s}
  low-high:  {max_feed_age: 30s}
  high-low:  {max_feed_age: 30s}
  high-high: {max_feed_age: 30s}
`

// policyText is twelve rules, of which five are candidates for a payment.
const policyText = `vigil: 1
attributes:
  subject.user: {role: {type: string, default: ""}}
  resource.payment:
    amount:   {type: number, min: 0, required: true}
    supplier: {type: string, max: 64, required: true}
    currency: {type: string, max: 3, required: true}
  resource.invoice: {total: {type: number, required: true}}
  resource.tool: {}
  context: {hour: {type: int, min: 0, max: 23, required: true}}
actions: {pay: {}, read: {}, "tools/call": {}}
lists: {approved_suppliers: [acme, globex, initech, umbrella]}
rules:
  - {id: a01, effect: deny, when: agent.risk >= 90}
  - id: a02
    effect: allow
    on: {actions: [pay], resources: [payment]}
    when: agent.labels.role == "invoice-agent" && subject.role == "AP-analyst" && resource.amount <= 5000 && resource.supplier in lists.approved_suppliers && agent.risk < 70
  - id: a03
    effect: allow
    on: {actions: [pay], resources: [payment]}
    when: agent.labels.role == "invoice-agent" && resource.supplier in lists.approved_suppliers && agent.risk < 70
  - {id: a04, effect: require, on: {actions: [pay], resources: [payment]}, when: resource.amount > 5000, obligations: [{type: approval}]}
  - {id: a05, effect: deny, on: {actions: [pay], resources: [payment]}, when: 'resource.currency != "EUR" || context.hour < 6 || context.hour > 20'}
  - {id: a06, effect: allow, on: {actions: [read], resources: [invoice]}, when: agent.risk < 80}
  - {id: a07, effect: deny, on: {actions: [read], resources: [invoice]}, when: resource.total > 1000000 && agent.tainted}
  - {id: a08, effect: allow, on: {actions: [tools/call], resources: ["tool:search"]}, when: agent.risk < 50}
  - {id: a09, effect: allow, on: {actions: [tools/call], resources: ["tool:mail"]}, when: agent.risk < 20 && !agent.tainted}
  - {id: a10, effect: deny, on: {actions: [tools/call]}, when: agent.status != "active"}
  - {id: a11, effect: require, on: {actions: [tools/call], resources: ["tool:shell"]}, when: "true", obligations: [{type: approval}]}
  - {id: a12, effect: allow, on: {actions: [read]}, when: subject.role == "auditor"}
`

// policyFiles is the bundle of the twelve rules, by file name.
func policyFiles() map[string]string {
	return map[string]string{"bundle.yaml": policyManifest, "policy.yaml": policyText}
}

// loadBundle compiles a bundle.
func loadBundle(files map[string]string) (*rules.Bundle, *rules.Set, error) {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	bundle, set, errs := rules.Load(fsys)
	if len(errs) > 0 {
		return nil, nil, fmt.Errorf("a bundle of the benchmarks: %w", errs)
	}
	return bundle, set, nil
}

// flatValues are the values of a payment, boxed before anything is measured.
type flatValues struct{ values map[string]ref.Val }

func (f *flatValues) ResolveName(name string) (any, bool) {
	v, ok := f.values[name]
	return v, ok
}

func (f *flatValues) Parent() interpreter.Activation { return nil }

// raw is the yardstick: the twelve rules as one CEL expression, evaluated by cel-go as it
// comes, with flat values that cost nothing to make.
type raw struct {
	program cel.Program
	values  *flatValues
}

func newRaw() (*raw, error) {
	bundle, _, err := loadBundle(policyFiles())
	if err != nil {
		return nil, err
	}
	env, err := cel.NewEnv(cel.CrossTypeNumericComparisons(true),
		cel.Variable("subject.role", cel.StringType), cel.Variable("resource.amount", cel.DoubleType),
		cel.Variable("resource.supplier", cel.StringType), cel.Variable("resource.currency", cel.StringType),
		cel.Variable("resource.total", cel.DoubleType), cel.Variable("context.hour", cel.IntType),
		cel.Variable("agent.risk", cel.IntType), cel.Variable("agent.labels", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("agent.tainted", cel.BoolType), cel.Variable("agent.status", cel.StringType),
		cel.Variable("action.name", cel.StringType), cel.Variable("resource.type", cel.StringType), cel.Variable("resource.id", cel.StringType),
	)
	if err != nil {
		return nil, err
	}
	checked, issues := env.Compile(oneExpression(bundle))
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, err
	}
	r := &raw{program: program, values: &flatValues{map[string]ref.Val{
		"subject.role": types.String("AP-analyst"), "resource.amount": types.Double(4200.50), "resource.supplier": types.String("acme"),
		"resource.currency": types.String("EUR"), "resource.total": types.Double(0), "context.hour": types.Int(12), "agent.risk": types.Int(20),
		"agent.labels":  types.NewStringStringMap(types.DefaultTypeAdapter, map[string]string{"role": "invoice-agent", "team": "team-1"}),
		"agent.tainted": types.False, "agent.status": types.String("active"),
		"action.name": types.String("pay"), "resource.type": types.String("payment"), "resource.id": types.String("inv-88"),
	}}}
	if out, _, err := program.Eval(r.values); err != nil || out != types.String("allow") {
		return nil, fmt.Errorf("the raw expression says %v, %w", out, err)
	}
	return r, nil
}

func (r *raw) subject() subject {
	return subject{name: "raw", run: func(n int) {
		for range n {
			_, _, _ = r.program.Eval(r.values)
		}
	}}
}

// oneExpression writes the rules as an author without rules would: every condition behind
// its scope, the strongest effects first.
func oneExpression(bundle *rules.Bundle) string {
	by := map[authz.Effect][]string{}
	for _, r := range bundle.Rules {
		var on []string
		if len(r.Actions) > 0 {
			on = append(on, fmt.Sprintf("action.name == %q", r.Actions[0]))
		}
		if len(r.Resources) > 0 {
			resourceType, id, literal := strings.Cut(r.Resources[0], ":")
			on = append(on, fmt.Sprintf("resource.type == %q", resourceType))
			if literal {
				on = append(on, fmt.Sprintf("resource.id == %q", id))
			}
		}
		when := strings.ReplaceAll(r.When, "lists.approved_suppliers", `["acme", "globex", "initech", "umbrella"]`)
		by[r.Effect] = append(by[r.Effect], "("+strings.Join(append(on, "("+when+")"), " && ")+")")
	}
	return strings.Join(by[authz.Deny], " || ") + ` ? "deny" : ` + strings.Join(by[authz.Require], " || ") +
		` ? "require" : ` + strings.Join(by[authz.Allow], " || ") + ` ? "allow" : "default"`
}
