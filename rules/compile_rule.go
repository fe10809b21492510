package rules

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"

	"vigil/authz"
)

// rule is a compiled rule. It is immutable but for the explainer, which the first
// explanation makes.
type rule struct {
	source  *Rule
	scope   *scope
	ordinal int      // place among the rules sorted by id
	self    []string // the id alone, shared by every verdict that it decides alone
	// needs are the slots that must be good before the expression runs, in order of their
	// names, so that the same lack is named every time.
	needs []need
	keys  []keyNeed
	slots []int // of the request's attributes it reads or asks for, sorted
	// fast is the condition as a closure, or nil where only CEL can run it.
	fast    condition
	program cel.Program
	// equalities are the operands by which the rule can be looked up. There are none where
	// it tells more than its condition: when now will be another one, or an error of CEL's.
	equalities []equality

	explainer atomic.Pointer[explainer] // nil until something asks for it

	readsNow          bool
	readsSubjectID    bool
	readsResourceID   bool
	readsResourceType bool
	classes           map[string]bool // nil for any
	subjects          map[string]bool // nil for any
}

// need is a value that a rule reads.
type need struct {
	slot int
	// must: the value must be there. Otherwise has() stands before every read of it, and
	// it must only not be wrong.
	must bool
}

// keyNeed is an entry of a map that a rule reads unguarded.
type keyNeed struct {
	slot  int    // of the map
	entry int    // of the entry
	name  string // "agent.labels.role"
}

// ruleCompiler compiles one rule and gathers what is wrong with it. What it shares with
// others it only reads.
type ruleCompiler struct {
	bundle *Bundle
	scopes *scopeBuilder
	scope  *scope
	rule   *Rule
	errs   []Error
}

// fail notes an error at a place in the expression, both from 1.
func (c *ruleCompiler) fail(line, column int, format string, args ...any) {
	c.errs = append(c.errs, c.bundle.whenError(c.rule, line, column, fmt.Sprintf(format, args...)))
}

// compile gives the rule, or nil where it noted what is wrong.
func (c *ruleCompiler) compile() *rule {
	checked, starts := c.check()
	if checked == nil {
		return nil
	}
	r := c.rule
	made := &rule{source: r, scope: c.scope, self: []string{r.ID}, classes: nameSet(r.Classes), subjects: nameSet(r.Subjects)}
	info := checked.NativeRep().SourceInfo()
	at := func(id int64) (line, column int) {
		if start, ok := starts[id]; ok {
			return location(start)
		}
		return location(info.GetStartLocation(id))
	}
	c.forbidden(checked, at)
	c.reads(made, checked, at)
	if made.readsNow && r.Granularity <= 0 {
		c.fail(1, 1, "the rule reads now, so it needs a granularity, such as granularity: 1m: its decisions are kept until now's next multiple of it")
	}
	worst, err := worstCost(c.scope, checked)
	if err != nil {
		c.fail(1, 1, "its cost cannot be computed: %v", err)
	} else if worst > MaxRuleCost && worst != math.MaxUint64 {
		c.fail(1, 1, "its worst case costs %d, more than the %d of a rule; declare a smaller max for the strings, lists and maps that it reads", worst, MaxRuleCost)
	}
	if len(c.errs) > 0 {
		return nil
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if worst == math.MaxUint64 {
		options = append(options, cel.CostLimit(MaxRuleCost))
	}
	made.program, err = c.scope.env.Program(checked, options...)
	if err != nil {
		c.fail(1, 1, "%s", humane(err.Error()))
		return nil
	}
	made.fast = closureFor(c.scope, c.scopes.table, checked)
	if made.fast != nil && !made.readsNow {
		made.equalities = closuresFor(c.scope, c.scopes.table, checked).equalities()
	}
	return made
}

// check parses and type-checks the expression, noting everything that is wrong. The result
// is nil only where something was. starts says where paths begin (see nameCheck).
func (c *ruleCompiler) check() (checked *cel.Ast, starts map[int64]common.Location) {
	text := strings.TrimRight(c.rule.When, " \t\r\n") // so that its end is on its last line
	if text == "" {
		c.fail(1, 1, "when is empty; write true for a rule that always applies")
		return nil, nil
	}
	parsed, issues := c.scope.env.Parse(text)
	if issues.Err() != nil {
		c.reportIssues(text, issues)
		return nil, nil
	}
	starts = map[int64]common.Location{}
	names := &nameCheck{
		scope: c.scope, sb: c.scopes, info: parsed.NativeRep().SourceInfo(), starts: starts,
		report: func(loc common.Location, msg string) {
			line, column := location(loc)
			c.fail(line, column, "%s", msg)
		},
	}
	names.walk(parsed.NativeRep().Expr())
	checked, issues = c.scope.env.Check(parsed)
	if issues.Err() != nil {
		c.reportIssues(text, issues)
		if len(c.errs) == 0 {
			c.fail(1, 1, "this is no expression that rules can check")
		}
		return nil, nil
	}
	if len(c.errs) > 0 {
		return nil, nil
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) {
		c.fail(1, 1, "when must be a condition, and this is %s", ruleType(cel.FormatCELType(t)))
		return nil, nil
	}
	return checked, starts
}

// maxIssues is how many of CEL's complaints about one expression are told: after a syntax
// error the rest is mostly noise.
const maxIssues = 8

func (c *ruleCompiler) reportIssues(text string, issues *cel.Issues) {
	told := 0
	for _, issue := range issues.Errors() {
		msg := humane(issue.Message)
		if strings.HasPrefix(msg, "did not expect ") && wordBefore(text, issue.Location) == "not" {
			msg = "write \"!\" for not"
		}
		if msg == "" || told == maxIssues {
			continue
		}
		told++
		line, column := location(issue.Location)
		c.fail(line, column, "%s", msg)
		if strings.HasPrefix(issue.Message, "Syntax error:") {
			return
		}
	}
}

// forbidden notes what the type check lets through and rules do not have.
func (c *ruleCompiler) forbidden(checked *cel.Ast, at func(int64) (line, column int)) {
	fail := func(id int64, msg string) {
		line, column := at(id)
		c.fail(line, column, "%s", msg)
	}
	rep := checked.NativeRep()
	ast.PreOrderVisit(rep.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		name := call.FunctionName()
		switch {
		case name == overloads.Matches && !literalPattern(call):
			fail(e.ID(), "the pattern of matches must be a literal text, for it is compiled when the bundle loads")
		case (name == "math.@max" || name == "math.@min") && rep.GetType(e.ID()).IsExactType(cel.DynType):
			fail(e.ID(), humaneOverload(name, "(int, double)"))
		}
	}))
}

func literalPattern(call ast.CallExpr) bool {
	args := call.Args()
	return len(args) > 0 && args[len(args)-1].Kind() == ast.LiteralKind
}

// reads fills in what the rule reads, and notes unguarded optional attributes and
// attributes whose declarations disagree.
func (c *ruleCompiler) reads(made *rule, checked *cel.Ast, at func(int64) (line, column int)) {
	s := c.scope
	needs := map[string]*need{} // by variable
	keys := map[string]keyNeed{}
	told := map[string]bool{}
	for _, rd := range analyseGuards(s, checked.NativeRep().Expr()) {
		v := rd.v
		tell := func(format string, args ...any) {
			if !told[v.name] {
				told[v.name] = true
				line, column := at(rd.id)
				c.fail(line, column, format, args...)
			}
		}
		if v.conflict != "" {
			root, _, _ := strings.Cut(v.name, ".")
			tell("%q is %s; restrict on.%ss to one of them", v.name, v.conflict, root)
			continue
		}
		if v.slot == slotNow {
			made.readsNow = true
			continue
		}
		switch v.name {
		case "subject.id":
			made.readsSubjectID = true
		case "resource.id":
			made.readsResourceID = true
		case "resource.type":
			made.readsResourceType = true
		}
		if v.presence == "" {
			continue
		}
		if rd.isEntry {
			if !rd.guarded && !rd.test {
				name := v.name + "." + rd.key
				keys[name] = keyNeed{slot: v.slot, entry: c.scopes.table.entrySlot(v.slot, rd.key), name: name}
			}
			continue // its variable is a read of its own
		}
		if !rd.test && !rd.guarded && v.optional {
			tell("%q is optional, so it may be absent here; ask has(%s) first, or declare it required or with a default", v.name, v.name)
			continue
		}
		if v.decls == nil && v.typ.Kind() != types.MapKind && v.typ.Kind() != types.ListKind {
			v = s.vars[v.presence+".id"] // any member is there where the entity is
		}
		n := needs[v.name]
		if n == nil {
			n = &need{slot: v.slot}
			needs[v.name] = n
		}
		n.must = n.must || !rd.test && !rd.guarded
	}
	for _, name := range sortedKeys(needs) {
		made.needs = append(made.needs, *needs[name])
		if v := s.vars[name]; v.decls != nil {
			made.slots = append(made.slots, v.slot)
		}
	}
	slices.Sort(made.slots)
	for _, name := range sortedKeys(keys) {
		made.keys = append(made.keys, keys[name])
	}
}

// wordBefore gives the word that ends before loc.
func wordBefore(text string, loc common.Location) string {
	lines := strings.Split(text, "\n")
	if loc.Line() < 1 || loc.Line() > len(lines) {
		return ""
	}
	line := []rune(lines[loc.Line()-1])
	words := strings.Fields(string(line[:min(max(loc.Column(), 0), len(line))]))
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// truncated gives now as a rule with a granularity sees it, and when it next changes.
func truncated(now authz.Instant, granularity time.Duration) (seen, until authz.Instant) {
	g := authz.Instant(granularity)
	over := now % g
	if over < 0 {
		over += g
	}
	seen = now - over
	return seen, seen.Add(granularity)
}

func nameSet(names []string) map[string]bool {
	if len(names) == 0 {
		return nil
	}
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
