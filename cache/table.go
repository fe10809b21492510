package cache

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"vigil/authz"
)

// table is what is looked into first: a fixed array of buckets of seven places each, one
// cache line wide. Readers take no lock and write nothing that is shared. Which place an
// entry takes follows the clock algorithm: those found since the last look for a place
// are passed over once.
type table[V any] struct {
	buckets []bucket[V] // a power of two
	places  int         // in use of each bucket, 1 to 7; fewer only for tiny caches
	// writing[i] guards the writes to the buckets whose number ends in i.
	writing [64]sync.Mutex
}

// bucket fills one cache line of 64 bytes.
type bucket[V any] struct {
	// tags holds in byte i eight bits of the hash of the entry in place i, and in the
	// last byte the place where the next look for one begins. It is not written at one
	// with the places. A tag that is behind its place costs a miss, or a comparison.
	tags   atomic.Uint64
	places [placesPerBucket]atomic.Pointer[Entry[V]]
}

const (
	placesPerBucket = 7
	handShift       = 8 * placesPerBucket
	// maxBuckets bounds the table to 256 KiB, which processors keep near.
	maxBuckets = 4096
)

// newTable makes a table for a quarter to a half of the given number of entries.
func newTable[V any](entries int) *table[V] {
	n := min(1<<bits.Len(uint(entries/(4*placesPerBucket))), maxBuckets)
	return &table[V]{buckets: make([]bucket[V], n), places: min(entries, placesPerBucket)}
}

func (t *table[V]) number(hash uint64) uint64 { return hash & uint64(len(t.buckets)-1) }

func tagOf(hash uint64) uint64 { return hash >> 56 }

// find is on the hot path: it takes no lock and allocates nothing.
func (t *table[V]) find(hash uint64, key []byte) (*Entry[V], authz.Lookup) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	b, looked := &t.buckets[t.number(hash)], authz.MissAbsent
	x := b.tags.Load() ^ tagOf(hash)*ones
	// The bytes of x that are zero, and sometimes one next to them that is not.
	for match := (x - ones) &^ x & (highs >> 8); match != 0; match &= match - 1 {
		e := b.places[bits.TrailingZeros64(match)>>3].Load()
		if e == nil || e.hash != hash {
			continue
		}
		if string(e.key) == string(key) {
			e.found()
			return e, authz.Hit
		}
		looked = authz.MissForeign
	}
	return nil, looked
}

// free reports whether an entry with this hash would push nothing out: there is a place, or
// one with its hash is there already. It takes no lock, for it is only a guess.
func (t *table[V]) free(hash uint64) bool {
	b := &t.buckets[t.number(hash)]
	tags := b.tags.Load()
	for i := range t.places {
		old := b.places[i].Load()
		if old == nil || tags>>(8*i)&0xff == tagOf(hash) && old.hash == hash {
			return true
		}
	}
	return false
}

// put gives e the place of an entry with its key, else an empty one, else that of an
// entry which it returns.
func (t *table[V]) put(e *Entry[V]) (displaced *Entry[V]) {
	n := t.number(e.hash)
	lock, b := &t.writing[n%uint64(len(t.writing))], &t.buckets[n]
	lock.Lock()
	defer lock.Unlock()
	tags, place := b.tags.Load(), -1
	for i := range t.places {
		old := b.places[i].Load()
		switch {
		case old == nil:
			place = i
		case tags>>(8*i)&0xff != tagOf(e.hash):
			// It is another key, and is not looked at: that would be a cache line for each.
		case old.hash == e.hash && string(old.key) == string(e.key):
			b.places[i].Store(e)
			return nil
		}
	}
	if place < 0 {
		place = int(tags >> handShift)
		for range t.places {
			displaced = b.places[place].Load()
			if displaced.use.Load() != lately {
				break
			}
			displaced.use.Store(earlier)
			place = (place + 1) % t.places
		}
		// All were found lately: the one where the look began goes, which is this one again.
		displaced = b.places[place].Load()
		next := uint64((place + 1) % t.places)
		tags = tags&^(0xff<<handShift) | next<<handShift
	}
	b.places[place].Store(e)
	shift := 8 * place
	b.tags.Store(tags&^(0xff<<shift) | tagOf(e.hash)<<shift)
	return displaced
}
