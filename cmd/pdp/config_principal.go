package main

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"vigil/identity"
)

// claimPaths names the members of an identity.Mapping that are paths into a request.
func claimPaths(m *identity.Mapping) map[string]*[]string {
	return map[string]*[]string{
		"actor": &m.Actor, "agent": &m.Agent, "instance": &m.Instance, "session": &m.Session,
		"token": &m.Token, "grants": &m.Grants, "scope": &m.Scope, "issued_at": &m.IssuedAt,
		"expires": &m.Expires, "tenant": &m.Tenant,
	}
}

var principalKeys = []string{
	"agent_type", "tool_types", "actor", "agent", "instance", "session", "token", "grants",
	"scope", "issued_at", "expires", "tenant",
}

// principal reads where in a request the claims stand: a path as words between dots, or
// as a list where a name holds a dot. An empty list means that the claim is never made.
func (r *yamlReader) principal(n *yaml.Node) {
	m := &r.config.Principal
	paths := claimPaths(m)
	for key, value := range r.pairs(n, "principal") {
		r.config.at["principal."+key.Value] = r.place(value)
		switch path := paths[key.Value]; {
		case key.Value == "agent_type":
			m.AgentType, _ = r.scalar(value)
		case key.Value == "tool_types":
			m.ToolTypes, _ = r.words(value)
		case path == nil:
			r.bad(key, "unknown key %q%s", key.Value, didYouMean(key.Value, principalKeys))
		case value.Kind == yaml.SequenceNode:
			*path, _ = r.words(value)
		default:
			if text, ok := r.scalar(value); ok {
				*path = strings.Split(text, ".")
			}
		}
	}
}

// checkPrincipal says what identity finds wrong, at the place of the claim it names.
func (c *config) checkPrincipal(all *problems) {
	err := c.Principal.Validate()
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		name, _, _ := strings.Cut(line, ":")
		place := c.at["principal."+name]
		if place == "" {
			place = c.where("principal")
		}
		all.add(place, "principal: %s", line)
	}
}
