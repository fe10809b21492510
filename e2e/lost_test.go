//go:build e2e && linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// maxFeedAge is how old a view may be for the class of the agent that the tests ask about;
// examples/invoice/rules/bundle.yaml says so.
const maxFeedAge = 5 * time.Second

// neverAllows looks on, for longer than a view may be old, as a replica that was launched is
// or is not ready, and whatever it decides: it must not be an allow. Then it is killed.
func (c *cluster) neverAllows(r *replica, sessions ...string) {
	c.t.Helper()
	tally := map[string]int{}
	for begun := time.Now(); time.Since(begun) < maxFeedAge+2*time.Second; time.Sleep(20 * time.Millisecond) {
		if r.over() {
			tally["it has ended"]++
			break
		}
		if !r.meet() {
			tally["it is not ready"]++
			continue
		}
		for _, session := range sessions {
			said := r.decide(c.agent, session, "")
			if tally[said.String()]++; said.allowed {
				c.t.Fatalf("%s, started again, about %s: %s", r.name, session, said.body)
			}
		}
	}
	c.t.Logf("%s, started again: %v", r.name, tally)
	lines := strings.Split(strings.TrimSpace(r.printed()), "\n")
	c.t.Logf("%s printed last: %s", r.name, lines[len(lines)-1])
	r.kill()
}

// broken waits until a replica says that its feed is broken.
func broken(c *cluster, r *replica) string {
	c.t.Helper()
	var why string
	until(c.t, "the feed of "+r.name+" is broken", func() bool {
		s, err := r.status(false)
		why = s.Feed.Broken
		return err == nil && why != ""
	})
	return why
}

// The log is cut past where a suspended replica stands: what it has missed is gone for good,
// revocations among it. It says so and permits nothing; the others go on.
func TestAReplicaBehindALogThatWasCutNeverAllowsFromIgnorance(t *testing.T) {
	c := newCluster(t, 1)
	w := c.watch(2)
	a, late := c.replicas[0], c.replicas[2]
	w.now("C is suspended")
	late.suspend()
	slept := time.Now()
	var missed []string
	for i := range 50 {
		session := fmt.Sprintf("missed-%d", i)
		w.revoked(session, a.name, c.revoke(a, session).asOf)
		missed = append(missed, session)
	}
	start := cut(t, c.log, 0)
	until(t, "the view is too old", func() bool { return time.Since(slept) > maxFeedAge+time.Second })
	w.now("C is resumed, the log is cut")
	late.resume()
	for range 200 {
		for _, session := range []string{missed[0], missed[49], steady} {
			if said := late.decide(c.agent, session, ""); said.allowed {
				t.Fatalf("C, which cannot know, about %s: %s %s", session, said, said.body)
			}
		}
	}
	t.Logf("the log starts at %d; C says: %s", start, broken(c, late))
	if said := late.do("GET", late.at.Load().control+"/readyz?strict", "", map[string][]string{}); said.status == 200 {
		t.Error("C is ready in the strict sense")
	}
	for _, r := range c.replicas[:2] {
		if said := r.decide(c.agent, steady, ""); !said.allowed {
			t.Errorf("%s, which missed nothing: %s %s", r.name, said, said.body)
		}
	}
	// Started again it stands where it stood, and still may not decide.
	w.now("C is started again")
	late.kill()
	late.launch()
	c.neverAllows(late, missed[0], steady)
	w.end()
}

// The topic is deleted and another made under its name. Nobody takes it for the old one:
// not those that run, nor one that is started with what it has kept.
func TestATopicMadeAnewIsNeverTakenForTheOldOne(t *testing.T) {
	c := newCluster(t, 1)
	w := c.watch(2)
	a, b := c.replicas[0], c.replicas[1]
	for i := range 20 {
		session := fmt.Sprintf("old-%d", i)
		w.revoked(session, a.name, c.revoke(a, session).asOf)
	}
	c.everywhere("old-19", "deny revoked")
	b.stop() // with a snapshot
	w.now("the topic is deleted")
	deleteTopic(t, c.log)
	c.everywhereBut(b, steady, "deny stale")
	w.now("another topic has its name")
	createTopic(t, c.log, 1)
	// It grows past where the replicas stand: nothing but its content is another.
	var other [][]byte
	for range 100 {
		other = append(other, []byte("not of this log"))
	}
	produce(t, c.log, other...)
	for _, r := range []*replica{a, c.replicas[2]} {
		t.Logf("%s says: %s", r.name, broken(c, r))
		c.untilDecided(r, steady, "deny stale")
		if said := r.decide(c.agent, "old-0", ""); said.allowed {
			t.Errorf("%s about what was revoked in the old log: %s", r.name, said)
		}
	}
	w.now("the views are old")
	b.launch()
	c.neverAllows(b, "old-0", steady)
	for _, r := range []*replica{a, c.replicas[2]} {
		if said := r.decide(c.agent, steady, ""); said.allowed {
			t.Errorf("%s believes the new log: %s", r.name, said.body)
		}
	}
	w.end()
	if n := w.asked("the views are old", "", "steady: allow"); n > 0 {
		t.Errorf("%d allows from a log that is gone", n)
	}
}
