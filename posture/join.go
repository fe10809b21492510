package posture

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"math"
	"slices"
)

// item is a fact while facts are being joined.
type item struct {
	Fact
	raw string // its form within the old record; "" for a fact that is new
}

// order is the one order of the facts of a record: by facet, by source, then the newer
// the later, where of two facts of the same time the more restrictive counts as newer,
// and then the one with the larger content hash. Position never counts.
func order(a, b *Fact) int {
	if c := cmp.Or(cmp.Compare(a.Facet.rank(), b.Facet.rank()), cmp.Compare(a.Source, b.Source)); c != 0 {
		return c
	}
	return newness(a, b)
}

// rank is the place of a facet in the order of facts: lifts are last, also behind the
// facets that were added after them, whose numbers are in every snapshot.
func (f Facet) rank() Facet {
	if f == Lift {
		return math.MaxUint8
	}
	return f
}

// newness compares facts of one facet by age.
func newness(a, b *Fact) int {
	c := cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(restriction(a), restriction(b)))
	if c != 0 {
		return c
	}
	if c = cmp.Compare(a.Until, b.Until); c != 0 {
		if a.Facet == Registration || a.Facet == Attest {
			return -c // standing for less long, they allow less
		}
		return c
	}
	return byHash(a, b)
}

func restriction(f *Fact) int {
	switch {
	case f.Facet == Hold && f.Held, f.Facet == Attest && !f.Passed:
		return 1
	}
	return f.Risk
}

func byHash(a, b *Fact) int {
	var roomA, roomB [256]byte
	x, y := AppendFact(roomA[:0], a), AppendFact(roomB[:0], b)
	if bytes.Equal(x, y) {
		return 0
	}
	hx, hy := sha256.Sum256(x), sha256.Sum256(y)
	return bytes.Compare(hx[:], hy[:])
}

// earliest compares by time, then by hash: of statements that never end, the least is
// the one that is kept.
func earliest(a, b *Fact) int {
	if c := cmp.Compare(a.Time, b.Time); c != 0 {
		return c
	}
	return byHash(a, b)
}

// caps bounds what a record keeps of one facet.
type caps struct {
	stand   int // facts that all stand, per facet
	steps   int // facts of one source's line
	sources int // lines per facet
	lifts   int
	heard   int // sources whose last word is remembered, in a store
}

var defaultCaps = caps{stand: 128, steps: 64, sources: 64, lifts: 1024, heard: 4096}

// add puts a fact where it belongs among items, unless they say the same already.
func add(items []item, f *Fact) []item {
	at, found := slices.BinarySearchFunc(items, f, func(it item, f *Fact) int { return order(&it.Fact, f) })
	if found {
		return items
	}
	return slices.Insert(items, at, item{Fact: *f})
}

// join gives the canonical form of items, which are distinct and in order: it drops what
// is redundant and folds what the caps do not allow, leaving the rest in order. It is
// idempotent; within the caps, joining in parts and in any order gives the same. The
// result is appended to kept; the array of items is used up.
func (c *caps) join(kept, items []item) []item {
	if len(items) == 1 {
		return append(kept, items...)
	}
	lifts := items[len(items):]
	if i := slices.IndexFunc(items, func(it item) bool { return it.Facet == Lift }); i >= 0 {
		items, lifts = items[:i:i], items[i:]
	}
	lifts = c.joinLifts(lifts)
	for len(items) > 0 {
		facet, n := items[0].Facet, 1
		for n < len(items) && items[n].Facet == facet {
			n++
		}
		kept = c.joinFacet(kept, facet, items[:n], lifts)
		items = items[n:]
	}
	return append(kept, lifts...)
}

// joinFacet joins the items of one facet, which are in order, and appends the result.
func (c *caps) joinFacet(kept []item, facet Facet, items, lifts []item) []item {
	if len(items) == 1 && !liftable(facet) {
		return append(kept, items[0])
	}
	switch facet {
	case Registration:
		return append(kept, slices.MaxFunc(items, func(a, b item) int { return newness(&a.Fact, &b.Fact) }))
	case Hold, Risk, Attest:
		return c.joinLines(kept, facet, items)
	case Waive:
		if items = c.forgetWaived(items, lifts); len(items) == 0 {
			return kept
		}
	case Revoke, Decommission:
		return append(kept, slices.MinFunc(items, func(a, b item) int { return earliest(&a.Fact, &b.Fact) }))
	case IssuedBefore:
		return append(kept, slices.MinFunc(items, func(a, b item) int {
			if a.Cutoff != b.Cutoff {
				return cmp.Compare(b.Cutoff, a.Cutoff)
			}
			return earliest(&a.Fact, &b.Fact)
		}))
	}
	return append(kept, c.joinStanding(items, lifts)...)
}

// joinLifts keeps one lift per target, the earliest, and of these the newest. A lift
// that is forgotten has done its work; what it killed could return only as a
// redelivery, and what can be lifted restricts, but for what waives: see forgetWaived.
func (c *caps) joinLifts(lifts []item) []item {
	// Those of the old record are of distinct targets, so only the new ones can be twins.
	for i := len(lifts) - 1; i >= 0; i-- {
		if lifts[i].raw != "" {
			continue
		}
		for j := range lifts {
			if j == i || *lifts[j].Lifts != *lifts[i].Lifts {
				continue
			}
			drop := i
			if earliest(&lifts[i].Fact, &lifts[j].Fact) < 0 {
				drop = j
			}
			lifts = slices.Delete(lifts, drop, drop+1)
			i = len(lifts) // look again from the end
			break
		}
	}
	if len(lifts) > c.lifts {
		slices.SortFunc(lifts, func(a, b item) int { return earliest(&b.Fact, &a.Fact) })
		lifts = lifts[:c.lifts]
		slices.SortFunc(lifts, func(a, b item) int { return order(&a.Fact, &b.Fact) })
	}
	return lifts
}
