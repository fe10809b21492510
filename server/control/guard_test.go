package control

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"
	"time"

	"vigil/server/credential"
)

// one is a registry that knows one client, by whatever token or certificate.
type one struct{ client *credential.Client }

func (o one) ByToken(string) *credential.Client                  { return o.client }
func (o one) ByCertificate(*x509.Certificate) *credential.Client { return o.client }

// TestScopesDecideWhoMayCallWhat tries every route as nobody, as a stranger and with each
// scope alone.
func TestScopesDecideWhoMayCallWhat(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Parts) { c.Pprof = true })
	w.snapshot = nothingToSave
	bodies := map[string]string{"POST /v1/signals": signal("risk", "agent:a", `,"risk":1`), "POST /v1/explain": payRequest}
	paths := strings.NewReplacer("{ref}", "agent:a", "{issuer}", "agent:a", "{profile}", "goroutine")
	for _, r := range w.server.table() {
		path := paths.Replace(r.path)
		body := bodies[r.name()]
		if r.scope == open {
			status := 200
			if r.path == "/v1/events/{issuer}" {
				status = 202 // its transmitter is none of our clients
			}
			w.do(r.method, path, "", body).want(status)
			w.do(r.method, path, "no such token", body).want(status) // health needs no credential, and looks at none
			continue
		}
		if got := w.do(r.method, path, "", body); got.status != 401 || got.problem().Code != CodeUnauthenticated ||
			got.header.Get("WWW-Authenticate") != `Bearer realm="vigil"` {
			t.Errorf("%s as nobody: %d %s", r.name(), got.status, got.body)
		}
		if got := w.do(r.method, path, "no-such-token", body); got.status != 401 ||
			got.header.Get("WWW-Authenticate") != `Bearer realm="vigil", error="invalid_token"` {
			t.Errorf("%s as a stranger: %d", r.name(), got.status)
		}
		for _, scope := range []credential.Scope{credential.Decide, credential.Signal, credential.Read, credential.Admin} {
			client := *testClients(t).ByToken(soarToken)
			client.Scopes = scope
			registry := w.server.cfg.Clients
			w.server.cfg.Clients = one{&client}
			got := w.do(r.method, path, "x", body)
			w.server.cfg.Clients = registry
			may := r.scope == anyone || scope == r.scope || scope == credential.Admin
			if refused := got.status == 403; refused == may {
				t.Errorf("%s with %s: %d %s", r.name(), scopeName(scope), got.status, got.body)
			}
			if !may && (got.problem().Code != CodeForbiddenScope || !strings.Contains(got.header.Get("WWW-Authenticate"), `scope="`+scopeName(r.scope)+`"`)) {
				t.Errorf("%s with %s: %s, %s", r.name(), scopeName(scope), got.body, got.header.Get("WWW-Authenticate"))
			}
		}
	}
}

func TestMalformedCredentials(t *testing.T) {
	w := newWorld(t)
	for _, header := range [][]string{
		{"Bearer"}, {"Bearer "}, {"Basic " + kimToken}, {"Bearer " + kimToken + " "}, {"Bearer a b"}, {kimToken},
		{"Bearer " + kimToken, "Bearer " + kimToken}, {""}, {"Bearer " + strings.Repeat("x", 5000)},
	} {
		r := w.request("GET", "/v1/whoami", "", "")
		r.Header["Authorization"] = header
		if got := w.send(r); got.status != 401 {
			t.Errorf("%q: %d", header, got.status)
		}
	}
	r := w.request("GET", "/v1/whoami", "", "")
	r.Header.Set("Authorization", "bEARER "+kimToken)
	if got := w.send(r).want(200); got.body != `{"client":"kim","scopes":["read"],"source":"client:kim","tenants":["default"]}` &&
		canonical(t, got.body) != `{"client":"kim","scopes":["read"],"source":"client:kim","tenants":["default"]}` {
		t.Errorf("whoami: %s", got.body)
	}
}

func TestClientCertificates(t *testing.T) {
	w := newWorld(t)
	ask := func(chain []*x509.Certificate, verified bool, token string) *reply {
		r := w.request("GET", "/v1/whoami", token, "")
		r.TLS = &tls.ConnectionState{PeerCertificates: chain}
		if verified {
			r.TLS.VerifiedChains = [][]*x509.Certificate{chain}
		}
		return w.send(r)
	}
	kim := []*x509.Certificate{certificate("kim.example")}
	if got := ask(kim, true, "").want(200); !strings.Contains(got.body, `"kim"`) {
		t.Errorf("got %s", got.body)
	}
	ask(kim, false, "").want(401)                                            // presented, not verified
	ask(kim, true, "no-such-token").want(401)                                // a wrong token is not made good by a certificate
	ask([]*x509.Certificate{certificate("eve.example")}, true, "").want(401) // nobody's
	if got := ask(kim, true, soarToken).want(200); !strings.Contains(got.body, `"soar"`) {
		t.Errorf("a token takes precedence: %s", got.body)
	}
	w.advance(2 * time.Hour)
	if p := ask(kim, true, "").wantProblem(401, CodeUnauthenticated); !strings.Contains(p.Detail, "expired") {
		t.Errorf("a connection that outlived its certificate: %s", p.Detail)
	}
}

// TestRebindingAndForeignPagesAreRefused: a page on another site can make its own name
// resolve to our address, but then it shows in Host; else it shows in Origin.
func TestRebindingAndForeignPagesAreRefused(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Parts) {
		c.Hosts = []string{"vigil.internal"}
		c.Origins = []string{"https://console.example"}
	})
	for _, c := range []struct {
		host, origin string
		status       int
	}{
		{"127.0.0.1:7071", "", 200}, {"localhost:7071", "", 200}, {"LOCALHOST", "", 200}, {"[::1]:7071", "", 200}, {"::1", "", 200},
		{"10.1.2.3", "", 200}, {"vigil.internal:7071", "", 200}, {"Vigil.Internal.", "", 200},
		{"evil.example:7071", "", 421}, {"localhost.evil.example", "", 421}, {"127.0.0.1.evil.example:7071", "", 421}, {"", "", 421},
		{"vigil.internal.evil.example", "", 421}, {"127.0.0.1:7071", "http://127.0.0.1:7071", 200},
		{"127.0.0.1:7071", "https://console.example", 200}, {"127.0.0.1:7071", "https://console.example.evil", 403},
		{"127.0.0.1:7071", "http://evil.example", 403}, {"127.0.0.1:7071", "null", 403}, {"127.0.0.1:7071", "http://127.0.0.1:7070", 403},
		{"127.0.0.1:7071", "https://127.0.0.1:7071", 403}, {"evil.example", "http://evil.example", 421},
	} {
		for _, path := range []string{"/v1/whoami", "/livez"} {
			r := w.request("GET", path, kimToken, "")
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			if got := w.send(r); got.status != c.status {
				t.Errorf("%s Host %q Origin %q: %d, want %d", path, c.host, c.origin, got.status, c.status)
			}
		}
	}
	r := w.request("GET", "/livez", "", "")
	r.Header["Origin"] = []string{"http://127.0.0.1:7071", "http://evil.example"}
	w.send(r).wantProblem(403, CodeForbiddenOrigin)
}

func TestFailedAuthenticationIsLoggedAndCountedWithoutTheCredential(t *testing.T) {
	w := newWorld(t)
	const secret = "hunter2-hunter2"
	for range 25 {
		w.get("/v1/status", secret).want(401)
	}
	r := w.request("GET", "/v1/status", "", "")
	r.Header.Set("Authorization", "Basic "+secret)
	w.send(r).want(401)
	log := w.logged.String()
	if strings.Contains(log, secret) || strings.Contains(log, kimToken) {
		t.Errorf("a credential is in the log: %s", log)
	}
	if n := strings.Count(log, "authentication failed"); n != linesPerSecond {
		t.Errorf("%d lines about strangers, want %d", n, linesPerSecond)
	}
	w.advance(time.Second)
	w.get("/v1/status", secret).want(401)
	if log := w.logged.String(); !strings.Contains(log, "lines_omitted_before=16") {
		t.Errorf("what was left out is not counted: %s", log)
	}
	metrics := w.get("/metrics", kimToken).want(200).body
	for _, line := range []string{
		`vigil_control_auth_failures_total{reason="unknown_token"} 26`,
		`vigil_control_auth_failures_total{reason="malformed"} 1`,
		`vigil_control_requests_total{route="GET /v1/status",status="401"} 27`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no %s in the metrics", line)
		}
	}
}

func TestRequestIDs(t *testing.T) {
	w := newWorld(t)
	for id, fit := range map[string]bool{
		"abc-123": true, strings.Repeat("x", 200): true, "a b": true,
		"": false, strings.Repeat("x", 201): false, "a\u00e9": false, "a\x01": false,
	} {
		r := w.request("GET", "/livez", "", "")
		r.Header.Set("X-Request-ID", id)
		got := w.send(r)
		if echoed := got.header.Get("X-Request-ID") == id; echoed != fit || (got.status == 200) != fit {
			t.Errorf("%q became %q with %d", id, got.header.Get("X-Request-ID"), got.status)
		}
	}
	r := w.request("GET", "/livez", "", "")
	r.Header["X-Request-Id"] = []string{"a", "b"}
	w.send(r).wantProblem(400, CodeBadHeader)
	r.Header.Del("X-Request-Id")
	if got := w.send(r).want(200).header.Get("X-Request-ID"); got == "" {
		t.Error("none was made")
	}
	if got := w.get("/nowhere", "").problem(); got.RequestID != "req-1" {
		t.Errorf("the problem does not name the request: %+v", got)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/decisions/", "//v1/signals", "/v1/../v1/status", "/debug/pprof/heap", "/V1/status"} {
		w.do("GET", path, adminToken, "").wantProblem(404, CodeNotFound)
	}
	for _, c := range []struct{ method, path, allow string }{
		{"GET", "/v1/signals", "POST"}, {"DELETE", "/v1/entities/agent:a", "GET, HEAD"},
		{"PUT", "/v1/explain", "GET, HEAD, POST"}, {"OPTIONS", "/v1/status", "GET, HEAD"}, {"BREW", "/livez", "GET, HEAD"},
	} {
		got := w.do(c.method, c.path, adminToken, "")
		got.wantProblem(405, CodeMethodNotAllowed)
		if allow := got.header.Get("Allow"); allow != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, allow, c.allow)
		}
	}
	w.do("HEAD", "/v1/status", kimToken, "").want(200)
	p := w.get("/v1/entities?knd=agent", kimToken).wantProblem(400, CodeBadParameter)
	if len(p.Nearest) != 1 || p.Nearest[0] != "kind" {
		t.Errorf("nearest %v", p.Nearest)
	}
	w.get("/v1/entities?kind=agent&kind=user", kimToken).wantProblem(400, CodeBadParameter)
	w.get("/v1/entities?kind=%zz", kimToken).wantProblem(400, CodeBadParameter)
	w.do("GET", "/v1/status", kimToken, "{}").wantProblem(400, CodeBadBody)
	if got := w.do("GET", "/v1/status", "", "{}"); got.header.Get("Connection") != "close" {
		t.Error("the connection of a body that nobody reads stays open")
	}
}

func TestBeforeThePartsAreThere(t *testing.T) {
	w := newWorld(t)
	w.server.parts.Store(nil)
	w.ready = Readiness{Reasons: []string{"reading the snapshot"}}
	if p := w.get("/v1/entities", kimToken).wantProblem(503, CodeStarting); p.Detail == "" {
		t.Error("no detail")
	}
	if got := w.do("POST", "/v1/signals", soarToken, signal("risk", "agent:a", `,"risk":1`)); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" {
		t.Errorf("push: %d", got.status)
	}
	w.get("/livez", "").want(200)
	w.get("/readyz", "").want(503)
	w.get("/metrics", kimToken).want(200)
	var status StatusResponse
	w.get("/v1/status", kimToken).want(200).into(&status)
	if status.Ready || status.NotReady[0] != "reading the snapshot" || status.Feed.Health != "starting" {
		t.Errorf("status %+v", status)
	}
}
