package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// carry produces a record with headers, "name=value" each, to partition 0.
func (k *gatedKafka) carry(topic, value string, headers ...string) {
	k.t.Helper()
	r := &kgo.Record{Topic: topic, Value: []byte(value)}
	if value == "" {
		r.Value = nil
	}
	for _, h := range headers {
		name, text, _ := strings.Cut(h, "=")
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(text)})
	}
	must(k.t, k.client().ProduceSync(k.t.Context(), r).FirstErr())
}

// launchConfigured starts `pdp serve` over the topic "log", with more of its section
// log.kafka and more sections; args are those of launch.
func launchConfigured(t *testing.T, k *gatedKafka, dir, kafka, more string, args ...string) *served {
	t.Helper()
	rules, err := filepath.Abs("../../examples/invoice/rules")
	must(t, err)
	config := filepath.Join(t.TempDir(), "vigil.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `vigil: 1
data_dir: %s
rules: {dir: %s}
decision: {listen: "127.0.0.1:0", drain: 0s}
control: {listen: "127.0.0.1:0"}
logging: {level: info, decisions: "off"}
log: {kind: kafka, kafka: {brokers: [%q], topic: log, allow_weak: [all]%s}}
%s`, dir, rules, strings.Join(k.ListenAddrs(), ","), kafka, more), 0o600))
	return launchWith(t, dir, append([]string{"--config", config}, args...)...)
}

// TestCloudEventsOfAnInputAreInForceOnAllReplicas: in binary and in structured mode, and what
// is none, or carries what does not belong there, is a dead letter with its reason.
func TestCloudEventsOfAnInputAreInForceOnAllReplicas(t *testing.T) {
	k := newGatedKafka(t)
	k.topics(1)
	const input = `, inputs: [{topic: risk, format: cloudevents, may: [{types: [revoke, risk], kinds: [session]}]}]`
	one, two := launchConfigured(t, k, dataDir(t, "one"), input, ""), launchConfigured(t, k, dataDir(t, "two"), input, "")
	at := one.ready().know()
	if said := two.ready().decide("s-1", "Vigil-At-Least", at); said != "allow" {
		t.Fatal(said)
	}
	now := time.Now().UTC().Format(time.RFC3339Nano)
	attributes := []string{"ce_specversion=1.0", "ce_source=https://siem/", "ce_type=vigil.signal.revoke", "ce_time=" + now}
	event := func(more ...string) []string { return append(more, attributes...) }
	k.carry("risk", "", event("ce_id=1", "ce_subject=session:binary")...)
	k.carry("risk", fmt.Sprintf(`{"specversion":"1.0","id":"2","source":"https://siem/","type":"x","data":%s}`, revoked("structured")),
		"content-type=application/cloudevents+json")
	k.carry("risk", revoked("s-1"))
	k.carry("risk", "["+revoked("s-1")+"]", event("ce_id=3")...)
	k.carry("risk", "a.b.c", event("ce_id=4", "content-type=application/secevent+jwt")...)
	k.carry("risk", "", event("ce_id=5", "ce_subject=agent:payer")...)
	k.carry("risk", `{"v":2,"id":"newer","type":"revoke","entities":["session:held"],"time":"`+now+`","more":1}`, event("ce_id=6")...)
	k.carry("risk", "", event("ce_id=7", "ce_subject=session:last")...)
	for _, s := range []*served{one, two} {
		for _, session := range []string{"binary", "structured", "last"} {
			s.until(session+" is revoked", func() bool { return s.decide(session) == "revoked" })
		}
		if said := s.decide("s-1"); said != "allow" {
			t.Errorf("%s: %s", s.dir, said)
		}
		if st := s.status(); st.Feed.DeadLetters != 5 {
			t.Errorf("%d dead letters", st.Feed.DeadLetters)
		}
		for _, reason := range []string{
			"it is no CloudEvent", "it carries a list", "it carries a security event token", "topic:risk may not speak about an agent",
			"it names no entity that its source may hold",
		} {
			if !strings.Contains(s.stderr.String(), reason) {
				t.Errorf("nothing says: %s", reason)
			}
		}
	}
	if a, b := one.status(), two.status(); a.Feed.AsOf != b.Feed.AsOf || a.Posture.Digest != b.Posture.Digest {
		t.Errorf("%+v\n%+v", a, b)
	}
	one.stop()
	again := launchConfigured(t, k, one.dir, input, "").ready()
	for _, session := range []string{"binary", "structured", "last"} {
		if said := again.decide(session); said != "revoked" {
			t.Errorf("%s, started again: %s", session, said)
		}
	}
}
