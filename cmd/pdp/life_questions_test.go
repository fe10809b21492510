package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/engine"
	"vigil/engine/enginetest"
	"vigil/rules"
	"vigil/signals"
)

const lifeManifest = `vigil: 1
files: [rules.yaml]
profiles:
  default:   {max_feed_age: 30s, on_stale: deny}
  careful:   {max_feed_age: 10s, on_stale: approval, requires: [session], max_attestation_age: 5m}
agentless: {types: [service], profile: default}
`

// watchfulManifest is lifeManifest with sources that the profiles need.
const watchfulManifest = `vigil: 1
files: [rules.yaml]
sources:
  client:soar: {max_silence: 1m}
  client:siem: {max_silence: 20s}
profiles:
  default:   {max_feed_age: 30s, on_stale: deny, needs: [client:soar]}
  careful:   {max_feed_age: 10s, on_stale: approval, requires: [session], max_attestation_age: 5m, needs: [client:siem, client:soar], on_silence: approval}
agentless: {types: [service], profile: default}
`

const lifeVocabulary = `vigil: 1
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
rules:
`

// Rule sets over one vocabulary, to reload between; the first allows much.
var lifeRules = []string{`
  - {id: all, effect: allow, when: agent.risk < 90}
  - {id: amount, effect: deny, on: {resources: [payment]}, when: resource.amount > 5000}
  - {id: tool-risk, effect: deny, on: {resources: [tool]}, when: tool.risk > 50}
`, `
  - {id: pay-small, effect: allow, on: {actions: [pay], resources: [payment]}, when: resource.amount <= 5000 && resource.supplier == "acme" && agent.risk < 70}
  - {id: pay-large, effect: allow, on: {actions: [pay], resources: [payment], classes: [default]}, when: agent.risk < 70}
  - {id: pay-large-approval, effect: require, on: {actions: [pay], resources: [payment]}, when: resource.amount > 5000, obligations: [{type: approval, properties: {group: ap}}]}
  - {id: look-all, effect: allow, on: {actions: [look]}, when: "true"}
  - {id: call-mail, effect: allow, on: {actions: [call], resources: ["tool:mail"]}, when: "!agent.tainted"}
  - {id: call-any, effect: allow, on: {actions: [call], resources: [tool]}, when: tool.risk < 50}
  - {id: odd-minutes, effect: deny, granularity: 1m, on: {actions: [look]}, when: now.getMinutes() % 4 == 3}
`, `
  - {id: role, effect: allow, on: {actions: [pay], subjects: [user]}, when: subject.role == "clerk" && session.risk < 60}
  - {id: no-risky-user, effect: deny, when: has(user) && user.risk > 60}
  - {id: level, effect: deny, on: {subjects: [user], actions: [call]}, when: has(subject.level) && subject.level < 2}
  - {id: call-any, effect: allow, on: {actions: [call], resources: [tool]}, when: resource.id != "shell" || session.attested}
  - {id: look-labelled, effect: allow, on: {actions: [look]}, when: has(agent.labels.role) && agent.labels.role == "reader"}
  - {id: step-up, effect: require, on: {actions: [look]}, when: session.risk > 20, obligations: [{type: step-up}]}
  - {id: would-deny, effect: deny, mode: observe, when: "true"}
`}

// ruleSet is a rule set as the engine and as the twin read it.
type ruleSet struct {
	set   *rules.Set
	plain *enginetest.Rules
}

func loadRuleSets(t *testing.T) []*ruleSet {
	t.Helper()
	var all []*ruleSet
	for i := range 2 * len(lifeRules) {
		manifest, text := lifeManifest, lifeRules[i%len(lifeRules)]
		if i >= len(lifeRules) {
			manifest = watchfulManifest
		}
		bundle, set, problems := rules.Load(fstest.MapFS{
			"bundle.yaml": {Data: []byte(manifest)}, "rules.yaml": {Data: []byte(lifeVocabulary + text)},
		})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		plain, err := enginetest.Plain(bundle)
		must(t, err)
		all = append(all, &ruleSet{set, plain})
	}
	return all
}

func (l *life) use(i int) {
	l.set, l.twin.Rules = i, l.rules[i].plain
	l.n.use(l.rules[i].set)
}

// question is what a gateway asks.
type question struct {
	caller    *authz.Caller
	request   *authz.Request
	principal *authz.Principal
}

var (
	gateway  = &authz.Caller{Name: "gateway", Tenants: []string{authz.DefaultTenant, "acme"}}
	services = &authz.Caller{Name: "services", Tenants: gateway.Tenants, Agentless: []string{"service"}}
)

func (l *life) question() question {
	t := l.t
	draw := func(label string, ids ...string) string { return rapid.SampledFrom(ids).Draw(t, label) }
	req := &authz.Request{Action: authz.Action{Name: draw("action", "look", "look", "look", "look", "pay", "pay", "pay", "call", "call", "call", "call", "fly")}}
	p := &authz.Principal{
		Tenant:   draw("tenant", authz.DefaultTenant, authz.DefaultTenant, authz.DefaultTenant, authz.DefaultTenant, authz.DefaultTenant, "acme"),
		Agent:    draw("agent", "1", "1", "2"),
		Instance: draw("instance", "", "", "1"),
		Session:  draw("session", "", "1", "2"),
		Token:    draw("token", "", "1", "2"),
	}
	q := question{gateway, req, p}
	switch draw("subject", "agent", "agent", "user", "user", "user", "user", "service") {
	case "agent":
		req.Subject = authz.Party{Type: "agent", ID: p.Agent}
	case "user":
		p.User = draw("user", "1", "2")
		p.HasScopes, p.Scopes = true, []string{draw("scope", "propose:payments", "propose:payments", "propose:payments", "other")}
		req.Subject = authz.Party{Type: "user", ID: p.User}
		if role := draw("role", "", "clerk", "clerk"); role != "" {
			req.Subject.Properties = append(req.Subject.Properties, authz.Member{Name: "role", Value: authz.Value{Kind: authz.String, Str: role}})
		}
		if level := rapid.IntRange(0, 3).Draw(t, "level"); level > 0 {
			req.Subject.Properties = append(req.Subject.Properties, authz.Member{Name: "level", Value: authz.Value{Kind: authz.Number, Num: float64(level)}})
		}
	case "service":
		p.User, p.Agent = "1", draw("agent of a service", "", "1")
		p.HasScopes, p.Scopes = true, []string{"propose:payments"}
		req.Subject = authz.Party{Type: "service", ID: "1"}
		q.caller = rapid.SampledFrom([]*authz.Caller{services, services, gateway}).Draw(t, "caller")
	}
	if rapid.IntRange(0, 3).Draw(t, "issued") == 0 {
		p.IssuedAt = birth.Add(time.Duration(rapid.IntRange(-1, 25).Draw(t, "issued at")) * time.Second)
	}
	if rapid.IntRange(0, 9).Draw(t, "expires") == 7 {
		p.Expires = l.now().Add(time.Duration(rapid.IntRange(-1, 90).Draw(t, "expires at")) * time.Second)
	}
	if rapid.IntRange(0, 3).Draw(t, "delegated") == 0 {
		g := authz.Delegation{ID: draw("grant", "1", "2")}
		if rapid.IntRange(0, 5).Draw(t, "grant scoped") == 5 {
			g.HasScopes, g.Scopes = true, []string{draw("grant scope", "propose:payments", "other")}
		}
		p.Grants, p.Actors = append(p.Grants, g), []string{draw("actor", "1", "2")}
	}
	if req.Action.Name == "call" {
		req.Resource = authz.Party{Type: "tool", ID: draw("tool", "mail", "shell")}
		p.Tool = req.Resource.ID
	} else {
		req.Resource = authz.Party{Type: "payment", ID: draw("payment", "1", "2")}
		req.Resource.Properties = authz.Object{{Name: "supplier", Value: authz.Value{Kind: authz.String, Str: draw("supplier", "acme", "acme", "evil")}}}
		if rapid.IntRange(0, 9).Draw(t, "amount is missing") != 7 {
			amount := rapid.SampledFrom([]float64{50, 4200, 9000}).Draw(t, "amount")
			req.Resource.Properties = append(req.Resource.Properties, authz.Member{Name: "amount", Value: authz.Value{Kind: authz.Number, Num: amount}})
		}
	}
	return q
}

// variant gives a question that differs from q in one thing, as a key has to tell.
func (l *life) variant(q *question) *question {
	other := l.question()
	req, p := q.request.Clone(), *q.principal
	switch from := other.principal; rapid.IntRange(0, 8).Draw(l.t, "another") {
	case 0:
		p.Tenant = from.Tenant
	case 1:
		p.Instance = from.Instance
	case 2:
		p.Session = from.Session
	case 3:
		p.Token = from.Token
	case 4:
		p.IssuedAt = birth.Add(time.Duration(rapid.IntRange(0, 25).Draw(l.t, "issued at")) * time.Second)
	case 5:
		p.Grants, p.Actors = from.Grants, from.Actors
	case 6:
		p.HasScopes, p.Scopes = from.HasScopes, from.Scopes
	case 7:
		if req.Resource.Type == other.request.Resource.Type {
			req.Resource, p.Tool = other.request.Resource, from.Tool
		}
	case 8:
		if req.Subject.Type == other.request.Subject.Type && p.Agent == from.Agent {
			req.Subject, p.User = other.request.Subject, from.User
		}
	}
	return &question{q.caller, req, &p}
}

// observe asks for decisions, mostly for ones asked for before, and holds them and the
// whole of posture against the twin.
func (l *life) observe() {
	synctest.Wait() // what was put into the cache is there
	l.posture()
	if l.n.ready() != nil {
		return // the decision port would answer 503
	}
	l.twin.FeedAge = l.n.feed.Age(l.now())
	for range 4 {
		q := l.again()
		if q == nil {
			fresh := l.question()
			q = &fresh
			if len(l.asked) > 0 && rapid.Bool().Draw(l.t, "a variant") {
				q = l.variant(&l.asked[rapid.IntRange(0, len(l.asked)-1).Draw(l.t, "of")])
			}
			l.asked = append(l.asked, *q)
			if len(l.asked) > 16 {
				l.asked = l.asked[1:]
			}
		}
		l.decide(q)
	}
	if rapid.IntRange(0, 2).Draw(l.t, "batch") == 0 {
		var batch []question
		for range rapid.IntRange(1, 4).Draw(l.t, "items") {
			batch = append(batch, rapid.SampledFrom(l.asked).Draw(l.t, "item"))
		}
		l.batch(batch)
	}
}

// again picks a question that was asked before, or nil.
func (l *life) again() *question {
	if len(l.asked) == 0 || rapid.IntRange(0, 4).Draw(l.t, "another question") == 3 {
		return nil
	}
	return &l.asked[rapid.IntRange(0, len(l.asked)-1).Draw(l.t, "question")]
}

func (l *life) decide(q *question) {
	a := l.n.engine.Decide(q.caller, q.request, q.principal)
	l.judged([]question{*q}, []authz.Answer{a})
	// A fresh evaluation says the same.
	x := l.n.engine.Explain(q.caller, q.request, q.principal)
	if got, want := enginetest.OutcomeOf(a.Decision), enginetest.OutcomeOf(x.Answer.Decision); got != want || x.Answer.At != a.At {
		l.t.Fatalf("decided (%v) %+v\nexplained %+v", a.Cache, got, want)
	}
	if a.Effect == authz.Allow {
		return
	}
	l.tally.denied++
	again := l.n.engine.ExplainAgain(a.Evidence.(*engine.Evidence), q.caller, q.request, q.principal)
	if got, want := enginetest.OutcomeOf(again.Answer.Decision), enginetest.OutcomeOf(a.Decision); got != want {
		l.t.Fatalf("decided %+v\nreplayed %+v", want, got)
	}
}

func (l *life) batch(asked []question) {
	l.tally.batches++
	items := make([]engine.Item, len(asked))
	for i, q := range asked {
		asked[i].caller = gateway
		items[i] = engine.Item{Request: q.request, Principal: q.principal}
	}
	l.judged(asked, l.n.engine.DecideBatch(gateway, items, nil, nil))
}

// judged holds the answers of one call against the twin: all are true of one world.
func (l *life) judged(asked []question, answers []authz.Answer) {
	now := l.now()
	if len(answers) != len(asked) {
		l.t.Fatalf("%d answers to %d questions", len(answers), len(asked))
	}
	for _, a := range answers {
		l.tally.decisions++
		l.tally.codes[a.Code]++
		if a.Cache == authz.Hit {
			l.tally.hits++
		}
		if a.At != now || a.ValidUntil <= now || a.Bundle != l.rules[l.set].set.Digest() {
			l.t.Fatalf("at %v: a decision of %v, valid until %v, by the rules %s", now, a.At, a.ValidUntil, a.Bundle)
		}
		l.newEnough(a.AsOf)
	}
	l.inSomeWorld(func() string {
		for i, q := range asked {
			if got, want := enginetest.OutcomeOf(answers[i].Decision), l.twin.Decide(q.caller, q.request, q.principal, now); got != want {
				return fmt.Sprintf("at %v, item %d of %d, %v\n%+v\n%+v\nthe engine says %+v\n  the twin says %+v\n%s",
					now, i, len(asked), answers[i].Cache, q.request, q.principal, got, want, answers[i].ReasonAdmin)
			}
		}
		return ""
	})
}

// newEnough: a decision names a position that covers every acknowledgement before it.
func (l *life) newEnough(asOf string) {
	log, at, err := signals.ParseAsOf(asOf)
	if err != nil {
		l.t.Fatalf("as of %q: %v", asOf, err)
	}
	if l.newest == "" {
		return
	}
	of, acknowledged, err := signals.ParseAsOf(l.newest)
	if err != nil || log != of || !at.Covers(acknowledged) {
		l.t.Fatalf("as of %v, and %v was acknowledged (%v)", at, acknowledged, err)
	}
}

// posture holds what the store says of every entity against the twin, and finds every
// entity that the store should not know.
func (l *life) posture() {
	now := l.now()
	l.inSomeWorld(func() string {
		for key := range l.twin.Said {
			if wrong := l.twin.Differs(key, now, l.n.posture.Get(key).At(now)); wrong != "" {
				return wrong
			}
		}
		return ""
	})
	known := 0
	for _, n := range l.n.posture.Len() {
		known += n
	}
	said := len(l.twin.Said)
	if l.unsure != nil {
		said += len(l.unsure.about())
	}
	if known > said {
		l.t.Fatalf("the store knows %d entities, and %d were spoken of", known, said)
	}
}

// inSomeWorld calls check once for every outcome that a push of unknown outcome can have
// had: a log takes a batch from its beginning on, at the time of one of the attempts. What
// one check could only have seen in force is in force for good. Where no outcome is unknown
// there is one world.
func (l *life) inSomeWorld(check func() string) {
	if l.unsure == nil {
		if wrong := check(); wrong != "" {
			l.t.Fatal(wrong)
		}
		return
	}
	var all []string
	for n := l.sure; n <= len(l.unsure.statements); n++ {
		for _, heard := range l.unsure.heard(n) {
			restore := l.suppose(l.unsure.statements[:n], heard)
			wrong := check()
			restore()
			if wrong == "" {
				l.sure = n
				return
			}
			all = append(all, wrong)
		}
	}
	l.t.Fatalf("whatever became of the signals of unknown outcome:\n%q", slices.Compact(all))
}

// demanded: whoever demands the position of the last acknowledgement need not wait.
func (l *life) demanded() {
	if err := l.n.feed.WaitFor(context.Background(), l.newest); err != nil {
		l.t.Fatalf("acknowledged as of %s, and then: %v", l.newest, err)
	}
}
