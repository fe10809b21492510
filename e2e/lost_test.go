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
	until(t, "C has given its reason", func() bool {
		return late.over() || strings.Contains(late.printed(), "log start") || strings.Contains(late.printed(), "hole") || strings.Contains(late.printed(), "lost")
	})
	if late.meet() && !late.over() {
		if said := late.decide(c.agent, missed[0], ""); said.allowed {
			t.Errorf("C, started again: %s %s", said, said.body)
		}
	}
	late.kill()
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
	t.Logf("A says: %s", broken(c, a))
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
	until(t, "B has tried the new log", func() bool { return b.over() || strings.Contains(b.printed(), "log") })
	for range 20 {
		if b.over() || !b.meet() {
			break
		}
		if said := b.decide(c.agent, "old-0", ""); said.allowed {
			t.Fatalf("B, with a snapshot of the old log: %s %s", said, said.body)
		}
	}
	time.Sleep(maxFeedAge) // long enough that whoever is taken in would decide
	if said := a.decide(c.agent, steady, ""); said.allowed {
		t.Errorf("A believes the new log: %s", said.body)
	}
	b.kill()
	w.end()
	if n := w.asked("the views are old", "", "steady: allow"); n > 0 {
		t.Errorf("%d allows from a log that is gone", n)
	}
}
