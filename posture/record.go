package posture

import (
	"iter"

	"vigil/authz"
)

// Record is all facts of one entity. It is immutable; its address is its version,
// never reused while anything refers to it.
type Record struct{}

// Effective is what a record says during an interval of time. It is immutable.
type Effective struct {
	authz.Standing

	Holds       []Fact        // facts that hold the entity now (quarantines in force), oldest first
	RevokedBy   *Fact         // the revocation, decommission or unreadable signal behind Status, if any
	Cutoff      authz.Instant // issued before this is dead; 0 for none
	CutoffBy    *Fact
	Narrowed    bool     // Left counts
	Left        []string // scopes left by narrowing, sorted
	ApprovalFor []string // actions for which posture demands approval, sorted; "*" is every action
	ApprovalBy  []Fact
	AttestedAt  authz.Instant // event time of the oldest of the newest passes that count
	RiskBy      *Fact

	// From <= now < Until is when this holds.
	From, Until authz.Instant
}

// At gives what r says at now. It neither locks nor, within the interval that the
// record carries ready, allocates. A nil r says what is said of an entity that
// nothing is known of.
func (r *Record) At(now authz.Instant) *Effective { panic("unwritten") }

// Facts yields the facts that r keeps, in a canonical order.
func (r *Record) Facts() iter.Seq[Fact] { panic("unwritten") }
