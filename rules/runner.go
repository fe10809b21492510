package rules

import (
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"vigil/authz"
)

// Decider decides a test case and gives the ids of the rules that were exercised: those
// whose expression was true.
type Decider func(TestCase) (authz.Decision, []string)

// TestRun says which tests to run and how.
type TestRun struct {
	// Match chooses the cases by "file/name"; nil for all.
	Match *regexp.Regexp
	// Now reads a clock for the times in the report; nil for none.
	Now func() time.Time
}

// Report is what a run of tests showed. Its members do not depend on the order of the
// bundle's files.
type Report struct {
	Results []CaseResult // by file name, then as written
	Rules   []RuleCoverage
	Elapsed time.Duration
}

// CaseResult is how one case went.
type CaseResult struct {
	File    string
	Name    string
	Pos     Pos
	Passed  bool
	Diff    []string // how the decision differs from what was expected; one line each
	Got     string   // the decision on one line
	Elapsed time.Duration
}

// RuleCoverage says how many of the cases that were run exercised a rule.
type RuleCoverage struct {
	Rule   string
	Pos    Pos
	Effect authz.Effect
	Cases  int
}

// RunTests runs every test of the bundle. The cases run one after another; one that makes
// decide panic has failed, and the others run.
func RunTests(b *Bundle, decide func(TestCase) (authz.Decision, []string)) Report {
	return TestRun{}.Run(b, decide)
}

// Run runs the tests that t chooses.
func (t TestRun) Run(b *Bundle, decide Decider) Report {
	clock := t.Now
	if clock == nil {
		clock = func() time.Time { return time.Time{} }
	}
	var report Report
	exercised := make(map[string]int)
	begin := clock()
	for _, file := range b.Tests {
		for _, c := range file.Cases {
			if t.Match != nil && !t.Match.MatchString(file.File+"/"+c.Name) {
				continue
			}
			start := clock()
			result, rules := runCase(file.File, c, decide)
			result.Elapsed = clock().Sub(start)
			report.Results = append(report.Results, result)
			for _, id := range rules {
				exercised[id]++
			}
		}
	}
	report.Elapsed = clock().Sub(begin)
	slices.SortStableFunc(report.Results, func(a, b CaseResult) int { return strings.Compare(a.File, b.File) })
	for _, r := range b.Rules {
		report.Rules = append(report.Rules, RuleCoverage{Rule: r.ID, Pos: r.Pos, Effect: r.Effect, Cases: exercised[r.ID]})
	}
	slices.SortFunc(report.Rules, func(a, b RuleCoverage) int { return strings.Compare(a.Rule, b.Rule) })
	return report
}

// runCase gives the result of one case and the rules that it exercised, each once.
func runCase(file string, c TestCase, decide Decider) (result CaseResult, rules []string) {
	result = CaseResult{File: file, Name: c.Name, Pos: c.Pos}
	defer func() {
		if r := recover(); r != nil {
			result.Passed = false
			result.Diff = append([]string{fmt.Sprintf("panic: %v", r)}, stackLines()...)
			rules = nil
		}
	}()
	decision, rules := decide(c)
	result.Got = describe(&decision)
	result.Diff = c.Expect.compare(&decision)
	result.Passed = len(result.Diff) == 0
	slices.Sort(rules)
	return result, slices.Compact(rules)
}

// stackLines gives the head of the stack of a panic.
func stackLines() []string {
	lines := strings.Split(strings.TrimSpace(string(debug.Stack())), "\n")
	return lines[:min(len(lines), 24)]
}

// compare says how d differs from what was expected. What was not stated is not compared.
func (x *Expectation) compare(d *authz.Decision) []string {
	var diff []string
	if x.Effect != d.Effect {
		diff = append(diff, fmt.Sprintf("effect: want %s, got %s", x.Effect, d.Effect))
	}
	if x.Code != "" && x.Code != d.Code {
		diff = append(diff, fmt.Sprintf("code: want %s, got %s", x.Code, d.Code))
	}
	if x.Rules != nil {
		got := slices.Sorted(slices.Values(d.Rules))
		if !slices.Equal(x.Rules, got) {
			line := fmt.Sprintf("rules: want %s, got %s", bracketed(x.Rules), bracketed(got))
			if missing := without(x.Rules, got); len(missing) > 0 && len(got) > 0 {
				line += "; missing " + strings.Join(missing, ", ")
			}
			if extra := without(got, x.Rules); len(extra) > 0 && len(x.Rules) > 0 {
				line += "; not expected " + strings.Join(extra, ", ")
			}
			diff = append(diff, line)
		}
	}
	if len(diff) == 0 {
		return nil
	}
	// Why it came out as it did, which is what the author looks for next.
	diff = append(diff, "decided: "+describe(d))
	for _, e := range d.Errors {
		line := fmt.Sprintf("rule %s could not be evaluated: %s", e.Rule, e.Message)
		if e.Input != "" {
			line += " (" + e.Input + ")"
		}
		diff = append(diff, line)
	}
	return diff
}

func bracketed(ids []string) string { return "[" + strings.Join(ids, ", ") + "]" }

func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

// describe gives a decision on one line.
func describe(d *authz.Decision) string {
	parts := []string{d.Effect.String(), string(d.Code)}
	if d.Entity.Kind != authz.NoKind {
		parts = append(parts, d.Entity.String())
	}
	if d.Input != "" {
		parts = append(parts, d.Input)
	}
	if len(d.Rules) > 0 {
		parts = append(parts, "by "+strings.Join(d.Rules, ", "))
	}
	if d.ReasonAdmin != "" {
		parts = append(parts, "("+d.ReasonAdmin+")")
	}
	return strings.Join(parts, " ")
}

// Failed counts the cases that failed.
func (r *Report) Failed() int {
	failed := 0
	for i := range r.Results {
		if !r.Results[i].Passed {
			failed++
		}
	}
	return failed
}

// OK reports whether there were cases and all of them passed: a run that tested nothing is
// no success.
func (r *Report) OK() bool { return len(r.Results) > 0 && r.Failed() == 0 }

// Uncovered gives the ids of the rules with this effect that no case exercised, sorted.
func (r *Report) Uncovered(effect authz.Effect) []string {
	var ids []string
	for _, c := range r.Rules {
		if c.Effect == effect && c.Cases == 0 {
			ids = append(ids, c.Rule)
		}
	}
	return ids
}
