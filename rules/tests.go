package rules

import (
	"math"
	"time"

	"vigil/authz"
)

// TestFile is a *_test.yaml of a bundle.
type TestFile struct {
	File  string
	Cases []TestCase
}

// TestCase is one case with everything that it inherits from its file filled in.
type TestCase struct {
	Name     string
	Pos      Pos
	Now      authz.Instant
	Entities map[string]TestEntity // by "kind:id"
	// Silence is how long ago a required source was heard, NeverHeard for never. One that is
	// not in it was heard at Now.
	Silence map[string]time.Duration
	Request *authz.Request
	Expect  Expectation
}

// NeverHeard is the silence of a source that was never heard.
const NeverHeard time.Duration = math.MaxInt64

// TestEntity is the posture of one entity in a test.
type TestEntity struct {
	Registered       bool
	Class            string
	Labels           map[string]string
	Scopes           []string
	Code, Model      string
	Risk             int
	Status           string // active, quarantined, revoked, decommissioned
	Tainted          bool
	Attested         *bool         // nil for never
	AttestedAt       authz.Instant // 0 for the case's now
	IssuedBefore     authz.Instant
	Narrowed         []string // nil for not narrowed
	ApprovalRequired []string
	Waived           bool // of a source: that it is silent is waived
}

// Expectation is what a case expects. Members left out are not checked.
type Expectation struct {
	Effect authz.Effect
	Code   authz.Code
	Rules  []string // nil for not checked
}
