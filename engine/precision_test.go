package engine

import (
	"fmt"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// warm decides for every agent until all answers come from the cache.
func warm(t *testing.T, e *Engine, agents int) {
	t.Helper()
	for range 10 {
		misses := 0
		for i := range agents {
			req, p := lookRequest(fmt.Sprint("a", i), "s")
			if e.Decide(anyone, req, p).Cache != authz.Hit {
				misses++
			}
		}
		e.settle()
		if misses == 0 {
			return
		}
	}
	t.Fatal("the cache does not get warm")
}

func hits(e *Engine, agents int, skip string) (hit, missed int) {
	for i := range agents {
		id := fmt.Sprint("a", i)
		if id == skip {
			continue
		}
		req, p := lookRequest(id, "s")
		if e.Decide(anyone, req, p).Cache == authz.Hit {
			hit++
		} else {
			missed++
		}
	}
	return hit, missed
}

// C3: a signal about one entity costs no other a recomputation.
func TestASignalAboutOneAgentLeavesEveryOtherAnswerCached(t *testing.T) {
	const agents = 200
	clock := newHand()
	e := newEngine(t, Config{Now: clock.Now})
	_, set := load(t, ruleSets[0])
	store := posture.NewStore()
	e.Use(set, store)
	for i := range agents {
		store.Apply(start, change(agentKey(fmt.Sprint("a", i)), register(start, "default")))
	}
	warm(t, e, agents)

	for i := range agents {
		id := fmt.Sprint("a", i)
		store.Apply(start, change(agentKey(id), quarantine(start.Add(1))))
		if _, missed := hits(e, agents, id); missed > 0 {
			t.Fatalf("a signal about %s cost %d other answers", id, missed)
		}
		req, p := lookRequest(id, "s")
		if a := e.Decide(anyone, req, p); a.Cache == authz.Hit || a.Code != authz.EntityQuarantined {
			t.Fatalf("%s: %v %v", id, a.Cache, a.Code)
		}
		e.settle()
		req, p = lookRequest(id, "s")
		e.Decide(anyone, req, p)
		e.settle()
	}
}

// A birth may cost the answers whose absent entities share a counter with it, and no
// other. The answers here share one absent session, so a collision costs all of them
// at once; among a million counters few of the births can.
func TestABirthCostsOnlyWhatSharesItsCounter(t *testing.T) {
	const agents, births = 20, 2000
	clock := newHand()
	e := newEngine(t, Config{Now: clock.Now})
	_, set := load(t, ruleSets[0])
	store := posture.NewStore()
	e.Use(set, store)
	for i := range agents {
		store.Apply(start, change(agentKey(fmt.Sprint("a", i)), register(start, "default")))
	}
	warm(t, e, agents)
	lost := 0
	for i := range births {
		store.Apply(start, change(agentKey(fmt.Sprint("newborn", i)), register(start, "default")))
		if _, missed := hits(e, agents, ""); missed > 0 {
			lost++
			warm(t, e, agents)
		}
	}
	// Each answer leaves out a handful of absent entities; 20 collisions in 2,000
	// births would be a thousand times what a million counters give.
	t.Logf("%d of %d births met a counter in use", lost, births)
	if lost > 20 {
		t.Errorf("%d of %d births cost answers about others", lost, births)
	}

	// And a birth of what an answer found absent costs that answer.
	store.Apply(start, change(sessionKey("s"), quarantine(start)))
	if hit, _ := hits(e, agents, ""); hit > 0 {
		t.Errorf("%d answers survived the birth of a session that they name", hit)
	}
}

func TestACachedDecisionEndsWhenAFactDoes(t *testing.T) {
	clock := newHand()
	e := newEngine(t, Config{Now: clock.Now})
	_, set := load(t, ruleSets[0])
	store := posture.NewStore()
	e.Use(set, store)
	hold := quarantine(start)
	hold.Until = start.Add(time.Minute)
	store.Apply(start, change(agentKey("a0"), register(start, "default"), hold))
	warm(t, e, 1)
	ask := func() authz.Answer {
		req, p := lookRequest("a0", "s")
		return e.Decide(anyone, req, p)
	}
	clock.Advance(time.Minute - 1)
	if a := ask(); a.Cache != authz.Hit || a.Code != authz.EntityQuarantined || a.ValidUntil != hold.Until {
		t.Errorf("a nanosecond before the end: %v %v until %v", a.Cache, a.Code, a.ValidUntil)
	}
	clock.Advance(1)
	if a := ask(); a.Cache != authz.MissExpired || a.Effect != authz.Allow {
		t.Errorf("at the end: %v %v", a.Cache, a.Code)
	}
}

func TestReloadedRulesDecideAtOnce(t *testing.T) {
	clock := newHand()
	e := newEngine(t, Config{Now: clock.Now})
	_, open := load(t, ruleSets[0])
	_, closed := load(t, `
  - {id: nothing, effect: deny, when: "true"}
`)
	store := posture.NewStore()
	e.Use(open, store)
	store.Apply(start, change(agentKey("a0"), register(start, "default")))
	warm(t, e, 1)
	e.Use(closed, store)
	req, p := lookRequest("a0", "s")
	if a := e.Decide(anyone, req, p); a.Cache == authz.Hit || a.Code != authz.DeniedByRule || a.Bundle != closed.Digest() {
		t.Errorf("%v %v %v", a.Cache, a.Code, a.Bundle)
	}
}

func TestAHitDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("sync.Pool drops things at random under the race detector")
	}
	e := newEngine(t, Config{Now: newHand().Now})
	_, set := load(t, ruleSets[0])
	store := posture.NewStore()
	e.Use(set, store)
	store.Apply(start, change(agentKey("a0"), register(start, "default")))
	warm(t, e, 1)
	req, p := lookRequest("a0", "s")
	if n := testing.AllocsPerRun(1000, func() { e.Decide(anyone, req, p) }); n > 0.1 {
		t.Errorf("%v allocations per cached decision", n)
	}
}
