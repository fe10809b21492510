package rules

import (
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
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
	compiled := c.rules(slices.SortedFunc(slices.Values(b.Rules), compareRules))
	if len(c.errs) > 0 {
		return nil, finishErrors(c.errs)
	}
	set := &Set{
		digest:    digest(b),
		profiles:  maps.Clone(b.Profiles),
		agentless: map[string]*Profile{},
		required:  required(b),
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

// required gathers which profiles need which sources.
func required(b *Bundle) (all []Required) {
	for _, source := range keys(b.Required) {
		r := Required{Need: Need{source, b.Required[source].MaxSilence}}
		for _, name := range keys(b.Profiles) {
			if p := b.Profiles[name]; slices.Contains(p.Needs, r.Need) {
				r.Profiles = append(r.Profiles, p)
			}
		}
		all = append(all, r)
	}
	return all
}

// compiler gathers what is wrong while it compiles.
type compiler struct {
	bundle *Bundle
	table  *slotTable
	lists  map[string]*constantList
	scopes *scopeBuilder
	errs   []Error
}

// rules compiles the rules, sorted by id, on as many goroutines as there are processors:
// an expression takes some hundred microseconds. The goroutines end before it returns. The
// result does not depend on their order.
func (c *compiler) rules(sorted []*Rule) []*rule {
	scopes := make([]*scope, len(sorted))
	for i, r := range sorted {
		s, err := c.scopes.scopeOf(r)
		if err != nil {
			c.errs = append(c.errs, c.bundle.whenError(r, 1, 1, "the rule's variables: "+err.Error()))
			return nil
		}
		scopes[i] = s
	}
	compiled := make([]*rule, len(sorted))
	errs := make([][]Error, len(sorted))
	var next atomic.Int64 // the rule that the next idle goroutine takes
	var workers sync.WaitGroup
	var fault atomic.Pointer[string] // the first panic of a worker, with its stack
	for range min(runtime.GOMAXPROCS(0), len(sorted)) {
		workers.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					text := fmt.Sprintf("%v\n%s", v, debug.Stack())
					fault.CompareAndSwap(nil, &text)
				}
			}()
			for i := int(next.Add(1)) - 1; i < len(sorted); i = int(next.Add(1)) - 1 {
				rc := &ruleCompiler{bundle: c.bundle, scopes: c.scopes, scope: scopes[i], rule: sorted[i]}
				if compiled[i] = rc.compile(); compiled[i] != nil {
					compiled[i].ordinal = i
				}
				errs[i] = rc.errs
			}
		})
	}
	workers.Wait()
	if text := fault.Load(); text != nil {
		panic(*text) // in the caller's goroutine, who can recover from it
	}
	c.errs = append(c.errs, slices.Concat(errs...)...)
	return compiled
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
