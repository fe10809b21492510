package signals

import (
	"maps"
	"slices"

	"vigil/authz"
	"vigil/posture"
)

// ConflictError is an id that the same source used for another signal. It is an
// ErrConflict. Conflicts are noticed among the latest ids and against the facts that the
// entities keep, not for ever: posture does not depend on it, for a fact is identified
// by its content too.
type ConflictError struct {
	Index   int // in the batch
	ID      string
	Pointer string // RFC 6901, into the body
}

func (e *ConflictError) Error() string {
	return "id " + clip(e.ID) + ": " + ErrConflict.Error()
}

// Unwrap makes it an ErrConflict.
func (e *ConflictError) Unwrap() error { return ErrConflict }

// claim takes the ids of a batch for their content. It returns those that were new, or a
// *ConflictError, and then claims none.
func (in *Intake) claim(sender Sender, batch *Batch, records []Record) (fresh []uint64, err error) {
	source := sender.Source.String()
	now := in.cfg.Now()
	var content []byte
	for i := range batch.Signals {
		s := &batch.Signals[i]
		content = s.AppendJSON(content[:0])
		key, dated, isFresh, ok := in.recent.claim(source, s.ID, content, records[i].Dated)
		records[i].Dated = dated // of two that come at once, the date of the first
		if isFresh {
			fresh = append(fresh, key)
			ok = !in.contradicts(source, &records[i], s, now)
		}
		if !ok {
			for _, key := range fresh {
				in.recent.release(key)
			}
			return nil, &ConflictError{Index: i, ID: s.ID, Pointer: batch.Pointer(i, "/id")}
		}
	}
	return fresh, nil
}

// contradicts looks in the facts of the signal's entities for one with its source and
// id that says something else. source is the record's.
func (in *Intake) contradicts(source string, rec *Record, s *Signal, now authz.Instant) bool {
	var mine []posture.Change
	line, id := source, s.ID
	if rec.Target != "" {
		line, id = rec.Target, OverrulingID(rec.Source, s.ID)
	}
	for i, ref := range s.Entities {
		for f := range in.cfg.Store.Get(ref.In(rec.Tenant)).Facts() {
			if f.Source != line || f.ID != id || f.Facet == posture.UnreadableSignal {
				continue
			}
			if mine == nil { // which is rarely needed
				var err error
				if mine, err = Facts(rec, s, now); err != nil {
					return false
				}
			}
			if len(mine) == 0 || !sameSignal(&f, &mine[i].Facts[0], s) {
				return true
			}
		}
	}
	return false
}

// sameSignal reports whether a fact that is kept can come of the signal behind mine. Its
// time and cut-off may be earlier than the signal's: they were clamped when it was taken.
// They may be the signal's own where mine are not: then the clock of this machine, by which
// mine were clamped, is behind the log's.
func sameSignal(kept, mine *posture.Fact, s *Signal) bool {
	return kept.Facet == mine.Facet && kept.Until == mine.Until &&
		(kept.Time == mine.Time || kept.Time <= s.Time) &&
		(kept.Cutoff == mine.Cutoff || kept.Cutoff <= s.IssuedBefore) &&
		kept.Actor == mine.Actor && kept.Reason == mine.Reason && kept.Ticket == mine.Ticket &&
		kept.Held == mine.Held && kept.Risk == mine.Risk && kept.Passed == mine.Passed &&
		slices.Equal(kept.Scopes, mine.Scopes) && slices.Equal(kept.Actions, mine.Actions) &&
		sameRegistration(kept.Registration, mine.Registration) && sameTarget(kept.Lifts, mine.Lifts)
}

func sameRegistration(a, b *posture.Registered) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Class == b.Class && a.Code == b.Code && a.Model == b.Model &&
		slices.Equal(a.Scopes, b.Scopes) && maps.Equal(a.Labels, b.Labels)
}

func sameTarget(a, b *posture.Target) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
