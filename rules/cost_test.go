package rules

import (
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"cel.dev/cel-go/cel"

	"vigil/authz"
)

// costHead has room for sizes: the cost of a rule follows from them alone.
const costHead = `
vigil: 1
attributes:
  context:
    short: {type: list, of: string, max: 4, required: true}
    long:  {type: list, of: string, max: 4000, required: true}
    text:  {type: string, max: 64, required: true}
    book:  {type: string, max: 60000, required: true}
    map:   {type: map, of: string, max: 8, required: true}
actions: {act: {}}
lists: {many: [MANY]}
rules:
  - id: r
    effect: allow
    when: |
      WHEN
`

func costBundle(when string) fstest.MapFS {
	many := make([]string, 3000)
	for i := range many {
		many[i] = "s" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26)
	}
	return bundleFS(strings.NewReplacer("MANY", strings.Join(many, ", "), "WHEN", when).Replace(costHead))
}

func TestCostIsBoundedByDeclaredSizes(t *testing.T) {
	for when, fits := range map[string]bool{
		`context.text == "a"`:                                 true,
		`context.book == "a"`:                                 true, // as long as the shorter
		`context.book == context.book`:                        true,
		`context.book.contains(context.book)`:                 false,
		`context.text.contains(context.text)`:                 true,
		`context.book.matches("(a|b)+c(d|e)+f(g|h)+i(j|k)+")`: false,
		`context.text.matches("(a|b)+c(d|e)+f(g|h)+i(j|k)+")`: true,
		`context.short.exists(x, x == context.text)`:          true,
		`context.long.exists(x, x == context.text)`:           false,
		`context.long.all(x, x in context.short)`:             false,
		`context.short.all(x, x in context.short)`:            true,
		`context.text in context.long`:                        false,
		`context.text in lists.many`:                          true, // hashed
		`context.short.all(x, x in lists.many)`:               true,
		`lists.many.exists(x, x == context.text)`:             false,
		`sets.contains(context.long, context.long)`:           false,
		`sets.contains(context.short, context.short)`:         true,
		`context.map.exists(k, context.map[k] == "a")`:        true,
		`context.map == context.map`:                          true,
		`context.long == context.long`:                        false,
		`agent.scopes.exists(s, s == "a")`:                    true,
		`agent.labels.all(k, agent.labels[k].contains("a"))`:  true,
		`agent.labels.all(k, agent.labels[k].contains(k))`:    false,
	} {
		_, set, errs := Load(costBundle(when))
		switch {
		case fits && len(errs) > 0:
			t.Errorf("%s: %v", when, errs)
		case !fits && set != nil:
			t.Errorf("%s: its worst case is not refused", when)
		case !fits && !strings.Contains(errs[0].Message, "more than the 10000 of a rule"):
			t.Errorf("%s: %v", when, errs)
		}
	}
}

// TestEstimatesBoundWhatEvaluationsCost tracks the cost of the largest values that the
// declarations let in, and holds it against the estimate.
func TestEstimatesBoundWhatEvaluationsCost(t *testing.T) {
	largest := func(n, bytes int, kind authz.ValueKind) authz.Value {
		v := authz.Value{Kind: kind}
		for i := range n {
			m := authz.Member{Value: text(strings.Repeat("a", bytes))}
			if kind == authz.Map {
				m.Name = strings.Repeat("k", bytes-1) + string(rune('a'+i))
			}
			v.Members = append(v.Members, m)
		}
		return v
	}
	f := &Frame{Request: &authz.Request{Context: authz.Object{
		{Name: "short", Value: largest(4, 1024, authz.List)}, {Name: "map", Value: largest(8, 1024, authz.Map)},
		{Name: "text", Value: text(strings.Repeat("a", 64))}, {Name: "book", Value: text(strings.Repeat("a", 60000))},
		{Name: "long", Value: largest(4000, 8, authz.List)},
	}}}
	f.Standings[authz.KindAgent] = &authz.Standing{Scopes: make([]string, maxScopes)}
	for _, when := range []string{
		`context.text == "a" || context.book == context.text`, `context.text.contains(context.text)`, `context.text.matches("(a|b)+c")`,
		`context.short.all(x, x != context.text)`, `context.short.all(x, x in context.short)`, `sets.contains(context.short, context.short)`,
		`context.map.all(k, context.map[k] != "a")`, `context.map == context.map`, `context.short == context.short`,
		`agent.scopes.all(s, s != "b")`, `context.short.exists_one(x, x.startsWith("ab"))`, `context.text in ["a", "b", "c"]`,
		`size(context.long) > 3 && context.book.startsWith("aaab")`, `context.map.?x.orValue("a") == "b"`,
	} {
		bundle, errs := Parse(costBundle(when))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		set, errs := Compile(bundle)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		r := set.rules[0]
		checked, issues := r.scope.env.Compile(when)
		if issues.Err() != nil {
			t.Fatal(issues.Err())
		}
		bound, err := worstCost(r.scope, checked)
		if err != nil || bound == math.MaxUint64 {
			t.Fatal(when, bound, err)
		}
		program, err := r.scope.env.Program(checked, cel.EvalOptions(cel.OptTrackCost))
		if err != nil {
			t.Fatal(err)
		}
		p := set.Plan("act", "", "")
		s := f.scratchFor(p)
		s.begin(p, f)
		if !s.ready(r) {
			t.Fatalf("%s: %+v", when, s.failures)
		}
		_, details, err := program.Eval(s)
		if err != nil {
			t.Fatal(when, err)
		}
		if actual := *details.ActualCost(); actual > bound {
			t.Errorf("%s: costs %d, estimated at most %d", when, actual, bound)
		}
	}
}
