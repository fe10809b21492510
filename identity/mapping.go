package identity

import (
	"errors"
	"fmt"
	"strings"

	"vigil/authz"
)

// Mapping says where in a request the claims stand. A path is a list of member names
// that begins with "subject", "action", "resource" or "context"; below the first three,
// claims stand in "properties". An empty path means that the claim is never made.
// The zero Mapping is not usable; start from DefaultMapping.
type Mapping struct {
	AgentType string   // subject type that is an agent itself
	Actor     []string // the RFC 8693 section 4.1 "act" object
	Agent     []string // the agent: a string, or an object {id, instance}
	Instance  []string // a string
	Session   []string // a string, or an object {id, iat, exp}
	Token     []string // a string, or an object {id, iat, exp}
	Grants    []string // a list of strings or of objects {id, scope, iat, exp}
	Scope     []string // a space-separated string (RFC 8693 section 4.2), or a list
	IssuedAt  []string // a NumericDate (RFC 7519) or RFC 3339
	Expires   []string // likewise
	Tenant    []string // a string; may only repeat a tenant that the caller has
	ToolTypes []string // resource types whose id names a tool
}

// DefaultMapping is the safe default: an agent is named by the subject itself, by the
// "act" claim of a user, or by context.agent; a request that names two is refused.
func DefaultMapping() Mapping {
	return Mapping{
		AgentType: "agent",
		Actor:     []string{"subject", "properties", "act"},
		Agent:     []string{"context", "agent"},
		Instance:  []string{"context", "instance"},
		Session:   []string{"context", "session"},
		Token:     []string{"context", "token"},
		Grants:    []string{"context", "grants"},
		Scope:     []string{"subject", "properties", "scope"},
		IssuedAt:  []string{"subject", "properties", "iat"},
		Expires:   []string{"subject", "properties", "exp"},
		Tenant:    []string{"context", "tenant"},
		ToolTypes: []string{"tool"},
	}
}

// Validate checks m and gathers everything wrong with it.
func (m *Mapping) Validate() error {
	var errs []error
	if m.AgentType == "" {
		errs = append(errs, errors.New("agent_type: is empty"))
	}
	for _, p := range []struct {
		name string
		path []string
	}{
		{"actor", m.Actor}, {"agent", m.Agent}, {"instance", m.Instance}, {"session", m.Session},
		{"token", m.Token}, {"grants", m.Grants}, {"scope", m.Scope}, {"issued_at", m.IssuedAt},
		{"expires", m.Expires}, {"tenant", m.Tenant},
	} {
		if err := checkPath(p.path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	if len(m.Actor) == 0 && len(m.Agent) == 0 {
		errs = append(errs, errors.New("actor and agent: one of them must have a path"))
	}
	return errors.Join(errs...)
}

func checkPath(path []string) error {
	if len(path) == 0 {
		return nil
	}
	for _, name := range path {
		if name == "" {
			return fmt.Errorf("%q has an empty name", strings.Join(path, "."))
		}
	}
	switch path[0] {
	case "context":
		if len(path) < 2 {
			return errors.New(`"context" is no claim: name a member`)
		}
	case "subject", "resource", "action":
		if len(path) < 3 || path[1] != "properties" {
			return fmt.Errorf("%q: want %s.properties.NAME", strings.Join(path, "."), path[0])
		}
	default:
		return fmt.Errorf("%q: want a path that begins with subject, action, resource or context", strings.Join(path, "."))
	}
	return nil
}

// find gives the value at path, or nil where there is none. It reports false where
// something on the way is no object, so that it cannot be told whether there is one.
func find(req *authz.Request, path []string) (v *authz.Value, ok bool) {
	if len(path) == 0 {
		return nil, true
	}
	object, rest := req.Context, path[1:]
	switch path[0] {
	case "subject":
		object, rest = req.Subject.Properties, path[2:]
	case "resource":
		object, rest = req.Resource.Properties, path[2:]
	case "action":
		object, rest = req.Action.Properties, path[2:]
	}
	for {
		v = object.Get(rest[0])
		if rest = rest[1:]; len(rest) == 0 || v == nil {
			return v, true
		}
		if v.Kind != authz.Map {
			return nil, false
		}
		object = v.Members
	}
}
