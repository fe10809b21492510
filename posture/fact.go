package posture

import "vigil/authz"

// Facet says what a fact is about. Per facet, facts join in their own way; see the
// package comment.
type Facet uint8

// The facets.
const (
	Registration Facet = iota + 1
	Hold
	Risk
	Attest
	Taint
	ApprovalRequired
	Narrow
	Revoke
	IssuedBefore
	Decommission
	UnreadableSignal
	Lift
	Waive
)

// Fact is one statement about one facet of one entity. It is identified by
// (Source, ID, content hash).
type Fact struct {
	Facet  Facet
	Source string        // typed: "client:soar", "issuer:…", "topic:…"
	ID     string        // the signal's id, unique within its source
	Time   authz.Instant // event time
	Until  authz.Instant // when it ends; authz.Forever or 0 where it does not
	Actor  string
	Reason string
	Ticket string

	// The value; which member counts depends on Facet.
	Held         bool          // Hold: quarantine or release
	Risk         int           // Risk: 0 to 100
	Passed       bool          // Attest
	Scopes       []string      // Narrow: what is left, sorted
	Actions      []string      // ApprovalRequired: sorted; "*" is every action
	Cutoff       authz.Instant // IssuedBefore
	Registration *Registered   // Registration
	Lifts        *Target       // Lift
	Record       string        // UnreadableSignal: bytes to read the signal from later; MaxRecord at most
}

// MaxRecord is the longest Record of a fact, in bytes. A longer one is not kept.
const MaxRecord = 96 << 10

// Registered is the value of a Registration fact: always the whole of it.
type Registered struct {
	Class  string
	Labels map[string]string
	Scopes []string
	Code   string
	Model  string
}

// Target names the fact that a Lift kills for good.
type Target struct {
	Facet  Facet
	Source string
	ID     string
}

// Change is facts to be added to one entity.
type Change struct {
	Key   authz.Key
	Facts []Fact
}

// Outcome says what applying the facts of one signal to one entity did. Of several
// facts the strongest counts: applied, no change, superseded, lifted, duplicate.
type Outcome uint8

// The outcomes, in the words of the API.
const (
	NoChange   Outcome = iota // kept, and the entity's effective posture is as it was
	Applied                   // the effective posture changed, or a fact now stands beside others
	Superseded                // a newer or stronger fact makes this one redundant
	Duplicate                 // the same fact was there already
	Lifted                    // the fact had been lifted before it came
)

func (o Outcome) String() string {
	return [...]string{"no_change", "applied", "superseded", "duplicate", "lifted"}[o]
}

// Result is what applying one Change did.
type Result struct {
	Key     authz.Key
	Outcome Outcome
	Known   bool // the entity was registered or signalled before
	// Record is the entity's record in force afterwards.
	Record *Record
}
