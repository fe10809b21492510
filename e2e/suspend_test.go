//go:build e2e && linux

package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// A replica is stopped where it is, for longer than a view may be old, while sessions are
// revoked at another one. Questions wait in its sockets. When it wakes it answers them at
// once, and allows none of what was revoked, although nobody demanded a position.
func TestAReplicaThatSleptPermitsNothingThatWasRevokedMeanwhile(t *testing.T) {
	c := newCluster(t, 3)
	w := c.watch(1)
	a, sleeper := c.replicas[0], c.replicas[2]
	const sessions = 64
	for i := range sessions { // in the sleeper's cache
		if said := sleeper.decide(c.agent, fmt.Sprintf("z-%d", i), ""); !said.allowed {
			t.Fatal(said.body)
		}
	}
	for round := range 2 {
		w.now(fmt.Sprintf("C sleeps, round %d", round+1))
		sleeper.suspend()
		slept := time.Now()
		half := sessions / 2
		for i := range half {
			session := fmt.Sprintf("z-%d", round*half+i)
			w.revoked(session, a.name, c.revoke(a, session).asOf)
		}
		answers := make([]answer, half)
		var group sync.WaitGroup
		for i := range half {
			group.Go(func() { answers[i] = sleeper.decide(c.agent, fmt.Sprintf("z-%d", round*half+i), "") })
		}
		until(t, "it has slept long enough", func() bool { return time.Since(slept) > maxFeedAge+500*time.Millisecond })
		w.now(fmt.Sprintf("C wakes, round %d", round+1))
		sleeper.resume()
		group.Wait()
		tally := map[string]int{}
		for i, said := range answers {
			tally[said.String()]++
			if said.allowed {
				t.Errorf("the first answer about z-%d after the sleep: %s", round*half+i, said.body)
			}
		}
		t.Logf("round %d: C slept %s; to what waited it said %v", round+1, time.Since(slept).Round(time.Millisecond), tally)
		c.untilDecided(sleeper, steady, "allow")
		c.untilDecided(sleeper, fmt.Sprintf("z-%d", round*half+half-1), "deny revoked")
	}
	w.now("afterwards")
	c.sameDigest()
	w.end()
}

// The broker is stopped where it is, and answers late what it was asked before. The views
// are as old as the questions, not as the answers.
func TestABrokerThatSleptMakesNoViewLookFresh(t *testing.T) {
	c := newCluster(t, 1)
	w := c.watch(1)
	w.now("the broker sleeps")
	must(t, kafka.Suspend())
	defer kafka.Resume()
	c.everywhere(steady, "deny stale")
	w.now("the broker wakes")
	must(t, kafka.Resume())
	c.everywhere(steady, "allow")
	w.now("afterwards")
	w.revoked("after-the-sleep", "A", c.revoke(c.replicas[0], "after-the-sleep").asOf)
	c.everywhere("after-the-sleep", "deny revoked")
	c.sameDigest()
	w.end()
}
