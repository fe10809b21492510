package rules

import (
	"maps"
	"slices"
)

// Compile checks a bundle's meaning and makes a Set of it, gathering every error.
func Compile(b *Bundle) (*Set, Errors) {
	c := &compiler{bundle: b}
	c.lists = map[string]*constantList{}
	for name, l := range b.Lists {
		c.lists[name] = newConstantList(l)
	}
	c.table = newSlotTable(b, c.lists)
	c.scopes = newScopeBuilder(b, c.table, c.lists)
	c.defaults()
	rules := slices.SortedFunc(slices.Values(b.Rules), compareRules)
	compiled := make([]*rule, 0, len(rules))
	for _, r := range rules {
		if made := c.rule(r); made != nil {
			made.ordinal = len(compiled)
			compiled = append(compiled, made)
		}
	}
	if len(c.errs) > 0 {
		return nil, finishErrors(c.errs)
	}
	set := &Set{
		digest:    digest(b),
		profiles:  maps.Clone(b.Profiles),
		agentless: map[string]*Profile{},
		table:     c.table,
		rules:     compiled,
	}
	for _, t := range b.Agentless.Types {
		set.agentless[t] = b.Profiles[b.Agentless.Profile]
	}
	if err := set.index(b); err != nil {
		c.errs = append(c.errs, *err)
		return nil, finishErrors(c.errs)
	}
	return set, nil
}

// compiler gathers what is wrong while it compiles.
type compiler struct {
	bundle *Bundle
	table  *slotTable
	lists  map[string]*constantList
	scopes *scopeBuilder
	errs   []Error
}

// defaults checks that every default is a value that a request could bring.
func (c *compiler) defaults() {
	for _, scope := range slices.Sorted(maps.Keys(c.bundle.Attributes)) {
		attributes := c.bundle.Attributes[scope]
		for _, name := range slices.Sorted(maps.Keys(attributes)) {
			a := attributes[name]
			if a.Default == nil {
				continue
			}
			var s slot
			s.fill(a, a.Default)
			if s.state != slotOK {
				c.errs = append(c.errs, c.bundle.errorAt(a.Pos, "", "the default of "+a.Name+": "+explainBad(a, a.Default)))
			}
		}
	}
}

func compareRules(a, b *Rule) int {
	switch {
	case a.ID < b.ID:
		return -1
	case a.ID > b.ID:
		return 1
	}
	return a.Pos.compare(b.Pos)
}
