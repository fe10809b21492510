package authz

import "sync/atomic"

// Effect is what a decision says. The zero Effect is Deny.
type Effect uint8

// The effects, strongest first.
const (
	Deny Effect = iota
	// Require means that an obligation is missing: the caller is answered no, with
	// the obligation named.
	Require
	Allow
)

func (e Effect) String() string { return [...]string{"deny", "require", "allow"}[e] }

// Class says what kind of reason decided. The zero Class is ClassDefault: nothing
// matched.
type Class uint8

// The classes of reason.
const (
	ClassDefault Class = iota
	ClassAllow
	ClassGate
	ClassRule
	ClassRequire
	ClassError
	ClassStale
)

func (c Class) String() string {
	return [...]string{"default", "allow", "gate", "rule", "require", "error", "stale"}[c]
}

// Code names the reason of a decision for machines. It is part of the API.
type Code string

// The codes.
const (
	Allowed          Code = "allowed"
	NoAllowRule      Code = "no_allow_rule"
	DeniedByRule     Code = "denied_by_rule"
	Obliged          Code = "obligation_required"
	ApprovalRequired Code = "approval_required"
	CouldNotEvaluate Code = "could_not_evaluate"
	StaleView        Code = "stale"
	SourceSilent     Code = "source_silent"

	NoAgent            Code = "no_agent"
	AmbiguousAgent     Code = "ambiguous_agent"
	TenantMismatch     Code = "tenant_mismatch"
	CredentialExpired  Code = "expired"
	UnreadableSignal   Code = "unreadable_signal"
	EntityRevoked      Code = "revoked"
	EntityDecommission Code = "decommissioned"
	EntityQuarantined  Code = "quarantined"
	IssuedBefore       Code = "issued_before_cutoff"
	Unregistered       Code = "unregistered"
	UnknownClass       Code = "unknown_class"
	MissingMember      Code = "missing_member"
	UnknownAction      Code = "unknown_action"
	ScopeNotHeld       Code = "scope_not_held"
	AttestationFailed  Code = "attestation_failed"
	AttestationMissing Code = "attestation_missing"
	AttestationStale   Code = "attestation_stale"
)

// Obligation is something that must be done before the answer can be yes.
type Obligation struct {
	ID         string
	Type       string
	Properties []byte // a JSON object, or nil
}

// RuleError is a rule that could not be evaluated.
type RuleError struct {
	Rule    string
	Input   string // the attribute that was missing or of the wrong type; "" where it was neither
	Message string
}

// Observation is an observe-mode rule that would have spoken.
type Observation struct {
	Rule   string
	Effect Effect
}

// Decision is the answer to one request, true of posture at one instant. It is
// immutable once made and may be shared by every caller it is cached for; what
// differs from call to call is in Answer.
type Decision struct {
	Effect Effect
	Class  Class
	// What every answer looks at stands first, in one cache line.
	Errors   []RuleError
	Observed []Observation

	Code        Code
	Entity      Ref      // the entity that a gate stopped at
	Input       string   // the input that could not be evaluated
	Rules       []string // ids of the deciding rules, sorted
	Obligations []Obligation
	ReasonUser  string // fit for end users
	ReasonAdmin string // for operators: names entities, sources and values
	ValidUntil  Instant
	Bundle      string // digest of the rule set
	// Waived names the exceptions without which a silent source would have stopped this,
	// each by the source that granted it and the id of its signal, as "client:soc/INC-7".
	Waived []string

	// Evidence is what the decision was computed from, kept by the engine so that a
	// decision other than an allow can be explained later exactly as it was made.
	// It is opaque here; nil where nothing was kept.
	Evidence any
}

// Answer is a Decision as one caller gets it.
type Answer struct {
	*Decision
	AsOf string  // opaque: the position that the decision is at least as new as
	At   Instant // now, as the decision saw it
	// Expires is the earliest end of what the request itself carries; 0 where none is
	// stated. The answer is good until then or ValidUntil, whichever is first.
	Expires Instant
	Cache   Lookup
	// Memo stands beside a cached decision, for whoever encodes it; nil elsewhere.
	Memo *Memo
}

// Memo keeps what an encoder made of a cached decision, so that the next hit need not
// make it again. It is safe for concurrent use: several may make the same, and the last
// one stays. The zero Memo is empty. What is kept must not change.
type Memo struct {
	Brief, Full atomic.Pointer[[]byte]
}

// GoodUntil is when time alone may change the answer: the earlier of ValidUntil and
// Expires.
func (a Answer) GoodUntil() Instant {
	if a.Expires != 0 && a.Expires < a.ValidUntil {
		return a.Expires
	}
	return a.ValidUntil
}

// Lookup says what the decision cache had for a request.
type Lookup uint8

// The results of a look-up.
const (
	Bypass     Lookup = iota // the cache is off, or the decision is not one to cache
	Hit                      // an entry whose every record is current
	MissAbsent               // no entry
	MissStale                // an entry that a signal or a reload had overtaken
	MissExpired
	MissForeign // another key with the same hash
)

func (l Lookup) String() string {
	return [...]string{"bypass", "hit", "absent", "stale", "expired", "unverified_key"}[l]
}
