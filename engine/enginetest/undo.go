package enginetest

import (
	"maps"
	"slices"

	"vigil/authz"
	"vigil/posture"
)

// Without is the world in which some of what was said of an entity had never been said,
// which is what taking it back means. It shares the rules of t and what was said of
// other entities.
//
// One thing of it cannot be had: in a line, where a source's newest word speaks, a word that
// a newer one outlasted was not kept, and does not come back when that one is taken back.
func (t *Twin) Without(key authz.Key, back func(posture.Fact) bool) *Twin {
	var left []posture.Fact
	for _, f := range t.Said[key] {
		if !back(f) && !t.outlasted(key, f) {
			left = append(left, f)
		}
	}
	said := maps.Clone(t.Said)
	said[key] = left
	return &Twin{Said: said, Rules: t.Rules, FeedAge: t.FeedAge}
}

// outlasted reports whether f can never speak again, for a newer word of its line lasts at
// least as long.
func (t *Twin) outlasted(key authz.Key, f posture.Fact) bool {
	if f.Facet != posture.Hold && f.Facet != posture.Risk {
		return false
	}
	worse := func(a, b posture.Fact) bool { return a.Held && !b.Held || a.Risk > b.Risk }
	return slices.ContainsFunc(t.Said[key], func(o posture.Fact) bool {
		if o.Facet != f.Facet || o.Source != f.Source || o.Until < f.Until {
			return false
		}
		return o.Time > f.Time || o.Time == f.Time && (worse(o, f) || !worse(f, o) && o.Until > f.Until)
	})
}

// Ends are the instants after now at which time alone may change what is held of an
// entity, in order.
func (t *Twin) Ends(key authz.Key, now authz.Instant) []authz.Instant {
	var all []authz.Instant
	for _, f := range t.Said[key] {
		if f.Until > now && f.Until != authz.Forever {
			all = append(all, f.Until)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Risk is that of an entity at now.
func (t *Twin) Risk(key authz.Key, now authz.Instant) int { return t.standing(key, now).risk }
