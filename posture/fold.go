package posture

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"

	"vigil/authz"
)

// What the caps do, and what they cost. Every fold restricts at least as much, for at
// least as long, as what it replaces, whatever comes later: a cap never gives
// permission back. What waives is not folded: what overflows of it is dropped, those that
// end first. Within the caps joining does not depend on order. Beyond them:
//
//   - facts that all stand: the fold is the same in every order, unless some of the
//     facts that overflowed are lifted (a fold cannot be lifted);
//   - an entity that more sources attest than have room fails attestation for good;
//   - lines, and sources with lines: what is folded depends on what was there when the
//     cap was reached, so digests of stores that saw another order may differ.

// joinStanding joins facts that all stand: it drops the lifted ones and keeps those that
// last longest; the rest becomes one fact that says the worst for as long as any of
// them would have stood. The kept ones outlast the fold, so expiry never leaves room
// that a folded fact should have had.
func (c *caps) joinStanding(items, lifts []item) []item {
	facet := items[0].Facet
	var folded authz.Instant // the end of the fold; 0 for none
	var rest []item          // folds made before
	out := items[:0]
	for _, it := range items {
		switch {
		case it.Source == overflow:
			rest = append(rest, it)
			folded = max(folded, it.Until)
		case liftedBy(&it.Fact, lifts):
		default:
			out = append(out, it)
		}
	}
	if len(out) > c.stand {
		end := dropShortest(&out, c.stand)
		if facet != Waive {
			folded = max(folded, end)
		}
	}
	if folded != 0 {
		fold := fold(facet, 0, folded)
		at, _ := slices.BinarySearchFunc(out, fold, func(a item, f Fact) int { return order(&a.Fact, &f) })
		out = slices.Insert(slices.Clip(out), at, foldItem(fold, rest))
	}
	return out
}

// forgetWaived drops the waivers that a lift which was forgotten may have ended: where as
// many lifts are kept as there may be, those dated no later than the oldest of them. Came
// one of them again, nothing else would stand against it. A lift is dated after what it
// ends, but for what clocks differ.
func (c *caps) forgetWaived(items, lifts []item) []item {
	if len(lifts) < c.lifts {
		return items
	}
	oldest := slices.MinFunc(lifts, func(a, b item) int { return cmp.Compare(a.Time, b.Time) })
	return slices.DeleteFunc(items, func(it item) bool { return it.Time <= oldest.Time })
}

func liftedBy(f *Fact, lifts []item) bool {
	for i := range lifts {
		if t := lifts[i].Lifts; t.Facet == f.Facet && t.ID == f.ID && t.Source == f.Source {
			return true
		}
	}
	return false
}

// dropShortest keeps the n items that end last, ties by content hash, in their order,
// and gives the latest end of the others.
func dropShortest(items *[]item, n int) authz.Instant {
	type ranked struct {
		hash [sha256.Size]byte
		at   int
	}
	all := *items
	ranks := make([]ranked, len(all))
	for i := range all {
		ranks[i] = ranked{contentHash(&all[i].Fact), i}
	}
	slices.SortFunc(ranks, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(all[b.at].Until, all[a.at].Until), bytes.Compare(a.hash[:], b.hash[:]))
	})
	end := all[ranks[n].at].Until
	keep := make([]bool, len(all))
	for _, r := range ranks[:n] {
		keep[r.at] = true
	}
	i := -1
	*items = slices.DeleteFunc(all, func(item) bool { i++; return !keep[i] })
	return end
}

// fold is the worst that a fact of that facet can say.
func fold(facet Facet, time, until authz.Instant) Fact {
	f := Fact{Facet: facet, Source: overflow, ID: overflow, Time: time, Until: until, Reason: overflowReason}
	switch facet {
	case Hold:
		f.Held = true
	case Risk:
		f.Risk = 100
	case ApprovalRequired:
		f.Actions = []string{"*"}
	}
	return f
}

// foldItem makes an item of f, with the raw form of the same fact among items.
func foldItem(f Fact, items []item) item {
	for i := range items {
		if items[i].raw != "" && order(&items[i].Fact, &f) == 0 {
			return items[i]
		}
	}
	return item{Fact: f}
}

// joinLines joins the facts of a facet in which each source has a line, and its newest
// fact speaks: the newest unexpired for holds and risks, the newest for attestations.
func (c *caps) joinLines(kept []item, facet Facet, items []item) []item {
	start, sources := len(kept), 0
	var rest []item // the overflow line
	for len(items) > 0 {
		source, n := items[0].Source, 1
		for n < len(items) && items[n].Source == source {
			n++
		}
		line := items[:n:n]
		items = items[n:]
		switch {
		case source == overflow:
			rest = line
			continue
		case facet == Attest:
			kept = append(kept, line[n-1])
		default:
			kept = append(kept, c.staircase(line)...)
		}
		sources++
	}
	if sources <= c.sources && rest == nil {
		return kept
	}
	return append(kept[:start], c.foldLines(facet, slices.Clone(kept[start:]), rest)...)
}

// foldLines folds what lines there are too many of into the overflow line.
func (c *caps) foldLines(facet Facet, items, rest []item) []item {
	var lines [][]item
	for i := range items {
		if i == 0 || items[i].Source != items[i-1].Source {
			lines = append(lines, nil)
		}
		last := len(lines) - 1
		lines[last] = append(lines[last], items[i])
	}
	for len(lines) > c.sources {
		at := leastNeeded(lines)
		rest = append(rest, lines[at]...)
		lines = slices.Delete(lines, at, at+1)
	}
	if worst, ok := worstOf(facet, rest); ok {
		lines = append(lines, []item{foldItem(worst, rest)})
	}
	out := slices.Concat(lines...)
	slices.SortFunc(out, func(a, b item) int { return order(&a.Fact, &b.Fact) })
	return out
}

// staircase drops from a line, oldest first, every fact that a newer one outlasts. What
// is left ends the earlier the newer it is.
func (c *caps) staircase(line []item) []item {
	top := len(line) - 1
	out := line[top:]
	for i := top - 1; i >= 0; i-- {
		if line[i].Until > out[0].Until {
			top--
			line[top] = line[i]
			out = line[top:]
		}
	}
	for len(out) > c.steps {
		// The two oldest become one that is dated like the newer and says the worst until
		// the end of the older. Dated like the older it could be hidden by a fact that comes
		// late and is dated between them; saying only the worse of the two it could hide one.
		merged := fold(out[0].Facet, out[1].Time, out[0].Until)
		merged.Source = out[0].Source
		step := foldItem(merged, out[:2])
		// Being the worst of its time, it may count as newer than others of that time; it
		// outlasts them.
		rest := out[2:]
		for len(rest) > 0 && newness(&rest[0].Fact, &step.Fact) <= 0 {
			rest = rest[1:]
		}
		out = out[len(out)-len(rest)-1:]
		out[0] = step
	}
	return out
}

// leastNeeded picks the line to fold: one that restricts nothing if there is one, the
// oldest of these, for the newest bounds the age; else the one that ends first.
func leastNeeded(lines [][]item) int {
	at := 0
	for i := 1; i < len(lines); i++ {
		if c := compareNeed(lines[i], lines[at]); c < 0 || c == 0 && lines[i][0].Source > lines[at][0].Source {
			at = i
		}
	}
	return at
}

func compareNeed(a, b []item) int {
	endA, endB := restrictsUntil(a), restrictsUntil(b)
	if endA == 0 && endB == 0 {
		return cmp.Compare(a[0].Time, b[0].Time)
	}
	return cmp.Compare(endA, endB)
}

// restrictsUntil gives the last end of what restricts in a line; 0 where nothing does.
func restrictsUntil(line []item) (end authz.Instant) {
	for i := range line {
		if restriction(&line[i].Fact) > 0 {
			end = max(end, line[i].Until)
		}
	}
	return end
}

// worstOf gives one fact that says the worst of all that the items say, until the last
// of them ends. It reports false where nothing restricts: a release that is forgotten
// lets only older quarantines back. A pass that is forgotten could let an older pass
// back that lasts longer, so what overflows of attestations fails.
func worstOf(facet Facet, items []item) (Fact, bool) {
	worst := fold(facet, 0, 0)
	worst.Held, worst.Risk = false, 0
	any := false
	for i := range items {
		f := &items[i].Fact
		if restriction(f) == 0 && facet != Attest {
			continue
		}
		any = true
		worst.Held = worst.Held || f.Held
		worst.Risk = max(worst.Risk, f.Risk)
		worst.Until = max(worst.Until, f.Until)
	}
	return worst, any
}
