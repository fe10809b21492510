package rules

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// A guard is what has() finds out. A read is guarded where the expression around it can
// only matter when the value is there: the other conjuncts of && are true, the other
// disjuncts of || are false, the condition of ?: has come out this way. CEL evaluates &&
// and || so that the order of their operands does not matter, hence a guard may stand on
// either side of what it guards.
//
// That holds because of how CEL absorbs errors: where x is absent, an expression that
// implies x when it is true is false itself, so a conjunction with it is false whatever
// its other operands do.

// facts are the things known to be there: what has() asks for (see variable.presence), and
// entries of maps.
type facts map[fact]bool

// fact is a presence, or an entry of a variable that is a map.
type fact struct {
	name  string // of a presence where entry is false, of a variable otherwise
	key   string
	entry bool
}

func (f facts) with(more facts) facts {
	if len(more) == 0 {
		return f
	}
	all := make(facts, len(f)+len(more))
	for k := range f {
		all[k] = true
	}
	for k := range more {
		all[k] = true
	}
	return all
}

func (f facts) and(other facts) facts {
	both := facts{}
	for k := range f {
		if other[k] {
			both[k] = true
		}
	}
	return both
}

// read is one place where an expression reads a variable or an entry of one.
type read struct {
	id      int64 // of the node
	v       *variable
	key     string // with isEntry
	isEntry bool
	test    bool // has(): it asks only
	guarded bool
}

// guardAnalysis lists what an expression reads and whether a guard stands before it.
type guardAnalysis struct {
	scope  *scope
	locals []string
	reads  []read
}

func analyseGuards(s *scope, e ast.Expr) []read {
	g := &guardAnalysis{scope: s}
	g.walk(e, facts{})
	return g.reads
}

// variable gives the variable that e names, or nil. has() variables give what they ask for.
func (g *guardAnalysis) variable(e ast.Expr) *variable {
	path := pathOf(e)
	switch {
	case path == nil, g.isLocal(path[0]):
		return nil
	case len(path) == 1:
		return g.scope.vars[path[0]]
	case len(path) == 2:
		return g.scope.vars[path[0]+"."+path[1]]
	}
	return nil
}

func (g *guardAnalysis) isLocal(name string) bool {
	for _, l := range g.locals {
		if l == name {
			return true
		}
	}
	return false
}

// presence gives what a has() variable asks for.
func presence(e ast.Expr) (string, bool) {
	if e.Kind() != ast.IdentKind || len(e.AsIdent()) <= len(presencePrefix) || e.AsIdent()[:len(presencePrefix)] != presencePrefix {
		return "", false
	}
	return e.AsIdent()[len(presencePrefix):], true
}

// outcome gives the facts that e implies when it is true, and when it is false.
func (g *guardAnalysis) outcome(e ast.Expr) (whenTrue, whenFalse facts) {
	if name, ok := presence(e); ok {
		return facts{{name: name}: true}, nil
	}
	switch e.Kind() {
	case ast.SelectKind:
		if s := e.AsSelect(); s.IsTestOnly() {
			if v := g.variable(s.Operand()); v != nil {
				return facts{{name: v.name, key: s.FieldName(), entry: true}: true}, nil
			}
		}
	case ast.CallKind:
		c := e.AsCall()
		args := c.Args()
		switch c.FunctionName() {
		case operators.LogicalNot:
			whenTrue, whenFalse = g.outcome(args[0])
			return whenFalse, whenTrue
		case operators.LogicalAnd, operators.LogicalOr:
			t1, f1 := g.outcome(args[0])
			t2, f2 := g.outcome(args[1])
			if c.FunctionName() == operators.LogicalAnd {
				return t1.with(t2), f1.and(f2)
			}
			return t1.and(t2), f1.with(f2)
		case operators.Conditional:
			tc, fc := g.outcome(args[0])
			t1, f1 := g.outcome(args[1])
			t2, f2 := g.outcome(args[2])
			return tc.with(t1).and(fc.with(t2)), tc.with(f1).and(fc.with(f2))
		case operators.In:
			if v := g.variable(args[1]); v != nil && args[0].Kind() == ast.LiteralKind {
				if key, ok := args[0].AsLiteral().(types.String); ok {
					return facts{{name: v.name, key: string(key), entry: true}: true}, nil
				}
			}
		}
	}
	return nil, nil
}

func (g *guardAnalysis) walk(e ast.Expr, known facts) {
	if name, ok := presence(e); ok {
		g.ask(e, name)
		return
	}
	if v := g.variable(e); v != nil {
		g.read(e, v, known)
		return
	}
	switch e.Kind() {
	case ast.SelectKind:
		s := e.AsSelect()
		g.entry(e, s.Operand(), s.FieldName(), s.IsTestOnly(), known)
	case ast.CallKind:
		g.call(e, known)
	case ast.ListKind:
		for _, elem := range e.AsList().Elements() {
			g.walk(elem, known)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			g.walk(entry.AsMapEntry().Key(), known)
			g.walk(entry.AsMapEntry().Value(), known)
		}
	case ast.ComprehensionKind:
		f := e.AsComprehension()
		g.walk(f.IterRange(), known)
		outer := len(g.locals)
		g.locals = append(g.locals, f.IterVar(), f.AccuVar())
		for _, part := range []ast.Expr{f.AccuInit(), f.LoopCondition(), f.LoopStep(), f.Result()} {
			g.walk(part, known)
		}
		g.locals = g.locals[:outer]
	}
}

func (g *guardAnalysis) call(e ast.Expr, known facts) {
	if operand, key, ok := entryOf(e); ok {
		g.entry(e, operand, key, false, known)
		return
	}
	c := e.AsCall()
	args := c.Args()
	switch c.FunctionName() {
	case operators.LogicalAnd, operators.LogicalOr:
		g.operands(e, known)
		return
	case operators.Conditional:
		whenTrue, whenFalse := g.outcome(args[0])
		g.walk(args[0], known)
		g.walk(args[1], known.with(whenTrue))
		g.walk(args[2], known.with(whenFalse))
		return
	}
	if c.IsMemberFunction() {
		g.walk(c.Target(), known)
	}
	for _, arg := range args {
		g.walk(arg, known)
	}
}

// operands walks the operands of a run of && or of ||, each knowing what all the others
// imply when they do not settle the matter.
func (g *guardAnalysis) operands(e ast.Expr, known facts) {
	function := e.AsCall().FunctionName()
	list := flattened(e, function)
	implied := make([]facts, len(list))
	count := map[fact]int{} // by how many operands a fact is implied
	for i, operand := range list {
		whenTrue, whenFalse := g.outcome(operand)
		implied[i] = whenTrue
		if function == operators.LogicalOr {
			implied[i] = whenFalse
		}
		for f := range implied[i] {
			count[f]++
		}
	}
	for i, operand := range list {
		others := make(facts, len(count))
		for f, n := range count {
			if n > 1 || !implied[i][f] {
				others[f] = true
			}
		}
		g.walk(operand, known.with(others))
	}
}

// ask notes a has(): of an attribute, or of an entity, for which its id stands.
func (g *guardAnalysis) ask(e ast.Expr, name string) {
	v := g.scope.vars[name]
	if v == nil {
		v = g.scope.vars[name+".id"]
	}
	if v != nil {
		g.reads = append(g.reads, read{id: e.ID(), v: v, test: true})
	}
}

func (g *guardAnalysis) read(e ast.Expr, v *variable, known facts) {
	g.reads = append(g.reads, read{
		id: e.ID(), v: v,
		guarded: v.presence == "" || known[fact{name: v.presence}],
	})
}

// entry walks operand.key, which may be an entry of a variable.
func (g *guardAnalysis) entry(e, operand ast.Expr, key string, test bool, known facts) {
	g.walk(operand, known)
	v := g.variable(operand)
	if v == nil {
		return
	}
	g.reads = append(g.reads, read{
		id: e.ID(), v: v, key: key, isEntry: true, test: test,
		guarded: known[fact{name: v.name, key: key, entry: true}],
	})
}
