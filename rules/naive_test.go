package rules

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"pgregory.net/rapid"

	"vigil/authz"
)

// naive evaluates a bundle as the documents say it: rule after rule, each compiled alone,
// over a plain map of values, with no index, no closures and no slots.
type naive struct {
	bundle *Bundle
	rules  []naiveRule
}

type naiveRule struct {
	*Rule
	reads   []read
	program cel.Program
}

func newNaive(t interface{ Fatal(...any) }, b *Bundle) *naive {
	n := &naive{bundle: b}
	lists := map[string]*constantList{}
	for name, l := range b.Lists {
		lists[name] = newConstantList(l)
	}
	scopes := newScopeBuilder(b, newSlotTable(b, lists), lists)
	for _, r := range b.Rules {
		s, err := scopes.scopeOf(r)
		if err != nil {
			t.Fatal(err)
		}
		ast, issues := s.env.Compile(r.When)
		if issues.Err() != nil {
			t.Fatal(issues.Err())
		}
		program, err := s.env.Program(ast)
		if err != nil {
			t.Fatal(err)
		}
		n.rules = append(n.rules, naiveRule{Rule: r, reads: analyseGuards(s, ast.NativeRep().Expr()), program: program})
	}
	slices.SortFunc(n.rules, func(a, b naiveRule) int { return strings.Compare(a.ID, b.ID) })
	return n
}

func (r naiveRule) isOn(f *Frame, class string) bool {
	req := f.Request
	in := func(names []string, name string) bool { return len(names) == 0 || slices.Contains(names, name) }
	resource := len(r.Resources) == 0
	for _, on := range r.Resources {
		resourceType, id, literal := strings.Cut(on, ":")
		resource = resource || resourceType == req.Resource.Type && (!literal || id == req.Resource.ID)
	}
	return resource && in(r.Actions, req.Action.Name) && in(r.Subjects, req.Subject.Type) && in(r.Classes, class)
}

// declaration gives what a variable means for this request, or nil.
func (n *naive) declaration(name string, req *authz.Request) (*Attribute, authz.Object) {
	root, member, _ := strings.Cut(name, ".")
	switch root {
	case "subject":
		return n.bundle.Attributes["subject."+req.Subject.Type][member], req.Subject.Properties
	case "action":
		return n.bundle.Attributes["action."+req.Action.Name][member], req.Action.Properties
	case "resource":
		return n.bundle.Attributes["resource."+req.Resource.Type][member], req.Resource.Properties
	}
	return n.bundle.Attributes["context"][member], req.Context
}

// value gives a variable's Go value: nil for absent, an error for a wrong one.
func (n *naive) value(name string, f *Frame) (any, error) {
	a, from := n.declaration(name, f.Request)
	if a == nil {
		return nil, nil
	}
	var v *authz.Value
	for i := range from {
		if from[i].Name == a.Name && from[i].Value.Kind != authz.Absent {
			v = &from[i].Value
		}
	}
	if v == nil {
		v = a.Default
	}
	if v == nil && a.Required {
		return nil, fmt.Errorf("required")
	}
	if v == nil {
		return nil, nil
	}
	return naiveConvert(a, a.Type, v)
}

func naiveConvert(a *Attribute, as AttributeType, v *authz.Value) (any, error) {
	wrong := fmt.Errorf("wrong")
	limit := func(fallback float64) float64 {
		if a.Max != nil {
			return *a.Max
		}
		return fallback
	}
	switch {
	case as == TypeString && v.Kind == authz.String && float64(len(v.Str)) <= limit(1024):
		return v.Str, nil
	case as == TypeBool && v.Kind == authz.Bool:
		return v.Num == 1, nil
	case as == TypeInt && v.Kind == authz.Number && v.Num == math.Floor(v.Num) && math.Abs(v.Num) <= 1<<53 &&
		(a.Min == nil || *a.Min <= v.Num) && v.Num <= limit(math.Inf(1)):
		return int64(v.Num), nil
	case as == TypeNumber && v.Kind == authz.Number && (a.Min == nil || *a.Min <= v.Num) && v.Num <= limit(math.Inf(1)):
		return v.Num, nil
	case as == TypeTimestamp && v.Kind == authz.String:
		at, err := time.Parse(time.RFC3339, v.Str)
		if err == nil {
			return at, nil
		}
	case as == TypeDuration && v.Kind == authz.String:
		d, err := time.ParseDuration(v.Str)
		if err == nil {
			return d, nil
		}
	case as == TypeList && v.Kind == authz.List && float64(len(v.Members)) <= limit(64):
		list := []any{}
		for i := range v.Members {
			e, err := naiveConvert(&Attribute{}, a.Elem, &v.Members[i].Value)
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
		return list, nil
	case as == TypeMap && v.Kind == authz.Map && float64(len(v.Members)) <= limit(64):
		entries := map[string]any{}
		for i := range v.Members {
			e, err := naiveConvert(&Attribute{}, a.Elem, &v.Members[i].Value)
			if err != nil {
				return nil, err
			}
			entries[v.Members[i].Name] = e
		}
		return entries, nil
	}
	return nil, wrong
}

// values gives everything that rules can read, by CEL variable.
func (n *naive) values(f *Frame) (values map[string]any, wrong map[string]bool) {
	values, wrong = map[string]any{}, map[string]bool{}
	put := func(name string, v any) { values[name] = v }
	req := f.Request
	put("subject.id", req.Subject.ID)
	put("subject.type", req.Subject.Type)
	put("action.name", req.Action.Name)
	put("resource.id", req.Resource.ID)
	put("resource.type", req.Resource.Type)
	for name, l := range n.bundle.Lists {
		list := []any{}
		for _, v := range l.Values {
			if v.Kind == authz.Number {
				list = append(list, v.Num)
			} else {
				list = append(list, v.Str)
			}
		}
		put("lists."+name, list)
	}
	for _, kind := range entityKinds {
		st := f.Standings[kind]
		put("@has."+kind.String(), st != nil)
		if st == nil {
			continue
		}
		labels := st.Labels
		if labels == nil {
			labels = map[string]string{}
		}
		for member, v := range map[string]any{
			"id": st.ID, "registered": st.Registered, "status": st.Status.String(), "risk": int64(st.Risk), "class": st.Class,
			"labels": labels, "scopes": append([]string{}, st.Scopes...), "tainted": st.Tainted, "attested": st.Attested == authz.AttestPassed,
		} {
			put(kind.String()+"."+member, v)
		}
	}
	for scope, declared := range n.bundle.Attributes {
		root, _, _ := strings.Cut(scope, ".")
		for name := range declared {
			full := root + "." + name
			v, err := n.value(full, f)
			wrong[full] = err != nil
			put("@has."+full, v != nil)
			if v != nil {
				put(full, v)
			}
		}
	}
	return values, wrong
}

// evaluateRule gives true, false, or the input that could not be evaluated ("" for an
// error of CEL's).
func (r naiveRule) evaluate(values map[string]any, wrong map[string]bool, f *Frame) (result bool, input string, failed bool) {
	var lacking []string // wrong or missing, in order of name; entries of maps after that
	var entries []string
	for _, rd := range r.reads {
		v := rd.v
		isEntity := v.decls == nil && v.presence != ""
		switch {
		case wrong[v.name]:
			lacking = append(lacking, v.name)
		case rd.isEntry && !rd.test && !rd.guarded:
			if m, ok := values[v.name]; ok && !hasKey(m, rd.key) {
				entries = append(entries, v.name+"."+rd.key)
			}
		case rd.isEntry, rd.test, rd.guarded:
		case isEntity && values["@has."+v.presence] == false:
			lacking = append(lacking, v.presence)
		case !isEntity && v.presence != "" && values[v.name] == nil:
			lacking = append(lacking, v.name)
		}
	}
	slices.Sort(lacking)
	slices.Sort(entries)
	if all := append(lacking, entries...); len(all) > 0 {
		return false, all[0], true
	}
	if r.Granularity > 0 {
		values["now"] = time.Unix(0, int64(f.Now)-int64(f.Now)%int64(r.Granularity)).UTC()
	}
	out, _, err := r.program.Eval(values)
	if err != nil {
		return false, "", true
	}
	return out == types.True, "", false
}

func hasKey(m any, key string) bool {
	return reflect.ValueOf(m).MapIndex(reflect.ValueOf(key)).IsValid()
}

// verdict is what Evaluate must say, without reasons and messages.
func (n *naive) verdict(f *Frame, class string) Verdict {
	values, wrong := n.values(f)
	v := Verdict{ValidUntil: authz.Forever}
	by := map[authz.Effect][]naiveRule{}
	var failed []naiveRule
	inputs := map[string]string{}
	for _, r := range n.rules {
		if !r.isOn(f, class) {
			continue
		}
		if strings.Contains(r.When, "now") {
			g := int64(r.Granularity)
			v.ValidUntil = min(v.ValidUntil, authz.Instant(int64(f.Now)-int64(f.Now)%g+g))
		}
		yes, input, fail := r.evaluate(values, wrong, f)
		switch {
		case fail:
			v.Errors = append(v.Errors, authz.RuleError{Rule: r.ID, Input: input})
			inputs[r.ID] = input
			if !r.Observe {
				failed = append(failed, r)
			}
		case yes && r.Observe:
			v.Observed = append(v.Observed, authz.Observation{Rule: r.ID, Effect: r.Effect})
		case yes:
			by[r.Effect] = append(by[r.Effect], r)
		}
	}
	say := func(effect authz.Effect, class authz.Class, code authz.Code, rules ...naiveRule) Verdict {
		v.Effect, v.Class, v.Code = effect, class, code
		for _, r := range rules {
			v.Rules = append(v.Rules, r.ID)
			for _, o := range r.Obligations {
				if !slices.ContainsFunc(v.Obligations, func(have authz.Obligation) bool { return have.ID == o.ID }) {
					v.Obligations = append(v.Obligations, o)
				}
			}
		}
		return v
	}
	strict := slices.IndexFunc(failed, func(r naiveRule) bool { return r.Effect != authz.Allow })
	switch {
	case len(by[authz.Deny]) > 0:
		return say(authz.Deny, authz.ClassRule, authz.DeniedByRule, by[authz.Deny]...)
	case strict >= 0:
		v.Input = inputs[failed[strict].ID]
		v.Rules = []string{failed[strict].ID}
		return say(authz.Deny, authz.ClassError, authz.CouldNotEvaluate)
	case len(by[authz.Require]) > 0:
		return say(authz.Require, authz.ClassRequire, authz.Obliged, by[authz.Require]...)
	case len(by[authz.Allow]) > 0:
		return say(authz.Allow, authz.ClassAllow, authz.Allowed, by[authz.Allow]...)
	case len(failed) > 0:
		v.Input = inputs[failed[0].ID]
		v.Rules = []string{failed[0].ID}
		return say(authz.Deny, authz.ClassError, authz.CouldNotEvaluate)
	}
	return say(authz.Deny, authz.ClassDefault, authz.NoAllowRule)
}

// bare leaves out what the naive evaluation does not say.
func bare(v Verdict) Verdict {
	v.ReasonUser, v.ReasonAdmin = "", ""
	errs := slices.Clone(v.Errors)
	for i := range errs {
		errs[i].Message = ""
	}
	v.Errors = errs
	return v
}

// compileBoth compiles rules over the generated declarations, for service and naively.
func compileBoth(t *rapid.T, rules []string) (*Set, *naive) {
	bundle, errs := Parse(bundleFS(generatedHead + strings.Join(rules, "")))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	set, errs := Compile(bundle)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return set, newNaive(t, bundle)
}

// checkAgreement evaluates a request in each way, and explains it. The frame is reused from
// request to request, as in service.
func checkAgreement(t *rapid.T, rules []string, set *Set, naive *naive, f, reused *Frame, class string) Verdict {
	p := set.Plan(f.Request.Action.Name, f.Request.Resource.Type, f.Request.Resource.ID)
	reused.Request, reused.Standings, reused.Now = f.Request, f.Standings, f.Now
	got, want := p.Evaluate(reused, class), naive.verdict(f, class)
	if g, w := fmt.Sprintf("%+v", bare(got)), fmt.Sprintf("%+v", want); g != w {
		t.Fatalf("rules:\n%s\nrequest %+v\nstandings %+v %+v\n got %s\nwant %s\n(%v)", strings.Join(rules, ""), f.Request,
			f.Standings[authz.KindAgent], f.Standings[authz.KindSession], g, w, got.Errors)
	}
	for _, e := range got.Errors {
		if e.Input == "" && (strings.Contains(e.Message, "no such attribute") || strings.Contains(e.Message, "no such key")) {
			t.Fatalf("rules:\n%s\na guard did not guard: %+v", strings.Join(rules, ""), e)
		}
	}
	explained, _ := p.Explain(reused, class)
	if !reflect.DeepEqual(got, explained) {
		t.Fatalf("Explain says %+v, Evaluate %+v", explained, got)
	}
	return got
}

// TestEvaluateAgreesWithNaive holds index, slots, presence checks and closures against the
// naive evaluation, over generated rule sets and requests.
func TestEvaluateAgreesWithNaive(t *testing.T) {
	classes := map[authz.Class]int{}
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t, 8)
		set, naive := compileBoth(t, rules)
		reused := &Frame{}
		for range 6 {
			f := drawFrame(t)
			class := rapid.SampledFrom([]string{"high-high", "low", "unregistered"}).Draw(t, "class")
			classes[checkAgreement(t, rules, set, naive, f, reused, class).Class]++
		}
	})
	for _, class := range []authz.Class{authz.ClassDefault, authz.ClassAllow, authz.ClassRule, authz.ClassRequire, authz.ClassError} {
		if classes[class] == 0 && !testing.Short() {
			t.Errorf("no verdict of class %v: the requests are too dull", class)
		}
	}
	t.Log(classes)
}
