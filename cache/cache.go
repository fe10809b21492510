package cache

import (
	"hash/maphash"

	"github.com/dgraph-io/ristretto/v2"

	"vigil/authz"
)

// Stamp is what an entry was computed from.
type Stamp interface {
	// Current reports whether all of it is still in force. It is asked on every hit.
	Current() bool
}

// Entry is a decision under its key. It is immutable once put.
type Entry[S Stamp] struct {
	// Key is everything of the request that the decision depends on. The cache keeps
	// it, and compares all of it on every look-up.
	Key        []byte
	Stamp      S
	ValidUntil authz.Instant // the end of the decision's time; exclusive
	Decision   *authz.Decision
}

// Check says whether the entry may be served at now.
func (e *Entry[S]) Check(now authz.Instant) authz.Lookup {
	switch {
	case now >= e.ValidUntil:
		return authz.MissExpired
	case !e.Stamp.Current():
		return authz.MissStale
	}
	return authz.Hit
}

// Cache holds decisions by key. It may forget any of them at any time, and it may keep
// an older entry where a newer one was put: an entry proves itself on every look-up, so
// neither ever costs more than an evaluation. It is safe for concurrent use.
//
// Behind it is ristretto, with three of its habits made harmless here. It finds values
// by a 64-bit hash and never compares keys: Find does. It hashes without a secret: the
// hash here is seeded per cache. Its Set may be dropped, delayed, or lost to an older
// Set of the same key: nothing here relies on one having happened.
type Cache[S Stamp] struct {
	seed  maphash.Seed
	store *ristretto.Cache[uint64, *Entry[S]]
}

// New makes a cache for about the given number of decisions, at least 1.
func New[S Stamp](entries int) (*Cache[S], error) {
	entries = max(entries, 1)
	store, err := ristretto.NewCache(&ristretto.Config[uint64, *Entry[S]]{
		// Ten counters per entry is what TinyLFU needs to tell frequent from rare.
		NumCounters:        max(10*int64(entries), 1000),
		MaxCost:            int64(entries),
		BufferItems:        64,
		IgnoreInternalCost: true, // the cost of an entry is 1, so MaxCost counts entries
	})
	if err != nil {
		return nil, err
	}
	return &Cache[S]{seed: maphash.MakeSeed(), store: store}, nil
}

// Find gives the entry of key, which may be out of date, or nil. The Lookup is Hit,
// MissAbsent, or MissForeign where another key has the same hash. It does not keep key,
// and it allocates next to nothing (ristretto takes a new buffer for every 64 look-ups).
func (c *Cache[S]) Find(key []byte) (*Entry[S], authz.Lookup) {
	e, ok := c.store.Get(maphash.Bytes(c.seed, key))
	switch {
	case !ok || e == nil:
		return nil, authz.MissAbsent
	case string(e.Key) != string(key):
		return nil, authz.MissForeign
	}
	return e, authz.Hit
}

// Put offers an entry. Neither e nor its key may change afterwards.
func (c *Cache[S]) Put(e *Entry[S]) {
	c.store.Set(maphash.Bytes(c.seed, e.Key), e, 1)
}

// Settle waits until every entry put so far was taken or dropped. It is for tests and
// benchmarks that count hits.
func (c *Cache[S]) Settle() { c.store.Wait() }

// Close ends the cache's goroutine. The cache must not be used afterwards.
func (c *Cache[S]) Close() { c.store.Close() }
