package posture

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"vigil/authz"
)

// Store is the posture of all entities. Readers take no lock; writers are serialized.
//
// # Birth
//
// A reader of an entity that nothing is known of has no cell to watch, so it watches a
// birth counter, one of about a million that entities hash to. It loads the counter
// first and looks the entity up afterwards. The writer of a new entity inserts a cell
// that holds absent, bumps the counter, and only then stores the record; the record is
// in force from that store on. Hence a reader that found no cell looked before the
// insertion, so it loaded the counter before the bump: while the counter is what it
// loaded, the record has not been stored. A reader that finds the cell still holding
// absent may have loaded the counter after the bump, so it watches the cell.
//
// Were the bump first, a reader could load the bumped counter, find nothing, and miss
// the birth. Were the record stored before the bump, it would be in force while the
// counter still vouches for its absence.
//
// # Death
//
// Prune stores dead in a cell before it takes the cell out of its table. A reader that
// finds the dead cell still there watches the counter, which it loaded before: a new
// birth comes after the removal, makes a new cell and bumps the counter.
type Store struct {
	mu sync.Mutex // writers; readers never take it but by Exclusive

	seed      maphash.Seed
	shards    [numShards]shard
	tenants   atomic.Pointer[tenants]
	births    []atomic.Uint32
	birthBits uint
	dict      *dict
	caps      *caps

	known [authz.NumKinds]atomic.Int64 // entities
	held  [authz.NumKinds]atomic.Int64 // of these, not active
	// unreadable counts those under an unreadable signal, which no time ends.
	unreadable atomic.Int64
	asOf       atomic.Pointer[string]
	heard      heard

	items, kept []item // scratch; guarded by mu

	// paused, where not nil, is called by writers between any two of their steps that
	// readers can tell apart. Tests look on from there.
	paused func()
}

const defaultBirthBits = 20

// NewStore returns a store that knows nothing.
func NewStore() *Store { return newStore(defaultBirthBits, &defaultCaps) }

func newStore(birthBits uint, c *caps) *Store {
	s := &Store{
		seed:      maphash.MakeSeed(),
		births:    make([]atomic.Uint32, 1<<birthBits),
		birthBits: birthBits,
		dict:      newDict(),
		caps:      c,
	}
	s.tenants.Store(&tenants{numbers: map[string]uint32{}, list: []tenant{{}}})
	s.heard.table.Store(&map[string]*lastWord{})
	s.addTenant("") // of what stands above tenants, which every request touches
	for i := range s.shards {
		s.shards[i].table.Store(&table{slots: make([]atomic.Pointer[cell], minSlots)})
	}
	return s
}

// Get gives the record in force of key, or nil.
func (s *Store) Get(key authz.Key) *Record {
	t := s.tenantOf(key.Tenant)
	p := s.placeOf(&t, key.Kind, key.ID)
	if c := s.shards[p.shard()].table.Load().find(p, key.ID); c != nil {
		return c.rec.Load().inForce().known()
	}
	return nil
}

// Walk calls f with every entity until f returns false. It sees each entity at some
// instant during the walk, not all at one. f may use the store.
func (s *Store) Walk(f func(authz.Key, *Record) bool) {
	s.walk(func(c *cell, r *Record) bool { return f(s.keyOf(c), r) })
}

// walk takes each table as it is when its turn comes: an entity that is there for the
// whole walk is seen once, even if its table is replaced meanwhile.
func (s *Store) walk(f func(*cell, *Record) bool) {
	for i := range s.shards {
		t := s.shards[i].table.Load()
		for j := range t.slots {
			c := t.slots[j].Load()
			if c == nil || c == gap {
				continue
			}
			if r := c.rec.Load().inForce().known(); r != nil && !f(c, r) {
				return
			}
		}
	}
}

// Len is the number of known entities of each kind.
func (s *Store) Len() [authz.NumKinds]int { return counts(&s.known) }

// Held is how many of them are not active: held, revoked, decommissioned or under an
// unreadable signal. It is brought up to date by signals and by Prune: what time alone
// has changed since does not show.
func (s *Store) Held() [authz.NumKinds]int { return counts(&s.held) }

// Unreadable is how many entities are under an unreadable signal.
func (s *Store) Unreadable() int { return int(s.unreadable.Load()) }

func counts(of *[authz.NumKinds]atomic.Int64) (n [authz.NumKinds]int) {
	for i := range of {
		n[i] = int(of[i].Load())
	}
	return n
}

func (s *Store) pause() {
	if s.paused != nil {
		s.paused()
	}
}

// count keeps known and held right when next takes the place of prev.
func (s *Store) count(kind authz.Kind, prev, next *Record) {
	for _, side := range [...]struct {
		r *Record
		n int64
	}{{prev, -1}, {next, 1}} {
		if side.r.known() == nil {
			continue
		}
		s.known[kind].Add(side.n)
		if side.r.eff.Status != authz.Active {
			s.held[kind].Add(side.n)
		}
		if side.r.eff.Status == authz.Unreadable {
			s.unreadable.Add(side.n)
		}
	}
}

// PublishAsOf makes asOf the position that decisions name. It is called after the
// changes up to that position were applied.
func (s *Store) PublishAsOf(asOf string) { s.asOf.Store(&asOf) }

// AsOf gives the newest published position. A reader loads it before it reads records.
func (s *Store) AsOf() string {
	if asOf := s.asOf.Load(); asOf != nil {
		return *asOf
	}
	return ""
}

// Exclusive runs f while no change is applied, so that what f reads is of one instant:
// a View that f fills is always confirmed. f must be quick and must not write to s.
func (s *Store) Exclusive(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}
