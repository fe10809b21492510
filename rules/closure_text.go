package rules

import (
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

func (c *closures) compareTexts(op string, left, right ast.Expr) condition {
	l, r := c.text(left), c.text(right)
	if l == nil || r == nil {
		return nil
	}
	if constant, ok := textLiteral(right); ok && (op == operators.Equals || op == operators.NotEquals) {
		same := op == operators.Equals
		if slot, ok := c.textSlot(left); ok {
			return func(s *scratch) truth {
				sl := s.at(slot)
				return decided((sl.text == constant) == same, sl.state == slotOK)
			}
		}
		return func(s *scratch) truth {
			a, ok := l(s)
			return decided((a == constant) == same, ok)
		}
	}
	test := orderTest[string](op)
	return func(s *scratch) truth {
		a, ok1 := l(s)
		b, ok2 := r(s)
		if !ok1 || !ok2 {
			return unknown
		}
		return truthOf(test(a, b))
	}
}

func textLiteral(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	t, ok := e.AsLiteral().(types.String)
	return string(t), ok
}

// text is a string: a literal, a member, an entry of a map of strings, or such an entry
// asked for with .? and a fallback.
func (c *closures) text(e ast.Expr) textOf {
	if t, ok := textLiteral(e); ok {
		return func(*scratch) (string, bool) { return t, true }
	}
	if slot, ok := c.textSlot(e); ok {
		return func(s *scratch) (string, bool) {
			sl := s.at(slot)
			return sl.text, sl.state == slotOK
		}
	}
	return c.entryOr(e)
}

// textSlot gives the slot of a member, or of an entry of a map, that is a string.
func (c *closures) textSlot(e ast.Expr) (int, bool) {
	if v := c.variable(e); v != nil {
		return v.slot, v.typ.Kind() == types.StringKind
	}
	operand, key, ok := entryOf(e)
	if !ok {
		return 0, false
	}
	v := c.variable(operand)
	if v == nil || v.typ.Kind() != types.MapKind || v.typ.Parameters()[1].Kind() != types.StringKind {
		return 0, false
	}
	return c.table.entrySlot(v.slot, key), true
}

// entryOr is map.?key.orValue("text").
func (c *closures) entryOr(e ast.Expr) textOf {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "orValue" || !e.AsCall().IsMemberFunction() {
		return nil
	}
	fallback, ok := textLiteral(e.AsCall().Args()[0])
	target := e.AsCall().Target()
	if !ok || target.Kind() != ast.CallKind || target.AsCall().FunctionName() != operators.OptSelect {
		return nil
	}
	operand := target.AsCall().Args()[0]
	key, ok := textLiteral(target.AsCall().Args()[1])
	v := c.variable(operand)
	if !ok || v == nil || v.typ.Kind() != types.MapKind || v.typ.Parameters()[1].Kind() != types.StringKind {
		return nil
	}
	slot, entry := v.slot, c.table.entrySlot(v.slot, key)
	return func(s *scratch) (string, bool) {
		if s.at(slot).state != slotOK {
			return "", false
		}
		if sl := s.at(entry); sl.state == slotOK {
			return sl.text, true
		}
		return fallback, true
	}
}

func (c *closures) textTest(name string, target, arg ast.Expr) condition {
	of := c.text(target)
	if of == nil {
		return nil
	}
	if name == overloads.Matches {
		pattern, ok := textLiteral(arg)
		if !ok {
			return nil
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil
		}
		return func(s *scratch) truth {
			t, ok := of(s)
			if !ok {
				return unknown
			}
			return truthOf(re.MatchString(t))
		}
	}
	part := c.text(arg)
	if part == nil {
		return nil
	}
	test := strings.Contains
	switch name {
	case overloads.StartsWith:
		test = strings.HasPrefix
	case overloads.EndsWith:
		test = strings.HasSuffix
	}
	return func(s *scratch) truth {
		a, ok1 := of(s)
		b, ok2 := part(s)
		if !ok1 || !ok2 {
			return unknown
		}
		return truthOf(test(a, b))
	}
}

func (c *closures) membership(elem, in ast.Expr) condition {
	if list := c.constant(in); list != nil {
		return c.inConstant(elem, list)
	}
	if in.Kind() == ast.ListKind {
		return c.inLiteral(elem, in.AsList())
	}
	v := c.variable(in)
	of := c.textOperand(elem)
	if v == nil || of == nil {
		return nil
	}
	slot := v.slot
	switch {
	case v.typ.Kind() == types.MapKind:
		return func(s *scratch) truth {
			key, ok := of(s)
			sl := s.at(slot)
			if !ok || sl.state != slotOK {
				return unknown
			}
			return truthOf(sl.hasEntry(key))
		}
	case v.typ.Kind() == types.ListKind && v.typ.Parameters()[0].Kind() == types.StringKind:
		return func(s *scratch) truth {
			t, ok := of(s)
			sl := s.at(slot)
			if !ok || sl.state != slotOK {
				return unknown
			}
			if sl.of != nil {
				return truthOf(slices.Contains(sl.of.Scopes, t))
			}
			for i := range sl.raw.Members {
				if sl.raw.Members[i].Value.Str == t {
					return yes
				}
			}
			return no
		}
	}
	return nil
}

// constant gives the list of the bundle that e names, or nil.
func (c *closures) constant(e ast.Expr) *constantList {
	if v := c.scope.vars[strings.Join(pathOf(e), ".")]; v != nil {
		return v.list
	}
	return nil
}

// textOperand is text for what is a string.
func (c *closures) textOperand(e ast.Expr) textOf {
	if c.kind(e) != types.StringKind {
		return nil
	}
	return c.text(e)
}

func (c *closures) inConstant(elem ast.Expr, list *constantList) condition {
	if of := c.textOperand(elem); of != nil {
		return func(s *scratch) truth {
			t, ok := of(s)
			if !ok {
				return unknown
			}
			_, found := list.strings[t]
			return truthOf(found)
		}
	}
	of := c.number(elem)
	if of == nil {
		return nil
	}
	return func(s *scratch) truth {
		n, ok := of(s)
		if !ok {
			return unknown
		}
		_, found := list.numbers[n]
		return truthOf(found)
	}
}

// inLiteral compares one by one: literal lists are short.
func (c *closures) inLiteral(elem ast.Expr, list ast.ListExpr) condition {
	if len(list.OptionalIndices()) > 0 {
		return nil
	}
	if of := c.textOperand(elem); of != nil {
		var texts []string
		for _, e := range list.Elements() {
			t, ok := textLiteral(e)
			if !ok {
				return nil
			}
			texts = append(texts, t)
		}
		return func(s *scratch) truth {
			t, ok := of(s)
			return decided(ok && slices.Contains(texts, t), ok)
		}
	}
	of := c.number(elem)
	if of == nil {
		return nil
	}
	var numbers []float64
	for _, e := range list.Elements() {
		n, ok := numberLiteral(e)
		if !ok {
			return nil
		}
		numbers = append(numbers, n)
	}
	return func(s *scratch) truth {
		n, ok := of(s)
		return decided(ok && slices.Contains(numbers, n), ok)
	}
}
