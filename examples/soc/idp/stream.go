package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const ssf = "https://schemas.openid.net/secevent/ssf/event-type/"

// manager is the event stream management of SSF 1.0 section 8 with one stream, which is
// pushed and is gone when the program ends.
type manager struct {
	base  string // its URL
	token string // bearer token of who may manage
	say   func(ctx context.Context, set *event, to, authorization string) error
	queue chan verification

	mu       sync.Mutex
	stream   *stream // nil for none
	status   string
	reason   string
	subjects map[string]bool // in JSON: those that were added
}

// stream is its configuration on the wire.
type stream struct {
	ID          string   `json:"stream_id"`
	Issuer      string   `json:"iss"`
	Audience    string   `json:"aud"`
	Supported   []string `json:"events_supported"`
	Requested   []string `json:"events_requested,omitempty"`
	Delivered   []string `json:"events_delivered"`
	Delivery    delivery `json:"delivery"`
	Description string   `json:"description,omitempty"`
}

type delivery struct {
	Method        string `json:"method"`
	Endpoint      string `json:"endpoint_url"`
	Authorization string `json:"authorization_header,omitempty"`
}

// verification is a verification event that is to be pushed.
type verification struct {
	stream, state, to, authorization string
}

// newManager makes one whose verification events are pushed by run.
func newManager(base, token string, say func(ctx context.Context, set *event, to, authorization string) error) *manager {
	return &manager{base: base, token: token, say: say, queue: make(chan verification, 8), subjects: map[string]bool{}}
}

// run pushes the verification events that were asked for, until ctx ends.
func (m *manager) run(ctx context.Context, out io.Writer) {
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-m.queue:
			said := map[string]any{}
			if v.state != "" {
				said["state"] = v.state
			}
			set := &event{
				Issuer: issuer, Audience: audience, ID: rand.Text(), IssuedAt: time.Now().Unix(),
				Subject: map[string]any{"format": "opaque", "id": v.stream},
				Events:  map[string]map[string]any{ssf + "verification": said},
			}
			if err := m.say(ctx, set, v.to, v.authorization); err != nil {
				fmt.Fprintln(out, "verification:", err)
			}
		}
	}
}

// routes adds the endpoints and the metadata that name them.
func (m *manager) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /.well-known/ssf-configuration", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]any{
			"spec_version": "1_0", "issuer": issuer, "jwks_uri": m.base + "/keys", "delivery_methods_supported": []string{"urn:ietf:rfc:8935"},
			"configuration_endpoint": m.base + "/stream", "status_endpoint": m.base + "/status", "verification_endpoint": m.base + "/verify",
			"add_subject_endpoint": m.base + "/subjects/add", "remove_subject_endpoint": m.base + "/subjects/remove",
			"authorization_schemes": []any{map[string]string{"spec_urn": "urn:ietf:rfc:6750"}}, "default_subjects": "ALL",
		})
	})
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request){
		"POST /stream": m.create, "GET /stream": m.read, "PATCH /stream": m.update, "PUT /stream": m.update, "DELETE /stream": m.end,
		"GET /status": m.getStatus, "POST /status": m.setStatus, "POST /verify": m.verify,
		"POST /subjects/add": m.subject(true), "POST /subjects/remove": m.subject(false),
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if subtle.ConstantTimeCompare([]byte(token), []byte(m.token)) != 1 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			handle(w, r)
		})
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.MarshalWrite(w, v)
}

// asked reads the body of a request, and answers where it is not what it should be. Where
// the request names a stream, it must be the one that there is.
func (m *manager) asked(w http.ResponseWriter, r *http.Request, id *string, body any) bool {
	if body != nil && json.UnmarshalRead(http.MaxBytesReader(w, r.Body, 1<<16), body) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return false
	}
	if id != nil && (m.stream == nil || *id != m.stream.ID) {
		w.WriteHeader(http.StatusNotFound)
		return false
	}
	return true
}

// take takes from s what is the receiver's to state.
func (m *manager) take(w http.ResponseWriter, into *stream, s *stream) bool {
	if s.Delivery.Method != "urn:ietf:rfc:8935" || !strings.HasPrefix(s.Delivery.Endpoint, "http") {
		w.WriteHeader(http.StatusBadRequest) // it only pushes
		return false
	}
	into.Requested, into.Delivery, into.Description = s.Requested, s.Delivery, s.Description
	into.Delivered = []string{}
	for _, uri := range s.Requested {
		if slices.Contains(into.Supported, uri) {
			into.Delivered = append(into.Delivered, uri)
		}
	}
	return true
}

func (m *manager) create(w http.ResponseWriter, r *http.Request) {
	var s stream
	if !m.asked(w, r, nil, &s) {
		return
	}
	if m.stream != nil {
		w.WriteHeader(http.StatusConflict)
		return
	}
	made := &stream{ID: rand.Text(), Issuer: issuer, Audience: audience}
	for name := range isCAEP {
		made.Supported = append(made.Supported, caep+name)
	}
	for _, name := range []string{"account-disabled", "account-enabled", "account-purged", "credential-compromise", "identifier-changed"} {
		made.Supported = append(made.Supported, risc+name)
	}
	slices.Sort(made.Supported)
	if m.take(w, made, &s) {
		m.stream, m.status, m.reason = made, "enabled", ""
		reply(w, http.StatusCreated, made)
	}
}

func (m *manager) update(w http.ResponseWriter, r *http.Request) {
	var s stream
	if m.asked(w, r, &s.ID, &s) && m.take(w, m.stream, &s) {
		reply(w, http.StatusOK, m.stream)
	}
}

func (m *manager) read(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("stream_id")
	switch {
	case id != "" && m.asked(w, r, &id, nil):
		reply(w, http.StatusOK, m.stream)
	case id != "":
	case m.stream == nil:
		reply(w, http.StatusOK, []any{})
	default:
		reply(w, http.StatusOK, []any{m.stream})
	}
}

func (m *manager) end(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("stream_id")
	if m.asked(w, r, &id, nil) {
		m.stream = nil
		w.WriteHeader(http.StatusNoContent)
	}
}

func (m *manager) getStatus(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("stream_id")
	if m.asked(w, r, &id, nil) {
		reply(w, http.StatusOK, map[string]string{"stream_id": id, "status": m.status, "reason": m.reason})
	}
}

func (m *manager) setStatus(w http.ResponseWriter, r *http.Request) {
	var q struct {
		ID     string `json:"stream_id"`
		Status string `json:"status"`
		Reason string `json:"reason"`
	}
	if !m.asked(w, r, &q.ID, &q) {
		return
	}
	if q.Status != "enabled" && q.Status != "paused" && q.Status != "disabled" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	m.status, m.reason = q.Status, q.Reason
	reply(w, http.StatusOK, q)
}

func (m *manager) subject(add bool) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			ID      string         `json:"stream_id"`
			Subject jsontext.Value `json:"subject"`
		}
		switch {
		case !m.asked(w, r, &q.ID, &q):
		case add && len(m.subjects) >= 1000:
			w.WriteHeader(http.StatusTooManyRequests)
		case add:
			m.subjects[string(q.Subject)] = true
			w.WriteHeader(http.StatusOK)
		default:
			delete(m.subjects, string(q.Subject))
			w.WriteHeader(http.StatusNoContent)
		}
	}
}

func (m *manager) verify(w http.ResponseWriter, r *http.Request) {
	var q struct {
		ID    string `json:"stream_id"`
		State string `json:"state"`
	}
	if !m.asked(w, r, &q.ID, &q) {
		return
	}
	if m.status != "enabled" { // which sends nothing
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	select {
	case m.queue <- verification{q.ID, q.State, m.stream.Delivery.Endpoint, m.stream.Delivery.Authorization}:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusTooManyRequests)
	}
}
