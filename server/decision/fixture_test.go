package decision

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vigil/authz"
	"vigil/engine"
	"vigil/identity"
	"vigil/server/credential"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp starts these once per process, and per server, and lets them sleep to
		// their own end.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

// fakeEngine allows everything but what its action says otherwise.
type fakeEngine struct {
	calls   atomic.Int64
	entered chan struct{} // where action "hang" says that it came
	release chan struct{} // and what it waits for
}

var (
	allowIt = &authz.Decision{Effect: authz.Allow, Class: authz.ClassAllow, Code: authz.Allowed, Rules: []string{"r1"}, Bundle: "sha256:9f2c", ValidUntil: authz.Forever}
	denyIt  = &authz.Decision{Effect: authz.Deny, Class: authz.ClassDefault, Code: authz.NoAllowRule, ReasonUser: "Not permitted.", ReasonAdmin: "no rule allows it", Bundle: "sha256:9f2c"}
)

func (e *fakeEngine) Decide(_ *authz.Caller, req *authz.Request, _ *authz.Principal) authz.Answer {
	e.calls.Add(1)
	a := authz.Answer{Decision: allowIt, AsOf: "v1.kQ3x", At: 1_795_000_000_000_000_000}
	switch req.Action.Name {
	case "deny":
		a.Decision = denyIt
	case "panic":
		panic("a fault")
	case "nothing":
		a.Decision = nil
	case "hang":
		e.entered <- struct{}{}
		<-e.release
	}
	return a
}

func (e *fakeEngine) DecideBatch(c *authz.Caller, items []engine.Item, answers []authz.Answer, stop func(authz.Answer) bool) []authz.Answer {
	for _, it := range items {
		a := e.Decide(c, it.Request, it.Principal)
		answers = append(answers, a)
		if stop != nil && stop(a) {
			break
		}
	}
	return answers
}

type port struct {
	*Server
	t      testing.TB
	url    string
	addr   string
	token  string // of client envoy, detail codes
	full   string // of client auditor, detail full
	signal string // of a client without the scope decide
	engine *fakeEngine
	notYet atomic.Pointer[error]
	logs   *bytes.Buffer
	served chan error
}

func newPort(t testing.TB, change func(*Config)) *port {
	t.Helper()
	p := &port{
		t: t, token: credential.NewToken(), full: credential.NewToken(), signal: credential.NewToken(),
		engine: &fakeEngine{entered: make(chan struct{}, 100), release: make(chan struct{})}, logs: new(bytes.Buffer),
	}
	mapping := identity.DefaultMapping()
	client := func(name string, scopes credential.Scope, full bool, token string) credential.Client {
		return credential.Client{Name: name, Scopes: scopes, TokenHashes: [][32]byte{credential.HashToken(token)},
			Caller: authz.Caller{Name: name, Tenants: []string{"default"}, Full: full}}
	}
	registry, err := credential.New([]credential.Client{
		client("envoy", credential.Decide, false, p.token),
		client("auditor", credential.Decide, true, p.full),
		client("soar", credential.Signal, false, p.signal),
		{Name: "mesh", Scopes: credential.Decide, CertNames: []string{"spiffe://prod.example/gw"}, Caller: authz.Caller{Name: "mesh", Tenants: []string{"default"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Engine: p.engine, Mapping: &mapping, Credentials: registry,
		Ready: func() error {
			if err := p.notYet.Load(); err != nil {
				return *err
			}
			return nil
		},
		Logger: slog.New(slog.NewTextHandler(p.logs, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	if p.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return p
}

// listen serves on loopback until the test ends.
func (p *port) listen() *port {
	p.t.Helper()
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr, p.url = ln.Addr().String(), "http://"+ln.Addr().String()
	p.serve(ln)
	return p
}

func (p *port) serve(ln net.Listener) {
	p.t.Helper()
	p.serveWith(func() error { return p.Serve(ln) })
}

func (p *port) serveWith(serve func() error) {
	p.t.Helper()
	p.served = make(chan error, 1)
	go func() { p.served <- serve() }()
	p.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			p.t.Errorf("close: %v", err)
		}
		if err := <-p.served; err != nil {
			p.t.Errorf("serve: %v", err)
		}
	})
}

func (p *port) setUnready(why string) {
	if why == "" {
		p.notYet.Store(nil)
		return
	}
	err := errors.New(why)
	p.notYet.Store(&err)
}

const goodBody = `{"subject":{"type":"user","id":"kim","properties":{"act":{"sub":"invoice-agent"}}},"action":{"name":"pay"},"resource":{"type":"payment","id":"inv-1"}}`

func actionBody(action string) string { return strings.Replace(goodBody, "pay", action, 1) }

// call is one request over a connection of its own.
type call struct {
	method, path, body string
	header             []string // "Name: value", over the defaults
	bare               bool     // no defaults
}

type reply struct {
	status int
	header http.Header
	body   string
	last   bool // the connection ends with it
}

func (p *port) call(c call) reply {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	return p.exchange(conn, bufio.NewReader(conn), c)
}

func (p *port) exchange(conn net.Conn, r *bufio.Reader, c call) reply {
	p.t.Helper()
	got, err := p.tryExchange(conn, r, c)
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

func (p *port) tryExchange(conn net.Conn, r *bufio.Reader, c call) (reply, error) {
	if _, err := io.WriteString(conn, p.text(c)); err != nil {
		return reply{}, err
	}
	return tryRead(conn, r, c.method)
}

func (p *port) text(c call) string {
	if c.method == "" {
		c.method = "POST"
	}
	if c.path == "" {
		c.path = pathEvaluation
	}
	var b strings.Builder
	b.WriteString(c.method + " " + c.path + " HTTP/1.1\r\n")
	if !c.bare {
		defaults := map[string]string{"Host": p.addr, "Authorization": "Bearer " + p.token, "Content-Type": "application/json"}
		for _, h := range c.header {
			name, _, _ := strings.Cut(h, ":")
			delete(defaults, name)
		}
		for name, value := range defaults {
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	for _, h := range c.header {
		if !strings.HasSuffix(h, ": -") { // "Name: -" only takes the default away
			b.WriteString(h + "\r\n")
		}
	}
	if c.body != "" || c.method == "POST" {
		b.WriteString("Content-Length: " + itoa(len(c.body)) + "\r\n")
	}
	b.WriteString("\r\n" + c.body)
	return b.String()
}

func (p *port) read(conn net.Conn, r *bufio.Reader, method string) reply {
	p.t.Helper()
	got, err := tryRead(conn, r, method)
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

func tryRead(conn net.Conn, r *bufio.Reader, method string) (reply, error) {
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(body), res.Close}, err
}

func itoa(n int) string { return strconv.Itoa(n) }

// waiter is a Waiter whose view stands at "v1.here".
type waiter struct{ asked chan string }

func (w *waiter) WaitFor(ctx context.Context, token string) error {
	if w.asked != nil {
		w.asked <- strings.Clone(token)
	}
	switch token {
	case "v1.here":
		return nil
	case "v1.later":
		<-ctx.Done()
		return errors.New("the view is not there yet")
	}
	return errors.New("the position is of another log")
}
