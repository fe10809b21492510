package engine

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

// interposed is a clock between whose readings and their use something else happens, as
// it does to a goroutine that loses its processor just then.
type interposed struct {
	*hand
	then []func() // after the first reading, the second …; one each
}

func (c *interposed) Now() authz.Instant {
	now := c.hand.Now()
	if len(c.then) > 0 {
		f := c.then[0]
		c.then = c.then[1:]
		f()
	}
	return now
}

func withActions(t *testing.T, actions, ruleText string) *rules.Set {
	t.Helper()
	_, set, errs := rules.Load(fstest.MapFS{
		"bundle.yaml": {Data: []byte("vigil: 1\nfiles: [r.yaml]\nprofiles:\n  default: {max_feed_age: 30s}\n")},
		"r.yaml":      {Data: []byte("vigil: 1\nactions: " + actions + "\nrules:\n" + ruleText)},
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return set
}

// Plans are numbered anew in every set, so a key of one set can be another request's key
// in the next. Here "delete", denied by both, has the number in the old set that "alist",
// allowed, has in the new one.
func TestAReloadUnderADecisionGivesItNoOtherActionsAnswer(t *testing.T) {
	const denied = "  - {id: r, effect: deny, on: {actions: [delete]}, when: \"true\"}\n"
	before := withActions(t, "{delete: {}}", denied)
	after := withActions(t, "{alist: {}, delete: {}}", denied+"  - {id: a, effect: allow, on: {actions: [alist]}, when: \"true\"}\n")
	if before.Plan("delete", "invoice", "x").Ordinal != after.Plan("alist", "invoice", "x").Ordinal {
		t.Fatal("the plans have different numbers: the test tests nothing")
	}
	for _, batch := range []bool{false, true} {
		clock := &interposed{hand: newHand()}
		e := newEngine(t, Config{Now: clock.Now})
		store := posture.NewStore()
		store.Apply(start, change(agentKey("a"), register(start, "default")))
		e.Use(before, store)
		req, p := lookRequest("a", "s")
		req.Action.Name = "delete"
		reload := func() {
			e.Use(after, store)
			for range 3 {
				other, op := lookRequest("a", "s")
				other.Action.Name = "alist"
				e.Decide(anyone, other, op)
				e.settle()
			}
		}
		// The key is built of the old basis, and looked for after the reload.
		b := e.basis.Load()
		q := e.inquire(b, anyone, req, p)
		q.buildKey()
		reload()
		if entry, looked := e.cache.Find(q.key); looked != authz.Hit {
			t.Fatal("the other action's answer is not found by this key: the test tests nothing")
		} else if got := e.check(q, entry, clock.Now(), 0); got != authz.MissStale {
			t.Errorf("an entry of another basis: %v", got)
		}
		e.release(q)

		e.Use(before, store)
		clock.then = []func(){reload}
		var a authz.Answer
		if batch {
			a = e.DecideBatch(anyone, []Item{{req, p}}, nil, nil)[0]
		} else {
			a = e.Decide(anyone, req, p)
		}
		if a.Effect == authz.Allow || a.Bundle != after.Digest() {
			t.Errorf("batch %v: %v by %v: old rules and later records are true of no instant", batch, a.Effect, a.Bundle)
		}
	}
}

// A credential that ends between two readings of the clock has ended in the answer that
// is dated by the second.
func TestABatchServesNothingThatExpiredByItsInstant(t *testing.T) {
	clock := &interposed{hand: newHand()}
	e := newEngine(t, Config{Now: clock.Now})
	_, set := load(t, ruleSets[0])
	store := posture.NewStore()
	e.Use(set, store)
	store.Apply(start, change(agentKey("a0"), register(start, "default")))
	warm(t, e, 1)
	req, p := lookRequest("a0", "s")
	p.Expires = start.Add(time.Second)
	clock.then = []func(){func() { clock.Advance(time.Minute) }}
	if a := e.DecideBatch(anyone, []Item{{req, p}}, nil, nil)[0]; a.Effect == authz.Allow && a.At >= p.Expires {
		t.Errorf("%v at %v, and the credential ended at %v", a.Effect, a.At, p.Expires)
	}
}

// The agent is held until the very instant at which the credential ends, so there is no
// instant that allows: an entry made later must not answer for an earlier now.
func TestAnEntryDoesNotAnswerForAnInstantBeforeItWasMade(t *testing.T) {
	clock := &interposed{hand: newHand()}
	e := newEngine(t, Config{Now: clock.Now})
	_, set := load(t, ruleSets[0])
	store := posture.NewStore()
	e.Use(set, store)
	hold := quarantine(start)
	hold.Until = start.Add(time.Minute)
	store.Apply(start, change(agentKey("a0"), register(start, "default"), hold))
	req, p := lookRequest("a0", "s")
	p.Expires = hold.Until
	clock.then = []func(){func() { clock.Advance(2 * time.Minute); warm(t, e, 1) }}
	if a := e.Decide(anyone, req, p); a.Effect == authz.Allow {
		t.Errorf("held until %v, the credential ends then, and yet allowed at %v", hold.Until, a.At)
	}
}

// The software that a request runs on is that of its registrations at the instant of the
// decision, and not at the one that the working memory was last used for.
func TestSoftwareIsThatOfTheInstantOfTheDecision(t *testing.T) {
	clock := newHand()
	e := newEngine(t, Config{Cache: CacheOff, Now: clock.Now})
	_, set := load(t, ruleSets[0])
	store := posture.NewStore()
	e.Use(set, store)
	registered := func(code string, until authz.Instant) posture.Fact {
		f := register(start, "default")
		f.Registration.Code, f.Until = code, until
		return f
	}
	key := func(kind authz.Kind, id string) authz.Key {
		return authz.Ref{Kind: kind, ID: id}.In(authz.DefaultTenant)
	}
	ends := start.Add(time.Minute)
	store.Apply(start, change(agentKey("a"), registered("sha256:old", authz.Forever)))
	store.Apply(start, change(key(authz.KindInstance, "a/1"), registered("sha256:new", ends)))
	store.Apply(start, change(key(authz.KindCode, "sha256:old"), fact(posture.Revoke, "soar", start)))
	req, p := lookRequest("a", "s")
	p.Instance = "a/1"
	decisions := func() []authz.Answer {
		return e.DecideBatch(anyone, []Item{{req, p}, {req, p}}, []authz.Answer{e.Decide(anyone, req, p)}, nil)
	}
	for _, a := range decisions() {
		if a.Effect != authz.Allow {
			t.Errorf("while the instance runs the new code: %s", a.ReasonAdmin)
		}
	}
	clock.Advance(2 * time.Minute)
	for _, a := range decisions() {
		if a.Code != authz.EntityRevoked {
			t.Errorf("after the instance's registration has ended, with the old code revoked: %v", a.Code)
		}
	}
}

// Signals that overtake a reader three times make it ask the store to stand still.
func TestSignalsCannotStarveADecision(t *testing.T) {
	clock := &interposed{hand: newHand()}
	e := newEngine(t, Config{Cache: CacheOff, Now: clock.Now})
	_, set := load(t, ruleSets[0])
	store := posture.NewStore()
	e.Use(set, store)
	store.Apply(start, change(agentKey("a"), register(start, "default")))
	overtake := func() { store.Apply(start, change(agentKey("a"), quarantine(start.Add(time.Duration(serial.Add(1)))))) }
	for name, decide := range map[string]func(*authz.Request, *authz.Principal) authz.Answer{
		"alone": func(r *authz.Request, p *authz.Principal) authz.Answer { return e.Decide(anyone, r, p) },
		"in batch": func(r *authz.Request, p *authz.Principal) authz.Answer {
			return e.DecideBatch(anyone, []Item{{r, p}}, nil, nil)[0]
		},
	} {
		req, p := lookRequest("a", "s")
		// The readings: within each of three tries, and then, while the store stands still,
		// one at which nothing can happen.
		clock.then = []func(){overtake, overtake, overtake, func() {}}
		a := decide(req, p)
		if a.Code != authz.EntityQuarantined {
			t.Errorf("%s: %v", name, a.Code)
		}
		clock.then = nil
	}
}

// Reloads beside decisions: every answer names a set under which it is right.
func TestReloadsBesideDecisions(t *testing.T) {
	clock := newHand()
	e := newEngine(t, Config{CacheEntries: 64, Now: clock.Now})
	sets := map[string]authz.Effect{}
	open := withActions(t, "{look: {}}", "  - {id: all, effect: allow, when: \"true\"}\n")
	closed := withActions(t, "{look: {}, more: {}}", "  - {id: none, effect: deny, when: \"true\"}\n")
	sets[open.Digest()], sets[closed.Digest()] = authz.Allow, authz.Deny
	store := posture.NewStore()
	store.Apply(start, change(agentKey("a"), register(start, "default")))
	e.Use(open, store)
	var done atomic.Bool
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for !done.Load() {
				req, p := lookRequest("a", "s")
				if a := e.Decide(anyone, req, p); a.Effect != sets[a.Bundle] {
					t.Errorf("%v by %v", a.Effect, a.Bundle)
					return
				}
			}
		})
	}
	for range rounds(t, 20_000) {
		e.Use(closed, store)
		e.Use(open, store)
	}
	done.Store(true)
	group.Wait()
}

// TestACachedDecisionAsksHowOldTheViewIs, each time and in batches too: an answer is no
// fresher for being kept.
func TestACachedDecisionAsksHowOldTheViewIs(t *testing.T) {
	var asked, age atomic.Int64
	clock := newHand()
	e := newEngine(t, Config{Now: clock.Now, FeedAge: func(authz.Instant) time.Duration {
		asked.Add(1)
		return time.Duration(age.Load())
	}})
	_, set := load(t, ruleSets[0]) // max_feed_age: 30s
	store := posture.NewStore()
	e.Use(set, store)
	store.Apply(start, change(agentKey("a0"), register(start, "default")))
	warm(t, e, 1)
	req, p := lookRequest("a0", "s")
	ask := func(batch bool) authz.Answer {
		if batch {
			return e.DecideBatch(anyone, []Item{{req, p}}, nil, nil)[0]
		}
		return e.Decide(anyone, req, p)
	}
	for _, batch := range []bool{false, true} {
		age.Store(int64(30 * time.Second))
		before := asked.Load()
		if a := ask(batch); a.Effect != authz.Allow || a.Cache != authz.Hit || asked.Load() != before+1 {
			t.Errorf("batch %v, at the bound: %v %v, asked %d times", batch, a.Effect, a.Cache, asked.Load()-before)
		}
		age.Add(1)
		if a := ask(batch); a.Effect == authz.Allow || a.Class != authz.ClassStale || !strings.Contains(a.ReasonAdmin, "30s old") {
			t.Errorf("batch %v, beyond it: %v %v %s", batch, a.Effect, a.Class, a.ReasonAdmin)
		}
		age.Store(0)
		if a := ask(batch); a.Effect != authz.Allow || a.Cache != authz.Hit {
			t.Errorf("batch %v, fresh again: %v %v", batch, a.Effect, a.Cache)
		}
	}
}
