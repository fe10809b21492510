package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"vigil/engine"
	"vigil/posture"
	"vigil/rules"
)

// measureAgents decides beside ten thousand agents and beside many more, and looks at what
// they cost: memory, and the collector's pauses.
func (b *bench) measureAgents(ctx context.Context) error {
	_, set, err := loadBundle(policyFiles())
	if err != nil {
		return err
	}
	const few = 10_000
	many := choose(b, 100_000, 1_000_000)
	var stores []*posture.Store
	sizes := []int{few, many}
	if b.full {
		sizes = []int{few, 100_000, many}
	}
	for _, n := range sizes {
		b.say("agents: registering %s", thousands(float64(n)))
		before := heap()
		stores = append(stores, newFleet(n))
		if n == many {
			b.add(alone("agents.heap", "heap per idle agent, "+thousands(float64(n))+" of them", byteCount, float64(heap()-before)/float64(n),
				"registered with class, labels, scopes and digests"))
		}
	}
	if err := b.compareAgents(ctx, set, stores, sizes); err != nil {
		return err
	}
	return b.measurePauses(ctx, set, stores[len(stores)-1], many)
}

// heap is what is in use after a collection, in bytes.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// compareAgents decides fresh and cached. As many requests are asked for whatever the
// number of agents, spread over all of them: what is busy stays as large, what is idle
// grows. A further row asks about all agents alike, which no processor cache holds.
func (b *bench) compareAgents(ctx context.Context, set *rules.Set, stores []*posture.Store, sizes []int) error {
	plot := Series{ID: "agents", Title: "Nanoseconds of one decision, by number of agents", X: "agents", Y: "ns", LogX: true, LogY: true}
	last := len(sizes) - 1
	label := thousands(float64(sizes[last]))
	for _, way := range []struct {
		id, what string
		cache    engine.CacheMode
		every    bool // ask about every agent alike
	}{
		{"agents.fresh", "fresh, 10,000 busy agents by Zipf 1.1", engine.CacheOff, false},
		{"agents.cached", "cached, 10,000 busy agents by Zipf 1.1", engine.CacheOn, false},
		{"agents.cold", "fresh, all agents alike", engine.CacheOff, true},
	} {
		var subjects []subject
		line := Line{Name: way.what}
		for i, n := range sizes {
			b.say("agents: %s, %s", way.what, thousands(float64(n)))
			h, err := newHouse(set, stores[i], engine.Config{Cache: way.cache})
			if err != nil {
				return err
			}
			defer h.Close()
			busy, order := 10_000, byPopularity(10_000)
			if way.every {
				busy = min(n, orders)
				order = evenly(busy)
			}
			items, err := itemsOf(busy, n)
			if err != nil {
				return err
			}
			if way.cache == engine.CacheOn {
				if _, err := h.warm(items); err != nil {
					return err
				}
			}
			subjects = append(subjects, h.deciding(way.what, items, order))
		}
		times, err := interleave(ctx, b.rounds, subjects...)
		if err != nil {
			return err
		}
		for i, n := range sizes {
			line.Points = append(line.Points, Point{float64(n), median(times[i])})
		}
		plot.Lines = append(plot.Lines, line)
		note := ""
		if way.every {
			note = fmt.Sprintf("%s of them in an order that no processor cache follows, their requests with them", thousands(float64(min(sizes[last], orders))))
		}
		b.add(ratio(way.id, label+" agents: "+way.what, "10,000 agents", nanoseconds, times[last], times[0], note))
	}
	b.plot(plot)
	return nil
}

// measurePauses decides freshly, which makes garbage, and looks at how long the collector
// stopped everything, and at the slowest decision.
func (b *bench) measurePauses(ctx context.Context, set *rules.Set, store *posture.Store, agents int) error {
	h, err := newHouse(set, store, engine.Config{Cache: engine.CacheOff})
	if err != nil {
		return err
	}
	defer h.Close()
	items, err := itemsOf(10_000, agents)
	if err != nil {
		return err
	}
	b.say("agents: pauses of the collector")
	order := byPopularity(len(items))
	before := pauses()
	var slow latencies
	for begin, i := time.Now(), 0; time.Since(begin) < choose(b, 2*time.Second, 10*time.Second) && ctx.Err() == nil; i++ {
		if i%20_000 == 0 {
			go runtime.GC() // fresh decisions alone would make too little garbage for many cycles
		}
		it := &items[order[i&(orders-1)]]
		started := time.Now()
		h.Decide(caller, it.Request, it.Principal)
		slow.add(time.Since(started))
	}
	count, longest := pauses().since(before)
	b.add(alone("gc.pause", "longest pause of the collector, "+thousands(float64(agents))+" agents", nanoseconds, longest*1e9,
		fmt.Sprintf("the upper end of the runtime's bucket; %d pauses", count)))
	b.add(alone("gc.p9999", "fresh decisions meanwhile, p99.99", nanoseconds, float64(slow.quantile(.9999)), "one goroutine; other users of the machine are in it"))
	return nil
}
