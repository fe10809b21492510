package posture

import (
	"iter"
	"sync/atomic"

	"vigil/authz"
)

// Record is all facts of one entity. It is immutable; its address is its version,
// never reused while anything refers to it.
type Record struct {
	eff Effective
	// pending is what the record waits for: nil once it is in force. See commit.
	pending atomic.Pointer[pending]
}

// commit is the word that the new records of one Apply share. Until it is set, each of
// them means its predecessor; setting it puts all of them in force at one instant.
type commit struct{ done atomic.Bool }

// pending ties a record to its commit. It is cleared after the commit so that no chain
// of predecessors builds up.
type pending struct {
	word *commit
	prev *Record // in force until the commit; itself committed, for writers are serialized
}

// Two records stand for no record. They are in cells and never given to callers.
var (
	absent = newSentinel() // in a cell whose entity is being born
	dead   = newSentinel() // in a cell that has been, or is about to be, removed
)

func newSentinel() *Record { return &Record{eff: Effective{Span: forAllTime}} }

// inForce resolves what a cell holds to what is in force: r itself, or its predecessor
// while r waits for its commit.
func (r *Record) inForce() *Record {
	if p := r.pending.Load(); p != nil && !p.word.done.Load() {
		return p.prev
	}
	return r
}

// known gives r, or nil where r stands for no record.
func (r *Record) known() *Record {
	if r == absent || r == dead {
		return nil
	}
	return r
}

// At gives what r says at now. It neither locks nor, within the interval that the
// record carries ready, allocates. A nil r says what is said of an entity that nothing
// is known of; the ID of its Standing is empty.
//
// Facts that Prune forgot are missing from what a record says of instants before that.
func (r *Record) At(now authz.Instant) *Effective {
	if r == nil {
		return &nothing
	}
	if e := &r.eff; e.From <= now && now < e.Until {
		return e
	}
	e := effectiveAt(r.eff.ID, r.eff.facts, r.eff.dict, now)
	return &e
}

// Facts yields the facts that r keeps, in a canonical order: by facet, by source, then
// by age, oldest first. Strings, lists and maps are shared: nobody changes them.
func (r *Record) Facts() iter.Seq[Fact] {
	return func(yield func(Fact) bool) {
		if r == nil {
			return
		}
		for c := r.eff.cursor(); c.next() && yield(c.fact); {
		}
	}
}

// Registered gives what the entity is registered as, also where the registration has
// expired; nil where it never was.
func (r *Record) Registered() *Registered {
	if r == nil {
		return nil
	}
	// There is one at most, and it comes first.
	if c := r.eff.cursor(); c.next() && c.fact.Facet == Registration {
		return c.fact.Registration
	}
	return nil
}

// Size is what a record takes while nothing else refers to it, in bytes, about.
func (r *Record) Size() int { return 400 + len(r.eff.facts) }
