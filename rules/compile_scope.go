package rules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
)

// scope is what rules with the same `on` can name: the variables, their declarations and
// the CEL environment that knows them. Rules share it, for an environment costs far more
// than a rule. It is immutable.
type scope struct {
	env *cel.Env
	// vars holds every variable by its dotted name.
	vars map[string]*variable
	// members holds the names after each root, sorted, for suggestions.
	members map[string][]string
}

// variable is one dotted name that a rule can read.
type variable struct {
	name string
	typ  *cel.Type
	slot int
	// presence is what has() asks for: the name itself, or the entity for its members; ""
	// where the value is always there.
	presence string
	// decls are the declarations that a request can meet here, one for each type of the
	// party or name of the action; nil for what is no attribute.
	decls []*Attribute
	// optional: some declaration is neither required nor has a default.
	optional bool
	// conflict says which declarations disagree on the type; "" where none do.
	conflict string
	list     *constantList // of lists.NAME
}

// scopeBuilder makes scopes for the rules of one bundle, one for each distinct `on`.
type scopeBuilder struct {
	bundle *Bundle
	table  *slotTable
	lists  map[string]*constantList
	scopes map[string]*scope
	byRoot map[string][]string // "resource" → the types with declarations, sorted
	words  map[string]vocabulary
}

func newScopeBuilder(b *Bundle, table *slotTable, lists map[string]*constantList) *scopeBuilder {
	sb := &scopeBuilder{bundle: b, table: table, lists: lists, scopes: map[string]*scope{}, byRoot: map[string][]string{}, words: vocabularies(b)}
	for name := range b.Attributes {
		if root, of, ok := strings.Cut(name, "."); ok {
			sb.byRoot[root] = append(sb.byRoot[root], of)
		}
	}
	for _, of := range sb.byRoot {
		slices.Sort(of)
	}
	return sb
}

// declaring gives those of the named types that declare attributes under root, sorted and
// distinct; all of them where named is empty.
func (sb *scopeBuilder) declaring(root string, named []string) []string {
	all := sb.byRoot[root]
	if len(named) == 0 {
		return all
	}
	var some []string
	for _, of := range named {
		if _, found := slices.BinarySearch(all, of); found {
			some = append(some, of)
		}
	}
	slices.Sort(some)
	return slices.Compact(some)
}

// resourceTypes gives the types of on.resources, without ids.
func resourceTypes(r *Rule) []string {
	types := make([]string, len(r.Resources))
	for i, on := range r.Resources {
		types[i], _, _ = strings.Cut(on, ":")
	}
	return types
}

func (sb *scopeBuilder) scopeOf(r *Rule) (*scope, error) {
	subjects := sb.declaring(rootSubject, r.Subjects)
	actions := sb.declaring(rootAction, r.Actions)
	resources := sb.declaring(rootResource, resourceTypes(r))
	key := fmt.Sprintf("%q %q %q", subjects, actions, resources)
	if s := sb.scopes[key]; s != nil {
		return s, nil
	}
	s := &scope{vars: maps.Clone(sb.common()), members: map[string][]string{}}
	sb.addAttributes(s, rootSubject, subjects)
	sb.addAttributes(s, rootAction, actions)
	sb.addAttributes(s, rootResource, resources)
	var options []cel.EnvOption
	declared := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.vars)) {
		v := s.vars[name]
		root, member, _ := strings.Cut(name, ".")
		s.members[root] = append(s.members[root], member)
		options = append(options, cel.Variable(name, v.typ))
		if v.presence != "" && !declared[v.presence] {
			declared[v.presence] = true
			options = append(options, cel.Variable(presencePrefix+v.presence, cel.BoolType))
		}
	}
	base, err := baseEnv()
	if err != nil {
		return nil, err
	}
	if s.env, err = base.Extend(options...); err != nil {
		return nil, err
	}
	if err := fillCatalog(s.env); err != nil {
		return nil, err
	}
	sb.scopes[key] = s
	return s, nil
}

// fillCatalog makes an environment ready for several goroutines: cel-go's checker fills its
// catalog of symbols at the first name that it does not know, and reads the field without
// synchronisation where a macro opens a scope (checker.Env.cloneWithDecls, v0.33.2).
func fillCatalog(env *cel.Env) error {
	if _, issues := env.Compile("vigil_no_such.name"); issues.Err() == nil {
		return errors.New("the language takes a name that nobody declared")
	}
	return nil
}

// common gives the variables that every rule sees.
func (sb *scopeBuilder) common() map[string]*variable {
	vars := map[string]*variable{}
	add := func(v *variable) { vars[v.name] = v }
	for root, members := range reservedMembers {
		for _, m := range members {
			name := root + "." + m
			add(&variable{name: name, typ: cel.StringType, slot: sb.table.byName[name].slot})
		}
	}
	add(&variable{name: rootNow, typ: cel.TimestampType, slot: slotNow})
	for i, kind := range entityKinds {
		for j, member := range entityMembers {
			add(&variable{name: kind.String() + "." + member, typ: entityTypes[j], slot: entitySlot(i, j), presence: kind.String()})
		}
	}
	for name, list := range sb.lists {
		add(&variable{name: rootLists + "." + name, typ: list.typ, slot: sb.table.byName[rootLists+"."+name].slot, list: list})
	}
	for name, a := range sb.bundle.Attributes[rootContext] {
		full := rootContext + "." + name
		add(&variable{
			name: full, typ: celType(a.Type, a.Elem), slot: sb.table.byName[full].slot, presence: full,
			decls: []*Attribute{a}, optional: isOptional(a),
		})
	}
	return vars
}

func (sb *scopeBuilder) addAttributes(s *scope, root string, types []string) {
	for _, of := range types {
		for name, a := range sb.bundle.Attributes[root+"."+of] {
			full := root + "." + name
			v := s.vars[full]
			if v == nil {
				v = &variable{name: full, typ: celType(a.Type, a.Elem), slot: sb.table.byName[full].slot, presence: full}
				s.vars[full] = v
			} else if first := v.decls[0]; v.conflict == "" && !celType(a.Type, a.Elem).IsExactType(v.typ) {
				v.conflict = fmt.Sprintf("%s for %s and %s for %s", first.typeName(), scopeType(first), a.typeName(), of)
				v.typ = cel.DynType // so that the one error about it is the only one
			}
			v.decls = append(v.decls, a)
			v.optional = v.optional || isOptional(a)
		}
	}
}

func scopeType(a *Attribute) string {
	_, of, _ := strings.Cut(a.Scope, ".")
	return of
}

func isOptional(a *Attribute) bool { return !a.Required && a.Default == nil }

func celType(t, elem AttributeType) *cel.Type {
	switch t {
	case TypeString:
		return cel.StringType
	case TypeBool:
		return cel.BoolType
	case TypeInt:
		return cel.IntType
	case TypeNumber:
		return cel.DoubleType
	case TypeTimestamp:
		return cel.TimestampType
	case TypeDuration:
		return cel.DurationType
	case TypeList:
		return cel.ListType(celType(elem, 0))
	case TypeMap:
		return cel.MapType(cel.StringType, celType(elem, 0))
	}
	return cel.DynType
}

var typeNames = [...]string{"string", "bool", "int", "number", "timestamp", "duration", "list", "map"}

// typeName is the declared type as people write it.
func (a *Attribute) typeName() string {
	name := typeNames[a.Type]
	if a.Type == TypeList || a.Type == TypeMap {
		name += " of " + typeNames[a.Elem]
	}
	return name
}
