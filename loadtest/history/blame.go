package history

import (
	"cmp"
	"slices"
)

// blame says which property a decision breaks that no instant explains: it looks for the
// mistake that does explain it.
func (w *frame) blame() (Property, *signal) {
	if s, allowed := w.allowedInSilence(); allowed {
		return C10, s
	}
	if w.torn() || w.untimely() {
		return C8, nil
	}
	allow := w.allows()
	if s := w.outOfOrder(); s != nil {
		if allow {
			return C5, s
		}
		return C2, s
	}
	if s := w.ignored(); s != nil {
		switch {
		case s.endsSilence() > 0:
			return C10, s // which had ended the silence, and the answer does not know it
		case !allow:
			return C2, s
		case w.hadBeenSeen(s):
			return C5, s // it had been in force, and is no more
		}
		return C1, s
	}
	if s := w.foreign(); s != nil {
		return C3, s
	}
	return C2, nil
}

// hadBeenSeen reports whether an earlier decision on one of the questions had seen s in
// force, and notes which.
func (w *frame) hadBeenSeen(s *signal) bool {
	if s.observer != 0 && s.observed <= w.d.Start {
		return true
	}
	for i := range w.d.Items {
		for _, seen := range w.c.seen[w.d.Items[i].Question] {
			if seen.outcome != Allow && seen.start >= s.inForce() && seen.end <= w.d.Start {
				s.observed, s.observer, s.observerAt = seen.end, seen.decision, seen.start
				return true
			}
		}
	}
	return false
}

func (w *frame) allows() bool {
	return slices.ContainsFunc(w.d.Items, func(it Item) bool { return it.Outcome == Allow })
}

// staleAllow reports whether the decision has an allow that no instant of its call
// explains.
func (w *frame) staleAllow() bool {
	for i := range w.d.Items {
		if w.d.Items[i].Outcome != Allow {
			continue
		}
		if ok, _, _ := w.explained(w.d.Items[i : i+1]); !ok {
			return true
		}
	}
	return false
}

// torn reports whether each part of the decision is true of some instant of the call, and
// only the whole is of none: each item by itself, or each entity by itself.
func (w *frame) torn() bool {
	if len(w.d.Items) > 1 {
		each := true
		for i := range w.d.Items {
			ok, _, _ := w.explained(w.d.Items[i : i+1])
			each = each && ok
		}
		if each {
			return true
		}
	}
	for i := range w.d.Items {
		it := &w.d.Items[i]
		if len(it.Entities) < 2 {
			if ok, _, _ := w.explained(w.d.Items[i : i+1]); !ok {
				return false
			}
			continue
		}
		if !w.mixed(it) {
			return false
		}
	}
	return true
}

// untimely reports whether the decision is explained by signals as they were at one time
// and a now that is of another.
func (w *frame) untimely() bool {
	explained := false
	w.worlds(func(set uint64) {
		for _, at := range w.moments {
			explained = explained || w.answers(w.d.Items, w.member(set), at, false)
		}
	})
	return explained
}

// mixed reports whether an item is answered right where each of its entities stands as
// at an instant of its own.
func (w *frame) mixed(it *Item) bool {
	possible := make([][]Standing, len(it.Entities))
	for i, ref := range it.Entities {
		w.worlds(func(set uint64) {
			facts := w.facts(nil, ref, w.member(set))
			for _, at := range w.moments {
				if s := w.standing(ref, facts, at, false); !slices.Contains(possible[i], s) {
					possible[i] = append(possible[i], s)
				}
			}
		})
	}
	standings := make([]Standing, len(possible))
	var try func(i int) bool
	try = func(i int) bool {
		if i == len(possible) {
			return w.c.judge(it.Question, standings) == it.Outcome
		}
		for _, s := range possible[i] {
			standings[i] = s
			if try(i + 1) {
				return true
			}
		}
		return false
	}
	return try(0)
}

// outOfOrder reports whether the decision is explained by what came last instead of what
// is newest, and gives the signal that should have spoken.
func (w *frame) outOfOrder() (overtaken *signal) {
	w.worlds(func(set uint64) {
		if overtaken != nil || !w.answers(w.d.Items, w.member(set), moment{now: w.d.Start}, true) {
			return
		}
		for _, s := range w.must {
			if s.Facet != Hold && s.Facet != Risk {
				continue // no order of event times counts
			}
			late := slices.ContainsFunc(w.signals, func(other *signal) bool {
				return other.Facet == s.Facet && other.Source == s.Source && other.arrival > s.arrival && newer(s, other, false)
			})
			if late && (overtaken == nil || newer(s, overtaken, false)) {
				overtaken = s
			}
		}
	})
	return overtaken
}

// ignored gives the signal without which, or without which and what came after it, the
// decision would have been right.
func (w *frame) ignored() *signal {
	newestFirst := slices.Concat(w.must, w.base)
	slices.SortFunc(newestFirst, func(a, b *signal) int { return cmp.Compare(b.Begun, a.Begun) })
	// What ends a silence comes last: a denial says more rarely that it was for one.
	slices.SortStableFunc(newestFirst, func(a, b *signal) int { return cmp.Compare(a.endsSilence(), b.endsSilence()) })
	for _, s := range newestFirst {
		if w.rightWithout(s) {
			return s
		}
	}
	for i, s := range newestFirst {
		if w.rightWithout(newestFirst[:i+1]...) {
			return s
		}
	}
	return nil
}

func (w *frame) rightWithout(without ...*signal) bool {
	right := false
	w.worlds(func(set uint64) {
		in := w.member(set)
		for _, at := range w.moments {
			right = right || w.answers(w.d.Items, func(s *signal) bool { return in(s) && !slices.Contains(without, s) }, at, false)
		}
	})
	return right
}

// foreign gives a signal about other entities that would explain the decision if it were
// about these.
func (w *frame) foreign() *signal {
	for _, s := range slices.Backward(w.c.global) {
		if s.Begun > w.d.End || slices.Contains(w.signals, s) {
			continue
		}
		for i := range w.d.Items {
			for _, ref := range w.d.Items[i].Entities {
				if w.rightWith(s, ref) {
					return s
				}
			}
		}
	}
	return nil
}

// rightWith reports whether the decision would be right if s were about the entity ref.
func (w *frame) rightWith(s *signal, ref string) bool {
	e := w.c.entities[ref]
	made := e == nil
	if made {
		e = &entity{}
		w.c.entities[ref] = e
	}
	e.recent = append(e.recent, s)
	right := w.rightWithout()
	e.recent = e.recent[:len(e.recent)-1]
	if made {
		delete(w.c.entities, ref)
	}
	return right
}
