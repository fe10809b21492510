package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"vigil/authz"
	"vigil/signals"
)

const register = `,"class":"high-high","labels":{"role":"invoice-agent"}`

func TestPushedSignalIsInForceWhenAnswered(t *testing.T) {
	w := newWorld(t)
	w.push(soarToken, signal("register", "agent:invoice-agent", register))
	caller := &authz.Caller{Name: "gate", Tenants: []string{"default"}, Full: true}
	if got := w.decide(caller, payRequest); got.Effect != authz.Allow {
		t.Fatalf("before: %v %v", got.Effect, got.Code)
	}
	got := w.do("POST", "/v1/signals", soarToken,
		`{"v":1,"id":"INC-1","type":"quarantine","entities":["agent:invoice-agent"],"time":"2026-11-23T09:00:00Z","expires":"2026-11-23T11:00:00Z"}`).want(200)
	want := `{"as_of":"` + w.store.AsOf() + `","results":[{"entities":[{"holds":[{"id":"INC-1","since":"2026-11-23T09:00:00Z",` +
		`"source":"client:soar","type":"quarantine","until":"2026-11-23T11:00:00Z"}],"known":true,"outcome":"applied",` +
		`"ref":"agent:invoice-agent","status":"quarantined"}],"id":"INC-1","outcome":"applied","tenant":"default"}]}`
	if sorted := canonical(t, got.body); sorted != want {
		t.Errorf("got  %s\nwant %s", sorted, want)
	}
	if got := w.decide(caller, payRequest); got.Code != authz.EntityQuarantined {
		t.Errorf("after: %v", got.Code)
	}
	if id := got.header.Get("X-Request-ID"); id != "req-1" {
		t.Errorf("request id %q", id)
	}
	if cc := got.header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control %q", cc)
	}
}

func TestRefusedPushesSayWhatAndWhere(t *testing.T) {
	w := newWorld(t, func(c *Config, p *Parts) { c.Limits.RequestBytes = 4096 })
	quarantine := func(member string) string {
		return `{"v":1,"id":"a","type":"quarantine","entities":["agent:a"],"time":"2026-11-23T09:00:00Z"` + member + `}`
	}
	w.push(soarToken, `{"v":1,"id":"used","type":"quarantine","entities":["agent:a"],"time":"2026-11-23T09:00:00Z"}`)
	for _, c := range []struct {
		name, body string
		status     int
		code       string
		pointer    string
		detail     string
	}{
		{"unknown member", "[" + signal("risk", "agent:b", `,"risk":1`) + "," + quarantine(`,"reson":"x"`) + "]", 400, "unknown_member", "/1/reson", "reason"},
		{"duplicate member", quarantine(`,"id":"b"`), 400, "duplicate_member", "/id", ""},
		{"syntax", `{"v":1,`, 400, "syntax", "", ""},
		{"trailing", quarantine("") + "{}", 400, "trailing_data", "", ""},
		{"wrong type", quarantine(`,"reason":7`), 400, "wrong_type", "/reason", ""},
		{"long member", quarantine(`,"reason":"` + strings.Repeat("x", 1100) + `"`), 400, "too_large", "/reason", ""},
		{"empty batch", `[]`, 400, "bad_value", "", "empty"},
		{"large body", strings.Repeat(" ", 4097), 413, "too_large", "", "4096"},
		{"foreign tenant", quarantine(`,"tenant":"other"`), 403, CodeRefused, "/tenant", "other"},
		{"id used", `{"v":1,"id":"used","type":"quarantine","entities":["agent:b"],"time":"2026-11-23T09:00:00Z"}`, 409, CodeConflict, "/id", "used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := w.do("POST", "/v1/signals", soarToken, c.body).wantProblem(c.status, c.code)
			if p.Pointer != c.pointer || !strings.Contains(p.Detail, c.detail) || p.RequestID != "req-1" {
				t.Errorf("got %+v", p)
			}
		})
	}
	if w.store.Get(authz.Ref{Kind: authz.KindAgent, ID: "b"}.In("default")) != nil {
		t.Error("a refused batch left something behind")
	}
}

func TestMediaTypesOfBodies(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		contentType, encoding string
		status                int
	}{
		{"application/json", "", 200},
		{"Application/JSON; charset=UTF-8", "identity", 200},
		{"application/json; charset=latin1", "", 415},
		{"text/plain", "", 415},
		{"application/jsonp", "", 415},
		{"", "", 415},
		{"application/json; charset", "", 415},
		{"application/json", "gzip", 415},
	} {
		r := w.request("POST", "/v1/signals", soarToken, signal("risk", "agent:a", `,"risk":1`))
		r.Header.Set("Content-Type", c.contentType)
		if c.encoding != "" {
			r.Header.Set("Content-Encoding", c.encoding)
		}
		if got := w.send(r); got.status != c.status {
			t.Errorf("%q %q: %d, want %d", c.contentType, c.encoding, got.status, c.status)
		}
	}
}

// A defect after the commit must not read as a refusal before it.
func TestADefectOfACommittingRouteIsAnUnknownOutcome(t *testing.T) {
	w := newWorld(t)
	for commits, code := range map[bool]string{true: CodeUnknownOutcome, false: CodeInternal} {
		got := httptest.NewRecorder()
		c := &call{w: &answerWriter{ResponseWriter: got}, r: httptest.NewRequest("POST", "/v1/signals", nil)}
		w.server.conclude(c, &route{method: "POST", path: "/v1/signals", commits: commits}, errors.New("a defect"), 0)
		if !strings.Contains(got.Body.String(), `"`+code+`"`) {
			t.Errorf("commits %v: %s", commits, got.Body)
		}
	}
}

// brokenIntake answers every push with an error, or panics.
type brokenIntake struct {
	noRehearsal
	err  error
	boom bool
}

func (i brokenIntake) Push(context.Context, signals.Sender, []byte) (signals.Receipt, error) {
	if i.boom {
		panic("secret state")
	}
	return signals.Receipt{}, i.err
}

// TestSenderLearnsWhetherAnythingWasWritten: the one thing that an error of a push must
// never be wrong about.
func TestSenderLearnsWhetherAnythingWasWritten(t *testing.T) {
	for _, c := range []struct {
		name   string
		intake brokenIntake
		status int
		code   string
		retry  string
	}{
		{"overloaded", brokenIntake{err: signals.ErrOverloaded}, 429, CodeBusy, "1"},
		{"unavailable", brokenIntake{err: fmt.Errorf("%w: disk full", signals.ErrUnavailable)}, 503, CodeUnavailable, "1"},
		{"unknown", brokenIntake{err: signals.ErrUnknownOutcome}, 504, CodeUnknownOutcome, ""},
		{"cancelled", brokenIntake{err: context.DeadlineExceeded}, 504, CodeUnknownOutcome, ""},
		{"anything else", brokenIntake{err: errors.New("secret state")}, 504, CodeUnknownOutcome, ""},
		{"panic", brokenIntake{boom: true}, 504, CodeUnknownOutcome, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(_ *Config, p *Parts) { p.Intake = c.intake })
			got := w.do("POST", "/v1/signals", soarToken, `{}`)
			p := got.wantProblem(c.status, c.code)
			if got.header.Get("Retry-After") != c.retry {
				t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
			}
			if strings.Contains(p.Detail, "disk") || strings.Contains(got.body, "secret") {
				t.Errorf("the client is told of our insides: %s", got.body)
			}
			if log := w.logged.String(); c.intake.boom && (!strings.Contains(log, "panic in a handler") || !strings.Contains(log, "push_test.go")) {
				t.Errorf("no stack in the log: %s", log)
			}
		})
	}
}

func TestUnknownNamesGetSuggestions(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"invoice-agent", "invoice-agents", "payroll-agent", "invoice-bgemt"} {
		w.push(soarToken, signal("register", "agent:"+id, register))
	}
	w.push(umaToken, signal("register", "agent:invoice-agemt", register))
	w.push(soarToken, signal("risk", "session:invoice-agemt", `,"risk":3`))

	// A search that lost its processor for a millisecond counts as dear, and the next ones
	// are left out for a while: not in this test.
	rested := func() {
		w.server.searching.mu.Lock()
		defer w.server.searching.mu.Unlock()
		w.server.searching.next = time.Time{}
	}
	rested()
	got := w.push(soarToken, signal("quarantine", "agent:invoice-agemt", ""))
	e := got.Results[0].Entities[0]
	want := "[agent:invoice-agent agent:invoice-bgemt agent:invoice-agents]"
	if e.Known || fmt.Sprint(e.Nearest) != want {
		t.Errorf("known %v, nearest %v, want %v", e.Known, e.Nearest, want)
	}
	if again := w.push(soarToken, signal("risk", "agent:invoice-agemt", `,"risk":3`)); again.Results[0].Entities[0].Nearest != nil {
		t.Error("suggestions for a name that is known by now")
	}
	rested()
	p := w.get("/v1/entities/agent:invoice-agen", kimToken).wantProblem(404, CodeUnknownEntity)
	if len(p.Nearest) == 0 || p.Nearest[0] != "agent:invoice-agent" {
		t.Errorf("nearest %v", p.Nearest)
	}
	for ref, want := range map[string]string{
		"agent:payrol":       "[agent:payroll-agent]", // its beginning
		"user:payroll-agent": "[agent:payroll-agent]", // of another kind
		"agent:pa":           "[]",                    // of many
	} {
		rested()
		if p := w.get("/v1/entities/"+ref, kimToken).wantProblem(404, CodeUnknownEntity); fmt.Sprint(p.Nearest) != want {
			t.Errorf("%s: nearest %v, want %s", ref, p.Nearest, want)
		}
	}
}

func TestSuggestionsNeedTheScopeToRead(t *testing.T) {
	w := newWorld(t)
	w.push(soarToken, signal("register", "agent:invoice-agent", register))
	blind := testClients(t).ByToken(soarToken)
	blind.Scopes &^= 1 << 2 // read
	w.server.cfg.Clients = one{blind}
	got := w.push("x", signal("quarantine", "agent:invoice-agemt", ""))
	if n := got.Results[0].Entities[0].Nearest; n != nil {
		t.Errorf("a client that may not read learns %v", n)
	}
}

func TestOneTypeOfDetailPerCode(t *testing.T) {
	// Every status of a problem is one that net/http has words for.
	for _, p := range []*problem{ofPush(signals.ErrConflict), ofAtLeast(signals.ErrOtherLog), unknownOutcome(), busy("x"), starting("x")} {
		if p.Title == "" || http.StatusText(p.Status) != p.Title {
			t.Errorf("%+v", p.Problem)
		}
	}
}
