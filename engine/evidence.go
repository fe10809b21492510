package engine

import (
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/rules"
)

// Evidence is everything that a decision was computed from, besides the request:
// the rule set and the records, both immutable, now, and the feed's age. With the
// request it gives the same decision again, on any machine, at any time.
type Evidence struct {
	rules   *rules.Set
	records []*posture.Record // in the order in which the principal's entities are touched
	now     authz.Instant
	feedAge time.Duration
}

// evidence keeps what q was judged by. Records are shared, not copied.
func (q *inquiry) evidence() *Evidence {
	ev := &Evidence{rules: q.basis.rules, records: make([]*posture.Record, len(q.touched)), now: q.now, feedAge: q.feedAge}
	for i := range q.touched {
		ev.records[i] = q.touched[i].record
	}
	return ev
}

// replay makes q what it was when the evidence was kept.
func (ev *Evidence) replay(q *inquiry) {
	q.now, q.feedAge = ev.now, ev.feedAge
	q.recorded = ev.records
	q.read()
	q.settle(ev.now)
	q.recorded = nil
}
