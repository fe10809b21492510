package rules

import (
	"fmt"
	"strings"
	"testing"

	"vigil/authz"
)

func TestExplain(t *testing.T) {
	set := mustLoad(t, invoiceBundle)
	lines := func(f *Frame, class string) string {
		var b strings.Builder
		_, traces := set.Plan("pay", "payment", "inv-88").Explain(f, class)
		for _, tr := range traces {
			fmt.Fprintf(&b, "%s %s %s %s %s:%d %s%s\n", tr.Rule, tr.Effect, tr.Mode, tr.Result, tr.Pos.File, tr.Pos.Line, strings.Join(tr.Detail, ", "), tr.Error)
		}
		return b.String()
	}
	f := invoiceFrame()
	small := lines(f, "high-high")
	if want := `pay-large allow enforce true a.yaml:18 agent.labels.role "invoice-agent" == "invoice-agent", supplier "acme" in lists.approved_suppliers, agent.risk 20 < 70
pay-large-approval require enforce false a.yaml:22 amount 4200 > 5000
pay-small allow enforce true a.yaml:10 agent.labels.role "invoice-agent" == "invoice-agent", subject.role "AP-analyst" == "AP-analyst", amount 4200 <= 5000, supplier "acme" in lists.approved_suppliers, agent.risk 20 < 70
`; small != want {
		t.Errorf("got\n%s\nwant\n%s", small, want)
	}
	f.Standings[authz.KindAgent] = nil
	f.Request.Resource.Properties = f.Request.Resource.Properties[:1]
	if got, want := lines(f, "low"), `pay-large allow enforce skipped a.yaml:18 
pay-large-approval require enforce false a.yaml:22 amount 4200 > 5000
pay-small allow enforce skipped a.yaml:10 
`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := lines(f, "high-high"); !strings.Contains(got, "the request names no agent") {
		t.Errorf("got\n%s", got)
	}
}

func TestExplainDetails(t *testing.T) {
	for when, want := range map[string]string{
		`resource.amount > 5 || resource.urgent`:                              "[amount 7.5 > 5]",
		`resource.amount < 5 || resource.urgent`:                              "[amount 7.5 < 5, urgent false]",
		`has(resource.note) && resource.note == "x"`:                          "[note is absent]",
		`!has(resource.note) && has(agent)`:                                   "[note is absent, agent is there]",
		`resource.items.exists(x, x == "a")`:                                  "[over items: true]",
		`resource.items == ["a", "b"]`:                                        `[items ["a", "b"] == ["a", "b"]]`,
		`resource.due > timestamp("2026-01-01T00:00:00Z")`:                    "[due 2026-06-01T00:00:00Z > 2026-01-01T00:00:00Z]",
		`resource.grace + duration("1s") < duration("2s")`:                    "[1m31s < 2s]",
		`resource.supplier.startsWith("acme") && !resource.urgent`:            `[supplier "acme" startsWith "acme", urgent false]`,
		`resource.count in [1, 2, 3]`:                                         "[count 3 in [1, 2, 3]]",
		`resource.tags.?k.orValue("none") == "none"`:                          `["none" == "none"]`,
		`sets.contains(resource.items, ["c"])`:                                `[sets.contains(items ["a", "b"], ["c"]): false]`,
		`resource.urgent ? true : resource.amount == 1.5`:                     "[urgent false, amount 7.5 == 1.5]",
		`resource.tags == {} || has(resource.tags.k) || "k" in resource.tags`: `[tags a map of 0 == a map of 0]`,
		`cidr("10.0.0.0/8").containsIP(ip(context.ip))`:                       "[net.CIDR containsIP(net.IP): true]",
	} {
		set := mustLoad(t, catalogue("payment", when))
		f := invoiceFrame()
		f.Request.Resource.Properties = authz.Object{
			{Name: "amount", Value: number(7.5)}, {Name: "count", Value: number(3)}, {Name: "supplier", Value: text("acme")}, {Name: "grace", Value: text("90s")},
			{Name: "due", Value: text("2026-06-01T00:00:00Z")}, {Name: "mixed", Value: text("m")}, {Name: "tags", Value: authz.Value{Kind: authz.Map}},
			{Name: "items", Value: authz.Value{Kind: authz.List, Members: []authz.Member{{Value: text("a")}, {Value: text("b")}}}},
		}
		f.Request.Context = authz.Object{{Name: "ip", Value: text("10.1.2.3")}}
		_, traces := set.Plan("pay", "payment", "1").Explain(f, "")
		got := "[" + strings.Join(traces[0].Detail, ", ") + "]"
		if got != want {
			t.Errorf("%s (%s): got %s, want %s", when, traces[0].Result, got, want)
		}
	}
}
