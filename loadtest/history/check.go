package history

import (
	"cmp"
	"slices"
)

// maxPending bounds the signals whose force is undecided while one decision runs, and
// maxWorlds the sets of them that may have been in force, all of which are tried. A
// decision beside more is counted as undecided.
const (
	maxPending = 64
	maxWorlds  = 4096
)

// Checker judges a history piece by piece, so that one of any length needs little memory.
type Checker struct {
	judge    Judge
	entities map[string]*entity
	arrivals int

	signals   []*signal // since the last Settle
	decisions []Decision
	floor     uint64 // the greatest position acknowledged before the decision at hand
	global    []*signal
	seen      map[string][]span // the latest decisions on a question, by start

	found Findings
}

// Findings is what a Checker has found so far.
type Findings struct {
	Decisions  int // judged
	Signals    int
	Undecided  int // decisions that too many signals were pending beside
	Broken     map[Property]int
	StaleAllow int // decisions that were an allow and should not have been, of any property
	// Stories has for each broken property the shortest story that was found.
	Stories map[Property]Story
}

// New makes a Checker.
func New(judge Judge) *Checker {
	return &Checker{
		judge: judge, entities: map[string]*entity{}, seen: map[string][]span{},
		found: Findings{Broken: map[Property]int{}, Stories: map[Property]Story{}},
	}
}

// Signal adds a signal. Sending it again is not another signal: it keeps its first Begun
// and its first acknowledgement.
func (c *Checker) Signal(s Signal) {
	if s.Acknowledged == 0 {
		s.Acknowledged = Never
	}
	c.signals = append(c.signals, &signal{Signal: s, observed: Never})
}

// Decision adds a decision. The checker keeps d and its slices until Settle.
func (c *Checker) Decision(d Decision) { c.decisions = append(c.decisions, d) }

// Settle judges everything that was added since the last Settle. At that time nothing may
// be under way: decisions that are added later start later than these ended, and
// signals that are added later were begun later. Settle gives the findings of all pieces.
func (c *Checker) Settle() Findings {
	slices.SortStableFunc(c.signals, byBegun)
	for _, s := range c.signals {
		c.arrivals++
		s.arrival = c.arrivals
	}
	acknowledged := slices.Clone(c.signals)
	slices.SortFunc(acknowledged, func(a, b *signal) int { return cmp.Compare(a.Acknowledged, b.Acknowledged) })
	slices.SortStableFunc(c.decisions, func(a, b Decision) int { return cmp.Compare(a.Start, b.Start) })

	begun, acked := 0, 0
	for i := range c.decisions {
		d := &c.decisions[i]
		for ; begun < len(c.signals) && c.signals[begun].Begun <= d.End; begun++ {
			c.admit(c.signals[begun])
		}
		for ; acked < len(acknowledged) && acknowledged[acked].Acknowledged < d.Start; acked++ {
			c.floor = max(c.floor, acknowledged[acked].Position)
		}
		c.examine(d)
	}
	for ; begun < len(c.signals); begun++ {
		c.admit(c.signals[begun])
	}
	for ; acked < len(acknowledged) && acknowledged[acked].Acknowledged < Never; acked++ {
		c.floor = max(c.floor, acknowledged[acked].Position)
	}
	c.found.Decisions += len(c.decisions)
	c.found.Signals += len(c.signals)
	clear(c.decisions)
	c.decisions, c.signals = c.decisions[:0], nil
	return c.found
}

func (c *Checker) admit(s *signal) {
	for _, ref := range s.Entities {
		e := c.entities[ref]
		if e == nil {
			e = &entity{}
			c.entities[ref] = e
		}
		e.recent = append(e.recent, s)
	}
	if len(c.global) >= 256 {
		c.global = slices.Delete(c.global, 0, 128)
	}
	c.global = append(c.global, s)
}

// examine judges one decision and, where it is right, learns from it what is in force.
func (c *Checker) examine(d *Decision) {
	w := c.frame(d)
	property, culprit := w.judge()
	if property == None {
		property, culprit = c.secondary(d, w)
	}
	if w.undecided {
		c.found.Undecided++
	}
	for i := range d.Items {
		c.remember(&d.Items[i], d)
	}
	if property == None {
		return
	}
	c.found.Broken[property]++
	if w.staleAllow() {
		c.found.StaleAllow++
	}
	// The first few of each are told, and the shortest kept; to tell all of many would take
	// long and say nothing more.
	if c.found.Broken[property] <= 32 {
		story := c.tell(d, w, property, culprit)
		if best, ok := c.found.Stories[property]; !ok || story.shorter(best) {
			c.found.Stories[property] = story
		}
	}
}

// secondary looks for what is wrong with a decision whose outcome is explained.
func (c *Checker) secondary(d *Decision, w *frame) (Property, *signal) {
	for i := range d.Items {
		it := &d.Items[i]
		if it.Fresh != "" && it.Fresh != it.Outcome {
			return C2, nil
		}
		if last, ok := c.last(it.Question, d.Start); ok && it.Recomputed {
			cause := slices.ContainsFunc(w.signals, func(s *signal) bool {
				return s.inForce() >= last && slices.ContainsFunc(it.Entities, func(ref string) bool { return slices.Contains(s.Entities, ref) })
			})
			if !cause {
				return C3, nil
			}
		}
	}
	stale := slices.ContainsFunc(d.Items, func(it Item) bool { return it.Outcome == Stale })
	if d.AsOf != 0 && d.AsOf < max(c.floor, d.AtLeast) && !stale {
		return C8, nil
	}
	return None, nil
}

// span is when a decision on a question ran, and what it answered.
type span struct {
	start, end Time
	decision   uint64
	outcome    string
}

func (c *Checker) remember(it *Item, d *Decision) {
	spans := c.seen[it.Question]
	if len(spans) >= 8 {
		spans = slices.Delete(spans, 0, 1)
	}
	c.seen[it.Question] = append(spans, span{d.Start, d.End, d.ID, it.Outcome})
}

// last gives the start of the latest decision on a question that had ended before now.
func (c *Checker) last(question string, now Time) (Time, bool) {
	for _, s := range slices.Backward(c.seen[question]) {
		if s.end < now {
			return s.start, true
		}
	}
	return 0, false
}

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
	times   []Time    // the instants at which time alone may change the answer

	undecided bool
}

func (c *Checker) frame(d *Decision) *frame {
	w := &frame{c: c, d: d}
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
				if s.Until > d.Start && s.Until <= d.End && !slices.Contains(w.times, s.Until) {
					w.times = append(w.times, s.Until)
				}
			}
		}
	}
	w.times = append(w.times, d.Start)
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
	if w.undecided = len(w.pending) > maxPending; w.undecided {
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
// frame are in force at now.
func (w *frame) answers(items []Item, in func(*signal) bool, now Time, byArrival bool) bool {
	var standings []Standing
	var facts []*signal
	for i := range items {
		it := &items[i]
		if it.Outcome == Stale {
			continue
		}
		standings = standings[:0]
		for _, ref := range it.Entities {
			facts = facts[:0]
			if e := w.c.entities[ref]; e != nil {
				for _, s := range e.base {
					if in(s) {
						facts = append(facts, s)
					}
				}
				for _, s := range e.recent {
					if s.Begun <= w.d.End && in(s) {
						facts = append(facts, s)
					}
				}
			}
			standings = append(standings, standing(facts, now, byArrival))
		}
		if w.c.judge(it.Question, standings) != it.Outcome {
			return false
		}
	}
	return true
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
		for _, now := range w.times {
			if w.late(set, now) || !w.answers(items, w.member(set), now, false) {
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
