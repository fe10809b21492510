//go:build e2e && linux

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// cluster is three replicas on one log, with inputs that others write, and an agent that all
// of them know.
type cluster struct {
	t          *testing.T
	log        string // topics: the log,
	risk       string // an input that may hold and revoke,
	scores     string // and one that may speak of risk alone
	partitions int32
	brokers    []string
	weak       bool // the topics are on a broker that has no other
	replicas   []*replica
	agent      string
	begun      string // as_of of the agent's registration
}

var clusters atomic.Int64

// newCluster makes topics of its own on the one broker and starts replicas on them.
func newCluster(t *testing.T, partitions int32) *cluster {
	t.Helper()
	needKafka(t)
	c := nameCluster(t)
	c.brokers, c.partitions, c.weak = []string{kafka.Address()}, partitions, true
	for _, topic := range []string{c.log, c.risk, c.scores} {
		createTopic(t, topic, partitions)
	}
	c.prepare()
	c.begin()
	return c
}

// nameCluster gives a cluster whose topics no other one has.
func nameCluster(t *testing.T) *cluster {
	n := clusters.Add(1)
	return &cluster{t: t, log: fmt.Sprintf("signals-%d", n), risk: fmt.Sprintf("risk-%d", n), scores: fmt.Sprintf("scores-%d", n), agent: "payer"}
}

// prepare makes the replicas, without starting them.
func (c *cluster) prepare() {
	c.t.Helper()
	for _, name := range []string{"A", "B", "C"} {
		c.replicas = append(c.replicas, newReplica(c.t, name, c.section()))
	}
}

// begin starts the replicas on the topics, which are there, and registers the agent.
func (c *cluster) begin() {
	c.t.Helper()
	for _, r := range c.replicas {
		r.start()
	}
	registered := c.replicas[0].push(registration(c.agent)...)
	if registered.status != http.StatusOK {
		c.t.Fatalf("registering: %s %s", registered, registered.body)
	}
	c.begun = registered.asOf
	for _, r := range c.replicas {
		if a := r.decide(c.agent, "steady", c.begun); !a.allowed {
			c.t.Fatalf("%s, to begin with: %s %s", r.name, a, a.body)
		}
	}
}

// section is the part of the configuration that is about the log.
func (c *cluster) section() string {
	weak := "[]"
	if c.weak {
		weak = "[all]"
	}
	return fmt.Sprintf(`log:
  kind: kafka
  kafka:
    brokers: [%s]
    topic: %s
    allow_weak: %s
    inputs:
      - topic: %s
        may:
          - {types: [risk, quarantine, release, revoke], kinds: [agent, session]}
      - topic: %s
        may:
          - {types: [risk], kinds: [agent]}
`, strings.Join(c.brokers, ", "), c.log, weak, c.risk, c.scores)
}

// revoke pushes a revocation to a replica, which must take it.
func (c *cluster) revoke(r *replica, session string) answer {
	c.t.Helper()
	a := r.push(revocation(session))
	if a.err != nil || a.status != http.StatusOK {
		c.t.Fatalf("%s does not take a revocation: %s %s %v", r.name, a, a.body, a.err)
	}
	return a
}

// holds checks that every replica denies every one of these sessions as revoked.
func (c *cluster) holds(sessions []string) {
	c.t.Helper()
	for _, r := range c.replicas {
		var lost []string
		for _, session := range sessions {
			if a := r.decide(c.agent, session, ""); !a.denied() || a.code != "revoked" {
				lost = append(lost, fmt.Sprintf("%s says %s about %s, whose revocation was acknowledged", r.name, a, session))
			}
		}
		fewOf(c.t, "un-revoked", lost)
	}
}

// everywhere waits until all replicas answer so about a session.
func (c *cluster) everywhere(session, want string) {
	c.t.Helper()
	c.everywhereBut(nil, session, want)
}

// everywhereBut is everywhere, but for one replica.
func (c *cluster) everywhereBut(not *replica, session, want string) {
	c.t.Helper()
	for _, r := range c.replicas {
		if r != not {
			c.untilDecided(r, session, want)
		}
	}
}

// untilDecided waits until a replica answers so about a session.
func (c *cluster) untilDecided(r *replica, session, want string) {
	c.t.Helper()
	var last answer
	defer func() {
		if c.t.Failed() {
			c.t.Logf("%s said last about %s: %s %s %v", r.name, session, last, last.body, last.err)
		}
	}()
	until(c.t, fmt.Sprintf("%s answers %q about %s", r.name, want, session), func() bool {
		last = r.decide(c.agent, session, "")
		return last.String() == want
	})
}

// completeSince waits until every replica says that its view is complete as of later than
// an instant.
func (c *cluster) completeSince(since time.Time) {
	c.t.Helper()
	for _, r := range c.replicas {
		until(c.t, fmt.Sprintf("the view of %s is complete again", r.name), func() bool {
			complete, ok := r.completeAt()
			return ok && complete.After(since)
		})
	}
}

// sameDigest waits until all replicas have applied the same and hold the same posture: once
// nothing is pushed any more, that is for good.
func (c *cluster) sameDigest() string {
	c.t.Helper()
	said := make([]string, len(c.replicas))
	defer func() {
		if c.t.Failed() {
			c.t.Logf("posture of the replicas: %s", said)
		}
	}()
	until(c.t, "all replicas hold the same posture", func() bool {
		for i, r := range c.replicas {
			s, err := r.status(true)
			if err != nil || s.Posture.Digest == "" {
				return false
			}
			said[i] = s.Feed.AsOf + " " + s.Posture.Digest
			if said[i] != said[0] {
				return false
			}
		}
		return true
	})
	_, digest, _ := strings.Cut(said[0], " ")
	c.t.Logf("posture of all replicas: %s", said[0])
	return digest
}
