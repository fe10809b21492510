package cache

import (
	"math/bits"
	"sync/atomic"
)

// sights remembers which keys were asked for once, so that a key that never comes again
// costs four bytes and not an entry. It is a fixed array of marks: a key's hash chooses
// the place and is its mark. A mark that another key's has replaced costs one evaluation
// more, and one that is taken for another's costs a place in the table too early.
type sights struct {
	marks []atomic.Uint32 // a power of two; 0 is no mark. They order nothing.
}

// maxSights bounds the marks to 4 MiB.
const maxSights = 1 << 20

// newSights remembers about as many keys as there are entries.
func newSights(entries int) *sights {
	return &sights{marks: make([]atomic.Uint32, min(1<<bits.Len(uint(entries)), maxSights))}
}

// again reports whether a key with this hash was seen lately, and remembers that it was.
func (s *sights) again(hash uint64) bool {
	at, mark := &s.marks[hash&uint64(len(s.marks)-1)], uint32(hash>>32)|1
	if at.Load() == mark {
		return true
	}
	at.Store(mark)
	return false
}
