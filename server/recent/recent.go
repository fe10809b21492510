// Package recent remembers the latest decisions that were not an allow, with what they
// were made of, bounded in bytes per tenant, repeats counted; and writes the decision
// log line. Neither ever makes a decision wait.
package recent

import (
	"time"

	"vigil/authz"
	"vigil/posture"
)

// Event is one decision as it was answered. Ring and Log copy what they keep of it, but
// for the Decision, which is immutable.
type Event struct {
	Client    string
	Tenant    string // whose decision it is: one of the caller's tenants
	RequestID string
	TraceID   string
	Caller    *authz.Caller
	Request   *authz.Request
	Principal *authz.Principal
	Answer    authz.Answer
	Took      time.Duration
}

// Entry is one remembered decision. The same answer to the same question, which is the
// same agent, action, resource and code, is one entry with a count; Request, Principal,
// Answer and Records are those of the first.
type Entry struct {
	ID        string
	Tenant    string
	Count     uint64
	First     authz.Instant
	Last      authz.Instant
	Client    string
	RequestID string // of the latest
	TraceID   string // of the first
	Caller    authz.Caller
	Request   *authz.Request
	// Bare says that Request was too large to be kept whole: its properties and its
	// context are missing, so that it cannot be explained again.
	Bare      bool
	Principal *authz.Principal
	Answer    authz.Answer
	// Records is what was known, right after the decision, of the entities that the
	// request names. Record.At(Answer.At) gives their posture then.
	Records []Reading
	// Cursor is for Query.Before.
	Cursor uint64
}

// Reading is one entity and its record; nil where nothing was known of it.
type Reading struct {
	Ref    authz.Ref
	Record *posture.Record
}

// touched lists the entities that p names, without repeats but for those that a
// request repeats itself.
func touched(p *authz.Principal) []authz.Ref {
	refs := make([]authz.Ref, 0, 8+len(p.Actors)+len(p.Grants))
	add := func(kind authz.Kind, id string) {
		if id != "" {
			refs = append(refs, authz.Ref{Kind: kind, ID: id})
		}
	}
	add(authz.KindAgent, p.Agent)
	for _, actor := range p.Actors {
		add(authz.KindAgent, actor)
	}
	add(authz.KindInstance, p.Instance)
	add(authz.KindUser, p.User)
	add(authz.KindSession, p.Session)
	add(authz.KindToken, p.Token)
	for i := range p.Grants {
		add(authz.KindGrant, p.Grants[i].ID)
	}
	add(authz.KindTool, p.Tool)
	add(authz.KindTenant, p.Tenant)
	return append(refs, authz.Ref{Kind: authz.KindEverything})
}

func clonePrincipal(p *authz.Principal) *authz.Principal {
	c := *p
	for _, s := range []*string{&c.Tenant, &c.Agent, &c.Instance, &c.User, &c.Session, &c.Token, &c.Tool, &c.Input} {
		*s = clone(*s)
	}
	c.Problem = authz.Code(clone(string(c.Problem)))
	c.Actors, c.Scopes = cloneAll(p.Actors), cloneAll(p.Scopes)
	c.Grants = nil
	for _, g := range p.Grants {
		g.ID, g.Scopes = clone(g.ID), cloneAll(g.Scopes)
		c.Grants = append(c.Grants, g)
	}
	return &c
}

func clone(s string) string { return string([]byte(s)) }

func cloneAll(all []string) []string {
	if all == nil {
		return nil
	}
	c := make([]string, len(all))
	for i := range all {
		c[i] = clone(all[i])
	}
	return c
}

// bare is r without what may be large.
func bare(r *authz.Request) *authz.Request {
	return (&authz.Request{
		Subject:  authz.Party{Type: r.Subject.Type, ID: r.Subject.ID},
		Action:   authz.Action{Name: r.Action.Name},
		Resource: authz.Party{Type: r.Resource.Type, ID: r.Resource.ID},
	}).Clone()
}

// The sizes below are what a clone takes, near enough.

func sizeOfRequest(r *authz.Request) int {
	return 256 + len(r.Subject.Type) + len(r.Subject.ID) + len(r.Action.Name) + len(r.Resource.Type) + len(r.Resource.ID) +
		sizeOfMembers(r.Subject.Properties) + sizeOfMembers(r.Action.Properties) +
		sizeOfMembers(r.Resource.Properties) + sizeOfMembers(r.Context)
}

func sizeOfMembers(members []authz.Member) int {
	n := 0
	for i := range members {
		m := &members[i]
		n += 72 + len(m.Name) + len(m.Value.Str) + sizeOfMembers(m.Value.Members)
	}
	return n
}

func sizeOfPrincipal(p *authz.Principal) int {
	n := 320 + len(p.Tenant) + len(p.Agent) + len(p.Instance) + len(p.User) + len(p.Session) + len(p.Token) + len(p.Tool) +
		sizeOfStrings(p.Actors) + sizeOfStrings(p.Scopes)
	for i := range p.Grants {
		n += 80 + len(p.Grants[i].ID) + sizeOfStrings(p.Grants[i].Scopes)
	}
	return n
}

func sizeOfStrings(all []string) int {
	n := 0
	for _, s := range all {
		n += 16 + len(s)
	}
	return n
}
