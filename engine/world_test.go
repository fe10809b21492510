package engine

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is the time at which every test begins.
var start = authz.InstantOf(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))

// hand is a clock that moves when it is told to.
type hand struct{ now atomic.Int64 }

func newHand() *hand {
	h := &hand{}
	h.now.Store(int64(start))
	return h
}

func (h *hand) Now() authz.Instant      { return authz.Instant(h.now.Load()) }
func (h *hand) Advance(d time.Duration) { h.now.Add(int64(d)) }

const manifest = `vigil: 1
files: [rules.yaml]
profiles:
  default:   {max_feed_age: 30s, on_stale: deny}
  careful:   {max_feed_age: 10s, on_stale: approval, requires: [session], max_attestation_age: 5m}
agentless: {types: [service], profile: default}
`

// monitored is manifest with sources that profiles need.
const monitored = `vigil: 1
files: [rules.yaml]
sources:
  client:soar: {max_silence: 1m}
  client:siem: {max_silence: 30s}
profiles:
  default:   {max_feed_age: 30s, on_stale: deny, needs: [client:soar]}
  careful:   {max_feed_age: 10s, on_stale: approval, requires: [session], max_attestation_age: 5m, needs: [client:siem, client:soar], on_silence: approval}
agentless: {types: [service], profile: default}
`

const vocabulary = `vigil: 1
attributes:
  subject.user:
    role: {type: string, default: ""}
    level: {type: int}
  subject.service: {}
  resource.payment:
    amount: {type: number, min: 0, required: true}
    supplier: {type: string, max: 64, required: true}
  resource.tool:
    arg: {type: string, max: 64}
actions:
  pay: {scope: "propose:payments"}
  look: {impact: low}
  call: {}
lists: {approved: [acme, globex]}
rules:
`

// three rule sets over one vocabulary, to reload between.
var ruleSets = []string{`
  - {id: pay-small, effect: allow, on: {actions: [pay], resources: [payment]}, when: resource.amount <= 5000 && resource.supplier in lists.approved && agent.risk < 70}
  - {id: pay-large, effect: allow, on: {actions: [pay], resources: [payment], classes: [default]}, when: resource.supplier in lists.approved && agent.risk < 70}
  - {id: pay-large-approval, effect: require, on: {actions: [pay], resources: [payment]}, when: resource.amount > 5000, obligations: [{type: approval, properties: {group: ap}}]}
  - {id: look-all, effect: allow, on: {actions: [look]}, when: "true"}
  - {id: call-mail, effect: allow, on: {actions: [call], resources: ["tool:mail"]}, when: "!agent.tainted"}
  - {id: call-any, effect: allow, on: {actions: [call], resources: [tool]}, when: agent.class == "careful" && tool.risk < 50}
  - {id: night, effect: deny, granularity: 1m, on: {actions: [pay]}, when: now.getMinutes() == 13}
`, `
  - {id: pay-role, effect: allow, on: {actions: [pay], subjects: [user]}, when: subject.role == "clerk"}
  - {id: no-mallory, effect: deny, when: has(user) && user.risk > 90}
  - {id: level, effect: deny, on: {subjects: [user], actions: [call]}, when: has(subject.level) && subject.level < 2}
  - {id: call-any, effect: allow, on: {actions: [call], resources: [tool]}, when: resource.id != "shell" || session.attested}
  - {id: look-labelled, effect: allow, on: {actions: [look]}, when: has(agent.labels.role) && agent.labels.role == "reader"}
  - {id: would-deny, effect: deny, mode: observe, when: "true"}
`, `
  - {id: all, effect: allow, when: "true"}
  - {id: amount, effect: deny, on: {resources: [payment]}, when: resource.amount > 100}
  - {id: needs-session, effect: require, on: {actions: [call]}, when: session.risk > 10, obligations: [{type: step-up}]}
  - {id: peer, effect: deny, on: {resources: [tool]}, when: has(resource.arg) && resource.arg == "rm"}
`}

// failer is a test, or a property of one.
type failer interface {
	Helper()
	Fatal(...any)
}

func load(t failer, ruleText string) (*rules.Bundle, *rules.Set) {
	t.Helper()
	return loadUnder(t, manifest, ruleText)
}

func loadUnder(t failer, manifest, ruleText string) (*rules.Bundle, *rules.Set) {
	t.Helper()
	bundle, set, errs := rules.Load(fstest.MapFS{
		"bundle.yaml": {Data: []byte(manifest)},
		"rules.yaml":  {Data: []byte(vocabulary + ruleText)},
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return bundle, set
}

func newEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func text(s string) authz.Value    { return authz.Value{Kind: authz.String, Str: s} }
func number(n float64) authz.Value { return authz.Value{Kind: authz.Number, Num: n} }

func agentKey(id string) authz.Key {
	return authz.Ref{Kind: authz.KindAgent, ID: id}.In(authz.DefaultTenant)
}

func sessionKey(id string) authz.Key {
	return authz.Ref{Kind: authz.KindSession, ID: id}.In(authz.DefaultTenant)
}

var serial atomic.Int64

// fact makes a fact that never ends, with an id of its own.
func fact(facet posture.Facet, source string, at authz.Instant) posture.Fact {
	return posture.Fact{Facet: facet, Source: "client:" + source, ID: fmt.Sprint("sig-", serial.Add(1)), Time: at, Until: authz.Forever}
}

func quarantine(at authz.Instant) posture.Fact {
	f := fact(posture.Hold, "soar", at)
	f.Held = true
	return f
}

func release(at authz.Instant) posture.Fact { return fact(posture.Hold, "soar", at) }

func register(at authz.Instant, class string) posture.Fact {
	f := fact(posture.Registration, "platform", at)
	f.Registration = &posture.Registered{Class: class, Labels: map[string]string{"role": "reader"}, Scopes: []string{"propose:payments"}}
	return f
}

func change(key authz.Key, facts ...posture.Fact) []posture.Change {
	return []posture.Change{{Key: key, Facts: facts}}
}

// look is an agent that looks at something: allowed by the rule set 0 if nothing holds it.
func lookRequest(agent, session string) (*authz.Request, *authz.Principal) {
	req := &authz.Request{
		Subject: authz.Party{Type: "agent", ID: agent}, Action: authz.Action{Name: "look"},
		Resource: authz.Party{Type: "invoice", ID: "inv-1"},
	}
	return req, &authz.Principal{Tenant: authz.DefaultTenant, Agent: agent, Session: session}
}

var anyone = &authz.Caller{Name: "test", Tenants: []string{authz.DefaultTenant}}

// settle waits until the cache has taken what it was offered.
func (e *Engine) settle() {
	if e.cache != nil {
		e.cache.Settle()
	}
}
