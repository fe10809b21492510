package engine

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/cache"
	"vigil/posture"
	"vigil/rules"
)

// CacheMode says what the engine does with its decision cache.
type CacheMode uint8

// The modes.
const (
	CacheOn CacheMode = iota
	CacheOff
	// CacheVerify evaluates beside every hit and counts the differences. A difference
	// is counted only where the entry was still current after the evaluation.
	CacheVerify
	// CacheUnchecked serves entries without asking whether they are current. It is
	// wrong, and it is here so that tests and demonstrations can show what goes wrong;
	// no configuration names it.
	CacheUnchecked
)

// DefaultCacheEntries is how many decisions are kept where Config does not say.
const DefaultCacheEntries = 100_000

// Config is what an engine needs besides rules and posture.
type Config struct {
	Cache        CacheMode
	CacheEntries int // 0 for DefaultCacheEntries
	// Now reads the clock. It never goes back and is safe for concurrent use. Required.
	Now func() authz.Instant
	// FeedAge says how old the view of the signals is at now. Nil means never old, as
	// with a log that only this process writes.
	FeedAge func(now authz.Instant) time.Duration
}

// Engine decides. It is safe for concurrent use. It holds no lock while it decides,
// but for Store.Exclusive when signals overtake it three times in a row.
type Engine struct {
	cfg   Config
	cache *cache.Cache[kept] // nil with CacheOff

	// basis is replaced whole. A decision loads it once; a cached decision holds the
	// basis it was made from and is dead as soon as another one is stored here.
	basis atomic.Pointer[basis]

	inquiries sync.Pool // *inquiry
	counts    counters
}

// basis is what all decisions of a time have in common.
type basis struct {
	rules   *rules.Set
	posture *posture.Store
}

// kept is a cached decision with what it was computed from.
type kept struct {
	decision   *authz.Decision
	validUntil authz.Instant // exclusive
	basis      *basis
	// maxFeedAge is the bound of the profile that decided; 0 for none.
	maxFeedAge time.Duration
	memo       authz.Memo
	reads      posture.Stamp
}

// New makes an engine. It cannot decide before the first Use.
func New(cfg Config) (*Engine, error) {
	if cfg.Now == nil {
		return nil, errors.New("engine: no clock")
	}
	if cfg.CacheEntries == 0 {
		cfg.CacheEntries = DefaultCacheEntries
	}
	e := &Engine{cfg: cfg}
	e.inquiries.New = func() any { return &inquiry{lookups: e.counts.shard()} }
	if cfg.Cache != CacheOff {
		c, err := cache.New[kept](cfg.CacheEntries)
		if err != nil {
			return nil, err
		}
		e.cache = c
	}
	return e, nil
}

// Use makes set and store what the engine decides by, from now on and at once. Cached
// decisions of another set or store are never served again. It may run beside Decide.
func (e *Engine) Use(set *rules.Set, store *posture.Store) {
	e.basis.Store(&basis{rules: set, posture: store})
}

// Rules gives the rule set in use, or nil before the first Use.
func (e *Engine) Rules() *rules.Set {
	if b := e.basis.Load(); b != nil {
		return b.rules
	}
	return nil
}

// Close ends the cache's own goroutine. The engine must not be used afterwards.
func (e *Engine) Close() {
	if e.cache != nil {
		e.cache.Close()
	}
}

// Decide answers one request. It keeps neither req nor p, nor any string of theirs.
//
// Why an answer is true of one instant: an entry is found before now is read and checked
// after. Its records are compared by address, and an address is never reused while the
// entry lives, so what is current when it is checked was current from the entry's making
// until then, now included. A fresh decision reads its records, then now, then looks at
// every record again (see gather). The basis is looked at last, so the rules were the
// engine's at now, too. As-of is loaded before anything else, so that no answer claims a
// position that it may not have seen.
func (e *Engine) Decide(caller *authz.Caller, req *authz.Request, p *authz.Principal) (answer authz.Answer) {
	for !e.decide(caller, req, p, &answer) {
	}
	return answer
}

// decide is one try of Decide. It reports false where rules or posture were replaced
// under it.
func (e *Engine) decide(caller *authz.Caller, req *authz.Request, p *authz.Principal, answer *authz.Answer) bool {
	b := e.basis.Load()
	asOf := b.posture.AsOf()
	q := e.inquire(b, caller, req, p)
	defer e.release(q)

	entry, looked := e.look(q)
	if looked == authz.Hit {
		q.now = e.cfg.Now()
		looked = e.check(q, entry, q.now, e.feedAge(q.now))
	}
	q.lookups.by[looked].Add(1)
	if looked == authz.Hit && e.cfg.Cache != CacheVerify {
		*answer = authz.Answer{Decision: entry.Value.decision, Memo: &entry.Value.memo, AsOf: asOf, At: q.now, Expires: p.Ends(), Cache: authz.Hit}
		return true
	}
	q.gather(e.cfg.Now)
	if e.basis.Load() != b {
		return false
	}
	q.feedAge = e.feedAge(q.now)
	decision := e.conclude(q, looked)
	if looked == authz.Hit {
		e.verify(q, entry, decision)
	}
	*answer = authz.Answer{Decision: decision, AsOf: asOf, At: q.now, Expires: p.Ends(), Cache: looked}
	return true
}

// look finds the entry that may answer q. It is Bypass for requests whose answer is
// never cached, for what they carry is in no key.
func (e *Engine) look(q *inquiry) (*cache.Entry[kept], authz.Lookup) {
	if e.cache == nil || q.principal.Problem != "" || q.plan == nil {
		return nil, authz.Bypass
	}
	q.buildKey()
	return e.cache.Find(q.key)
}

// check says whether an entry, found before now was read, answers q at now. Plans are
// numbered anew in every rule set, so a key means something only within its own basis.
// It is on the hot path: it loads one pointer, then one per entity. The basis is loaded
// first; see Decide for why the order of the records does not matter.
func (e *Engine) check(q *inquiry, entry *cache.Entry[kept], now authz.Instant, feedAge time.Duration) authz.Lookup {
	k := &entry.Value
	switch {
	case e.cfg.Cache == CacheUnchecked:
		return authz.Hit
	case q.expired(now), k.maxFeedAge > 0 && feedAge > k.maxFeedAge:
		return authz.Bypass
	case k.basis != q.basis:
		return authz.MissStale
	case now >= k.validUntil:
		return authz.MissExpired
	case e.basis.Load() != k.basis || !k.reads.Current():
		return authz.MissStale
	}
	return authz.Hit
}

// conclude judges a gathered q, and offers the answer to the cache where q was looked
// for there in vain.
func (e *Engine) conclude(q *inquiry, looked authz.Lookup) *authz.Decision {
	decision := q.judge()
	if looked == authz.Bypass || looked == authz.Hit || !q.cacheable {
		return decision
	}
	if entry := e.cache.NewEntry(q.key); entry != nil {
		k := &entry.Value
		k.decision, k.validUntil, k.basis = decision, decision.ValidUntil, q.basis
		if q.profile != nil {
			k.maxFeedAge = q.profile.MaxFeedAge
		}
		q.view.Stamp(&k.reads)
		e.cache.Put(entry)
	}
	return decision
}

// verify compares an entry with what was decided beside it, and counts a mismatch where
// both were true at the same instant and differ.
func (e *Engine) verify(q *inquiry, entry *cache.Entry[kept], fresh *authz.Decision) {
	if e.check(q, entry, q.now, q.feedAge) == authz.Hit && !same(entry.Value.decision, fresh) {
		e.counts.mismatch.Add(1)
	}
}

func (e *Engine) feedAge(now authz.Instant) time.Duration {
	if e.cfg.FeedAge == nil {
		return 0
	}
	return e.cfg.FeedAge(now)
}
