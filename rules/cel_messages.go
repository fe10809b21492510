package rules

import (
	"regexp"
	"strings"

	"cel.dev/cel-go/common"
)

var (
	noOverload  = regexp.MustCompile(`^found no matching overload for '([^']+)' applied to '([^']*)'`)
	unexpected  = regexp.MustCompile(`(?s)^Syntax error: (?:mismatched input|extraneous input|no viable alternative at input|missing .* at) '(.*?)'(?: expecting .*)?$`)
	unreadable  = regexp.MustCompile(`(?s)^Syntax error: token recognition error at: '(.*)'$`)
	wrongType   = regexp.MustCompile(`^expected type '([^']*)' but found '([^']*)'`)
	noSelection = regexp.MustCompile(`^type '([^']*)' does not support field selection`)
)

// humane says a message of CEL's in the words of rules, with a hint for the common
// mistakes. It gives "" for what nameCheck has said already.
func humane(message string) string {
	if strings.HasPrefix(message, "undeclared reference to ") || strings.Contains(message, "!error!") || strings.Contains(message, "(dyn)") {
		return ""
	}
	if m := noOverload.FindStringSubmatch(message); m != nil {
		return humaneOverload(m[1], m[2])
	}
	if m := unreadable.FindStringSubmatch(message); m != nil {
		switch token := strings.TrimSpace(m[1]); {
		case token == "=>":
			return "write \">=\" for at least"
		case token == "=<":
			return "write \"<=\" for at most"
		case strings.HasPrefix(token, "="):
			return "\"=\" does not compare; write \"==\""
		case strings.HasPrefix(token, "&"):
			return "write \"&&\" for and"
		case strings.HasPrefix(token, "|"):
			return "write \"||\" for or"
		case strings.HasPrefix(token, "'"), strings.HasPrefix(token, `"`):
			return "this text has no closing quote"
		default:
			return "cannot read " + quoteShort(token)
		}
	}
	if m := unexpected.FindStringSubmatch(message); m != nil {
		switch m[1] {
		case "<EOF>":
			return "the expression ends too early"
		case "and", "AND":
			return "write \"&&\" for and"
		case "or", "OR":
			return "write \"||\" for or"
		case "not", "NOT":
			return "write \"!\" for not"
		}
		return "did not expect " + quoteShort(m[1]) + " here"
	}
	if m := wrongType.FindStringSubmatch(message); m != nil {
		return "want " + ruleType(m[1]) + " here, not " + ruleType(m[2])
	}
	if m := noSelection.FindStringSubmatch(message); m != nil {
		return ruleType(m[1]) + " has no members"
	}
	switch {
	case message == "comprehension exceeds nesting limit":
		return "all, exists and exists_one cannot stand within each other: the cost would multiply"
	case message == "invalid matches argument":
		return "the pattern is no RE2 regular expression, or too large a one"
	case message == "invalid duration argument":
		return "no duration; write it as \"90s\" or \"1h30m\""
	case message == "invalid timestamp argument":
		return "no timestamp; write it as \"2026-11-23T09:00:00Z\""
	case strings.HasPrefix(message, "expression node count exceeds limit"):
		return "the expression is too large; split it into several rules, or use a list"
	case strings.HasPrefix(message, "expression code point size exceeds limit"):
		return "the expression is too long; split it into several rules, or use a list"
	case strings.Contains(message, "recursion"), strings.Contains(message, "nesting depth"):
		return "the expression is nested too deeply"
	}
	return strings.TrimPrefix(message, "Syntax error: ")
}

// operatorSigns are CEL's names of operators as people write them.
var operatorSigns = map[string]string{
	"_==_": "==", "_!=_": "!=", "_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">=", "@in": "in",
	"_+_": "+", "_-_": "-", "_*_": "*", "_/_": "/", "_%_": "%", "-_": "-", "!_": "!",
	"_&&_": "&&", "_||_": "||", "_?_:_": "?:", "_[_]": "[]",
	"math.@max": "math.greatest()", "math.@min": "math.least()",
}

func humaneOverload(function, signature string) string {
	if unavailable[function] != "" {
		return "" // nameCheck has said so
	}
	sign := operatorSigns[function]
	left, right, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(signature, "("), ")"), ", ")
	numeric := func(t string) bool { return t == "int" || t == "double" }
	mixed := numeric(left) && numeric(right) && left != right
	switch function {
	case "_+_", "_-_", "_*_", "_/_", "_%_":
		switch {
		case mixed && function == "_%_":
			return "% is for ints; write int(...) around the number"
		case mixed:
			return "int and number do not mix in arithmetic; write 1.0 for 1, or double(...) around the int"
		case left == "string" || right == "string":
			return "rules do not build strings; compare the parts instead"
		case strings.HasPrefix(left, "list"):
			return "rules do not build lists; use two conditions"
		}
		return "cannot calculate " + ruleType(left) + " " + sign + " " + ruleType(right)
	case "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_":
		switch {
		case left == "null" || right == "null":
			return "null means absent; ask has(...) instead"
		case left == "string" && numeric(right), numeric(left) && right == "string":
			return "cannot compare " + ruleType(left) + " " + sign + " " + ruleType(right) + "; a text in quotes is no number"
		case strings.HasPrefix(left, "optional_type("), strings.HasPrefix(right, "optional_type("):
			return "what .? finds may be absent; add .orValue(...)"
		case left == right && sign != "==" && sign != "!=":
			return "cannot order " + ruleType(left) + " values with " + sign
		}
		return "cannot compare " + ruleType(left) + " " + sign + " " + ruleType(right)
	case "@in":
		return "cannot look for " + ruleType(left) + " in " + ruleType(right)
	case "!_", "-_":
		return "cannot apply " + sign + " to " + ruleType(left)
	case "_&&_", "_||_":
		return sign + " takes conditions, not " + ruleType(left) + " and " + ruleType(right)
	case "_?_:_":
		return "?: takes a condition and two values of one type"
	case "_[_]":
		return "cannot look up " + ruleType(right) + " in " + ruleType(left)
	case "math.@max", "math.@min":
		if mixed {
			return "int and number do not mix in " + sign + "; write 1.0 for 1, or double(...) around the int"
		}
		return sign + " takes numbers"
	}
	if receiver, args, ok := strings.Cut(signature, ".("); ok {
		return function + "() is not for " + ruleType(receiver) + " with (" + ruleTypes(strings.TrimSuffix(args, ")")) + ")"
	}
	return function + "() does not take (" + ruleTypes(strings.TrimSuffix(strings.TrimPrefix(signature, "("), ")")) + ")"
}

// ruleType is a CEL type as declarations write it.
func ruleType(t string) string {
	t = typeWords.Replace(t)
	if of, ok := strings.CutPrefix(t, "list("); ok {
		return "list of " + strings.TrimSuffix(of, ")")
	}
	if of, ok := strings.CutPrefix(t, "map(string, "); ok {
		return "map of " + strings.TrimSuffix(of, ")")
	}
	return t
}

func ruleTypes(list string) string {
	parts := strings.Split(list, ", ")
	for i := range parts {
		parts[i] = ruleType(parts[i])
	}
	return strings.Join(parts, ", ")
}

var typeWords = strings.NewReplacer(
	"google.protobuf.Timestamp", "timestamp", "google.protobuf.Duration", "duration",
	"double", "number", "optional_type", "optional", "net.IP", "ip", "net.CIDR", "cidr",
)

// quoteShort quotes at most 20 characters of s.
func quoteShort(s string) string {
	if r := []rune(s); len(r) > 20 {
		s = string(r[:20]) + "..."
	}
	return `"` + s + `"`
}

// location gives line and column, both from 1, of a place in an expression.
func location(loc common.Location) (line, column int) {
	if loc == nil || loc.Line() < 1 || loc.Column() < 0 {
		return 1, 1
	}
	return loc.Line(), loc.Column() + 1
}
