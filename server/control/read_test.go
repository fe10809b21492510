package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

// canonical sorts the members of a body, so that tests can name it whole.
func canonical(t *testing.T, body string) string {
	t.Helper()
	v := jsontext.Value(body)
	if err := v.Canonicalize(); err != nil {
		t.Fatal(err)
	}
	return string(v)
}

func nothingToSave(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "snapshot")
	return err
}

func TestEntityShowsWhatIsSaidByWhomAndWhatItComesTo(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{
		`{"v":1,"id":"r1","type":"register","entities":["agent:a"],"time":"2026-11-23T08:00:00Z","class":"high-high","labels":{"role":"x"},"scopes":["pay"]}`,
		`{"v":1,"id":"k1","type":"risk","entities":["agent:a"],"time":"2026-11-23T08:01:00Z","risk":20,"expires":"2026-11-23T09:30:00Z"}`,
		`{"v":1,"id":"n1","type":"narrow","entities":["agent:a"],"time":"2026-11-23T08:02:00Z","scopes":[]}`,
		`{"v":1,"id":"q1","type":"quarantine","entities":["agent:a"],"time":"2026-11-23T08:03:00Z","actor":"kim@acme","reason":"beaconing","ticket":"INC-7"}`,
	} {
		w.push(soarToken, body)
	}
	const by = `"source":"client:soar"`
	facts := []string{
		`{"active":true,"class":"high-high","id":"r1","labels":{"role":"x"},"scopes":["pay"],` + by + `,"time":"2026-11-23T08:00:00Z","type":"register"}`,
		`{"active":true,"id":"k1","risk":20,` + by + `,"time":"2026-11-23T08:01:00Z","type":"risk","until":"2026-11-23T09:30:00Z"}`,
		`{"active":true,"id":"n1","scopes":[],` + by + `,"time":"2026-11-23T08:02:00Z","type":"narrow"}`,
		`{"active":true,"actor":"kim@acme","id":"q1","reason":"beaconing",` + by + `,"ticket":"INC-7","time":"2026-11-23T08:03:00Z","type":"quarantine"}`,
	}
	want := `{"as_of":"` + w.store.AsOf() + `","at":"2026-11-23T09:00:00Z","effective":{"attested":"unknown",` +
		`"by":[` + facts[3] + `,` + facts[1] + `,` + facts[2] + `],"class":"high-high",` +
		`"holds":[{"id":"q1","since":"2026-11-23T08:03:00Z",` + by + `,"type":"quarantine"}],"labels":{"role":"x"},"narrowed":true,` +
		`"registered":true,"risk":20,"scopes":["pay"],"scopes_left":[],"status":"quarantined","tainted":false,"until":"2026-11-23T09:30:00Z"},` +
		`"facts":[` + strings.Join(facts, ",") + `],"ref":"agent:a","tenant":"default"}`
	if got := canonical(t, w.get("/v1/entities/agent:a", kimToken).want(200).body); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	w.advance(time.Hour)
	var later EntityResponse
	w.get("/v1/entities/agent%3Aa", kimToken).want(200).into(&later)
	if later.Effective.Risk != 0 || later.Facts[1].Active || later.Effective.Until != "" {
		t.Errorf("an hour later: %+v", later)
	}
}

func TestEntityReferences(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"https://mcp.example/a b?c#d", "a/../b", "%41", "ü"} {
		body, _ := json.Marshal([]string{"tool:" + id})
		w.push(soarToken, strings.Replace(signal("quarantine", "tool:x", ""), `["tool:x"]`, string(body), 1))
		var got EntityResponse
		w.get("/v1/entities/"+url.PathEscape("tool:"+id), kimToken).want(200).into(&got)
		if got.Ref != "tool:"+id {
			t.Errorf("%q became %q", id, got.Ref)
		}
	}
	for _, ref := range []string{"agent", "agent:", "robot:a", "everything:x", "agent:%00", "agent:" + strings.Repeat("x", 600), "", "agent:%ff"} {
		w.get("/v1/entities/"+ref, kimToken).wantProblem(400, CodeBadReference)
	}
	w.get("/v1/entities/agent:a?tenant=other", kimToken).wantProblem(403, CodeForbiddenTenant)
	w.get("/v1/entities/everything", kimToken).wantProblem(404, CodeUnknownEntity)
	w.push(soarToken, signal("quarantine", "everything", ""))
	w.get("/v1/entities/everything", umaToken).want(200) // stands above tenants
}

func TestListIsFilteredBoundedAndInOrder(t *testing.T) {
	w := newWorld(t)
	var batch []string
	for i := range 250 {
		batch = append(batch, signal("risk", fmt.Sprintf("agent:a-%03d", i), fmt.Sprintf(`,"risk":%d`, i%101)))
	}
	w.push(soarToken, "["+strings.Join(batch, ",")+"]")
	w.push(soarToken, signal("register", "agent:a-007", register))
	w.push(soarToken, signal("quarantine", "agent:a-013", ""))
	w.push(soarToken, signal("revoke", "session:s-1", ""))

	list := func(query string) (refs []string, next string) {
		var got EntitiesResponse
		w.get("/v1/entities?"+query, kimToken).want(200).into(&got)
		for _, e := range got.Entities {
			refs = append(refs, e.Ref)
		}
		return refs, got.Next
	}
	var all []string
	for cursor := ""; ; {
		query := url.Values{"limit": {"60"}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		page, next := list(query.Encode())
		if len(page) > 60 {
			t.Fatalf("a page of %d", len(page))
		}
		all = append(all, page...)
		if cursor = next; next == "" {
			break
		}
	}
	if len(all) != 251 || !slices.IsSorted(all) {
		t.Errorf("%d entities, sorted %v", len(all), slices.IsSorted(all))
	}
	for query, want := range map[string]string{
		"held=true":                 "[agent:a-013 session:s-1]",
		"held=true&kind=session":    "[session:s-1]",
		"class=high-high":           "[agent:a-007]",
		"risk_over=99":              "[agent:a-100 agent:a-201]",
		"kind=user":                 "[]",
		"risk_over=99&limit=1":      "[agent:a-100]",
		"held=false&kind=session":   "[]",
		"class=high-high&held=true": "[]",
	} {
		if got, _ := list(query); fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	for _, query := range []string{"kind=robot", "held=maybe", "risk_over=101", "risk_over=-1", "limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=AAAA", "tenant=other"} {
		if got := w.get("/v1/entities?"+query, kimToken); got.status != 400 && got.status != 403 {
			t.Errorf("%s: %d", query, got.status)
		}
	}
}

// TestListOfWhatHasChangedSince: by the time of what was said, and by ends that have passed.
func TestListOfWhatHasChangedSince(t *testing.T) {
	w := newWorld(t)
	w.push(soarToken, `{"v":1,"id":"c1","type":"risk","entities":["agent:old"],"time":"2026-11-23T07:00:00Z","risk":5}`)
	w.push(soarToken, `{"v":1,"id":"c2","type":"quarantine","entities":["agent:let-go"],"time":"2026-11-23T07:00:00Z","expires":"2026-11-23T09:30:00Z"}`)
	w.push(soarToken, `{"v":1,"id":"c3","type":"risk","entities":["agent:new"],"time":"2026-11-23T08:59:00Z","risk":5}`)
	list := func(query string) string {
		var got EntitiesResponse
		w.get("/v1/entities?"+query, kimToken).want(200).into(&got)
		var refs []string
		for _, e := range got.Entities {
			refs = append(refs, e.Ref+" "+e.ChangedAt)
		}
		return strings.Join(refs, ", ")
	}
	if got := list("changed_since=2026-11-23T08:00:00Z"); got != "agent:new 2026-11-23T08:59:00Z" {
		t.Errorf("changed since eight: %s", got)
	}
	if got := list("changed_since=2026-11-23T07:00:00Z"); strings.Count(got, "agent:") != 3 {
		t.Errorf("changed since seven: %s", got)
	}
	w.advance(time.Hour) // the quarantine ends by itself
	if got := list("changed_since=2026-11-23T09:00:00%2B00:00"); got != "agent:let-go 2026-11-23T09:30:00Z" {
		t.Errorf("an hour later: %s", got)
	}
	w.get("/v1/entities?changed_since=yesterday", kimToken).wantProblem(400, CodeBadParameter)
}

// TestTenantsSeeNothingOfEachOther goes through everything that can be read.
func TestTenantsSeeNothingOfEachOther(t *testing.T) {
	w := newWorld(t)
	w.push(soarToken, signal("register", "agent:invoice-agent", register))
	w.push(soarToken, signal("quarantine", "agent:invoice-agent", `,"reason":"hidden-reason"`))
	w.decide(&authz.Caller{Name: "gate", Tenants: []string{"default"}}, payRequest)
	var mine DecisionsResponse
	w.get("/v1/decisions", kimToken).want(200).into(&mine)
	if len(mine.Decisions) != 1 {
		t.Fatalf("%d decisions", len(mine.Decisions))
	}
	id := mine.Decisions[0].ID

	for path, status := range map[string]int{
		"/v1/entities":                              200,
		"/v1/entities?tenant=default":               403,
		"/v1/entities/agent:invoice-agent":          404,
		"/v1/entities/agent:invoice-agen":           404, // no suggestions either
		"/v1/entities/tenant:default":               404,
		"/v1/history/agent:invoice-agent":           404,
		"/v1/decisions":                             200,
		"/v1/decisions?tenant=default":              403,
		"/v1/decisions?ref=agent:invoice-agent":     200,
		"/v1/explain?id=" + id:                      404,
		"/v1/explain?tenant=default&id=" + id:       403,
		"/v1/entities?cursor=ZGVmYXVsdABhZ2VudAA":   200, // a cursor into the other tenant
		"/v1/entities?cursor=ZGVmYXVsdABhZ2VudABh":  200,
		"/v1/entities/agent:invoice-agent?tenant=x": 403,
	} {
		got := w.get(path, umaToken)
		if got.status != status || strings.Contains(got.body, "hidden-reason") || strings.Contains(got.body, "client:soar") ||
			strings.Contains(got.body, `"agent:invoice-agent"`) {
			t.Errorf("%s: %d, want %d: %s", path, got.status, status, got.body)
		}
	}
	// Asking about an agent of the same name is asking about one's own.
	var x ExplainResponse
	w.do("POST", "/v1/explain", umaToken, payRequest).want(200).into(&x)
	if x.Tenant != "other" || x.Decision.Context.Code != "unregistered" {
		t.Errorf("explained in %q: %s", x.Tenant, x.Decision.Context.Code)
	}
	w.do("POST", "/v1/explain?tenant=default", umaToken, payRequest).wantProblem(403, CodeForbiddenTenant)
	foreign := strings.Replace(payRequest, `"session":"s-1"`, `"session":"s-1","tenant":"default"`, 1)
	w.do("POST", "/v1/explain", umaToken, foreign).want(200).into(&x)
	if x.Decision.Context.Code != "tenant_mismatch" {
		t.Errorf("a request that names the other tenant: %s", x.Decision.Context.Code)
	}
}

func TestExplainSaysHow(t *testing.T) {
	w := newWorld(t)
	w.push(soarToken, signal("register", "agent:invoice-agent", register))
	w.push(soarToken, `{"v":1,"id":"q","type":"quarantine","entities":["agent:invoice-agent"],"time":"2026-11-23T09:00:00Z","expires":"2026-11-23T11:00:00Z","actor":"kim@acme","ticket":"INC-1"}`)
	var x ExplainResponse
	w.do("POST", "/v1/explain", kimToken, payRequest).want(200).into(&x)
	if x.Decision.Decision || x.Decision.Context.Code != "quarantined" || x.Decision.Context.Entity != "agent:invoice-agent" ||
		x.Without == nil || !x.Without.Decision || fmt.Sprint(x.Without.Context.Rules) != "[pay-small]" {
		t.Errorf("got %+v", x)
	}
	var text strings.Builder
	if err := RenderExplanation(&text, &x); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"DENY quarantined   pay payment:inv-88   agent:invoice-agent   ",
		"STOP", "rule  pay-small", "payments.yaml:7", "Without the gate: ALLOW by pay-small.\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	for body, code := range map[string]string{
		`{"subject":{"type":"agent","type":"user"}}`: "duplicate_member",
		`{"subject":{"type":"agent","id":"a"}}`:      "missing_member",
		`[]`:                                         "wrong_type", `{`: "unexpected_end",
	} {
		w.do("POST", "/v1/explain", kimToken, body).wantProblem(400, code)
	}
	w.do("POST", "/v1/explain", kimToken, "").wantProblem(400, CodeBadParameter)
	w.get("/v1/explain", kimToken).wantProblem(400, CodeBadParameter)
	w.get("/v1/explain?id=nope", kimToken).wantProblem(404, CodeUnknownDecision)
}

// TestRememberedDecisionIsExplainedAsItWasMade although posture has moved on.
func TestRememberedDecisionIsExplainedAsItWasMade(t *testing.T) {
	w := newWorld(t)
	w.push(soarToken, signal("register", "agent:invoice-agent", register))
	w.push(soarToken, `{"v":1,"id":"q","type":"quarantine","entities":["agent:invoice-agent"],"time":"2026-11-23T09:00:00Z"}`)
	asOf := w.store.AsOf()
	caller := &authz.Caller{Name: "gate", Tenants: []string{"default"}}
	w.decide(caller, payRequest)
	w.decide(caller, payRequest)
	w.advance(time.Minute)
	w.push(soarToken, `{"v":1,"id":"l","type":"release","entities":["agent:invoice-agent"],"time":"2026-11-23T09:01:00Z"}`)

	var list DecisionsResponse
	w.get("/v1/decisions?ref=agent:invoice-agent&since=2026-11-23T08:59:00Z", kimToken).want(200).into(&list)
	if len(list.Decisions) != 1 || list.Decisions[0].Count != 2 || list.Decisions[0].Client != "gate" || list.Decisions[0].Request != nil {
		t.Fatalf("got %+v", list)
	}
	var x ExplainResponse
	w.get("/v1/explain?id="+list.Decisions[0].ID, kimToken).want(200).into(&x)
	if x.Decision.Context.Code != "quarantined" || x.Decision.Context.AsOf != asOf || x.Now == nil || !x.Now.Decision || x.Note != "" {
		t.Errorf("then %+v, now %+v", x.Decision, x.Now)
	}
	if x.Recorded == nil || x.Recorded.Count != 2 || x.Recorded.RequestID != "req-9" || len(x.Recorded.Entities) == 0 {
		t.Fatalf("recorded %+v", x.Recorded)
	}
	want := canonical(t, payRequest)
	if got := canonical(t, string(x.Recorded.Request)); got != want {
		t.Errorf("request %s, want %s", got, want)
	}
	for _, e := range x.Recorded.Entities {
		if e.Ref == "agent:invoice-agent" && e.Effective.Status != "quarantined" {
			t.Errorf("recorded as %s", e.Effective.Status)
		}
	}
	w.do("POST", "/v1/explain?id="+list.Decisions[0].ID, kimToken, "").want(200)

	for _, query := range []string{"since=yesterday", "ref=nobody", "limit=0", "limit=10001"} {
		w.get("/v1/decisions?"+query, kimToken).wantProblem(400, CodeBadParameter)
	}
	var none DecisionsResponse
	w.get("/v1/decisions?since=2026-11-23T09:00:30Z", kimToken).want(200).into(&none)
	if len(none.Decisions) != 0 {
		t.Errorf("since: %+v", none)
	}
}

func TestAtLeastIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	got := w.push(soarToken, signal("risk", "agent:a", `,"risk":3`))
	ask := func(position string) *reply {
		r := w.request("GET", "/v1/entities/agent:a", kimToken, "")
		r.Header.Set("Vigil-At-Least", position)
		return w.send(r)
	}
	ask(got.AsOf).want(200)
	ask("rubbish").wantProblem(400, CodeBadAsOf)
	other := newWorld(t)
	ask(other.push(soarToken, signal("risk", "agent:a", `,"risk":3`)).AsOf).wantProblem(409, CodeOtherLog)
}

func TestSnapshotIsWholeOrBroken(t *testing.T) {
	w := newWorld(t)
	w.snapshot = nothingToSave
	if got := w.get("/v1/snapshot", adminToken).want(200); got.body != "snapshot" || got.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("got %q", got.body)
	}
	w.snapshot = func(context.Context, io.Writer) error { return errors.New("secret path") }
	if p := w.get("/v1/snapshot", adminToken).wantProblem(503, CodeUnavailable); strings.Contains(p.Detail, "secret") {
		t.Errorf("detail %q", p.Detail)
	}
	w.snapshot = func(_ context.Context, out io.Writer) error {
		_ = nothingToSave(context.Background(), out)
		return errors.New("disk")
	}
	defer func() {
		if recover() == nil {
			t.Error("half a snapshot was passed off as a whole one")
		}
	}()
	w.get("/v1/snapshot", adminToken)
}
