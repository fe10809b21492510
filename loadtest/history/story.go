package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Story is what happened, told with nothing left in it that it would be as wrong without.
type Story struct {
	Property Property
	Lines    []string
	span     Time
}

func (s Story) shorter(other Story) bool {
	return cmp.Or(cmp.Compare(len(s.Lines), len(other.Lines)), cmp.Compare(s.span, other.span)) < 0
}

func (s Story) String() string {
	return s.Property.String() + "\n  " + strings.Join(s.Lines, "\n  ")
}

type event struct {
	at   Time
	text string
}

// tell makes the story of a decision that breaks property.
func (c *Checker) tell(d *Decision, w *frame, property Property, culprit *signal) Story {
	kept := w.shorten(property, culprit)
	if culprit != nil && slices.Contains(w.base, culprit) {
		kept = append(kept, culprit)
	}
	if property == C3 && culprit != nil {
		kept = append(kept, culprit)
	}
	var events []event
	for _, s := range kept {
		events = append(events, event{s.Begun, "signal " + s.describe() + " begins"})
		if s.Acknowledged != Never {
			at := ""
			if s.Position != 0 {
				at = fmt.Sprintf(" at position %d", s.Position)
			}
			events = append(events, event{s.Acknowledged, fmt.Sprintf("signal %s is acknowledged%s", s.ID, at)})
		}
		if s.observer != 0 && s.observed <= d.Start {
			events = append(events,
				event{s.observerAt, fmt.Sprintf("decision %d starts", s.observer)},
				event{s.observed, fmt.Sprintf("decision %d ends: it can only have seen %s in force", s.observer, s.ID)})
		}
	}
	if property == C10 {
		events = append(events, w.lapses(kept)...)
	}
	events = append(events, event{d.Start, fmt.Sprintf("decision %d starts", d.ID)}, event{d.End, d.describe()})
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	events = slices.CompactFunc(events, func(a, b event) bool { return a == b })

	story := Story{Property: property, span: events[len(events)-1].at - events[0].at}
	for _, e := range events {
		story.Lines = append(story.Lines, fmt.Sprintf("%12s  %s", time.Duration(e.at-events[0].at), e.text))
	}
	story.Lines = append(story.Lines, "so "+c.why(d, w, property, culprit))
	return story
}

// shorten leaves out every signal without which the decision is as wrong.
func (w *frame) shorten(property Property, culprit *signal) (kept []*signal) {
	if property == C8 && culprit == nil && !w.isTorn() {
		return w.newest() // about positions
	}
	for _, s := range slices.Clone(w.signals) {
		if s == culprit {
			kept = append(kept, s)
			continue
		}
		trial := *w
		trial.signals = slices.DeleteFunc(slices.Clone(w.signals), func(other *signal) bool { return other == s })
		trial.must, trial.pending = nil, nil
		restore := w.c.without(s)
		trial.sort()
		found, by := trial.rejudge()
		if found == property && by == culprit {
			w.signals, w.must, w.pending, w.need = trial.signals, trial.must, trial.pending, trial.need
			w.sets = trial.sets
			defer restore()
			continue
		}
		restore()
		kept = append(kept, s)
	}
	return kept
}

// rejudge is judge without learning from the decision.
func (w *frame) rejudge() (Property, *signal) {
	ok, exact, _ := w.explained(w.d.Items)
	switch {
	case exact:
		for i := range w.d.Items {
			if s, outlives := w.outlives(&w.d.Items[i]); outlives {
				return C10, s
			}
		}
		return None, nil
	case ok:
		return C8, nil
	}
	return w.blame()
}

func (w *frame) isTorn() bool {
	ok, _, _ := w.explained(w.d.Items)
	return !ok
}

// newest gives the signal with the greatest position among those that the decision
// should have been as new as.
func (w *frame) newest() []*signal {
	var newest *signal
	among, due := w.signals, func(s *signal) bool { return s.Position != 0 && s.Position <= w.d.AsOf }
	if w.d.AsOf < w.c.floor {
		among, due = w.c.global, func(s *signal) bool { return s.Acknowledged < w.d.Start }
	}
	for _, s := range among {
		if due(s) && (newest == nil || s.Position > newest.Position) {
			newest = s
		}
	}
	if newest == nil {
		return nil
	}
	return []*signal{newest}
}

// without takes a signal out of every entity, and gives what puts it back.
func (c *Checker) without(s *signal) (restore func()) {
	before := map[*entity][]*signal{}
	for _, ref := range s.Entities {
		if e := c.entities[ref]; e != nil {
			if _, done := before[e]; done {
				continue
			}
			before[e] = e.recent
			e.recent = slices.DeleteFunc(slices.Clone(e.recent), func(other *signal) bool { return other == s })
		}
	}
	return func() {
		for e, recent := range before {
			e.recent = recent
		}
	}
}

func (c *Checker) why(d *Decision, w *frame, property Property, culprit *signal) string {
	name := "a signal"
	if culprit != nil {
		name = culprit.ID
	}
	switch property {
	case C1:
		return fmt.Sprintf("decision %d allows what %s had withdrawn before it started", d.ID, name)
	case C5:
		if culprit.observer != 0 && culprit.observed <= d.Start {
			return fmt.Sprintf("decision %d allows again what had been seen withdrawn, and nothing gave it back", d.ID)
		}
		return fmt.Sprintf("decision %d lets an older signal that came later undo %s", d.ID, name)
	case C3:
		if culprit == nil {
			return fmt.Sprintf("decision %d was computed again, though no signal was about its entities", d.ID)
		}
		return fmt.Sprintf("decision %d answers as if %s were about its entities", d.ID, name)
	case C10:
		return c.whySilent(d, w, culprit)
	case C8:
		if floor := max(c.floor, d.AtLeast); d.AsOf != 0 && d.AsOf < floor {
			return fmt.Sprintf("decision %d names position %d, though %d was acknowledged or demanded before", d.ID, d.AsOf, floor)
		}
		if ok, _, _ := w.explained(d.Items); ok {
			return fmt.Sprintf("decision %d names position %d and does not know what was in force by then", d.ID, d.AsOf)
		}
		return fmt.Sprintf("decision %d is true of no one instant, though each of its parts is of some", d.ID)
	}
	for _, it := range d.Items {
		if it.Fresh != "" && it.Fresh != it.Outcome {
			return fmt.Sprintf("decision %d says %s where a fresh evaluation says %s", d.ID, it.Outcome, it.Fresh)
		}
	}
	if culprit != nil {
		return fmt.Sprintf("decision %d still answers as before %s", d.ID, name)
	}
	return fmt.Sprintf("decision %d is what no instant of the history says", d.ID)
}

func (s *signal) describe() string {
	what := map[Facet]string{
		Hold: "release", Risk: fmt.Sprintf("risk %d", s.Risk), Revoke: "revoke", Heartbeat: "heartbeat of", Waive: "waive", Lift: "lift of " + s.Lifts + " about",
	}[s.Facet]
	if s.Facet == Hold && s.Held {
		what = "quarantine"
	}
	return fmt.Sprintf("%s (%s %s by %s, event time %d)", s.ID, what, strings.Join(s.Entities, " "), s.Source, s.At)
}

func (d *Decision) describe() string {
	var text strings.Builder
	fmt.Fprintf(&text, "decision %d ends:", d.ID)
	for _, it := range d.Items {
		fmt.Fprintf(&text, " %s for %s", it.Outcome, strings.Join(it.Entities, " "))
	}
	if d.AsOf != 0 {
		fmt.Fprintf(&text, ", as of position %d", d.AsOf)
	}
	return text.String()
}
