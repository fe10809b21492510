//go:build e2e && linux

package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Each replica in turn is killed while revocations are pushed to all of them. It comes back
// with everything that any of them acknowledged, before its first decision.
func TestAKilledReplicaComesBackWithEveryRevocation(t *testing.T) {
	c := newCluster(t, 3)
	w := c.watch(1)
	var mu sync.Mutex
	var acknowledged []string
	var count, refused atomic.Int64
	var stop atomic.Bool
	var group sync.WaitGroup
	defer group.Wait()
	defer stop.Store(true)
	for p, r := range c.replicas {
		group.Go(func() {
			for i := 0; !stop.Load(); i++ {
				session := fmt.Sprintf("d-%d-%d", p, i)
				a := r.push(revocation(session))
				if a.err != nil || a.status != http.StatusOK {
					refused.Add(1) // it may be in force: nothing is claimed
					time.Sleep(20 * time.Millisecond)
					continue
				}
				w.revoked(session, r.name, a.asOf)
				mu.Lock()
				acknowledged = append(acknowledged, session)
				mu.Unlock()
				count.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	for round := range 2 {
		for _, r := range c.replicas {
			w.now(fmt.Sprintf("load, before %s is killed, round %d", r.name, round+1))
			before := count.Load()
			until(t, "revocations are taken", func() bool { return count.Load() > before+300 })
			w.now(fmt.Sprintf("%s is killed, round %d", r.name, round+1))
			r.kill()
			before = count.Load()
			until(t, "revocations are taken by the others", func() bool { return count.Load() > before+100 })
			mu.Lock()
			known := len(acknowledged)
			mu.Unlock()
			r.start()
			// Nothing is demanded: these were acknowledged, somewhere, before it started.
			mu.Lock()
			due := acknowledged[max(0, known-200):known]
			mu.Unlock()
			var lost []string
			for _, session := range due {
				if a := r.decide(c.agent, session, ""); a.allowed {
					lost = append(lost, fmt.Sprintf("%s, just started, allows %s", r.name, session))
				}
			}
			fewOf(t, "un-revoked", lost)
		}
	}
	w.now("afterwards")
	stop.Store(true)
	group.Wait()
	c.sameDigest()
	c.holds(acknowledged)
	t.Logf("6 kills: %d revocations acknowledged, %d not", count.Load(), refused.Load())
	w.end()
}
