package spool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vigil/authz"
	"vigil/disk/disktest"
	"vigil/signals"
)

// TestALogThatComesAndGoesLosesNothing: many push at once while the log is away, well, or
// loses answers. What was acknowledged is in force here at that moment, by either way, and
// in the end everywhere; nothing waits, and no room stays taken.
func TestALogThatComesAndGoesLosesNothing(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			cl := newCluster()
			r := cl.start(t, options{disk: disktest.New(), spool: func(cfg *Config) { cfg.MaxRecords = 40 }})
			defer r.stop()
			other := cl.start(t, options{})
			defer other.stop()

			var mu sync.Mutex
			acknowledged := map[string]bool{} // whether by the spool
			var pushing sync.WaitGroup
			for g := range 8 {
				pushing.Go(func() {
					random := rand.New(rand.NewPCG(seed, uint64(g)))
					for i := range 60 {
						time.Sleep(time.Duration(random.IntN(40)) * time.Millisecond)
						ref := fmt.Sprintf("agent:%d-%d", g, i)
						receipt, err := r.push(as(fmt.Sprint("client", g)), body(fmt.Sprint(i), "quarantine", ref))
						switch {
						case err == nil:
							if r.status(ref) != authz.Quarantined {
								t.Errorf("%s was acknowledged, and is %v", ref, r.status(ref))
							}
							mu.Lock()
							acknowledged[ref] = receipt.Spooled
							mu.Unlock()
						case !errors.Is(err, signals.ErrUnavailable) && !errors.Is(err, signals.ErrUnknownOutcome):
							t.Errorf("%s: %v", ref, err)
						}
					}
				})
			}
			done := make(chan struct{})
			var weather sync.WaitGroup
			weather.Go(func() {
				random := rand.New(rand.NewPCG(seed, 99))
				for {
					select {
					case <-done:
						return
					case <-time.After(time.Duration(random.IntN(120)) * time.Millisecond):
					}
					switch random.IntN(4) {
					case 0:
						cl.main.SetHealth(nil)
					case 1:
						cl.main.SetHealth(errAway)
					case 2:
						cl.main.FailAppend(signals.ErrUnavailable, false)
					case 3:
						cl.main.FailAppend(signals.ErrUnknownOutcome, random.IntN(2) == 0)
					}
				}
			})
			pushing.Wait()
			close(done)
			weather.Wait()
			cl.main.SetHealth(nil)
			settle()

			spooled := 0
			for ref, by := range acknowledged {
				if by {
					spooled++
				}
				if other.status(ref) != authz.Quarantined {
					t.Errorf("%s was acknowledged, and is %v elsewhere", ref, other.status(ref))
				}
			}
			if spooled < 5 || spooled > len(acknowledged)-5 {
				t.Errorf("%d of %d were spooled: the weather was too steady", spooled, len(acknowledged))
			}
			if r.store.Digest(cl.Now()) != other.store.Digest(cl.Now()) {
				t.Error("they differ")
			}
			s := r.spool
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.mu.waiting) != 0 || s.mu.bytes != 0 || s.mu.reserved != 0 || s.mu.reservedBytes != 0 {
				t.Errorf("%d wait with %d bytes, %d are reserved with %d bytes", len(s.mu.waiting), s.mu.bytes, s.mu.reserved, s.mu.reservedBytes)
			}
		})
	}
}

// TestAnAnswerThatWasLostIsSentAgain: whether the log had taken it or not, it ends there.
func TestAnAnswerThatWasLostIsSentAgain(t *testing.T) {
	for _, written := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cl := newCluster()
			r := cl.start(t, options{disk: disktest.New()})
			defer r.stop()
			other := cl.start(t, options{})
			defer other.stop()
			cl.main.SetHealth(errAway)
			r.mustPush(boss, body("1", "revoke", "agent:a"))
			for range 3 {
				cl.main.FailAppend(signals.ErrUnknownOutcome, written)
			}
			cl.main.SetHealth(nil)
			settle()
			if other.status("agent:a") != authz.Revoked || r.store.Digest(cl.Now()) != other.store.Digest(cl.Now()) {
				t.Errorf("written %v: elsewhere it is %v", written, other.status("agent:a"))
			}
			if st := r.spool.Stats(); st.Waiting != 0 || st.Forwarded != 1 || st.Retries < 3 {
				t.Errorf("written %v: %+v", written, st)
			}
		})
	}
}
