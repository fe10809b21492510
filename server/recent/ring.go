package recent

import (
	"crypto/rand"
	"encoding/hex"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// RingConfig bounds a Ring. Zero members have the defaults named.
type RingConfig struct {
	// Record gives the record in force of an entity: posture.Store.Get. Nil keeps none.
	Record         func(authz.Key) *posture.Record
	BytesPerTenant int // 1 MiB, near enough
	PerTenant      int // 2,000 decisions
	Tenants        int // 256; decisions of further tenants are dropped
	// PerSecond bounds the decisions that are copied for one tenant in a second: 500. Where
	// more come, nobody could read them before they are pushed out, and copying them would
	// cost more than deciding them. They are dropped; repeats are counted all the same.
	PerSecond int
}

// Ring remembers decisions. It is safe for concurrent use.
type Ring struct {
	cfg    RingConfig
	seed   maphash.Seed
	prefix string // of the ids, random, so that ids of another start are unknown here

	// shelves is copied when a tenant is added, under adding; readers take no lock.
	shelves atomic.Pointer[map[string]*shelf]
	adding  sync.Mutex

	// inUse are the digests of the newest rule sets, newest last; nil while none was
	// named. InUse stores it before it locks a shelf, and put loads it under that lock: no
	// entry keeps the evidence of an older set.
	inUse atomic.Pointer[[]string]

	dropped atomic.Uint64 // statistics only; orders nothing
}

// maxSets bounds the rule sets whose decisions can be explained as they were made.
// Evidence keeps its whole rule set, which no entry's size counts.
const maxSets = 4

// shelf is what is remembered of one tenant.
type shelf struct {
	mu struct {
		// Add never waits for the lock: it tries, and drops. It is not held over
		// anything that could block.
		sync.Mutex
		byKey  map[uint64]*kept // by hash; the key itself is compared
		byID   map[string]*kept
		newest *kept // the list is in order of the last time, newest first
		oldest *kept
		bytes  int
		moves  uint64        // counts additions and repeats; gives cursors
		second authz.Instant // the second that copied is of
		copied int
	}
}

type kept struct {
	entry        Entry
	requestID    []byte // entry.RequestID, overwritten by repeats
	hash         uint64
	size         int
	newer, older *kept
}

// NewRing makes an empty ring.
func NewRing(cfg RingConfig) *Ring {
	if cfg.BytesPerTenant <= 0 {
		cfg.BytesPerTenant = 1 << 20
	}
	if cfg.PerTenant <= 0 {
		cfg.PerTenant = 2000
	}
	if cfg.Tenants <= 0 {
		cfg.Tenants = 256
	}
	if cfg.PerSecond <= 0 {
		cfg.PerSecond = 500
	}
	if cfg.Record == nil {
		cfg.Record = func(authz.Key) *posture.Record { return nil }
	}
	var random [6]byte
	rand.Read(random[:])
	r := &Ring{cfg: cfg, seed: maphash.MakeSeed(), prefix: hex.EncodeToString(random[:])}
	r.shelves.Store(&map[string]*shelf{})
	return r
}

// InUse says that the rule set with that digest decides from now on. The evidence of all
// but the newest four sets is let go of: their decisions stay, and cannot be explained
// again. It waits for the shelves; it is not for the hot path. One call at a time.
func (r *Ring) InUse(digest string) {
	var sets []string
	if old := r.inUse.Load(); old != nil {
		sets = slices.DeleteFunc(slices.Clone(*old), func(d string) bool { return d == digest })
	}
	sets = append(sets, digest)
	sets = sets[max(0, len(sets)-maxSets):]
	r.inUse.Store(&sets)
	for _, s := range *r.shelves.Load() {
		s.mu.Lock()
		for k := s.mu.newest; k != nil; k = k.older {
			r.letGo(k)
		}
		s.mu.Unlock()
	}
}

// letGo drops the evidence of an older rule set. The shelf is locked.
func (r *Ring) letGo(k *kept) {
	sets, d := r.inUse.Load(), k.entry.Answer.Decision
	if sets == nil || d.Evidence == nil || slices.Contains(*sets, d.Bundle) {
		return
	}
	without := *d // the decision itself is shared and never changed
	without.Evidence = nil
	k.entry.Answer.Decision = &without
}

// Add remembers e unless it is an allow. It never waits: where that would be needed, e
// is dropped and counted. A repeat costs no allocation.
func (r *Ring) Add(e *Event) {
	if e.Answer.Decision == nil || e.Answer.Effect == authz.Allow {
		return
	}
	s := r.shelf(e.Tenant)
	if s == nil {
		r.dropped.Add(1)
		return
	}
	hash := r.hash(e)
	if !s.tryLock() {
		r.dropped.Add(1)
		return
	}
	repeated := s.repeat(hash, e)
	admitted := repeated || s.admit(e.Answer.At, r.cfg.PerSecond)
	s.mu.Unlock()
	if repeated {
		return
	}
	if !admitted {
		r.dropped.Add(1)
		return
	}
	// Copied without the lock: what is large must not keep others out.
	k := r.keep(e, hash)
	if k.size > r.cfg.BytesPerTenant || !s.tryLock() {
		r.dropped.Add(1)
		return
	}
	if !s.repeat(hash, e) {
		s.put(r, k)
	}
	s.mu.Unlock()
}

// admit reports whether one more decision may be copied in the second of now. s is locked.
func (s *shelf) admit(now authz.Instant, most int) bool {
	if second := now - now%authz.Instant(time.Second); second != s.mu.second {
		s.mu.second, s.mu.copied = second, 0
	}
	s.mu.copied++
	return s.mu.copied <= most
}

// tryLock tries a few times, for the lock is held for less than a microsecond by
// another Add.
func (s *shelf) tryLock() bool {
	for range 16 {
		if s.mu.TryLock() {
			return true
		}
	}
	return false
}

func (r *Ring) shelf(tenant string) *shelf {
	if s := (*r.shelves.Load())[tenant]; s != nil {
		return s
	}
	if !r.adding.TryLock() {
		return nil
	}
	defer r.adding.Unlock()
	old := *r.shelves.Load()
	if s := old[tenant]; s != nil {
		return s
	}
	if len(old) >= r.cfg.Tenants {
		return nil
	}
	s := &shelf{}
	s.mu.byKey, s.mu.byID = make(map[uint64]*kept), make(map[string]*kept)
	grown := maps.Clone(old)
	grown[clone(tenant)] = s
	r.shelves.Store(&grown)
	return s
}

func (r *Ring) hash(e *Event) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	for _, s := range [...]string{
		e.Principal.Agent, e.Request.Action.Name, e.Request.Resource.Type, e.Request.Resource.ID, string(e.Answer.Code),
	} {
		h.WriteString(s)
		h.WriteByte(0xff) // in no valid UTF-8
	}
	return h.Sum64()
}

// repeat counts e with the entry that it repeats, if there is one. s is locked.
func (s *shelf) repeat(hash uint64, e *Event) bool {
	k := s.mu.byKey[hash]
	if k == nil || k.entry.Principal.Agent != e.Principal.Agent || k.entry.Answer.Code != e.Answer.Code ||
		k.entry.Request.Action.Name != e.Request.Action.Name ||
		k.entry.Request.Resource.Type != e.Request.Resource.Type || k.entry.Request.Resource.ID != e.Request.Resource.ID {
		return false
	}
	k.entry.Count++
	k.entry.Last = max(k.entry.Last, e.Answer.At)
	k.requestID = append(k.requestID[:0], e.RequestID...)
	s.unlink(k)
	s.link(k)
	return true
}

// keep copies e.
func (r *Ring) keep(e *Event, hash uint64) *kept {
	k := &kept{hash: hash, requestID: []byte(e.RequestID)}
	k.entry = Entry{
		Tenant: clone(e.Tenant), Count: 1, First: e.Answer.At, Last: e.Answer.At,
		Client: clone(e.Client), TraceID: clone(e.TraceID),
		Principal: clonePrincipal(e.Principal), Answer: e.Answer,
	}
	k.entry.Answer.AsOf = clone(e.Answer.AsOf)
	if e.Caller != nil {
		k.entry.Caller = *e.Caller
	}
	k.size = 512 + len(e.RequestID) + len(e.Client) + len(e.Answer.AsOf) + sizeOfPrincipal(e.Principal)
	size := sizeOfRequest(e.Request)
	if size > r.cfg.BytesPerTenant/16 {
		// Or a few of them would push out everything else.
		k.entry.Request, k.entry.Bare = bare(e.Request), true
		size = sizeOfRequest(k.entry.Request)
	} else {
		k.entry.Request = e.Request.Clone()
	}
	refs := touched(k.entry.Principal)
	if ref := e.Answer.Entity; ref.Kind != authz.NoKind && !slices.Contains(refs, ref) {
		refs = append(refs, ref)
	}
	k.entry.Records = make([]Reading, len(refs))
	for i, ref := range refs {
		k.entry.Records[i] = Reading{Ref: ref, Record: r.cfg.Record(ref.In(k.entry.Tenant))}
		if record := k.entry.Records[i].Record; record != nil {
			k.size += record.Size() // nobody else may refer to it any more
		}
	}
	k.size += size + 48*len(refs)
	return k
}

// put adds k and forgets the oldest until the bounds hold. s is locked.
func (s *shelf) put(r *Ring, k *kept) {
	if other := s.mu.byKey[k.hash]; other != nil {
		s.forget(other) // another key with the same hash
	}
	r.letGo(k)
	s.link(k)
	k.entry.ID = r.prefix + "-" + strconv.FormatUint(k.entry.Cursor, 36)
	s.mu.byKey[k.hash], s.mu.byID[k.entry.ID] = k, k
	s.mu.bytes += k.size
	for s.mu.bytes > r.cfg.BytesPerTenant || len(s.mu.byID) > r.cfg.PerTenant {
		s.forget(s.mu.oldest)
	}
}

func (s *shelf) forget(k *kept) {
	s.unlink(k)
	delete(s.mu.byKey, k.hash)
	delete(s.mu.byID, k.entry.ID)
	s.mu.bytes -= k.size
}

// link puts k first.
func (s *shelf) link(k *kept) {
	s.mu.moves++
	k.entry.Cursor = s.mu.moves
	k.newer, k.older = nil, s.mu.newest
	if k.older != nil {
		k.older.newer = k
	} else {
		s.mu.oldest = k
	}
	s.mu.newest = k
}

func (s *shelf) unlink(k *kept) {
	if k.newer != nil {
		k.newer.older = k.older
	} else {
		s.mu.newest = k.older
	}
	if k.older != nil {
		k.older.newer = k.newer
	} else {
		s.mu.oldest = k.newer
	}
}

// Query says which entries are wanted.
type Query struct {
	Tenant string
	Ref    authz.Ref     // those that touch this entity; the zero Ref is any
	Since  authz.Instant // those whose last time is not before
	Before uint64        // those older than the one with this Cursor; 0 is any
	Limit  int           // 100 where it is 0; at most 1,000
}

// Query gives entries, the one that happened last first.
func (r *Ring) Query(q Query) []Entry {
	s := (*r.shelves.Load())[q.Tenant]
	if s == nil {
		return nil
	}
	switch {
	case q.Limit <= 0:
		q.Limit = 100
	case q.Limit > 1000:
		q.Limit = 1000
	}
	var found []Entry
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := s.mu.newest; k != nil && len(found) < q.Limit; k = k.older {
		if k.entry.Last < q.Since || q.Before != 0 && k.entry.Cursor >= q.Before {
			continue
		}
		if q.Ref.Kind != authz.NoKind && !slices.ContainsFunc(k.entry.Records, func(x Reading) bool { return x.Ref == q.Ref }) {
			continue
		}
		found = append(found, k.read())
	}
	return found
}

// Get gives one entry of a tenant.
func (r *Ring) Get(tenant, id string) (Entry, bool) {
	s := (*r.shelves.Load())[tenant]
	if s == nil {
		return Entry{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.mu.byID[id]
	if k == nil {
		return Entry{}, false
	}
	return k.read(), true
}

// read copies the entry; what it points to is never changed.
func (k *kept) read() Entry {
	e := k.entry
	e.RequestID = string(k.requestID)
	return e
}

// Remembered is how many entries there are, of all tenants.
func (r *Ring) Remembered() int {
	n := 0
	for _, s := range *r.shelves.Load() {
		s.mu.Lock()
		n += len(s.mu.byID)
		s.mu.Unlock()
	}
	return n
}

// Dropped counts decisions that were to be remembered and were not.
func (r *Ring) Dropped() uint64 { return r.dropped.Load() }
