package signals

import (
	"hash/maphash"
	"sync"
)

// recentIDs remembers the content behind the latest ids of each source, so that one id
// for two signals is noticed. It keeps hashes only. It is safe for concurrent use.
type recentIDs struct {
	seed maphash.Seed

	mu    sync.Mutex
	byID  map[uint64]uint64 // hash of source and id → hash of content
	order []uint64          // ring of keys, oldest at next
	next  int
}

// maxRecentIDs bounds it: some 3 MB.
const maxRecentIDs = 1 << 16

func newRecentIDs() *recentIDs {
	return &recentIDs{seed: maphash.MakeSeed(), byID: make(map[uint64]uint64)}
}

// claim reports whether (source, id) may stand for content: it is new, or stands for the
// same. fresh says that it was new; release takes such a claim back.
func (r *recentIDs) claim(source, id string, content []byte) (key uint64, fresh, ok bool) {
	var h maphash.Hash
	h.SetSeed(r.seed)
	h.WriteString(source)
	h.WriteByte(0) // neither holds a control character
	h.WriteString(id)
	key = h.Sum64()
	sum := maphash.Bytes(r.seed, content)

	r.mu.Lock()
	defer r.mu.Unlock()
	if was, there := r.byID[key]; there {
		return key, false, was == sum
	}
	r.byID[key] = sum
	if len(r.order) < maxRecentIDs {
		r.order = append(r.order, key)
		return key, true, true
	}
	delete(r.byID, r.order[r.next])
	r.order[r.next] = key
	r.next = (r.next + 1) % maxRecentIDs
	return key, true, true
}

// release takes back a fresh claim of a signal that was not written. Its place in the
// ring stays until it is overwritten.
func (r *recentIDs) release(key uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, key)
}
