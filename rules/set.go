package rules

import (
	"vigil/authz"
)

// Set is a compiled bundle. It is immutable and safe for concurrent use.
type Set struct{}

// Digest is "sha256:" and 64 hex digits over what the bundle means: it does not depend
// on the order of files, of rules or of map keys, nor on test files.
func (s *Set) Digest() string { panic("unwritten") }

// Plan gives what there is to evaluate for a request, or nil where the action is not
// declared. It is on the hot path: it does not allocate or lock.
func (s *Set) Plan(action, resourceType, resourceID string) *Plan { panic("unwritten") }

// Profile gives the profile that class names, or nil where the bundle declares none such.
// "unregistered" is nil unless declared.
func (s *Set) Profile(class string) *Profile { panic("unwritten") }

// Agentless gives the profile for subjects of a type that may act without an agent, or nil.
func (s *Set) Agentless(subjectType string) *Profile { panic("unwritten") }

// Plan is the candidates for one combination of action, resource type and, where rules
// name it, resource id, over all classes and subject types.
type Plan struct {
	Ordinal uint32  // distinct within the Set; part of the cache key
	Action  *Action // never nil
	// Reads are the request attributes that some candidate reads, in a fixed order.
	// Their values are part of the cache key.
	Reads []*Attribute
	// ReadsResourceID: some candidate reads resource.id.
	ReadsResourceID bool
}

// Value gives the attribute's value in req, or nil where it is absent. It does not
// check its type.
func (a *Attribute) Value(req *authz.Request) *authz.Value { panic("unwritten") }

// Frame is what rules may read for one evaluation. Standings are indexed by
// authz.Kind; nil where the request does not name such an entity. A Frame is for one
// goroutine and is reused.
type Frame struct {
	Request   *authz.Request
	Standings [authz.NumKinds]*authz.Standing
	Now       authz.Instant
}

// Verdict is what the rules say, before posture's own demands. Its members mean what
// they do in authz.Decision; ValidUntil is when a rule that read now may change its mind.
type Verdict struct {
	Effect      authz.Effect
	Class       authz.Class
	Code        authz.Code
	Input       string
	Rules       []string
	Errors      []authz.RuleError
	Observed    []authz.Observation
	Obligations []authz.Obligation
	ReasonUser  string
	ReasonAdmin string
	ValidUntil  authz.Instant
}

// Evaluate evaluates the candidates that apply to class. Deny beats require beats allow;
// a deny or require rule that cannot be evaluated denies; an allow rule that cannot be
// evaluated does not allow. It never panics: a panic in a rule is a rule that cannot be
// evaluated.
func (p *Plan) Evaluate(f *Frame, class string) Verdict { panic("unwritten") }

// Explain is Evaluate with what each candidate did.
func (p *Plan) Explain(f *Frame, class string) (Verdict, []Trace) { panic("unwritten") }

// Trace is what one rule did in an evaluation.
type Trace struct {
	Rule   string
	Pos    Pos
	Effect authz.Effect
	Mode   string // enforce or observe
	Result string // true, false, error, or skipped (class or subject type does not match)
	Error  string
	Detail []string // one line per comparison or read that mattered, as "amount 4200 <= 5000"
}
