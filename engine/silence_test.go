package engine

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// watched is an engine whose profile default denies when client:soar has been silent for a
// minute, and careful demands an approval when it or client:siem has.
type watched struct {
	t      testing.TB
	engine *Engine
	store  *posture.Store
	clock  *hand
}

func newWatched(t testing.TB, mode CacheMode) *watched {
	w := &watched{t: t, store: posture.NewStore(), clock: newHand()}
	w.engine = newEngine(t, Config{Now: w.clock.Now, Cache: mode})
	_, set := loadUnder(t, monitored, ruleSets[0])
	w.engine.Use(set, w.store)
	w.store.Apply(start, change(agentKey("1"), register(start, "default")))
	return w
}

func (w *watched) ask(agent string) authz.Answer {
	req, p := lookRequest(agent, "s")
	answer := w.engine.Decide(anyone, req, p)
	w.engine.settle()
	return answer
}

func (w *watched) says(code authz.Code) authz.Answer {
	w.t.Helper()
	a := w.ask("1")
	if a.Code != code {
		w.t.Fatalf("%v (%s, %v) where %s is wanted, %v", a.Code, a.ReasonAdmin, a.Cache, code, w.clock.Now()-start)
	}
	return a
}

func sourceKey(source string) authz.Key {
	return authz.Ref{Kind: authz.KindSource, ID: source}.In(authz.DefaultTenant)
}

// waive is an exception for a time.
func waive(at authz.Instant, id string, lasts time.Duration) posture.Fact {
	f := fact(posture.Waive, "soc", at)
	f.ID, f.Until = id, at.Add(lasts)
	return f
}

// TestNoAllowOutlivesASilence: a cached allow ends with the last instant at which its
// source was alive, and not a nanosecond later.
func TestNoAllowOutlivesASilence(t *testing.T) {
	for _, mode := range []CacheMode{CacheOn, CacheOff, CacheVerify} {
		w := newWatched(t, mode)
		if a := w.says(authz.SourceSilent); !strings.Contains(a.ReasonAdmin, "source:client:soar was never heard") || a.Class != authz.ClassStale {
			t.Errorf("%+v", a.Decision)
		}
		w.store.Hear("client:soar", start.Add(-10*time.Second), w.clock.Now())
		if a := w.says(authz.Allowed); a.ValidUntil != start.Add(50*time.Second) {
			t.Errorf("it is valid until %v", a.ValidUntil-start)
		}
		w.clock.Advance(50*time.Second - 1)
		if a := w.says(authz.Allowed); mode == CacheOn && a.Cache != authz.Hit {
			t.Errorf("the cache was %v", a.Cache)
		}
		w.clock.Advance(1)
		a := w.says(authz.SourceSilent)
		if a.Entity.String() != "source:client:soar" || a.Effect != authz.Deny ||
			!strings.Contains(a.ReasonAdmin, `was last heard at 2026-11-23T08:59:50Z, 1m0s ago; agents of class "default" may act while it is silent for at most 1m0s`) {
			t.Errorf("%v, %s", a.Entity, a.ReasonAdmin)
		}
		if w.engine.Stats().Mismatch != 0 {
			t.Error("the cache and a fresh decision differ")
		}
	}
}

func TestAHeartbeatEndsTheSilenceAtOnce(t *testing.T) {
	w := newWatched(t, CacheOn)
	for range 3 {
		w.says(authz.SourceSilent)
		w.says(authz.SourceSilent)
		w.store.Hear("client:soar", w.clock.Now(), w.clock.Now())
		w.says(authz.Allowed)
		w.clock.Advance(time.Minute)
	}
}

// TestHearingASourceCostsNoCachedAnswer: it only puts off what its silence would do.
func TestHearingASourceCostsNoCachedAnswer(t *testing.T) {
	w := newWatched(t, CacheOn)
	w.store.Hear("client:soar", start, w.clock.Now())
	w.says(authz.Allowed)
	for range 30 {
		w.clock.Advance(time.Second)
		w.store.Hear("client:soar", w.clock.Now(), w.clock.Now())
		w.store.Hear("client:siem", w.clock.Now(), w.clock.Now())
		if a := w.says(authz.Allowed); a.Cache != authz.Hit {
			t.Fatal(a.Cache)
		}
	}
	w.clock.Advance(31 * time.Second) // the kept answer ends, and the next rests on what was heard since
	if a := w.says(authz.Allowed); a.Cache != authz.MissExpired || a.ValidUntil != start.Add(90*time.Second) {
		t.Error(a.Cache, a.ValidUntil-start)
	}
}

func TestAWaiverEndsWithItsTime(t *testing.T) {
	w := newWatched(t, CacheOn)
	w.store.Apply(start, change(sourceKey("client:soar"), waive(start, "INC-7", 10*time.Second)))
	if a := w.says(authz.Allowed); !slices.Equal(a.Waived, []string{"client:soc/INC-7"}) || a.ValidUntil != start.Add(10*time.Second) {
		t.Errorf("waived by %q until %v", a.Waived, a.ValidUntil-start)
	}
	w.clock.Advance(10*time.Second - 1)
	w.says(authz.Allowed)
	w.clock.Advance(1)
	w.says(authz.SourceSilent)
}

func TestALiftedWaiverDeniesTheNextCall(t *testing.T) {
	w := newWatched(t, CacheOn)
	w.store.Apply(start, change(sourceKey("client:soar"), waive(start, "INC-7", time.Hour), waive(start, "INC-8", time.Hour)))
	lift := func(id string) {
		f := fact(posture.Lift, "soc", start)
		f.Lifts = &posture.Target{Facet: posture.Waive, Source: "client:soc", ID: id}
		w.store.Apply(start, change(sourceKey("client:soar"), f))
	}
	w.says(authz.Allowed)
	lift("INC-7")
	if a := w.says(authz.Allowed); !slices.Equal(a.Waived, []string{"client:soc/INC-8"}) {
		t.Errorf("waived by %q", a.Waived)
	}
	lift("INC-8")
	w.says(authz.SourceSilent)
}

// TestAWaiverIsOfItsTenantAndItsSource: one elsewhere changes nothing.
func TestAWaiverIsOfItsTenantAndItsSource(t *testing.T) {
	w := newWatched(t, CacheOn)
	w.store.Apply(start, []posture.Change{
		{Key: sourceKey("client:siem"), Facts: []posture.Fact{waive(start, "a", time.Hour)}},
		{Key: authz.Ref{Kind: authz.KindSource, ID: "client:soar"}.In("acme"), Facts: []posture.Fact{waive(start, "b", time.Hour)}},
	})
	w.says(authz.SourceSilent)
}

// TestAWaiverIsNotNamedWhereItIsNotNeeded: an answer says by which exceptions it was given.
func TestAWaiverIsNotNamedWhereItIsNotNeeded(t *testing.T) {
	w := newWatched(t, CacheOn)
	w.store.Apply(start, change(sourceKey("client:soar"), waive(start, "a", time.Hour)))
	w.says(authz.Allowed)
	w.store.Hear("client:soar", start, w.clock.Now())
	if a := w.says(authz.Allowed); len(a.Waived) != 0 || a.Cache == authz.Hit {
		t.Errorf("%v, waived by %q", a.Cache, a.Waived)
	}
	w.store.Apply(start, change(agentKey("1"), quarantine(start)))
	w.clock.Advance(time.Hour)
	w.store.Apply(start, change(sourceKey("client:soar"), waive(w.clock.Now(), "b", time.Hour)))
	if a := w.says(authz.EntityQuarantined); len(a.Waived) != 0 {
		t.Errorf("a denial rests on %q", a.Waived)
	}
}

// TestTheProfileSaysHowASilenceDegrades: a deny by rules or posture stays one.
func TestTheProfileSaysHowASilenceDegrades(t *testing.T) {
	w := newWatched(t, CacheOn)
	pass := fact(posture.Attest, "verifier", start)
	pass.Passed = true
	w.store.Apply(start, change(agentKey("1"), register(start+1, "careful"), pass))
	w.store.Hear("client:soar", start, w.clock.Now())
	for range 2 {
		a := w.says(authz.SourceSilent)
		if a.Effect != authz.Require || a.Class != authz.ClassStale || a.Entity.String() != "source:client:siem" ||
			len(a.Obligations) != 1 || a.Obligations[0].Type != "approval" || a.Cache == authz.Hit {
			t.Errorf("%+v", a)
		}
	}
	w.store.Hear("client:siem", start, w.clock.Now())
	if a := w.says(authz.Allowed); a.ValidUntil != start.Add(30*time.Second) {
		t.Error(a.ValidUntil - start)
	}
	w.store.Apply(start, change(agentKey("1"), register(start+2, "default")))
	w.clock.Advance(59 * time.Second)
	if a := w.says(authz.Allowed); a.ValidUntil != start.Add(time.Minute) {
		t.Error("the class decides which sources count: ", a.ValidUntil-start)
	}
}

// TestTheClassAtTheTrueNowDecidesWhichSourcesCount: a registration that ends while the
// request is decided leaves nobody judged by the sources of the class before.
func TestTheClassAtTheTrueNowDecidesWhichSourcesCount(t *testing.T) {
	w := newWatched(t, CacheOff)
	old, next := register(start, "default"), register(start+1, "careful")
	next.Until = start.Add(time.Minute)
	pass := fact(posture.Attest, "verifier", start)
	pass.Passed = true
	w.store.Apply(start, change(agentKey("1"), old, next, pass))
	w.store.Hear("client:soar", start, w.clock.Now())
	w.store.Hear("client:siem", start, w.clock.Now())
	w.says(authz.Allowed)
	w.clock.Advance(time.Minute)
	w.says(authz.Unregistered) // of the newest registration, which has ended
	w.store.Apply(start, change(agentKey("1"), register(start.Add(time.Minute), "default")))
	w.says(authz.SourceSilent)
}

// TestADecisionForASilenceIsReplayed: its evidence has what was heard, whatever has been
// heard since.
func TestADecisionForASilenceIsReplayed(t *testing.T) {
	w := newWatched(t, CacheOn)
	w.store.Hear("client:soar", start.Add(-2*time.Minute), w.clock.Now())
	a := w.says(authz.SourceSilent)
	w.store.Hear("client:soar", start, w.clock.Now())
	w.clock.Advance(time.Second)
	req, p := lookRequest("1", "s")
	x := w.engine.ExplainAgain(a.Evidence.(*Evidence), anyone, req, p)
	if x.Answer.Code != authz.SourceSilent || x.Answer.ReasonAdmin != a.ReasonAdmin {
		t.Errorf("%v, %s", x.Answer.Code, x.Answer.ReasonAdmin)
	}
	last := x.Gates[len(x.Gates)-1]
	if last.Gate != "monitoring" || last.OK || last.Entity.String() != "source:client:soar" || x.Without == nil || x.Without.Effect != authz.Allow {
		t.Errorf("%+v, without it %+v", last, x.Without)
	}
	// Nor is what was never heard looked up.
	b := newWatched(t, CacheOn)
	a = b.says(authz.SourceSilent)
	b.store.Hear("client:soar", start, start)
	if x := b.engine.ExplainAgain(a.Evidence.(*Evidence), anyone, req, p); x.Answer.ReasonAdmin != a.ReasonAdmin {
		t.Error(x.Answer.ReasonAdmin)
	}
}

// TestNoAllowOutlivesASilenceUnderLoad: while a source speaks and falls silent, and the
// clock moves, no answer of many readers is an allow that began after the source had been
// silent for too long.
func TestNoAllowOutlivesASilenceUnderLoad(t *testing.T) {
	w := newWatched(t, CacheOn)
	w.store.Hear("client:soar", start, w.clock.Now())
	var spoken, asked, steps atomic.Int64 // spoken is at least as new as what the store has heard
	spoken.Store(int64(start))
	var allowed, silent atomic.Int64
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			req, p := lookRequest("1", "s")
			for n := asked.Add(1); n < 40_000; n = asked.Add(1) {
				for n > 100*steps.Load()+200 { // or all might ask at one instant
					runtime.Gosched()
				}
				a := w.engine.Decide(anyone, req, p)
				switch a.Code {
				case authz.Allowed:
					allowed.Add(1)
				case authz.SourceSilent:
					silent.Add(1)
				}
				if heard := authz.Instant(spoken.Load()); a.Effect == authz.Allow && a.At >= heard.Add(time.Minute) {
					t.Errorf("an allow at %v; heard last at %v", a.At-start, heard-start)
					return
				}
			}
		})
	}
	for i := range int64(400) {
		for asked.Load() < i*100 && !t.Failed() {
			runtime.Gosched()
		}
		steps.Store(i)
		w.clock.Advance(13 * time.Second)
		if i%16 < 9 {
			at := w.clock.Now()
			spoken.Store(int64(at)) // first, so that a reader knows of at least what counted
			w.store.Hear("client:soar", at, at)
		}
	}
	readers.Wait()
	if allowed.Load() == 0 || silent.Load() == 0 {
		t.Errorf("%d allowed and %d silent of 40,000 say little", allowed.Load(), silent.Load())
	}
}

// TestReplicasAgreeOnSilence: what was applied in another order, and twice, gives the same
// digest and the same answers at every instant.
func TestReplicasAgreeOnSilence(t *testing.T) {
	one, other := newWatched(t, CacheOn), newWatched(t, CacheOff)
	other.store = posture.NewStore()
	_, set := loadUnder(t, monitored, ruleSets[0])
	other.engine.Use(set, other.store)
	registered := register(start, "default")
	exception := waive(start, "INC-7", 90*time.Second)
	one.store = posture.NewStore()
	one.engine.Use(set, one.store)
	steps := []func(s *posture.Store){
		func(s *posture.Store) { s.Apply(start, change(agentKey("1"), registered)) },
		func(s *posture.Store) { s.Hear("client:soar", start, start.Add(time.Minute)) },
		func(s *posture.Store) { s.Hear("client:soar", start.Add(20*time.Second), start.Add(time.Minute)) },
		func(s *posture.Store) { s.Apply(start, change(sourceKey("client:soar"), exception)) },
		func(s *posture.Store) { s.Hear("client:soar", start.Add(5*time.Second), start.Add(time.Minute)) },
	}
	for i := range steps {
		steps[i](one.store)
		steps[len(steps)-1-i](other.store)
		steps[len(steps)-1-i](other.store)
	}
	for range 130 {
		if one.store.Digest(one.clock.Now()) != other.store.Digest(other.clock.Now()) {
			t.Fatal("the digests differ at", one.clock.Now()-start)
		}
		if a, b := one.ask("1"), other.ask("1"); !same(a.Decision, b.Decision) {
			t.Fatalf("at %v: %+v and %+v", a.At-start, a.Decision, b.Decision)
		}
		one.clock.Advance(time.Second)
		other.clock.Advance(time.Second)
	}
}

// TestASourceThatIsHeardAfterNowWasSilentAtNow: whoever loses its processor between now and
// what was heard gives no answer of an instant at which it was not true, alone or in a batch.
func TestASourceThatIsHeardAfterNowWasSilentAtNow(t *testing.T) {
	for _, batch := range []bool{false, true} {
		w := newWatched(t, CacheOff)
		clock := &interposed{hand: w.clock}
		clock.then = append(clock.then, func() {
			clock.Advance(time.Hour)
			w.store.Hear("client:soar", clock.hand.Now(), clock.hand.Now())
		})
		w.engine = newEngine(t, Config{Now: clock.Now, Cache: CacheOff})
		_, set := loadUnder(t, monitored, ruleSets[0])
		w.engine.Use(set, w.store)
		req, p := lookRequest("1", "s")
		var a authz.Answer
		if batch {
			a = w.engine.DecideBatch(anyone, []Item{{req, p}}, nil, nil)[0]
		} else {
			a = w.engine.Decide(anyone, req, p)
		}
		if a.Effect != authz.Allow || a.At < start.Add(time.Hour) {
			t.Errorf("batch %v: %v at %v; it was silent for an hour after that", batch, a.Code, a.At-start)
		}
	}
}

// TestABatchHearsASourceAtOneInstant: of two requests that need it none is stopped by a
// silence that has ended for the other.
func TestABatchHearsASourceAtOneInstant(t *testing.T) {
	w := newWatched(t, CacheOff)
	b := w.engine.basis.Load()
	req, p := lookRequest("1", "s")
	batch := []pending{{inquiry: w.engine.inquire(b, anyone, req, p)}, {inquiry: w.engine.inquire(b, anyone, req, p)}}
	for i := range batch {
		batch[i].inquiry.read()
	}
	now := w.clock.Now()
	first := batch[0].inquiry.settle(now)
	w.store.Hear("client:soar", now, now) // between the two
	if second := batch[1].inquiry.settle(now); first && second {
		t.Errorf("one finds the source alive: %v, the other: %v", batch[0].inquiry.alive(0), batch[1].inquiry.alive(0))
	}
}
