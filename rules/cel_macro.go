package rules

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"vigil/authz"
)

// The names that start a path in a rule.
const (
	rootSubject  = "subject"
	rootAction   = "action"
	rootResource = "resource"
	rootContext  = "context"
	rootLists    = "lists"
	rootNow      = "now"
)

// presencePrefix begins the names of the bool variables that has() becomes. A rule cannot
// write it.
const presencePrefix = "@has."

// entityKinds are the kinds of entity that rules read. A grant is left out because a
// request may name several, and everything because it is no entity of the request.
var entityKinds = [...]authz.Kind{
	authz.KindAgent, authz.KindInstance, authz.KindUser, authz.KindSession, authz.KindToken,
	authz.KindCode, authz.KindModel, authz.KindTool, authz.KindTenant,
}

// entityMembers are what rules read of an entity, in the order of their slots.
var entityMembers = [...]string{
	"id", "registered", "status", "risk", "class", "labels", "scopes", "tainted", "attested",
}

var entityTypes = [len(entityMembers)]*cel.Type{
	cel.StringType, cel.BoolType, cel.StringType, cel.IntType, cel.StringType,
	cel.MapType(cel.StringType, cel.StringType), cel.ListType(cel.StringType), cel.BoolType, cel.BoolType,
}

// reservedMembers are the members of the request's parties that are no attributes.
var reservedMembers = map[string][]string{
	rootSubject: {"id", "type"}, rootAction: {"name"}, rootResource: {"id", "type"},
}

func isEntity(root string) bool {
	kind, ok := authz.ParseKind(root)
	return ok && slices.Contains(entityKinds[:], kind)
}

func isScope(root string) bool {
	return root == rootSubject || root == rootAction || root == rootResource || root == rootContext
}

func isRoot(name string) bool {
	return isEntity(name) || isScope(name) || name == rootLists || name == rootNow
}

// pathOf gives the names of a chain of selections that starts at an identifier, or nil.
// An index by a literal string counts as a selection.
func pathOf(e ast.Expr) []string {
	var reversed []string
	for {
		switch e.Kind() {
		case ast.IdentKind:
			reversed = append(reversed, e.AsIdent())
			slices.Reverse(reversed)
			return reversed
		case ast.SelectKind, ast.CallKind:
			operand, key, ok := entryOf(e)
			if !ok {
				return nil
			}
			reversed = append(reversed, key)
			e = operand
		default:
			return nil
		}
	}
}

// entryOf takes e apart where it selects a member by name: x.name or x["name"].
func entryOf(e ast.Expr) (operand ast.Expr, key string, ok bool) {
	switch e.Kind() {
	case ast.SelectKind:
		s := e.AsSelect()
		return s.Operand(), s.FieldName(), !s.IsTestOnly()
	case ast.CallKind:
		c := e.AsCall()
		if c.FunctionName() != operators.Index || len(c.Args()) != 2 || c.Args()[1].Kind() != ast.LiteralKind {
			return nil, "", false
		}
		s, isString := c.Args()[1].AsLiteral().(types.String)
		return c.Args()[0], string(s), isString
	}
	return nil, "", false
}

// expandHas is the macro has(). CEL's own cannot ask for a variable, and here every member
// of the request is one: has(resource.amount) becomes the bool variable
// @has.resource.amount. An entity's presence is that the request names it, so has(session)
// and has(session.risk) ask the same. An entry of a map that may itself be absent asks for
// the map first.
func expandHas(eh cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
	arg := args[0]
	path := pathOf(arg)
	at := arg // where an error about arg is shown
	if path != nil {
		at = rootOf(arg)
	}
	// A copy has the place of what it is a copy of, which an identifier made by
	// eh.NewIdent does not.
	present := func(name string) ast.Expr {
		e := eh.Copy(at)
		e.SetKindCase(ast.NewExprFactory().NewIdent(e.ID(), presencePrefix+name))
		return e
	}
	if arg.Kind() == ast.IdentKind && isEntity(arg.AsIdent()) {
		return present(arg.AsIdent()), nil
	}
	operand, key, ok := entryOf(arg)
	if !ok {
		return nil, eh.NewError(at.ID(), "has() takes "+macroUsage[operators.Has])
	}
	if path == nil || !isRoot(path[0]) {
		return eh.NewPresenceTest(operand, key), nil
	}
	entry := func(name string) (ast.Expr, *common.Error) {
		return eh.NewCall(operators.LogicalAnd, present(name), eh.NewPresenceTest(operand, key)), nil
	}
	root := path[0]
	switch {
	case len(path) > 3:
		return nil, eh.NewError(at.ID(), `"`+strings.Join(path, ".")+`" is too deep; the entries of maps have no members`)
	case isEntity(root):
		if !slices.Contains(entityMembers[:], path[1]) {
			return nil, eh.NewError(at.ID(), unknownMember(path, entityMembers[:]))
		}
		if len(path) == 2 {
			return present(root), nil
		}
		if path[1] != "labels" {
			return nil, eh.NewError(at.ID(), `"`+root+"."+path[1]+`" has no members`)
		}
		return entry(root)
	case isScope(root):
		if slices.Contains(reservedMembers[root], path[1]) {
			if len(path) == 2 {
				return eh.NewLiteral(types.True), nil
			}
			return nil, eh.NewError(at.ID(), `"`+root+"."+path[1]+`" has no members`)
		}
		if len(path) == 2 {
			return present(root + "." + path[1]), nil
		}
		return entry(root + "." + path[1])
	}
	return nil, eh.NewError(at.ID(), `"`+strings.Join(path, ".")+`" is always there`)
}

func unknownMember(path []string, known []string) string {
	hint := didYouMean(path[1], known)
	if hint == "" {
		hint = "; there are " + strings.Join(known, ", ")
	}
	return `unknown "` + strings.Join(path[:2], ".") + `"` + hint
}

// The two macros of CEL's math extension: its others come with versions that are not
// pinned here.
var (
	greatestMacro = cel.ReceiverVarArgMacro("greatest", expandMath("math.greatest", "math.@max"))
	leastMacro    = cel.ReceiverVarArgMacro("least", expandMath("math.least", "math.@min"))
)

func expandMath(name, function string) cel.MacroFactory {
	return func(eh cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
		if target.Kind() != ast.IdentKind || target.AsIdent() != "math" {
			return nil, nil
		}
		switch len(args) {
		case 0:
			return nil, eh.NewError(target.ID(), name+"() takes at least one number")
		case 1, 2:
			return eh.NewCall(function, args...), nil
		}
		return eh.NewCall(function, eh.NewList(args...)), nil
	}
}
