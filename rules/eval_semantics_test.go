package rules

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"vigil/authz"
)

// TestEffectsAndErrors goes through every combination of a deny, a require and an allow
// rule that is absent, false, true or cannot be evaluated, enforced or observed.
func TestEffectsAndErrors(t *testing.T) {
	conditions := map[string]string{"false": "agent.risk > 100", "true": "agent.risk <= 100", "error": "context.level > 0"}
	states := []string{"", "false", "true", "error"}
	for _, observed := range []bool{false, true} {
		for _, deny := range states {
			for _, require := range states {
				for _, allow := range states {
					var b strings.Builder
					b.WriteString("vigil: 1\nattributes: {context: {level: {type: int, required: true}}, resource.x: {}}\nactions: {act: {}}\nrules:\n")
					for _, r := range [][2]string{{"deny", deny}, {"require", require}, {"allow", allow}} {
						if r[1] == "" {
							continue
						}
						fmt.Fprintf(&b, "  - {id: %s-rule, effect: %s, when: %s", r[0], r[0], conditions[r[1]])
						if observed {
							b.WriteString(", mode: observe")
						}
						if r[0] == "require" {
							b.WriteString(", obligations: [{type: approval}]")
						}
						b.WriteString("}\n")
					}
					if deny+require+allow == "" {
						continue
					}
					set := mustLoad(t, b.String())
					f := &Frame{Request: &authz.Request{Action: authz.Action{Name: "act"}}}
					f.Standings[authz.KindAgent] = &authz.Standing{}
					v := set.Plan("act", "x", "1").Evaluate(f, "")
					got := fmt.Sprint(v.Effect, " ", v.Code, " ", v.Rules, " ", v.Input)

					want := "deny no_allow_rule [] "
					switch {
					case observed:
					case deny == "true":
						want = "deny denied_by_rule [deny-rule] "
					case deny == "error":
						want = "deny could_not_evaluate [deny-rule] context.level"
					case require == "error":
						want = "deny could_not_evaluate [require-rule] context.level"
					case require == "true":
						want = "require obligation_required [require-rule] "
					case allow == "true":
						want = "allow allowed [allow-rule] "
					case allow == "error":
						want = "deny could_not_evaluate [allow-rule] context.level"
					}
					name := fmt.Sprintf("observed %v, deny %q, require %q, allow %q", observed, deny, require, allow)
					if got != want {
						t.Errorf("%s: got %s, want %s", name, got, want)
					}
					failed, seen := 0, 0
					for _, state := range []string{deny, require, allow} {
						if state == "error" {
							failed++
						}
						if state == "true" && observed {
							seen++
						}
					}
					if len(v.Errors) != failed || len(v.Observed) != seen {
						t.Errorf("%s: %d errors and %d observations, want %d and %d", name, len(v.Errors), len(v.Observed), failed, seen)
					}
					if (v.Effect == authz.Allow) != (v.Class == authz.ClassAllow) || v.Effect != authz.Allow && v.ReasonUser != notPermitted {
						t.Errorf("%s: class %v and reason %q do not fit", name, v.Class, v.ReasonUser)
					}
				}
			}
		}
	}
}

// presenceBundle has one rule, with WHEN for its condition.
const presenceBundle = `
vigil: 1
attributes:
  resource.doc:
    must:  {type: number, min: 0, max: 100, required: true}
    may:   {type: string, max: 4}
    usual: {type: int, default: 3}
    tags:  {type: map, of: string, required: true}
    extra: {type: map, of: string}
  resource.other: {}
actions: {act: {}}
rules:
  - id: r
    effect: deny
    when: |
      WHEN
`

// TestPresence shows what is missing, wrong or guarded, and that || hides none of it.
func TestPresence(t *testing.T) {
	full := map[string]authz.Value{
		"must": number(5), "may": text("a"), "tags": {Kind: authz.Map, Members: []authz.Member{{Name: "k", Value: text("v")}}},
	}
	with := func(name string, v authz.Value) map[string]authz.Value {
		m := map[string]authz.Value{}
		for k, have := range full {
			m[k] = have
		}
		m[name] = v
		return m
	}
	null := authz.Value{}
	for _, c := range []struct {
		when  string
		props map[string]authz.Value
		want  string // true, false, or the input that could not be evaluated
	}{
		{"resource.must > 1", full, "true"},
		{"resource.must > 1", with("must", null), "resource.must"},
		{"resource.must > 1", with("must", text("5")), "resource.must"},
		{"resource.must > 1", with("must", number(-1)), "resource.must"},
		{"resource.must > 1", with("must", number(101)), "resource.must"},
		{"resource.must > 1 || true", with("must", null), "resource.must"},
		{"true || resource.must > 1", with("must", null), "resource.must"},
		{"false && resource.must > 1", with("must", null), "resource.must"},
		{"true ? true : resource.must > 1", with("must", null), "resource.must"},
		{"has(resource.must)", full, "true"},
		{"has(resource.must) || true", with("must", null), "resource.must"},
		{"has(resource.must) && resource.must > 1", with("must", text("5")), "resource.must"},

		{"resource.usual == 3", full, "true"},
		{"resource.usual == 3", with("usual", number(4)), "false"},
		{"resource.usual == 3", with("usual", null), "true"},
		{"resource.usual == 3", with("usual", number(3.5)), "resource.usual"},
		{"has(resource.usual)", full, "true"},

		{`has(resource.may) && resource.may == "a"`, full, "true"},
		{`resource.may == "a" && has(resource.may)`, full, "true"},
		{`has(resource.may) && resource.may == "a"`, with("may", null), "false"},
		{`resource.may == "a" && has(resource.may)`, with("may", null), "false"},
		{`!has(resource.may) || resource.may == "a"`, with("may", null), "true"},
		{`resource.may == "a" || !has(resource.may)`, with("may", null), "true"},
		{`has(resource.may) ? resource.may == "a" : resource.must > 1`, with("may", null), "true"},
		{`!has(resource.may) ? false : resource.may == "a"`, full, "true"},
		{`has(resource.may) && (resource.must > 50 || resource.may == "a")`, with("may", null), "false"},
		{`!(has(resource.may) && resource.may == "a")`, with("may", null), "true"},
		{`!(!has(resource.may) || resource.may != "a")`, with("may", null), "false"},
		{`has(resource.may) && [1, 2].exists(i, i == 2 && resource.may == "a")`, with("may", null), "false"},
		{`has(resource.may) && resource.may == "a"`, with("may", number(1)), "resource.may"},
		{`has(resource.may) && resource.may == "a"`, with("may", text("abcde")), "resource.may"},
		{`!has(resource.may) || true`, with("may", number(1)), "resource.may"},

		{`resource.tags.k == "v"`, full, "true"},
		{`resource.tags["k"] == "v"`, full, "true"},
		{`resource.tags.l == "v"`, full, "resource.tags.l"},
		{`resource.tags.l == "v" || true`, full, "resource.tags.l"},
		{`has(resource.tags.l) && resource.tags.l == "v"`, full, "false"},
		{`has(resource.tags["l"]) && resource.tags["l"] == "v"`, full, "false"},
		{`"l" in resource.tags && resource.tags.l == "v"`, full, "false"},
		{`"k" in resource.tags && resource.tags.k == "v"`, full, "true"},
		{`resource.tags.?l.orValue("none") == "none"`, full, "true"},
		{`resource.tags.?k.orValue("none") == "v"`, full, "true"},
		{`resource.tags.k == "v"`, with("tags", null), "resource.tags"},
		{`has(resource.tags.k)`, with("tags", null), "resource.tags"},
		{`resource.tags.k == "v"`, with("tags", authz.Value{Kind: authz.Map, Members: []authz.Member{{Name: "k", Value: number(1)}}}), "resource.tags"},
		{`resource.tags.k == "v"`, with("tags", authz.Value{Kind: authz.Map, Members: []authz.Member{{Name: "k", Value: null}}}), "resource.tags"},
		{`has(resource.extra.k) && resource.extra.k == "v"`, full, "false"},
		{`has(resource.extra) && resource.extra.k == "v"`, with("extra", authz.Value{Kind: authz.Map}), "resource.extra.k"},
		{`has(resource.extra) && resource.extra.k == "v"`, full, "false"},

		{"agent.risk == 7", full, "true"},
		{`agent.labels.role == "bot"`, full, "true"},
		{`agent.labels.team == "x"`, full, "agent.labels.team"},
		{`has(agent.labels.team) && agent.labels.team == "x"`, full, "false"},
		{"session.risk < 50", full, "session"},
		{"session.risk < 50 || true", full, "session"},
		{"has(session) && session.risk < 50", full, "false"},
		{"has(session.risk) && session.risk < 50", full, "false"},
		{"!has(session) || session.tainted", full, "true"},
		{"has(session.labels.x) && session.labels.x == \"y\"", full, "false"},
		{"user.registered", full, "user"},

		{"resource.must / 0.0 > 1.0", full, "true"},
		{"resource.usual / 0 == 1", full, ""},
		{"resource.usual / 0 == 1 || true", full, "true"},
		{"[1, 2][resource.usual] == 1", full, ""},
	} {
		set := mustLoad(t, strings.Replace(presenceBundle, "WHEN", c.when, 1))
		f := &Frame{Request: &authz.Request{Action: authz.Action{Name: "act"}, Resource: authz.Party{Type: "doc", ID: "1"}}}
		for name, v := range c.props {
			f.Request.Resource.Properties = append(f.Request.Resource.Properties, authz.Member{Name: name, Value: v})
		}
		f.Standings[authz.KindAgent] = &authz.Standing{Risk: 7, Labels: map[string]string{"role": "bot"}}
		v := set.Plan("act", "doc", "1").Evaluate(f, "")
		got := fmt.Sprint(v.Code == authz.DeniedByRule)
		if v.Class == authz.ClassError {
			got = v.Input
			if len(v.Errors) != 1 || v.Errors[0].Input != v.Input || v.Errors[0].Message == "" {
				t.Errorf("%s: errors %+v do not fit", c.when, v.Errors)
			}
		}
		if got != c.want {
			t.Errorf("%s with %v: got %q, want %q (%+v)", c.when, c.props, got, c.want, v)
		}
	}
}

// TestUndeclaredForTheRequestIsMissing: an attribute that another resource type declares is
// absent, even where the request brings it.
func TestUndeclaredForTheRequestIsMissing(t *testing.T) {
	for when, want := range map[string]string{
		"resource.must > 1":                       "resource.must",
		"has(resource.must)":                      "false",
		"has(resource.must) && resource.must > 1": "false",
	} {
		set := mustLoad(t, strings.Replace(presenceBundle, "WHEN", when, 1))
		for _, resourceType := range []string{"other", "never-heard-of"} {
			f := &Frame{Request: &authz.Request{Action: authz.Action{Name: "act"}, Resource: authz.Party{Type: resourceType, Properties: authz.Object{{Name: "must", Value: number(5)}}}}}
			p := set.Plan("act", resourceType, "")
			v := p.Evaluate(f, "")
			got := fmt.Sprint(v.Code == authz.DeniedByRule)
			if v.Class == authz.ClassError {
				got = v.Input
			}
			if got != want {
				t.Errorf("%s on %s: got %q, want %q", when, resourceType, got, want)
			}
			if len(p.Reads) != 0 {
				t.Errorf("%s on %s reads %v of a request that has none", when, resourceType, p.Reads)
			}
		}
	}
}

func TestErrorsAreListedInOrderAndBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("vigil: 1\nattributes: {context: {x: {type: int, required: true}}, resource.doc: {}}\nactions: {act: {}}\nrules:\n")
	for i := range 3 * maxRuleErrors {
		// Rules on a type and rules on none come from different groups of the index.
		on := ""
		if i%2 == 0 {
			on = "on: {resources: [doc]}, "
		}
		fmt.Fprintf(&b, "  - {id: r%03d, effect: allow, %swhen: context.x > %d}\n", i, on, i)
	}
	set := mustLoad(t, b.String())
	f := &Frame{Request: &authz.Request{}}
	v := set.Plan("act", "doc", "1").Evaluate(f, "")
	if len(v.Errors) != maxRuleErrors {
		t.Fatalf("%d errors, want %d", len(v.Errors), maxRuleErrors)
	}
	for i, e := range v.Errors {
		if want := (authz.RuleError{Rule: fmt.Sprintf("r%03d", i), Input: "context.x", Message: "context.x: required and missing"}); e != want {
			t.Errorf("error %d is %+v, want %+v", i, e, want)
		}
	}
}

func TestReasonsAndObligationsOfSeveralRules(t *testing.T) {
	set := mustLoad(t, `
vigil: 1
attributes: {resource.doc: {}}
actions: {act: {}}
rules:
  - {id: c, effect: require, when: "true", obligations: [{id: o1, type: approval}, {id: o3, type: note}], reason_user: "From c."}
  - {id: b, effect: require, on: {resources: [doc]}, when: "true", obligations: [{id: o2, type: approval}, {id: o1, type: approval}], reason_user: "From b.", reason_admin: "b it was"}
  - {id: a, effect: require, on: {actions: [act]}, when: "true", obligations: [{id: o1, type: approval}]}
  - {id: d, effect: require, mode: observe, when: "true", obligations: [{id: o9, type: approval}], reason_user: "From d."}
  - {id: e, effect: allow, when: "true", reason_user: "From e."}
`)
	v := set.Plan("act", "doc", "1").Evaluate(&Frame{Request: &authz.Request{}}, "")
	var ids []string
	for _, o := range v.Obligations {
		ids = append(ids, o.ID)
	}
	got := fmt.Sprint(v.Effect, v.Rules, ids, " ", v.ReasonUser, " ", v.ReasonAdmin, v.Observed)
	if want := "require [a b c] [o1 o2 o3] From b. b it was[{d require}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestPanicInARuleIsAnError: whatever a rule does, the others are evaluated and the answer
// is that it could not be.
func TestPanicInARuleIsAnError(t *testing.T) {
	set := mustLoad(t, "vigil: 1\nattributes: {resource.doc: {}}\nactions: {act: {}}\nrules:\n"+
		"  - {id: a, effect: deny, when: agent.risk > 1}\n  - {id: b, effect: allow, when: agent.risk >= 0}\n")
	set.rules[0].fast = func(*scratch) truth { panic("boom") }
	f := &Frame{Request: &authz.Request{}}
	f.Standings[authz.KindAgent] = &authz.Standing{}
	for range 2 { // the scratch is as good as before
		v := set.Plan("act", "doc", "1").Evaluate(f, "")
		if v.Code != authz.CouldNotEvaluate || !slices.Equal(v.Rules, []string{"a"}) || len(v.Errors) != 1 || v.Errors[0].Message != "panic: boom" {
			t.Fatalf("got %+v", v)
		}
	}
}

func TestNow(t *testing.T) {
	const hour, minute = authz.Instant(3600e9), authz.Instant(60e9)
	set := mustLoad(t, `
vigil: 1
attributes: {resource.doc: {}}
actions: {act: {}, other: {}}
rules:
  - {id: night, effect: deny, on: {actions: [act]}, granularity: 1h, when: now.getHours() < 6}
  - {id: odd, effect: allow, on: {actions: [act], classes: [low]}, granularity: 1m, when: now.getMinutes() % 2 == 1 && now.getSeconds() == 0}
  - {id: rare, effect: deny, mode: observe, on: {actions: [act]}, granularity: 2h, when: now.getHours() > 99}
  - {id: always, effect: allow, on: {actions: [other]}, when: "true"}
`)
	day := authz.Instant(1_700_006_400e9) // a midnight
	for _, c := range []struct {
		action, class string
		now           authz.Instant
		code          authz.Code
		until         authz.Instant
	}{
		{"act", "", day, authz.DeniedByRule, day + hour},
		{"act", "", day + 5*hour + 59*minute, authz.DeniedByRule, day + 6*hour},
		{"act", "", day + 6*hour, authz.NoAllowRule, day + 7*hour},
		{"act", "low", day + 6*hour + 59, authz.NoAllowRule, day + 6*hour + minute},
		{"act", "low", day + 6*hour + minute + 59e9, authz.Allowed, day + 6*hour + 2*minute},
		{"other", "low", day, authz.Allowed, authz.Forever},
		{"act", "low", authz.Forever - 1, authz.DeniedByRule, authz.Forever},
		{"act", "low", -1, authz.NoAllowRule, 0},
	} {
		v := set.Plan(c.action, "doc", "1").Evaluate(&Frame{Request: &authz.Request{}, Now: c.now}, c.class)
		if c.now == authz.Forever-1 {
			if v.ValidUntil <= c.now {
				t.Errorf("at the end of time a verdict holds until %v, before now", v.ValidUntil)
			}
			continue
		}
		if c.now == -1 { // before 1970, where % is negative
			if v.ValidUntil != 0 {
				t.Errorf("before the epoch: until %v", int64(v.ValidUntil))
			}
			continue
		}
		if v.Code != c.code || v.ValidUntil != c.until {
			t.Errorf("%s %s at %v: %s until %v, want %s until %v", c.action, c.class, c.now, v.Code, v.ValidUntil, c.code, c.until)
		}
	}
}

// TestFrameServesSeveralSets: a frame that goes from set to set, as on a reload, never mixes
// their slots.
func TestFrameServesSeveralSets(t *testing.T) {
	a := mustLoad(t, strings.Replace(presenceBundle, "WHEN", "resource.must > 1", 1))
	b := mustLoad(t, strings.Replace(presenceBundle, "WHEN", "resource.usual == 3", 1))
	f := &Frame{Request: &authz.Request{Resource: authz.Party{Type: "doc", Properties: authz.Object{{Name: "must", Value: number(5)}}}}}
	for i := range 10 {
		set := []*Set{a, b}[i%2]
		if v := set.Plan("act", "doc", "").Evaluate(f, ""); v.Code != authz.DeniedByRule {
			t.Fatalf("evaluation %d: %+v", i, v)
		}
	}
}

func TestEpochsWrapAround(t *testing.T) {
	set := mustLoad(t, strings.Replace(presenceBundle, "WHEN", "resource.must > 1", 1))
	f := &Frame{Request: &authz.Request{Resource: authz.Party{Type: "doc", Properties: authz.Object{{Name: "must", Value: number(5)}}}}}
	p := set.Plan("act", "doc", "")
	p.Evaluate(f, "")
	f.Request.Resource.Properties[0].Value = number(0)
	f.scratch.epoch = ^uint32(0) // the next evaluation wraps to the epoch of the first
	if v := p.Evaluate(f, ""); v.Code != authz.NoAllowRule {
		t.Fatalf("an old slot was read: %+v", v)
	}
}

// TestSetIsForManyGoroutines runs evaluations and explanations at once; it is for -race.
func TestSetIsForManyGoroutines(t *testing.T) {
	set := mustLoad(t, twelveRules)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			f := benchFrame()
			p := set.Plan("pay", "payment", "inv-88")
			first := p.Evaluate(f, "high-high")
			for i := range 50 {
				v := p.Evaluate(f, "high-high")
				if i%10 == 0 {
					v, _ = p.Explain(f, "high-high")
				}
				if !reflect.DeepEqual(v, first) {
					t.Errorf("%+v, then %+v", first, v)
				}
			}
		})
	}
	workers.Wait()
}

// TestEvaluateAllocates states the ceiling: nothing where one rule decides, and the list of
// rules where several do.
func TestEvaluateAllocates(t *testing.T) {
	set := mustLoad(t, twelveRules)
	f := benchFrame()
	p := set.Plan("pay", "payment", "inv-88")
	measure := func() float64 {
		return testing.AllocsPerRun(200, func() {
			set.Plan("pay", "payment", f.Request.Resource.ID)
			p.Evaluate(f, "high-high")
		})
	}
	if got := measure(); got > 1 {
		t.Errorf("two deciding rules: %v allocations, want at most 1", got)
	}
	f.Request.Resource.Properties[1].Value = text("nobody")
	if got := measure(); got > 0 {
		t.Errorf("no deciding rule: %v allocations, want none", got)
	}
}
