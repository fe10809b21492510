package history

import "slices"

// maxPending bounds the signals whose force is undecided while one decision runs, and
// maxWorlds the sets of them that may have been in force, all of which are tried. A
// decision beside more is counted as undecided.
const (
	maxPending = 64
	maxWorlds  = 4096
)

// frame is everything that can explain one decision.
type frame struct {
	c       *Checker
	d       *Decision
	signals []*signal // what touches the decision's entities and was begun before it ended
	must    []*signal // those of them in force before it started
	pending []*signal // the others
	need    []uint64  // for each pending one, those that come before it
	sets    []uint64  // the sets of pending ones that may have been in force
	base    []*signal // what has been in force for long
	sources []string  // those of the decision's entities that are required
	moments []moment  // the instants at which time alone may change the answer

	crowded   bool // more sources than maxSources
	undecided bool
}

func (c *Checker) frame(d *Decision) *frame {
	w := &frame{c: c, d: d}
	var times []Time
	during := func(at Time) {
		if at > d.Start && at <= d.End && !slices.Contains(times, at) {
			times = append(times, at)
		}
	}
	for i := range d.Items {
		for _, ref := range d.Items[i].Entities {
			e := c.entities[ref]
			if e == nil {
				continue
			}
			e.fold(d.Start)
			w.base = append(w.base, e.base...)
			for _, s := range e.recent {
				if s.Begun <= d.End && !slices.Contains(w.signals, s) {
					w.signals = append(w.signals, s)
				}
			}
			for _, s := range slices.Concat(e.base, e.recent) {
				during(s.Until)
			}
		}
	}
	uncertain := w.require(during)
	w.moments = momentsOf(append(times, d.Start), uncertain)
	w.sort()
	return w
}

// sort parts the signals into those in force for certain and those that may be.
func (w *frame) sort() {
	w.must, w.pending = w.must[:0], w.pending[:0]
	for _, s := range w.signals {
		if s.inForce() <= w.d.Start {
			w.must = append(w.must, s)
		} else {
			w.pending = append(w.pending, s)
		}
	}
	w.sets, w.need = nil, make([]uint64, len(w.pending))
	if w.undecided = w.crowded || len(w.pending) > maxPending; w.undecided {
		return
	}
	// By Begun, so that what a signal needs stands before it.
	slices.SortStableFunc(w.pending, byBegun)
	for i, s := range w.pending {
		for j, other := range w.pending[:i] {
			if other.precedes(s) {
				w.need[i] |= 1 << j
			}
		}
	}
	w.collect(0, 0)
}

// collect gathers every set of the pending signals from i on, added to set, that holds
// with each signal all that is known to have come before it.
func (w *frame) collect(i int, set uint64) {
	for ; i < len(w.pending); i++ {
		if w.need[i]&^set != 0 {
			continue // left out, for something before it is
		}
		w.collect(i+1, set|1<<i)
		if w.undecided {
			return
		}
	}
	if len(w.sets) == maxWorlds {
		w.undecided = true
		return
	}
	w.sets = append(w.sets, set)
}

// worlds calls f with every set of pending signals that may have been in force.
func (w *frame) worlds(f func(set uint64)) {
	for _, set := range w.sets {
		f(set)
	}
}

// newEnough reports whether a world holds everything up to the position that the
// decision says it is as new as.
func (w *frame) newEnough(set uint64) bool {
	if w.d.AsOf == 0 {
		return true
	}
	for i, s := range w.pending {
		if s.Position != 0 && s.Position <= w.d.AsOf && set&(1<<i) == 0 {
			return false
		}
	}
	return true
}

// late reports whether a world lacks what was in force for certain at now, which is later
// than the decision's start.
func (w *frame) late(set uint64, now Time) bool {
	for i, s := range w.pending {
		if set&(1<<i) == 0 && s.inForce() <= now {
			return true
		}
	}
	return false
}

// answers reports whether items are answered right where exactly these signals of the
// frame are in force at a moment.
func (w *frame) answers(items []Item, in func(*signal) bool, at moment, byArrival bool) bool {
	var standings []Standing
	var facts []*signal
	for i := range items {
		it := &items[i]
		if it.Outcome == Stale {
			continue
		}
		standings = standings[:0]
		for _, ref := range it.Entities {
			facts = w.facts(facts[:0], ref, in)
			standings = append(standings, w.standing(ref, facts, at, byArrival))
		}
		if w.c.judge(it.Question, standings) != it.Outcome {
			return false
		}
	}
	return true
}

// facts adds the signals about an entity that are in a world, and begun in time, to all.
func (w *frame) facts(all []*signal, ref string, in func(*signal) bool) []*signal {
	e := w.c.entities[ref]
	if e == nil {
		return all
	}
	for _, s := range e.base {
		if in(s) {
			all = append(all, s)
		}
	}
	for _, s := range e.recent {
		if s.Begun <= w.d.End && in(s) {
			all = append(all, s)
		}
	}
	return all
}

// standing joins facts about an entity as they are at a moment.
func (w *frame) standing(ref string, facts []*signal, at moment, byArrival bool) Standing {
	out := standing(facts, at.now, byArrival)
	out.Silent = w.silent(ref, facts, at)
	return out
}

// member gives the signals of a world: those in force for certain and a set of the
// pending ones.
func (w *frame) member(set uint64) func(*signal) bool {
	return func(s *signal) bool {
		if i := slices.Index(w.pending, s); i >= 0 {
			return set&(1<<i) != 0
		}
		return true
	}
}

// explained reports whether some world answers items so. sure are the pending signals in
// all of the worlds that do and are as new as the decision says; exact tells whether
// there is one of those.
func (w *frame) explained(items []Item) (ok, exact bool, sure uint64) {
	sure = ^uint64(0)
	w.worlds(func(set uint64) {
		for _, at := range w.moments {
			if w.late(set, at.now) || !w.answers(items, w.member(set), at, false) {
				continue
			}
			ok = true
			if w.newEnough(set) {
				exact = true
				sure &= set
			}
			return
		}
	})
	return ok, exact, sure
}

// judge says which property the outcome breaks, and which signal it ignores where it is
// one. Where the outcome is right it notes what the decision can only have seen.
func (w *frame) judge() (Property, *signal) {
	if w.undecided {
		return None, nil
	}
	ok, exact, sure := w.explained(w.d.Items)
	if exact {
		for i, s := range w.pending {
			if sure&(1<<i) != 0 && w.d.End < s.observed {
				s.observed, s.observer, s.observerAt = w.d.End, w.d.ID, w.d.Start
			}
		}
		return None, nil
	}
	if ok {
		return C8, nil // true of some instant, but of none as new as it says
	}
	return w.blame()
}
