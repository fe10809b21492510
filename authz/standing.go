package authz

// Status is where an entity stands, worst last.
type Status uint8

// The statuses of an entity.
const (
	Active Status = iota
	Quarantined
	Revoked
	Decommissioned
	// Unreadable: a signal about the entity could not be read (a newer version of
	// Vigil wrote it). It counts as the worst that it could have said.
	Unreadable
)

func (s Status) String() string {
	return [...]string{"active", "quarantined", "revoked", "decommissioned", "unreadable"}[s]
}

// Attestation is what attestation says of an entity.
type Attestation uint8

// The states of attestation. A single failing source makes AttestFailed.
const (
	AttestUnknown Attestation = iota
	AttestPassed
	AttestFailed
)

func (a Attestation) String() string {
	return [...]string{"unknown", "passed", "failed"}[a]
}

// Standing is what posture says of one entity at one instant, in the words that
// rules read. It is immutable once published and shared by readers: nobody changes
// the map or the slices.
type Standing struct {
	ID         string
	Registered bool
	Status     Status
	Risk       int    // 0 to 100
	Class      string // capability-risk class; "" where none is declared
	Labels     map[string]string
	Scopes     []string // registered scopes
	Code       string   // registered code digest
	Model      string   // registered model digest
	Tainted    bool
	Attested   Attestation
}
