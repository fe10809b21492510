package rules

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vigil/authz"
)

const equalityKinds = 16

// drawEquality draws an operand of a kind by which rules may be looked up, with a has() where
// the value may be absent.
func drawEquality(t *rapid.T, kind int) string {
	text := rapid.SampledFrom([]string{`"a"`, `"b"`, `"alpha"`, `""`, `"x"`}).Draw(t, "text")
	texts := rapid.SampledFrom([]string{`["a", "b", "a"]`, `["x"]`, `[]`, "lists.names"}).Draw(t, "texts")
	number := rapid.SampledFrom([]string{"0", "0.0", "-0.0", "7", "7.0", "2.5", "1", "5000", "9007199254740993"}).Draw(t, "number")
	numbers := rapid.SampledFrom([]string{"[1, 7]", "[7, 7, 0]", "lists.levels"}).Draw(t, "numbers")
	switch kind {
	case 0, 1:
		return "context.hour == " + number
	case 2:
		return "has(context.geo) && context.geo == " + text
	case 3:
		return "context.geo in " + texts + " && has(context.geo)"
	case 4:
		return `agent.labels.role == ` + text
	case 5:
		return `has(agent.labels.role) && agent.labels["role"] in ` + texts
	case 6:
		status := rapid.SampledFrom([]string{`"active"`, `"quarantined"`, `"revoked"`}).Draw(t, "status")
		return status + " == agent.status"
	case 7:
		return "subject.role == " + text
	case 8:
		return "subject.role in " + texts
	case 9:
		return "resource.count == " + number
	case 10:
		return "resource.count in " + numbers
	case 11:
		return "has(session) && session.class in [" + text + `, "low"]`
	case 12:
		return `resource.id in ["t1", ` + text + "]"
	case 13:
		return "has(resource.tags) && has(resource.tags.k) && resource.tags.k == " + text
	case 14:
		return "(context.hour > 3 ? has(context.geo) : has(context.geo)) && context.geo == " + text
	}
	return "agent.risk == " + number
}

// TestRulesLookedUpByValueAgreeWithNaive: of many rules that ask for values of the same
// attributes, those that are not evaluated are false, and those that lack something say so.
func TestRulesLookedUpByValueAgreeWithNaive(t *testing.T) {
	classes := map[authz.Class]int{}
	lookedUp, skipped := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		kinds := rapid.SliceOfN(rapid.IntRange(0, equalityKinds-1), 1, 2).Draw(t, "kinds")
		rests := rapid.SliceOfN(rapid.SampledFrom([]string{"true", "true", "resource.urgent", "agent.risk < 70", "context.hour < 20", drawCondition(t, 1)}), 1, 2).Draw(t, "rests")
		var rules []string
		for i := range rapid.IntRange(minIndexed, 20).Draw(t, "rules") {
			equality := func() string { return drawEquality(t, rapid.SampledFrom(kinds).Draw(t, "kind")) }
			rest := rapid.SampledFrom(rests).Draw(t, "rest")
			when := equality() + " && " + rest
			switch rapid.IntRange(0, 5).Draw(t, "form") {
			case 0:
				when = rest + " && " + equality() + " && " + equality()
			case 1:
				when = "(" + equality() + ") || " + rest
			}
			mode := rapid.SampledFrom([]string{"", "", "", "mode: observe, "}).Draw(t, "mode")
			on := rapid.SampledFrom([]string{"", "", "", "on: {classes: [low]}, "}).Draw(t, "on")
			effect := rapid.SampledFrom([]string{"allow", "deny", "require"}).Draw(t, "effect")
			if effect == "require" {
				mode += "obligations: [{id: o, type: approval}], "
			}
			if strings.Contains(when, "now.") {
				mode += "granularity: 1m, "
			}
			rules = append(rules, fmt.Sprintf("  - {id: r%02d, effect: %s, %s%swhen: '%s'}\n", i, effect, mode, on, when))
		}
		rules = thatCompile(t, rules)
		set, naive := compileBoth(t, rules)
		reused := &Frame{}
		for range 6 {
			f := drawFrame(t)
			if rapid.IntRange(0, 3).Draw(t, "lacking") > 0 {
				complete(t, f)
			}
			class := rapid.SampledFrom([]string{"high-high", "low"}).Draw(t, "class")
			got := checkAgreement(t, rules, set, naive, f, reused, class)
			classes[got.Class]++
			p := set.Plan(f.Request.Action.Name, f.Request.Resource.Type, f.Request.Resource.ID)
			for _, g := range p.groups {
				for _, x := range g.indexes {
					lookedUp += len(x.rules)
					skipped += len(x.rules) - len(reused.scratch.candidates(x))
				}
			}
		}
	})
	if !testing.Short() && (lookedUp == 0 || skipped < lookedUp/4 || skipped == lookedUp) {
		t.Errorf("%d rules were looked up and %d skipped: the rules are too dull", lookedUp, skipped)
	}
	t.Log(classes, lookedUp, skipped)
}

// complete gives f all that rules read of documents.
func complete(t *rapid.T, f *Frame) {
	all := func(names ...string) (o authz.Object) {
		for _, name := range names {
			o = append(o, authz.Member{Name: name, Value: rapid.SampledFrom(fitting[name]).Draw(t, name)})
		}
		return o
	}
	f.Request.Subject.Type, f.Request.Subject.Properties = "user", all("role", "nick", "level")
	f.Request.Resource.Type, f.Request.Resource.Properties = "doc", all("amount", "count", "note", "tags", "items", "sizes", "urgent", "due", "grace")
	f.Request.Context = all("geo", "hour")
	f.Standings[authz.KindAgent] = drawStanding(t)
	f.Standings[authz.KindAgent].Labels = map[string]string{"role": rapid.SampledFrom([]string{"a", "b", "x"}).Draw(t, "label")}
}

// Rules are looked up by that of their operands of which there are the most values.
func TestTheOperandThatTellsTheMostRulesApartIsLookedUp(t *testing.T) {
	var b strings.Builder
	b.WriteString(generatedHead)
	for i := range 20 {
		fmt.Fprintf(&b, "  - {id: r%02d, effect: allow, when: 'agent.labels.role == \"a\" && context.hour == %d && resource.urgent'}\n", i, i)
	}
	b.WriteString("  - {id: z, effect: deny, when: agent.risk > 90}\n")
	p := mustLoad(t, b.String()).Plan("pay", "doc", "d1")
	g := p.groups[0]
	if len(g.indexes) != 1 || len(g.indexes[0].rules) != 20 || len(g.indexes[0].by) != 20 || len(g.always) != 1 {
		t.Fatalf("%d indexes, %d rules always evaluated", len(g.indexes), len(g.always))
	}
}

// What tells more than its condition is evaluated every time: a rule that reads now ends
// the verdict, and one that only CEL can run may end with an error that nothing absorbs.
func TestRulesThatTellMoreThanTheirConditionAreNotLookedUp(t *testing.T) {
	for _, more := range []string{"now.getMinutes() == 1", "10 / resource.count > 1"} {
		var b strings.Builder
		b.WriteString(generatedHead)
		for i := range 20 {
			fmt.Fprintf(&b, "  - {id: r%02d, effect: allow, granularity: 1m, when: 'context.hour == %d && %s'}\n", i, i, more)
		}
		p := mustLoad(t, b.String()).Plan("pay", "doc", "d1")
		if g := p.groups[0]; len(g.indexes) != 0 || len(g.always) != 20 {
			t.Errorf("%s: %d indexes", more, len(g.indexes))
		}
	}
}

// What is missing is told of by each rule that reads it, however many are looked up.
func TestALookUpHidesNoMissingValue(t *testing.T) {
	var b strings.Builder
	b.WriteString(generatedHead)
	for i := range 20 {
		fmt.Fprintf(&b, "  - {id: r%02d, effect: deny, when: 'context.hour == %d && resource.urgent'}\n", i, i)
	}
	b.WriteString("  - {id: z, effect: allow, when: agent.risk < 90}\n")
	set := mustLoad(t, b.String())
	f := &Frame{Request: &authz.Request{
		Action: authz.Action{Name: "pay"}, Resource: authz.Party{Type: "doc", ID: "d1", Properties: authz.Object{{Name: "urgent", Value: authz.Value{Kind: authz.Bool}}}},
		Context: authz.Object{{Name: "hour", Value: number(3)}},
	}}
	f.Standings[authz.KindAgent] = &authz.Standing{ID: "a"}
	p := set.Plan("pay", "doc", "d1")
	if v := p.Evaluate(f, ""); v.Effect != authz.Allow || len(v.Errors) != 0 {
		t.Errorf("with everything there: %+v", v)
	}
	f.Request.Context = nil
	if v := p.Evaluate(f, ""); v.Code != authz.CouldNotEvaluate || v.Input != "context.hour" || len(v.Errors) != 20 {
		t.Errorf("without the value that is looked up: %+v", v)
	}
	f.Request.Context = authz.Object{{Name: "hour", Value: number(3)}}
	f.Request.Resource.Properties = nil
	if v := p.Evaluate(f, ""); v.Code != authz.CouldNotEvaluate || v.Input != "resource.urgent" || len(v.Errors) != 20 {
		t.Errorf("without another value that the rules read: %+v", v)
	}
}

// Rules that read less lack nothing where others lack a value.
func TestRulesThatReadLessAreLookedUpByThemselves(t *testing.T) {
	var b strings.Builder
	b.WriteString(generatedHead)
	for i := range 20 {
		more := ""
		if i >= 10 {
			more = ` && agent.labels.team == "red"`
		}
		fmt.Fprintf(&b, "  - {id: r%02d, effect: deny, when: 'has(agent.labels.role) && agent.labels.role == \"role-%d\"%s'}\n", i, i, more)
	}
	p := mustLoad(t, b.String()).Plan("pay", "doc", "d1")
	if got := len(p.groups[0].indexes); got != 2 {
		t.Errorf("%d indexes", got)
	}
	f := &Frame{Request: &authz.Request{}}
	f.Standings[authz.KindAgent] = &authz.Standing{ID: "a", Labels: map[string]string{"role": "another"}}
	if v := p.Evaluate(f, ""); v.Code != authz.CouldNotEvaluate || v.Input != "agent.labels.team" || len(v.Errors) != 10 || v.Rules[0] != "r10" {
		t.Errorf("without the other label: %+v", v)
	}
	f.Standings[authz.KindAgent].Labels = map[string]string{"role": "role-13", "team": "red"}
	if v := p.Evaluate(f, ""); v.Code != authz.DeniedByRule || len(v.Errors) != 0 || v.Rules[0] != "r13" {
		t.Errorf("with both labels: %+v", v)
	}
}
