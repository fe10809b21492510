package rules

import (
	"os"
	"strings"
	"testing"
	"time"

	"vigil/authz"
)

// FuzzCondition gives any text for a condition: it compiles or is refused with an error
// that has a place, in bounded time, and what compiles evaluates to a verdict.
func FuzzCondition(f *testing.F) {
	data, err := os.ReadFile("testdata/when_errors.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, block := range strings.Split(string(data), "\n\n") {
		when, _, _ := strings.Cut(block, "\n=> ")
		f.Add(when)
	}
	for _, when := range []string{
		`has(resource.note) && resource.note == "a"`, `resource.items.exists(x, x == "a")`, `agent.labels.?role.orValue("x") == "x"`,
		`cidr("10.0.0.0/8").containsIP(ip(context.ip))`, `resource.due + resource.grace > timestamp("2026-01-01T00:00:00Z")`,
		`math.greatest(1, 2, resource.count) > sets.size([1])`, `[[1], [2]].exists(x, 1 in x)`, `optional.of(resource.count).value() == 3`,
		`{"a": {"b": 1}}.a.b == resource.count`, `resource.tags.all(k, has(resource.tags[k]))`, "\x00", "\xff", "a\r\nb",
	} {
		f.Add(when)
	}
	bundle, errs := Parse(bundleFS(catalogue("payment", "true")))
	if len(errs) > 0 {
		f.Fatal(errs)
	}
	frame := invoiceFrame()
	frame.Request.Resource.Properties = authz.Object{
		{Name: "amount", Value: number(1)}, {Name: "count", Value: number(1)}, {Name: "supplier", Value: text("a")},
		{Name: "due", Value: text("2026-01-01T00:00:00Z")}, {Name: "grace", Value: text("1s")}, {Name: "mixed", Value: text("a")},
		{Name: "items", Value: authz.Value{Kind: authz.List, Members: []authz.Member{{Value: text("a")}}}},
		{Name: "tags", Value: authz.Value{Kind: authz.Map, Members: []authz.Member{{Name: "k", Value: text("v")}}}},
	}
	frame.Request.Context = authz.Object{{Name: "ip", Value: text("10.1.2.3")}}
	f.Fuzz(func(t *testing.T, when string) {
		b := *bundle
		r := *bundle.Rules[0]
		r.When, r.Granularity = when, time.Minute
		b.Rules = []*Rule{&r}
		set, errs := Compile(&b)
		if (set == nil) != (len(errs) > 0) {
			t.Fatalf("set %v, errors %v", set, errs)
		}
		for _, e := range errs {
			if e.Rule != "r" || e.Pos.Line == 0 || e.Message == "" || strings.Contains(e.Message, "\n") {
				t.Fatalf("%q: a poor error: %#v", when, e)
			}
		}
		if set == nil {
			return
		}
		p := set.Plan("pay", "payment", "1")
		v := p.Evaluate(frame, "")
		explained, _ := p.Explain(frame, "")
		if v.Code != explained.Code {
			t.Fatalf("%q: Evaluate says %v, Explain %v", when, v, explained)
		}
	})
}
