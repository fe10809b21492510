package engine

import (
	"vigil/authz"
	"vigil/cache"
)

// Item is one request of a batch.
type Item struct {
	Request   *authz.Request
	Principal *authz.Principal
}

// DecideBatch answers the items in order and appends the answers to answers. All of
// them are true at one and the same instant: cached entries and gathered records are
// all in force before and after the one reading of now. Where stop is not nil it is
// called after each answer, and ends the batch when it returns true.
func (e *Engine) DecideBatch(caller *authz.Caller, items []Item, answers []authz.Answer, stop func(authz.Answer) bool) []authz.Answer {
	b := e.basis.Load()
	asOf := b.posture.AsOf()
	batch := make([]pending, len(items))
	for i, item := range items {
		batch[i].inquiry = e.inquire(b, caller, item.Request, item.Principal)
	}
	defer func() {
		for i := range batch {
			e.release(batch[i].inquiry)
		}
	}()

	now := e.gatherBatch(b, batch)
	for i := range batch {
		it := &batch[i]
		e.counts.lookup(it.inquiry.key, it.looked)
		answer := authz.Answer{AsOf: asOf, At: now, Cache: it.looked}
		if it.looked == authz.Hit {
			answer.Decision = it.entry.Decision
		} else {
			answer.Decision = e.conclude(it.inquiry, it.looked)
		}
		answers = append(answers, answer)
		if stop != nil && stop(answer) {
			break
		}
	}
	return answers
}

// pending is one item of a batch under way: answered by entry where looked is Hit,
// by its gathered inquiry otherwise.
type pending struct {
	inquiry *inquiry
	entry   *cache.Entry[*stamp]
	looked  authz.Lookup
}

// gatherBatch finds an entry or the records for every item, such that all were in
// force at the returned now. An entry that fails its check is gathered instead on the
// next try, so that each try has less that can fail.
func (e *Engine) gatherBatch(b *basis, batch []pending) authz.Instant {
	now := e.cfg.Now()
	for i := range batch {
		it := &batch[i]
		it.entry, it.looked = e.look(it.inquiry, now)
		if e.cfg.Cache == CacheVerify && it.looked == authz.Hit {
			it.looked = authz.Bypass // a batch verifies by not using the cache
		}
		it.inquiry.now = now
	}
	for range 3 {
		for i := range batch {
			if batch[i].looked != authz.Hit {
				batch[i].inquiry.read()
			}
		}
		now = e.cfg.Now()
		if e.confirmBatch(batch, now) {
			return now
		}
	}
	b.posture.Exclusive(func() {
		now = e.cfg.Now()
		for i := range batch {
			it := &batch[i]
			if it.looked == authz.Hit {
				it.looked = authz.MissStale
			}
			it.inquiry.now = now
			it.inquiry.read()
			it.inquiry.settle(now)
		}
	})
	return now
}

// confirmBatch checks, after now was read, everything that was found before it.
func (e *Engine) confirmBatch(batch []pending, now authz.Instant) bool {
	ok := true
	for i := range batch {
		it := &batch[i]
		if it.looked == authz.Hit {
			it.looked = e.check(it.entry, now)
			ok = ok && it.looked == authz.Hit
			it.inquiry.now = now
			continue
		}
		settled := it.inquiry.settle(now)
		ok = settled && it.inquiry.view.Confirm() && ok
	}
	return ok
}
