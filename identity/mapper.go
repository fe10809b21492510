package identity

import "vigil/authz"

// Mapping says where in a request the claims stand. The zero Mapping is not usable;
// start from DefaultMapping.
type Mapping struct {
	AgentType string   // subject type that is an agent itself
	Actor     []string // path of the RFC 8693 "act" object
	Agent     []string // path of the agent, a string or an object {id, instance}
	Instance  []string
	Session   []string
	Token     []string
	Grants    []string // list of ids or of objects {id, scope, iat, exp}
	Scope     []string // space-separated string or list
	IssuedAt  []string // NumericDate or RFC 3339
	Expires   []string
	Tenant    []string
	ToolTypes []string // resource types that are tools
}

// DefaultMapping is the safe default, documented in docs/api.md.
func DefaultMapping() Mapping { panic("unwritten") }

// Validate checks m and gathers everything wrong with it.
func (m *Mapping) Validate() error { panic("unwritten") }

// Principal makes p what req claims, for caller. p is reused: its slices are
// overwritten. The strings of p alias those of req. It is on the hot path: it
// allocates only where p's slices must grow.
func (m *Mapping) Principal(caller *authz.Caller, req *authz.Request, p *authz.Principal) {
	panic("unwritten")
}
