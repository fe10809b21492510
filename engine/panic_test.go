package engine

import (
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// TestAPanicInTheMiddleOfADecisionLeavesNothingForTheNext lets the clock panic at each place
// where a decision reads it, also where the store stands still for it. What a decision
// works with is used again by the next one, and signals must go on.
func TestAPanicInTheMiddleOfADecisionLeavesNothingForTheNext(t *testing.T) {
	for _, mode := range []CacheMode{CacheOn, CacheOff, CacheVerify} {
		for _, moving := range []bool{false, true} {
			for panicAt, met := 1, true; met; panicAt++ {
				met = panicAtReading(t, mode, moving, panicAt)
				if !met && panicAt == 1 {
					t.Errorf("mode %d, moving %t: the clock was not read", mode, moving)
				}
				if !met && moving && panicAt != standstill+1 {
					t.Errorf("mode %d: the clock was read %d times; the store stands still at the %dth", mode, panicAt-1, standstill)
				}
			}
		}
	}
}

// standstill is the reading for which the store stands still, after three tries to gather
// in vain.
const standstill = 4

// panicAtReading decides about an agent while the clock panics at its nth reading, and
// then about others. It reports false where the clock was not read so often. Where records
// move, each reading before the standstill brings a signal about the agent.
func panicAtReading(t *testing.T, mode CacheMode, moving bool, n int) (met bool) {
	store := posture.NewStore()
	readings := 0
	armed := false
	e := newEngine(t, Config{Cache: mode, Now: func() authz.Instant {
		if armed {
			if readings++; readings == n {
				panic("a fault of the clock")
			}
			if moving && readings < standstill {
				store.Apply(start, change(agentKey("held"), quarantine(start.Add(time.Duration(readings)))))
			}
		}
		return start.Add(time.Second)
	}})
	_, set := load(t, ruleSets[0])
	e.Use(set, store)
	store.Apply(start, change(agentKey("held"), register(start, "default"), quarantine(start)))
	store.Apply(start, change(agentKey("free"), register(start, "default")))

	ask := func(agent string) authz.Answer {
		req, p := lookRequest(agent, "s")
		return e.Decide(anyone, req, p)
	}
	armed = true
	func() {
		defer func() { met = recover() != nil }()
		ask("held")
	}()
	armed = false
	// More than one may have the same memory to work with.
	for range 3 {
		for agent, want := range map[string]authz.Code{"held": authz.EntityQuarantined, "free": authz.Allowed, "nobody": authz.Unregistered} {
			if got := ask(agent); got.Code != want {
				t.Errorf("mode %d, moving %t, panic %d: %s: %s, want %s", mode, moving, n, agent, got.Code, want)
			}
		}
		e.settle()
	}
	store.Apply(start, change(agentKey("free"), quarantine(start)))
	if got := ask("free"); got.Code != authz.EntityQuarantined {
		t.Errorf("mode %d, moving %t, panic %d: after a signal: %s", mode, moving, n, got.Code)
	}
	return met
}
