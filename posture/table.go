package posture

import (
	"hash/maphash"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync/atomic"

	"vigil/authz"
)

// cell is the one permanent place of an entity's record. Its address and name never
// change; caches compare what it holds. It leaves its table only after dead was stored
// in it, and then stays dead for good.
type cell struct {
	rec  atomic.Pointer[Record] // never nil
	id   string
	meta uint64 // tenant number <<32 | kind <<24 | 24 bits of the hash
}

// gap stands in a slot whose cell was removed, so that probing goes on past it.
var gap = &cell{}

const numShards = 256

// shard is one open-addressing table. Readers load the table and then its slots;
// writers, serialized by the store's lock, fill empty slots, turn slots to gap, and
// replace the whole table by a larger copy. A slot that was filled never becomes empty
// again, so a reader's probe that ends at an empty slot has seen every cell with its
// hash that was in the table when it loaded it.
type shard struct {
	table atomic.Pointer[table]
	used  int // slots that are not empty; guarded by the store's lock
	live  int // of these, not gap
}

type table struct{ slots []atomic.Pointer[cell] }

const minSlots = 8

// place is where a key hashes to.
type place struct {
	hash uint64
	meta uint64
}

func (p place) shard() int { return int(p.hash >> 56) }

func (t *table) first(hash uint64) int {
	i, _ := bits.Mul64(hash<<8, uint64(len(t.slots)))
	return int(i)
}

// find takes no lock and allocates nothing.
func (t *table) find(p place, id string) *cell {
	for i := t.first(p.hash); ; i++ {
		if i == len(t.slots) {
			i = 0
		}
		c := t.slots[i].Load()
		if c == nil || c.meta == p.meta && c.id == id && c != gap {
			return c
		}
	}
}

func (t *table) put(hash uint64, c *cell) {
	for i := t.first(hash); ; i++ {
		if i == len(t.slots) {
			i = 0
		}
		if t.slots[i].Load() == nil {
			t.slots[i].Store(c)
			return
		}
	}
}

// insert adds a cell that is not in the shard.
func (s *Store) insert(p place, c *cell) {
	sh := &s.shards[p.shard()]
	t := sh.table.Load()
	if (sh.used+1)*4 > len(t.slots)*3 {
		t = s.rebuild(sh, max(minSlots, (sh.live+1)*2))
	}
	t.put(p.hash, c)
	sh.used++
	sh.live++
}

// rebuild copies the live cells of a shard into a table of that many slots.
func (s *Store) rebuild(sh *shard, slots int) *table {
	next := &table{slots: make([]atomic.Pointer[cell], slots)}
	old := sh.table.Load()
	for i := range old.slots {
		if c := old.slots[i].Load(); c != nil && c != gap {
			next.put(s.hashOf(c), c)
		}
	}
	sh.used = sh.live
	sh.table.Store(next)
	return next
}

// remove takes a dead cell out of its shard.
func (s *Store) remove(sh *shard, t *table, slot int) {
	t.slots[slot].Store(gap)
	sh.live--
}

// tenants numbers the tenants that have entities, from 1. It is replaced whole; it only
// grows.
type tenants struct {
	numbers map[string]uint32
	list    []tenant // by number; the first is no tenant
}

// tenant is what the keys of one tenant have in common.
type tenant struct {
	name   string
	number uint32 // 0 for a tenant without entities
	hash   uint64
}

// tenantOf takes no lock and allocates nothing.
func (s *Store) tenantOf(name string) tenant {
	all := s.tenants.Load()
	if n, ok := all.numbers[name]; ok {
		return all.list[n]
	}
	return tenant{name: name, hash: maphash.String(s.seed, name)}
}

// addTenant is tenantOf for one that is about to have an entity.
func (s *Store) addTenant(name string) tenant {
	t := s.tenantOf(name)
	if t.number != 0 {
		return t
	}
	old := s.tenants.Load()
	t.name, t.number = strings.Clone(name), uint32(len(old.list))
	next := &tenants{numbers: maps.Clone(old.numbers), list: append(slices.Clip(old.list), t)}
	next.numbers[t.name] = t.number
	s.tenants.Store(next)
	return t
}

// hash is keyed by the store's random seed, so nobody can choose ids that collide.
func (s *Store) hash(t *tenant, kind authz.Kind, id string) uint64 {
	return maphash.String(s.seed, id) ^ bits.RotateLeft64(t.hash, int(kind)+1)
}

func (s *Store) placeOf(t *tenant, kind authz.Kind, id string) place {
	h := s.hash(t, kind, id)
	return place{hash: h, meta: uint64(t.number)<<32 | uint64(kind)<<24 | h>>32&0xffffff}
}

func (s *Store) hashOf(c *cell) uint64 {
	return s.hash(&s.tenants.Load().list[c.meta>>32], authz.Kind(c.meta>>24), c.id)
}

func (s *Store) keyOf(c *cell) authz.Key {
	return authz.Key{
		Tenant: s.tenants.Load().list[c.meta>>32].name,
		Kind:   authz.Kind(c.meta >> 24),
		ID:     c.id,
	}
}

// birth gives the number of the counter that the birth of an entity with that hash
// bumps.
func (s *Store) birth(hash uint64) uint32 {
	return uint32(hash * 0xff51afd7ed558ccd >> (64 - s.birthBits))
}
