package rules

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// A condition that is a conjunction with `x == "a"` or `x in ["a", "b"]` among its operands
// is false wherever x is something else, whatever the other operands are: false && error is
// false. So rules that many requests share, but that each ask for a value of their own, need
// not be evaluated to be known to be false: a look-up of x gives those that may be true.
//
// A value that is missing or wrong must still be told of, by every rule that reads it. So
// rules that are looked up together need the same values, and are looked up only where all
// of these are there. A rule then comes to true or false: it is one that a closure runs, which
// has no errors but of what is not there, and what need not be there has a guard. Hence a
// rule whose x is not there is false.

// The sizes of what is looked up by value.
const (
	minIndexed       = 4  // rules that a look-up must save from evaluation, at the least
	maxIndexedValues = 16 // of one operand
)

// equality is an operand that is false unless the slot has one of the values.
type equality struct {
	slot   int
	values []constant // distinct
}

// constant is a text or a number: an equality has one sort.
type constant struct {
	text   string
	number float64
}

// equalities gives the operands of the condition by which its rule can be looked up.
func (c *closures) equalities() (found []equality) {
	for _, e := range flattened(c.checked.Expr(), operators.LogicalAnd) {
		if e.Kind() != ast.CallKind {
			continue
		}
		var q equality
		var ok bool
		switch args := e.AsCall().Args(); e.AsCall().FunctionName() {
		case operators.Equals:
			if q, ok = c.equality(args[0], args[1:], nil); !ok {
				q, ok = c.equality(args[1], args[:1], nil)
			}
		case operators.In:
			if list := c.constant(args[1]); list != nil {
				q, ok = c.equality(args[0], nil, list)
			} else if args[1].Kind() == ast.ListKind && len(args[1].AsList().OptionalIndices()) == 0 {
				q, ok = c.equality(args[0], args[1].AsList().Elements(), nil)
			}
		}
		if ok {
			found = append(found, q)
		}
	}
	return found
}

// equality makes one of an operand that compares of with literals, or with a list of the
// bundle. The type check has seen to it that they are of one sort.
func (c *closures) equality(of ast.Expr, literals []ast.Expr, list *constantList) (q equality, ok bool) {
	slot, isText := c.textSlot(of)
	if !isText {
		v := c.variable(of)
		if v == nil || v.typ.Kind() != types.IntKind && v.typ.Kind() != types.DoubleKind {
			return q, false
		}
		slot = v.slot
	}
	if list != nil && len(list.strings)+len(list.numbers) > maxIndexedValues {
		return q, false
	}
	values := map[constant]bool{}
	for _, literal := range literals {
		text, ok1 := textLiteral(literal)
		number, ok2 := numberLiteral(literal)
		if !ok1 && !ok2 {
			return q, false
		}
		values[constant{text, number}] = true
	}
	if list != nil {
		for text := range list.strings {
			values[constant{text: text}] = true
		}
		for number := range list.numbers {
			values[constant{number: number}] = true
		}
	}
	q = equality{slot: slot, values: slices.Collect(maps.Keys(values))}
	return q, len(q.values) <= maxIndexedValues
}

// flattened gives the operands of a run of && or of ||, in their order.
func flattened(e ast.Expr, function string) []ast.Expr {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != function {
		return []ast.Expr{e}
	}
	args := e.AsCall().Args()
	return append(flattened(args[0], function), flattened(args[1], function)...)
}

// valueIndex looks rules up by the value of a slot. All of them need the same values.
type valueIndex struct {
	slot  int
	rules []*rule // all, sorted by id
	by    map[constant][]*rule
}

// index takes those rules of g that can be looked up out of those that are always evaluated.
// A rule is looked up by the slot of which rules ask for the most values.
func (g *group) index() {
	type asked struct {
		slot  int
		value constant
	}
	seen, values := map[asked]bool{}, map[int]int{}
	for _, r := range g.rules {
		for _, q := range r.equalities {
			for _, v := range q.values {
				if a := (asked{q.slot, v}); !seen[a] {
					seen[a] = true
					values[q.slot]++
				}
			}
		}
	}
	best := func(r *rule) equality {
		return slices.MaxFunc(r.equalities, func(a, b equality) int { return cmp.Compare(values[a.slot], values[b.slot]) })
	}
	indexes := map[string]*valueIndex{}
	of := make([]*valueIndex, len(g.rules))
	for i, r := range g.rules {
		if len(r.equalities) == 0 {
			continue
		}
		slot := best(r).slot
		alike := fmt.Sprint(slot, r.needs, r.keys)
		if indexes[alike] == nil {
			indexes[alike] = &valueIndex{slot: slot, by: map[constant][]*rule{}}
		}
		of[i] = indexes[alike]
		of[i].rules = append(of[i].rules, r)
	}
	for i, r := range g.rules {
		x := of[i]
		if x == nil || len(x.rules) < minIndexed {
			g.always = append(g.always, r)
			continue
		}
		if x.rules[0] == r {
			g.indexes = append(g.indexes, x)
		}
		for _, v := range best(r).values {
			x.by[v] = append(x.by[v], r)
		}
	}
}

// candidates gives the rules of x that may be true, or all where they lack something. A
// panic is theirs to tell: all are run, each by itself.
func (s *scratch) candidates(x *valueIndex) (some []*rule) {
	defer func() {
		if recover() != nil {
			some = x.rules
		}
	}()
	if _, lacks := s.lack(x.rules[0]); lacks {
		return x.rules
	}
	switch sl := s.at(x.slot); {
	case sl.state != slotOK:
		return nil // they have guards, which make them false
	case sl.typ == TypeString:
		return x.by[constant{text: sl.text}]
	default:
		return x.by[constant{number: sl.num}]
	}
}
