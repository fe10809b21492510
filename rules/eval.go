package rules

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"

	"vigil/authz"
)

// Bounds of what a verdict tells.
const (
	maxRuleErrors  = 32
	maxErrorLength = 200 // bytes of one error's message
)

// notPermitted is what end users are told where no rule says it better.
const notPermitted = "Not permitted."

// Evaluate evaluates the candidates that apply to class. Deny beats require beats allow;
// a deny or require rule that cannot be evaluated denies; an allow rule that cannot be
// evaluated does not allow. A require rule that is true is answered with require whether
// or not something allows. It never panics: a panic in a rule is a rule that cannot be
// evaluated. Equal frames give equal verdicts.
func (p *Plan) Evaluate(f *Frame, class string) Verdict {
	s := f.scratchFor(p)
	s.begin(p, f)
	for _, g := range p.groups {
		s.runAll(g.always, class)
		for _, x := range g.indexes {
			s.runAll(s.candidates(x), class)
		}
	}
	return s.verdict()
}

func (s *scratch) runAll(rules []*rule, class string) {
	for from := 0; from < len(rules); {
		from = s.runFrom(rules, from, class)
	}
}

// runFrom runs the rules from the given one on, and gives where to go on: behind the last,
// or behind one that panicked. One recovery serves many rules.
func (s *scratch) runFrom(rules []*rule, from int, class string) (next int) {
	i := from
	defer func() {
		if v := recover(); v != nil {
			s.panicked(rules[i], v)
			next = i + 1
		}
	}()
	for ; i < len(rules); i++ {
		if r := rules[i]; r.appliesTo(s.frame, class) {
			s.note(r, s.run(r))
		}
	}
	return i
}

func (s *scratch) panicked(r *rule, v any) {
	s.failures = append(s.failures, failure{rule: r, slot: -1, err: fmt.Sprint("panic: ", v)})
}

// scratchFor gives the working memory that f keeps for p's set.
func (f *Frame) scratchFor(p *Plan) *scratch {
	if f.scratch == nil || f.scratch.set != p.set {
		f.scratch = &scratch{set: p.set, slots: make([]slot, p.set.table.size())}
	}
	return f.scratch
}

func (r *rule) appliesTo(f *Frame, class string) bool {
	return (r.classes == nil || r.classes[class]) &&
		(r.subjects == nil || r.subjects[f.Request.Subject.Type])
}

// outcome is what a rule comes to.
type outcome uint8

const (
	isFalse outcome = iota
	isTrue
	isFailed // the last of failures says why
)

// failure is a rule that could not be evaluated: for a slot, for an entry of a map, or for
// what CEL or a panic said.
type failure struct {
	rule *rule
	slot int // -1 for none
	bad  bool
	key  *keyNeed
	err  string
}

// ready checks that r lacks nothing. It comes before CEL, whose || would hide an error
// behind the other operand.
func (s *scratch) ready(r *rule) bool {
	f, lacks := s.lack(r)
	if lacks {
		s.failures = append(s.failures, f)
	}
	return !lacks
}

// lack gives the first of what r reads unguarded that is not there, or is not right.
func (s *scratch) lack(r *rule) (f failure, lacks bool) {
	for _, n := range r.needs {
		switch sl := s.at(n.slot); {
		case sl.state == slotOK:
		case sl.state == slotBad:
			return failure{rule: r, slot: n.slot, bad: true}, true
		case n.must:
			return failure{rule: r, slot: n.slot}, true
		}
	}
	for i := range r.keys {
		k := &r.keys[i]
		if s.at(k.entry).state != slotOK && s.at(k.slot).state == slotOK {
			return failure{rule: r, slot: -1, key: k}, true
		}
	}
	return failure{}, false
}

// run evaluates one rule. It may panic.
func (s *scratch) run(r *rule) outcome {
	if r.readsNow {
		now, until := truncated(s.frame.Now, r.source.Granularity)
		s.until = min(s.until, until)
		if now != s.now {
			s.now, s.nowAs = now, nil
		}
	}
	if !s.ready(r) {
		return isFailed
	}
	if r.fast != nil {
		switch r.fast(s) {
		case yes:
			return isTrue
		case no:
			return isFalse
		}
		// CEL says what the error is.
	}
	value, _, err := r.program.Eval(s)
	switch {
	case err != nil:
		s.failures = append(s.failures, failure{rule: r, slot: -1, err: err.Error()})
		return isFailed
	case value == types.True:
		return isTrue
	case value == types.False:
		return isFalse
	}
	s.failures = append(s.failures, failure{rule: r, slot: -1, err: "the result is no bool"})
	return isFailed
}

func (s *scratch) note(r *rule, o outcome) {
	switch {
	case o != isTrue:
	case r.source.Observe:
		s.observed = append(s.observed, r)
	case r.source.Effect == authz.Deny:
		s.denies = append(s.denies, r)
	case r.source.Effect == authz.Require:
		s.requires = append(s.requires, r)
	default:
		s.allows = append(s.allows, r)
	}
}

// verdict weighs what was noted.
func (s *scratch) verdict() Verdict {
	v := Verdict{ValidUntil: s.until}
	if len(s.failures) > 1 {
		slices.SortFunc(s.failures, func(a, b failure) int { return cmp.Compare(a.rule.ordinal, b.rule.ordinal) })
	}
	var worst *failure // the first enforced rule that matters and could not be evaluated
	for i := range s.failures {
		f := &s.failures[i]
		if !f.rule.source.Observe && (worst == nil || worst.rule.source.Effect == authz.Allow && f.rule.source.Effect != authz.Allow) {
			worst = f
		}
	}
	strict := worst != nil && worst.rule.source.Effect != authz.Allow
	switch {
	case len(s.denies) > 0:
		v.Effect, v.Class, v.Code = authz.Deny, authz.ClassRule, authz.DeniedByRule
		s.decide(&v, s.denies)
	case worst != nil && (strict || len(s.requires) == 0 && len(s.allows) == 0):
		v.Effect, v.Class, v.Code = authz.Deny, authz.ClassError, authz.CouldNotEvaluate
		e := s.describe(worst)
		v.Input, v.Rules, v.ReasonAdmin = e.Input, worst.rule.self, "rule "+e.Rule+": "+e.Message
	case len(s.requires) > 0:
		v.Effect, v.Class, v.Code = authz.Require, authz.ClassRequire, authz.Obliged
		s.decide(&v, s.requires)
		v.Obligations = obligations(s.requires)
	case len(s.allows) > 0:
		v.Effect, v.Class, v.Code = authz.Allow, authz.ClassAllow, authz.Allowed
		s.decide(&v, s.allows)
	default:
		v.Effect, v.Class, v.Code = authz.Deny, authz.ClassDefault, authz.NoAllowRule
	}
	if v.ReasonUser == "" && v.Effect != authz.Allow {
		v.ReasonUser = notPermitted
	}
	if len(s.failures) > 0 {
		v.Errors = make([]authz.RuleError, min(len(s.failures), maxRuleErrors))
		for i := range v.Errors {
			v.Errors[i] = s.describe(&s.failures[i])
		}
	}
	if len(s.observed) > 0 {
		sortRules(s.observed)
		v.Observed = make([]authz.Observation, len(s.observed))
		for i, r := range s.observed {
			v.Observed[i] = authz.Observation{Rule: r.source.ID, Effect: r.source.Effect}
		}
	}
	return v
}

// decide names the rules that decided, and gives the reasons of the first that has them.
// The names of those that decided together last are kept: mostly they do so again.
func (s *scratch) decide(v *Verdict, rules []*rule) {
	sortRules(rules)
	switch {
	case len(rules) == 1:
		v.Rules = rules[0].self
	case slices.Equal(rules, s.together):
		v.Rules = s.names
	default:
		v.Rules = make([]string, len(rules))
		for i, r := range rules {
			v.Rules[i] = r.source.ID
		}
		s.together, s.names = append(s.together[:0], rules...), v.Rules
	}
	for _, r := range rules {
		v.ReasonUser = cmp.Or(v.ReasonUser, r.source.ReasonUser)
		v.ReasonAdmin = cmp.Or(v.ReasonAdmin, r.source.ReasonAdmin)
	}
}

// sortRules sorts by id. Rules of one group come sorted.
func sortRules(rules []*rule) {
	for i := 1; i < len(rules); i++ {
		if rules[i].ordinal < rules[i-1].ordinal {
			slices.SortFunc(rules, func(a, b *rule) int { return cmp.Compare(a.ordinal, b.ordinal) })
			return
		}
	}
}

// obligations is the union over rules, in their order.
func obligations(rules []*rule) []authz.Obligation {
	if len(rules) == 1 {
		return rules[0].source.Obligations
	}
	var union []authz.Obligation
	for _, r := range rules {
		for _, o := range r.source.Obligations {
			same := func(have authz.Obligation) bool {
				return have.ID == o.ID && have.Type == o.Type && bytes.Equal(have.Properties, o.Properties)
			}
			if !slices.ContainsFunc(union, same) {
				union = append(union, o)
			}
		}
	}
	return union
}

// describe puts a failure into words. They hold no string of the request.
func (s *scratch) describe(f *failure) authz.RuleError {
	e := authz.RuleError{Rule: f.rule.source.ID}
	switch {
	case f.key != nil:
		e.Input = f.key.name
		e.Message = e.Input + ": missing"
	case f.slot >= firstEntitySlot && f.slot < firstAttributeSlot:
		name := s.set.table.names[f.slot]
		if f.bad {
			e.Input = name
			e.Message = name + ": too many members for a rule"
			break
		}
		kind, _, _ := strings.Cut(name, ".")
		e.Input = kind
		e.Message = "the request names no " + kind
	case f.slot >= 0:
		e.Input = s.set.table.names[f.slot]
		switch sl := s.at(f.slot); {
		case sl.attr == nil:
			e.Message = e.Input + ": not declared for this request"
		case f.bad:
			e.Message = e.Input + ": " + explainBad(sl.attr, sl.attr.Value(s.frame.Request))
		default:
			e.Message = e.Input + ": missing"
		}
	default:
		e.Message = f.err
		if len(e.Message) > maxErrorLength {
			e.Message = strings.ToValidUTF8(e.Message[:maxErrorLength], "")
		}
	}
	return e
}
