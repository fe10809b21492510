package cache

import "sync/atomic"

// roomForKey is how long a key may be to lie in its entry's own block, in bytes. Keys of
// ordinary requests do.
const roomForKey = 168

// Entry is a value under its key. Key and value are immutable once put. They lie in one
// block of memory, so that a hit touches few cache lines.
type Entry[V any] struct {
	hash uint64
	key  []byte // in room, where it fits

	// use and stored choose what is kept and order nothing. A write of either that is
	// lost costs a place in the cache.
	use    atomic.Uint32
	stored atomic.Bool // ristretto was given it

	Value V
	room  [roomForKey]byte
}

// The uses of an entry.
const (
	unused  uint32 = iota // never found since it was put
	earlier               // found, but not since the table last looked for a place
	lately
)

// NewEntry makes an entry for key, which it copies. The caller fills its Value, then puts
// it. It gives nil where key should not be kept yet: it would push something out, and was
// not asked for lately. Agents ask much that nobody asks again, and keeping it costs more
// than deciding it once more.
func (c *Cache[V]) NewEntry(key []byte) *Entry[V] {
	hash := c.hash(key)
	if !c.front.free(hash) && !c.sights.again(hash) {
		return nil
	}
	e := &Entry[V]{hash: hash}
	e.key = append(e.room[:0], key...)
	return e
}

// found is on the hot path: an entry that is hot already is not written, for its cache
// line is shared with other processors.
func (e *Entry[V]) found() {
	if e.use.Load() != lately {
		e.use.Store(lately)
	}
}
