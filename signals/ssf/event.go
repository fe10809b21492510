package ssf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The bases of the event types.
const (
	CAEP  = "https://schemas.openid.net/secevent/caep/event-type/"
	RISC  = "https://schemas.openid.net/secevent/risc/event-type/"
	SSF   = "https://schemas.openid.net/secevent/ssf/event-type/"
	Vigil = "urn:vigil:secevent:event-type:" // our own, for what none of the others says of agents
)

// The events that are about the stream itself.
const (
	verification  = SSF + "verification"
	streamUpdated = SSF + "stream-updated"
)

// memberType is what the value of an event's member is.
type memberType uint8

const (
	aText   memberType = iota
	aNumber            // not negative
	anObject
	aList    // of texts
	messages // an object of texts by language, at least one
)

// memberSpec is a member that an event may have.
type memberSpec struct {
	name     string
	is       memberType
	required bool
	oneOf    []string // of a text; nil for any that is not empty
}

// eventSpec is an event type: its members, and which member of a complex subject a simple
// subject stands for.
type eventSpec struct {
	uri     string
	members []memberSpec
	// person is the member that a simple subject stands for where it names a person or an
	// account (email, phone_number, account, iss_sub); thing is that of all other formats.
	// "principal" is the one that the event's member "principal" names.
	person, thing string
}

// common are the members that every event of CAEP may have, and that RISC borrows.
var common = []memberSpec{
	{name: "event_timestamp", is: aNumber},
	{name: "initiating_entity", oneOf: []string{"admin", "user", "policy", "system"}},
	{name: "reason_admin", is: messages},
	{name: "reason_user", is: messages},
}

// expires is a member of all our own events whose signals can end.
var expires = memberSpec{name: "expires", is: aNumber}

// specs are the events that are known, in the order of their specifications.
var specs = []eventSpec{
	{uri: CAEP + "session-revoked", person: "user", thing: "session"},
	{uri: CAEP + "token-claims-change", person: "user", thing: "token", members: []memberSpec{
		{name: "claims", is: anObject, required: true}}},
	{uri: CAEP + "credential-change", person: "user", thing: "user", members: []memberSpec{
		{name: "credential_type", required: true},
		{name: "change_type", required: true, oneOf: []string{"create", "revoke", "update", "delete"}},
		{name: "friendly_name"}, {name: "x509_issuer"}, {name: "x509_serial"}, {name: "fido2_aaguid"}}},
	{uri: CAEP + "assurance-level-change", person: "user", thing: "session", members: []memberSpec{
		{name: "namespace", required: true}, {name: "current_level", required: true}, {name: "previous_level"},
		{name: "change_direction", oneOf: []string{"increase", "decrease"}}}},
	{uri: CAEP + "device-compliance-change", person: "device", thing: "device", members: []memberSpec{
		{name: "previous_status", required: true, oneOf: []string{"compliant", "not-compliant"}},
		{name: "current_status", required: true, oneOf: []string{"compliant", "not-compliant"}}}},
	{uri: CAEP + "session-established", person: "user", thing: "session", members: []memberSpec{
		{name: "fp_ua"}, {name: "acr"}, {name: "amr", is: aList}, {name: "ext_id"}}},
	{uri: CAEP + "session-presented", person: "user", thing: "session", members: []memberSpec{
		{name: "fp_ua"}, {name: "ext_id"}}},
	{uri: CAEP + "risk-level-change", person: "principal", thing: "principal", members: []memberSpec{
		{name: "principal", required: true}, {name: "risk_reason"}, {name: "previous_level", oneOf: levels},
		{name: "current_level", required: true, oneOf: levels}}},

	{uri: RISC + "account-credential-change-required", person: "user", thing: "user"},
	{uri: RISC + "account-purged", person: "user", thing: "user"},
	{uri: RISC + "account-disabled", person: "user", thing: "user", members: []memberSpec{{name: "reason"}}},
	{uri: RISC + "account-enabled", person: "user", thing: "user"},
	{uri: RISC + "identifier-changed", person: "user", thing: "user", members: []memberSpec{{name: "new-value"}}},
	{uri: RISC + "identifier-recycled", person: "user", thing: "user"},
	{uri: RISC + "credential-compromise", person: "user", thing: "user", members: []memberSpec{
		{name: "credential_type", required: true}}},
	{uri: RISC + "opt-in", person: "user", thing: "user"},
	{uri: RISC + "opt-out-initiated", person: "user", thing: "user"},
	{uri: RISC + "opt-out-cancelled", person: "user", thing: "user"},
	{uri: RISC + "opt-out-effective", person: "user", thing: "user"},
	{uri: RISC + "recovery-activated", person: "user", thing: "user"},
	{uri: RISC + "recovery-information-changed", person: "user", thing: "user"},
	{uri: RISC + "sessions-revoked", person: "user", thing: "user"},

	{uri: Vigil + "risk", person: "agent", thing: "agent", members: []memberSpec{{name: "risk", is: aNumber, required: true}, expires}},
	{uri: Vigil + "quarantine", person: "agent", thing: "agent", members: []memberSpec{expires}},
	{uri: Vigil + "release", person: "agent", thing: "agent", members: []memberSpec{expires}},
	{uri: Vigil + "narrow", person: "agent", thing: "agent", members: []memberSpec{{name: "scopes", is: aList, required: true}, expires}},
	{uri: Vigil + "require-approval", person: "agent", thing: "agent", members: []memberSpec{{name: "actions", is: aList}, expires}},
	{uri: Vigil + "taint", person: "agent", thing: "agent", members: []memberSpec{expires}},
	{uri: Vigil + "attest", person: "agent", thing: "agent", members: []memberSpec{
		{name: "result", required: true, oneOf: []string{"pass", "fail"}}, expires}},
	{uri: Vigil + "revoke", person: "agent", thing: "agent"},
	{uri: Vigil + "revoke-issued", person: "agent", thing: "agent"},
	{uri: Vigil + "decommission", person: "agent", thing: "agent"},
	{uri: Vigil + "lift", person: "agent", thing: "agent", members: []memberSpec{
		{name: "statement", required: true, oneOf: []string{"narrow", "require-approval", "taint"}},
		{name: "jti", required: true}}},

	{uri: verification, members: []memberSpec{{name: "state"}}},
	{uri: streamUpdated, members: []memberSpec{
		{name: "status", required: true, oneOf: []string{"enabled", "paused", "disabled"}}, {name: "reason"}}},
}

var levels = []string{"LOW", "MEDIUM", "HIGH"}

var specByURI = func() map[string]*eventSpec {
	m := make(map[string]*eventSpec, len(specs))
	for i := range specs {
		m[specs[i].uri] = &specs[i]
	}
	return m
}()

// short is the name of an event in tables and logs: "session-revoked", and "vigil:risk"
// for our own.
func short(uri string) string {
	for _, base := range []string{CAEP, RISC, SSF} {
		if name, ok := strings.CutPrefix(uri, base); ok {
			return name
		}
	}
	if name, ok := strings.CutPrefix(uri, Vigil); ok {
		return "vigil:" + name
	}
	return uri
}

// longURI is the inverse of short for the events that are known.
func longURI(name string) (string, bool) {
	if _, ok := specByURI[name]; ok {
		return name, true
	}
	for i := range specs {
		if short(specs[i].uri) == name {
			return specs[i].uri, true
		}
	}
	return "", false
}

// Event is one event of a SET.
type Event struct {
	Type string // its URI
	// texts, numbers and lists are the members that its specification names, by type. An
	// event that is not known has none.
	texts   map[string]string
	numbers map[string]float64
	lists   map[string][]string
	subject jsontext.Value // its member "subject", of transmitters before SSF 1.0
}

// known gives the specification of the event, or nil.
func (e *Event) known() *eventSpec { return specByURI[e.Type] }

// parseEvent reads an event and holds it to its specification. Members that no
// specification names are passed over, as SSF 1.0 section 4.3 demands.
func parseEvent(uri string, raw jsontext.Value) (e Event, err error) {
	e = Event{Type: uri, texts: map[string]string{}, numbers: map[string]float64{}, lists: map[string][]string{}}
	if raw.Kind() != '{' {
		return e, fmt.Errorf("%s: an event is an object", clip(short(uri)))
	}
	spec := e.known()
	if spec == nil {
		return e, nil
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(raw, &members); err != nil {
		return e, err
	}
	e.subject = members["subject"]
	for _, list := range [2][]memberSpec{spec.members, common} {
		for i := range list {
			m := &list[i]
			value, there := members[m.name]
			switch {
			case !there && m.required:
				return e, fmt.Errorf("%s: %q is missing", short(uri), m.name)
			case !there:
				continue
			}
			if err := e.take(m, value); err != nil {
				return e, fmt.Errorf("%s: %q: %w", short(uri), m.name, err)
			}
		}
	}
	return e, nil
}

// take reads one member. The message to administrators is kept as a text.
func (e *Event) take(m *memberSpec, value jsontext.Value) (err error) {
	switch m.is {
	case aNumber:
		e.numbers[m.name], err = number(value)
	case aList:
		var list []string
		if err := json.Unmarshal(value, &list); err != nil || list == nil {
			return fmt.Errorf("want a list of texts")
		}
		e.lists[m.name] = list
	case anObject:
		if value.Kind() != '{' {
			return fmt.Errorf("want an object")
		}
		var members map[string]jsontext.Value
		if err := json.Unmarshal(value, &members); err != nil || len(members) == 0 {
			return fmt.Errorf("want at least one member")
		}
	case messages:
		var by map[string]string
		if err := json.Unmarshal(value, &by); err != nil || len(by) == 0 {
			return fmt.Errorf("want texts by language, at least one")
		}
		e.texts[m.name] = message(by)
	default:
		var s string
		if s, err = text(value); err != nil {
			return err
		}
		switch {
		case m.oneOf != nil && !slices.Contains(m.oneOf, s):
			return fmt.Errorf("want one of %s, got %q", strings.Join(m.oneOf, ", "), clip(s))
		case m.required && s == "":
			return fmt.Errorf("is empty")
		}
		e.texts[m.name] = s
	}
	return err
}

// message picks one of the texts of several languages: English, else the first by tag.
func message(by map[string]string) string {
	if s := by["en"]; s != "" {
		return s
	}
	var tags []string
	for tag, s := range by {
		if s != "" {
			tags = append(tags, tag)
		}
	}
	if len(tags) == 0 {
		return ""
	}
	return by[slices.Min(tags)]
}

// number reads a JSON number that is finite and not negative.
func number(raw jsontext.Value) (float64, error) {
	var f float64
	if raw.Kind() != '0' || json.Unmarshal(raw, &f) != nil || f < 0 {
		return 0, fmt.Errorf("want a number from 0 up")
	}
	return f, nil
}
