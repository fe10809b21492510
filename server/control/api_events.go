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
	Topic    *EventTopic   `json:"topic,omitempty"`    // that its events are read from
	Stream   string        `json:"stream,omitempty"`   // enabled, paused or disabled, as the transmitter said last
	Missed   []MissedEvent `json:"missed"`             // the latest that met nothing, oldest first
}

// EventTopic is how the reading of the topic of an issuer goes, on this replica.
type EventTopic struct {
	Name      string           `json:"name"`
	Authentic string           `json:"authentic"`         // signature or acl
	Next      map[string]int64 `json:"next"`              // by "topic/partition", the first offset that may not have been taken
	Behind    int64            `json:"behind"`            // records that were there and not taken yet
	Taken     uint64           `json:"taken"`             // records since the start, with those that were refused
	Lost      uint64           `json:"lost"`              // offsets since the start that were gone before they were read
	Fresh     string           `json:"fresh,omitempty"`   // all that was there by then has been taken
	Reading   string           `json:"reading,omitempty"` // why it does not go on just now
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
