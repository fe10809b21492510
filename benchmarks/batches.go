package main

import (
	"context"
	"fmt"

	"vigil/authz"
	"vigil/engine"
	"vigil/posture"
	"vigil/rules"
)

// measureBatches decides batches beside the same requests one by one.
func (b *bench) measureBatches(ctx context.Context, set *rules.Set, store *posture.Store, agents int) error {
	items, err := itemsOf(1000, agents)
	if err != nil {
		return err
	}
	for _, mode := range []struct {
		id    string
		cache engine.CacheMode
	}{{"cached", engine.CacheOn}, {"fresh", engine.CacheOff}} {
		h, err := newHouse(set, store, engine.Config{Cache: mode.cache})
		if err != nil {
			return err
		}
		defer h.Close()
		if mode.cache == engine.CacheOn {
			if _, err := h.warm(items); err != nil {
				return err
			}
		}
		for _, size := range []int{10, 100} {
			b.say("process: batches of %d, %s", size, mode.id)
			var answers []authz.Answer
			from, next := 0, 0
			batches := subject{name: "batch", step: size, run: func(n int) {
				// n counts items, so that both subjects count the same.
				for done := 0; done < n; done += size {
					answers = h.DecideBatch(caller, items[from:from+size], answers[:0], nil)
					from = (from + size) % len(items)
				}
			}}
			single := subject{name: "single", run: func(n int) {
				for range n {
					it := &items[next]
					h.Decide(caller, it.Request, it.Principal)
					next = (next + 1) % len(items)
				}
			}}
			times, err := interleave(ctx, b.rounds, batches, single)
			if err != nil {
				return err
			}
			b.add(ratio(fmt.Sprintf("batch.%s.%d", mode.id, size), fmt.Sprintf("a batch of %d, %s, per item", size, mode.id), "one by one", nanoseconds, times[0], times[1], ""))
		}
	}
	return nil
}
