package control

import "github.com/go-json-experiment/json/jsontext"

// DecisionsResponse answers GET /v1/decisions: remembered decisions that were not an
// allow, newest first.
type DecisionsResponse struct {
	Decisions []RecentDecision `json:"decisions"`
}

// RecentDecision is one remembered decision. The same answer to the same question is
// remembered once, with a count.
type RecentDecision struct {
	ID        string          `json:"id"` // for explain
	Tenant    string          `json:"tenant"`
	Count     uint64          `json:"count"`
	First     string          `json:"first,omitzero"`
	Last      string          `json:"last,omitzero"`
	Client    string          `json:"client,omitzero"`
	RequestID string          `json:"request_id,omitzero"` // of the latest
	Agent     string          `json:"agent,omitzero"`
	User      string          `json:"user,omitzero"`
	Action    string          `json:"action"`
	Resource  string          `json:"resource"` // "type:id"
	Decision  DecisionContext `json:"decision"`
	TraceID   string          `json:"trace_id,omitzero"` // of the first
	// Request is the question in AuthZEN's words. Only in a single decision.
	Request jsontext.Value `json:"request,omitzero"`
	// Entities is what was known of the entities then. Only in a single decision.
	Entities []RecordedEntity `json:"entities,omitzero"`
}

// RecordedEntity is where an entity stood when a decision was made.
type RecordedEntity struct {
	Ref       string    `json:"ref"`
	Effective Effective `json:"effective"`
}

// RulesResponse answers GET /v1/rules and POST /v1/rules/reload.
type RulesResponse struct {
	Digest   string        `json:"digest"`
	LoadedAt string        `json:"loaded_at,omitzero"`
	Sealed   bool          `json:"sealed"`
	Files    []string      `json:"files"`
	Rules    []RuleSummary `json:"rules"` // in the order of the files
	Reload   ReloadStatus  `json:"reload"`
	Profiles []string      `json:"profiles"` // the declared classes
	Actions  []string      `json:"actions"`
	// Changed says, after a reload, whether the rules are others than before.
	Changed bool `json:"changed,omitzero"`
}

// RuleSummary is one rule of the set in use.
type RuleSummary struct {
	ID        string   `json:"id"`
	File      string   `json:"file"`
	Line      int      `json:"line"`
	Effect    string   `json:"effect"`
	Mode      string   `json:"mode"` // enforce or observe
	Actions   []string `json:"actions,omitzero"`
	Resources []string `json:"resources,omitzero"`
	Subjects  []string `json:"subjects,omitzero"`
	Classes   []string `json:"classes,omitzero"`
	When      string   `json:"when"`
}

// ReloadStatus is how the last attempt to load rules went.
type ReloadStatus struct {
	At     string        `json:"at,omitzero"`
	OK     bool          `json:"ok"`
	Error  string        `json:"error,omitzero"`
	Errors []RuleProblem `json:"errors,omitzero"`
	// LastGood: the folder's bundle is broken, and the last good one from the data folder
	// is in use.
	LastGood bool `json:"last_good,omitzero"`
}

// RuleProblem is one thing wrong with a bundle.
type RuleProblem struct {
	File    string `json:"file,omitzero"`
	Line    int    `json:"line,omitzero"`
	Column  int    `json:"column,omitzero"`
	Rule    string `json:"rule,omitzero"`
	Message string `json:"message"`
	Caret   string `json:"caret,omitzero"`
}

// ReloadRequest is the optional body of POST /v1/rules/reload.
type ReloadRequest struct {
	// Expect is the digest that the bundle must have, "sha256:…"; empty for any.
	Expect string `json:"expect,omitzero"`
}

// StatusResponse answers GET /v1/status.
type StatusResponse struct {
	Version   string            `json:"version"`
	Revision  string            `json:"revision,omitzero"`
	GoVersion string            `json:"go_version"`
	StartedAt string            `json:"started_at"`
	Uptime    float64           `json:"uptime_seconds"`
	Now       string            `json:"now"`
	Ready     bool              `json:"ready"`
	NotReady  []string          `json:"not_ready,omitzero"` // why not
	Degraded  []string          `json:"degraded,omitzero"`  // what strict readiness would object to
	Rules     RulesStatus       `json:"rules"`
	Feed      FeedStatus        `json:"feed"`
	Posture   PostureStatus     `json:"posture"`
	Sources   []SourceStatus    `json:"sources,omitzero"` // those that profiles need, by name
	Cache     CacheStatus       `json:"cache"`
	Clock     ClockStatus       `json:"clock"`
	Recent    RecentStatus      `json:"recent"`
	Decisions map[string]uint64 `json:"decisions,omitzero"` // by effect, since the start
}

// RulesStatus is the rule set in use, in short.
type RulesStatus struct {
	Digest   string       `json:"digest,omitzero"`
	LoadedAt string       `json:"loaded_at,omitzero"`
	Count    int          `json:"count"`
	Reload   ReloadStatus `json:"reload"`
}

// FeedStatus is how far the view of the signals has come.
type FeedStatus struct {
	Kind string `json:"kind"` // journal or kafka; empty while starting, as are the others
	Log  string `json:"log"`  // its identity, 32 hex digits
	AsOf string `json:"as_of,omitzero"`
	// Positions is the next offset to read, by the name of the partition: "0" of a journal,
	// "topic/3" of Kafka.
	Positions map[string]int64 `json:"positions,omitzero"`
	// Lag is how many records a partition was known to hold that are not applied here; those
	// that lag behind by none are left out.
	Lag      map[string]int64 `json:"lag,omitzero"`
	CaughtUp bool             `json:"caught_up"`
	Age      float64          `json:"age_seconds"`
	LastAt   string           `json:"last_signal_at,omitzero"`
	// DeadLetters counts records that could not be applied, since the start.
	DeadLetters uint64 `json:"dead_letters"`
	Broken      string `json:"broken,omitzero"` // what stopped the feed
	Health      string `json:"health"`          // "ok" or what is wrong with the log
	// Spool is nil where the log is one that this process alone writes.
	Spool *SpoolStatus `json:"spool,omitzero"`
}

// SpoolStatus is what was taken while the log could not be written: in force on this replica,
// and on no other before it is forwarded.
type SpoolStatus struct {
	Waiting      int    `json:"waiting"` // records
	WaitingBytes int64  `json:"waiting_bytes"`
	Oldest       string `json:"oldest,omitzero"` // when the oldest of them was taken
	Forwarded    uint64 `json:"forwarded"`       // records, since the start
	Health       string `json:"health"`          // "ok" or why it takes nothing
	// LastError is why the last attempt to forward failed, until one succeeds.
	LastError string `json:"last_error,omitzero"`
}

// SourceStatus is how a source of signals does that profiles need.
type SourceStatus struct {
	Source string `json:"source"`
	// HeardAt is when the log took the last record of it, no later than this replica learned of
	// it; absent where it was never heard.
	HeardAt    string  `json:"heard_at,omitzero"`
	MaxSilence float64 `json:"max_silence_seconds"`
	Silent     bool    `json:"silent"`
	// SilentFrom is when it falls silent unless it is heard again, or did.
	SilentFrom string          `json:"silent_from,omitzero"`
	Profiles   []SourceProfile `json:"profiles"`
	// WaivedBy are the exceptions in force in the tenants of the client.
	WaivedBy []SourceWaiver `json:"waived_by,omitzero"`
}

// SourceProfile is a profile that needs a source.
type SourceProfile struct {
	Profile   string `json:"profile"`
	OnSilence string `json:"on_silence"` // deny or approval
}

// SourceWaiver is an exception, which a source granted for a time.
type SourceWaiver struct {
	Tenant string `json:"tenant"`
	Fact   Fact   `json:"fact"`
}

// PostureStatus is what is known, in numbers of the whole process, over all tenants.
type PostureStatus struct {
	Entities map[string]int `json:"entities"` // by kind
	Held     map[string]int `json:"held"`     // by kind; what ended by itself may count for a while
	// Digest covers the facts that are unexpired at DigestAt. Only with ?digest=1.
	Digest   string `json:"digest,omitzero"`
	DigestAt string `json:"digest_at,omitzero"`
}

// CacheStatus counts decision cache look-ups by result.
type CacheStatus struct {
	Mode       string            `json:"mode"` // on, off or verify; empty while starting
	Lookups    map[string]uint64 `json:"lookups"`
	Mismatches uint64            `json:"mismatches"`
}

// ClockStatus compares the one now of the process with the wall clock.
type ClockStatus struct {
	Ahead float64 `json:"ahead_seconds"` // how far now is ahead of the wall clock
	Error string  `json:"error,omitzero"`
}

// RecentStatus counts what was not remembered or logged.
type RecentStatus struct {
	Remembered int    `json:"remembered"`
	Dropped    uint64 `json:"dropped"`
	LogDropped uint64 `json:"log_dropped"`
}

// HealthResponse answers /livez and /readyz.
type HealthResponse struct {
	Status  string   `json:"status"`           // "ok" or "not ready"
	Reasons []string `json:"reasons,omitzero"` // why not
	// Degraded is what ?strict would object to, while it is ready.
	Degraded []string `json:"degraded,omitzero"`
}

// WhoamiResponse answers GET /v1/whoami.
type WhoamiResponse struct {
	Client  string   `json:"client"`
	Source  string   `json:"source"` // as which the client's signals count, "client:soar"
	Scopes  []string `json:"scopes"`
	Tenants []string `json:"tenants"` // the first is meant where none is named
}
