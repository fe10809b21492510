package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// nameCheck finds the names in a parsed expression that mean nothing, before CEL's checker
// does: it knows what the author can have meant.
type nameCheck struct {
	scope  *scope
	sb     *scopeBuilder
	info   *ast.SourceInfo
	locals []string
	starts map[int64]common.Location // where the path that a node is part of begins
	report func(loc common.Location, msg string)
}

func (c *nameCheck) errorf(id int64, format string, args ...any) {
	c.report(c.info.GetStartLocation(id), fmt.Sprintf(format, args...))
}

func (c *nameCheck) walk(e ast.Expr) {
	switch e.Kind() {
	case ast.IdentKind:
		c.ident(e)
	case ast.SelectKind:
		c.selection(e, e.AsSelect().Operand())
	case ast.CallKind:
		c.call(e)
	case ast.ListKind:
		for _, elem := range e.AsList().Elements() {
			c.walk(elem)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			c.walk(entry.AsMapEntry().Key())
			c.walk(entry.AsMapEntry().Value())
		}
	case ast.StructKind:
		c.errorf(e.ID(), "there are no messages in rules")
	case ast.ComprehensionKind:
		f := e.AsComprehension()
		c.walk(f.IterRange())
		if isRoot(f.IterVar()) {
			c.errorf(e.ID(), "%q has a meaning already; give the variable another name", f.IterVar())
		}
		outer := len(c.locals)
		c.locals = append(c.locals, f.IterVar(), f.AccuVar())
		for _, part := range []ast.Expr{f.AccuInit(), f.LoopCondition(), f.LoopStep(), f.Result()} {
			c.walk(part)
		}
		c.locals = c.locals[:outer]
	}
}

func (c *nameCheck) ident(e ast.Expr) {
	name := e.AsIdent()
	if slices.Contains(c.locals, name) || c.scope.vars[name] != nil {
		return
	}
	if present, ok := strings.CutPrefix(name, presencePrefix); ok {
		if root, _, isMember := strings.Cut(present, "."); isMember && c.scope.vars[present] == nil {
			c.unknown(e.ID(), []string{root, present[len(root)+1:]})
		}
		return
	}
	if isRoot(name) {
		c.errorf(e.ID(), "%q is no value by itself; name a member of it, such as %q", name, name+"."+c.example(name))
		return
	}
	switch name {
	case "bool", "bytes", "double", "int", "list", "map", "null_type", "string", "timestamp", "duration", "type", "uint":
		c.errorf(e.ID(), "%q is a type; rules do not compare types", name)
		return
	}
	c.unknownRoot(e.ID(), name)
}

// unknownRoot reports a name that stands alone, or begins a path.
func (c *nameCheck) unknownRoot(id int64, name string) {
	hint := didYouMean(name, c.roots())
	if hint == "" {
		var full []string
		for _, root := range [...]string{rootResource, rootSubject, rootContext, rootAction, rootLists, "agent"} {
			if c.scope.vars[root+"."+name] != nil {
				full = append(full, root+"."+name)
			}
		}
		switch {
		case len(full) > 0:
			hint = `, did you mean "` + full[0] + `"?`
		case name == "grant", name == "everything":
			hint = "; rules read no such entity"
		default:
			hint = "; a text stands in quotes"
		}
	}
	c.errorf(id, "unknown %q%s", name, hint)
}

// example gives a member of root.
func (c *nameCheck) example(root string) string {
	if members := c.scope.members[root]; len(members) > 0 {
		return members[0]
	}
	return "NAME"
}

// selection checks x.name and x["name"], where operand is x.
func (c *nameCheck) selection(e, operand ast.Expr) {
	path := pathOf(e)
	if path == nil && e.Kind() == ast.SelectKind && e.AsSelect().IsTestOnly() {
		path = pathOf(operand)
		if len(path) < 2 {
			c.walk(operand)
			return
		}
	}
	if path == nil || slices.Contains(c.locals, path[0]) {
		c.walk(operand)
		return
	}
	if path[0] == rootNow {
		return
	}
	start := rootOf(e).ID()
	if c.scope.vars[path[0]+"."+path[1]] == nil {
		c.unknown(start, path)
		return
	}
	// What stands next to the root must be selected, not looked up: it is a variable.
	for part := e; part.Kind() != ast.IdentKind; {
		operand, _, ok := entryOf(part)
		if !ok { // has()
			operand = part.AsSelect().Operand()
		}
		c.starts[part.ID()] = c.info.GetStartLocation(start)
		if operand.Kind() == ast.IdentKind && part.Kind() == ast.CallKind {
			c.errorf(start, "write %s.%s for %s[%q]", path[0], path[1], path[0], path[1])
		}
		part = operand
	}
}

// rootOf gives the identifier that a path starts at.
func rootOf(e ast.Expr) ast.Expr {
	for e.Kind() != ast.IdentKind {
		if e.Kind() == ast.SelectKind {
			e = e.AsSelect().Operand()
		} else {
			e = e.AsCall().Args()[0]
		}
	}
	return e
}

// unknown reports path, whose first two names are no variable.
func (c *nameCheck) unknown(id int64, path []string) {
	root, member := path[0], path[1]
	name := root + "." + member
	if !isRoot(root) {
		c.unknownRoot(id, root)
		return
	}
	if elsewhere := c.declaredElsewhere(root, member); elsewhere != "" {
		c.errorf(id, "%q is declared for %s, which this rule is not on", name, elsewhere)
		return
	}
	known := c.scope.members[root]
	hint := didYouMean(member, known)
	switch {
	case hint != "":
	case root == rootLists && len(known) == 0:
		hint = "; the bundle declares no lists"
	case isScope(root):
		hint = "; the attributes of the bundle do not declare it"
	case len(known) > 0 && len(known) <= 12:
		hint = "; there are " + strings.Join(known, ", ")
	}
	c.errorf(id, "unknown %q%s", name, hint)
}

// declaredElsewhere names the types that declare an attribute, as "payment and invoice".
func (c *nameCheck) declaredElsewhere(root, member string) string {
	var of []string
	for _, t := range c.sb.byRoot[root] {
		if c.sb.bundle.Attributes[root+"."+t][member] != nil {
			of = append(of, t)
		}
	}
	if len(of) > 3 {
		of = append(of[:3:3], "others")
	}
	return strings.Join(of, " and ")
}

func (c *nameCheck) roots() []string {
	names := slices.Collect(maps.Keys(c.scope.members))
	return append(names, c.locals...)
}

func (c *nameCheck) call(e ast.Expr) {
	call := e.AsCall()
	name := call.FunctionName()
	if operand, _, ok := entryOf(e); ok {
		c.selection(e, operand)
		return
	}
	c.words(e)
	if name == operators.OptSelect && len(call.Args()) == 2 {
		c.optSelect(e)
		return
	}
	target := call.Target()
	if call.IsMemberFunction() {
		if path := pathOf(target); path != nil {
			full := strings.Join(append(path, name), ".")
			namespace := len(path) == 1 && slices.Contains(functionSpaces[:], path[0])
			if namespace || isFunction(c.scope.env, full) {
				name, target = full, nil
			}
		}
		if target != nil {
			c.walk(target)
		}
	}
	args, outer := call.Args(), len(c.locals)
	if binds[name] && len(args) > 0 && args[0].Kind() == ast.IdentKind {
		c.locals = append(c.locals, args[0].AsIdent())
	}
	for _, arg := range args {
		c.walk(arg)
	}
	c.locals = c.locals[:outer]
	c.function(e.ID(), name)
}

// binds are the calls whose first argument names a variable, where they are no macros that
// rules have: one error about them is enough.
var binds = nameSet([]string{"all", "exists", "exists_one", "map", "filter", "optMap", "optFlatMap"})

// optSelect checks x.?name: only an entry of a map can be asked for so.
func (c *nameCheck) optSelect(e ast.Expr) {
	operand, field := e.AsCall().Args()[0], e.AsCall().Args()[1]
	if path := pathOf(operand); len(path) == 1 && isRoot(path[0]) {
		member := "NAME"
		if field.Kind() == ast.LiteralKind {
			if s, ok := field.AsLiteral().(types.String); ok {
				member = string(s)
			}
		}
		c.errorf(operand.ID(), "\".?\" is for the entries of maps; write has(%s.%s)", path[0], member)
		return
	}
	c.walk(operand)
}

func (c *nameCheck) function(id int64, name string) {
	if why := unavailable[name]; why != "" {
		c.errorf(id, "%s() is not available: %s", name, why)
		return
	}
	if isFunction(c.scope.env, name) {
		return
	}
	switch name {
	case operators.Has, "all", "exists", "exists_one": // the macro has not matched
		c.errorf(id, "%s() takes %s", name, macroUsage[name])
		return
	}
	c.errorf(id, "unknown function %q%s", name, didYouMean(name, functionNames()))
}

// functionSpaces are the names before a dot that only functions have.
var functionSpaces = [...]string{"math", "sets", "optional"}

var macroUsage = map[string]string{
	operators.Has: "a member such as resource.amount, an entry of a map such as agent.labels.role, or an entity such as session",
	"all":         "a name and a condition: resource.items.all(x, x != \"\")",
	"exists":      "a name and a condition: resource.items.exists(x, x != \"\")",
	"exists_one":  "a name and a condition: resource.items.exists_one(x, x != \"\")",
}

func isFunction(env *cel.Env, name string) bool { return env.HasFunction(name) }
