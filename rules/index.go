package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The sizes of an index that still loads in seconds and fits in memory. Rules that name
// few resource ids, or actions, stay far below.
const (
	maxPlans   = 250_000
	maxEntries = 1_000_000 // of rules in groups
)

// target is what a rule can be on: an action, a resource type and a resource id, each ""
// for any.
type target struct{ action, resourceType, resourceID string }

// indexer makes the plans of a set.
type indexer struct {
	set    *Set
	bundle *Bundle
	groups map[target]*group
	// ids are the resource ids that rules name, by action ("" for any) and type; types the
	// resource types, by action.
	ids   map[target][]string
	types map[string]map[string]bool
	plans int              // made so far
	memo  map[string]*Plan // by what they read and where; plans that read alike share it
}

// index groups the rules by what they are on, and makes a plan for every combination of
// action, resource type and resource id that some rule distinguishes.
func (s *Set) index(b *Bundle) *Error {
	ix := &indexer{
		set: s, bundle: b,
		groups: map[target]*group{}, ids: map[target][]string{}, types: map[string]map[string]bool{},
		memo: map[string]*Plan{},
	}
	entries := 0
	for _, r := range s.rules {
		entries += max(len(r.source.Actions), 1) * max(len(r.source.Resources), 1)
		if entries > maxEntries {
			e := b.errorAt(r.source.Pos, r.source.ID, fmt.Sprintf("up to this rule, rules name more than %d combinations of actions and resources; name fewer, or leave on.actions or on.resources out", maxEntries))
			return &e
		}
		for _, t := range targets(r.source) {
			ix.add(t, r)
		}
	}
	if ix.count() > maxPlans {
		return &Error{Message: fmt.Sprintf("the rules distinguish more than %d combinations of actions, resource types and resource ids; name fewer resource ids in rules that are on several actions", maxPlans)}
	}
	for _, g := range ix.groups {
		g.finish()
	}
	s.plans = make(map[string]*actionPlans, len(b.Actions))
	for _, name := range slices.Sorted(maps.Keys(b.Actions)) {
		s.plans[name] = ix.action(b.Actions[name], name)
	}
	return nil
}

// count gives an upper bound of the plans that there will be.
func (ix *indexer) count() int {
	declared, idsOfAny := 0, 0
	for scope := range ix.bundle.Attributes {
		if strings.HasPrefix(scope, rootResource+".") {
			declared++
		}
	}
	idsOf := map[string]int{}
	for of, ids := range ix.ids {
		if of.action == "" {
			idsOfAny += len(ids)
		} else {
			idsOf[of.action] += len(ids)
		}
	}
	total := 0
	for name := range ix.bundle.Actions {
		if ix.untypedReadsResource("") || ix.untypedReadsResource(name) {
			total += declared
		}
		total += 1 + len(ix.types[""]) + len(ix.types[name]) + idsOfAny + idsOf[name]
	}
	return total
}

// targets are what r is on, distinct, and without the ids of types that it is on as a whole.
func targets(r *Rule) []target {
	actions := slices.Compact(slices.Sorted(slices.Values(r.Actions)))
	if len(actions) == 0 {
		actions = []string{""}
	}
	resources := slices.Compact(slices.Sorted(slices.Values(r.Resources)))
	whole := map[string]bool{}
	for _, on := range resources {
		if !strings.Contains(on, ":") {
			whole[on] = true
		}
	}
	var all []target
	for _, action := range actions {
		if len(resources) == 0 {
			all = append(all, target{action: action})
		}
		for _, on := range resources {
			resourceType, id, literal := strings.Cut(on, ":")
			if literal && whole[resourceType] {
				continue
			}
			all = append(all, target{action: action, resourceType: resourceType, resourceID: id})
		}
	}
	return all
}

func (ix *indexer) add(t target, r *rule) {
	g := ix.groups[t]
	if g == nil {
		g = &group{}
		ix.groups[t] = g
		if t.resourceID != "" {
			of := target{action: t.action, resourceType: t.resourceType}
			ix.ids[of] = append(ix.ids[of], t.resourceID)
		}
		if t.resourceType != "" {
			if ix.types[t.action] == nil {
				ix.types[t.action] = map[string]bool{}
			}
			ix.types[t.action][t.resourceType] = true
		}
	}
	g.rules = append(g.rules, r)
}

// finish gathers what the rules of g read, and how they can be looked up.
func (g *group) finish() {
	for _, r := range g.rules {
		g.slots = append(g.slots, r.slots...)
		g.readsSubjectID = g.readsSubjectID || r.readsSubjectID
		g.readsResourceID = g.readsResourceID || r.readsResourceID
		g.readsResourceType = g.readsResourceType || r.readsResourceType
	}
	slices.Sort(g.slots)
	g.slots = slices.Compact(g.slots)
	g.index()
}

// untypedReadsResource says whether rules on the action and on no resource type read
// attributes of the resource: then types that declare them need plans of their own.
func (ix *indexer) untypedReadsResource(action string) bool {
	g := ix.groups[target{action: action}]
	return g != nil && slices.ContainsFunc(g.slots, func(slot int) bool {
		return strings.HasPrefix(ix.set.table.names[slot], rootResource+".")
	})
}

// action makes the plans of one action.
func (ix *indexer) action(a *Action, name string) *actionPlans {
	plans := &actionPlans{byType: map[string]*typePlans{}}
	plans.other = ix.plan(a, target{action: name}, true)
	distinct := map[string]bool{}
	maps.Copy(distinct, ix.types[""])
	maps.Copy(distinct, ix.types[name])
	for scope, declared := range ix.bundle.Attributes {
		if t, ok := strings.CutPrefix(scope, rootResource+"."); ok && !distinct[t] && ix.readsAny(plans.other, declared) {
			distinct[t] = true
		}
	}
	for _, t := range sortedKeys(distinct) {
		of := &typePlans{other: ix.plan(a, target{action: name, resourceType: t}, false)}
		ids := slices.Concat(ix.ids[target{resourceType: t}], ix.ids[target{action: name, resourceType: t}])
		slices.Sort(ids)
		ids = slices.Compact(ids)
		if len(ids) > 0 {
			of.byID = make(map[string]*Plan, len(ids))
		}
		for _, id := range ids {
			of.byID[id] = ix.plan(a, target{action: name, resourceType: t, resourceID: id}, false)
		}
		plans.byType[t] = of
	}
	return plans
}

// readsAny says whether a candidate of p reads one of the attributes that a resource type
// declares.
func (ix *indexer) readsAny(p *Plan, declared map[string]*Attribute) bool {
	for _, g := range p.groups {
		for _, slot := range g.slots {
			root, name, _ := strings.Cut(ix.set.table.names[slot], ".")
			if root == rootResource && declared[name] != nil {
				return true
			}
		}
	}
	return false
}

// plan makes the plan for t. severalTypes says that it serves more than t's resource type.
func (ix *indexer) plan(a *Action, t target, severalTypes bool) *Plan {
	ix.plans++
	p := &Plan{Ordinal: uint32(ix.plans), Action: a, set: ix.set}
	var slots []int
	for _, of := range [...]target{
		{},
		{action: t.action},
		{resourceType: t.resourceType},
		{action: t.action, resourceType: t.resourceType},
		{resourceType: t.resourceType, resourceID: t.resourceID},
		t,
	} {
		g := ix.groups[of]
		if g == nil || slices.Contains(p.groups, g) {
			continue
		}
		p.groups = append(p.groups, g)
		slots = append(slots, g.slots...)
		p.ReadsSubjectID = p.ReadsSubjectID || g.readsSubjectID
		p.ReadsResourceID = p.ReadsResourceID || g.readsResourceID
		p.ReadsResourceType = p.ReadsResourceType || g.readsResourceType && severalTypes
	}
	slices.Sort(slots)
	ix.bind(p, slices.Compact(slots), t)
	return p
}

// bind resolves the slots that p's candidates read to declarations. Plans with the same
// answer share it.
func (ix *indexer) bind(p *Plan, slots []int, t target) {
	key := fmt.Sprint(slots, t.resourceType, ":", t.action)
	if same := ix.memo[key]; same != nil {
		p.Reads, p.bound, p.subjects = same.Reads, same.bound, same.subjects
		return
	}
	ix.memo[key] = p
	subjects := map[string][]binding{}
	for _, slot := range slots {
		root, name, _ := strings.Cut(ix.set.table.names[slot], ".")
		scope := root
		switch root {
		case rootSubject:
			for _, of := range sortedKeys(ix.bundle.Attributes) {
				subjectType, ok := strings.CutPrefix(of, rootSubject+".")
				if attr := ix.bundle.Attributes[of][name]; ok && attr != nil {
					subjects[subjectType] = append(subjects[subjectType], bindingOf(slot, attr))
					p.Reads = append(p.Reads, attr)
				}
			}
			continue
		case rootResource:
			scope += "." + t.resourceType
		case rootAction:
			scope += "." + t.action
		}
		if attr := ix.bundle.Attributes[scope][name]; attr != nil {
			p.bound = append(p.bound, bindingOf(slot, attr))
			p.Reads = append(p.Reads, attr)
		}
	}
	for _, of := range sortedKeys(subjects) {
		p.subjects = append(p.subjects, subjectBindings{of, subjects[of]})
	}
}
