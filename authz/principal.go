package authz

// Principal is who asks: an agent, usually on behalf of a user, in a session,
// holding a token, through a chain of delegation grants. An empty member is one
// that the request does not name.
//
// Package identity makes a Principal from a request. Today it takes the claims of
// an authenticated gateway as they are; verified tokens will fill the same type.
type Principal struct {
	Tenant   string
	Agent    string   // the current actor
	Actors   []string // prior actors of the chain (RFC 8693 nested "act"), nearest first
	Instance string
	User     string
	Session  string
	Token    string
	Grants   []Delegation
	Tool     string // the tool called, where the resource is one

	Scopes    []string // claimed scopes, as given; meaningful where HasScopes
	HasScopes bool
	IssuedAt  Instant // when the credential was issued; 0 where it does not say
	Expires   Instant // when the credential ends; 0 where it does not say

	// Problem says why the claims do not make a principal: NoAgent, AmbiguousAgent,
	// TenantMismatch or CouldNotEvaluate. Empty when they do.
	Problem Code
	// Input names the claim behind a Problem, as a path such as "context.session".
	Input string
}

// Ends gives the earliest end of the credential and of the grants; 0 where none is
// stated.
func (p *Principal) Ends() Instant {
	ends := p.Expires
	for i := range p.Grants {
		if e := p.Grants[i].Expires; e != 0 && (ends == 0 || e < ends) {
			ends = e
		}
	}
	return ends
}

// Delegation is one grant of the chain that the request names.
type Delegation struct {
	ID        string
	Scopes    []string // meaningful where HasScopes
	HasScopes bool
	IssuedAt  Instant
	Expires   Instant
}

// Caller is an authenticated client of the decision port.
type Caller struct {
	Name string
	// Tenants are those that the client may ask about; the first is meant when a
	// request names none.
	Tenants []string
	// Agentless are the subject types that the client may ask about without an agent.
	Agentless []string
	// Full lets the client see every member of a decision, not only codes.
	Full bool
}
