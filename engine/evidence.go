package engine

import (
	"slices"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

// Evidence is everything that a decision was computed from, besides the request:
// the rule set and the records, both immutable, when the sources that the profile needs
// were heard, now, and the feed's age. With the request it gives the same decision again,
// on any machine, at any time.
type Evidence struct {
	rules   *rules.Set
	records []*posture.Record // in the order in which the principal's entities are touched
	heard   []authz.Instant   // by the needs of the profile
	now     authz.Instant
	feedAge time.Duration
}

// evidence keeps what q was judged by. Records are shared, not copied.
func (q *inquiry) evidence() *Evidence {
	ev := &Evidence{rules: q.basis.rules, records: make([]*posture.Record, len(q.touched)), now: q.now, feedAge: q.feedAge}
	if len(q.needs) > 0 {
		ev.heard = slices.Clone(q.heard)
	}
	for i := range q.touched {
		ev.records[i] = q.touched[i].record
	}
	return ev
}

// replay makes q what it was when the evidence was kept.
func (ev *Evidence) replay(q *inquiry) {
	q.now, q.feedAge = ev.now, ev.feedAge
	q.recorded, q.rehearing = ev.records, ev.heard
	q.read()
	q.settle(ev.now)
	q.recorded, q.rehearing = nil, nil
}
