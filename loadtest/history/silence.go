package history

import (
	"fmt"
	"slices"
)

// moment is an instant of a call. Where the log may have taken heartbeats of a source
// earlier or later, early tells by bit whether the source, of frame.sources, counts as heard
// as early as can be, else as late.
type moment struct {
	now   Time
	early uint64
}

// maxSources bounds the required sources of one decision, for both ways are tried of each of
// which it is not known exactly when it was heard. A decision that needs more is counted as
// undecided.
const maxSources = 6

// momentsOf gives the instants, each in every way that the uncertain sources may have been heard.
func momentsOf(times []Time, uncertain []int) []moment {
	var all []moment
	for _, now := range times {
		for choice := range uint64(1) << len(uncertain) {
			m := moment{now: now}
			for bit, source := range uncertain {
				m.early |= choice >> bit & 1 << source
			}
			all = append(all, m)
		}
	}
	return all
}

// heard is between which instants the log took a heartbeat that is in force at end.
func (s *signal) heard(end Time) (from, to Time) {
	if s.Heard != 0 {
		return s.Heard, s.Heard
	}
	return s.Begun, min(s.inForce(), end)
}

// heardAfter reports whether s, a heartbeat that is in force for certain, makes another of
// the same source say nothing.
func (s *signal) heardAfter(other *signal) bool {
	from, _ := s.heard(Never)
	if _, to := other.heard(Never); from != to {
		return from > to
	}
	return s.arrival > other.arrival
}

// endsSilence is 1 for what makes a source less silent, else 0.
func (s *signal) endsSilence() int {
	if s.Facet == Heartbeat || s.Facet == Waive {
		return 1
	}
	return 0
}

// require finds out which sources the decision needs. during is told of the instants from
// which on each of their heartbeats may have lapsed. It gives the sources of which it is not known exactly when
// they were heard.
func (w *frame) require(during func(Time)) (uncertain []int) {
	for i := range w.d.Items {
		for _, ref := range w.d.Items[i].Entities {
			silence, required := w.c.required[ref]
			if !required || slices.Contains(w.sources, ref) {
				continue
			}
			if len(w.sources) == maxSources {
				w.crowded = true
				continue
			}
			w.sources = append(w.sources, ref)
			exact := true
			for _, s := range w.facts(nil, ref, func(s *signal) bool { return s.Facet == Heartbeat }) {
				from, to := s.heard(w.d.End)
				during(from + silence)
				exact = exact && from == to
			}
			if !exact {
				uncertain = append(uncertain, len(w.sources)-1)
			}
		}
	}
	return uncertain
}

// silent reports whether a source is required, and silent by facts at a moment, and no
// exception lets that pass.
func (w *frame) silent(ref string, facts []*signal, at moment) bool {
	silence, required := w.c.required[ref]
	if !required {
		return false
	}
	i := slices.Index(w.sources, ref)
	for _, f := range facts {
		switch f.Facet {
		case Waive:
			if at.now < f.ends() && lifted(f, facts) == nil {
				return false
			}
		case Heartbeat:
			heard, late := f.heard(w.d.End)
			if at.early&(1<<i) == 0 {
				heard = late
			}
			if at.now < heard+silence {
				return false
			}
		}
	}
	return true
}

// lifted gives what ends an exception for good, or nil.
func lifted(waive *signal, facts []*signal) *signal {
	for _, f := range facts {
		if f.Facet == Lift && f.Lifts == waive.ID {
			return f
		}
	}
	return nil
}

// allowedInSilence reports whether the decision has an allow, a source of which is silent at
// each instant of the call, whatever is in force. It gives what let that pass last, or the
// lift that ended it; nil where nothing ever did.
func (w *frame) allowedInSilence() (last *signal, allowed bool) {
	for i := range w.d.Items {
		it := &w.d.Items[i]
		if it.Outcome != Allow || len(w.sources) == 0 {
			continue
		}
		if ref := w.silentAt(it, w.moments...); ref != "" {
			return w.lapsed(ref), true
		}
	}
	return nil, false
}

// outlives reports whether an item is an allow that says it is valid when one of its sources
// is silent, unless a signal comes that was not begun when it was given. It gives what
// lapses by then.
func (w *frame) outlives(it *Item) (last *signal, outlives bool) {
	if it.Outcome != Allow || it.Until == 0 || len(w.sources) == 0 {
		return nil, false
	}
	if ref := w.silentAt(it, moment{now: it.Until - 1}); ref != "" {
		return w.lapsed(ref), true
	}
	return nil, false
}

// silentAt gives a source that an item needs, where in every world and at each of the moments
// one is silent; else "".
func (w *frame) silentAt(it *Item, moments ...moment) (ref string) {
	always := len(w.sets) > 0
	w.worlds(func(set uint64) {
		for _, at := range moments {
			i := slices.IndexFunc(it.Entities, func(ref string) bool {
				return slices.Contains(w.sources, ref) && w.silent(ref, w.facts(nil, ref, w.member(set)), at)
			})
			if i < 0 {
				always = false
				return
			}
			ref = it.Entities[i]
		}
	})
	if !always {
		return ""
	}
	return ref
}

// lapsed gives the heartbeat or exception that let a source's silence pass for longest, or
// the lift that ended it; nil where there was none.
func (w *frame) lapsed(ref string) (last *signal) {
	facts := w.facts(nil, ref, func(*signal) bool { return true })
	latest := Time(-1)
	for _, f := range facts {
		by, end := f, Time(-1)
		switch f.Facet {
		case Heartbeat:
			_, end = f.heard(w.d.End)
			end += w.c.required[ref]
		case Waive:
			end = f.ends()
			if lift := lifted(f, facts); lift != nil && lift.inForce() < end {
				by, end = lift, lift.inForce()
			}
		}
		if end > latest {
			last, latest = by, end
		}
	}
	return last
}

// lapses tells of the ends of what let silences pass.
func (w *frame) lapses(kept []*signal) (events []event) {
	for _, s := range kept {
		switch s.Facet {
		case Heartbeat:
			_, heard := s.heard(w.d.End)
			for _, ref := range s.Entities {
				if silence, required := w.c.required[ref]; required {
					if s.Heard != 0 {
						events = append(events, event{s.Heard, "the log takes " + s.ID + ": " + ref + " is heard"})
					}
					events = append(events, event{heard + silence, "without another, " + ref + " is silent"})
				}
			}
		case Waive:
			if s.Until != 0 {
				events = append(events, event{s.Until, s.ID + " ends"})
			}
		}
	}
	return events
}

// whySilent says what of C10 a decision breaks.
func (c *Checker) whySilent(d *Decision, w *frame, culprit *signal) string {
	if _, allowed := w.allowedInSilence(); !allowed {
		for i := range d.Items {
			if _, outlives := w.outlives(&d.Items[i]); outlives {
				return fmt.Sprintf("decision %d says that it is valid when a source that it needs is silent", d.ID)
			}
		}
		return fmt.Sprintf("decision %d is stopped by a silence that %s had ended before it started", d.ID, culprit.ID)
	}
	if culprit == nil {
		return fmt.Sprintf("decision %d allows though a source that it needs was never heard", d.ID)
	}
	switch culprit.Facet {
	case Waive:
		return fmt.Sprintf("decision %d allows though a source that it needs was silent, and exception %s had ended before it started", d.ID, culprit.ID)
	case Lift:
		return fmt.Sprintf("decision %d allows though a source that it needs was silent, and exception %s had been lifted before it started", d.ID, culprit.Lifts)
	}
	return fmt.Sprintf("decision %d allows though a source that it needs had fallen silent before it started", d.ID)
}
