package control

import (
	"strings"
	"testing"

	"vigil/authz"
	"vigil/server/credential"
	"vigil/signals"
)

// TestDryRunSaysWhatWouldBeAndDoesNothing: what would be in force, and which remembered
// decisions would flip; and then nothing has changed.
func TestDryRunSaysWhatWouldBeAndDoesNothing(t *testing.T) {
	w := newWorld(t)
	caller := &authz.Caller{Name: "gate", Tenants: []string{"default"}}
	w.push(soarToken, signal("register", "agent:invoice-agent", register))
	w.push(soarToken, signal("quarantine", "agent:invoice-agent", ""))
	if a := w.decide(caller, payRequest); a.Code != "quarantined" {
		t.Fatalf("decided %s", a.Code)
	}
	w.decide(caller, strings.Replace(payRequest, "invoice-agent", "other", 1))
	digest, asOf := w.store.Digest(w.clock()), w.store.AsOf()

	dry := func(token, body string) (got DryRunResponse) {
		w.do("POST", "/v1/dry-run", token, body).want(200).into(&got)
		return got
	}
	release := strings.Replace(signal("release", "agent:invoice-agent", ""), "09:00:00Z", "09:00:01Z", 1)
	got := dry(soarToken, release)
	e := got.Results[0].Entities[0]
	if got.Results[0].Outcome != "applied" || !e.Would.Known || e.Would.Status != "active" || e.Now.Status != "quarantined" || e.Then.Status != "active" {
		t.Errorf("results %+v", got.Results)
	}
	if len(got.Flips) != 1 || got.Asked != 1 || got.Flips[0].Agent != "agent:invoice-agent" || got.Flips[0].Now.Code != "quarantined" ||
		got.Flips[0].Then.Effect != "allow" || got.Note == "" {
		t.Errorf("flips %+v of %d (%s)", got.Flips, got.Asked, got.Note)
	}
	if w.store.Digest(w.clock()) != digest || w.store.AsOf() != asOf || w.decide(caller, payRequest).Code != "quarantined" {
		t.Error("the dry run has done something")
	}

	// Now allowed, so the same question is known, and a revocation would flip it.
	w.push(soarToken, release)
	if got = dry(soarToken, signal("revoke", "session:s-1", "")); len(got.Flips) != 1 ||
		got.Flips[0].Now.Effect != "allow" || got.Flips[0].Then.Code != "revoked" {
		t.Errorf("flips %+v", got.Flips)
	}
	if got = dry(soarToken, signal("quarantine", "everything", "")); got.Asked != 2 || len(got.Flips) != 1 {
		t.Errorf("everything: %+v of %d", got.Flips, got.Asked)
	}
	if got = dry(soarToken, signal("quarantine", "agent:invoice-agnt", "")); got.Results[0].Entities[0].Would.Known ||
		strings.Join(got.Results[0].Entities[0].Would.Nearest, " ") != "agent:invoice-agent" || got.Asked != 0 {
		t.Errorf("a stranger: %+v", got)
	}
	if w.get("/v1/entities/agent:invoice-agnt", kimToken).status != 404 {
		t.Error("a dry run has made an entity known")
	}
	// Another tenant neither sees nor flips what is not its own.
	if got = dry(umaToken, signal("quarantine", "everything", "")); got.Asked != 0 || len(got.Flips) != 0 {
		t.Errorf("of another tenant: %+v", got)
	}
	w.do("POST", "/v1/dry-run", kimToken, release).wantProblem(403, CodeForbiddenScope)
	w.do("POST", "/v1/dry-run", soarToken, `{"v":1}`).want(400)
	w.do("POST", "/v1/dry-run?x=1", soarToken, release).wantProblem(400, CodeBadParameter)
}

// TestDryRunOfSoftwareFindsTheAgentsThatRunIt: no decision names the code of its agent.
func TestDryRunOfSoftwareFindsTheAgentsThatRunIt(t *testing.T) {
	w := newWorld(t)
	w.push(soarToken, `{"v":1,"id":"r1","type":"register","entities":["agent:invoice-agent"],"time":"2026-11-23T08:00:00Z","class":"high-high","code":"sha256:aa"}`)
	w.push(soarToken, `{"v":1,"id":"q1","type":"quarantine","entities":["code:sha256:aa"],"time":"2026-11-23T08:00:00Z"}`)
	w.decide(&authz.Caller{Name: "gate", Tenants: []string{"default"}}, payRequest)
	var got DryRunResponse
	w.do("POST", "/v1/dry-run", soarToken, signal("release", "code:sha256:aa", "")).want(200).into(&got)
	if len(got.Flips) != 1 || got.Flips[0].Now.Code != "quarantined" || got.Flips[0].Then.Effect != "allow" {
		t.Errorf("flips %+v", got.Flips)
	}
}

// TestDryRunOfAWaiverFindsWhoTheSilenceStops: no decision names the sources that its profile
// needs, and the rehearsal has heard what posture has.
func TestDryRunOfAWaiverFindsWhoTheSilenceStops(t *testing.T) {
	w := newWorld(t)
	w.rules.files["bundle.yaml"].Data = []byte(strings.Replace(testBundle, "profiles:\n", "sources: {client:siem: {max_silence: 1m}, client:soar: {max_silence: 1m}}\nprofiles:\n", 1) +
		"  watched: {needs: [client:siem, client:soar]}\n")
	w.rules.files["payments.yaml"].Data = []byte(strings.Replace(testRules, "classes: [high-high]", "classes: [high-high, watched]", 1))
	if _, err := w.rules.Reload(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	w.push(soarToken, signal("register", "agent:invoice-agent", `,"class":"watched"`))
	if a := w.decide(&authz.Caller{Name: "gate", Tenants: []string{"default"}}, payRequest); a.Code != "source_silent" {
		t.Fatal(a.Code)
	}
	for _, c := range []struct {
		body  string
		flips int
	}{
		{signal("waive", "source:client:siem", `,"expires":"2026-11-23T10:00:00Z","reason":"r"`), 1},
		{signal("waive", "source:client:soar", `,"expires":"2026-11-23T10:00:00Z","reason":"r"`), 0},
		{signal("heartbeat", "source:client:soar", ""), 0},
	} {
		var got DryRunResponse
		w.do("POST", "/v1/dry-run", soarToken, c.body).want(200).into(&got)
		if len(got.Flips) != c.flips || got.Asked != 1 || c.flips > 0 && (got.Flips[0].Now.Code != "source_silent" || got.Flips[0].Then.Effect != "allow") {
			t.Errorf("%s: flips %+v of %d", c.body, got.Flips, got.Asked)
		}
	}
}

// TestDryRunTellsOnlyReadersWhatIsKnown: who may only push learns what a push would tell.
func TestDryRunTellsOnlyReadersWhatIsKnown(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *Parts) { c.Clients = pushOnly(t) })
	w.push(soarToken, signal("quarantine", "agent:invoice-agent", ""))
	w.decide(&authz.Caller{Name: "gate", Tenants: []string{"default"}}, payRequest)
	var got DryRunResponse
	w.do("POST", "/v1/dry-run", soarToken, signal("release", "agent:invoice-agent", "")).want(200).into(&got)
	if e := got.Results[0].Entities[0]; e.Now != nil || e.Then != nil || len(got.Flips) != 0 || got.Asked != 0 {
		t.Errorf("got %+v", got)
	}
}

// pushOnly is soar without the scope to read.
func pushOnly(t *testing.T) *credential.Registry {
	registry, err := credential.New([]credential.Client{{
		Name: "soar", Scopes: credential.Signal, TokenHashes: [][32]byte{credential.HashToken(soarToken)},
		Caller: authz.Caller{Name: "soar", Tenants: []string{"default"}},
		Sender: signals.Sender{Source: signals.Source{Kind: "client", Name: "soar"}, Authority: anyAuthority},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return registry
}
