package cache

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"vigil/authz"
)

// Cache holds values by key. It may forget any of them at any time, and it may keep an
// older value where a newer one was put: whoever looks one up asks it whether it still
// holds, so that neither ever costs more than an evaluation. It is safe for concurrent
// use.
//
// A table of our own is in front, and ristretto behind it. The table answers what is hot
// for a fraction of a look-up in ristretto. What is asked once gets into neither, where it
// would push something out of the table: an entry takes another's place when its key is
// seen again, and goes to ristretto when it loses its own and was found at least once.
//
// Three habits of ristretto are made harmless here. It finds values by a 64-bit hash and
// never compares keys: Find does. It hashes without a secret: the hash here is seeded per
// cache. Its Set may be dropped, delayed, or lost to an older Set of the same key: nothing
// here relies on one having happened.
type Cache[V any] struct {
	seed   maphash.Seed
	front  *table[V]
	sights *sights
	store  *ristretto.Cache[uint64, *Entry[V]]
	// given: ristretto was given an entry. Until then it is not asked, for its counting of
	// what it does not have costs more than the table's whole look-up. It orders nothing.
	given atomic.Bool
}

// New makes a cache for about the given number of entries, at least 1.
func New[V any](entries int) (*Cache[V], error) {
	entries = max(entries, 1)
	store, err := ristretto.NewCache(&ristretto.Config[uint64, *Entry[V]]{
		// Ten counters per entry is what TinyLFU needs to tell frequent from rare.
		NumCounters:        max(10*int64(entries), 1000),
		MaxCost:            int64(entries),
		BufferItems:        64,
		IgnoreInternalCost: true, // the cost of an entry is 1, so MaxCost counts entries
	})
	if err != nil {
		return nil, err
	}
	return &Cache[V]{seed: maphash.MakeSeed(), front: newTable[V](entries), sights: newSights(entries), store: store}, nil
}

func (c *Cache[V]) hash(key []byte) uint64 { return maphash.Bytes(c.seed, key) }

// Find gives the entry of key, whose value may be out of date, or nil. The Lookup is Hit,
// MissAbsent, or MissForeign where another key has the same hash. It does not keep key. It
// is on the hot path: what the table has costs no lock and no allocation.
func (c *Cache[V]) Find(key []byte) (*Entry[V], authz.Lookup) {
	hash := c.hash(key)
	e, looked := c.front.find(hash, key)
	if looked == authz.Hit || !c.given.Load() {
		return e, looked
	}
	e, ok := c.store.Get(hash)
	switch {
	case !ok || e == nil:
		return nil, looked
	case string(e.key) != string(key):
		return nil, authz.MissForeign
	}
	e.found()
	c.Put(e)
	return e, authz.Hit
}

// Put takes an entry made by NewEntry, which may not change afterwards. What loses its
// place in the table to it is handed to ristretto, if it was ever found.
func (c *Cache[V]) Put(e *Entry[V]) {
	old := c.front.put(e)
	if old != nil && old.use.Load() != unused && !old.stored.Swap(true) {
		c.given.Store(true)
		c.store.Set(old.hash, old, 1)
	}
}

// Settle waits until every entry that ristretto was given was taken or dropped. It is for
// tests and benchmarks that count hits.
func (c *Cache[V]) Settle() { c.store.Wait() }

// Close ends the cache's goroutine. The cache must not be used afterwards.
func (c *Cache[V]) Close() { c.store.Close() }
