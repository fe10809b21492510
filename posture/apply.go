package posture

import (
	"slices"
	"strings"

	"vigil/authz"
)

// Apply adds the facts of one signal to all its entities at one instant: readers see
// all of the changes or none. now is used only to say outcomes and to make the new
// records' effective form ready: a fact counts from now on even if its time is still to
// come, and one that is past its end is kept until Prune. s keeps none of the changes'
// memory. A change of a key that names no kind of entity does nothing. The results are in
// the order of the changes.
//
// A panic leaves all of the changes in force or none.
func (s *Store) Apply(now authz.Instant, changes []Change) []Result {
	return s.apply(now, changes, "")
}

// Replace is Apply for an unreadable signal that can be read at last: changes, which are
// about all its entities, take the place of the facts that have its record. That is no
// lift, which could hit another signal of the same id: afterwards s is as if the signal
// could have been read at once.
func (s *Store) Replace(now authz.Instant, record string, changes []Change) []Result {
	return s.apply(now, changes, record)
}

func (s *Store) apply(now authz.Instant, changes []Change, read string) []Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]Result, len(changes))
	steps := make([]step, 0, len(changes))
	which := make([]int, len(changes)) // the step of each change
	for i := range changes {
		key := changes[i].Key
		results[i].Key = key
		which[i] = -1
		if key.Kind == authz.NoKind || int(key.Kind) >= authz.NumKinds {
			continue
		}
		at := slices.IndexFunc(steps, func(st step) bool { return st.key == key })
		if at < 0 {
			at = len(steps)
			steps = append(steps, s.begin(key))
		}
		st := &steps[at]
		var outcome Outcome
		st.next, outcome = s.joined(now, key.ID, st.next, changes[i].Facts, read)
		which[i] = at
		results[i] = Result{Key: key, Outcome: outcome, Known: st.prev.known() != nil}
	}
	s.publish(steps)
	for i, at := range which {
		if at >= 0 {
			results[i].Record = steps[at].next.known()
		}
	}
	return results
}

// step is the way of one entity from the record in force to the next.
type step struct {
	key        authz.Key
	cell       *cell // nil for an entity to be born
	prev, next *Record
}

func (s *Store) begin(key authz.Key) step {
	t := s.tenantOf(key.Tenant)
	p := s.placeOf(&t, key.Kind, key.ID)
	st := step{key: key, prev: absent, next: absent}
	if c := s.shards[p.shard()].table.Load().find(p, key.ID); c != nil {
		// Writers are serialized, so what is in the cell is committed.
		st.cell = c
		st.prev = c.rec.Load()
		st.next = st.prev
	}
	return st
}

// publish puts the next records in force, all at one instant. Should it panic, none of
// them is, or all are: what waited for a commit that never came would wait for ever.
func (s *Store) publish(steps []step) {
	steps = slices.DeleteFunc(slices.Clone(steps), func(st step) bool { return st.next == st.prev })
	if len(steps) == 0 {
		return
	}
	word, stored := new(commit), 0
	if len(steps) > 1 {
		waits := make([]pending, len(steps))
		for i := range steps {
			waits[i] = pending{word: word, prev: steps[i].prev}
			steps[i].next.pending.Store(&waits[i])
		}
		defer func() {
			committed := word.done.Load()
			for i := range steps {
				st := &steps[i]
				switch {
				case committed:
					st.next.pending.Store(nil)
				case i < stored:
					// Its predecessor was in force all along, so nobody sees it come back.
					st.cell.rec.Store(st.prev)
					s.count(st.key.Kind, st.next, st.prev)
				}
			}
		}()
	}
	for i := range steps {
		st := &steps[i]
		if st.cell == nil {
			st.cell = s.bear(st)
			s.pause()
		}
		s.count(st.key.Kind, st.prev, st.next)
		st.cell.rec.Store(st.next)
		stored++
		s.pause()
	}
	word.done.Store(true)
	s.pause()
}

// bear inserts a cell that holds absent and bumps the birth counter, in this order: see
// Store. The caller stores the record afterwards. Once there is a cell its counter is
// bumped even by a panic, for the next birth finds the cell and bumps no more.
func (s *Store) bear(st *step) *cell {
	t := s.addTenant(st.key.Tenant)
	p := s.placeOf(&t, st.key.Kind, st.next.eff.ID)
	c := &cell{id: st.next.eff.ID, meta: p.meta}
	c.rec.Store(absent)
	defer s.births[s.birth(p.hash)].Add(1)
	s.insert(p, c)
	s.pause()
	return c
}

// joined gives the record that has the facts of prev, but for unreadable signals of the
// record that was read, and those added, and says what they did; it gives prev itself
// where they did nothing.
func (s *Store) joined(now authz.Instant, id string, prev *Record, added []Fact, read string) (*Record, Outcome) {
	items, replaced := s.items[:0], false
	for c := prev.eff.cursor(); c.next(); {
		if read != "" && c.fact.Record == read {
			replaced = true
		} else {
			items = append(items, item{Fact: c.fact, raw: c.raw})
		}
	}
	old := len(items)
	news := make([]Fact, 0, len(added))
	outcome := Duplicate
	for i := range added {
		if f, ok := normal(&added[i]); ok {
			news = append(news, f)
			outcome = stronger(outcome, arrival(&f, items[:old]))
		}
	}
	if len(news) == 0 {
		return prev, NoChange
	}
	for i := range news {
		items = add(items, &news[i])
	}
	kept := s.caps.join(s.kept[:0], items)
	defer func() { // the scratch must not keep the facts' memory
		clear(items)
		clear(kept)
		s.items, s.kept = items[:0], kept[:0]
	}()
	fresh := slices.ContainsFunc(kept, func(it item) bool { return it.raw == "" })
	if len(kept) == old && !fresh && !replaced {
		return prev, outcome
	}
	if prev.known() != nil {
		id = prev.eff.ID
	} else {
		id = strings.Clone(id)
	}
	next := s.record(now, id, kept)
	if fresh || replaced {
		outcome = NoChange
	}
	if moved(&next.eff, prev.At(now), news) {
		outcome = Applied
	}
	return next, outcome
}

// arrival says what becomes of a new fact that changes nothing.
func arrival(f *Fact, old []item) Outcome {
	for i := range old {
		o := &old[i].Fact
		if o.Facet == f.Facet && o.Source == f.Source && order(o, f) == 0 {
			return Duplicate
		}
		if o.Facet == Lift && liftedBy(f, old[i:i+1]) {
			return Lifted
		}
	}
	return Superseded
}

// stronger gives the outcome that says more: superseded, lifted, duplicate.
func stronger(a, b Outcome) Outcome {
	rank := [...]int{Duplicate: 0, Lifted: 1, Superseded: 2, NoChange: 3, Applied: 4}
	if rank[b] > rank[a] {
		return b
	}
	return a
}

// moved reports whether one of the new facts, or what became of the old ones through
// them, shows in what is effective.
func moved(next, prev *Effective, news []Fact) bool {
	if next.Status != prev.Status || next.Risk != prev.Risk || next.Tainted != prev.Tainted ||
		next.Attested != prev.Attested || next.AttestedAt != prev.AttestedAt ||
		next.Cutoff != prev.Cutoff || next.Narrowed != prev.Narrowed || next.Waived != prev.Waived ||
		!slices.Equal(next.Left, prev.Left) || !slices.Equal(next.ApprovalFor, prev.ApprovalFor) ||
		next.Registered != prev.Registered || !sameRegistration(next, prev) {
		return true
	}
	if !slices.ContainsFunc(news, withdraws) {
		return false
	}
	// A fact that now stands beside others withdraws something of its own: it would stay
	// withdrawn if they ended. So does a lift of such a fact, or a release of such a hold.
	return !slices.EqualFunc(next.withdrawals(), prev.withdrawals(), func(a, b Fact) bool { return order(&a, &b) == 0 })
}

// withdraws reports whether f is of a facet that withdrawals are about.
func withdraws(f Fact) bool {
	switch f.Facet {
	case Registration, Risk, Attest, IssuedBefore:
		return false
	}
	return true
}

// record makes a record of facts that are in canonical form.
func (s *Store) record(now authz.Instant, id string, kept []item) *Record {
	var room, regRoom [512]byte
	enc := room[:0]
	for i := range kept {
		if kept[i].raw != "" {
			enc = append(enc, kept[i].raw...)
			continue
		}
		f := &kept[i].Fact
		var registration uint32
		if f.Facet == Registration {
			registration = s.dict.registration(appendRegistered(regRoom[:0], f.Registration), false)
		}
		enc = appendFact(enc, f, s.dict.source(f.Source), registration)
	}
	// What is effective is computed from the encoded form, so it refers to no memory but
	// the record's own, and what is kept is what is in force.
	return &Record{eff: effectiveAt(id, string(enc), s.dict, now)}
}
