package identity

import (
	"math"
	"slices"
	"strings"
	"time"

	"vigil/authz"
)

// The most that a request may name, so that the work per decision is bounded. More is
// not ignored: the request could then not be judged by all it names.
const (
	MaxActors = 8
	MaxGrants = 8
	MaxScopes = 256
)

// Principal makes p what req claims, for caller. p is reused: its slices are
// overwritten. The strings of p alias those of req. It is on the hot path: it
// allocates only where p's slices must grow.
//
// A claim of the wrong type makes p.Problem CouldNotEvaluate with the claim's path in
// p.Input: it is neither ignored nor coerced.
func (m *Mapping) Principal(caller *authz.Caller, req *authz.Request, p *authz.Principal) {
	*p = authz.Principal{Actors: p.Actors[:0], Grants: p.Grants[:0], Scopes: p.Scopes[:0]}
	c := claims{m: m, req: req, p: p}

	c.tenant(caller)
	c.agents()
	if req.Resource.ID != "" && slices.Contains(m.ToolTypes, req.Resource.Type) {
		p.Tool = req.Resource.ID
		c.fit(p.Tool, "resource.id")
	}
	if v := c.find(m.Instance); v != nil {
		c.one(&p.Instance, c.text(v, m.Instance), m.Instance)
	}
	c.times(c.find(m.IssuedAt), c.find(m.Expires), m.IssuedAt, m.Expires, &p.IssuedAt, &p.Expires)
	p.Token = c.credential(m.Token)
	// A token that does not say when it was issued is vouched for by no session: it may be
	// older. The session's own issue time can only make the request older still.
	silent := p.Token != "" && p.IssuedAt == 0
	p.Session = c.credential(m.Session)
	if silent {
		p.IssuedAt = 0
	}
	if v := c.find(m.Scope); v != nil {
		p.Scopes, p.HasScopes = c.scopes(p.Scopes, v, m.Scope)
	}
	c.grants()
}

// claims reads one request's claims into one principal. The first problem stays.
type claims struct {
	m   *Mapping
	req *authz.Request
	p   *authz.Principal
}

func (c *claims) problem(code authz.Code, path []string, more ...string) {
	if c.p.Problem == "" {
		c.p.Problem = code
		c.p.Input = strings.Join(append(slices.Clone(path), more...), ".")
	}
}

func (c *claims) unreadable(path []string, more ...string) {
	c.problem(authz.CouldNotEvaluate, path, more...)
}

// find gives the claim at path, or nil. A path that leads through something that is no
// object makes a problem: the claim would go unread.
func (c *claims) find(path []string) *authz.Value {
	v, ok := find(c.req, path)
	if !ok {
		c.unreadable(path)
	}
	return v
}

// fit makes an id that no signal could name a problem.
func (c *claims) fit(id string, path ...string) {
	if authz.CheckID(id) != nil {
		c.unreadable(path)
	}
}

func (c *claims) text(v *authz.Value, path []string, more ...string) string {
	if v == nil || v.Kind != authz.String || authz.CheckID(v.Str) != nil {
		c.unreadable(path, more...)
		return ""
	}
	return v.Str
}

// one sets *to, which may have been named before: naming two is ambiguous.
func (c *claims) one(to *string, id string, path []string) {
	if *to != "" && id != "" && *to != id {
		c.problem(authz.AmbiguousAgent, path)
		return
	}
	if id != "" {
		*to = id
	}
}

func (c *claims) tenant(caller *authz.Caller) {
	p := c.p
	p.Tenant = authz.DefaultTenant
	if len(caller.Tenants) > 0 {
		p.Tenant = caller.Tenants[0]
	}
	v := c.find(c.m.Tenant)
	if v == nil {
		return
	}
	named := c.text(v, c.m.Tenant)
	if named == p.Tenant {
		return
	}
	if !slices.Contains(caller.Tenants, named) {
		c.problem(authz.TenantMismatch, c.m.Tenant)
		return
	}
	p.Tenant = named
}

func (c *claims) agents() {
	p, req, m := c.p, c.req, c.m
	c.fit(req.Subject.ID, "subject.id")
	if req.Subject.Type == m.AgentType {
		p.Agent = req.Subject.ID
	} else {
		p.User = req.Subject.ID
	}
	if act := c.find(m.Actor); act != nil {
		c.actors(act)
	}
	v := c.find(m.Agent)
	switch {
	case v == nil:
	case v.Kind == authz.Map:
		c.one(&p.Agent, c.text(authz.Object(v.Members).Get("id"), m.Agent, "id"), m.Agent)
		if in := authz.Object(v.Members).Get("instance"); in != nil {
			c.one(&p.Instance, c.text(in, m.Agent, "instance"), m.Agent)
		}
	default:
		c.one(&p.Agent, c.text(v, m.Agent), m.Agent)
	}
}

// actors walks the nested "act" claim: the outermost is the current actor, the others
// are prior actors (RFC 8693 section 4.1). Prior actors never grant anything; they are
// kept because the revocation of any of them ends the chain.
func (c *claims) actors(act *authz.Value) {
	for depth := 0; act != nil; depth++ {
		if act.Kind != authz.Map || depth > MaxActors {
			c.unreadable(c.m.Actor)
			return
		}
		members := authz.Object(act.Members)
		sub := c.text(members.Get("sub"), c.m.Actor, "sub")
		if depth == 0 {
			c.one(&c.p.Agent, sub, c.m.Actor)
		} else {
			c.p.Actors = append(c.p.Actors, sub)
		}
		act = members.Get("act")
	}
}

// credential reads a session or a token: its id, and its times into the principal's.
func (c *claims) credential(path []string) string {
	v := c.find(path)
	switch {
	case v == nil:
		return ""
	case v.Kind == authz.Map:
		o := authz.Object(v.Members)
		c.times(o.Get("iat"), o.Get("exp"), path, path, &c.p.IssuedAt, &c.p.Expires)
		return c.text(o.Get("id"), path, "id")
	}
	return c.text(v, path)
}

func (c *claims) grants() {
	path := c.m.Grants
	v := c.find(path)
	if v == nil {
		return
	}
	if v.Kind != authz.List || len(v.Members) > MaxGrants {
		c.unreadable(path)
		return
	}
	for i := range v.Members {
		g, item := c.nextGrant(), &v.Members[i].Value
		if item.Kind != authz.Map {
			g.ID = c.text(item, path)
			continue
		}
		o := authz.Object(item.Members)
		g.ID = c.text(o.Get("id"), path, "id")
		if scope := o.Get("scope"); scope != nil {
			g.Scopes, g.HasScopes = c.scopes(g.Scopes, scope, path)
		}
		c.times(o.Get("iat"), o.Get("exp"), path, path, &g.IssuedAt, &g.Expires)
	}
}

// nextGrant appends an empty grant that reuses the slice of an earlier request's.
func (c *claims) nextGrant() *authz.Delegation {
	p, n := c.p, len(c.p.Grants)
	if n < cap(p.Grants) {
		p.Grants = p.Grants[:n+1]
		p.Grants[n] = authz.Delegation{Scopes: p.Grants[n].Scopes[:0]}
	} else {
		p.Grants = append(p.Grants, authz.Delegation{})
	}
	return &p.Grants[n]
}

func (c *claims) scopes(to []string, v *authz.Value, path []string) ([]string, bool) {
	switch v.Kind {
	case authz.String:
		for rest := v.Str; rest != ""; {
			var one string
			if one, rest, _ = strings.Cut(rest, " "); one != "" {
				to = append(to, one)
			}
			if len(to) > MaxScopes {
				break
			}
		}
	case authz.List:
		for i := range v.Members {
			to = append(to, c.text(&v.Members[i].Value, path))
			if len(to) > MaxScopes {
				break
			}
		}
	default:
		c.unreadable(path)
	}
	if len(to) > MaxScopes {
		c.unreadable(path)
	}
	return to, true
}

// times folds an issue time and an expiry into those that are known already: where a
// request states several, the oldest issue and the earliest end count.
func (c *claims) times(iat, exp *authz.Value, iatPath, expPath []string, issued, expires *authz.Instant) {
	if iat != nil {
		if at, ok := instant(iat); !ok {
			c.unreadable(iatPath)
		} else if *issued == 0 || at < *issued {
			*issued = at
		}
	}
	if exp != nil {
		if at, ok := instant(exp); !ok {
			c.unreadable(expPath)
		} else if *expires == 0 || at < *expires {
			*expires = at
		}
	}
}

// instant reads a NumericDate (RFC 7519 section 2: seconds, fractions allowed) or an
// RFC 3339 time. Times at or before 1970 and beyond 2262 are refused: they are
// mistakes, and zero means "not stated" here.
func instant(v *authz.Value) (authz.Instant, bool) {
	switch v.Kind {
	case authz.Number:
		ns := v.Num * float64(time.Second)
		if ns < 1 || ns >= math.MaxInt64 {
			return 0, false
		}
		whole, fraction := math.Modf(v.Num)
		return authz.Instant(int64(whole)*int64(time.Second) + int64(fraction*float64(time.Second))), true
	case authz.String:
		t, err := time.Parse(time.RFC3339, v.Str)
		if err != nil {
			return 0, false
		}
		at := authz.InstantOf(t)
		return at, at > 0 && at < authz.Forever-1
	}
	return 0, false
}
