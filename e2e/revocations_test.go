//go:build e2e && linux

package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// Ten thousand revocations, each pushed to one of three replicas while all of them decide.
// Before each, every replica has the session's allow in its cache.
func TestNoStaleAllowWhereARevocationWasAcknowledgedNorWhereItIsDemanded(t *testing.T) {
	n := fromEnv(t, "VIGIL_E2E_REVOCATIONS", 10_000)
	c := newCluster(t, 3)
	w := c.watch(1)
	w.now("revocations")
	const pushers = 6
	var mu sync.Mutex
	var wrong, stale []string
	anomalies, denials := 0, 0
	var group sync.WaitGroup
	for p := range pushers {
		group.Go(func() {
			by := c.replicas[p%len(c.replicas)]
			for i := p; i < n; i += pushers {
				session := fmt.Sprintf("s-%d", i)
				for _, r := range c.replicas {
					if a := r.decide(c.agent, session, ""); !a.allowed {
						mu.Lock()
						wrong = append(wrong, fmt.Sprintf("%s, before: %s %s", r.name, a, a.body))
						mu.Unlock()
					}
				}
				acknowledged := by.push(revocation(session))
				if acknowledged.err != nil || acknowledged.status != http.StatusOK {
					mu.Lock()
					wrong = append(wrong, fmt.Sprintf("%s does not take a revocation: %s %s %v", by.name, acknowledged, acknowledged.body, acknowledged.err))
					mu.Unlock()
					continue
				}
				w.revoked(session, by.name, acknowledged.asOf)
				for _, r := range c.replicas {
					undemanded := answer{}
					demand := ""
					if r != by {
						demand = acknowledged.asOf
						undemanded = r.decide(c.agent, session, "")
					}
					a := r.decide(c.agent, session, demand)
					mu.Lock()
					if undemanded.allowed {
						anomalies++
					}
					if a.allowed {
						stale = append(stale, fmt.Sprintf("%s allows %s, revoked at %s; demanded: %q", r.name, session, by.name, demand))
					} else if a.denied() && a.code == "revoked" {
						denials++
					} else {
						wrong = append(wrong, fmt.Sprintf("%s, after: %s %s %v", r.name, a, a.body, a.err))
					}
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	w.now("afterwards")
	fewOf(t, "stale allow", stale)
	fewOf(t, "wrong", wrong)
	t.Logf("%d revocations: %d denials after them, %d stale allows; %d allows elsewhere where nothing was demanded", n, denials, len(stale), anomalies)
	c.sameDigest()
	w.end()
}
