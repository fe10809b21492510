package rules

import (
	"cmp"
	"slices"

	"vigil/authz"
)

// Trace is what one rule did in an evaluation.
type Trace struct {
	Rule   string
	Pos    Pos
	Effect authz.Effect
	Mode   string // enforce or observe
	Result string // true, false, error, or skipped (class or subject type does not match)
	Error  string
	Detail []string // one line per comparison or read that mattered, as "amount 4200 <= 5000"
}

// Explain is Evaluate with what each candidate did, in the order of the rules' ids.
func (p *Plan) Explain(f *Frame, class string) (Verdict, []Trace) {
	s := f.scratchFor(p)
	s.begin(p, f)
	var traces []Trace
	for _, g := range p.groups {
		for _, r := range g.rules {
			traces = append(traces, s.trace(r, class))
		}
	}
	slices.SortFunc(traces, func(a, b Trace) int { return cmp.Compare(a.Rule, b.Rule) })
	return s.verdict(), traces
}

func (s *scratch) trace(r *rule, class string) Trace {
	t := Trace{Rule: r.source.ID, Pos: r.source.Pos, Effect: r.source.Effect, Mode: "enforce"}
	if r.source.Observe {
		t.Mode = "observe"
	}
	if !r.appliesTo(s.frame, class) {
		t.Result = "skipped"
		return t
	}
	result := s.run(r)
	s.note(r, result)
	switch result {
	case isTrue:
		t.Result = "true"
	case isFalse:
		t.Result = "false"
	default:
		t.Result = "error"
		t.Error = s.describe(&s.failures[len(s.failures)-1]).Message
	}
	return t
}
