package rules

import (
	"math"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// Most conditions compare members with constants. For those CEL's interpreter spends its
// time on names, boxes and frames; a closure over the slots does the same in a fraction.
// CEL still parses and checks every rule, and runs those that use more than this subset.
// A differential test holds the two against each other.
//
// Closures allocate nothing, take no lock and read nothing but the scratch.

// truth is what a condition comes to. An error is a value so that && and || can absorb it
// as CEL does.
type truth uint8

const (
	no truth = iota
	yes
	unknown // an error; CEL is asked again for what it was
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

type (
	condition func(*scratch) truth
	textOf    func(*scratch) (string, bool)
	numberOf  func(*scratch) (float64, bool)
)

// closures compiles the subset. A method gives nil for what is outside of it.
type closures struct {
	scope   *scope
	table   *slotTable
	checked *ast.AST
}

// closureFor gives the condition as a closure, or nil where CEL must run it.
func closureFor(s *scope, table *slotTable, checked *cel.Ast) condition {
	return closuresFor(s, table, checked).condition(checked.NativeRep().Expr())
}

func closuresFor(s *scope, table *slotTable, checked *cel.Ast) *closures {
	return &closures{scope: s, table: table, checked: checked.NativeRep()}
}

func (c *closures) variable(e ast.Expr) *variable {
	path := pathOf(e)
	if len(path) < 1 || len(path) > 2 {
		return nil
	}
	v := c.scope.vars[strings.Join(path, ".")]
	if v == nil || v.slot == slotNow || v.list != nil {
		return nil
	}
	return v
}

func (c *closures) kind(e ast.Expr) types.Kind { return c.checked.GetType(e.ID()).Kind() }

func (c *closures) condition(e ast.Expr) condition {
	if name, ok := presence(e); ok {
		return c.present(name)
	}
	switch e.Kind() {
	case ast.LiteralKind:
		if b, ok := e.AsLiteral().(types.Bool); ok {
			result := truthOf(bool(b))
			return func(*scratch) truth { return result }
		}
	case ast.IdentKind:
		return c.member(e)
	case ast.SelectKind:
		if s := e.AsSelect(); s.IsTestOnly() {
			return c.hasEntry(s.Operand(), s.FieldName())
		}
		return c.member(e)
	case ast.CallKind:
		return c.call(e)
	}
	return nil
}

func (c *closures) present(name string) condition {
	v := c.scope.vars[name]
	if v == nil {
		v = c.scope.vars[name+".id"]
	}
	if v == nil {
		return nil
	}
	slot := v.slot
	return func(s *scratch) truth { return truthOf(s.at(slot).state == slotOK) }
}

// member is a bool by itself.
func (c *closures) member(e ast.Expr) condition {
	v := c.variable(e)
	if v == nil || v.typ.Kind() != types.BoolKind {
		return nil
	}
	slot := v.slot
	return func(s *scratch) truth {
		sl := s.at(slot)
		if sl.state != slotOK {
			return unknown
		}
		return truth(sl.whole)
	}
}

func (c *closures) hasEntry(operand ast.Expr, key string) condition {
	v := c.variable(operand)
	if v == nil || v.typ.Kind() != types.MapKind {
		return nil
	}
	slot, entry := v.slot, c.table.entrySlot(v.slot, key)
	return func(s *scratch) truth {
		return decided(s.at(entry).state == slotOK, s.at(slot).state == slotOK)
	}
}

func (c *closures) call(e ast.Expr) condition {
	call := e.AsCall()
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		return c.junction(e, name)
	case operators.LogicalNot:
		of := c.condition(args[0])
		if of == nil {
			return nil
		}
		return func(s *scratch) truth {
			switch of(s) {
			case yes:
				return no
			case no:
				return yes
			}
			return unknown
		}
	case operators.Conditional:
		test, then, otherwise := c.condition(args[0]), c.condition(args[1]), c.condition(args[2])
		if test == nil || then == nil || otherwise == nil {
			return nil
		}
		return func(s *scratch) truth {
			switch test(s) {
			case yes:
				return then(s)
			case no:
				return otherwise(s)
			}
			return unknown
		}
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return c.comparison(name, args[0], args[1])
	case operators.In:
		return c.membership(args[0], args[1])
	case overloads.StartsWith, overloads.EndsWith, overloads.Contains, overloads.Matches:
		if call.IsMemberFunction() && len(args) == 1 {
			return c.textTest(name, call.Target(), args[0])
		}
	}
	return nil
}

// junction flattens a run of && or of ||. The value that settles it returns at once; an
// error is remembered, for a later operand may settle it.
func (c *closures) junction(e ast.Expr, function string) condition {
	var operands []condition
	for _, e := range flattened(e, function) {
		operand := c.condition(e)
		if operand == nil {
			return nil
		}
		operands = append(operands, operand)
	}
	settles, otherwise := no, yes
	if function == operators.LogicalOr {
		settles, otherwise = yes, no
	}
	return func(s *scratch) truth {
		result := otherwise
		for _, operand := range operands {
			switch operand(s) {
			case settles:
				return settles
			case unknown:
				result = unknown
			}
		}
		return result
	}
}

func (c *closures) comparison(op string, left, right ast.Expr) condition {
	switch kind := c.kind(left); kind {
	case types.IntKind, types.DoubleKind:
		return c.compareNumbers(op, left, right)
	case types.StringKind:
		return c.compareTexts(op, left, right)
	case types.BoolKind:
		if op != operators.Equals && op != operators.NotEquals {
			return nil
		}
		l, r := c.condition(left), c.condition(right)
		if l == nil || r == nil {
			return nil
		}
		same := op == operators.Equals
		return func(s *scratch) truth {
			a, b := l(s), r(s)
			if a == unknown || b == unknown {
				return unknown
			}
			return truthOf((a == b) == same)
		}
	}
	return nil
}

// compareNumbers compares as float64, which is exact: ints of requests and of posture are
// within 2^53, and other literals are left to CEL.
func (c *closures) compareNumbers(op string, left, right ast.Expr) condition {
	if v := c.variable(left); v != nil {
		if n, ok := numberLiteral(right); ok {
			return compareSlot(op, v.slot, n)
		}
	}
	l, r := c.number(left), c.number(right)
	if l == nil || r == nil {
		return nil
	}
	test := orderTest[float64](op)
	return func(s *scratch) truth {
		a, ok1 := l(s)
		b, ok2 := r(s)
		if !ok1 || !ok2 {
			return unknown
		}
		return truthOf(test(a, b))
	}
}

// compareSlot compares a number or int with a constant.
func compareSlot(op string, slot int, n float64) condition {
	at := func(s *scratch) (float64, bool) {
		sl := s.at(slot)
		return sl.num, sl.state == slotOK
	}
	switch op {
	case operators.Equals:
		return func(s *scratch) truth { v, ok := at(s); return decided(v == n, ok) }
	case operators.NotEquals:
		return func(s *scratch) truth { v, ok := at(s); return decided(v != n, ok) }
	case operators.Less:
		return func(s *scratch) truth { v, ok := at(s); return decided(v < n, ok) }
	case operators.LessEquals:
		return func(s *scratch) truth { v, ok := at(s); return decided(v <= n, ok) }
	case operators.Greater:
		return func(s *scratch) truth { v, ok := at(s); return decided(v > n, ok) }
	}
	return func(s *scratch) truth { v, ok := at(s); return decided(v >= n, ok) }
}

func decided(result, ok bool) truth {
	switch {
	case !ok:
		return unknown
	case result:
		return yes
	}
	return no
}

func orderTest[T float64 | string](op string) func(a, b T) bool {
	switch op {
	case operators.Equals:
		return func(a, b T) bool { return a == b }
	case operators.NotEquals:
		return func(a, b T) bool { return a != b }
	case operators.Less:
		return func(a, b T) bool { return a < b }
	case operators.LessEquals:
		return func(a, b T) bool { return a <= b }
	case operators.Greater:
		return func(a, b T) bool { return a > b }
	}
	return func(a, b T) bool { return a >= b }
}

func numberLiteral(e ast.Expr) (float64, bool) {
	if e.Kind() != ast.LiteralKind {
		return 0, false
	}
	switch n := e.AsLiteral().(type) {
	case types.Int:
		return float64(n), n >= -maxExact && n <= maxExact
	case types.Double:
		return float64(n), !math.IsNaN(float64(n))
	}
	return 0, false
}

func (c *closures) number(e ast.Expr) numberOf {
	if n, ok := numberLiteral(e); ok {
		return func(*scratch) (float64, bool) { return n, true }
	}
	v := c.variable(e)
	if v == nil || v.typ.Kind() != types.IntKind && v.typ.Kind() != types.DoubleKind {
		return nil
	}
	slot := v.slot
	return func(s *scratch) (float64, bool) {
		sl := s.at(slot)
		return sl.num, sl.state == slotOK
	}
}
