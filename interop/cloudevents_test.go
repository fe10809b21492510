package interop

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/protocol"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// siem is a client of the CloudEvents SDK that sends to a running engine.
type siem struct {
	*engine
	client cloudevents.Client
	token  secret
	mode   func(context.Context) context.Context
}

func newSIEM(t *testing.T, mode func(context.Context) context.Context) *siem {
	t.Helper()
	token := newSecret()
	s := &siem{token: token, mode: mode, engine: start(t, fmt.Sprintf(`
clients:
  - {name: siem, token_sha256: [%q], scopes: [signal, read], may: {types: [register, attest, risk, quarantine, release], kinds: [agent]}}
`, token.hash()))}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	sender, err := cehttp.New(cehttp.WithTarget(s.control+"/v1/signals"), cehttp.WithHeader("Authorization", "Bearer "+string(token)),
		cehttp.WithRoundTripper(transport))
	must(t, err)
	s.client, err = cloudevents.NewClient(sender)
	must(t, err)
	return s
}

// event is one as the SDK makes it.
func event(id, kind, subject string, data any) cloudevents.Event {
	e := cloudevents.NewEvent()
	e.SetID(id)
	e.SetType(kind)
	e.SetSource("https://siem.example.com/detections")
	e.SetTime(time.Now())
	e.SetSubject(subject)
	if data != nil {
		if err := e.SetData(cloudevents.ApplicationJSON, data); err != nil {
			panic(err) // a value of this file that is no JSON
		}
	}
	return e
}

type object map[string]any

// acknowledged sends an event, and demands that the SDK takes the answer for an
// acknowledgement.
func (s *siem) acknowledged(e cloudevents.Event) {
	s.t.Helper()
	if result := s.client.Send(s.mode(s.t.Context()), e); !cloudevents.IsACK(result) {
		s.t.Errorf("%s: %v", e.ID(), result)
	}
}

// refused demands that the SDK takes it for a refusal with this status.
func (s *siem) refused(e cloudevents.Event, status int) {
	s.t.Helper()
	result := s.client.Send(s.mode(s.t.Context()), e)
	var answer *cehttp.Result
	if !cloudevents.IsNACK(result) || cloudevents.IsUndelivered(result) || !errors.As(result, &answer) || answer.StatusCode != status {
		s.t.Errorf("%s: %v, want a refusal with %d", e.ID(), result, status)
	}
}

// TestTheCloudEventsSDKSendsSignals: with both content modes of the HTTP binding, and nothing
// but a target and a credential configured, an acknowledged event is in force for the next
// decision, and one that is refused changes nothing.
func TestTheCloudEventsSDKSendsSignals(t *testing.T) {
	for name, mode := range map[string]func(context.Context) context.Context{
		"binary": cloudevents.WithEncodingBinary, "structured": cloudevents.WithEncodingStructured,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSIEM(t, mode)
			s.expect("before", "allowed")

			// The signal is in the data, and the event's type is its own.
			s.acknowledged(event("e-1", "com.example.siem.finding", "", object{
				"v": 1, "id": "INC-1", "type": "quarantine", "entities": []string{"agent:payer"},
				"time": time.Now().Format(time.RFC3339Nano), "reason": "beaconing", "ticket": "INC-1",
			}))
			s.expect("a signal in the data", "quarantined")

			// The event is the signal: what it is about is the subject, and there are no data.
			s.acknowledged(event("e-2", "vigil.signal.release", "agent:payer", nil))
			s.expect("an event without data", "allowed")

			// The data say what the event does not.
			s.acknowledged(event("e-3", "vigil.signal.risk", "agent:payer", object{"risk": 85, "reason": "spike to a new supplier"}))
			s.expect("data that complete the event", "no_allow_rule")
			s.acknowledged(event("e-4", "vigil.signal.risk", "agent:payer", object{"risk": 10}))
			s.expect("a lower risk", "allowed")

			// Several signals in one event.
			now := time.Now().Format(time.RFC3339Nano)
			s.acknowledged(event("e-5", "com.example.siem.findings", "", []object{
				{"v": 1, "id": "l-1", "type": "risk", "risk": 20, "entities": []string{"agent:payer"}, "time": now},
				{"v": 1, "id": "l-2", "type": "quarantine", "entities": []string{"agent:payer"}, "time": now},
			}))
			s.expect("a list of signals", "quarantined")
			s.acknowledged(event("e-6", "vigil.signal.release", "agent:payer", nil))
			s.expect("released", "allowed")

			// Sent again, as after a lost answer: acknowledged, and nothing is other than before.
			again := event("e-7", "vigil.signal.quarantine", "agent:payer", nil)
			s.acknowledged(again)
			s.acknowledged(event("e-8", "vigil.signal.release", "agent:payer", nil))
			s.acknowledged(again)
			s.expect("an old event that comes again", "allowed")

			for _, bad := range []cloudevents.Event{
				event("b-1", "vigil.signal.quarantene", "agent:payer", nil),
				event("b-2", "vigil.signal.quarantine", "payer", nil),
				event("b-3", "vigil.signal.quarantine", "", nil),
				event("b-4", "vigil.signal.risk", "agent:payer", object{"risk": 101}),
				event("b-5", "vigil.signal.quarantine", "agent:payer", object{"reson": "beaconing"}),
				event("b-6", "com.example.siem.finding", "", object{"finding": "beaconing"}),
				event("b-7", "com.example.siem.finding", "", []object{
					{"v": 1, "id": "l-3", "type": "quarantine", "entities": []string{"agent:payer"}, "time": now},
					{"v": 1, "id": "l-4", "type": "quarantine", "entities": []string{"nobody"}, "time": now},
				}),
			} {
				s.refused(bad, http.StatusBadRequest)
			}
			text := event("b-8", "vigil.signal.quarantine", "agent:payer", nil)
			must(t, text.SetData(cloudevents.TextPlain, "beaconing"))
			s.refused(text, http.StatusBadRequest)
			s.refused(event("b-9", "vigil.signal.decommission", "agent:payer", nil), http.StatusForbidden)
			s.expect("refused ones", "allowed")
		})
	}
}

// TestNamesComeThroughTheCloudEventsSDKAsTheyAre: a signal is about the agent that was meant,
// whatever it is called.
func TestNamesComeThroughTheCloudEventsSDKAsTheyAre(t *testing.T) {
	plain := []string{"zahlung-größe", `with "quotes"`, "spiffe://acme/agents/payer", "支払い", "😀"}
	for name, c := range map[string]struct {
		mode   func(context.Context) context.Context
		agents []string
	}{
		"binary":     {cloudevents.WithEncodingBinary, plain},
		"structured": {cloudevents.WithEncodingStructured, append(plain, "100%", "a%20b")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSIEM(t, c.mode)
			for i, agent := range c.agents {
				register := object{"class": "high-high", "labels": object{"role": "invoice-agent"}, "scopes": []string{"propose:payments"}}
				s.acknowledged(event(fmt.Sprint("r-", i), "vigil.signal.register", "agent:"+agent, register))
				s.acknowledged(event(fmt.Sprint("a-", i), "vigil.signal.attest", "agent:"+agent, object{"result": "pass"}))
				if got := s.decides(agent, "kim", "s-1"); got != "allowed" {
					t.Errorf("%s: %s", agent, got)
				}
				s.acknowledged(event(fmt.Sprint("q-", i), "vigil.signal.quarantine", "agent:"+agent, nil))
				if got := s.decides(agent, "kim", "s-1"); got != "quarantined" {
					t.Errorf("%s: %s", agent, got)
				}
			}
			s.expect("after all", "allowed")
		})
	}
	t.Run("a percent sign in a header", func(t *testing.T) {
		// The binding demands that it is escaped, and this SDK does not.
		s := newSIEM(t, cloudevents.WithEncodingBinary)
		s.refused(event("q-1", "vigil.signal.quarantine", "agent:100%", nil), http.StatusBadRequest)
	})
}

// TestABatchOfTheCloudEventsSDKIsRefusedWhole: the batched mode is not taken, and says so
// rather than take a part.
func TestABatchOfTheCloudEventsSDKIsRefusedWhole(t *testing.T) {
	s := newSIEM(t, cloudevents.WithEncodingStructured)
	r, err := cehttp.NewHTTPRequestFromEvents(t.Context(), s.control+"/v1/signals", []cloudevents.Event{
		event("e-1", "vigil.signal.quarantine", "agent:payer", nil), event("e-2", "vigil.signal.risk", "agent:payer", object{"risk": 99}),
	})
	must(t, err)
	if status, answer := s.do(r, s.token); status != http.StatusBadRequest {
		t.Errorf("%d %s", status, answer)
	}
	s.expect("a batch", "allowed")
}

// TestTheCloudEventsSDKSeesThatItsCredentialIsNone: a SIEM with a wrong token must not take
// its signals for sent.
func TestTheCloudEventsSDKSeesThatItsCredentialIsNone(t *testing.T) {
	s := newSIEM(t, cloudevents.WithEncodingBinary)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	sender, err := cehttp.New(cehttp.WithTarget(s.control+"/v1/signals"), cehttp.WithHeader("Authorization", "Bearer other"), cehttp.WithRoundTripper(transport))
	must(t, err)
	stranger, err := cloudevents.NewClient(sender)
	must(t, err)
	result := stranger.Send(t.Context(), event("e-1", "vigil.signal.quarantine", "agent:payer", nil))
	var answer *cehttp.Result
	if !protocol.IsNACK(result) || !errors.As(result, &answer) || answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("%v", result)
	}
	s.expect("a stranger's signal", "allowed")
}
