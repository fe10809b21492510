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
	cache *cache.Cache[*stamp] // nil with CacheOff

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

// stamp is what a cached decision was computed from.
type stamp struct {
	engine *Engine
	basis  *basis
	reads  posture.Stamp
	// maxFeedAge is the bound of the profile that decided; 0 for none.
	maxFeedAge time.Duration
}

// Current is on the hot path: it loads one pointer, then one per entity, and does
// nothing else. The basis is loaded first; see Decide for why the order of the
// records does not matter.
func (s *stamp) Current() bool {
	return s.engine.basis.Load() == s.basis && s.reads.Current()
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
	e.inquiries.New = func() any { return new(inquiry) }
	if cfg.Cache != CacheOff {
		c, err := cache.New[*stamp](cfg.CacheEntries)
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
// Why an answer is true of one instant: records are compared by address and an address
// is never reused while the entry lives, so an entry whose records are all current when
// it is checked was current from its making until then, and now is read before the
// check. A fresh decision reads its records, then now, then looks at every record again
// (see gather). As-of is loaded before either, so that no answer claims a position that
// it may not have seen.
func (e *Engine) Decide(caller *authz.Caller, req *authz.Request, p *authz.Principal) authz.Answer {
	b := e.basis.Load()
	asOf := b.posture.AsOf()
	q := e.inquire(b, caller, req, p)
	defer e.release(q)

	now := e.cfg.Now()
	entry, looked := e.look(q, now)
	if looked == authz.Hit {
		looked = e.check(entry, now)
	}
	if looked == authz.Hit && e.cfg.Cache == CacheVerify {
		return e.verify(q, entry, asOf)
	}
	e.counts.lookup(q.key, looked)
	if looked == authz.Hit {
		return authz.Answer{Decision: entry.Decision, AsOf: asOf, At: now, Cache: authz.Hit}
	}
	q.gather(e.cfg.Now)
	decision := e.conclude(q, looked)
	return authz.Answer{Decision: decision, AsOf: asOf, At: q.now, Cache: looked}
}

// look finds the entry that answers q, unchecked. It is Bypass for requests whose
// answer is never cached: what the request carries is in no key, or has expired.
func (e *Engine) look(q *inquiry, now authz.Instant) (*cache.Entry[*stamp], authz.Lookup) {
	if e.cache == nil || q.principal.Problem != "" || q.plan == nil || q.expired(now) {
		return nil, authz.Bypass
	}
	q.buildKey()
	return e.cache.Find(q.key)
}

// check says whether a found entry may be served at now.
func (e *Engine) check(entry *cache.Entry[*stamp], now authz.Instant) authz.Lookup {
	if e.cfg.Cache == CacheUnchecked {
		return authz.Hit
	}
	if bound := entry.Stamp.maxFeedAge; bound > 0 && e.feedAge(now) > bound {
		return authz.Bypass
	}
	return entry.Check(now)
}

// conclude judges a gathered q, and offers the answer to the cache.
func (e *Engine) conclude(q *inquiry, looked authz.Lookup) *authz.Decision {
	q.feedAge = e.feedAge(q.now)
	decision := q.judge()
	if looked != authz.Bypass && q.cacheable {
		s := &stamp{engine: e, basis: q.basis, reads: q.view.Stamp()}
		if q.profile != nil {
			s.maxFeedAge = q.profile.MaxFeedAge
		}
		e.cache.Put(&cache.Entry[*stamp]{
			Key: append([]byte(nil), q.key...), Stamp: s,
			ValidUntil: decision.ValidUntil, Decision: decision,
		})
	}
	return decision
}

// verify evaluates beside a hit. Where both answers were true at the same instant and
// differ, it counts a mismatch; either way it gives the fresh one.
func (e *Engine) verify(q *inquiry, entry *cache.Entry[*stamp], asOf string) authz.Answer {
	e.counts.lookup(q.key, authz.Hit)
	q.gather(e.cfg.Now)
	fresh := e.conclude(q, authz.Bypass)
	if e.check(entry, q.now) == authz.Hit && !same(entry.Decision, fresh) {
		e.counts.mismatch.Add(1)
	}
	return authz.Answer{Decision: fresh, AsOf: asOf, At: q.now, Cache: authz.Hit}
}

func (e *Engine) feedAge(now authz.Instant) time.Duration {
	if e.cfg.FeedAge == nil {
		return 0
	}
	return e.cfg.FeedAge(now)
}
