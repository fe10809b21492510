package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vigil/authz"
	"vigil/identity"
	"vigil/server/credential"
	"vigil/server/decision"
	"vigil/signals"
)

// waiter is the applier in the words of the decision port.
type waiter struct{ *signals.Applier }

func (w waiter) WaitFor(ctx context.Context, token string) error { return w.WaitApplied(ctx, token) }

// decisionPort serves a decision port over what is behind w.
func (w *world) decisionPort(ready func() error) (address string) {
	w.t.Helper()
	registry, err := credential.New([]credential.Client{{
		Name: "gate", Scopes: credential.Decide, TokenHashes: [][32]byte{credential.HashToken(gateToken)},
		Caller: authz.Caller{Name: "gate", Tenants: []string{"default"}, Full: true},
	}, {
		Name: "kim", Scopes: credential.Read, TokenHashes: [][32]byte{credential.HashToken(kimToken)},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	mapping := identity.DefaultMapping()
	port, err := decision.New(decision.Config{
		Engine: w.engine, Mapping: &mapping, Credentials: registry, Ready: ready, AtLeast: waiter{w.applier}, Recent: w.ring,
		Limits: decision.Limits{Header: 2048},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- port.Serve(l) }()
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = port.Shutdown(ctx)
		<-served
	})
	return l.Addr().String()
}

// TestDecisionPortIsAsDocumented asks the decision port for every kind of answer that can
// be had without breaking it, and holds each against the document.
func TestDecisionPortIsAsDocumented(t *testing.T) {
	w := newWorld(t)
	w.push(soarToken, signal("register", "agent:invoice-agent", register))
	var down atomic.Bool
	address := w.decisionPort(func() error {
		if down.Load() {
			return errors.New("starting")
		}
		return nil
	})
	const evaluation, evaluations = "/access/v1/evaluation", "/access/v1/evaluations"
	batch := `{"subject":{"type":"agent","id":"invoice-agent"},"action":{"name":"pay"},"context":{"session":"s-1"},"evaluations":[
		{"resource":{"type":"payment","id":"1","properties":{"amount":1}}},{"resource":{"type":"payment","id":"2","properties":{"amount":10000}}},{}]}`
	touched := map[string]bool{}
	for _, c := range []struct {
		method, path, body string
		status             int
		header             [2]string
		down               bool
	}{
		{method: "POST", path: evaluation, body: payRequest, status: 200},
		{method: "POST", path: evaluation, body: strings.Replace(payRequest, "4200", "9500", 1), status: 200},
		{method: "POST", path: evaluation, body: strings.Replace(payRequest, "invoice-agent", "nobody", 1), status: 200},
		{method: "POST", path: evaluation, body: strings.Replace(payRequest, "4200", `"much"`, 1), status: 200},
		{method: "POST", path: evaluation, body: payRequest, status: 200, header: [2]string{"Vigil-At-Least", w.store.AsOf()}},
		{method: "POST", path: evaluation, body: payRequest, status: 200, header: [2]string{"Vigil-At-Least", "rubbish"}},
		{method: "POST", path: evaluations, body: batch, status: 200},
		{method: "POST", path: evaluations, body: payRequest, status: 200},
		{method: "POST", path: evaluation, body: `{"subject":1}`, status: 400},
		{method: "POST", path: evaluations, body: `[]`, status: 400},
		{method: "POST", path: evaluation, body: payRequest, status: 400, header: [2]string{"X-Request-ID", strings.Repeat("x", 201)}},
		{method: "POST", path: evaluation, body: payRequest, status: 400, header: [2]string{"Content-Type", "text/plain"}},
		{method: "POST", path: evaluation, body: payRequest, status: 401, header: [2]string{"Authorization", "Bearer x"}},
		{method: "POST", path: evaluation, body: payRequest, status: 403, header: [2]string{"Authorization", "Bearer " + kimToken}},
		{method: "POST", path: evaluation, body: payRequest, status: 403, header: [2]string{"Origin", "http://evil.example"}},
		{method: "POST", path: evaluation, body: strings.Repeat(" ", 70<<10), status: 413},
		{method: "POST", path: evaluation, body: payRequest, status: 415, header: [2]string{"Content-Encoding", "gzip"}},
		{method: "POST", path: evaluations, body: payRequest, status: 421, header: [2]string{"Host", "evil.example"}},
		{method: "POST", path: evaluation, body: payRequest, status: 431, header: [2]string{"X-Large", strings.Repeat("x", 4096)}},
		{method: "POST", path: evaluation, body: payRequest, status: 503, down: true},
		{method: "POST", path: evaluations, body: batch, status: 503, down: true},
		{method: "GET", path: "/.well-known/authzen-configuration", status: 200},
		{method: "GET", path: "/readyz", status: 200},
		{method: "GET", path: "/readyz", status: 503, down: true},
	} {
		down.Store(c.down)
		got := askDecisionPort(t, address, c.method, c.path, c.body, c.header)
		if got.status != c.status {
			t.Errorf("%s %s %v: %d, want %d: %s", c.method, c.path, c.header, got.status, c.status, got.body)
		}
		checkDocumented(t, c.method, c.path, got)
		touched[c.method+" "+c.path] = true
	}
	for name := range operations("decision") {
		if !touched[name] {
			t.Errorf("%s is in the document, and nobody has asked it", name)
		}
	}
	if got := askDecisionPort(t, address, "GET", "/v1/status", "", [2]string{}); got.status != 404 {
		t.Errorf("the decision port answers for the control port: %d", got.status)
	}
	var x DecisionsResponse
	w.get("/v1/decisions?limit=50", kimToken).want(200).into(&x)
	if len(x.Decisions) == 0 {
		t.Fatal("nothing is remembered")
	}
	for _, d := range x.Decisions { // each can be explained
		w.get("/v1/explain?id="+d.ID, kimToken).want(200)
	}
}

// askDecisionPort sends one request on a connection of its own.
func askDecisionPort(t *testing.T, address, method, path, body string, header [2]string) *reply {
	t.Helper()
	conn := dial(t, address)
	defer conn.Close()
	headers := map[string]string{"Host": "localhost", "Connection": "close", "Authorization": "Bearer " + gateToken}
	if body != "" {
		headers["Content-Type"] = "application/json"
	}
	if header[0] != "" {
		headers[header[0]] = header[1]
	}
	var request strings.Builder
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nContent-Length: %d\r\n", method, path, len(body))
	for name, value := range headers {
		fmt.Fprintf(&request, "%s: %s\r\n", name, value)
	}
	request.WriteString("\r\n" + body)
	go io.WriteString(conn, request.String()) // the answer may come before the whole body is sent
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s %s %v: %v", method, path, header, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &reply{t, resp.StatusCode, resp.Header, string(text)}
}
