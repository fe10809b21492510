package control

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestEventsGoToTheEndpointOfTheirIssuer: which answers for itself, and is not there before
// it is known.
func TestEventsGoToTheEndpointOfTheirIssuer(t *testing.T) {
	w := newWorld(t)
	w.server.events.Store(nil)
	if got := w.do("POST", "/v1/events/idp", "", "x"); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("before there are endpoints: %d %s", got.status, got.body)
	}
	w.server.Receive(Events{
		Endpoints: map[string]http.Handler{"idp": http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = rw.Write([]byte(`{"err":"access_denied","description":"told by ` + r.Header.Get("Authorization") + `"}`))
		})},
		Counts: func() map[EventCount]uint64 { return map[EventCount]uint64{{"idp", "session-revoked", "said"}: 3} },
	})
	if got := w.do("POST", "/v1/events/idp", "transmitter", "x"); got.status != http.StatusBadRequest || !strings.Contains(got.body, "told by Bearer transmitter") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := w.do("POST", "/v1/events/other", "", "x"); got.status != http.StatusNotFound {
		t.Errorf("another issuer: %d", got.status)
	}
	if got := w.do("GET", "/v1/events/idp", "", ""); got.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", got.status)
	}
	other := Issuer{IssuerStatus{Name: "other", Issuer: "https://other/", Missed: []MissedEvent{}}, []string{"default", "acme-of-nobody"}, 0}
	idp := Issuer{IssuerStatus{Name: "idp", Issuer: "https://idp/", Heard: "2026-11-23T03:04:05Z", Stream: "enabled", Missed: []MissedEvent{
		{At: "2026-11-23T03:04:05Z", ID: "j", Event: "e", Outcome: "unknown_entity", Refs: []string{"session:s"}}}}, []string{"default"}, start}
	idp.Topic = &EventTopic{Name: "events", Authentic: "signature", Next: map[string]int64{"events/0": 7}, Behind: 3, Taken: 6, Lost: 2, Reading: "the keys are away"}
	w.server.Receive(Events{
		Counts:        func() map[EventCount]uint64 { return map[EventCount]uint64{{"idp", "session-revoked", "said"}: 3} },
		Issuers:       func() []Issuer { return []Issuer{idp, other} },
		Topics:        func() map[string]EventTopic { return map[string]EventTopic{"idp": *idp.Topic} },
		Verifications: func() map[VerificationCount]uint64 { return map[VerificationCount]uint64{{"idp", "failed"}: 2} },
	})
	if got := w.do("GET", "/v1/events", kimToken, "").want(200); !strings.Contains(got.body, "session:s") || !strings.Contains(got.body, `"reading":"the keys are away"`) || strings.Contains(got.body, "other") {
		t.Errorf("what kim of the tenant default sees: %s", got.body)
	}
	got := w.do("GET", "/metrics", kimToken, "")
	for _, line := range []string{
		`vigil_events_total{event="session-revoked",issuer="idp",outcome="said"} 3`,
		`vigil_event_verifications_total{issuer="idp",outcome="failed"} 2`,
		fmt.Sprintf(`vigil_events_verified_timestamp_seconds{issuer="idp"} %g`, float64(start)/1e9),
		`vigil_events_verified_timestamp_seconds{issuer="other"} 0`,
	} {
		if !strings.Contains(got.body, line) {
			t.Errorf("the metrics have no %s", line)
		}
	}
	metrics := w.do("GET", "/metrics", kimToken, "").body
	for _, want := range []string{"behind_records{%s} 3", "taken_total{%s} 6", "lost_total{%s} 2", "reading{%s} 0"} {
		if want = fmt.Sprintf("vigil_events_topic_"+want, `issuer="idp",topic="events"`); !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}
