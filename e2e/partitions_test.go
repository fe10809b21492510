//go:build e2e && linux

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// addPartitions gives a topic more partitions.
func addPartitions(t *testing.T, name string, partitions int32) {
	t.Helper()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = name, partitions
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis, req.Topics = 30_000, append(req.Topics, topic)
	resp, err := req.RequestWith(t.Context(), outsider(t))
	must(t, err)
	must(t, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
	for p := range partitions {
		until(t, fmt.Sprintf("%s/%d has a leader", name, p), func() bool { return offsetOf(t, name, p, -1) >= 0 })
	}
}

// Partitions are added while everything runs. What is written to them is in force
// everywhere, before any view that lacks it may still be called fresh.
func TestAPartitionThatIsAddedIsFollowedByAll(t *testing.T) {
	c := newCluster(t, 1)
	w := c.watch(1)
	for i, topic := range []string{c.risk, c.log} {
		w.now("partitions are added to " + topic)
		addPartitions(t, topic, 3)
		session := fmt.Sprintf("new-%d", i)
		if topic == c.risk {
			must(t, outsider(t).ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: 2, Value: []byte(revocation(session))}).FirstErr())
		} else {
			for n := range 30 { // wherever each of them goes
				c.revoke(c.replicas[n%3], fmt.Sprintf("%s-%d", session, n))
			}
			session += "-29"
		}
		written := time.Now()
		// Who has not noticed by now may not call its view fresh.
		for _, r := range c.replicas {
			until(t, r.name+" denies", func() bool {
				asked := time.Now()
				said := r.decide(c.agent, session, "")
				if said.allowed && asked.Sub(written) > maxFeedAge {
					t.Fatalf("%s allows %s after it was revoked in a partition that it does not follow", r.name, asked.Sub(written))
				}
				return said.denied() && said.code == "revoked"
			})
			t.Logf("%s: %s knows after %s", topic, r.name, time.Since(written).Round(time.Millisecond))
		}
	}
	w.now("afterwards")
	c.sameDigest()
	for n := range 30 {
		c.everywhere(fmt.Sprintf("new-1-%d", n), "deny revoked")
	}
	w.end()
}
