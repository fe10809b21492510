package rules

import (
	"maps"
	"slices"
	"strings"
)

// check compares what the files say of one another, as far as that needs no understanding
// of expressions: every name under a rule's "on" and every action with attributes must be
// declared, for a misspelt name would disable a rule without a word.
func (b *Bundle) check(errs *errorList) {
	actions := keys(b.Actions)
	for _, scope := range b.scopeOrder {
		if action, ok := strings.CutPrefix(scope.name, "action."); ok && b.Actions[action] == nil {
			errs.addAt(b, scope.pos, "", "attributes of the undeclared action %s%s", quoted(action), errs.hint(action, actions))
		}
	}
	b.checkSources(errs)
	declared := []struct {
		what  string
		hint  string
		names []string
		of    func(*Rule) ([]string, []Pos)
	}{
		{"action", "declare it under actions", actions,
			func(r *Rule) ([]string, []Pos) { return r.Actions, r.places.actions }},
		{"resource type", "declare it under attributes, as resource.TYPE", b.resourceTypes(),
			func(r *Rule) ([]string, []Pos) { return r.Resources, r.places.resources }},
		{"subject type", "declare it under attributes, as subject.TYPE", b.subjectTypes(),
			func(r *Rule) ([]string, []Pos) { return r.Subjects, r.places.subjects }},
		{"class", "declare it under profiles in bundle.yaml", keys(b.Profiles),
			func(r *Rule) ([]string, []Pos) { return r.Classes, r.places.classes }},
	}
	for _, kind := range declared {
		isResource := kind.what == "resource type"
		for _, r := range b.Rules {
			names, places := kind.of(r)
			for i, name := range names {
				id, hasID := "", false
				if isResource {
					name, id, hasID = strings.Cut(name, ":")
				}
				if _, ok := slices.BinarySearch(kind.names, name); !ok {
					hint := errs.hint(name, kind.names)
					if hint == "" {
						hint = ": " + kind.hint
					}
					errs.addAt(b, places[i], r.ID, "unknown %s %s%s", kind.what, quoted(name), hint)
				}
				if hasID && id == "" {
					errs.addAt(b, places[i], r.ID, "%s names no resource; leave the colon out to mean any", quoted(names[i]))
				}
			}
		}
	}
}

// resourceTypes gives the declared resource types, sorted.
func (b *Bundle) resourceTypes() []string { return b.scopedTypes("resource.") }

// subjectTypes gives the declared subject types, sorted. Those that may act without an agent
// count as declared.
func (b *Bundle) subjectTypes() []string {
	types := append(b.scopedTypes("subject."), b.Agentless.Types...)
	slices.Sort(types)
	return slices.Compact(types)
}

func (b *Bundle) scopedTypes(prefix string) []string {
	var types []string
	for scope := range maps.Keys(b.Attributes) {
		if name, ok := strings.CutPrefix(scope, prefix); ok {
			types = append(types, name)
		}
	}
	slices.Sort(types)
	return types
}
