package ssf

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"vigil/authz"
	"vigil/signals"
)

const self = "issuer:idp"

// verified takes a SET of a verification that was issued at an instant.
func (w *world) verified(t *testing.T, jti string, at authz.Instant) {
	t.Helper()
	if _, err := w.take(t, object{"jti": jti, "iat": int64(at) / 1e9, "sub_id": opaque("stream"), "events": event(verification, nil)}); err != nil {
		t.Fatal(err)
	}
}

// records is how many records the log has.
func (w *world) records(t *testing.T) int {
	t.Helper()
	positions, err := w.log.Append(t.Context(), [][]byte{[]byte("no record")})
	if err != nil {
		t.Fatal(err)
	}
	return int(positions[0].Offset)
}

// TestASETThatSaysNothingIsASignOfLife: no right to send heartbeats is needed.
func TestASETThatSaysNothingIsASignOfLife(t *testing.T) {
	w := newWorld(t, func(cfg *Config) {
		cfg.Authority = signals.Authority{Types: []string{"revoke"}, Kinds: []string{"session"}, Tenants: []string{"default"}}
	})
	w.verified(t, "v-1", start)
	if at := w.store.Heard(self); at != start {
		t.Errorf("heard at %v", at)
	}
	w.clock.advance(time.Minute)
	if _, err := w.take(t, object{"jti": "u-1", "iat": int64(start)/1e9 + 60, "sub_id": opaque("stream"),
		"events": event(streamUpdated, object{"status": "enabled"})}); err != nil {
		t.Fatal(err)
	}
	if at := w.store.Heard(self); at != start.Add(time.Minute) {
		t.Errorf("heard at %v", at)
	}
	if n := w.store.Len(); n != [authz.NumKinds]int{} {
		t.Errorf("it left facts behind: %v", n)
	}
}

// TestASETThatIsSentAgainShowsNothingNew: whoever has caught one cannot keep an issuer alive
// that was made silent.
func TestASETThatIsSentAgainShowsNothingNew(t *testing.T) {
	w := newWorld(t)
	if _, err := w.take(t, nil); err != nil {
		t.Fatal(err)
	}
	w.verified(t, "v-1", start)
	if at := w.store.Heard(self); at != start {
		t.Fatalf("heard at %v", at)
	}
	for range 3 {
		w.clock.advance(10 * time.Minute)
		if _, err := w.take(t, nil); err != nil {
			t.Fatal(err)
		}
		w.verified(t, "v-1", start)
		if at := w.store.Heard(self); at != start {
			t.Fatalf("what was signed at %v keeps it alive at %v", start, at)
		}
	}
	w.verified(t, "v-2", w.clock.Now())
	if at := w.store.Heard(self); at != w.clock.Now() {
		t.Errorf("a new one is heard at %v", at)
	}
}

// TestHeartbeatsOfAnIssuerAreFew: however much it sends that says nothing, and none where
// what it says shows that it is alive.
func TestHeartbeatsOfAnIssuerAreFew(t *testing.T) {
	w := newWorld(t)
	for i := range 60 {
		w.verified(t, fmt.Sprint("v-", i), w.clock.Now())
		w.clock.advance(time.Second)
	}
	if n := w.records(t); n != 6 {
		t.Errorf("%d heartbeats in a minute", n)
	}
	if at := w.store.Heard(self); at != start.Add(50*time.Second) {
		t.Errorf("heard at %v", at)
	}
	w = newWorld(t)
	for i := range 5 {
		if _, err := w.take(t, object{"jti": fmt.Sprint("j-", i), "iat": int64(w.clock.Now()) / 1e9}); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(time.Minute)
	}
	if n := w.records(t); n != 5 {
		t.Errorf("%d records of 5 signals", n)
	}
}

// TestABacklogShowsWhenItsLastWasIssued: what waited while a replica, or the log, was away
// comes at once, and for all we know nothing comes after it for long.
func TestABacklogShowsWhenItsLastWasIssued(t *testing.T) {
	w := newWorld(t)
	w.clock.advance(20 * time.Minute)
	for i, at := range []authz.Instant{start, start.Add(5 * time.Minute), start.Add(15 * time.Minute), start.Add(10 * time.Minute)} {
		w.verified(t, fmt.Sprint("v-", i), at)
	}
	if at := w.store.Heard(self); at != start.Add(15*time.Minute) {
		t.Errorf("heard at %v", at)
	}
	if n := w.records(t); n != 3 {
		t.Errorf("%d heartbeats", n)
	}
}

// TestWhatAnotherReplicaHasHeardIsNotSaidAgain, nor what was heard before a start: replicas
// read one topic, and may read it from its beginning.
func TestWhatAnotherReplicaHasHeardIsNotSaidAgain(t *testing.T) {
	w := newWorld(t)
	w.verified(t, "v-1", start)
	w.clock.advance(time.Minute)
	w.verified(t, "v-2", w.clock.Now())
	first := w.receiver
	w.receiver = NewReceiver(first.issuer, first.intake, nil)
	w.verified(t, "v-1", start)
	w.verified(t, "v-2", w.clock.Now())
	if n := w.records(t); n != 2 {
		t.Errorf("%d heartbeats of 2 signs of life", n)
	}
}

// TestAClockThatIsAheadSilencesNothing: a SET from the future counts as of now.
func TestAClockThatIsAheadSilencesNothing(t *testing.T) {
	w := newWorld(t)
	w.verified(t, "v-1", start.Add(time.Hour))
	w.clock.advance(10 * time.Second)
	w.verified(t, "v-2", w.clock.Now())
	if at := w.store.Heard(self); at != start.Add(10*time.Second) {
		t.Errorf("heard at %v", at)
	}
}

// TestASignalThatIsPolledNeedsNoHeartbeatBesides: the answer that brought it says no more.
func TestASignalThatIsPolledNeedsNoHeartbeatBesides(t *testing.T) {
	polling(t, PollConfig{}, func(t *testing.T, w *world, s *stream, p *Poller, _ func()) {
		synctest.Wait() // one heartbeat, for an answer without SETs
		for i := range 20 {
			w.clock.advance(5 * time.Second)
			s.add(fmt.Sprint("j-", i), signed(t, object{"jti": fmt.Sprint("j-", i), "iat": int64(w.clock.Now()) / 1e9}))
			time.Sleep(5 * time.Second)
		}
		if n := w.records(t); n != 21 {
			t.Errorf("%d records of 20 signals and a heartbeat", n)
		}
		if at := w.store.Heard(self); at != w.clock.Now() {
			t.Errorf("heard at %v", at)
		}
	})
}

// TestAnAnswerToAPollIsASignOfLife, though it brings nothing; that there is none is not.
func TestAnAnswerToAPollIsASignOfLife(t *testing.T) {
	polling(t, PollConfig{Wait: 30 * time.Second}, func(t *testing.T, w *world, s *stream, p *Poller, _ func()) {
		synctest.Wait()
		if at := w.store.Heard(self); at != start {
			t.Errorf("heard at %v", at)
		}
		w.clock.advance(time.Minute)
		time.Sleep(10 * time.Second)
		if at := w.store.Heard(self); at != start.Add(time.Minute) {
			t.Errorf("heard at %v", at)
		}
		s.mu.Lock()
		s.hold = time.Hour
		s.mu.Unlock()
		time.Sleep(10 * time.Second)
		w.clock.advance(time.Hour)
		time.Sleep(10 * time.Minute)
		if at := w.store.Heard(self); at != start.Add(time.Minute) {
			t.Errorf("nothing answers, and it is heard at %v", at)
		}
	})
}

// TestASETOfTheFarFutureShowsNothing: whoever has caught it could send it until that time.
func TestASETOfTheFarFutureShowsNothing(t *testing.T) {
	w := newWorld(t)
	for i, c := range []struct {
		ahead time.Duration
		heard bool
	}{{24 * time.Hour, false}, {maxSkew + time.Second, false}, {maxSkew, true}} {
		w.verified(t, fmt.Sprint("v-", i), w.clock.Now().Add(c.ahead))
		if at := w.store.Heard(self); (at == w.clock.Now()) != c.heard {
			t.Errorf("%v ahead: heard at %q", c.ahead, at)
		}
	}
}

// TestAnIssuerThatNobodyNeedsWritesNothing: while no rules in use require it. What it has shown
// meanwhile is said as soon as they do.
func TestAnIssuerThatNobodyNeedsWritesNothing(t *testing.T) {
	var silence time.Duration
	w := newWorld(t, func(cfg *Config) { cfg.MaxSilence = func() time.Duration { return silence } })
	for i := range 20 {
		w.verified(t, fmt.Sprint("v-", i), w.clock.Now())
		w.clock.advance(time.Minute)
		w.receiver.PassOn(t.Context())
	}
	last := start.Add(19 * time.Minute)
	if n := w.records(t); n != 0 || w.store.Heard(self) != 0 {
		t.Fatalf("%d records, heard at %v", n, w.store.Heard(self))
	}
	if _, err := w.take(t, object{"jti": "j", "iat": int64(last) / 1e9}); err != nil || w.store.Heard(self) != last {
		t.Errorf("what it says shows that it is alive: %v, %v", w.store.Heard(self), err)
	}
	w = newWorld(t, func(cfg *Config) { cfg.MaxSilence = func() time.Duration { return silence } })
	w.verified(t, "v", start)
	w.clock.advance(time.Minute)
	silence = 5 * time.Minute
	for range 3 {
		w.receiver.PassOn(t.Context())
		w.clock.advance(time.Hour)
	}
	if n := w.records(t); n != 1 || w.store.Heard(self) != start {
		t.Errorf("%d records, heard at %v", n, w.store.Heard(self))
	}
}

// TestHowManyReplicasHearAnIssuerCostsNoHeartbeats: whichever of them its signs of life come
// to, or all, one heartbeat is written for each quarter of the silence that is allowed, and
// what is known is never older than that.
func TestHowManyReplicasHearAnIssuerCostsNoHeartbeats(t *testing.T) {
	for _, replicas := range []int{1, 3, 8} {
		for _, all := range []bool{false, true} {
			w := newWorld(t, func(cfg *Config) { cfg.MaxSilence = func() time.Duration { return 2 * time.Minute } })
			receivers := []*Receiver{w.receiver}
			for len(receivers) < replicas {
				receivers = append(receivers, NewReceiver(w.issuer, w.intake, nil))
			}
			for i := range 300 {
				for j, r := range receivers {
					if w.receiver = r; all || i%replicas == j {
						w.verified(t, fmt.Sprint("v-", i), w.clock.Now())
					}
				}
				if lag := w.clock.Now() - w.store.Heard(self); lag >= authz.Instant(30*time.Second) {
					t.Fatalf("%d replicas: it was there now, and is known to have been there %v ago", replicas, time.Duration(lag))
				}
				w.clock.advance(time.Second)
			}
			if n := w.records(t); n != 10 {
				t.Errorf("%d replicas (all: %v): %d heartbeats in 5 minutes, where one every 30 s is due", replicas, all, n)
			}
		}
	}
}

// TestALongSilenceIsKnownToAMinute: whatever the rules allow, status says when an issuer was
// there.
func TestALongSilenceIsKnownToAMinute(t *testing.T) {
	w := newWorld(t, func(cfg *Config) { cfg.MaxSilence = func() time.Duration { return authz.MaxSilence } })
	for i := range 10 {
		w.verified(t, fmt.Sprint("v-", i), w.clock.Now())
		if at := w.store.Heard(self); at != w.clock.Now() {
			t.Errorf("heard at %v", at)
		}
		w.clock.advance(time.Minute)
	}
}

// TestNoIssuerLooksSilentBeforeItIs: whatever the times of its signs of life, what all replicas
// know lapses no sooner than the last of them does.
func TestNoIssuerLooksSilentBeforeItIs(t *testing.T) {
	const silence = time.Minute
	random := rand.New(rand.NewPCG(5, 5))
	for range 20 {
		w := newWorld(t, func(cfg *Config) { cfg.MaxSilence = func() time.Duration { return silence } })
		last, next := w.clock.Now(), time.Duration(0)
		for second := range 600 {
			if next <= 0 {
				last, next = w.clock.Now(), time.Duration(1+random.IntN(80))*time.Second
				w.verified(t, fmt.Sprint("v-", second), last)
			}
			w.receiver.PassOn(t.Context())
			now := w.clock.Now()
			if shown, known := now < last.Add(silence), now < w.store.Heard(self).Add(silence); shown && !known {
				t.Fatalf("it was there %v ago, and is known to have been there %v ago", time.Duration(now-last), time.Duration(now-w.store.Heard(self)))
			}
			w.clock.advance(time.Second)
			next -= time.Second
		}
		if n := w.records(t); n > 600/15+1 {
			t.Errorf("%d heartbeats in ten minutes", n)
		}
	}
}

// TestASignOfLifeThatFailedIsPassedOnAfterAll: a moment in which the log takes nothing is no
// silence of the issuer.
func TestASignOfLifeThatFailedIsPassedOnAfterAll(t *testing.T) {
	w := newWorld(t)
	w.verified(t, "v", start)
	w.clock.advance(35 * time.Second) // of 40
	later := w.clock.Now()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	w.receiver.alive(gone, later)
	w.receiver.PassOn(t.Context()) // too soon
	if at := w.store.Heard(self); at != start {
		t.Fatalf("heard at %v", at)
	}
	w.clock.advance(time.Second)
	w.receiver.PassOn(t.Context())
	if at := w.store.Heard(self); at != later {
		t.Errorf("heard at %v, not at %v", at, later)
	}
}
