package signals

import (
	"vigil/authz"
)

// Type is what a signal says.
type Type string

// The types.
const (
	TypeRegister        Type = "register"
	TypeAttest          Type = "attest"
	TypeRisk            Type = "risk"
	TypeQuarantine      Type = "quarantine"
	TypeRelease         Type = "release"
	TypeNarrow          Type = "narrow"
	TypeRequireApproval Type = "require_approval"
	TypeTaint           Type = "taint"
	TypeRevoke          Type = "revoke"
	TypeDecommission    Type = "decommission"
	TypeLift            Type = "lift"
)

// Version is the version of the envelope {v, id, type, tenant, entities, time}.
const Version = 1

// Signal is one event as a source sends it. The JSON form is strict: unknown and
// duplicate members, wrong types and trailing data are errors.
type Signal struct {
	ID       string
	Type     Type
	Tenant   string // "" where the body does not repeat it
	Entities []authz.Ref
	Time     authz.Instant
	Expires  authz.Instant // authz.Forever where it does not end
	Actor    string
	Reason   string
	Ticket   string

	// By type.
	Risk         int               // risk
	Passed       bool              // attest: "result": "pass" or "fail"
	Scopes       []string          // narrow: what is left; register
	Actions      []string          // require_approval; empty in JSON means ["*"]
	IssuedBefore authz.Instant     // revoke
	Class        string            // register
	Labels       map[string]string // register
	Code, Model  string            // register: digests
	Lifts        *LiftTarget       // lift
}

// LiftTarget names the fact that a lift kills: the id and the source of the signal that
// made it, and its type.
type LiftTarget struct {
	Type   Type
	Source string
	ID     string
}

// DecodeError says what is wrong with a signal and where.
type DecodeError struct {
	Code    string // unknown_member, duplicate_member, wrong_type, missing_member, bad_value, syntax, too_large …
	Detail  string
	Pointer string // RFC 6901, into the body as sent
}

func (e *DecodeError) Error() string {
	if e.Pointer == "" {
		return e.Code + ": " + e.Detail
	}
	return e.Code + ": " + e.Pointer + ": " + e.Detail
}

// Limits of what is accepted, so that every input is bounded.
const (
	MaxBatch    = 1000
	MaxEntities = 64
	MaxBody     = 1 << 20
	MaxText     = 1024 // bytes of actor, reason, ticket, id
)
