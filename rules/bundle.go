package rules

import (
	"time"

	"vigil/authz"
)

// Pos is a place in a bundle file. Line and Column count from 1; a column counts bytes.
type Pos struct {
	File         string
	Line, Column int
}

// manifestName is the file that lists the others.
const manifestName = "bundle.yaml"

// Bundle is the parsed form of bundle.yaml and the files it lists, before any meaning
// is checked across them.
type Bundle struct {
	Files     []string                   // as listed
	Required  map[string]*RequiredSource // the key "sources", by name
	Profiles  map[string]*Profile
	Agentless Agentless
	// Attributes by scope: "subject.TYPE", "resource.TYPE", "action.NAME", "context";
	// then by name.
	Attributes map[string]map[string]*Attribute
	Actions    map[string]*Action
	Lists      map[string]*NamedList
	Rules      []*Rule
	Seal       map[string]string // file → hex SHA-256; nil when the bundle is not sealed
	Tests      []*TestFile
	Sources    map[string][]byte // file → content, for messages and digests

	texts          map[string]*sourceText // of Sources, by file
	scopeOrder     []declaredScope        // of Attributes, in the order of the files
	attributeCount int
	ruleByID       map[string]*Rule
}

// declaredScope is where a scope of attributes is first declared.
type declaredScope struct {
	name string
	pos  Pos
}

// Profile is the controls that a class of agents demands. The profile "unregistered",
// for agents without a registration, denies everything unless the bundle declares it.
type Profile struct {
	Name              string
	Pos               Pos
	MaxFeedAge        time.Duration // how old the view of the signals may be; 0 for no bound
	OnStale           OnStale
	Requires          []authz.Kind  // members that a request must name
	MaxAttestationAge time.Duration // 0 for no attestation needed
	Needs             []Need        // sources that must not be silent, sorted; nil for none
	OnSilence         OnStale
}

// RequiredSource is a source of signals that somebody must hear: "client:siem",
// "issuer:NAME" or "topic:NAME".
type RequiredSource struct {
	Name       string
	Pos        Pos
	MaxSilence time.Duration // how long ago it may have been heard
	misspelt   bool          // some profile needs a source of nearly this name
}

// Need is a source that a profile needs. It is silent where nothing was ever heard of it,
// or nothing for MaxSilence.
type Need struct {
	Source     string
	MaxSilence time.Duration
}

// OnStale is how a class degrades when its view is older than MaxFeedAge, or when a source
// that it needs is silent.
type OnStale uint8

// The degradations. The zero OnStale is to deny.
const (
	StaleDeny OnStale = iota
	StaleApproval
)

// Agentless says which subject types may act without an agent, and under which profile.
type Agentless struct {
	Types   []string
	Profile string
	Pos     Pos
}

// AttributeType is the declared type of an attribute.
type AttributeType uint8

// The types. A JSON 5000 and 5000.0 are both an int and a number.
const (
	TypeString AttributeType = iota
	TypeBool
	TypeInt
	TypeNumber
	TypeTimestamp // a JSON string in RFC 3339
	TypeDuration  // a JSON string as Go and CEL write it: "90s", "1h30m"
	TypeList      // of Elem
	TypeMap       // of string to Elem
)

// Attribute is one declared member of a request.
type Attribute struct {
	Scope    string // as in Bundle.Attributes
	Name     string
	Pos      Pos
	Type     AttributeType
	Elem     AttributeType // of a list or map: string, bool, int or number
	Required bool
	Default  *authz.Value // nil for none
	Min, Max *float64     // of a number; Max also bounds the bytes of a string and the length of a list or map
}

// Action is a declared action.
type Action struct {
	Name  string
	Pos   Pos
	Scope string // what a caller on behalf of a user must hold; "" for none
	Low   bool   // impact: low; attestation is not demanded
}

// NamedList is a constant list of strings or numbers that rules see as lists.NAME.
type NamedList struct {
	Name   string
	Pos    Pos
	Values []authz.Value
}

// Rule is one rule as written.
type Rule struct {
	ID          string
	Pos         Pos
	Effect      authz.Effect
	Observe     bool
	Actions     []string // empty for any, here and below
	Resources   []string // "TYPE" or "TYPE:ID"
	Subjects    []string // subject types
	Classes     []string
	When        string
	WhenPos     Pos  // where the text of When begins
	WhenBlock   bool // a literal block: line n of When is line WhenPos.Line+n-1, indented by WhenPos.Column-1
	whenStyle   scalarStyle
	places      rulePlaces
	Granularity time.Duration
	Obligations []authz.Obligation
	ReasonUser  string
	ReasonAdmin string
}
