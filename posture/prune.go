package posture

import "vigil/authz"

// Prune forgets facts that have expired at now, and entities left without any.
// It may run beside readers and Apply: it holds the writers' lock for one of 256 parts
// at a time. It also renews what records carry ready where that interval has passed, so
// that reading them is cheap again. Registrations and attestations stay past their end, for they hide what is
// older; so does all that never ends, lifts included.
func (s *Store) Prune(now authz.Instant) (facts, entities int) {
	for i := range s.shards {
		f, e := s.pruneShard(&s.shards[i], now)
		facts += f
		entities += e
	}
	return facts, entities
}

func (s *Store) pruneShard(sh *shard, now authz.Instant) (facts, entities int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := sh.table.Load()
	for i := range t.slots {
		c := t.slots[i].Load()
		if c == nil || c == gap {
			continue
		}
		r := c.rec.Load()
		if r.eff.unexpiring(now) {
			continue
		}
		kept, n := s.unexpired(r, now)
		if n == 0 && r.eff.From <= now && now < r.eff.Until {
			continue // what has expired stays
		}
		facts += n
		next := dead
		if len(kept) > 0 {
			next = s.record(now, r.eff.ID, kept)
		}
		s.count(authz.Kind(c.meta>>24), r, next)
		// Dead comes first and the removal second: see Store.
		c.rec.Store(next)
		s.pause()
		if next == dead {
			entities++
			s.remove(sh, t, i)
			s.pause()
		}
	}
	if len(t.slots) > minSlots && sh.live*4 < len(t.slots) {
		s.rebuild(sh, max(minSlots, (sh.live+1)*2))
	}
	return facts, entities
}

// unexpired gives the facts of r that can still matter, and how many cannot.
func (s *Store) unexpired(r *Record, now authz.Instant) (kept []item, gone int) {
	for c := r.eff.cursor(); c.next(); {
		if c.fact.gone(now) {
			gone++
		} else {
			kept = append(kept, item{Fact: c.fact, raw: c.raw})
		}
	}
	return kept, gone
}
