package main

import (
	"context"
	"fmt"
	"strings"

	"vigil/authz"
	"vigil/authzen"
	"vigil/engine"
	"vigil/identity"
	"vigil/posture"
	"vigil/rules"
)

// measureProcess decides requests in this process: parsed and cached, parsed and fresh,
// and whole from JSON to JSON, each beside one raw evaluation of the policy.
func (b *bench) measureProcess(ctx context.Context) error {
	yardstick, err := newRaw()
	if err != nil {
		return err
	}
	_, set, err := loadBundle(policyFiles())
	if err != nil {
		return err
	}
	const agents = 10_000
	store := newFleet(agents)
	for _, hot := range []int{16, 10_000} {
		if err := b.measureCached(ctx, yardstick, set, store, hot, agents); err != nil {
			return err
		}
	}
	return b.measureFresh(ctx, yardstick, set, store, agents)
}

func (b *bench) measureCached(ctx context.Context, yardstick *raw, set *rules.Set, store *posture.Store, hot, agents int) error {
	h, err := newHouse(set, store, engine.Config{})
	if err != nil {
		return err
	}
	defer h.Close()
	items, err := itemsOf(hot, agents)
	if err != nil {
		return err
	}
	kept, err := h.warm(items)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("asked for evenly; the cache kept %s of %s", thousands(float64(len(kept))), thousands(float64(hot)))
	items, order := kept, evenly(len(kept))
	if hot > 1000 {
		order = byPopularity(len(kept))
		note = strings.Replace(note, "evenly", "by Zipf 1.1", 1)
	}
	id := fmt.Sprintf("cached.%d", hot)
	what := fmt.Sprintf("cached, parsed, %s hot entries", thousands(float64(hot)))
	b.say("process: %s", what)
	times, err := interleave(ctx, b.rounds, h.deciding(what, items, order), yardstick.subject())
	if err != nil {
		return err
	}
	b.add(ratio(id, what, "one raw cel-go evaluation", nanoseconds, times[0], times[1], note))
	b.add(alone(id+".allocs", what+": allocations", allocated, allocations(20_000, func(i int) {
		it := &items[order[i&(orders-1)]]
		h.Decide(caller, it.Request, it.Principal)
	}), ""))
	if hot == 16 {
		return b.measureJSON(ctx, yardstick, h, items)
	}
	return nil
}

// measureJSON is all that a server does for a cached decision but HTTP itself.
func (b *bench) measureJSON(ctx context.Context, yardstick *raw, h *house, items []engine.Item) error {
	var decoder authzen.Decoder
	var principal authz.Principal
	mapping := identity.DefaultMapping()
	bodies := make([][]byte, len(items))
	for i := range bodies {
		bodies[i] = bodyOf(i*(10_000/len(items)), i)
	}
	out, i := make([]byte, 0, 4096), 0
	var failed error
	whole := subject{name: "whole", run: func(n int) {
		for range n {
			request, err := decoder.Evaluation(bodies[i%len(bodies)])
			if err != nil {
				failed = err
				return
			}
			i++
			mapping.Principal(caller, request, &principal)
			out = authzen.AppendDecision(out[:0], h.Decide(caller, request, &principal), false)
		}
	}}
	times, err := interleave(ctx, b.rounds, whole, yardstick.subject())
	if err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	b.add(ratio("json.16", fmt.Sprintf("cached, from JSON (%d bytes) to JSON, 16 hot entries", len(bodies[0])), "one raw cel-go evaluation", nanoseconds, times[0], times[1],
		"decode, principal, decide, encode: what a server does besides HTTP"))
	b.add(alone("json.16.allocs", "cached, from JSON to JSON: allocations", allocated, allocations(10_000, func(int) { whole.run(1) }), ""))
	return failed
}

// measureFresh decides without a cache: the rules alone, which is what the yardstick does,
// and the whole decision with its gates and its look-ups of every entity.
func (b *bench) measureFresh(ctx context.Context, yardstick *raw, set *rules.Set, store *posture.Store, agents int) error {
	h, err := newHouse(set, store, engine.Config{Cache: engine.CacheOff})
	if err != nil {
		return err
	}
	defer h.Close()
	items, err := itemsOf(16, agents)
	if err != nil {
		return err
	}
	frame := &rules.Frame{Request: items[0].Request, Now: h.clock.Now()}
	frame.Standings[authz.KindAgent] = &authz.Standing{ID: agentID(0), Registered: true, Class: "high-high", Risk: 20,
		Labels: map[string]string{"role": "invoice-agent", "team": "team-1"}}
	evaluate := func(n int) {
		for range n {
			set.Plan("pay", "payment", frame.Request.Resource.ID).Evaluate(frame, "high-high")
		}
	}
	if v := set.Plan("pay", "payment", frame.Request.Resource.ID).Evaluate(frame, "high-high"); v.Effect != authz.Allow {
		return fmt.Errorf("the twelve rules do not allow: %v", v)
	}
	b.say("process: fresh, 12 rules")
	order := evenly(len(items))
	times, err := interleave(ctx, b.rounds, subject{name: "rules", run: evaluate}, h.deciding("fresh", items, order), yardstick.subject())
	if err != nil {
		return err
	}
	b.add(ratio("fresh.rules", "fresh, 12 rules, 5 candidates: the rules", "one raw cel-go evaluation", nanoseconds, times[0], times[2],
		"plan, conditions, verdict"))
	b.add(ratio("fresh.decision", "fresh, 12 rules, 5 candidates: the whole decision", "one raw cel-go evaluation", nanoseconds, times[1], times[2],
		"besides the rules: the records of every entity read at one instant, gates, the decision made"))
	b.add(alone("fresh.decision.allocs", "fresh, the whole decision: allocations", allocated, allocations(5_000, func(i int) {
		it := &items[i%len(items)]
		h.Decide(caller, it.Request, it.Principal)
	}), ""))
	return b.measureBatches(ctx, set, store, agents)
}
