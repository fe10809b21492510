package engine

import (
	"time"

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
	for {
		if all, ok := e.decideBatch(caller, items, answers, stop); ok {
			return all
		}
	}
}

// decideBatch is one try of DecideBatch. It reports false where rules or posture were
// replaced under it, and has called stop for nothing then.
func (e *Engine) decideBatch(caller *authz.Caller, items []Item, answers []authz.Answer, stop func(authz.Answer) bool) ([]authz.Answer, bool) {
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

	now, feedAge := e.gatherBatch(b, batch)
	if e.basis.Load() != b {
		return answers, false
	}
	for i := range batch {
		it := &batch[i]
		q := it.inquiry
		q.lookups.by[it.looked].Add(1)
		answer := authz.Answer{AsOf: asOf, At: now, Expires: q.principal.Ends(), Cache: it.looked}
		if it.looked == authz.Hit && e.cfg.Cache != CacheVerify {
			answer.Decision, answer.Memo = it.entry.Value.decision, &it.entry.Value.memo
		} else {
			q.feedAge = feedAge
			answer.Decision = e.conclude(q, it.looked)
		}
		if it.looked == authz.Hit && e.cfg.Cache == CacheVerify {
			e.verify(q, it.entry, answer.Decision)
		}
		answers = append(answers, answer)
		if stop != nil && stop(answer) {
			break
		}
	}
	return answers, true
}

// pending is one item of a batch under way: answered by entry where looked is Hit,
// by its gathered inquiry otherwise.
type pending struct {
	inquiry *inquiry
	entry   *cache.Entry[kept]
	looked  authz.Lookup
}

// gathers reports whether the item's records are read: unless an entry answers it alone.
func (it *pending) gathers(mode CacheMode) bool { return it.looked != authz.Hit || mode == CacheVerify }

// gatherBatch finds an entry or the records for every item, such that all were in
// force at the returned now. An entry that fails its check is gathered instead on the
// next try, so that each try has less that can fail.
func (e *Engine) gatherBatch(b *basis, batch []pending) (now authz.Instant, feedAge time.Duration) {
	for i := range batch {
		it := &batch[i]
		it.entry, it.looked = e.look(it.inquiry)
	}
	for range 3 {
		for i := range batch {
			if it := &batch[i]; it.gathers(e.cfg.Cache) {
				it.inquiry.read()
			}
		}
		now = e.cfg.Now()
		feedAge = e.feedAge(now)
		if e.confirmBatch(batch, now, feedAge) {
			return now, feedAge
		}
	}
	b.posture.Exclusive(func() {
		now = e.cfg.Now()
		feedAge = e.feedAge(now)
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
	return now, feedAge
}

// confirmBatch checks, after now was read, everything that was found before it.
func (e *Engine) confirmBatch(batch []pending, now authz.Instant, feedAge time.Duration) bool {
	ok := true
	for i := range batch {
		it := &batch[i]
		gathered := it.gathers(e.cfg.Cache)
		if it.looked == authz.Hit {
			it.looked = e.check(it.inquiry, it.entry, now, feedAge)
			ok = ok && it.looked == authz.Hit
		}
		if gathered {
			settled := it.inquiry.settle(now)
			ok = settled && it.inquiry.view.Confirm() && ok
		}
	}
	return ok
}
