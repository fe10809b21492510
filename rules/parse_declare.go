package rules

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"vigil/authz"
)

var (
	fileKeys      = []string{"vigil", "attributes", "actions", "lists", "rules"}
	attributeKeys = []string{"type", "of", "required", "default", "min", "max"}
	actionKeys    = []string{"scope", "impact"}
)

const (
	maxAttributes = 5000 // of a bundle
	maxActions    = 10_000
	maxLists      = 1000
	maxListValues = 10_000 // of one list
	maxText       = 1024   // bytes of a string in a list or a default
)

// attributeTypes are the names of the types by AttributeType.
var attributeTypes = []string{"string", "bool", "int", "number", "timestamp", "duration", "list", "map"}

// elementTypes are the types that may stand in a list or map: the first of attributeTypes.
var elementTypes = attributeTypes[:TypeNumber+1]

func (t AttributeType) String() string { return attributeTypes[t] }

var (
	identifierPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	typePattern       = regexp.MustCompile(`^[!#-9;-~]{1,128}$`)
	actionPattern     = regexp.MustCompile(`^[!#-~]{1,128}$`)
	scopePattern      = regexp.MustCompile(`^[!#-\[\]-~]{1,256}$`)
)

const (
	identifierHint = "letters, digits and '_', at most 64, the first no digit"
	typeHint       = "1 to 128 visible ASCII characters without ':' and quotes"
	actionHint     = "1 to 128 visible ASCII characters without quotes"
	scopeHint      = "one scope as RFC 6749 has it: 1 to 256 visible ASCII characters without quotes and backslashes"
)

// reservedNames cannot name an attribute or list: those of the request's own members, and the words of CEL.
var reservedNames = []string{
	"id", "type", "name",
	"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if",
	"import", "let", "loop", "namespace", "package", "return", "var", "void", "while",
}

// parseRuleFile reads one listed file.
func (b *Bundle) parseRuleFile(file string, errs *errorList) {
	d, root := b.openDocument(file, errs)
	if root == nil {
		return
	}
	if !d.version(root) {
		return
	}
	fields, ok := d.fields(root, "a file of rules", fileKeys)
	if !ok {
		return
	}
	d.require(root, fields, "vigil")
	if e, ok := fields["attributes"]; ok {
		b.parseScopes(d, e.value)
	}
	if e, ok := fields["actions"]; ok {
		b.parseActions(d, e.value)
	}
	if e, ok := fields["lists"]; ok {
		b.parseLists(d, e.value)
	}
	if e, ok := fields["rules"]; ok {
		b.parseRules(d, e.value)
	}
}

// again reports a second declaration of a name in a bundle.
func (d *document) again(n *yaml.Node, what, name string, first Pos) {
	d.fail(n, "%s %s is declared twice; the first is at %s", what, quoted(name), first)
}

func (b *Bundle) parseScopes(d *document, n *yaml.Node) {
	scopes, ok := d.entries(n, "attributes")
	if !ok {
		return
	}
	for _, scope := range scopes {
		if !d.checkScope(scope) {
			continue
		}
		attributes, ok := d.entries(scope.value, "the attributes of "+quoted(scope.name))
		if !ok {
			continue
		}
		declared := b.Attributes[scope.name]
		if declared == nil {
			// An empty scope declares the type.
			declared = make(map[string]*Attribute)
			b.Attributes[scope.name] = declared
			b.scopeOrder = append(b.scopeOrder, declaredScope{scope.name, d.pos(scope.key)})
		}
		for _, e := range attributes {
			switch first := declared[e.name]; {
			case !identifierPattern.MatchString(e.name):
				d.fail(e.key, "the attribute %s: want %s", quoted(e.name), identifierHint)
			case contains(reservedNames, e.name):
				d.fail(e.key, "the attribute %s: the name is reserved", quoted(e.name))
			case first != nil:
				d.again(e.key, "the attribute", e.name, first.Pos)
			case b.attributeCount >= maxAttributes:
				d.fail(e.key, "more than %d attributes", maxAttributes)
				return
			default:
				b.attributeCount++
				if a := d.attribute(scope.name, e); a != nil {
					declared[e.name] = a
				}
			}
		}
	}
}

// checkScope checks the name of a group of attributes.
func (d *document) checkScope(scope entry) bool {
	kind, name, dotted := strings.Cut(scope.name, ".")
	switch {
	case scope.name == "context":
		return true
	case dotted && (kind == "subject" || kind == "resource"):
		if !typePattern.MatchString(name) {
			d.fail(scope.key, "the %s type %s: want %s", kind, quoted(name), typeHint)
			return false
		}
		return true
	case dotted && kind == "action":
		return true // that the action is declared is checked when all files are read
	case !dotted && (kind == "subject" || kind == "resource"):
		d.fail(scope.key, "attributes of %q: say of which type, as %q", kind, kind+".TYPE")
	case !dotted && kind == "action":
		d.fail(scope.key, `attributes of "action": say of which, as "action.NAME"`)
	default:
		hint := d.errs.hint(kind, []string{"subject", "resource", "action", "context"})
		if hint == "" {
			hint = ": want subject.TYPE, resource.TYPE, action.NAME or context"
		}
		d.fail(scope.key, "unknown kind of attributes %s%s", quoted(scope.name), hint)
	}
	return false
}

// attribute reads the declaration of one attribute.
func (d *document) attribute(scope string, named entry) *Attribute {
	what := "the attribute " + quoted(named.name)
	fields, ok := d.fields(named.value, what, attributeKeys)
	if !ok {
		return nil
	}
	d.require(named.value, fields, "type")
	a := &Attribute{Scope: scope, Name: named.name, Pos: d.pos(named.key)}
	e, ok := fields["type"]
	if !ok {
		return nil
	}
	i, ok := d.choice(e.value, "type", attributeTypes)
	if !ok {
		return nil
	}
	a.Type = AttributeType(i)
	if !d.element(a, named.value, fields) {
		return nil
	}
	if e, ok := fields["required"]; ok {
		a.Required, _ = d.boolean(e.value, "required")
	}
	d.bounds(a, fields)
	if e, ok := fields["default"]; ok {
		if a.Required {
			d.fail(e.key, "both required and a default: a required attribute never takes its default")
		}
		if v, ok := d.value(e.value, "default"); ok && d.checkDefault(a, e.value, &v) {
			a.Default = &v
		}
	}
	return a
}

// element reads "of", which lists and maps need and nothing else may have.
func (d *document) element(a *Attribute, n *yaml.Node, fields map[string]entry) bool {
	e, ok := fields["of"]
	if a.Type != TypeList && a.Type != TypeMap {
		if ok {
			d.fail(e.key, "of: only lists and maps hold elements, not a %s", a.Type)
		}
		return true
	}
	if !ok {
		d.fail(n, "the key %q is missing: say what the %s holds", "of", a.Type)
		return false
	}
	i, ok := d.choice(e.value, "element type", elementTypes)
	a.Elem = AttributeType(i)
	return ok
}

func (d *document) bounds(a *Attribute, fields map[string]entry) {
	isNumber := a.Type == TypeInt || a.Type == TypeNumber
	hasLength := a.Type == TypeString || a.Type == TypeList || a.Type == TypeMap
	bound := func(key string, allowed bool) *float64 {
		e, ok := fields[key]
		if !ok {
			return nil
		}
		switch {
		case !allowed:
			d.fail(e.key, "%s: a %s has none", key, a.Type)
			return nil
		case a.Type == TypeNumber:
			if f, ok := d.number(e.value, key); ok {
				return &f
			}
			return nil
		}
		low := int64(0)
		if a.Type == TypeInt {
			low = -maxExactInt
		}
		if i, ok := d.integer(e.value, key, low, maxExactInt); ok {
			f := float64(i)
			return &f
		}
		return nil
	}
	a.Min = bound("min", isNumber)
	a.Max = bound("max", isNumber || hasLength)
	if a.Min != nil && a.Max != nil && *a.Min > *a.Max {
		d.fail(fields["min"].value, "min is greater than max: no value fits")
	}
}

// checkDefault reports whether v is a value that the attribute could have.
func (d *document) checkDefault(a *Attribute, n *yaml.Node, v *authz.Value) bool {
	if v.Kind == authz.Absent {
		d.fail(n, "default: nothing; leave the key out to make the attribute optional")
		return false
	}
	if !isType(v, a.Type, a.Elem) {
		want := a.Type.String()
		if a.Type == TypeList || a.Type == TypeMap {
			want += " of " + a.Elem.String()
		}
		d.fail(n, "default: want the type %s, got %s", want, kindOf(n))
		return false
	}
	if problem := a.outOfBounds(v); problem != "" {
		d.fail(n, "default: %s", problem)
		return false
	}
	return true
}

func (b *Bundle) parseActions(d *document, n *yaml.Node) {
	list, ok := d.entries(n, "actions")
	if !ok {
		return
	}
	for _, e := range list {
		switch first := b.Actions[e.name]; {
		case !actionPattern.MatchString(e.name):
			d.fail(e.key, "the action %s: want %s", quoted(e.name), actionHint)
			continue
		case first != nil:
			d.again(e.key, "the action", e.name, first.Pos)
			continue
		case len(b.Actions) >= maxActions:
			d.fail(e.key, "more than %d actions", maxActions)
			return
		}
		a := &Action{Name: e.name, Pos: d.pos(e.key)}
		b.Actions[e.name] = a
		fields, ok := d.fields(e.value, "the action "+quoted(e.name), actionKeys)
		if !ok {
			continue
		}
		if s, ok := fields["scope"]; ok {
			a.Scope, _ = d.word(s.value, "the scope", scopePattern, scopeHint)
		}
		if s, ok := fields["impact"]; ok {
			i, ok := d.choice(s.value, "impact", impactNames)
			a.Low = ok && i == 0
		}
	}
}

var impactNames = []string{"low", "high"}

func (b *Bundle) parseLists(d *document, n *yaml.Node) {
	list, ok := d.entries(n, "lists")
	if !ok {
		return
	}
	for _, e := range list {
		switch first := b.Lists[e.name]; {
		case !identifierPattern.MatchString(e.name):
			d.fail(e.key, "the list %s: want %s", quoted(e.name), identifierHint)
		case contains(reservedNames, e.name):
			d.fail(e.key, "the list %s: the name is reserved", quoted(e.name))
		case first != nil:
			d.again(e.key, "the list", e.name, first.Pos)
		case len(b.Lists) >= maxLists:
			d.fail(e.key, "more than %d lists", maxLists)
			return
		default:
			b.Lists[e.name] = d.namedList(e)
		}
	}
}

// namedList reads a list of strings or of numbers.
func (d *document) namedList(named entry) *NamedList {
	l := &NamedList{Name: named.name, Pos: d.pos(named.key)}
	items, ok := d.list(named.value, "the list "+quoted(named.name), maxListValues)
	if !ok {
		return l
	}
	for _, item := range items {
		v, ok := d.value(item, "a value")
		switch {
		case !ok:
			continue
		case v.Kind != authz.String && v.Kind != authz.Number:
			d.fail(item, "a value: want a string or a number, got %s", kindOf(item))
			continue
		case len(v.Str) > maxText:
			d.fail(item, "a value has %d bytes, more than %d", len(v.Str), maxText)
			continue
		case len(l.Values) > 0 && l.Values[0].Kind != v.Kind:
			d.fail(item, "a %s in a list of %ss", v.Kind, l.Values[0].Kind)
			continue
		}
		l.Values = append(l.Values, v)
	}
	return l
}

// isType reports whether v has the type t, whose elements have the type elem.
func isType(v *authz.Value, t, elem AttributeType) bool {
	switch t {
	case TypeString:
		return v.Kind == authz.String
	case TypeBool:
		return v.Kind == authz.Bool
	case TypeNumber:
		return v.Kind == authz.Number
	case TypeInt:
		return v.Kind == authz.Number && v.Num == math.Trunc(v.Num) && math.Abs(v.Num) <= maxExactInt
	case TypeTimestamp:
		_, err := time.Parse(time.RFC3339Nano, v.Str)
		return v.Kind == authz.String && err == nil
	case TypeDuration:
		_, err := time.ParseDuration(v.Str)
		return v.Kind == authz.String && err == nil
	}
	if t == TypeList && v.Kind != authz.List || t == TypeMap && v.Kind != authz.Map {
		return false
	}
	for i := range v.Members {
		if !isType(&v.Members[i].Value, elem, elem) {
			return false
		}
	}
	return true
}

// outOfBounds says how v, which is of the attribute's type, breaks its bounds; "" when it
// does not.
func (a *Attribute) outOfBounds(v *authz.Value) string {
	size, unit := v.Num, ""
	switch a.Type {
	case TypeString:
		size, unit = float64(len(v.Str)), " bytes"
	case TypeList, TypeMap:
		size, unit = float64(len(v.Members)), " elements"
	}
	switch {
	case a.Min != nil && size < *a.Min:
		return fmt.Sprintf("%v%s, less than min %v", size, unit, *a.Min)
	case a.Max != nil && size > *a.Max:
		return fmt.Sprintf("%v%s, more than max %v", size, unit, *a.Max)
	}
	return ""
}
