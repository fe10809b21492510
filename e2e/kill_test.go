//go:build e2e && linux

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// Each replica in turn is killed while revocations are pushed to all of them. It comes back
// with everything that any of them acknowledged, before its first decision.
func TestAKilledReplicaComesBackWithEveryRevocation(t *testing.T) {
	c := newCluster(t, 3)
	w := c.watch(1)
	p := c.keepRevoking(w, "d", time.Millisecond, c.replicas...)
	for round := range 2 {
		for _, r := range c.replicas {
			w.now(fmt.Sprintf("load, before %s is killed, round %d", r.name, round+1))
			p.goOn(300)
			w.now(fmt.Sprintf("%s is killed, round %d", r.name, round+1))
			r.kill()
			p.goOn(100)
			known := p.sessions()
			r.start()
			// Nothing is demanded: these were acknowledged, somewhere, before it started.
			var lost []string
			for _, session := range known[max(0, len(known)-200):] {
				if a := r.decide(c.agent, session, ""); a.allowed {
					lost = append(lost, fmt.Sprintf("%s, just started, allows %s", r.name, session))
				}
			}
			fewOf(t, "un-revoked", lost)
		}
	}
	w.now("afterwards")
	acknowledged := p.stop()
	c.sameDigest()
	c.holds(acknowledged)
	t.Logf("6 kills: %d revocations acknowledged, %d not", len(acknowledged), p.refused.Load())
	w.end()
}
