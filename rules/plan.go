package rules

import (
	"vigil/authz"
)

// Plan is the candidates for one combination of action, resource type and, where rules
// name it, resource id, over all classes and subject types. It is immutable and safe for
// concurrent use.
//
// What a Verdict depends on besides Reads and the flags: the request's subject type, the
// class, the standings, and now as far as ValidUntil says.
type Plan struct {
	Ordinal uint32  // distinct within the Set; part of the cache key
	Action  *Action // never nil
	// Reads are the request attributes that some candidate reads, in a fixed order.
	// Their values are part of the cache key.
	Reads []*Attribute
	// ReadsResourceID: some candidate reads resource.id.
	ReadsResourceID bool
	// ReadsSubjectID: some candidate reads subject.id.
	ReadsSubjectID bool
	// ReadsResourceType: some candidate reads resource.type, and the plan serves several
	// types.
	ReadsResourceType bool

	set    *Set
	groups []*group
	// bound are the declarations behind the slots of resource, action and context that the
	// candidates read; subjectBound those of the subject, by its type.
	bound        []binding
	subjectBound map[string][]binding
}

// binding is the declaration that applies to a slot.
type binding struct {
	slot int
	attr *Attribute
}

// group is the rules of one `on`: plans share it.
type group struct {
	rules             []*rule // sorted by id
	slots             []int   // the attributes that they read, sorted
	readsSubjectID    bool
	readsResourceID   bool
	readsResourceType bool
}

// Value gives the attribute's value in req, or nil where it is absent. It does not
// check its type. An attribute of another type of subject or resource, or of another
// action, than req has is absent.
//
// It is on the hot path. The roots of scopes differ in their first letter.
func (a *Attribute) Value(req *authz.Request) *authz.Value {
	switch a.Scope[0] {
	case rootContext[0]:
		return req.Context.Get(a.Name)
	case rootResource[0]:
		if a.Scope[len(rootResource)+1:] == req.Resource.Type {
			return req.Resource.Properties.Get(a.Name)
		}
	case rootSubject[0]:
		if a.Scope[len(rootSubject)+1:] == req.Subject.Type {
			return req.Subject.Properties.Get(a.Name)
		}
	case rootAction[0]:
		if a.Scope[len(rootAction)+1:] == req.Action.Name {
			return req.Action.Properties.Get(a.Name)
		}
	}
	return nil
}

// actionPlans are the plans of one action.
type actionPlans struct {
	byType map[string]*typePlans
	other  *Plan // for resource types that nothing distinguishes
}

// typePlans are the plans of one action and resource type.
type typePlans struct {
	byID  map[string]*Plan // for the ids that rules name
	other *Plan
}

// Plan gives what there is to evaluate for a request, or nil where the action is not
// declared. It is on the hot path: it does not allocate or lock.
func (s *Set) Plan(action, resourceType, resourceID string) *Plan {
	ofAction := s.plans[action]
	if ofAction == nil {
		return nil
	}
	ofType := ofAction.byType[resourceType]
	if ofType == nil {
		return ofAction.other
	}
	if len(ofType.byID) > 0 {
		if p := ofType.byID[resourceID]; p != nil {
			return p
		}
	}
	return ofType.other
}
