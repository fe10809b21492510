package rules

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"

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

// Bounds of what a trace tells.
const (
	maxDetails    = 16
	maxDetailText = 48 // characters of one value
)

// Explain is Evaluate with what each candidate did, in the order of the rules' ids. It is
// slow: the first explanation of a rule compiles it once more, with its state tracked.
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
	result := s.runOne(r)
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
	t.Detail = s.details(r, result)
	return t
}

// runOne is run, with a panic for an error.
func (s *scratch) runOne(r *rule) (result outcome) {
	defer func() {
		if v := recover(); v != nil {
			s.panicked(r, v)
			result = isFailed
		}
	}()
	return s.run(r)
}

// explainer is a rule compiled so that it tells the value of every part.
type explainer struct {
	root    ast.Expr
	program cel.Program
}

func newExplainer(r *rule) *explainer {
	checked, issues := r.scope.env.Compile(strings.TrimRight(r.source.When, " \t\r\n"))
	if issues.Err() != nil {
		return nil // it has compiled before: this is no reason to fail an explanation
	}
	program, err := r.scope.env.Program(checked, cel.EvalOptions(cel.OptTrackState), cel.CostLimit(MaxRuleCost))
	if err != nil {
		return nil
	}
	return &explainer{root: checked.NativeRep().Expr(), program: program}
}

// details tells the comparisons that r made: where it is false those that were false, for
// they are why, and else all of them.
func (s *scratch) details(r *rule, result outcome) (details []string) {
	defer func() {
		if recover() != nil { // as in runOne, which has told of it
			details = nil
		}
	}()
	if r.explainer.Load() == nil {
		r.explainer.CompareAndSwap(nil, newExplainer(r))
	}
	x := r.explainer.Load()
	if x == nil {
		return nil
	}
	_, tracked, _ := x.program.Eval(s)
	if tracked == nil || tracked.State() == nil {
		return nil
	}
	d := detailer{state: tracked.State(), table: s.set.table, scratch: s}
	d.walk(x.root)
	if result == isFalse && len(d.wrong) > 0 {
		return d.wrong
	}
	return d.all
}

// detailer collects the comparisons of an evaluation.
type detailer struct {
	state      interpreter.EvalState
	table      *slotTable
	scratch    *scratch
	all, wrong []string
}

func (d *detailer) add(e ast.Expr, line string) {
	if len(d.all) < maxDetails {
		d.all = append(d.all, line)
	}
	if v, ok := d.state.Value(e.ID()); ok && v == types.False && len(d.wrong) < maxDetails {
		d.wrong = append(d.wrong, line)
	}
}

func (d *detailer) walk(e ast.Expr) {
	if _, evaluated := d.state.Value(e.ID()); !evaluated && e.Kind() != ast.IdentKind {
		return // short-circuited
	}
	if name, ok := presence(e); ok {
		v, _ := d.scratch.ResolveName(e.AsIdent())
		line := shortName(name) + " is there"
		if v == types.False {
			line = shortName(name) + " is absent"
		}
		if len(d.all) < maxDetails {
			d.all = append(d.all, line)
		}
		if v == types.False && len(d.wrong) < maxDetails {
			d.wrong = append(d.wrong, line)
		}
		return
	}
	switch e.Kind() {
	case ast.IdentKind, ast.SelectKind:
		if name, ok := d.named(e); ok {
			if v, found := d.value(e); found {
				if _, isBool := v.(types.Bool); isBool {
					d.add(e, name+" "+showValue(v))
				}
			}
		}
	case ast.ComprehensionKind:
		if v, ok := d.state.Value(e.ID()); ok {
			name, named := d.named(e.AsComprehension().IterRange())
			if !named {
				name = "a list"
			}
			d.add(e, "over "+name+": "+showValue(v))
		}
	case ast.CallKind:
		d.call(e)
	}
}

// comparisonSigns are the calls that are told as "left sign right".
var comparisonSigns = map[string]bool{
	operators.Equals: true, operators.NotEquals: true, operators.Less: true, operators.LessEquals: true,
	operators.Greater: true, operators.GreaterEquals: true, operators.In: true,
}

func (d *detailer) call(e ast.Expr) {
	c := e.AsCall()
	name, args := c.FunctionName(), c.Args()
	switch {
	case name == operators.LogicalAnd, name == operators.LogicalOr, name == operators.LogicalNot, name == operators.Conditional:
		for _, arg := range args {
			d.walk(arg)
		}
	case comparisonSigns[name]:
		d.add(e, d.operand(args[0])+" "+operatorSigns[name]+" "+d.operand(args[1]))
	case c.IsMemberFunction() && len(args) == 1 && (name == overloads.StartsWith || name == overloads.EndsWith || name == overloads.Contains || name == overloads.Matches):
		d.add(e, d.operand(c.Target())+" "+name+" "+d.operand(args[0]))
	default:
		if v, ok := d.state.Value(e.ID()); ok {
			parts := make([]string, len(args))
			for i, arg := range args {
				parts[i] = d.operand(arg)
			}
			call := name + "(" + strings.Join(parts, ", ") + ")"
			if c.IsMemberFunction() && d.isValue(c.Target()) {
				call = d.operand(c.Target()) + " " + call
			}
			d.add(e, call+": "+showValue(v))
		}
	}
}

// isValue says whether e is evaluated, rather than the first part of a function's name.
func (d *detailer) isValue(e ast.Expr) bool {
	_, ok := d.value(e)
	return ok
}

// operand tells one side of a comparison: its name and value, or its value alone. A list
// of the bundle is told by its name.
func (d *detailer) operand(e ast.Expr) string {
	v, known := d.value(e)
	name, named := d.named(e)
	if named && strings.HasPrefix(name, rootLists+".") {
		return name
	}
	switch {
	case named && known:
		return name + " " + showValue(v)
	case named:
		return name
	case known:
		return showValue(v)
	}
	return "?"
}

func (d *detailer) value(e ast.Expr) (ref.Val, bool) {
	if e.Kind() == ast.LiteralKind {
		return e.AsLiteral(), true
	}
	if v, ok := d.state.Value(e.ID()); ok {
		return v, true
	}
	if e.Kind() == ast.ListKind { // constant lists are folded away
		list := make([]ref.Val, 0, len(e.AsList().Elements()))
		for _, elem := range e.AsList().Elements() {
			v, ok := d.value(elem)
			if !ok {
				return nil, false
			}
			list = append(list, v)
		}
		return types.NewRefValList(types.DefaultTypeAdapter, list), true
	}
	return nil, false
}

// named gives the name of what e reads.
func (d *detailer) named(e ast.Expr) (string, bool) {
	path := pathOf(e)
	if path == nil {
		return "", false
	}
	return shortName(strings.Join(path, ".")), true
}

// shortName leaves "resource." out: most of what rules compare is of the resource.
func shortName(name string) string {
	if short, ok := strings.CutPrefix(name, rootResource+"."); ok && short != "id" && short != "type" {
		return short
	}
	return name
}

// showValue writes a value as a rule would.
func showValue(v ref.Val) string {
	switch v := v.(type) {
	case types.String:
		return showText(string(v))
	case types.Bool:
		return strconv.FormatBool(bool(v))
	case types.Int:
		return strconv.FormatInt(int64(v), 10)
	case types.Double:
		return strconv.FormatFloat(float64(v), 'f', -1, 64)
	case types.Timestamp:
		return v.UTC().Format(time.RFC3339Nano)
	case types.Duration:
		return v.Duration.String()
	case *types.Err:
		return "error"
	case *types.Optional:
		if !v.HasValue() {
			return "none"
		}
		return showValue(v.GetValue())
	case traits.Mapper:
		return "a map of " + strconv.FormatInt(int64(v.Size().(types.Int)), 10)
	case traits.Lister:
		n := int(v.Size().(types.Int))
		var b strings.Builder
		b.WriteByte('[')
		for i := range n {
			if i > 0 {
				b.WriteString(", ")
			}
			if b.Len() > maxDetailText {
				b.WriteString("...")
				break
			}
			b.WriteString(showValue(v.Get(types.Int(i))))
		}
		b.WriteByte(']')
		return b.String()
	}
	return v.Type().TypeName()
}

func showText(s string) string {
	if r := []rune(s); len(r) > maxDetailText {
		return strconv.Quote(string(r[:maxDetailText])) + "..."
	}
	return strconv.Quote(s)
}
