package rules

import (
	"strings"
	"testing"

	"cel.dev/cel-go/common/types"

	"pgregory.net/rapid"
)

// TestClosuresAgreeWithCEL runs every closure beside CEL over the same slots, without the
// check of presence before them: false, true and error must agree, absent and wrong values
// included.
func TestClosuresAgreeWithCEL(t *testing.T) {
	closures, results := 0, map[truth]int{}
	rapid.Check(t, func(t *rapid.T) {
		set := mustLoadRapid(t, generatedHead+strings.Join(drawRules(t, 8), ""))
		for range 4 {
			f := drawFrame(t)
			p := set.Plan(f.Request.Action.Name, f.Request.Resource.Type, f.Request.Resource.ID)
			s := f.scratchFor(p)
			for _, g := range p.groups {
				for _, r := range g.rules {
					if r.fast == nil {
						continue
					}
					closures++
					s.begin(p, f)
					got := r.fast(s)
					results[got]++
					s.begin(p, f)
					out, _, err := r.program.Eval(s)
					want := truthOf(out == types.True)
					if err != nil {
						want = unknown
					}
					if got != want {
						t.Fatalf("%s\nthe closure gives %d, CEL %v, %v\nrequest %+v", r.source.When, got, out, err, f.Request)
					}
				}
			}
		}
	})
	if closures == 0 || results[yes] == 0 || results[no] == 0 || results[unknown] == 0 {
		t.Errorf("%d closures with results %v: too dull", closures, results)
	}
}

// TestClosuresRunWhatRulesOftenSay keeps the common forms off CEL's interpreter.
func TestClosuresRunWhatRulesOftenSay(t *testing.T) {
	for when, fast := range map[string]bool{
		"true": true,
		"resource.amount <= 5000 && agent.risk < 70":                                     true,
		"5000 >= resource.amount || resource.count == 3":                                 true,
		`resource.supplier in lists.approved_suppliers`:                                  true,
		`resource.supplier in ["a", "b"] && resource.count in [1, 2]`:                    true,
		`agent.labels.role == "x" && agent.labels["cost-centre"] != "y"`:                 true,
		`agent.labels.?role.orValue("x") == "x"`:                                         true,
		`has(resource.note) ? resource.note.startsWith("a") : !resource.urgent`:          true,
		`"a" in agent.scopes && "b" in resource.items && "k" in resource.tags`:           true,
		`has(session) && !session.tainted && has(resource.tags.k)`:                       true,
		`resource.supplier.matches("^a") && resource.supplier.contains("b")`:             true,
		`resource.supplier == subject.role && resource.count < resource.amount`:          true,
		`agent.attested == resource.urgent && agent.registered`:                          true,
		`resource.count + 1 == 2`:                                                        false,
		`resource.items.exists(x, x == "a")`:                                             false,
		`resource.due > timestamp("2026-01-01T00:00:00Z")`:                               false,
		`resource.count == 9007199254740993`:                                             false,
		`[resource.supplier] == ["a"]`:                                                   false,
		`resource.items.exists(x, x == "a") && agent.risk < 70 || resource.amount < 5.0`: false,
	} {
		set := mustLoad(t, catalogue("payment", when))
		if got := set.rules[0].fast != nil; got != fast {
			t.Errorf("%s: closure %v, want %v", when, got, fast)
		}
	}
}
