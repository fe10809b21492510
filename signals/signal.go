package signals

import (
	"time"

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
	TypeWaive           Type = "waive"
	TypeHeartbeat       Type = "heartbeat"
)

// TypeUnreadable is no signal that can be sent. It stands in LiftTarget.Type for the
// fact that a signal left behind which this version could not read.
const TypeUnreadable Type = "unreadable"

// Types lists every type in its fixed order.
func Types() []Type {
	all := make([]Type, len(vocabulary))
	for i := range vocabulary {
		all[i] = vocabulary[i].name
	}
	return all
}

// Version is the version of the envelope {v, id, type, tenant, entities, time}.
const Version = 1

// Signal is one event as a source sends it. The JSON form is strict: unknown and
// duplicate members, wrong types and trailing data are errors. See the package comment
// for the members of each type.
type Signal struct {
	ID       string
	Type     Type
	Tenant   string // "" where the body does not repeat it; Judge sets it
	Entities []authz.Ref
	Time     authz.Instant
	Expires  authz.Instant // authz.Forever where it does not end
	Actor    string
	Reason   string
	Ticket   string
	// Line is the JSON member "source": another source, in whose line the signal is to
	// speak. "" is the sender's own. See Authority.Overrule.
	Line string

	// By type.
	Risk         int               // risk: 0 to 100
	Passed       bool              // attest: "result": "pass" or "fail"
	Scopes       []string          // narrow: what is left; register. Sorted, distinct
	Actions      []string          // require_approval: sorted, distinct; ["*"] for every action
	IssuedBefore authz.Instant     // revoke; 0 where it is plain
	Class        string            // register
	Labels       map[string]string // register
	Code, Model  string            // register: digests
	Lifts        *LiftTarget       // lift
}

// LiftTarget names the fact that a lift kills: the id and the source of the signal that
// made it, and its type.
type LiftTarget struct {
	Type   Type   // taint, require_approval, narrow, waive or unreadable
	Source string // "" is the sender itself
	ID     string
}

// DecodeError says what is wrong with a signal and where.
type DecodeError struct {
	Code    string // one of the Code constants
	Detail  string
	Pointer string // RFC 6901, into the body as sent
}

func (e *DecodeError) Error() string {
	if e.Pointer == "" {
		return e.Code + ": " + e.Detail
	}
	return e.Code + ": " + e.Pointer + ": " + e.Detail
}

// The codes of a DecodeError. They are part of the API.
const (
	CodeSyntax          = "syntax"           // not JSON
	CodeInvalidUTF8     = "invalid_utf8"     // invalid UTF-8, or a lone surrogate
	CodeTrailingData    = "trailing_data"    // something after the signal or the batch
	CodeDuplicateMember = "duplicate_member" // RFC 8259 leaves its meaning open, so it has none
	CodeUnknownMember   = "unknown_member"   // no signal, or no signal of this type, has it
	CodeMissingMember   = "missing_member"
	CodeWrongType       = "wrong_type" // another JSON type than the member has
	CodeBadValue        = "bad_value"
	CodeTooLarge        = "too_large" // one of the limits below
)

// Limits of what is accepted, so that every input is bounded.
const (
	MaxBatch    = 1000
	MaxEntities = 64
	MaxBody     = 1 << 20
	MaxText     = 1024 // bytes of actor, reason, ticket, id
)

// More limits, of one signal and of its members.
const (
	MaxSignal = 64 << 10 // bytes of one signal as sent
	MaxList   = 256      // scopes, actions
	MaxName   = 256      // bytes of a scope, an action, a class, a tenant
	MaxLabels = 64
	MaxLabel  = 128 // bytes of a label's name; its value has up to MaxText
)

// MaxWaiver is how long after its time a waive may end: an exception that lasts is a change
// of the rules.
const MaxWaiver = 7 * 24 * time.Hour
