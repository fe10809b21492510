package control

// EventsResponse answers GET /v1/events.
type EventsResponse struct {
	Issuers []IssuerStatus `json:"issuers"` // as configured
}

// IssuerStatus is how the security events of one issuer come in.
type IssuerStatus struct {
	Name     string        `json:"name"`
	Issuer   string        `json:"issuer"`             // "iss" of its tokens
	Heard    string        `json:"heard,omitempty"`    // when an authentic token came last
	Verified string        `json:"verified,omitempty"` // when a verification that was in order came last
	Polled   string        `json:"polled,omitempty"`   // when a poll was answered last
	Polling  string        `json:"polling,omitempty"`  // why the last poll failed
	Asked    string        `json:"asked,omitempty"`    // when this replica asked for a verification last
	Asking   string        `json:"asking,omitempty"`   // why it could not, the last time
	Stream   string        `json:"stream,omitempty"`   // enabled, paused or disabled, as the transmitter said last
	Missed   []MissedEvent `json:"missed"`             // the latest that met nothing, oldest first
}

// MissedEvent is an event that was acknowledged and did not do what it says.
type MissedEvent struct {
	At      string   `json:"at"`
	ID      string   `json:"id"` // jti
	Event   string   `json:"event"`
	Outcome string   `json:"outcome"` // unmatched, unknown_event, discarded or unknown_entity
	Detail  string   `json:"detail,omitempty"`
	Refs    []string `json:"refs,omitempty"` // entities that nobody has heard of
}
