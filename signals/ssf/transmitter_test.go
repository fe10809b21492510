package ssf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

func TestWellKnownStandsBetweenHostAndPath(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://tr.example.com":          "https://tr.example.com/.well-known/ssf-configuration",
		"https://tr.example.com/":         "https://tr.example.com/.well-known/ssf-configuration",
		"https://tr.example.com/issuer1":  "https://tr.example.com/.well-known/ssf-configuration/issuer1",
		"https://tr.example.com/a/b/":     "https://tr.example.com/.well-known/ssf-configuration/a/b",
		"https://tr.example.com:8443/x%2": "",
		"https://tr.example.com/?q":       "",
		"tr.example.com":                  "",
	} {
		got, err := WellKnown(issuer, SSFConfiguration)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %s, %v", issuer, got, err)
		}
	}
}

// transmitter is a small one over real HTTP, with one stream.
type transmitter struct {
	t *testing.T

	mu     sync.Mutex // held over a request, and by tests that change it meanwhile
	base   string     // its URL
	stream Stream
	list   []Stream // shown instead; nil for none
	status streamStatus
	change func(body object) // spoils an answer
	seen   []string
	state  *string        // of the last verification; nil for none
	fail   map[string]int // status by "METHOD path", answered instead
	header http.Header
}

func newTransmitter(t *testing.T) (*transmitter, *world, *Transmitter) {
	tr := &transmitter{t: t}
	server := httptest.NewServer(tr)
	t.Cleanup(server.Close)
	tr.base = server.URL
	transport := &http.Transport{DisableKeepAlives: true}
	web := &Web{Transport: transport, Authorize: func(context.Context) (string, error) { return "Bearer secret", nil }}
	issuer := tr.base + "/one"
	meta, err := Discover(t.Context(), web, issuer, SSFConfiguration)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(cfg *Config) { cfg.Issuer, cfg.StateSecret = issuer, []byte("of all replicas") })
	client, err := NewTransmitter(web, meta, w.receiver)
	if err != nil {
		t.Fatal(err)
	}
	return tr, w, client
}

func (tr *transmitter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		tr.t.Error(err)
	}
	issuer := tr.base + "/one"
	reply := func(status int, v any) {
		raw, err := json.Marshal(v)
		if err != nil {
			tr.t.Error(err)
		}
		if tr.change != nil {
			var o object
			if json.Unmarshal(raw, &o) == nil {
				tr.change(o)
				raw, _ = json.Marshal(o)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		w.Write(raw)
	}
	if r.URL.Path == "/.well-known/ssf-configuration/one" {
		reply(http.StatusOK, object{
			"spec_version": "1_0", "issuer": issuer, "jwks_uri": tr.base + "/keys", "delivery_methods_supported": []string{MethodPush, MethodPoll},
			"configuration_endpoint": tr.base + "/stream", "status_endpoint": tr.base + "/status?x=1",
			"add_subject_endpoint": tr.base + "/add", "remove_subject_endpoint": tr.base + "/remove",
			"verification_endpoint": tr.base + "/verify", "critical_subject_members": []string{"tenant"}, "default_subjects": "ALL",
			"more": object{"of": "tomorrow"},
		})
		return
	}
	if r.Header.Get("Authorization") != "Bearer secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	tr.seen = append(tr.seen, fmt.Sprintf("%s %s %s", r.Method, r.URL, body))
	if status := tr.fail[r.Method+" "+r.URL.Path]; status != 0 {
		maps.Copy(w.Header(), tr.header)
		w.WriteHeader(status)
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /stream":
		if tr.stream.ID != "" {
			w.WriteHeader(http.StatusConflict)
			return
		}
		if err := json.Unmarshal(body, &tr.stream); err != nil {
			tr.t.Error(err)
		}
		tr.stream.ID, tr.stream.Issuer, tr.stream.Audience = "st 1", issuer, Audience{"x", testAudience}
		tr.stream.Delivered = tr.stream.Requested
		tr.status = streamStatus{ID: "st 1", Status: "enabled"}
		reply(http.StatusCreated, tr.stream)
	case "PATCH /stream", "PUT /stream":
		var s Stream
		if err := json.Unmarshal(body, &s); err != nil || s.ID != tr.stream.ID {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		tr.stream.Description, tr.stream.Requested = s.Description, s.Requested
		reply(http.StatusOK, tr.stream)
	case "GET /stream":
		switch {
		case !r.URL.Query().Has("stream_id"):
			if tr.list == nil && tr.stream.ID != "" {
				reply(http.StatusOK, []Stream{tr.stream})
				return
			}
			reply(http.StatusOK, append([]Stream{}, tr.list...))
		case r.URL.Query().Get("stream_id") != tr.stream.ID:
			w.WriteHeader(http.StatusNotFound)
		default:
			raw, _ := json.Marshal(tr.stream)
			var o object
			_ = json.Unmarshal(raw, &o)
			o["aud"] = testAudience // one, as a text
			reply(http.StatusOK, o)
		}
	case "DELETE /stream":
		tr.stream = Stream{}
		w.WriteHeader(http.StatusNoContent)
	case "GET /status":
		reply(http.StatusOK, tr.status)
	case "POST /status":
		if err := json.Unmarshal(body, &tr.status); err != nil {
			tr.t.Error(err)
		}
		if tr.status.Reason == "undecided" {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		reply(http.StatusOK, tr.status)
	case "POST /add":
		w.WriteHeader(http.StatusOK)
	case "POST /remove":
		w.WriteHeader(http.StatusNoContent)
	case "POST /verify":
		var q struct {
			State *string `json:"state"`
		}
		_ = json.Unmarshal(body, &q)
		tr.state = q.State
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusTeapot)
	}
}

func TestAStreamLivesAndEnds(t *testing.T) {
	tr, w, client := newTransmitter(t)
	ctx := t.Context()
	s, err := client.Create(ctx, Stream{
		Delivery:  &Delivery{Method: MethodPush, Endpoint: "https://pdp.example.com/push", Authorization: "Bearer push"},
		Requested: []string{CAEP + "session-revoked"}, Description: "d",
	})
	if err != nil || s.ID != "st 1" || len(s.Delivered) != 1 || s.Delivery.Method != MethodPush {
		t.Fatalf("%+v, %v", s, err)
	}
	if tr.stream.Delivery.Authorization != "Bearer push" || s.Delivery.Authorization != "" {
		t.Errorf("the transmitter has %q, and its answer gives away %q", tr.stream.Delivery.Authorization, s.Delivery.Authorization)
	}
	var status *StatusError
	if _, err := client.Create(ctx, Stream{}); !errors.As(err, &status) || status.Status != http.StatusConflict {
		t.Errorf("a second: %v", err)
	}
	if s, err = client.Read(ctx, "st 1"); err != nil || len(s.Audience) != 1 {
		t.Errorf("read: %+v, %v", s, err)
	}
	if _, err = client.Read(ctx, "st 2"); !errors.As(err, &status) || status.Status != http.StatusNotFound {
		t.Errorf("read another: %v", err)
	}
	if list, err := client.List(ctx); err != nil || len(list) != 1 || list[0].Problem != nil || list[0].Delivery.Authorization != "" {
		t.Errorf("list: %v, %v", list, err)
	}
	if s, err = client.Update(ctx, Stream{ID: "st 1", Description: "e"}); err != nil || s.Description != "e" {
		t.Errorf("update: %+v, %v", s, err)
	}
	if s, err = client.Replace(ctx, Stream{ID: "st 1", Description: "f"}); err != nil || s.Description != "f" {
		t.Errorf("replace: %+v, %v", s, err)
	}
	if got, err := client.Status(ctx, "st 1"); err != nil || got.Status != "enabled" {
		t.Errorf("status: %+v, %v", got, err)
	}
	if got, err := client.SetStatus(ctx, "st 1", "paused", "maintenance"); err != nil || got.Status != "paused" || w.receiver.Status().Stream.Reason != "maintenance" {
		t.Errorf("set status: %+v, %v", got, err)
	}
	if _, err := client.SetStatus(ctx, "st 1", "enabled", "undecided"); !errors.Is(err, ErrPending) {
		t.Errorf("undecided: %v", err)
	}
	if err := client.AddSubject(ctx, "st 1", []byte(`{"format":"email","email":"j@x.com"}`), true); err != nil {
		t.Error(err)
	}
	if err := client.AddSubject(ctx, "st 1", []byte(`{"format":"email"}`), true); err == nil {
		t.Error("a subject that is none was added")
	}
	if err := client.RemoveSubject(ctx, "st 1", []byte(`{"format":"email","email":"j@x.com"}`)); err != nil {
		t.Error(err)
	}
	// A verification that was asked for comes, and one that was not does not pass.
	w.receiver.SetStream("st 1")
	if err := client.Verify(ctx, "st 1"); err != nil || tr.state == nil {
		t.Fatalf("verify: %v, %v", tr.state, err)
	}
	verify := func(state string) error {
		_, err := w.receiver.Take(ctx, []byte(signed(t, object{"iss": tr.base + "/one", "jti": "v-" + state, "sub_id": opaque("st 1"),
			"events": event(verification, object{"state": state})})))
		return err
	}
	if err := verify(*tr.state); err != nil || w.receiver.Status().Verified == 0 {
		t.Error(err)
	}
	if err := verify("x"); err == nil {
		t.Error("a made-up state")
	}
	if err := client.Delete(ctx, "st 1"); err != nil || tr.stream.ID != "" {
		t.Error(err)
	}
	want := []string{
		`POST /stream {"events_requested":["` + CAEP + `session-revoked"],"delivery":{"method":"urn:ietf:rfc:8935","endpoint_url":"https://pdp.example.com/push","authorization_header":"Bearer push"},"description":"d"}`,
		`GET /status?x=1&stream_id=st+1 `,
		`POST /status?x=1 {"stream_id":"st 1","status":"paused","reason":"maintenance"}`,
		`POST /add {"stream_id":"st 1","subject":{"format":"email","email":"j@x.com"},"verified":true}`,
		`POST /remove {"stream_id":"st 1","subject":{"format":"email","email":"j@x.com"}}`,
		`PATCH /stream {"stream_id":"st 1","description":"e"}`,
		`DELETE /stream?stream_id=st+1 `,
	}
	all := strings.Join(tr.seen, "\n")
	for _, line := range want {
		if !strings.Contains(all, line) {
			t.Errorf("no request %s in\n%s", line, all)
		}
	}
}

// TestATransmitterThatSpeaksForAnotherIsNotBelieved: SSF 1.0 sections 7.2.4 and 8.1.1.1.
func TestATransmitterThatSpeaksForAnotherIsNotBelieved(t *testing.T) {
	tr, _, client := newTransmitter(t)
	for name, change := range map[string]func(object){
		"another issuer":   func(o object) { o["iss"] = "https://evil.example.com" },
		"another audience": func(o object) { o["aud"] = []string{"https://evil.example.com"} },
		"no id":            func(o object) { delete(o, "stream_id") },
		"no delivery":      func(o object) { delete(o, "delivery") },
		"plain polling": func(o object) {
			o["delivery"] = object{"method": MethodPoll, "endpoint_url": "http://evil.example.com/"}
		},
	} {
		tr.stream, tr.change = Stream{}, change
		if s, err := client.Create(t.Context(), Stream{Delivery: &Delivery{Method: MethodPush}}); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	web := &Web{Transport: &http.Transport{DisableKeepAlives: true}}
	for name, change := range map[string]func(object){
		"another issuer": func(o object) { o["issuer"] = "https://evil.example.com" },
		"a slash":        func(o object) { o["issuer"] = o["issuer"].(string) + "/" },
		"plain keys":     func(o object) { o["jwks_uri"] = "http://evil.example.com/keys" },
		"a plain stream": func(o object) { o["configuration_endpoint"] = "http://evil.example.com/" },
		"a file":         func(o object) { o["verification_endpoint"] = "file:///etc/passwd" },
	} {
		tr.change = change
		if m, err := Discover(t.Context(), web, tr.base+"/one", SSFConfiguration); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if _, err := Discover(t.Context(), web, "http://idp.example.com", SSFConfiguration); err == nil {
		t.Error("discovery over plain http")
	}
}

// TestTheOnlyStreamForThisReceiverIsFound: others may have streams under the same credential.
func TestTheOnlyStreamForThisReceiverIsFound(t *testing.T) {
	tr, _, client := newTransmitter(t)
	mine := func(id string) Stream {
		return Stream{ID: id, Issuer: tr.base + "/one", Audience: Audience{testAudience}, Delivery: &Delivery{Method: MethodPush}}
	}
	hers := mine("hers")
	hers.Audience = Audience{"https://another.example.com"}
	for name, c := range map[string]struct {
		streams []Stream
		id      string
		err     error
	}{
		"none":          {nil, "", ErrNoStream},
		"one":           {[]Stream{mine("a")}, "a", nil},
		"another's too": {[]Stream{hers, mine("a")}, "a", nil},
		"another's":     {[]Stream{hers}, "", ErrNoStream},
		"two":           {[]Stream{mine("a"), mine("b")}, "", ErrSeveralStreams},
	} {
		tr.list = c.streams
		s, err := client.Find(t.Context(), "")
		if !errors.Is(err, c.err) || err == nil && s.ID != c.id {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	tr.list = []Stream{hers}
	if _, err := client.Find(t.Context(), ""); !strings.Contains(err.Error(), "not this receiver") {
		t.Errorf("why the only one is none is not said: %v", err)
	}
}

func TestMetadataAreAtTheIssuerOrWhereItIsSaid(t *testing.T) {
	tr, _, _ := newTransmitter(t)
	web := &Web{Transport: &http.Transport{DisableKeepAlives: true}}
	elsewhere := tr.base + "/.well-known/ssf-configuration/one"
	if m, err := Discover(t.Context(), web, tr.base+"/one", elsewhere); err != nil || m.Issuer != tr.base+"/one" {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := Discover(t.Context(), web, "https://idp.example.com/", elsewhere); err == nil || !strings.Contains(err.Error(), "not of") {
		t.Errorf("the metadata of another issuer: %v", err)
	}
	for issuer, document := range map[string]string{testIssuer: "openid-configuration", tr.base: "http://idp.example.com/ssf"} {
		if _, err := Discover(t.Context(), web, issuer, document); err == nil {
			t.Errorf("%s is a document of discovery", document)
		}
	}
}

// TestATokenThatIsRefusedIsNotUsedAgain: one that was withdrawn before its end.
func TestATokenThatIsRefusedIsNotUsedAgain(t *testing.T) {
	tr, w, _ := newTransmitter(t)
	refused := 0
	web := &Web{Transport: &http.Transport{DisableKeepAlives: true}, Refused: func() { refused++ },
		Authorize: func(context.Context) (string, error) { return "Bearer old", nil }}
	meta, err := Discover(t.Context(), web, tr.base+"/one", SSFConfiguration)
	if err != nil || refused != 0 {
		t.Fatalf("%v, %d", err, refused)
	}
	client, err := NewTransmitter(web, meta, w.receiver)
	if err != nil {
		t.Fatal(err)
	}
	var status *StatusError
	if _, err := client.List(t.Context()); !errors.As(err, &status) || status.Status != http.StatusUnauthorized || refused != 1 {
		t.Errorf("%v, told %d times", err, refused)
	}
}

func TestAnEndpointThatIsNotThereIsSaid(t *testing.T) {
	w := newWorld(t)
	client, err := NewTransmitter(&Web{}, &Metadata{Issuer: testIssuer}, w.receiver)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context(), "s"); err == nil || !strings.Contains(err.Error(), "no such endpoint") {
		t.Error(err)
	}
	if _, err := NewTransmitter(&Web{}, &Metadata{Issuer: "https://x/"}, w.receiver); err == nil {
		t.Error("a transmitter of another issuer")
	}
}
