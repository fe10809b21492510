package history

import (
	"cmp"
	"slices"
)

// Checker judges a history piece by piece, so that one of any length needs little memory.
type Checker struct {
	judge    Judge
	entities map[string]*entity
	required map[string]Time // by source, how long it may be silent
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
		judge: judge, entities: map[string]*entity{}, required: map[string]Time{}, seen: map[string][]span{},
		found: Findings{Broken: map[Property]int{}, Stories: map[Property]Story{}},
	}
}

// Require says that a source ("source:client:siem") may be silent for so long. Decisions
// that need it name it among their entities. Whatever else the source sends it is heard by,
// too: a history gives that as heartbeats. It is said before the first decision.
func (c *Checker) Require(source string, silence Time) { c.required[source] = silence }

// Signal adds a signal. Sending it again is not another signal: it keeps its first Begun
// and its first acknowledgement. But for a heartbeat: each one that the log takes counts.
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
		if s, outlives := w.outlives(it); outlives {
			return C10, s
		}
		if last, ok := c.last(it.Question, d.Start); ok && it.Recomputed {
			cause := slices.ContainsFunc(w.signals, func(s *signal) bool {
				return s.Facet != Heartbeat && s.inForce() >= last && slices.ContainsFunc(it.Entities, func(ref string) bool { return slices.Contains(s.Entities, ref) })
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
