package cloudevents

import (
	"fmt"
	"strings"
	"testing"

	"vigil/signals"
)

// decoded reads headers that are separated by "|".
func decoded(b Binding, headers string, body []byte) (*Event, error) {
	return b.Decode(header(strings.Split(headers, "|")...), body)
}

// TestAnEventIsBounded: in its bytes, its attributes and their names, whichever mode it
// comes in.
func TestAnEventIsBounded(t *testing.T) {
	headers := func(n int) string {
		all := binary
		for i := range n {
			all += fmt.Sprintf("|ce-x%d: 1", i)
		}
		return all
	}
	members := func(n int) []byte {
		all := `{"specversion":"1.0","id":"1","source":"/s","type":"t"`
		for i := range n {
			all += fmt.Sprintf(`,"x%d":1`, i)
		}
		return []byte(all + "}")
	}
	const structuredMode = "content-type: application/cloudevents+json"
	for name, c := range map[string]struct {
		headers string
		body    []byte
		want    string // "" is taken
	}{
		"a body":                    {binary, make([]byte, MaxBody), ""},
		"a body too large":          {binary, make([]byte, MaxBody+1), "too_large: the body"},
		"extensions":                {headers(maxExtensions), nil, ""},
		"an extension too many":     {headers(maxExtensions + 1), nil, "too_large: more than 32 extension"},
		"headers without end":       {headers(1000), nil, "too_large: more than 40 attributes"},
		"members":                   {structuredMode, members(maxExtensions), ""},
		"a member too many":         {structuredMode, members(maxExtensions + 1), "too_large"},
		"a name":                    {binary + "|ce-" + strings.Repeat("a", maxName) + ": 1", nil, ""},
		"a name too long":           {binary + "|ce-" + strings.Repeat("a", maxName+1) + ": 1", nil, "unknown_member"},
		"data in a header":          {binary + "|ce-data: 1", nil, "unknown_member"},
		"no name":                   {binary + "|ce-: 1", nil, "unknown_member"},
		"the first year":            {binary + "|ce-time: 1971-01-01T00:00:00Z", nil, ""},
		"before it":                 {binary + "|ce-time: 1970-12-31T23:59:59Z", nil, "bad_value: time"},
		"after the last":            {binary + "|ce-time: 2262-01-01T00:00:00Z", nil, "bad_value: time"},
		"a source that is no URI":   {"ce-specversion: 1.0|ce-id: 1|ce-type: t|ce-source: http://[", nil, "bad_value: the source"},
		"a source without a scheme": {"ce-specversion: 1.0|ce-id: 1|ce-type: t|ce-source: siem/7", nil, ""},
	} {
		if _, err := decoded(HTTP, c.headers, c.body); (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestHeadersOfKafkaAreTakenAsTheyAre: it has no percent-encoding.
func TestHeadersOfKafkaAreTakenAsTheyAre(t *testing.T) {
	e, err := decoded(Kafka, `ce_specversion: 1.0|ce_id: 1|ce_source: /s|ce_type: t|ce_note: "a%20b"`, nil)
	if err != nil || e.Extensions["note"] != `"a%20b"` {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestWhatIsLeftOutStaysOut: no data are nil, whichever way they are left out, and an event
// fills in nothing that it has not.
func TestWhatIsLeftOutStaysOut(t *testing.T) {
	for name, c := range map[string]struct{ headers, body, want string }{
		"an empty body": {binary + "|ce-subject: agent:a", "", `{"entities":["agent:a"],"id":"ce:https://siem/ 1","type":"quarantine","v":1}`},
		"null":          {"content-type: application/cloudevents", `{"specversion":"1.0","id":"1","source":"/s","type":"vigil.signal.taint","data":null}`, `{"id":"ce:/s 1","type":"taint","v":1}`},
		"a type of its own": {"content-type: application/cloudevents", `{"specversion":"1.0","id":"1","source":"/s","type":"com.example.anomaly","subject":"agent:a","time":"2026-11-23T03:04:05Z","data":{"type":"taint"}}`,
			`{"entities":["agent:a"],"id":"ce:/s 1","time":"2026-11-23T03:04:05Z","type":"taint","v":1}`},
		"what is stated": {binary + "|ce-subject: agent:a|ce-time: 2026-11-23T03:04:05Z", `{"entities":["user:u"],"time":"2026-11-23T00:00:00Z"}`,
			`{"entities":["user:u"],"id":"ce:https://siem/ 1","time":"2026-11-23T00:00:00Z","type":"quarantine","v":1}`},
	} {
		e, err := decoded(HTTP, c.headers, []byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.body == "" && e.Data != nil {
			t.Errorf("%s: the data are %q", name, e.Data)
		}
		if body, err := e.Signals(); err != nil || string(body) != c.want {
			t.Errorf("%s: %s, %v", name, body, err)
		}
	}
}

// TestAnEventOfAnotherTypeIsToldWhichItWouldBe: it has a type, and "type" is missing would be
// read as if it had none.
func TestAnEventOfAnotherTypeIsToldWhichItWouldBe(t *testing.T) {
	for _, typ := range []string{"com.example.anomaly", "vigil.signal.", "vigil.signals.taint"} {
		e, err := decoded(HTTP, "content-type: application/cloudevents",
			fmt.Appendf(nil, `{"specversion":"1.0","id":"1","source":"/s","type":%q,"subject":"agent:a","data":{"reason":"x"}}`, typ))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("missing_member: the event's type %q says of no signal what it is: it is vigil.signal.TYPE, or", typ)
		if body, err := e.Signals(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %s, %v", typ, body, err)
		}
	}
}

// TestDataAreSignalsOrATokenByTheirTypeAlone.
func TestDataAreSignalsOrATokenByTheirTypeAlone(t *testing.T) {
	const data = `{"type":"taint","entities":["agent:a"]}`
	for contentType, want := range map[string]string{
		"application/json": "signal", "application/json; charset=utf-8": "signal", "text/json": "signal", "application/vnd.siem+json": "signal",
		"application/secevent+jwt": "token", "Application/SecEvent+JWT": "token",
		"text/plain": "", "application/jwt": "", "application/octet-stream": "", "application/jsonx": "",
	} {
		e, err := decoded(HTTP, binary+"|content-type: "+contentType, []byte(data))
		if err != nil {
			t.Errorf("%s: %v", contentType, err)
			continue
		}
		got := ""
		if _, err := e.Signals(); err == nil {
			got = "signal"
		}
		if _, ok := e.SET(); ok {
			got += "token"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", contentType, got, want)
		}
	}
}

// TestANameThatCannotBeAnIDIsHashed: it holds characters that an id may not.
func TestANameThatCannotBeAnIDIsHashed(t *testing.T) {
	for id, hashed := range map[string]bool{"plain": false, "a\tb": true, "a\x7fb": true, "a\u0085b": true, "ü": false} {
		got := (&Event{Source: "/s", ID: id}).signalID()
		if strings.HasPrefix(got, "ce:sha256:") != hashed {
			t.Errorf("%q: %q", id, got)
		}
		body, err := (&Event{Source: "/s", ID: id, Type: TypePrefix + "taint", Subject: "agent:a", Time: 1_700_000_000_000_000_000}).Signals()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signals.Decode(body); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
}
