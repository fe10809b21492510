package ssf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"vigil/authz"
	"vigil/signals"
)

func parseRef(text string) (authz.Ref, error) { return authz.ParseRef(text) }

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// translated is what a SET with these claims comes to.
func translated(t testing.TB, i *Issuer, change object) *Translation {
	t.Helper()
	set, err := i.Verify(t.Context(), []byte(sign(t, jwt.SigningMethodRS256, rsaKey(), claims(change), nil)))
	if err != nil {
		t.Fatal(err)
	}
	tr, err := i.Translate(set)
	if err != nil {
		t.Fatal(err)
	}
	for k := range tr.Signals {
		// What comes out is what anybody can send.
		if _, err := signals.DecodeOne(tr.Signals[k].AppendJSON(nil)); err != nil {
			t.Errorf("%s: %v", tr.Signals[k].AppendJSON(nil), err)
		}
	}
	return tr
}

// sayings writes a translation short: "risk 90 user:jane; …", or the outcome where nothing
// is said.
func sayings(t testing.TB, i *Issuer, change object) string {
	t.Helper()
	tr := translated(t, i, change)
	var parts []string
	for k := range tr.Signals {
		s := &tr.Signals[k]
		part := string(s.Type)
		switch {
		case s.Type == signals.TypeRisk:
			part += fmt.Sprint(" ", s.Risk)
		case s.IssuedBefore != 0:
			part += " issued"
		case s.Type == signals.TypeAttest && s.Passed:
			part += " pass"
		case s.Type == signals.TypeAttest:
			part += " fail"
		case s.Type == signals.TypeNarrow:
			part += fmt.Sprint(" ", s.Scopes)
		case s.Type == signals.TypeRequireApproval:
			part += fmt.Sprint(" ", s.Actions)
		case s.Lifts != nil:
			part += fmt.Sprintf(" %s %s", s.Lifts.Type, s.Lifts.ID)
		}
		for _, ref := range s.Entities {
			part += " " + ref.String()
		}
		if s.Expires != authz.Forever {
			part += fmt.Sprint(" until ", s.Expires)
		}
		parts = append(parts, part)
	}
	for _, r := range tr.Readings {
		if r.Outcome != Said {
			parts = append(parts, string(r.Outcome))
		}
	}
	return strings.Join(parts, "; ")
}

func email(address string) object { return object{"format": "email", "email": address} }

func opaque(id string) object { return object{"format": "opaque", "id": id} }

func issSub(iss, sub string) object { return object{"format": "iss_sub", "iss": iss, "sub": sub} }

func complexOf(members object) object {
	members["format"] = "complex"
	return members
}

// TestTheTableSaysWhatItSays goes through every event of CAEP, RISC and our own.
func TestTheTableSaysWhatItSays(t *testing.T) {
	i := newIssuer(t, func(cfg *Config) {
		cfg.Subjects = DefaultSubjects()
		cfg.Subjects["device"] = []string{"instance:{id}"}
		cfg.Subjects["tenant"] = []string{"{id}"}
	})
	jane := email("jane@example.com")
	agent := complexOf(object{"agent": opaque("a1"), "user": jane})
	later := int64(start)/1e9 + 3600
	covered := map[string]bool{}
	for _, c := range []struct {
		event   string
		members object
		subject object
		want    string
	}{
		{"session-revoked", nil, opaque("s1"), "revoke session:s1"},
		{"session-revoked", nil, object{"format": "jwt_id", "iss": testIssuer, "jti": "t1"}, "revoke token:t1"},
		{"session-revoked", nil, jane, "revoke issued user:jane@example.com"},
		{"session-revoked", nil, complexOf(object{"session": opaque("s1"), "user": jane}), "revoke session:s1"},
		{"session-revoked", nil, complexOf(object{"device": opaque("d1"), "user": jane}), "revoke issued user:jane@example.com"},
		{"session-revoked", nil, agent, "revoke issued agent:a1"},
		{"session-revoked", nil, complexOf(object{"group": opaque("g1")}), "unmatched"},
		{"token-claims-change", object{"claims": object{"role": "ro"}}, object{"format": "jwt_id", "iss": testIssuer, "jti": "t1"}, "revoke token:t1"},
		{"token-claims-change", object{"claims": object{"role": "ro"}}, object{"format": "saml_assertion_id", "issuer": testIssuer, "assertion_id": "_8"}, "revoke token:_8"},
		{"token-claims-change", object{"claims": object{"role": "ro"}}, jane, "revoke issued user:jane@example.com"},
		{"credential-change", object{"credential_type": "password", "change_type": "revoke"}, jane, "revoke issued user:jane@example.com"},
		{"credential-change", object{"credential_type": "x509", "change_type": "delete"}, agent, "revoke issued agent:a1"},
		{"credential-change", object{"credential_type": "pin", "change_type": "update"}, jane, "revoke issued user:jane@example.com"},
		{"credential-change", object{"credential_type": "app", "change_type": "create"}, jane, "informational"},
		{"assurance-level-change", object{"namespace": "NIST-AAL", "current_level": "1", "change_direction": "decrease"}, opaque("s1"), "attest fail session:s1"},
		{"assurance-level-change", object{"namespace": "NIST-AAL", "current_level": "2", "change_direction": "increase"}, jane, "attest pass user:jane@example.com"},
		{"assurance-level-change", object{"namespace": "NIST-AAL", "current_level": "2"}, jane, "informational"},
		{"device-compliance-change", object{"previous_status": "compliant", "current_status": "not-compliant"}, opaque("d1"), "attest fail instance:d1"},
		{"device-compliance-change", object{"previous_status": "not-compliant", "current_status": "compliant"}, complexOf(object{"device": opaque("d1"), "user": jane}), "attest pass instance:d1"},
		{"device-compliance-change", object{"previous_status": "compliant", "current_status": "not-compliant"}, complexOf(object{"user": jane}), "unmatched"},
		{"session-established", nil, jane, "informational"},
		{"session-presented", nil, jane, "informational"},
		{"risk-level-change", object{"principal": "USER", "current_level": "LOW"}, jane, "risk 20 user:jane@example.com"},
		{"risk-level-change", object{"principal": "USER", "current_level": "MEDIUM"}, jane, "risk 55 user:jane@example.com"},
		{"risk-level-change", object{"principal": "AGENT", "current_level": "HIGH"}, agent, "risk 90 agent:a1"},
		{"risk-level-change", object{"principal": "AGENT", "current_level": "HIGH"}, opaque("a1"), "risk 90 agent:a1"},
		{"risk-level-change", object{"principal": "DEVICE", "current_level": "HIGH"}, opaque("d1"), "risk 90 instance:d1"},
		{"risk-level-change", object{"principal": "TENANT", "current_level": "HIGH"}, opaque("default"), "risk 90 tenant:default"},
		{"risk-level-change", object{"principal": "ORG_UNIT", "current_level": "HIGH"}, jane, "unmatched"},
		{"risk-level-change", object{"principal": "USER", "current_level": "HIGH"}, complexOf(object{"agent": opaque("a1")}), "unmatched"},

		{"account-credential-change-required", nil, jane, "revoke issued user:jane@example.com"},
		{"account-purged", nil, jane, "decommission user:jane@example.com"},
		{"account-disabled", nil, jane, "quarantine user:jane@example.com"},
		{"account-disabled", object{"reason": "hijacking"}, jane, "quarantine user:jane@example.com; revoke issued user:jane@example.com"},
		{"account-disabled", object{"reason": "bulk-account"}, agent, "quarantine agent:a1"},
		{"account-enabled", nil, jane, "release user:jane@example.com"},
		{"identifier-changed", object{"new-value": "new@example.com"}, jane, "revoke issued user:jane@example.com"},
		{"identifier-recycled", nil, jane, "revoke issued user:jane@example.com"},
		{"credential-compromise", object{"credential_type": "password"}, jane, "revoke issued user:jane@example.com; risk 90 user:jane@example.com"},
		{"opt-in", nil, jane, "informational"},
		{"opt-out-initiated", nil, jane, "informational"},
		{"opt-out-cancelled", nil, jane, "informational"},
		{"opt-out-effective", nil, jane, "informational"},
		{"recovery-activated", nil, jane, "informational"},
		{"recovery-information-changed", nil, jane, "informational"},
		{"sessions-revoked", nil, jane, "revoke issued user:jane@example.com"},

		{"vigil:risk", object{"risk": 71}, opaque("a1"), "risk 71 agent:a1"},
		{"vigil:risk", object{"risk": 71, "expires": later}, complexOf(object{"session": opaque("s1"), "agent": opaque("a1")}), "risk 71 session:s1 until 2026-11-23T04:04:10Z"},
		{"vigil:quarantine", object{"expires": later}, agent, "quarantine agent:a1 until 2026-11-23T04:04:10Z"},
		{"vigil:quarantine", nil, complexOf(object{"tool": opaque("t1")}), "quarantine tool:t1"},
		{"vigil:release", nil, agent, "release agent:a1"},
		{"vigil:narrow", object{"scopes": []string{"read:invoices"}}, agent, "narrow [read:invoices] agent:a1"},
		{"vigil:narrow", object{"scopes": []string{}}, agent, "narrow [] agent:a1"},
		{"vigil:require-approval", object{"actions": []string{"pay"}}, agent, "require_approval [pay] agent:a1"},
		{"vigil:require-approval", nil, agent, "require_approval [] agent:a1"},
		{"vigil:taint", nil, agent, "taint agent:a1"},
		{"vigil:attest", object{"result": "fail", "expires": later}, agent, "attest fail agent:a1"},
		{"vigil:attest", object{"result": "pass", "expires": later}, agent, "attest pass agent:a1 until 2026-11-23T04:04:10Z"},
		{"vigil:revoke", nil, agent, "revoke agent:a1"},
		{"vigil:revoke-issued", nil, agent, "revoke issued agent:a1"},
		{"vigil:decommission", nil, agent, "decommission agent:a1"},
		{"vigil:lift", object{"statement": "require-approval", "jti": "j"}, agent, "lift require_approval set:1:j agent:a1"},

		{"verification", object{"state": "x"}, opaque("stream"), "control"},
		{"stream-updated", object{"status": "paused"}, opaque("stream"), "control"},
		{"urn:example:of-tomorrow", nil, jane, "unknown_event"},
	} {
		uri, known := longURI(c.event)
		if !known {
			uri = c.event
		}
		covered[uri] = true
		if got := sayings(t, i, object{"sub_id": c.subject, "events": event(uri, c.members)}); got != c.want {
			t.Errorf("%s %v %v:\n got %s\nwant %s", c.event, c.members, c.subject, got, c.want)
		}
	}
	for _, spec := range specs {
		if !covered[spec.uri] {
			t.Errorf("no case for %s", spec.uri)
		}
		if i.table[spec.uri] == nil && !strings.HasPrefix(spec.uri, SSF) {
			t.Errorf("no row for %s", spec.uri)
		}
	}
}

func TestTheTableIsOverriddenByEvent(t *testing.T) {
	i := newIssuer(t, func(cfg *Config) {
		cfg.Table = []Rule{
			{"recovery-activated", "", "user", "require_approval pay refund for 24h; taint for 1h"},
			{"session-revoked", "", "user", "quarantine"},
			{"https://idp.example.com/events/leaked", "", "user", "risk HIGH"},
		}
		cfg.Scores = map[string]int{"LOW": 0, "MEDIUM": 40, "HIGH": 75}
	})
	jane := email("jane@example.com")
	for uri, want := range map[string]string{
		RISC + "recovery-activated":             "require_approval [pay refund] user:jane@example.com until 2026-11-24T03:04:10Z; taint user:jane@example.com until 2026-11-23T04:04:10Z",
		CAEP + "session-revoked":                "quarantine user:jane@example.com",
		"https://idp.example.com/events/leaked": "risk 75 user:jane@example.com",
		RISC + "account-purged":                 "decommission user:jane@example.com", // as before
	} {
		if got := sayings(t, i, object{"sub_id": jane, "events": event(uri, nil)}); got != want {
			t.Errorf("%s:\n got %s\nwant %s", short(uri), got, want)
		}
	}
	// All of its rows are replaced: there is none for a session alone any more.
	if got := sayings(t, i, object{"sub_id": opaque("s1"), "events": event(CAEP+"session-revoked", nil)}); got != "unmatched" {
		t.Error(got)
	}
	for _, bad := range []Rule{
		{"sesion-revoked", "", "user", "revoke"}, {"session-revoked", "x", "user", "revoke"}, {"session-revoked", "", "", "revoke"},
		{"session-revoked", "", "user", "revok"}, {"session-revoked", "", "user", ""}, {"session-revoked", "", "user", "risk"},
		{"session-revoked", "", "user", "risk EXTREME"}, {"session-revoked", "", "user", "attest perhaps"},
		{"session-revoked", "", "user", "revoke for 1h"}, {"session-revoked", "", "user", "quarantine for ever"},
		{"session-revoked", "", "user", "narrow {scopes"}, {"session-revoked", "", "user", "release now"},
		{"session-revoked", "", "user", "lift taint"}, {"session-revoked", "", "user", "register high-high"},
		{"session-revoked", "", "session usr", "revoke"},
	} {
		if _, err := New(testConfig(func(cfg *Config) { cfg.Table = []Rule{bad} })); err == nil {
			t.Errorf("%+v is a row", bad)
		}
	}
	// A member that templates are configured for is one.
	if _, err := New(testConfig(func(cfg *Config) {
		cfg.Table = []Rule{{"session-revoked", "", "wallet", "revoke"}}
		cfg.Subjects = Subjects{"wallet": {"token:{id}"}}
	})); err != nil {
		t.Error(err)
	}
}

func TestTemplatesFindEntities(t *testing.T) {
	for _, c := range []struct {
		template string
		subject  object
		want     string
	}{
		{"{email}", email("Jane@Example.com"), "user:Jane@Example.com"},
		{"{email|lower}", email("Jane@Example.com"), "user:jane@example.com"},
		{"{email|local}", email("jane@example.com"), "user:jane"},
		{"{uri|acct}", object{"format": "account", "uri": "acct:jane@example.com"}, "user:jane@example.com"},
		{"agent:idp/{sub}", issSub(testIssuer, "a1"), "agent:idp/a1"},
		{"user:agent:{sub}", issSub(testIssuer, "a1"), "user:agent:a1"},
		{"{sub}", issSub("https://other.example.com/", "jane"), "unmatched"},
		{"{sub}", issSub("https://also.example.com/", "jane"), "user:jane"},
		{"{iss}|{sub}", issSub("https://other.example.com/", "jane"), "user:https://other.example.com/|jane"},
		{"{phone_number}", object{"format": "phone_number", "phone_number": "+1 206 555 0100"}, "user:+12065550100"},
		{"{email}", issSub(testIssuer, "jane"), "unmatched"},
		{"{email}", email(strings.Repeat("x", 600) + "@example.com"), "unmatched"},
		{"{catalog_id}", object{"format": "catalog_item", "catalog_id": "c1"}, "user:c1"},
		{"{email|lower}", object{"format": "aliases", "identifiers": []object{email("J@x.com"), email("j@X.com"), email("k@x.com"), opaque("7")}},
			"user:j@x.com user:k@x.com"},
	} {
		i := newIssuer(t, func(cfg *Config) {
			cfg.Subjects = Subjects{"user": {c.template}}
			cfg.SubjectIssuers = []string{"https://also.example.com/"}
			cfg.Simple = map[string]string{"catalog_item": "user", "aliases": "user"}
		})
		subject := complexOf(object{"user": c.subject})
		got := strings.TrimPrefix(sayings(t, i, object{"sub_id": subject, "events": event(RISC+"account-enabled", nil)}), "release ")
		if got != c.want {
			t.Errorf("%s of %v: got %s, want %s", c.template, c.subject, got, c.want)
		}
	}
	i := newIssuer(t, func(cfg *Config) { cfg.Subjects = Subjects{"device": {"instance:{ip-addresses}"}} })
	subject := object{"format": "ip-addresses", "ip-addresses": []string{"10.0.0.1", "::1"}}
	members := object{"previous_status": "compliant", "current_status": "not-compliant"}
	if got := sayings(t, i, object{"sub_id": subject, "events": event(CAEP+"device-compliance-change", members)}); got != "attest fail instance:10.0.0.1 instance:::1" {
		t.Error(got)
	}
	for member, bad := range map[string]string{
		"user": "{email", "agent": "email}", "session": "{}", "tool": "{id|upper}", "device": "{id}", "model": "always", "grant": "everything:{id}", "code": "{a{b}",
	} {
		if _, err := New(testConfig(func(cfg *Config) { cfg.Subjects = Subjects{member: {bad}} })); err == nil {
			t.Errorf("%s: %s is a template", member, bad)
		}
	}
}

// TestACriticalMemberThatIsNotUnderstoodDiscardsTheEvent: SSF 1.0 section 3.6.
func TestACriticalMemberThatIsNotUnderstoodDiscardsTheEvent(t *testing.T) {
	subject := object{"sub_id": complexOf(object{"session": opaque("s1"), "org_unit": opaque("o1")})}
	if got := sayings(t, newIssuer(t), subject); got != "revoke session:s1" {
		t.Error(got)
	}
	i := newIssuer(t, func(cfg *Config) { cfg.Critical = []string{"tenant", "org_unit"} })
	if got := sayings(t, i, subject); got != "discarded" {
		t.Error(got)
	}
	if got := sayings(t, i, nil); got != "revoke session:s-1" {
		t.Errorf("without the critical members: %s", got)
	}
}

// TestATenantThatIsNamedIsTheTenant: and one that is not understood is not guessed.
func TestATenantThatIsNamedIsTheTenant(t *testing.T) {
	subject := object{"sub_id": complexOf(object{"session": opaque("s1"), "tenant": opaque("acme")})}
	several := func(cfg *Config) { cfg.Authority.Tenants = []string{"default", "acme"} }
	if got := sayings(t, newIssuer(t, several), subject); got != "unmatched" {
		t.Error(got)
	}
	i := newIssuer(t, several, func(cfg *Config) {
		cfg.Subjects = DefaultSubjects()
		cfg.Subjects["tenant"] = []string{"{id}"}
	})
	if tr := translated(t, i, subject); len(tr.Signals) != 1 || tr.Signals[0].Tenant != "acme" {
		t.Errorf("%+v", tr)
	}
	if tr := translated(t, i, nil); len(tr.Signals) != 1 || tr.Signals[0].Tenant != "" {
		t.Errorf("%+v", tr)
	}
}

// TestTheTimeOfAnEventIsNeverAfterItsReport: event_timestamp, else toe, else iat, and iat
// is the end of it.
func TestTheTimeOfAnEventIsNeverAfterItsReport(t *testing.T) {
	i := newIssuer(t)
	iat := int64(start) / 1e9
	at := func(seconds int64) authz.Instant { return authz.Instant(seconds * 1e9) }
	for name, c := range map[string]struct {
		toe, stamp any
		want       authz.Instant
		said       string
	}{
		"iat alone":           {nil, nil, at(iat), ""},
		"a toe":               {iat - 60, nil, at(iat - 60), ""},
		"both":                {iat - 60, iat - 90, at(iat - 90), ""},
		"a fraction":          {nil, float64(iat) - 0.5, start.Add(-500 * time.Millisecond), ""},
		"a stamp ahead":       {nil, iat + 3600, at(iat), "event_timestamp is after iat"},
		"a toe ahead":         {iat + 1, nil, at(iat), "toe is after iat"},
		"milliseconds":        {nil, iat * 1000, at(iat), "event_timestamp is after iat"},
		"the end of all time": {nil, 1e300, at(iat), "event_timestamp is after iat"},
	} {
		members := object{}
		if c.stamp != nil {
			members["event_timestamp"] = c.stamp
		}
		tr := translated(t, i, object{"toe": c.toe, "events": event(CAEP+"session-revoked", members)})
		if got := tr.Signals[0].Time; got != c.want || !strings.HasPrefix(tr.Readings[0].Detail, c.said) || (c.said == "") != (tr.Readings[0].Detail == "") {
			t.Errorf("%s: %s, %q; want %s, %q", name, got, tr.Readings[0].Detail, c.want, c.said)
		}
	}
}

func TestOperatorsReadWhy(t *testing.T) {
	tr := translated(t, newIssuer(t), object{"txn": "8675309", "jti": "j\n1", "events": event(CAEP+"session-revoked", object{
		"initiating_entity": "policy", "reason_admin": object{"de": "Richtlinie", "en": "Policy\x1b[31m C076E82F"}})})
	s := tr.Signals[0]
	if s.Actor != "policy" || s.Ticket != "8675309" || s.Reason != "session-revoked: Policy[31m C076E82F" {
		t.Errorf("%+v", s)
	}
	if !strings.HasPrefix(s.ID, "set:1:sha256:") {
		t.Errorf("a jti with a line feed gives the id %q", s.ID)
	}
	long := translated(t, newIssuer(t), object{"jti": strings.Repeat("é", 512), "txn": strings.Repeat("t", 1024),
		"events": event(CAEP+"session-revoked", object{"reason_admin": object{"fr": strings.Repeat("é", 1000)}})})
	if s := long.Signals[0]; len(s.Reason) > signals.MaxText || len(s.ID) > signals.MaxText {
		t.Errorf("%d, %d", len(s.Reason), len(s.ID))
	}
}

// TestNoJTIReadsAsAnOverruling: an id such as client:ops/1 is that of what ops says in
// another's line, and is refused; a jti like it must not be lost for that.
func TestNoJTIReadsAsAnOverruling(t *testing.T) {
	for _, jti := range []string{"client:ops/1", "topic:x/y", "issuer:https://idp/1"} {
		id := translated(t, newIssuer(t), object{"jti": jti}).Signals[0].ID
		if source, _, _ := cutLast(id, "/"); id != "set:1:"+jti {
			t.Errorf("%s", id)
		} else if _, borrowed := signals.ParseSource(source); borrowed {
			t.Errorf("%s reads as an overruling by %s", id, source)
		}
	}
}
