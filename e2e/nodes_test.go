//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"vigil/e2e/broker"
)

// nodes is a cluster of three brokers, whose topics have three copies, two of them in sync
// or nothing is acknowledged. The tests that need it share it: each finds all three running.
type nodes struct {
	t   *testing.T
	all []*broker.Broker // by id, from 1
}

// ledBy is what one broker says of a partition.
type ledBy struct {
	leader, epoch int32
	inSync        int
}

// sharedNodes are made by the first test that needs them, and ended by run.
var sharedNodes []*broker.Broker

// needNodes gives the cluster, or skips the test where none can be had. Brokers that a failed
// test has left stopped or suspended go on.
func needNodes(t *testing.T) *nodes {
	t.Helper()
	if missing != nil {
		t.Skip(missing)
	}
	begun := time.Now()
	if sharedNodes == nil {
		ports, err := freePorts(3)
		must(t, err)
		// Another leader is chosen so long after the last sign of one.
		settings := map[string]string{"broker.session.timeout.ms": "3000"}
		sharedNodes, err = broker.NewCluster(broker.Config{Jars: jars, Dir: filepath.Join(workDir, "nodes"), Settings: settings}, ports)
		must(t, err)
	}
	n := &nodes{t: t, all: sharedNodes}
	for _, b := range n.all {
		if b.Pid() != 0 {
			must(t, b.Resume())
		}
	}
	n.start(1, 2, 3)
	t.Logf("three brokers serve after %s", time.Since(begun).Round(time.Millisecond))
	return n
}

func (n *nodes) node(id int32) *broker.Broker { return n.all[id-1] }

// but are the other two.
func (n *nodes) but(id int32) []int32 {
	return slices.DeleteFunc([]int32{1, 2, 3}, func(other int32) bool { return other == id })
}

// start starts brokers at the same time.
func (n *nodes) start(ids ...int32) {
	n.t.Helper()
	var those []*broker.Broker
	for _, id := range ids {
		those = append(those, n.node(id))
	}
	must(n.t, broker.StartAll(n.t.Context(), those...))
}

// kill ends a broker as a defect would.
func (n *nodes) kill(id int32) {
	n.t.Helper()
	must(n.t, n.node(id).Kill())
}

// suspend stops brokers where they are, and waits until all of them stand still.
func (n *nodes) suspend(ids ...int32) {
	n.t.Helper()
	for _, id := range ids {
		must(n.t, n.node(id).Suspend())
	}
	for _, id := range ids {
		untilStill(n.t, fmt.Sprintf("broker %d", id), n.node(id).Pid())
	}
}

func (n *nodes) resume(ids ...int32) {
	n.t.Helper()
	for _, id := range ids {
		must(n.t, n.node(id).Resume())
	}
}

func (n *nodes) addresses() (all []string) {
	for _, b := range n.all {
		all = append(all, b.Address())
	}
	return all
}

// ask asks one broker, and no other in its place.
func ask[R kmsg.Response](n *nodes, id int32, req kmsg.Request) (r R, err error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(n.node(id).Address()))
	if err != nil {
		return r, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*time.Second)
	defer cancel()
	got, err := c.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return r, err
	}
	return got.(R), nil
}

// says is what one broker knows of the partitions of a topic; nil where it says nothing.
func (n *nodes) says(id int32, name string) map[int32]ledBy {
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(name)
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = append(req.Topics, topic)
	resp, err := ask[*kmsg.MetadataResponse](n, id, req)
	if err != nil || len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 {
		return nil
	}
	led := map[int32]ledBy{}
	for _, p := range resp.Topics[0].Partitions {
		led[p.Partition] = ledBy{p.Leader, p.LeaderEpoch, len(p.ISR)}
	}
	return led
}

// untilSaid waits until each of these brokers says something of every partition of a topic.
func (n *nodes) untilSaid(what, name string, is func(ledBy) bool, by ...int32) {
	n.t.Helper()
	said := map[int32]map[int32]ledBy{}
	defer func() {
		if n.t.Failed() {
			n.t.Logf("%s, as the brokers have it: %v", name, said)
		}
	}()
	until(n.t, what, func() bool {
		for _, id := range by {
			said[id] = n.says(id, name)
			if len(said[id]) == 0 {
				return false
			}
			for _, p := range said[id] {
				if !is(p) {
					return false
				}
			}
		}
		return true
	})
}

// whole waits until every copy of a topic is in sync.
func (n *nodes) whole(name string) {
	n.t.Helper()
	n.untilSaid("every copy of "+name+" is in sync", name, func(p ledBy) bool { return p.leader > 0 && p.inSync == len(n.all) }, 1, 2, 3)
}

// leads are the partitions that a broker leads, as another has it.
func (n *nodes) leads(id int32, name string, by int32) (partitions []int32) {
	said := n.says(by, name)
	for _, p := range slices.Sorted(maps.Keys(said)) {
		if said[p].leader == id {
			partitions = append(partitions, p)
		}
	}
	return partitions
}

// elect has each partition of a topic led by the broker that it prefers: a change of leaders
// that everybody agrees to.
func (n *nodes) elect(name string, by int32) {
	n.t.Helper()
	topic := kmsg.NewElectLeadersRequestTopic()
	topic.Topic = name
	for p := range n.says(by, name) {
		topic.Partitions = append(topic.Partitions, p)
	}
	req := kmsg.NewPtrElectLeadersRequest()
	req.TimeoutMillis, req.Topics = 10_000, append(req.Topics, topic)
	until(n.t, name+" is led by whom it prefers", func() bool {
		resp, err := ask[*kmsg.ElectLeadersResponse](n, by, req)
		if err != nil || resp.ErrorCode != 0 {
			return false
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil && err != kerr.ElectionNotNeeded {
					return false
				}
			}
		}
		return true
	})
}

// gather has every partition of a topic led by one broker.
func (n *nodes) gather(id int32, name string) {
	n.t.Helper()
	topic := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	topic.Topic = name
	for number := range n.says(id, name) {
		p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
		p.Partition, p.Replicas = number, append([]int32{id}, n.but(id)...) // the first is preferred
		topic.Partitions = append(topic.Partitions, p)
	}
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.TimeoutMillis, req.Topics = 10_000, append(req.Topics, topic)
	resp, err := ask[*kmsg.AlterPartitionAssignmentsResponse](n, id, req)
	must(n.t, err)
	must(n.t, kerr.ErrorForCode(resp.ErrorCode))
	n.elect(name, id)
	n.untilSaid(fmt.Sprintf("broker %d leads all of %s", id, name), name, func(p ledBy) bool { return p.leader == id }, 1, 2, 3)
}

// newCluster starts three replicas on topics of these brokers, which pdp topics makes as the
// contract has them.
func (n *nodes) newCluster() *cluster {
	n.t.Helper()
	c := nameCluster(n.t)
	c.brokers, c.partitions = n.addresses(), 3
	c.prepare()
	config := c.replicas[0].config()
	report, code := topicsCommand(n.t, "create", config)
	if code != 0 || len(report.Created) != 3 || len(report.Findings) != 0 {
		n.t.Fatalf("topics create: exit %d, %+v", code, report)
	}
	for _, made := range report.Created {
		if made.Existed || made.Replication != 3 {
			n.t.Errorf("made: %+v", made)
		}
	}
	if report, code := topicsCommand(n.t, "check", config); code != 0 || len(report.Findings) != 0 {
		n.t.Errorf("topics check: exit %d, %+v", code, report)
	}
	n.whole(c.log)
	c.begin()
	return c
}
