package rules

import (
	"strings"
	"testing"
	"testing/fstest"

	"vigil/authz"
)

// invoiceBundle is the example that the documents show.
const invoiceBundle = `
vigil: 1
attributes:
  subject.user: {role: {type: string, default: ""}}
  resource.payment:
    amount:   {type: number, min: 0, required: true}
    supplier: {type: string, max: 64, required: true}
actions: {pay: {scope: "propose:payments"}}
lists: {approved_suppliers: [acme, globex]}
rules:
  - id: pay-small
    effect: allow
    mode: enforce
    on: {actions: [pay], resources: [payment], classes: [high-high]}
    when: |
      agent.labels.role == "invoice-agent" && subject.role == "AP-analyst" &&
      resource.amount <= 5000 && resource.supplier in lists.approved_suppliers &&
      agent.risk < 70
  - id: pay-large
    effect: allow
    on: {actions: [pay], resources: [payment], classes: [high-high]}
    when: agent.labels.role == "invoice-agent" && resource.supplier in lists.approved_suppliers && agent.risk < 70
  - id: pay-large-approval
    effect: require
    on: {actions: [pay], resources: [payment]}
    when: resource.amount > 5000
    obligations: [{type: approval, properties: {group: ap-managers}}]
    reason_user: "Payments above 5,000 need an approval."
`

// compileFile compiles a bundle of one file of rules, with the classes high-high and low.
func compileFile(t testing.TB, file string) (*Set, Errors) {
	t.Helper()
	bundle, errs := Parse(bundleFS(file))
	if len(errs) > 0 {
		t.Fatalf("the bundle does not parse:\n%v", errs)
	}
	return Compile(bundle)
}

func bundleFS(file string) fstest.MapFS {
	return fstest.MapFS{
		"bundle.yaml": {Data: []byte("vigil: 1\nfiles: [a.yaml]\nprofiles: {high-high: {max_feed_age: 5s}, low: {max_feed_age: 30s}}\n")},
		"a.yaml":      {Data: []byte(strings.TrimPrefix(file, "\n"))},
	}
}

func mustLoad(t testing.TB, file string) *Set {
	t.Helper()
	set, errs := compileFile(t, file)
	if len(errs) > 0 {
		t.Fatalf("the bundle does not compile:\n%v", errs)
	}
	return set
}

func text(s string) authz.Value    { return authz.Value{Kind: authz.String, Str: s} }
func number(n float64) authz.Value { return authz.Value{Kind: authz.Number, Num: n} }

func invoiceFrame() *Frame {
	f := &Frame{Request: &authz.Request{
		Subject:  authz.Party{Type: "user", ID: "kim", Properties: authz.Object{{Name: "role", Value: text("AP-analyst")}}},
		Action:   authz.Action{Name: "pay"},
		Resource: authz.Party{Type: "payment", ID: "inv-88", Properties: authz.Object{{Name: "amount", Value: number(4200)}, {Name: "supplier", Value: text("acme")}}},
	}}
	f.Standings[authz.KindAgent] = &authz.Standing{ID: "invoice-agent", Registered: true, Class: "high-high", Labels: map[string]string{"role": "invoice-agent"}, Risk: 20}
	return f
}

func TestInvoice(t *testing.T) {
	set := mustLoad(t, invoiceBundle)
	f := invoiceFrame()
	v := set.Plan("pay", "payment", "inv-88").Evaluate(f, "high-high")
	t.Logf("%+v", v)
	f.Request.Resource.Properties[0].Value = number(9000)
	v = set.Plan("pay", "payment", "inv-88").Evaluate(f, "high-high")
	t.Logf("%+v", v)
	f.Request.Resource.Properties[0].Value = text("9000")
	v = set.Plan("pay", "payment", "inv-88").Evaluate(f, "high-high")
	t.Logf("%+v", v)
	for _, amount := range []float64{4200, 9000} {
		f.Request.Resource.Properties[0].Value = number(amount)
		_, traces := set.Plan("pay", "payment", "inv-88").Explain(f, "high-high")
		for _, tr := range traces {
			t.Logf("%+v", tr)
		}
	}
}
