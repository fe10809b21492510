package control

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"vigil/authz"
	"vigil/authzen"
	"vigil/engine"
	"vigil/identity"
	"vigil/posture"
	"vigil/rules"
	"vigil/server/credential"
	"vigil/server/recent"
	"vigil/signals"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp, which the decision port is made of, lets these sleep to their own end.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

var start = authz.InstantOf(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))

const testBundle = `vigil: 1
files: [payments.yaml]
profiles:
  default:   {max_feed_age: 30s, on_stale: deny}
  high-high: {max_feed_age: 5s, on_stale: deny, requires: [session]}
`

const testRules = `vigil: 1
attributes:
  resource.payment:
    amount: {type: number, min: 0, required: true}
actions: {pay: {}}
rules:
  - id: pay-small
    effect: allow
    on: {actions: [pay], resources: [payment], classes: [high-high]}
    when: resource.amount <= 5000 && agent.risk < 70
  - id: watch-large
    effect: deny
    mode: observe
    on: {actions: [pay], resources: [payment]}
    when: resource.amount > 9000
`

// world is the port with everything behind it real, but for the disk and the clock.
type world struct {
	t       testing.TB
	now     atomic.Int64
	log     *signals.MemoryLog
	store   *posture.Store
	applier *signals.Applier
	engine  *engine.Engine
	ring    *recent.Ring
	tail    *Tail
	rules   *holder
	server  *Server
	logged  lockedBuffer

	// What tests put in the place of the real thing.
	ready    Readiness
	snapshot func(context.Context, io.Writer) error
	counts   DecisionCounts
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// holder is a rule set that reloads from a file system in memory.
type holder struct {
	files  fstest.MapFS
	mu     sync.Mutex
	state  RulesState
	engine *engine.Engine
	store  *posture.Store
	now    func() authz.Instant
}

func (h *holder) State() RulesState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

func (h *holder) Reload(_ context.Context, expect string) (RulesState, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	bundle, set, errs := rules.Load(h.files)
	h.state.Tried = h.now()
	switch {
	case len(errs) > 0:
		h.state.Err = errs
	case expect != "" && set.Digest() != expect:
		h.state.Err = &DigestError{Want: expect, Got: set.Digest()}
	default:
		h.engine.Use(set, h.store)
		h.state = RulesState{Set: set, Bundle: bundle, Loaded: h.now(), Tried: h.now()}
	}
	return h.state, h.state.Err
}

// feed is the applier with the log that it follows.
type feed struct {
	*signals.Applier
	log *signals.MemoryLog
}

func (f feed) Age(authz.Instant) time.Duration { return 0 }
func (f feed) Health() error                   { return f.log.Health() }
func (f feed) Kind() string                    { return "journal" }
func (f feed) PartitionName(p int32) string    { return strconv.Itoa(int(p)) }

const (
	soarToken  = "token-of-soar"
	kimToken   = "token-of-kim"
	adminToken = "token-of-admin"
	gateToken  = "token-of-gate"
	umaToken   = "token-of-uma" // another tenant
)

var anyAuthority = signals.Authority{Types: []string{"*"}, Kinds: []string{"*", "everything", "source"}, Tenants: []string{"default"}}

func testClients(t testing.TB) *credential.Registry {
	client := func(name, token, tenant string, scopes credential.Scope) credential.Client {
		authority := anyAuthority
		authority.Tenants = []string{tenant}
		return credential.Client{
			Name: name, Scopes: scopes, TokenHashes: [][32]byte{credential.HashToken(token)},
			CertNames: []string{name + ".example"},
			Caller:    authz.Caller{Name: name, Tenants: []string{tenant}, Full: true},
			Sender:    signals.Sender{Source: signals.Source{Kind: "client", Name: name}, Authority: authority},
		}
	}
	registry, err := credential.New([]credential.Client{
		client("soar", soarToken, "default", credential.Signal|credential.Read),
		client("kim", kimToken, "default", credential.Read),
		client("admin", adminToken, "default", credential.Admin),
		client("gate", gateToken, "default", credential.Decide),
		client("uma", umaToken, "other", credential.Signal|credential.Read),
	})
	if err != nil {
		t.Fatal(err)
	}
	return registry
}

// newWorld builds a port; change may alter its configuration and parts.
func newWorld(t testing.TB, change ...func(*Config, *Parts)) *world {
	t.Helper()
	w := &world{t: t, ready: Readiness{Ready: true}}
	w.now.Store(int64(start))
	w.log = signals.NewMemoryLog(w.clock)
	w.store = posture.NewStore()
	w.tail = NewTail(w.clock)
	w.ring = recent.NewRing(recent.RingConfig{Record: w.store.Get})

	var err error
	if w.engine, err = engine.New(engine.Config{Now: w.clock, CacheEntries: 100}); err != nil {
		t.Fatal(err)
	}
	w.rules = &holder{engine: w.engine, store: w.store, now: w.clock, files: fstest.MapFS{
		"bundle.yaml":   {Data: []byte(testBundle)},
		"payments.yaml": {Data: []byte(testRules)},
	}}
	if _, err := w.rules.Reload(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if w.applier, err = signals.NewApplier(signals.ApplierConfig{Store: w.store, Now: w.clock, Observe: w.tail.Signal}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.applier.Run(ctx, w.log, nil) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		w.engine.Close()
	})
	<-w.applier.CaughtUp()
	intake, err := signals.NewIntake(signals.IntakeConfig{Log: w.log, Applier: w.applier, Store: w.store, Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	mapping := identity.DefaultMapping()
	cfg := Config{
		Clients: testClients(t), Now: w.clock,
		Ready:     func() Readiness { return w.ready },
		Decisions: func() DecisionCounts { return w.counts },
		Principal: mapping.Principal,
		Build:     Build{Version: "1.2.3", Revision: "abc", GoVersion: "go1.26"},
		Log:       slog.New(slog.NewTextHandler(&w.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Limits:    Limits{QueueTime: time.Millisecond, TailTime: time.Millisecond},
	}
	parts := Parts{
		Intake: intake, Posture: w.store, Engine: w.engine, Rules: w.rules, Recent: w.ring,
		Feed: feed{w.applier, w.log}, Tail: w.tail,
		Snapshot: func(ctx context.Context, out io.Writer) error {
			return w.snapshot(ctx, out)
		},
	}
	for _, f := range change {
		f(&cfg, &parts)
	}
	if w.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	w.server.Attach(parts)
	w.server.Receive(Events{Endpoints: map[string]http.Handler{
		"agent:a": http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusAccepted) }),
	}})
	return w
}

func (w *world) clock() authz.Instant { return authz.Instant(w.now.Load()) }

func (w *world) advance(d time.Duration) { w.now.Add(int64(d)) }

// reply is an answer, held against the OpenAPI document.
type reply struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

// send makes a request and checks that the document declares its answer.
func (w *world) send(r *http.Request) *reply {
	w.t.Helper()
	recorder := httptest.NewRecorder()
	w.server.Handler().ServeHTTP(recorder, r)
	got := &reply{w.t, recorder.Code, recorder.Header(), recorder.Body.String()}
	checkDocumented(w.t, r.Method, r.URL.EscapedPath(), got)
	return got
}

func (w *world) request(method, path, token, body string) *http.Request {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, reader)
	r.Host = "127.0.0.1:7071"
	r.Header.Set("X-Request-ID", "req-1")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func (w *world) do(method, path, token, body string) *reply {
	w.t.Helper()
	return w.send(w.request(method, path, token, body))
}

func (w *world) get(path, token string) *reply { w.t.Helper(); return w.do("GET", path, token, "") }

// push sends a signal that must be accepted.
func (w *world) push(token, signal string) *SignalsResponse {
	w.t.Helper()
	var out SignalsResponse
	w.do("POST", "/v1/signals", token, signal).want(http.StatusOK).into(&out)
	return &out
}

var signalNumber atomic.Int64

// signal writes one about ref.
func signal(kind, ref, more string) string {
	return fmt.Sprintf(`{"v":1,"id":"s-%d","type":%q,"entities":[%q],"time":"2026-11-23T09:00:00Z"%s}`,
		signalNumber.Add(1), kind, ref, more)
}

const payRequest = `{"subject":{"type":"agent","id":"invoice-agent"},"action":{"name":"pay"},
"resource":{"type":"payment","id":"inv-88","properties":{"amount":4200}},"context":{"session":"s-1"}}`

// decide asks the engine as the decision port would, and remembers the answer.
func (w *world) decide(caller *authz.Caller, body string) authz.Answer {
	w.t.Helper()
	var decoder authzen.Decoder
	request, err := decoder.Evaluation([]byte(body))
	if err != nil {
		w.t.Fatal(err)
	}
	mapping := identity.DefaultMapping()
	var principal authz.Principal
	mapping.Principal(caller, request, &principal)
	answer := w.engine.Decide(caller, request, &principal)
	w.ring.Add(&recent.Event{
		Client: caller.Name, Tenant: caller.Tenants[0], RequestID: "req-9", Caller: caller,
		Request: request, Principal: &principal, Answer: answer,
	})
	return answer
}

func (r *reply) want(status int) *reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	return r
}

func (r *reply) into(v any) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.body), v, json.RejectUnknownMembers(true)); err != nil {
		r.t.Fatalf("%v in %s", err, r.body)
	}
}

// problem is the body of a refusal.
func (r *reply) problem() Problem {
	r.t.Helper()
	var p Problem
	if got := r.header.Get("Content-Type"); got != "application/problem+json" {
		r.t.Fatalf("content type %q of %s", got, r.body)
	}
	r.into(&p)
	if p.Status != r.status || p.Title == "" {
		r.t.Fatalf("status %d beside %s", r.status, r.body)
	}
	return p
}

func (r *reply) wantProblem(status int, code string) Problem {
	r.t.Helper()
	p := r.want(status).problem()
	if p.Code != code {
		r.t.Fatalf("code %q, want %q: %s", p.Code, code, r.body)
	}
	return p
}

func certificate(names ...string) *x509.Certificate {
	return &x509.Certificate{DNSNames: names, NotBefore: start.Add(-time.Hour).Time(), NotAfter: start.Add(time.Hour).Time()}
}
