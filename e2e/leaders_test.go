//go:build e2e && linux

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// Each broker of three in turn is killed while it leads a part of the log and revocations
// are pushed to all replicas; the second while the others stand still, and can copy nothing
// of what it takes. Another leads then, and what was acknowledged is there. With two of three
// gone nobody can acknowledge anything or vouch for a view: the replicas say so, and go on
// when they are back.
func TestALeaderThatIsKilledTakesNothingAcknowledgedWithIt(t *testing.T) {
	rounds := fromEnv(t, "VIGIL_E2E_LEADERS", 1)
	n := needNodes(t)
	c := n.newCluster()
	w := c.watch(1)
	w.vouch()
	p := c.keepRevoking(w, "l", 15*time.Millisecond, c.replicas...)
	for round := range rounds {
		for id := int32(1); id <= 3; id++ {
			other := id%3 + 1
			w.now(fmt.Sprintf("load, before broker %d is killed, round %d", id, round+1))
			p.goOn(50)
			led := n.leads(id, c.log, other)
			if len(led) == 0 {
				t.Errorf("broker %d leads nothing of the log: %v", id, n.says(other, c.log))
			}
			w.now(fmt.Sprintf("broker %d is killed, round %d", id, round+1))
			if id == 2 {
				n.suspend(n.but(id)...)
				time.Sleep(500 * time.Millisecond) // of pushes that nobody can acknowledge
			}
			n.kill(id)
			killed := time.Now()
			if id == 2 {
				n.resume(n.but(id)...)
			}
			n.untilSaid("others lead", c.log, func(l ledBy) bool { return l.leader > 0 && l.leader != id }, n.but(id)...)
			elected := time.Since(killed)
			// With two of three everything goes on.
			c.completeSince(time.Now())
			c.everywhere(steady, "allow")
			again := time.Since(killed)
			p.goOn(50)
			t.Logf("broker %d, which led partitions %v, was killed: others led after %s, views were complete after %s, 50 more revocations after %s", id, led,
				elected.Round(time.Millisecond), again.Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
			w.now(fmt.Sprintf("broker %d starts, round %d", id, round+1))
			n.start(id)
			for _, topic := range []string{c.log, c.risk, c.scores} {
				n.whole(topic)
			}
			n.elect(c.log, other)
		}
	}
	// The third leads everything, and would say so: it takes more than one to be sure.
	for _, topic := range []string{c.log, c.risk, c.scores} {
		n.gather(3, topic)
	}
	c.completeSince(time.Now())
	w.now("two of three are killed")
	n.kill(1)
	n.kill(2)
	c.everywhere(steady, "deny stale")
	w.now("two of three are gone, and the views are old")
	for _, r := range c.replicas {
		if said := r.push(registration("newcomer-" + r.name)...); said.status == http.StatusOK {
			t.Errorf("%s takes what permits from one broker of three: %s", r.name, said.body)
		}
	}
	w.now("they start")
	n.start(1, 2)
	c.completeSince(time.Now())
	c.everywhere(steady, "allow")
	w.now("afterwards")
	p.goOn(50)
	acknowledged := p.stop()
	c.sameDigest() // whatever was kept on one machine has been passed on
	c.holds(acknowledged)
	t.Logf("%d revocations acknowledged, %d of them from a spool, %d not", len(acknowledged), p.spooled.Load(), p.refused.Load())
	w.end()
	if k := w.asked("two of three are gone, and the views are old", "", "steady: allow"); k > 0 {
		t.Errorf("%d allows from views that were too old", k)
	}
}

// The leader of everything is stopped where it is until others lead, and so is replica C, while
// sessions are revoked. Then C wakes to the old leader alone, who does not know that it is none
// any more, and answers all that C asks: the two other brokers stand still. C believes it
// nothing.
func TestALeaderThatSleepsIsNotBelieved(t *testing.T) {
	n := needNodes(t)
	c := n.newCluster()
	w := c.watch(1)
	w.vouch()
	a, far := c.replicas[0], c.replicas[2]
	const sessions = 60
	session := func(i int) string { return fmt.Sprintf("o-%d", i) }
	for i := range sessions { // in the caches
		for _, r := range c.replicas {
			if said := r.decide(c.agent, session(i), ""); !said.allowed {
				t.Fatalf("%s, to begin with: %s", r.name, said.body)
			}
		}
	}
	const old = 2 // it leads everything, so that nothing else keeps C from being sure
	others := n.but(old)
	for _, topic := range []string{c.log, c.risk, c.scores} {
		n.gather(old, topic)
	}
	c.completeSince(time.Now())

	w.now("the leader sleeps, and C")
	far.suspend()
	n.suspend(old)
	slept := time.Now()
	n.untilSaid("others lead", c.log, func(l ledBy) bool { return l.leader > 0 && l.leader != old }, others...)
	inLog := func(said answer) bool {
		return said.err == nil && said.status == http.StatusOK && !strings.Contains(said.body, "spooled")
	}
	probes := 0
	until(t, "the new leaders take records", func() bool {
		probes++
		return inLog(a.push(revocation(fmt.Sprintf("probe-%d", probes))))
	})
	var gone []string
	for i := range sessions {
		if said := a.push(revocation(session(i))); inLog(said) {
			w.revoked(session(i), a.name, said.asOf)
			gone = append(gone, session(i))
		}
	}
	if len(gone) == 0 {
		t.Fatal("the new leaders take nothing")
	}
	c.everywhereBut(far, gone[len(gone)-1], "deny revoked")
	c.everywhereBut(far, steady, "allow")
	until(t, "C has slept long enough", func() bool { return time.Since(slept) > maxFeedAge+500*time.Millisecond })

	w.now("C wakes to the old leader alone")
	n.suspend(others...)
	n.resume(old)
	far.resume()
	woke := time.Now()
	var alone answer
	var group sync.WaitGroup
	group.Go(func() { alone = far.push(revocation("alone")) })
	tally := map[string]int{}
	var believed []string
	for i := 0; time.Since(woke) < 4*time.Second; i++ {
		for _, s := range []string{gone[i%len(gone)], steady} {
			said := far.decide(c.agent, s, "")
			if tally[said.String()]++; said.allowed {
				believed = append(believed, fmt.Sprintf("C, which hears only the old leader, about %s: %s", s, said.body))
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	fewOf(t, "believed", believed)
	led := 0
	for _, l := range n.says(old, c.log) {
		if l.leader == old {
			led++
		}
	}
	if led != int(c.partitions) {
		t.Errorf("the old leader knew that it was none: nothing was shown")
	}
	group.Wait()
	if inLog(alone) {
		t.Errorf("C says that the log has what only the old leader can have: %s", alone.body)
	}
	t.Logf("%d revocations in the log %s after the leader slept; C, with that leader of %d partitions, said %v, and to a revocation: %s %s %v",
		len(gone), woke.Sub(slept).Round(time.Millisecond), led, tally, alone, alone.body, alone.err)

	w.now("all wake")
	n.resume(others...)
	c.completeSince(time.Now())
	c.everywhere(steady, "allow")
	for _, s := range gone {
		c.everywhere(s, "deny revoked")
	}
	if alone.status == http.StatusOK {
		c.everywhere("alone", "deny revoked")
	}
	w.now("afterwards")
	w.revoked("afterwards", far.name, c.revoke(far, "afterwards").asOf)
	c.everywhere("afterwards", "deny revoked")
	c.sameDigest()
	w.end()
}
