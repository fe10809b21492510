package control

import (
	"net/http"
	"slices"

	"vigil/authz"
)

// EventCount labels a counter of security events, by the issuer that sent them.
type EventCount struct{ Issuer, Event, Outcome string }

// VerificationCount labels a counter of verifications that an issuer was asked for by this
// replica: Outcome is "asked", "throttled" or "failed".
type VerificationCount struct{ Issuer, Outcome string }

// Events is how security events of others come in: the endpoints that they are pushed to,
// by the name of their issuer, and how many did what. Each endpoint knows its transmitter
// by itself: it is no client of this port.
type Events struct {
	Endpoints map[string]http.Handler
	Counts    func() map[EventCount]uint64 // nil counts nothing
	Issuers   func() []Issuer              // nil: there are none
	// Verifications counts those that were asked for on a schedule. Nil: none are.
	Verifications func() map[VerificationCount]uint64
	Topics        func() map[string]EventTopic // that are read, by the name of their issuer; nil: none
}

// Issuer is how the events of one issuer come in.
type Issuer struct {
	IssuerStatus
	Tenants []string // that it speaks for
	// VerifiedAt is IssuerStatus.Verified; 0 for never.
	VerifiedAt authz.Instant
}

// getEvents says how events come in, and which met nothing. An issuer is shown to who may
// see all tenants that it speaks for: its events name entities of any of them.
func (s *Server) getEvents(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	out := &EventsResponse{Issuers: []IssuerStatus{}}
	if events := s.events.Load(); events != nil && events.Issuers != nil {
		for _, i := range events.Issuers() {
			if !slices.ContainsFunc(i.Tenants, func(t string) bool { return !slices.Contains(c.client.Caller.Tenants, t) }) {
				out.Issuers = append(out.Issuers, i.IssuerStatus)
			}
		}
	}
	return c.respond(http.StatusOK, out)
}

// Receive opens the endpoints. It is called once, after Attach; until then they answer 503.
func (s *Server) Receive(e Events) { s.events.Store(&e) }

// pushEvents hands a request to the endpoint of its issuer, which answers as its protocol
// says (RFC 8935), not as this port does.
func (s *Server) pushEvents(c *call) error {
	if _, err := parameters(c.r); err != nil {
		return err
	}
	events := s.events.Load()
	if events == nil {
		return starting("still starting: nothing is known yet")
	}
	endpoint := events.Endpoints[c.ref]
	if endpoint == nil {
		return fail(http.StatusNotFound, CodeNotFound, "no issuer of this name pushes events here")
	}
	endpoint.ServeHTTP(c.w, c.r)
	return nil
}

var (
	eventsSeen     = counter("vigil_events_total", "Security events taken or refused, by issuer, event and outcome.", "issuer", "event", "outcome")
	verifications  = counter("vigil_event_verifications_total", "Verifications of streams that this replica asked issuers for, by outcome.", "issuer", "outcome")
	eventsVerified = gauge("vigil_events_verified_timestamp_seconds", "When a verification event of the issuer came to this replica last; 0 for never.", "issuer")
	topicBehind    = gauge("vigil_events_topic_behind_records", "Records of an issuer's topic that were there and not taken yet.", "issuer", "topic")
	topicTaken     = counter("vigil_events_topic_taken_total", "Records of an issuer's topic that were taken, or refused for good.", "issuer", "topic")
	topicLost      = counter("vigil_events_topic_lost_total", "Offsets of an issuer's topic that were gone before they were read.", "issuer", "topic")
	topicReads     = gauge("vigil_events_topic_reading", "Whether the reading of an issuer's topic goes on: 1 or 0.", "issuer", "topic")
)

func (s *Server) collectEvents(sample func(*family, float64, ...string)) {
	events := s.events.Load()
	if events == nil {
		return
	}
	if events.Counts != nil {
		for label, n := range events.Counts() {
			sample(eventsSeen, float64(n), label.Issuer, label.Event, label.Outcome)
		}
	}
	if events.Verifications != nil {
		for label, n := range events.Verifications() {
			sample(verifications, float64(n), label.Issuer, label.Outcome)
		}
	}
	if events.Issuers != nil {
		for _, i := range events.Issuers() {
			sample(eventsVerified, float64(i.VerifiedAt)/1e9, i.Name)
		}
	}
	if events.Topics == nil {
		return
	}
	for issuer, t := range events.Topics() {
		sample(topicBehind, float64(t.Behind), issuer, t.Name)
		sample(topicTaken, float64(t.Taken), issuer, t.Name)
		sample(topicLost, float64(t.Lost), issuer, t.Name)
		sample(topicReads, oneIf(t.Reading == ""), issuer, t.Name)
	}
}
