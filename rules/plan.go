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
	// candidates read; subjects those of the subject, sorted by its type.
	bound    []binding
	subjects []subjectBindings
}

// binding is the declaration that applies to a slot, and where its value is in a request.
type binding struct {
	slot int
	attr *Attribute
	name string // of the attribute
	root byte   // the first letter of the root of its scope; they differ in it
}

// subjectBindings are the bindings for one type of subject.
type subjectBindings struct {
	of    string
	bound []binding
}

// boundFor gives the bindings for a type of subject. There are few types, so that looking
// through them is quicker than a hash.
func (p *Plan) boundFor(subjectType string) []binding {
	low, high := 0, len(p.subjects)
	for low < high {
		middle := (low + high) / 2
		switch of := p.subjects[middle].of; {
		case of == subjectType:
			return p.subjects[middle].bound
		case of < subjectType:
			low = middle + 1
		default:
			high = middle
		}
	}
	return nil
}

func bindingOf(slot int, a *Attribute) binding {
	return binding{slot: slot, attr: a, name: a.Name, root: a.Scope[0]}
}

// group is the rules of one `on`: plans share it.
type group struct {
	rules             []*rule       // sorted by id
	always            []*rule       // of these, those that every request has to evaluate, sorted
	indexes           []*valueIndex // the others
	slots             []int         // the attributes that they read, sorted
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

// AppendReads appends the values in req of the attributes in Reads, such that for one plan
// and one type of subject no two different readings share an encoding. The plan has settled
// the action, and the type of the resource where it matters.
//
// It is on the hot path: it allocates only where dst must grow.
func (p *Plan) AppendReads(dst []byte, req *authz.Request) []byte {
	for i := range p.bound {
		dst = property(req, p.bound[i].root, p.bound[i].name).AppendKey(dst)
	}
	subject := p.boundFor(req.Subject.Type)
	for i := range subject {
		dst = req.Subject.Properties.Get(subject[i].name).AppendKey(dst)
	}
	return dst
}

// property gives the member of the request that an attribute under a root is about, named
// by the root's first letter. That the attribute is of the request's types is settled.
func property(req *authz.Request, root byte, name string) *authz.Value {
	switch root {
	case rootSubject[0]:
		return req.Subject.Properties.Get(name)
	case rootAction[0]:
		return req.Action.Properties.Get(name)
	case rootResource[0]:
		return req.Resource.Properties.Get(name)
	default:
		return req.Context.Get(name)
	}
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
