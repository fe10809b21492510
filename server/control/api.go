package control

// The bodies of the control port, as they are on the wire. A client in Go decodes into
// these types; docs/openapi.yaml says the same for everyone else, and a test holds one
// against the other.
//
// Times are RFC 3339 in UTC. An end that never comes and a time that is not known are
// left out. A source is typed, as in "client:soar": what stands in "source" here is what
// a lift names as its target.

// Problem is the body of every error (RFC 9457, application/problem+json).
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"` // the status in words
	Code   string `json:"code"`  // for machines; part of the API
	Detail string `json:"detail,omitzero"`
	// Pointer (RFC 6901) says where in the body as sent.
	Pointer string `json:"pointer,omitzero"`
	// RequestID is that of the header X-Request-ID.
	RequestID string `json:"request_id,omitzero"`
	// Nearest are names that resemble one that is not known.
	Nearest []string `json:"nearest,omitzero"`
	// Errors are everything wrong with a bundle, and Digest the one in force.
	Errors []RuleProblem `json:"errors,omitzero"`
	Digest string        `json:"digest,omitzero"`
}

// The codes of Problem that do not come from decoding a body.
const (
	CodeUnauthenticated  = "unauthenticated"        // 401
	CodeForbiddenScope   = "missing_scope"          // 403: the client lacks the scope
	CodeForbiddenTenant  = "tenant_not_allowed"     // 403
	CodeForbiddenOrigin  = "foreign_origin"         // 403
	CodeForbiddenHost    = "foreign_host"           // 421
	CodeRefused          = "not_authorized"         // 403: the source may not send this signal
	CodeNotFound         = "not_found"              // 404: no such path
	CodeUnknownEntity    = "unknown_entity"         // 404
	CodeUnknownDecision  = "unknown_decision"       // 404: never was, or forgotten since
	CodeMethodNotAllowed = "method_not_allowed"     // 405
	CodeConflict         = "conflict"               // 409: the id was used for another signal
	CodeDigestMismatch   = "digest_mismatch"        // 409: the bundle is not the expected one
	CodeTooLarge         = "too_large"              // 413
	CodeMediaType        = "unsupported_media_type" // 415
	CodeBrokenBundle     = "broken_bundle"          // 422
	CodeBadParameter     = "bad_parameter"          // 400: a query parameter
	CodeBadReference     = "bad_reference"          // 400: not kind:id
	CodeBadBody          = "bad_body"               // 400: could not be read, or there should be none
	CodeBadHeader        = "bad_header"             // 400
	CodeTimeout          = "timeout"                // 408: the body came too slowly
	CodeBusy             = "busy"                   // 429: too much at once; nothing was done
	CodeInternal         = "internal_error"         // 500: a defect; it is in the log
	CodeStarting         = "starting"               // 503: not yet
	CodeUnavailable      = "unavailable"            // 503: nothing was done; try again
	CodeBadAsOf          = "bad_as_of"              // 400: Vigil-At-Least is no position
	CodeOtherLog         = "other_log"              // 409: Vigil-At-Least is of another log
	CodeNotReached       = "not_reached"            // 503: Vigil-At-Least is ahead of this replica
	CodeUnknownOutcome   = "unknown_outcome"        // 504: it may or may not have been done
)

// SignalsResponse answers POST /v1/signals: every signal is durable and in force.
type SignalsResponse struct {
	Results []SignalResult `json:"results"` // in the order of the request
	AsOf    string         `json:"as_of"`   // fit for the header Vigil-At-Least
	// Spooled: the log cannot be written now. The signals are durable on the machine of this
	// replica and in force on it alone until the log can be written again. AsOf does not
	// cover them.
	Spooled bool `json:"spooled,omitzero"`
}

// SignalResult is what one signal did.
type SignalResult struct {
	ID      string `json:"id"`
	Outcome string `json:"outcome"` // applied, superseded, duplicate, lifted or no_change
	Tenant  string `json:"tenant"`
	// Detail says why a signal had no effect, where its outcome does not.
	Detail   string         `json:"detail,omitzero"`
	Entities []SignalEntity `json:"entities"`
}

// SignalEntity is where one entity of a signal stands now.
type SignalEntity struct {
	Ref     string `json:"ref"`
	Outcome string `json:"outcome"`
	Known   bool   `json:"known"` // registered or signalled before; "everything" always is
	Status  string `json:"status"`
	Holds   []Hold `json:"holds"` // what holds it now
	// Nearest are known names like an unknown one, best first. Only for clients that
	// may read.
	Nearest []string `json:"nearest,omitzero"`
}

// Hold is one reason for which an entity may do nothing.
type Hold struct {
	Type   string `json:"type"` // quarantine, revoke, decommission or unreadable
	Source string `json:"source"`
	ID     string `json:"id,omitzero"`
	Since  string `json:"since,omitzero"`
	Until  string `json:"until,omitzero"`
}

// EntityResponse answers GET /v1/entities/{ref}.
type EntityResponse struct {
	Ref       string    `json:"ref"`
	Tenant    string    `json:"tenant"` // empty for everything
	AsOf      string    `json:"as_of"`
	At        string    `json:"at"` // the now that Effective is of
	Effective Effective `json:"effective"`
	Facts     []Fact    `json:"facts"` // oldest first; what expired may be gone
}

// Effective is what the facts of an entity come to at one now.
type Effective struct {
	Registered bool              `json:"registered"`
	Status     string            `json:"status"` // active, quarantined, revoked, decommissioned or unreadable
	Risk       int               `json:"risk"`   // 0 to 100
	Class      string            `json:"class,omitzero"`
	Labels     map[string]string `json:"labels,omitzero"`
	Scopes     []string          `json:"scopes,omitzero"`
	Code       string            `json:"code,omitzero"`
	Model      string            `json:"model,omitzero"`
	Tainted    bool              `json:"tainted"`
	Attested   string            `json:"attested"` // unknown, passed or failed
	AttestedAt string            `json:"attested_at,omitzero"`
	Holds      []Hold            `json:"holds"`
	// IssuedBefore: what was issued before it is dead.
	IssuedBefore string `json:"issued_before,omitzero"`
	Narrowed     bool   `json:"narrowed"`
	// ScopesLeft counts where Narrowed.
	ScopesLeft  []string `json:"scopes_left,omitzero"`
	ApprovalFor []string `json:"approval_for,omitzero"` // "*" is every action
	// Waived: of a source, that it is silent stops nobody.
	Waived bool `json:"waived,omitzero"`
	// By says which facts are behind what restricts the entity.
	By []Fact `json:"by,omitzero"`
	// Until is when this changes by itself.
	Until string `json:"until,omitzero"`
}

// Fact is one statement about an entity.
type Fact struct {
	Type   string `json:"type"` // the type of the signal that made it
	Source string `json:"source"`
	ID     string `json:"id"`
	Time   string `json:"time"`
	Until  string `json:"until,omitzero"`
	Active bool   `json:"active"` // not expired
	Actor  string `json:"actor,omitzero"`
	Reason string `json:"reason,omitzero"`
	Ticket string `json:"ticket,omitzero"`

	// The value, by type.
	Risk         *int              `json:"risk,omitzero"`
	Result       string            `json:"result,omitzero"` // attest: pass or fail
	Scopes       []string          `json:"scopes,omitzero"`
	Actions      []string          `json:"actions,omitzero"`
	IssuedBefore string            `json:"issued_before,omitzero"`
	Class        string            `json:"class,omitzero"`
	Labels       map[string]string `json:"labels,omitzero"`
	Code         string            `json:"code,omitzero"`
	Model        string            `json:"model,omitzero"`
	Lifts        *FactTarget       `json:"lifts,omitzero"`
}

// FactTarget names the fact that a lift kills.
type FactTarget struct {
	Type   string `json:"type"`
	Source string `json:"source"`
	ID     string `json:"id"`
}

// EntitiesResponse answers GET /v1/entities: one page, ordered by tenant, kind and id.
type EntitiesResponse struct {
	Entities []EntitySummary `json:"entities"`
	// Next is the cursor of the next page; empty on the last one.
	Next string `json:"next,omitzero"`
	AsOf string `json:"as_of"`
	At   string `json:"at"`
}

// EntitySummary is one line of a list.
type EntitySummary struct {
	Ref        string `json:"ref"`
	Tenant     string `json:"tenant"`
	Registered bool   `json:"registered"`
	Status     string `json:"status"`
	Risk       int    `json:"risk"`
	Class      string `json:"class,omitzero"`
	Tainted    bool   `json:"tainted"`
	Attested   string `json:"attested"`
	Holds      []Hold `json:"holds"`
	// ChangedAt is the newest time of what is said of it, or when some of that ended since.
	ChangedAt string `json:"changed_at,omitzero"`
	Until     string `json:"until,omitzero"`
}

// DecisionBody is a decision with everything in it, in the words of the decision port.
type DecisionBody struct {
	Decision bool            `json:"decision"`
	Context  DecisionContext `json:"context"`
}

// DecisionContext says how and why.
type DecisionContext struct {
	Effect      string          `json:"effect"` // deny, require or allow
	Class       string          `json:"class"`
	Code        string          `json:"code"`
	Obligations []Obligation    `json:"obligations"`
	ValidUntil  string          `json:"valid_until,omitzero"`
	ReasonUser  string          `json:"reason_user,omitzero"`
	ReasonAdmin string          `json:"reason_admin,omitzero"`
	Entity      string          `json:"entity,omitzero"` // that a gate stopped at
	Input       string          `json:"input,omitzero"`  // that could not be evaluated
	Rules       []string        `json:"rules"`
	Errors      []EvaluationErr `json:"errors,omitzero"`
	Observed    []Observed      `json:"observed,omitzero"`
	// Waived names the exceptions without which a silent source would have stopped this:
	// "client:soc/INC-7" is the waive INC-7 of client:soc.
	Waived    []string `json:"waived,omitzero"`
	Bundle    string   `json:"bundle"`
	AsOf      string   `json:"as_of,omitzero"`
	DecidedAt string   `json:"decided_at,omitzero"`
}

// Obligation is what must be done before the answer can be yes.
type Obligation struct {
	ID         string         `json:"id,omitzero"`
	Type       string         `json:"type"`
	Properties map[string]any `json:"properties,omitzero"`
}

// EvaluationErr is a rule that could not be evaluated.
type EvaluationErr struct {
	Rule    string `json:"rule"`
	Input   string `json:"input,omitzero"`
	Message string `json:"message"`
}

// Observed is a rule in observe mode that would have spoken.
type Observed struct {
	Rule   string `json:"rule"`
	Effect string `json:"effect"`
}

// ExplainResponse answers POST /v1/explain.
type ExplainResponse struct {
	Decision DecisionBody `json:"decision"`
	Action   string       `json:"action"`
	Agent    string       `json:"agent,omitzero"`
	User     string       `json:"user,omitzero"`
	Resource string       `json:"resource"`
	Tenant   string       `json:"tenant"`
	Gates    []GateStep   `json:"gates"`
	Rules    []RuleStep   `json:"rules"`
	// Without is what the answer would be without the gate that stopped it.
	Without *DecisionBody `json:"without_gate,omitzero"`
	// Recorded is the remembered decision that was asked about by id. Everything above is
	// then as it was when that decision was made, from the rules and records of that time;
	// Now is what the same request would be answered now.
	Recorded *RecentDecision `json:"recorded,omitzero"`
	Now      *DecisionBody   `json:"now,omitzero"`
	// Note says what is missing from an explanation.
	Note string `json:"note,omitzero"`
}

// GateStep is what one gate said.
type GateStep struct {
	Gate   string `json:"gate"`
	OK     bool   `json:"ok"`
	Entity string `json:"entity,omitzero"`
	Detail string `json:"detail,omitzero"`
}

// RuleStep is what one candidate rule did.
type RuleStep struct {
	Rule   string   `json:"rule"`
	File   string   `json:"file"`
	Line   int      `json:"line"`
	Effect string   `json:"effect"`
	Mode   string   `json:"mode"`
	Result string   `json:"result"` // true, false, error or skipped
	Error  string   `json:"error,omitzero"`
	Detail []string `json:"detail,omitzero"`
}
