package engine

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/engine/enginetest"
	"vigil/posture"
	"vigil/rules"
)

// history is one long random life of an engine: signals of all kinds on all kinds of
// entity, requests, reloads, expiries, restarts from snapshots. After each step some
// requests are decided, mostly ones decided before, so that the cache answers.
type history struct {
	t      *rapid.T
	clock  *hand
	engine *Engine
	store  *posture.Store
	set    *rules.Set
	twin   *enginetest.Twin
	dated  map[string]authz.Instant // when each source was heard by the log

	asked  []question
	serial int
	hits   int
	waived int                // decisions that rest on an exception
	codes  map[authz.Code]int // of all decisions
}

type question struct {
	caller    *authz.Caller
	request   *authz.Request
	principal *authz.Principal
}

var sources = []string{"client:soar", "client:siem", "client:platform"}

func (h *history) entity() authz.Key {
	kind := rapid.SampledFrom(authz.Kinds()).Draw(h.t, "kind")
	if kind != authz.KindSource && kind >= authz.KindTenant && rapid.IntRange(0, 3).Draw(h.t, "about all") > 0 || rapid.IntRange(0, 2).Draw(h.t, "about the agent") == 0 {
		kind = authz.KindAgent
	}
	if rapid.IntRange(0, 9).Draw(h.t, "about a source") == 7 {
		kind = authz.KindSource
	}
	id := map[authz.Kind][]string{
		authz.KindTool: {"mail", "shell"}, authz.KindTenant: {authz.DefaultTenant}, authz.KindEverything: {""},
		authz.KindCode: {"sha256:c0"}, authz.KindModel: {"sha256:m0"}, authz.KindSource: sources[:2],
	}[kind]
	if id == nil {
		id = []string{"1", "2"}
	}
	return authz.Ref{Kind: kind, ID: rapid.SampledFrom(id).Draw(h.t, "id")}.In(authz.DefaultTenant)
}

// instantNear draws a time about now, with collisions.
func (h *history) instantNear(label string) authz.Instant {
	return h.clock.Now().Add(time.Duration(rapid.IntRange(-20, 3).Draw(h.t, label)) * time.Second)
}

func (h *history) fact(key authz.Key) posture.Fact {
	facets := []posture.Facet{
		posture.Registration, posture.Registration, posture.Hold, posture.Hold, posture.Hold, posture.Risk, posture.Risk, posture.Risk,
		posture.Attest, posture.Attest, posture.Attest, posture.Taint, posture.ApprovalRequired, posture.Narrow,
		posture.Lift, posture.Lift, posture.Lift,
	}
	if key.Kind == authz.KindSource {
		facets = []posture.Facet{posture.Waive, posture.Waive, posture.Waive, posture.Lift}
	}
	if rapid.IntRange(0, 69).Draw(h.t, "final") == 37 { // rare, for little comes after them; small numbers are drawn more often
		facets = []posture.Facet{posture.Revoke, posture.Decommission, posture.IssuedBefore, posture.UnreadableSignal}
	}
	f := posture.Fact{
		Facet:  rapid.SampledFrom(facets).Draw(h.t, "facet"),
		Source: rapid.SampledFrom(sources).Draw(h.t, "source"),
		ID:     fmt.Sprint("sig-", h.serial),
		Time:   h.instantNear("time"), Until: authz.Forever,
	}
	h.serial++
	if rapid.Bool().Draw(h.t, "ends") {
		f.Until = h.clock.Now().Add(time.Duration(rapid.IntRange(1, 40).Draw(h.t, "for")) * time.Second)
	}
	switch f.Facet {
	case posture.Registration:
		f.Time += authz.Instant(h.serial) // of two equally new ones a hash decides, which the twin has not
		if rapid.IntRange(0, 3).Draw(h.t, "registration ends") > 0 {
			f.Until = authz.Forever
		}
		f.Registration = &posture.Registered{
			Class:  rapid.SampledFrom([]string{"default", "default", "default", "careful", "careful", "undeclared"}).Draw(h.t, "class"),
			Labels: map[string]string{"role": rapid.SampledFrom([]string{"reader", "writer"}).Draw(h.t, "role")},
			Scopes: []string{"propose:payments"}, Code: "sha256:c0",
		}
	case posture.Hold:
		f.Held = rapid.IntRange(0, 3).Draw(h.t, "held") == 0
	case posture.Risk:
		f.Risk = rapid.SampledFrom([]int{0, 20, 60, 95}).Draw(h.t, "risk")
	case posture.Attest:
		f.Passed = rapid.IntRange(0, 3).Draw(h.t, "passed") > 0
		f.Until = authz.Forever
	case posture.ApprovalRequired:
		f.Actions = []string{rapid.SampledFrom([]string{"*", "pay", "call"}).Draw(h.t, "approve")}
	case posture.Narrow:
		f.Scopes = rapid.SampledFrom([][]string{nil, {"propose:payments"}}).Draw(h.t, "left")
	case posture.Revoke, posture.Decommission:
		f.Until = authz.Forever
		if key.Kind == authz.KindEverything || key.Kind == authz.KindTenant {
			f.Facet, f.Held = posture.Hold, false // not the end of the whole history
		}
	case posture.IssuedBefore:
		f.Cutoff, f.Until = start.Add(time.Duration(rapid.IntRange(0, 20).Draw(h.t, "cutoff"))*time.Second), authz.Forever
	case posture.Lift, posture.UnreadableSignal:
		target := posture.Target{Facet: posture.Taint, Source: f.Source, ID: "none"}
		for _, said := range h.twin.Said[key] {
			switch said.Facet {
			case posture.Taint, posture.Narrow, posture.ApprovalRequired, posture.UnreadableSignal, posture.Waive:
				target = posture.Target{Facet: said.Facet, Source: said.Source, ID: said.ID}
			}
		}
		if f.Facet == posture.Lift {
			f.Lifts = &target
		}
		f.Until = authz.Forever
	}
	return f
}

// signal says one thing of one to three entities at one instant.
func (h *history) signal() {
	var changes []posture.Change
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(h.t, "entities") {
		key := h.entity()
		if slices.ContainsFunc(changes, func(c posture.Change) bool { return c.Key == key }) {
			continue
		}
		changes = append(changes, posture.Change{Key: key, Facts: []posture.Fact{h.fact(key)}})
	}
	h.store.Apply(h.clock.Now(), changes)
	for _, c := range changes {
		h.twin.Said[c.Key] = append(h.twin.Said[c.Key], c.Facts...)
	}
}

// hear lets a source speak at now or a little before or after, as logs date.
func (h *history) hear() {
	source := rapid.SampledFrom(sources).Draw(h.t, "speaks")
	now := h.clock.Now()
	at := now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 0, -5, 2}).Draw(h.t, "heard")) * time.Second)
	h.store.Hear(source, at, now)
	h.dated[source] = max(h.dated[source], at)
	h.twin.Heard[source] = max(h.twin.Heard[source], min(at, now)) // a log that is ahead keeps nobody alive
}

func (h *history) reload() {
	h.use(rapid.IntRange(0, len(loaded)-1).Draw(h.t, "rule set"))
}

func (h *history) use(i int) {
	h.set, h.twin.Rules = loaded[i].set, loaded[i].plain
	h.engine.Use(h.set, h.store)
}

// restart replaces the store by what a snapshot of it gives, which learns of what was dated
// ahead only now.
func (h *history) restart() {
	var b bytes.Buffer
	now := h.clock.Now()
	if err := h.store.WriteSnapshot(&b, now); err != nil {
		h.t.Fatal(err)
	}
	store, err := posture.ReadSnapshot(&b, now)
	if err != nil {
		h.t.Fatal(err)
	}
	if store.Digest(now) != h.store.Digest(now) {
		h.t.Fatal("a snapshot has another digest than its store")
	}
	h.store = store
	for source, at := range h.dated {
		h.twin.Heard[source] = min(at, now)
	}
	h.engine.Use(h.set, store)
}

func (h *history) question() question {
	t := h.t
	draw := func(label string, ids ...string) string { return rapid.SampledFrom(ids).Draw(t, label) }
	req := &authz.Request{Action: authz.Action{Name: draw("action", "pay", "pay", "pay", "look", "look", "call", "call", "call", "fly")}}
	p := &authz.Principal{
		Tenant:  authz.DefaultTenant,
		Agent:   draw("agent", "1", "1", "2"),
		Session: draw("session", "", "1", "2"),
		Token:   draw("token", "", "1"),
	}
	caller := anyone
	switch draw("subject", "agent", "user", "user", "service") {
	case "agent":
		req.Subject = authz.Party{Type: "agent", ID: p.Agent}
	case "user":
		p.User = draw("user", "1", "2")
		req.Subject = authz.Party{Type: "user", ID: p.User}
		if role := draw("role", "", "clerk"); role != "" {
			req.Subject.Properties = append(req.Subject.Properties, authz.Member{Name: "role", Value: text(role)})
		}
		if level := draw("level", "", "1", "3", "wrong"); level != "" {
			v := text(level)
			if level != "wrong" {
				v = number(float64(level[0] - '0'))
			}
			req.Subject.Properties = append(req.Subject.Properties, authz.Member{Name: "level", Value: v})
		}
	case "service":
		p.User, p.Agent = "1", draw("agent", "", "1")
		req.Subject = authz.Party{Type: "service", ID: "1"}
		caller = &authz.Caller{Name: "service", Tenants: anyone.Tenants, Agentless: []string{"service"}}
		if rapid.Bool().Draw(t, "not agentless") {
			caller = anyone
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "scoped") > 0 {
		p.HasScopes, p.Scopes = true, []string{draw("scope", "propose:payments", "propose:payments", "propose:payments", "other")}
	}
	if rapid.Bool().Draw(t, "issued") {
		p.IssuedAt = start.Add(time.Duration(rapid.IntRange(-1, 25).Draw(t, "issued at")) * time.Second)
	}
	if rapid.IntRange(0, 5).Draw(t, "expires") == 4 {
		p.Expires = h.clock.Now().Add(time.Duration(rapid.IntRange(-1, 90).Draw(t, "expires at")) * time.Second)
	}
	if rapid.IntRange(0, 3).Draw(t, "delegated") == 0 {
		g := authz.Delegation{ID: draw("grant", "1", "2")}
		if rapid.Bool().Draw(t, "grant scoped") {
			g.HasScopes, g.Scopes = true, []string{draw("grant scope", "propose:payments", "other")}
		}
		p.Grants = append(p.Grants, g)
		p.Actors = []string{draw("actor", "1", "2")}
	}
	if req.Action.Name == "call" || rapid.IntRange(0, 4).Draw(t, "tool") == 0 {
		req.Resource = authz.Party{Type: "tool", ID: draw("tool id", "mail", "shell")}
		p.Tool = req.Resource.ID
		if arg := draw("arg", "", "ls", "rm"); arg != "" {
			req.Resource.Properties = authz.Object{{Name: "arg", Value: text(arg)}}
		}
	} else {
		req.Resource = authz.Party{Type: "payment", ID: draw("payment", "inv-1", "inv-2")}
		amount := number(rapid.SampledFrom([]float64{50, 4200, 9000}).Draw(t, "amount"))
		if rapid.IntRange(0, 9).Draw(t, "amount is text") == 0 {
			amount = text("4200")
		}
		req.Resource.Properties = authz.Object{{Name: "supplier", Value: text(draw("supplier", "acme", "acme", "evil"))}}
		if rapid.IntRange(0, 9).Draw(t, "amount is missing") > 0 {
			req.Resource.Properties = append(req.Resource.Properties, authz.Member{Name: "amount", Value: amount})
		}
	}
	// What nothing reads may differ from call to call.
	req.Context = authz.Object{{Name: "trace", Value: number(float64(h.serial))}}
	return question{caller, req, p}
}

func (h *history) decide() {
	for range 4 {
		var q question
		if len(h.asked) > 0 && rapid.IntRange(0, 3).Draw(h.t, "again") > 0 {
			q = rapid.SampledFrom(h.asked).Draw(h.t, "which")
		} else {
			q = h.question()
			h.asked = append(h.asked, q)
			if len(h.asked) > 30 {
				h.asked = h.asked[1:]
			}
		}
		a := h.engine.Decide(q.caller, q.request, q.principal)
		if a.Cache == authz.Hit {
			h.hits++
		}
		h.compare(q, a)
	}
	h.engine.settle()
	if len(h.asked) > 3 && rapid.IntRange(0, 3).Draw(h.t, "batch") == 0 {
		var items []Item
		batch := h.asked[len(h.asked)-3:]
		for _, q := range batch {
			items = append(items, Item{Request: q.request, Principal: q.principal})
		}
		for i, a := range h.engine.DecideBatch(anyone, items, nil, nil) {
			h.compare(question{anyone, batch[i].request, batch[i].principal}, a)
		}
	}
}

func (h *history) compare(q question, a authz.Answer) {
	h.codes[a.Code]++
	if len(a.Waived) > 0 {
		h.waived++
	}
	now := h.clock.Now()
	if got, want := enginetest.OutcomeOf(a.Decision), h.twin.Decide(q.caller, q.request, q.principal, now); got != want {
		h.t.Fatalf("at %v, %v\n%+v\n%+v\nthe engine says %+v\n  the twin says %+v\n%s", now, a.Cache, q.request, q.principal, got, want, a.ReasonAdmin)
	}
	if a.ValidUntil <= now {
		h.t.Fatalf("a decision of %v is valid until %v", now, a.ValidUntil)
	}
	// C9: the evidence gives the same decision again.
	if a.Effect != authz.Allow {
		again := h.engine.ExplainAgain(a.Evidence.(*Evidence), q.caller, q.request, q.principal)
		if enginetest.OutcomeOf(again.Answer.Decision) != enginetest.OutcomeOf(a.Decision) {
			h.t.Fatalf("decided %+v, replayed %+v", enginetest.OutcomeOf(a.Decision), enginetest.OutcomeOf(again.Answer.Decision))
		}
	}
}

type loadedRules struct {
	set   *rules.Set
	plain *enginetest.Rules
}

var loaded []loadedRules

// C2, and C5, C7 and C9 along the way: over long random histories every decision,
// cached or not, is what the twin says, for the same reasons.
func TestEveryDecisionIsWhatTheTwinDecides(t *testing.T) {
	if loaded == nil {
		for _, under := range []string{manifest, monitored} {
			for _, text := range ruleSets {
				bundle, set := loadUnder(t, under, text)
				plain, err := enginetest.Plain(bundle)
				if err != nil {
					t.Fatal(err)
				}
				loaded = append(loaded, loadedRules{set, plain})
			}
		}
	}
	hits, lives, waived, codes := 0, 0, 0, map[authz.Code]int{}
	rapid.Check(t, func(t *rapid.T) {
		h := &history{t: t, clock: newHand(), store: posture.NewStore(), codes: codes, dated: map[string]authz.Instant{}, twin: &enginetest.Twin{
			Said: map[authz.Key][]posture.Fact{}, Heard: map[string]authz.Instant{}}}
		e, err := New(Config{
			Now:          h.clock.Now,
			CacheEntries: rapid.SampledFrom([]int{1, 3, 1000, 1000}).Draw(t, "cache entries"),
			FeedAge:      func(authz.Instant) time.Duration { return h.twin.FeedAge },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		h.engine = e
		h.reload()
		for _, id := range []string{"1", "2"} {
			f := register(start, "default")
			f.Registration.Code = "sha256:c0"
			h.store.Apply(start, change(agentKey(id), f))
			h.twin.Said[agentKey(id)] = append(h.twin.Said[agentKey(id)], f)
		}
		for range rapid.IntRange(10, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 23).Draw(t, "step") {
			default:
				h.signal()
			case 11, 12, 13, 14:
				h.clock.Advance(time.Duration(rapid.SampledFrom([]int{1, 5, 20, 61, 400}).Draw(t, "seconds")) * time.Second)
			case 15:
				h.reload()
			case 16:
				h.restart()
			case 17:
				h.store.Prune(h.clock.Now())
			case 18, 19:
				h.twin.FeedAge = time.Duration(rapid.SampledFrom([]int{0, 0, 0, 15, 60}).Draw(t, "feed age")) * time.Second
			}
			if rapid.Bool().Draw(t, "somebody speaks") {
				h.hear()
			}
			h.decide()
		}
		hits += h.hits
		waived += h.waived
		lives++
	})
	t.Logf("%d histories, %d decisions from the cache, %d that an exception let pass, by reason %v", lives, hits, waived, codes)
	if codes[authz.SourceSilent] < lives/10 || waived < lives/20 {
		t.Errorf("only %d decisions for a silence, and %d with one waived, in %d histories", codes[authz.SourceSilent], waived, lives)
	}
	if hits < lives {
		t.Errorf("only %d hits in %d histories: the cache was hardly tested", hits, lives)
	}
}
