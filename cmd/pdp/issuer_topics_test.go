package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-json-experiment/json"

	"vigil/server/control"
	"vigil/signals/deadletter"
)

const sessionRevoked = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"

func opaqueSubject(id string) map[string]any { return map[string]any{"format": "opaque", "id": id} }

// revocation is a SET that revokes a session.
func (p *identityProvider) revocation(session string) string {
	_, set := p.set(sessionRevoked, map[string]any{"reason_admin": map[string]any{"en": "impossible travel"}}, opaqueSubject(session))
	return set
}

// topicOf shows how the reading of the one issuer's topic goes.
func (s *served) topicOf() control.EventTopic {
	s.t.Helper()
	_, text := s.do("GET", s.control+"/v1/events", "")
	var out control.EventsResponse
	must(s.t, json.Unmarshal([]byte(text), &out))
	if len(out.Issuers) != 1 || out.Issuers[0].Topic == nil {
		s.t.Fatal(text)
	}
	return *out.Issuers[0].Topic
}

// issuerOf is a section for an issuer whose events come by the topic "events".
func issuerOf(keys, topic string) string {
	return fmt.Sprintf(`issuers:
  - name: idp
    issuer: https://idp.example.com/
    audience: [https://pdp.example.com/ssf]
    %s
    may: {types: [revoke, risk], kinds: [session, user]}
    topic: %s
`, keys, topic)
}

// TestEventsOfATopicAreInForceOnAllReplicas: bare, and in CloudEvents of both modes. What is
// forged, and what is no event, is a dead letter with its place; nothing is taken twice by a
// replica that starts again.
func TestEventsOfATopicAreInForceOnAllReplicas(t *testing.T) {
	k := newGatedKafka(t)
	k.topics(1)
	must(t, k.CreateTopic("events", 1, nil))
	idp := newIdentityProvider(t)
	var keysAway atomic.Bool
	keysAway.Store(true)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if keysAway.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte(idp.keys()))
	}))
	t.Cleanup(keys.Close)
	file := filepath.Join(t.TempDir(), "keys.json")
	must(t, os.WriteFile(file, []byte(idp.keys()), 0o600))
	const named = "{name: events}"
	fromURI, fromFile := issuerOf(`algorithms: [RS256]
    keys: {uri: "`+keys.URL+`"}`, named), issuerOf(`algorithms: [RS256]
    keys: {file: "`+file+`"}`, named)

	// The keys of one are away: it waits with them, and learns from the log what the other took.
	one, two := launchConfigured(t, k, dataDir(t, "one"), "", fromFile), launchConfigured(t, k, dataDir(t, "two"), "", fromURI)
	at := one.ready().know()
	if said := two.ready().decide("s-1", "Vigil-At-Least", at); said != "allow" {
		t.Fatal(said)
	}
	k.carry("events", idp.revocation("bare"))
	k.carry("events", idp.revocation("binary"), "ce_specversion=1.0", "ce_id=1", "ce_source=https://idp/", "ce_type=caep", "content-type=application/secevent+jwt")
	k.carry("events", fmt.Sprintf(`{"specversion":"1.0","id":"2","source":"https://idp/","type":"caep","datacontenttype":"application/secevent+jwt","data":%q}`,
		idp.revocation("structured")), "content-type=application/cloudevents+json")
	k.carry("events", newIdentityProvider(t).revocation("s-1"))
	k.carry("events", "hello")
	k.carry("events", revoked("s-1"), "ce_specversion=1.0", "ce_id=3", "ce_source=/x", "ce_type=x")
	k.carry("events", "")
	k.carry("events", idp.revocation("last"))
	for _, s := range []*served{one, two} {
		for _, session := range []string{"bare", "binary", "structured", "last"} {
			s.until(session+" is revoked", func() bool { return s.decide(session) == "revoked" })
		}
		if said := s.decide("s-1"); said != "allow" {
			t.Errorf("%s: what was forged: %s", s.dir, said)
		}
	}
	one.until("one is at the end", func() bool {
		is := one.topicOf()
		return is.Next["events/0"] == 8 && is.Behind == 0 && is.Reading == "" && is.Fresh != "" && is.Taken == 8 && is.Authentic == "signature"
	})
	two.until("the other waits for the keys", func() bool {
		is := two.topicOf()
		return strings.Contains(is.Reading, "events/0, offset") && strings.Contains(is.Reading, "502") && is.Behind > 0
	})
	_, metrics := one.do("GET", one.control+"/metrics", "")
	for _, want := range []string{
		`vigil_events_topic_taken_total{issuer="idp",topic="events"} 8`, `vigil_events_topic_behind_records{issuer="idp",topic="events"} 0`,
		`vigil_events_topic_lost_total{issuer="idp",topic="events"} 0`, `vigil_events_topic_reading{issuer="idp",topic="events"} 1`,
		`vigil_events_total{event="session-revoked",issuer="idp",outcome="said"} 4`, `outcome="authentication_failed"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	before := one.status().Feed.Positions["log/0"]
	if code := one.stop(); code != exitOK {
		t.Error(code)
	}
	found, err := deadletter.Read(nil, filepath.Join(one.dir, deadLettersName), 100)
	must(t, err)
	reasons := map[int64]string{3: "authentication_failed", 4: "no compact JWS", 5: "it carries no security event token", 6: "no compact JWS"}
	for _, l := range found.Letters {
		if l.Partition != "events/0" || l.Source != "issuer:idp" || !strings.Contains(l.Reason, reasons[l.Position.Offset]) {
			t.Errorf("%+v", l)
		}
	}
	if len(found.Letters) != len(reasons) {
		t.Errorf("%d dead letters", len(found.Letters))
	}

	k.carry("events", idp.revocation("missed"))
	again := launchConfigured(t, k, one.dir, "", fromFile).ready()
	again.until("what it missed is revoked", func() bool { return again.decide("missed") == "revoked" })
	again.until("it has taken that alone", func() bool { is := again.topicOf(); return is.Next["events/0"] == 9 && is.Taken == 1 })
	if now := again.status().Feed.Positions["log/0"]; now > before+1 {
		t.Errorf("%d signals were appended of one event", now-before)
	}
	if code := two.stop(); code != exitOK { // while it waits
		t.Error(code)
	}
	// The keys are back, and a replica that reads all of it again finds it in force.
	keysAway.Store(false)
	before = again.status().Feed.Positions["log/0"]
	two = launchConfigured(t, k, two.dir, "", fromURI).ready()
	two.until("two is at the end", func() bool { is := two.topicOf(); return is.Next["events/0"] == 9 && is.Reading == "" })
	if now := again.status().Feed.Positions["log/0"]; now != before {
		t.Errorf("%d signals were appended of events that were in force", now-before)
	}
}

// TestATopicThatIsAuthenticByItsACLIsWarnedOf, and takes events that nobody has signed.
func TestATopicThatIsAuthenticByItsACLIsWarnedOf(t *testing.T) {
	k := newGatedKafka(t)
	k.topics(1)
	must(t, k.CreateTopic("events", 1, nil))
	s := launchConfigured(t, k, dataDir(t, "one"), "", issuerOf("", "{name: events, authentic: acl}")).ready()
	s.know()
	if !strings.Contains(s.stderr.String(), "the signatures of its events on the topic events are not looked at") {
		t.Errorf("it says:\n%s", s.stderr.String())
	}
	idp := newIdentityProvider(t)
	set := strings.Split(idp.revocation("s-1"), ".")
	k.carry("events", base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"secevent+jwt","alg":"none"}`))+"."+set[1]+".")
	s.until("it is revoked", func() bool { return s.decide("s-1") == "revoked" })
	k.carry("events", idp.revocation("s-2"))
	s.until("it is revoked", func() bool { return s.decide("s-2") == "revoked" })
	if is := s.topicOf(); is.Authentic != "acl" {
		t.Errorf("%+v", is)
	}
}

// TestATopicOfEventsIsNoOther: what is wrong with it is said with its place.
func TestATopicOfEventsIsNoOther(t *testing.T) {
	const log = "log: {kind: kafka, kafka: {brokers: [\"127.0.0.1:9\"], topic: log, dead_letter_topic: dead, inputs: [{topic: in, may: [{types: [risk], kinds: [agent]}]}]}}\n"
	with := func(log, topic string) string {
		return "vigil: 1\nrules: {dir: rules}\ndata_dir: data\n" + log + issuerOf("algorithms: [RS256]\n    keys: {uri: \"https://idp.example.com/keys\"}", topic)
	}
	good, err := load(t, with(log, "{name: events}"), nil, nil)
	if err != nil || good.Issuers[0].Topic.ACL || good.Issuers[0].SSF.Unsigned || good.Issuers[0].Topic.Name != "events" || len(good.eventTopics()) != 1 {
		t.Fatalf("%+v, %v", good, err)
	}
	acl := strings.Replace(with(log, "{name: events, authentic: acl}"), "    algorithms: [RS256]\n    keys: {uri: \"https://idp.example.com/keys\"}\n", "", 1)
	if c, err := load(t, acl, nil, nil); err != nil || !c.Issuers[0].Topic.ACL || !c.Issuers[0].SSF.Unsigned {
		t.Errorf("%+v, %v", c, err)
	} else if w := strings.Join(c.warnings(), "\n"); !strings.Contains(w, `issuer "idp": topic.authentic is acl`) {
		t.Errorf("it warns:\n%s", w)
	}
	// Beside a push, which is verified, the keys are needed.
	if c, err := load(t, with(log, "{name: events, authentic: acl}\n    push: {anonymous: true}"), nil, nil); err != nil || c.Issuers[0].SSF.Unsigned {
		t.Errorf("%v", err)
	}
	twice := with(log, "{name: events}") + strings.NewReplacer("issuers:\n", "", "name: idp", "name: siem", "https://idp.example.com/\n", "https://siem.example.com/\n").
		Replace(issuerOf("algorithms: [RS256]\n    keys: {uri: \"https://idp.example.com/keys\"}", "{name: events}"))
	for _, c := range []struct{ yaml, want string }{
		{with("", "{name: events}"), `:11:12: issuer "idp": a topic is of the brokers of the signal log: it takes log.kind: kafka, and this is journal`},
		{with(log, "{name: log}"), `:12:12: issuer "idp": the topic log is the log`},
		{with(log, "{name: in}"), `:12:12: issuer "idp": the topic in is an input`},
		{with(log, "{name: dead}"), `:12:12: issuer "idp": the topic dead is that of dead letters`},
		{with(log, "{name: a/b}"), `:12:19: topic.name: want a topic of`},
		{with(log, "{}"), `:12:12: topic: want its name`},
		{with(log, "events"), `:12:12: topic: want a mapping`},
		{with(log, "{name: events, authentic: ack}"), `:12:38: topic.authentic: want signature, acl, not "ack"; did you mean "acl"?`},
		{with(log, "{name: events, group: x}"), `:12:27: unknown key "group"`},
		{strings.Replace(with(log, "{name: events}"), "    topic: {name: events}\n", "", 1), `its events come by push, by poll or by topic`},
		{with(log, "{name: events, authentic: acl}"), `algorithms and keys have no meaning`},
		{strings.Replace(acl, "authentic: acl", "authentic: signature", 1), `algorithms are needed`},
		{twice, `issuer "siem": the topic events is that of issuer "idp"`},
	} {
		if _, err := load(t, c.yaml, nil, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v\nwant %s", err, c.want)
		}
	}
}
