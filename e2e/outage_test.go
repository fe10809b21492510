//go:build e2e && linux

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// While the broker is away decisions go on until the view is older than the profile allows,
// and then say that it is. What withdraws is taken by the replica that is asked, and is in
// force there at once and everywhere afterwards; what permits is not taken.
func TestWhileTheBrokerIsAwayRevocationsAreTakenAndNothingIsPermitted(t *testing.T) {
	c := newCluster(t, 3)
	w := c.watch(2)
	a, b := c.replicas[0], c.replicas[1]
	before := c.revoke(a, "before")
	w.revoked("before", a.name, before.asOf)

	w.now("the broker is stopped")
	must(t, kafka.Stop())
	defer startKafka(t)
	var away []string
	for i, r := range []*replica{a, b} {
		session := fmt.Sprintf("away-%d", i)
		taken := c.revoke(r, session)
		if !strings.Contains(taken.body, "spooled") {
			t.Errorf("%s took a revocation without the broker and does not say where it is: %s", r.name, taken.body)
		}
		if said := r.decide(c.agent, session, ""); !said.denied() {
			t.Errorf("%s, which took the revocation of %s: %s", r.name, session, said)
		}
		away = append(away, session)
	}
	for _, r := range c.replicas {
		if said := r.push(registration("newcomer")...); said.status != http.StatusServiceUnavailable {
			t.Errorf("%s was asked to register an agent without the broker: %s %s", r.name, said, said.body)
		}
		if said := r.push(signal("release-"+r.name, "release", "agent:"+c.agent, "")); said.status != http.StatusServiceUnavailable {
			t.Errorf("%s was asked to release an agent without the broker: %s %s", r.name, said, said.body)
		}
	}
	c.everywhere(steady, "deny stale")
	w.now("the broker is stopped, and the views are old")
	for i, r := range []*replica{a, b} {
		if said := r.decide(c.agent, away[i], ""); !said.denied() {
			t.Errorf("%s, with an old view: %s", r.name, said)
		}
	}
	last := c.revoke(a, "away-late")
	if said := a.decide(c.agent, "away-late", ""); !said.denied() {
		t.Errorf("a revocation that an old view took: %s %s", said, last.body)
	}
	away = append(away, "away-late")

	w.now("the broker starts")
	startKafka(t)
	c.everywhere(steady, "allow")
	w.now("the broker is back")
	for _, session := range away {
		c.everywhere(session, "deny revoked")
	}
	for _, r := range c.replicas {
		until(t, r.name+" takes what permits again", func() bool {
			return r.push(registration("newcomer-"+r.name)...).status == http.StatusOK
		})
	}
	c.sameDigest()
	w.end()
	if n := w.asked("the broker is stopped, and the views are old", "", "steady: allow"); n > 0 {
		t.Errorf("%d allows from views that were too old", n)
	}
}

// A replica that was killed while it held revocations which the broker has not seen has them
// in force before it decides anything, and passes them on.
func TestRevocationsTakenWithoutTheBrokerSurviveTheReplica(t *testing.T) {
	c := newCluster(t, 2)
	w := c.watch(1)
	a := c.replicas[0]
	w.now("the broker is stopped")
	must(t, kafka.Stop())
	defer startKafka(t)
	c.revoke(a, "held-here")
	w.now("the replica is killed")
	a.kill()
	startKafka(t)
	a.start()
	if said := a.decide(c.agent, "held-here", ""); !said.denied() || said.code != "revoked" {
		t.Errorf("the first answer after the start: %s %s", said, said.body)
	}
	w.now("both are back")
	c.everywhere("held-here", "deny revoked")
	c.sameDigest()
}

// The broker is killed again and again while revocations are pushed. What was acknowledged
// is in force everywhere; what was not may be.
func TestABrokerThatIsKilledUnderLoadLosesNothingAcknowledged(t *testing.T) {
	c := newCluster(t, 3)
	w := c.watch(1)
	p := c.keepRevoking(w, "k", 2*time.Millisecond, c.replicas[0], c.replicas[1], c.replicas[0], c.replicas[1])
	const kills = 3
	for i := range kills {
		w.now(fmt.Sprintf("load, before kill %d", i+1))
		p.goOn(200)
		w.now(fmt.Sprintf("kill %d", i+1))
		must(t, kafka.Kill())
		startKafka(t)
		c.everywhere(steady, "allow")
	}
	w.now("afterwards")
	p.goOn(200)
	acknowledged := p.stop()
	c.sameDigest() // whatever was kept on one machine has been passed on
	c.holds(acknowledged)
	t.Logf("%d kills of the broker: %d revocations acknowledged, %d not", kills, len(acknowledged), p.refused.Load())
	w.end()
}
