package main

import (
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/posture"
)

// undo has a replica take something back, while a source may have another word elsewhere.
func (h *histories) undo(i int) {
	h.at(i)
	u := h.someUndoing()
	if u == nil {
		h.signal(i)
		return
	}
	time.Sleep(10 * time.Second) // what is dated ahead of one clock is behind another's
	synctest.Wait()
	h.at(i)
	drafts := h.drafts(u)
	if p := (*pushed)(nil); rapid.IntRange(0, 3).Draw(h.t, "meanwhile") == 2 {
		if p = h.interruption(u); p != nil {
			h.push(h.someUp(), p)
			h.keep(p)
			synctest.Wait()
		}
	}
	h.at(i)
	if len(drafts) == 0 {
		h.without(u)()
		return
	}
	p, hopeless := h.undoOf(u, drafts)
	if hopeless {
		h.mustRefuse(p)
		return
	}
	check, back := h.without(u), h.twin.Said
	arrived := h.onTheWay(u)
	receipt, ok := h.send(i, p)
	arrived()
	if !ok {
		if h.nodes[i].behind.Load() == 0 {
			h.t.Fatalf("replica %d does not take back %+v: %s", i, u, p.body) // nothing of it is ahead any more
		}
		return
	}
	h.at(i)
	check()
	h.keep(p)
	for _, key := range u.keys {
		for _, f := range back[key] {
			if u.takes(f) && f.Until > h.now() {
				h.tally.undone(u, f)
			}
		}
	}
	h.demand(receipt.AsOf)
}

// onTheWay looks at every replica after each delivery, until arrived is called: of nobody is
// less in force than before and after, and nothing is allowed that is allowed neither before
// nor after.
func (h *histories) onTheWay(u *undoing) (arrived func()) {
	type view struct {
		of      []*posture.Effective
		answers []authz.Effect
	}
	ways := make([][]view, len(h.nodes))
	asked, begun := slices.Clone(h.asked), time.Now()
	see := func(i int) {
		n, v := h.nodes[i].running, view{}
		for _, key := range u.keys {
			v.of = append(v.of, n.posture.Get(key).At(n.now()))
		}
		for _, q := range asked {
			v.answers = append(v.answers, n.engine.Decide(q.caller, q.request, q.principal).Effect)
		}
		ways[i] = append(ways[i], v)
	}
	for i := range h.nodes {
		if h.up[i] {
			see(i)
			f := func() { see(i) } // by the one goroutine that follows the log for i
			h.nodes[i].delivered.Store(&f)
		}
	}
	return func() {
		synctest.Wait()
		for i := range h.nodes {
			if h.nodes[i].delivered.Swap(nil) == nil || time.Since(begun) > 0 {
				continue // in time something may end, and a view that ages denies
			}
			see(i)
			first, last := ways[i][0], ways[i][len(ways[i])-1]
			for _, v := range ways[i][1 : len(ways[i])-1] {
				h.tally.steps["a look on the way"]++
				for k, e := range v.of {
					if was, is := first.of[k], last.of[k]; lessInForce(e, was, is) {
						h.t.Fatalf("replica %d, %v: less in force on the way than before and after: %s, then %s, then %s", i, u.keys[k], standing(was), standing(e), standing(is))
					}
				}
				for k, effect := range v.answers {
					if effect == authz.Allow && first.answers[k] != authz.Allow && last.answers[k] != authz.Allow {
						h.t.Fatalf("replica %d allows on the way what it allows neither before nor after: %+v", i, asked[k].request)
					}
				}
			}
		}
	}
}

func lessInForce(e, was, is *posture.Effective) bool {
	both := func(of func(*posture.Effective) bool) bool { return of(was) && of(is) && !of(e) }
	return e.Status < min(was.Status, is.Status) || e.Risk < min(was.Risk, is.Risk) ||
		both(func(e *posture.Effective) bool { return e.Tainted }) ||
		both(func(e *posture.Effective) bool { return e.Narrowed }) ||
		both(func(e *posture.Effective) bool { return len(e.ApprovalFor) > 0 })
}

func standing(e *posture.Effective) string {
	return fmt.Sprint(e.Status, " risk ", e.Risk, " tainted ", e.Tainted, " narrowed ", e.Narrowed, " approval for ", e.ApprovalFor)
}
