package authz

import "strings"

// Request is one question: may Subject do Action on Resource, given Context? Its
// shape is that of the AuthZEN Authorization API 1.0, section 5. Strings may alias
// the buffer it was decoded from (see Value).
type Request struct {
	Subject  Party
	Action   Action
	Resource Party
	Context  Object
}

// Party is a subject or a resource: something with a type and an id.
type Party struct {
	Type       string
	ID         string
	Properties Object
}

// Action is what the subject wants to do.
type Action struct {
	Name       string
	Properties Object
}

// Clone copies r and everything it refers to.
func (r *Request) Clone() *Request {
	return &Request{
		Subject:  r.Subject.clone(),
		Action:   Action{Name: strings.Clone(r.Action.Name), Properties: r.Action.Properties.Clone()},
		Resource: r.Resource.clone(),
		Context:  r.Context.Clone(),
	}
}

func (p Party) clone() Party {
	return Party{Type: strings.Clone(p.Type), ID: strings.Clone(p.ID), Properties: p.Properties.Clone()}
}
