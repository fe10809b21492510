package control

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"vigil/authz"
	"vigil/signals"
)

func TestReloadTakesTheExpectedBundleOnly(t *testing.T) {
	w := newWorld(t)
	var first RulesResponse
	w.get("/v1/rules", kimToken).want(200).into(&first)
	if len(first.Rules) != 2 || first.Rules[0].ID != "pay-small" || first.Rules[0].File != "payments.yaml" || first.Rules[0].Line != 7 ||
		first.Rules[1].Mode != "observe" || !first.Reload.OK || fmt.Sprint(first.Actions) != "[pay]" ||
		fmt.Sprint(first.Files) != "[payments.yaml]" || !strings.Contains(fmt.Sprint(first.Profiles), "high-high") {
		t.Fatalf("got %+v", first)
	}
	w.rules.files["payments.yaml"] = &fstest.MapFile{Data: []byte(strings.Replace(testRules, "5000", "50", 1))}
	wrong := "sha256:" + strings.Repeat("0", 64)
	p := w.do("POST", "/v1/rules/reload", adminToken, `{"expect":"`+wrong+`"}`).wantProblem(409, CodeDigestMismatch)
	if p.Digest != first.Digest || p.Pointer != "/expect" {
		t.Errorf("got %+v", p)
	}
	var second RulesResponse
	w.do("POST", "/v1/rules/reload", adminToken, "").want(200).into(&second)
	if !second.Changed || second.Digest == first.Digest {
		t.Errorf("got %+v", second)
	}
	var third RulesResponse
	w.do("POST", "/v1/rules/reload", adminToken, `{"expect":"`+second.Digest+`"}`).want(200).into(&third)
	if third.Changed {
		t.Error("the same rules again are a change")
	}
}

func TestBrokenBundleIsReportedWhole(t *testing.T) {
	w := newWorld(t)
	before := w.rules.State().Set.Digest()
	broken := strings.Replace(strings.Replace(testRules, "agent.risk", "agent.rsk", 1), "resource.amount > 9000", "resource.amout > 9000", 1)
	w.rules.files["payments.yaml"] = &fstest.MapFile{Data: []byte(broken)}
	p := w.do("POST", "/v1/rules/reload", adminToken, "").wantProblem(422, CodeBrokenBundle)
	if len(p.Errors) != 2 || p.Errors[0].File != "payments.yaml" || p.Errors[0].Line == 0 || p.Errors[0].Rule != "pay-small" ||
		p.Errors[0].Caret == "" || p.Digest != before {
		t.Errorf("got %+v", p)
	}
	var status StatusResponse
	w.get("/v1/status", kimToken).want(200).into(&status)
	if status.Rules.Reload.OK || len(status.Rules.Reload.Errors) != 2 || status.Rules.Digest != before || status.Rules.Count != 2 {
		t.Errorf("status %+v", status.Rules)
	}
	if metrics := w.get("/metrics", kimToken).body; !strings.Contains(metrics, "vigil_rules_last_reload_successful 0\n") {
		t.Error("the metrics know nothing of it")
	}
}

// TestBrokenBundleMayHoldAnything: its lines are quoted, whatever bytes they are.
func TestBrokenBundleMayHoldAnything(t *testing.T) {
	w := newWorld(t)
	for _, text := range []string{
		"vigil: 1\nrules: [\xff\xfe]\n", "\xff", "vigil: 1\nrules:\n  - id: \"a\x00b\"\n", strings.Repeat("[", 5000), "\u2028\u202e",
	} {
		w.rules.files["payments.yaml"] = &fstest.MapFile{Data: []byte(text)}
		p := w.do("POST", "/v1/rules/reload", adminToken, "").wantProblem(422, CodeBrokenBundle)
		if len(p.Errors) == 0 {
			t.Errorf("%q: no errors", text)
		}
		w.get("/v1/status", kimToken).want(200)
	}
	w.rules.mu.Lock()
	w.rules.state.Err = errors.New("not \xff UTF-8")
	w.rules.mu.Unlock()
	var status StatusResponse
	w.get("/v1/status", kimToken).want(200).into(&status)
	if status.Rules.Reload.Error != "not \ufffd UTF-8" {
		t.Errorf("error %q", status.Rules.Reload.Error)
	}
}

func TestReloadBodies(t *testing.T) {
	w := newWorld(t)
	for body, want := range map[string]string{
		`{"expct":"x"}`: "unknown_member /expct", `{"expect":7}`: "wrong_type /expect",
		`{"expect":"sha256:12"}`: "bad_value /expect", `{"expect":"a","expect":"b"}`: "duplicate_member /expect",
		`{`: "syntax ", `{} {}`: "syntax ", `[]`: "wrong_type ",
	} {
		p := w.do("POST", "/v1/rules/reload", adminToken, body).want(400).problem()
		if got := p.Code + " " + p.Pointer; got != want {
			t.Errorf("%s: %q, want %q (%s)", body, got, want, p.Detail)
		}
	}
	w.do("POST", "/v1/rules/reload", adminToken, `  `).want(200)
	w.do("POST", "/v1/rules/reload", adminToken, `{}`).want(200)
}

func TestStatusSaysHowThisReplicaIsDoing(t *testing.T) {
	w := newWorld(t)
	w.push(soarToken, signal("register", "agent:invoice-agent", register))
	w.push(soarToken, signal("quarantine", "agent:b", ""))
	w.counts = DecisionCounts{
		Decisions:  map[DecisionLabel]uint64{{authz.Allow, authz.ClassAllow}: 5, {authz.Deny, authz.ClassGate}: 2, {authz.Deny, authz.ClassRule}: 3},
		LogDropped: 4,
	}
	w.ready.Degraded = []string{"the feed is broken"}
	w.advance(90e9)
	var s StatusResponse
	w.get("/v1/status?digest=1", kimToken).want(200).into(&s)
	digest := w.store.Digest(w.clock())
	id := w.log.ID()
	if s.Version != "1.2.3" || s.Uptime != 90 || !s.Ready || s.Decisions["deny"] != 5 || s.Posture.Entities["agent"] != 2 ||
		s.Posture.Held["agent"] != 1 || s.Posture.Digest != hex.EncodeToString(digest[:]) || s.Feed.Log != hex.EncodeToString(id[:]) ||
		s.Feed.AsOf != w.store.AsOf() || !s.Feed.CaughtUp || s.Feed.Positions["0"] != 2 || s.Feed.Health != "ok" || s.Cache.Mode != "on" ||
		s.Recent.LogDropped != 4 || s.Rules.Digest == "" || s.Feed.LastAt == "" || s.Degraded[0] != "the feed is broken" {
		t.Errorf("got %+v", s)
	}
	w.log.SetHealth(errors.New("disk full"))
	w.get("/v1/status", kimToken).want(200).into(&s)
	if s.Feed.Health != "disk full" {
		t.Errorf("health %q", s.Feed.Health)
	}
	w.get("/v1/status?digest=perhaps", kimToken).wantProblem(400, CodeBadParameter)
	w.do("POST", "/v1/signals", soarToken, signal("risk", "agent:a", `,"risk":1`)).wantProblem(503, CodeUnavailable)
}

func TestReadiness(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		ready  Readiness
		path   string
		status int
		body   string
	}{
		{Readiness{Ready: true}, "/readyz", 200, `{"status":"ok"}`},
		{Readiness{Ready: true}, "/readyz?strict", 200, `{"status":"ok"}`},
		{Readiness{Ready: true, Degraded: []string{"feed broken"}}, "/readyz", 200, `{"degraded":["feed broken"],"status":"ok"}`},
		{Readiness{Ready: true, Degraded: []string{"feed broken"}}, "/readyz?strict", 503, `{"reasons":["feed broken"],"status":"not ready"}`},
		{Readiness{Ready: true, Degraded: []string{"feed broken"}}, "/readyz?strict=0", 200, `{"degraded":["feed broken"],"status":"ok"}`},
		{Readiness{Reasons: []string{"draining"}}, "/readyz", 503, `{"reasons":["draining"],"status":"not ready"}`},
		{Readiness{Reasons: []string{"a"}, Degraded: []string{"b"}}, "/readyz?strict=1", 503, `{"reasons":["a","b"],"status":"not ready"}`},
		{Readiness{}, "/livez", 200, `{"status":"ok"}`},
	} {
		w.ready = c.ready
		got := w.get(c.path, "")
		if got.status != c.status || canonical(t, got.body) != c.body {
			t.Errorf("%+v %s: %d %s", c.ready, c.path, got.status, got.body)
		}
		if c.status == 503 && got.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", c.path)
		}
	}
	w.get("/readyz?strict=perhaps", "").wantProblem(400, CodeBadParameter)
}

// TestMetricNamesAreThoseOfTheDocument: dashboards and alerts stand on them.
func TestMetricNamesStay(t *testing.T) {
	w := newWorld(t, func(_ *Config, p *Parts) {
		p.Journal = func() JournalCounts {
			return JournalCounts{Segments: 2, Bytes: 99, Failures: 1, LastSync: time.Millisecond, LongestSync: time.Second, Pending: 8}
		}
	})
	w.push(soarToken, signal("register", "agent:invoice-agent", register))
	w.push(soarToken, signal("quarantine", "agent:b", ""))
	w.counts = DecisionCounts{
		Decisions:  map[DecisionLabel]uint64{{authz.Deny, authz.ClassGate}: 2},
		RuleErrors: map[string]uint64{"pay-small": 1},
		Observed:   map[ObservationLabel]uint64{{"watch-large", authz.Deny}: 3},
		Duration:   Histogram{Count: 3, Sum: 0.5, Buckets: map[float64]uint64{0.1: 2, 1: 3}},
		Responses:  map[int]uint64{401: 4, 0: 1}, Unavailable: 6, Overloaded: 5, Panics: 2,
		Connections: 7, InFlight: 3, Waiting: 1,
	}
	got := w.get("/metrics", kimToken).want(200)
	for _, line := range []string{
		`vigil_decisions_total{class="gate",effect="deny"} 2`,
		`vigil_decision_duration_seconds_bucket{le="0.1"} 2`,
		`vigil_decision_duration_seconds_count 3`,
		`vigil_cache_lookups_total{result="hit"} 0`, `vigil_cache_lookups_total{result="unverified_key"} 0`,
		`vigil_rule_errors_total{rule="pay-small"} 1`,
		`vigil_observed_total{effect="deny",rule="watch-large"} 3`,
		`vigil_signals_total{outcome="applied",source="client:soar",type="register"} 1`,
		`vigil_feed_age_seconds 0`, `vigil_feed_broken 0`,
		`vigil_entities{kind="agent"} 2`, `vigil_entities_held{kind="agent"} 1`, `vigil_entities{kind="user"} 0`,
		`vigil_rules_last_reload_successful 1`,
		`vigil_build_info{go_version="go1.26",revision="abc",version="1.2.3"} 1`,
		`vigil_decision_responses_total{status="401"} 4`, `vigil_decision_responses_total{status="other"} 1`,
		`vigil_decision_unavailable_total 6`, `vigil_decision_overloaded_total 5`, `vigil_decision_panics_total 2`,
		`vigil_decision_connections 7`, `vigil_decision_in_flight 3`, `vigil_decision_waiting 1`,
		`vigil_journal_segments 2`, `vigil_journal_bytes 99`, `vigil_journal_failures_total 1`, `vigil_journal_pending_records 8`,
		`vigil_journal_last_sync_seconds 0.001`, `vigil_journal_longest_sync_seconds 1`,
		`vigil_ready 1`, `vigil_log_healthy 1`, `vigil_recent_decisions 0`, `vigil_decision_log_dropped_total 0`,
	} {
		if !strings.Contains(got.body, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	for _, name := range []string{"go_goroutines ", "process_start_time_seconds "} {
		if !strings.Contains(got.body, "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
	if strings.Contains(got.body, "invoice-agent") {
		t.Error("an agent's id is a label")
	}
}

func TestPprofIsForAdministratorsWhereEnabled(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Parts) { c.Pprof = true })
	w.get("/debug/pprof/goroutine?debug=1", adminToken).want(200)
	w.get("/debug/pprof/cmdline", adminToken).wantProblem(404, CodeNotFound)
	w.get("/debug/pprof/heap", kimToken).wantProblem(403, CodeForbiddenScope)
	newWorld(t).get("/debug/pprof/heap", adminToken).wantProblem(404, CodeNotFound)
}

func TestDocumentsAreServed(t *testing.T) {
	w := newWorld(t)
	if got := w.get("/openapi.yaml", kimToken).want(200); !strings.HasPrefix(got.body, "openapi: 3.1") {
		t.Errorf("got %.40q", got.body)
	}
	if got := w.get("/v1/schemas/signal", soarToken).want(200); got.body != string(signals.Schema()) {
		t.Errorf("got %.40q", got.body)
	}
}

func TestConfigSaysEverythingThatIsMissing(t *testing.T) {
	_, err := New(Config{})
	for _, name := range []string{"Clients", "Now", "Ready", "Principal"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+name) {
			t.Errorf("no word of %s in %v", name, err)
		}
	}
}

func TestRenderedExplanationCannotWriteOverTheTerminal(t *testing.T) {
	x := ExplainResponse{
		Action: "pay\x1b[2J", Resource: "payment:\u202ex\n", Agent: "agent:a\tb",
		Gates: []GateStep{{Gate: "g", Detail: "line\r\nline"}},
		Rules: []RuleStep{{Rule: "r", Effect: "allow", Mode: "observe", Result: "error", File: "f.yaml", Line: 3, Error: "no \x00"}},
		Decision: DecisionBody{Context: DecisionContext{Effect: "deny", Code: "could_not_evaluate", Bundle: "sha256:0123456789",
			Errors: []EvaluationErr{{Rule: "r", Message: "bad\b"}}, Obligations: []Obligation{{Type: "approval"}}}},
		Without: &DecisionBody{Context: DecisionContext{Effect: "require", Code: "obligation_required", Rules: []string{"a", "b"}}},
		Note:    "note", Now: &DecisionBody{Decision: true, Context: DecisionContext{Effect: "allow"}},
		Recorded: &RecentDecision{ID: "x-1", Count: 3, Last: "2026-11-23T09:00:00Z", Client: "gate"},
	}
	var text strings.Builder
	if err := RenderExplanation(&text, &x); err != nil {
		t.Fatal(err)
	}
	want := `x-1, 3 times, last 2026-11-23T09:00:00Z, gate
DENY could_not_evaluate   pay\u{1b}[2J payment:\u{202e}x\u{a}   agent:a\u{9}b   01234567
gate  g  STOP  line\u{d}\u{a}line
rule  r  allow (observe)  ERROR  f.yaml:3  no \u{0}
could not evaluate r: bad\u{8}
obligation  approval
Without the gate: REQUIRE obligation_required by a, b.
note
Now: ALLOW.
`
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
}

// FuzzRequests: whatever is asked, the port answers as documented and never with a defect.
func FuzzRequests(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET", "/v1/entities?cursor=ZGVmYXVsdABhZ2VudAA&kind=agent", ""}, {"GET", "/v1/entities/agent%3Aa?tenant=default", ""},
		{"POST", "/v1/signals", `{"v":1}`}, {"POST", "/v1/explain?id=x", payRequest}, {"POST", "/v1/rules/reload", `{"expect":""}`},
		{"GET", "/v1/decisions?since=2026-11-23T09:00:00Z&ref=agent:a&limit=3", ""}, {"HEAD", "/readyz?strict", ""}, {"GET", "/debug/pprof/x", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	w := newWorld(f, func(c *Config, _ *Parts) { c.Log = slog.New(slog.DiscardHandler) })
	f.Fuzz(func(t *testing.T, method, target, body string) {
		request, err := http.NewRequest(method, "http://localhost/", strings.NewReader(body))
		if err != nil {
			t.Skip()
		}
		u, err := request.URL.Parse(target)
		if err != nil || u.Host != "localhost" || strings.HasPrefix(u.Path, "/v1/snapshot") {
			t.Skip()
		}
		request.URL = u
		if body == "" {
			request.Body, request.ContentLength = http.NoBody, 0
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+adminToken)
		recorder := httptest.NewRecorder()
		w.server.Handler().ServeHTTP(recorder, request)
		got, _ := io.ReadAll(recorder.Body)
		if recorder.Code >= 500 {
			t.Errorf("%s %q: %d %s", method, target, recorder.Code, got)
		}
	})
}
