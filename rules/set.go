package rules

import (
	"vigil/authz"
)

// Set is a compiled bundle. It is immutable and safe for concurrent use.
type Set struct {
	digest    string
	profiles  map[string]*Profile
	agentless map[string]*Profile // by subject type
	required  []Required
	table     *slotTable
	rules     []*rule                 // sorted by id
	plans     map[string]*actionPlans // by action
}

// Digest is "sha256:" and 64 hex digits over what the bundle means: it does not depend
// on the order of files, of rules or of map keys, nor on test files.
func (s *Set) Digest() string { return s.digest }

// Profile gives the profile that class names, or nil where the bundle declares none such.
// "unregistered" is nil unless declared.
func (s *Set) Profile(class string) *Profile { return s.profiles[class] }

// Agentless gives the profile for subjects of a type that may act without an agent, or nil.
func (s *Set) Agentless(subjectType string) *Profile { return s.agentless[subjectType] }

// Required is a source that profiles need, with the profiles that do.
type Required struct {
	Need
	Profiles []*Profile // by name
}

// Required gives the sources that profiles need, by name; nil where none needs any. Nobody
// changes it.
func (s *Set) Required() []Required { return s.required }

// Frame is what rules may read for one evaluation. Standings are indexed by
// authz.Kind; nil where the request does not name such an entity. A Frame is for one
// goroutine and is reused: it keeps the working memory of the Set that it last served.
type Frame struct {
	Request   *authz.Request
	Standings [authz.NumKinds]*authz.Standing
	Now       authz.Instant

	scratch *scratch
}

// Verdict is what the rules say, before posture's own demands. Its members mean what
// they do in authz.Decision, and its slices are shared: nobody changes them.
type Verdict struct {
	Effect      authz.Effect
	Class       authz.Class
	Code        authz.Code
	Input       string
	Rules       []string
	Errors      []authz.RuleError // of every candidate, in the order of their ids, at most 32
	Observed    []authz.Observation
	Obligations []authz.Obligation
	ReasonUser  string
	ReasonAdmin string
	// ValidUntil is when a rule that read now may change its mind; authz.Forever where
	// none read it.
	ValidUntil authz.Instant
}
