package control

import (
	"strings"
	"testing"
)

// TestACloudEventIsASignal: in both modes, as its client and not as its source.
func TestACloudEventIsASignal(t *testing.T) {
	w := newWorld(t)
	post := func(body string, headers ...string) *reply {
		r := w.request("POST", "/v1/signals", soarToken, body)
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		return w.send(r)
	}
	attributes := []string{"ce-specversion: 1.0", "ce-id: 7", "ce-source: https://siem/", "ce-type: vigil.signal.quarantine",
		"ce-time: 2026-11-23T03:04:05Z", "ce-subject: agent:a"}
	dry := w.request("POST", "/v1/dry-run", soarToken, `{"reason":"beacons"}`)
	for _, h := range attributes {
		name, value, _ := strings.Cut(h, ": ")
		dry.Header.Set(name, value)
	}
	if got := w.send(dry).want(200); !strings.Contains(got.body, `"id":"ce:https://siem/ 7","outcome":"applied"`) {
		t.Errorf("what it would do: %s", got.body)
	}
	got := post(`{"reason":"beacons"}`, attributes...).want(200)
	if !strings.Contains(got.body, `"id":"ce:https://siem/ 7","outcome":"applied"`) || !strings.Contains(got.body, `"source":"client:soar"`) {
		t.Error(got.body)
	}
	got = post(`{"specversion":"1.0","id":"7","source":"https://siem/","type":"vigil.signal.quarantine","time":"2026-11-23T03:04:05Z",
		"subject":"agent:a","data":{"reason":"beacons"}}`, "Content-Type: application/cloudevents+json; charset=utf-8").want(200)
	if !strings.Contains(got.body, `"outcome":"duplicate"`) {
		t.Errorf("the same event in the other mode: %s", got.body)
	}
	for name, c := range map[string]struct {
		body    string
		headers []string
		status  int
		want    string
	}{
		"no id":         {`{}`, []string{"ce-specversion: 1.0", "ce-source: s", "ce-type: t"}, 400, `"missing_member"`},
		"a batch":       {`[]`, []string{"Content-Type: application/cloudevents-batch+json"}, 400, "batches"},
		"no signal":     {`{"a":1}`, attributes, 400, `"unknown_member"`},
		"a token":       {"a.b.c", append([]string{"Content-Type: application/secevent+jwt"}, attributes...), 415, "/v1/events/NAME"},
		"compressed":    {`{}`, append([]string{"Content-Encoding: gzip"}, attributes...), 415, "compressed"},
		"not permitted": {`{"type":"lift","lifts":{"type":"unreadable","source":"client:x","id":"x"}}`, attributes, 403, `"not_authorized"`},
	} {
		if got := post(c.body, c.headers...); got.status != c.status || !strings.Contains(got.body, c.want) {
			t.Errorf("%s: %d %s, want %d %s", name, got.status, got.body, c.status, c.want)
		}
	}
}
