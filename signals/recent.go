package signals

import (
	"hash/maphash"
	"sync"

	"vigil/authz"
)

// recentIDs remembers the content behind the latest ids of each source, so that one id
// for two signals is noticed, and when those that overrule were dated, so that one that is
// sent again overrules nothing anew. It keeps hashes only. It is safe for concurrent use.
type recentIDs struct {
	seed maphash.Seed

	mu    sync.Mutex
	byID  map[uint64]claimed // by hash of source and id
	order []uint64           // ring of keys, oldest at next
	next  int
}

// claimed is what an id stands for.
type claimed struct {
	content uint64        // hash
	dated   authz.Instant // see Record.Dated; 0 for a signal in its source's own line
}

// maxRecentIDs bounds it: some 4 MB.
const maxRecentIDs = 1 << 16

func newRecentIDs() *recentIDs {
	return &recentIDs{seed: maphash.MakeSeed(), byID: make(map[uint64]claimed)}
}

func (r *recentIDs) key(source, id string) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	h.WriteString(source)
	h.WriteByte(0) // neither holds a control character
	h.WriteString(id)
	return h.Sum64()
}

// dated gives the date that (source, id) was claimed with; 0 where it was not, or is in
// its source's own line.
func (r *recentIDs) dated(source, id string) authz.Instant {
	key := r.key(source, id)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[key].dated
}

// claim reports whether (source, id) may stand for content: it is new, or stands for the
// same, and then was is the date that it was claimed with. fresh says that it was new;
// release takes such a claim back.
func (r *recentIDs) claim(source, id string, content []byte, dated authz.Instant) (key uint64, was authz.Instant, fresh, ok bool) {
	key = r.key(source, id)
	sum := maphash.Bytes(r.seed, content)

	r.mu.Lock()
	defer r.mu.Unlock()
	if c, there := r.byID[key]; there {
		return key, c.dated, false, c.content == sum
	}
	r.byID[key] = claimed{sum, dated}
	if len(r.order) < maxRecentIDs {
		r.order = append(r.order, key)
		return key, dated, true, true
	}
	delete(r.byID, r.order[r.next])
	r.order[r.next] = key
	r.next = (r.next + 1) % maxRecentIDs
	return key, dated, true, true
}

// release takes back a fresh claim of a signal that was not written. Its place in the
// ring stays until it is overwritten.
func (r *recentIDs) release(key uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, key)
}
