// Package history judges what was seen of an engine from outside: when each signal was
// sent and acknowledged, when each decision started and ended, what it said and as of
// which position. It says which property of the contract (docs/contract.md) a decision
// breaks, and tells the shortest story of it.
//
// The judgement is one of explanations. A signal comes into force at one instant after
// it was begun, and before it is acknowledged. A decision is right where some instant of
// its call explains it: a set of signals that holds everything that was in force before
// it started, nothing that was begun after it ended, and nothing without what is known to
// have come before it. Where several sets are possible, one that explains is enough, so
// no right history is ever called wrong. What a decision could only have seen in force
// counts as in force from the end of that decision on.
//
// A Checker is for one goroutine. It reads no clock.
package history

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Time is an instant in nanoseconds. All of a history's are of one clock that never goes
// back; where signals have ends (Until), it is the engine's.
type Time int64

// Never is later than every time.
const Never Time = math.MaxInt64

// Facet is what a signal is about.
type Facet uint8

// The facets that a history knows. Each joins as docs/signals.md says: of holds and
// risks the newest unexpired of each source speaks, revocations stand for good. What is
// about a source of signals ("source:client:siem"): it was heard when the log took the
// latest heartbeat, exceptions stand until they end, and a lift ends one for good,
// whichever of the two comes first.
const (
	Hold Facet = iota
	Risk
	Revoke
	Heartbeat
	Waive
	Lift
)

// Signal is one signal, sent once or several times.
type Signal struct {
	ID       string
	Source   string
	Entities []string // "kind:id"
	Facet    Facet
	Held     bool   // Hold: quarantine or release
	Risk     int    // Risk: 0 to 100
	Lifts    string // Lift: the ID of the exception
	// Heard is when the log took a heartbeat; 0 where nothing is known but that this was
	// after Begun and before it was in force.
	Heard Time
	// At is the event time, in any unit: it orders what one source says.
	At int64
	// Until is when it ends; 0 for never.
	Until Time
	// Begun is before the first byte was sent, Acknowledged after the acknowledgement was
	// there. 0: it never was, and whether the signal is in force is not known.
	Begun, Acknowledged Time
	// Position is the one that the acknowledgement names: the signal's own in the log or a
	// later one; 0 where it is not known.
	Position uint64
}

// Item is one question of a decision and its answer.
type Item struct {
	Question string   // what Judge needs besides standings; decisions on the same question share it
	Entities []string // every entity that the question touches
	Outcome  string   // as Judge gives it
	// Until is the end of the time in which nothing but a signal changes the answer, as the
	// answer says; 0 where it says nothing.
	Until Time
	// Fresh is what an evaluation without cache said at the same instant; "" where none
	// was made.
	Fresh string
	// Recomputed: the answer had been cached and had to be computed again, and the caller
	// knows of nothing but a signal that can have caused it.
	Recomputed bool
}

// Decision is one call: of one item, or of a batch.
type Decision struct {
	ID         uint64
	Start, End Time   // before the first byte was sent; after the last was there
	AsOf       uint64 // the position that it names; 0 where it names none
	AtLeast    uint64 // the position that it demanded, or 0
	Items      []Item
}

// Outcomes that the checker itself knows. A Judge may give others, which count as denials.
const (
	Allow = "allow"
	Deny  = "deny"
	// Stale answers that the view is not as new as was demanded. It is always right.
	Stale = "stale"
)

// Standing is what is in force about an entity.
type Standing struct {
	Held    bool
	Revoked bool
	Risk    int
	Silent  bool // a source that is required (see Checker.Require), and no exception is in force
}

// Judge says what the answer to a question is where its entities stand like this, in the
// order of Item.Entities. It is pure.
type Judge func(question string, standings []Standing) string

// AllowUnlessHeld is the Judge of questions that are allowed but for holds, revocations and
// silent sources.
func AllowUnlessHeld(_ string, standings []Standing) string {
	for _, s := range standings {
		if s.Held || s.Revoked || s.Silent {
			return Deny
		}
	}
	return Allow
}

// Property is one of the contract.
type Property uint8

// The properties that a history can break.
const (
	None Property = iota
	C1
	C2
	C3
	C5
	C8
	C10
)

// Properties are all that a history can break.
var Properties = [...]Property{C1, C2, C3, C5, C8, C10}

func (p Property) String() string {
	return [...]string{"none", "C1 no stale allow", "C2 cached is fresh", "C3 precision", "C5 never un-revoked", "C8 one instant, and which",
		"C10 no allow outlives a silence"}[p]
}

// Name is the property's number in the contract, as in "C1".
func (p Property) Name() string {
	name, _, _ := strings.Cut(p.String(), " ")
	return name
}

// signal is a Signal with what the decisions let conclude about it.
type signal struct {
	Signal
	observed   Time   // the earliest end of a decision that can only have seen it in force
	observer   uint64 // that decision
	observerAt Time   // its start
	arrival    int    // order of Begun among all signals
}

// inForce is the instant from which on the signal is in force for certain.
func (s *signal) inForce() Time { return min(s.Acknowledged, s.observed) }

// ends is when time alone ends the signal.
func (s *signal) ends() Time {
	if s.Until == 0 {
		return Never
	}
	return s.Until
}

// precedes reports whether s is known to have come into force before other.
func (s *signal) precedes(other *signal) bool { return s.inForce() < other.Begun }

// standing joins facts as they are at now, but for silence. byArrival makes the mistake of letting what
// came last speak instead of what is newest.
func standing(facts []*signal, now Time, byArrival bool) Standing {
	var out Standing
	for i, f := range facts {
		if f.ends() <= now {
			continue
		}
		switch f.Facet {
		case Revoke:
			out.Revoked = true
			continue
		case Heartbeat, Waive, Lift:
			continue // see frame.silent
		}
		speaks := true
		for j, other := range facts {
			if j != i && other.Facet == f.Facet && other.Source == f.Source && other.ends() > now && newer(other, f, byArrival) {
				speaks = false
				break
			}
		}
		if !speaks {
			continue
		}
		if f.Facet == Hold {
			out.Held = out.Held || f.Held
		} else {
			out.Risk = max(out.Risk, f.Risk)
		}
	}
	return out
}

// newer reports whether a is newer than b. Of two of the same time the more restrictive
// is; of two that say the same, either may be.
func newer(a, b *signal, byArrival bool) bool {
	if byArrival {
		return a.arrival > b.arrival
	}
	if a.At != b.At {
		return a.At > b.At
	}
	if a.Held != b.Held {
		return a.Held
	}
	if a.Risk != b.Risk {
		return a.Risk > b.Risk
	}
	return a.arrival > b.arrival
}

// entity is what is remembered of one entity.
type entity struct {
	base   []*signal // in force for certain, and long so; what they make redundant left out
	recent []*signal // by Begun
}

// keptRecent is how many signals that are in force for certain stay apart from the base,
// so that a decision of before them can be told from one that nothing explains.
const keptRecent = 16

// fold moves what has been in force for long, as of now, into the base.
func (e *entity) fold(now Time) {
	if len(e.recent) < 3*keptRecent {
		return
	}
	settled := 0
	for _, s := range e.recent {
		if s.inForce() <= now {
			settled++
		}
	}
	drop := settled - keptRecent
	e.recent = slices.DeleteFunc(e.recent, func(s *signal) bool {
		if drop <= 0 || s.inForce() > now {
			return false
		}
		drop--
		e.base = append(e.base, s)
		return true
	})
	e.compress(now)
}

func (e *entity) compress(now Time) {
	e.base = slices.DeleteFunc(e.base, func(s *signal) bool {
		if s.ends() <= now {
			return true
		}
		return slices.ContainsFunc(e.base, func(other *signal) bool {
			if s.Facet == Waive {
				return other.Facet == Lift && other.Lifts == s.ID
			}
			if other == s || other.Facet != s.Facet || other.ends() < s.ends() {
				return false
			}
			switch s.Facet {
			case Revoke:
				return other.arrival < s.arrival
			case Heartbeat:
				return other.heardAfter(s)
			case Lift:
				return false
			}
			return other.Source == s.Source && newer(other, s, false)
		})
	})
}

func byBegun(a, b *signal) int {
	return cmp.Or(cmp.Compare(a.Begun, b.Begun), cmp.Compare(a.Position, b.Position))
}
