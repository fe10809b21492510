package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/server/credential"
)

// TestAnExceptionOfOneTenantIsNoneOfTheOthers: while agents of some tenant stop, whoever is
// called when a source falls silent is called, though another tenant goes on.
func TestAnExceptionOfOneTenantIsNoneOfTheOthers(t *testing.T) {
	const source = "client:soar"
	now := authz.InstantOf(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
	n := &node{
		cfg: &config{Clients: []credential.Client{
			{Caller: authz.Caller{Tenants: []string{"acme"}}}, {Caller: authz.Caller{Tenants: []string{"acme", "globex"}}},
		}},
		posture: posture.NewStore(),
		set:     loadRuleSets(t)[len(lifeRules)].set, // needs client:soar and client:siem
	}
	n.posture.Hear("client:siem", now, now)
	says := func(waivers int, waived bool, degraded int) {
		t.Helper()
		s := n.sources(now)[1]
		if s.Source != source || !s.Silent || len(s.Waivers) != waivers || s.Waived != waived {
			t.Errorf("%+v", s)
		}
		if all := n.silent(now); len(all) != degraded {
			t.Errorf("strict readiness says %q", all)
		}
	}
	waive := func(tenant string) {
		key := authz.Ref{Kind: authz.KindSource, ID: source}.In(tenant)
		n.posture.Apply(now, []posture.Change{{Key: key, Facts: []posture.Fact{
			{Facet: posture.Waive, Source: "client:soc", ID: "INC-" + tenant, Time: now, Until: now.Add(time.Hour)}}}})
	}
	says(0, false, 1)
	waive("globex")
	says(1, false, 1)
	waive("acme")
	says(2, true, 0)
}

// TestALogThatIsAheadIsSaidToBe, once: what it dated ahead counts anew after a start.
func TestALogThatIsAheadIsSaidToBe(t *testing.T) {
	now := authz.InstantOf(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
	var out bytes.Buffer
	n := &node{
		cfg: &config{}, posture: posture.NewStore(), set: loadRuleSets(t)[len(lifeRules)].set,
		log: slog.New(slog.NewTextHandler(&out, nil)),
	}
	var seen map[string]sourceSeen
	follow := func(at authz.Instant, lines int) {
		t.Helper()
		out.Reset()
		seen = n.followSources(at, seen)
		if got := strings.Count(out.String(), "ahead of this clock"); got != lines {
			t.Errorf("%d lines and not %d:\n%s", got, lines, &out)
		}
	}
	n.posture.Hear("client:siem", now.Add(5*time.Second), now)
	n.posture.Hear("client:soar", now.Add(5*time.Second), now)
	follow(now, 0)
	n.posture.Hear("client:soar", now.Add(time.Hour), now)
	follow(now, 1)
	follow(now, 0)
	if all := n.silent(now.Add(19 * time.Second)); len(all) != 0 {
		t.Errorf("strict readiness says %q of what is noticed in time", all)
	}
	follow(now.Add(time.Hour-5*time.Second), 0)
}
