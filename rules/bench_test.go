package rules

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"vigil/authz"
)

// twelveRules is a policy of ordinary size. Five rules are candidates for a payment.
const twelveRules = `
vigil: 1
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

func benchFrame() *Frame {
	f := &Frame{Request: &authz.Request{
		Subject: authz.Party{Type: "user", ID: "kim", Properties: authz.Object{{Name: "role", Value: text("AP-analyst")}}},
		Action:  authz.Action{Name: "pay"},
		Resource: authz.Party{Type: "payment", ID: "inv-88", Properties: authz.Object{
			{Name: "amount", Value: number(4200)}, {Name: "supplier", Value: text("acme")}, {Name: "currency", Value: text("EUR")}}},
		Context: authz.Object{{Name: "hour", Value: number(12)}},
	}}
	f.Standings[authz.KindAgent] = &authz.Standing{ID: "invoice-agent", Registered: true, Class: "high-high", Labels: map[string]string{"role": "invoice-agent"}, Risk: 20}
	return f
}

// flatValues are values boxed before, for the yardstick: the twelve rules as one CEL
// expression.
type flatValues struct{ values map[string]ref.Val }

func (f *flatValues) ResolveName(name string) (any, bool) {
	v, ok := f.values[name]
	return v, ok
}
func (f *flatValues) Parent() interpreter.Activation { return nil }

func rawPolicy(tb testing.TB) (cel.Program, *flatValues) {
	tb.Helper()
	bundle, errs := Parse(bundleFS(twelveRules))
	if len(errs) > 0 {
		tb.Fatal(errs)
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
		tb.Fatal(err)
	}
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
	expression := strings.Join(by[authz.Deny], " || ") + ` ? "deny" : ` + strings.Join(by[authz.Require], " || ") +
		` ? "require" : ` + strings.Join(by[authz.Allow], " || ") + ` ? "allow" : "default"`
	checked, issues := env.Compile(expression)
	if issues.Err() != nil {
		tb.Fatal(issues.Err())
	}
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		tb.Fatal(err)
	}
	return program, &flatValues{map[string]ref.Val{
		"subject.role": types.String("AP-analyst"), "resource.amount": types.Double(4200), "resource.supplier": types.String("acme"),
		"resource.currency": types.String("EUR"), "resource.total": types.Double(0), "context.hour": types.Int(12), "agent.risk": types.Int(20),
		"agent.labels": types.NewStringStringMap(types.DefaultTypeAdapter, map[string]string{"role": "invoice-agent"}), "agent.tainted": types.False,
		"agent.status": types.String("active"), "action.name": types.String("pay"), "resource.type": types.String("payment"), "resource.id": types.String("inv-88"),
	}}
}

// BenchmarkEvaluate is a fresh evaluation of the same policy: a plan looked up, its five
// candidates evaluated, a verdict made.
func BenchmarkEvaluate(b *testing.B) {
	set := mustLoad(b, twelveRules)
	f := benchFrame()
	b.ReportAllocs()
	for b.Loop() {
		v := set.Plan("pay", "payment", f.Request.Resource.ID).Evaluate(f, "high-high")
		if v.Effect != authz.Allow {
			b.Fatal(v)
		}
	}
}

// manyRules is n rules on tools/call that differ by the tool that they name, or, with
// byAction, by their action; and two rules that all calls share.
func manyRules(n int, byAction bool) fstest.MapFS {
	var b, declarations strings.Builder
	files := fstest.MapFS{}
	declarations.WriteString("vigil: 1\nattributes:\n  resource.tool: {size: {type: int, min: 0, required: true}}\nactions:\n  tools/call: {}\n")
	if byAction {
		for i := range min(n, 9_999) {
			fmt.Fprintf(&declarations, "  act-%05d: {}\n", i)
		}
	}
	declarations.WriteString("rules:\n  - {id: any-risk, effect: deny, when: agent.risk >= 90}\n  - {id: any-status, effect: deny, when: 'agent.status != \"active\"'}\n")
	names := []string{"declarations.yaml"}
	finish := func() {
		name := fmt.Sprintf("rules-%02d.yaml", len(names))
		names = append(names, name)
		files[name] = &fstest.MapFile{Data: []byte("vigil: 1\nrules:\n" + b.String())}
		b.Reset()
	}
	for i := range n {
		if i%2000 == 1999 {
			finish()
		}
		on := fmt.Sprintf("actions: [tools/call], resources: [\"tool:t-%05d\"]", i)
		if byAction {
			on = fmt.Sprintf("actions: [act-%05d], resources: [tool]", min(i, 9_998))
		}
		fmt.Fprintf(&b, "  - {id: r-%05d, effect: allow, on: {%s}, when: 'agent.risk < %d && resource.size < 1000 && agent.labels.team == \"team-%d\"'}\n", i, on, 20+i%60, i%7)
	}
	finish()
	files["declarations.yaml"] = &fstest.MapFile{Data: []byte(declarations.String())}
	files["bundle.yaml"] = &fstest.MapFile{Data: []byte("vigil: 1\nprofiles: {low: {}}\nfiles: [" + strings.Join(names, ", ") + "]\n")}
	return files
}

func toolFrame(i int) *Frame {
	f := &Frame{Request: &authz.Request{
		Subject:  authz.Party{Type: "agent", ID: "a"},
		Action:   authz.Action{Name: "tools/call"},
		Resource: authz.Party{Type: "tool", ID: fmt.Sprintf("t-%05d", i), Properties: authz.Object{{Name: "size", Value: number(10)}}},
	}}
	f.Standings[authz.KindAgent] = &authz.Standing{ID: "a", Registered: true, Risk: 5, Labels: map[string]string{"team": fmt.Sprintf("team-%d", i%7)}}
	return f
}

func BenchmarkCompile(b *testing.B) {
	for _, byAction := range []bool{false, true} {
		b.Run(fmt.Sprintf("rules=10000/byAction=%v", byAction), func(b *testing.B) {
			bundle, errs := Parse(manyRules(10_000, byAction))
			if len(errs) > 0 {
				b.Fatal(errs)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, errs := Compile(bundle); len(errs) > 0 {
					b.Fatal(errs)
				}
			}
		})
	}
}
