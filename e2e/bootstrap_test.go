//go:build e2e && linux

package e2e

import (
	"path/filepath"
	"testing"
)

// The log no longer has its beginning. A replica that has kept nothing does not start, and
// does with the snapshot of another, which it then needs no more.
func TestAReplicaThatComesLateTakesASnapshotFromAPeer(t *testing.T) {
	c := newCluster(t, 3)
	w := c.watch(1)
	a, late := c.replicas[0], c.replicas[2]
	w.revoked("gone", a.name, c.revoke(a, "gone").asOf)
	c.everywhere("gone", "deny revoked")
	late.stop()
	late.wipe()
	for p := range c.partitions {
		cut(t, c.log, p)
	}
	w.now("C comes with nothing")
	late.launch()
	c.neverAllows(late, "gone", steady)
	w.now("C takes a snapshot from A")
	late.env = append(late.env, "VIGIL_LOG_BOOTSTRAP_TOKEN_FILE="+filepath.Join(a.dir, "data", "local.token"))
	late.start("--bootstrap-from", "http://127.0.0.1:1", "--bootstrap-from", a.at.Load().control)
	if said := late.decide(c.agent, "gone", ""); !said.denied() || said.code != "revoked" {
		t.Errorf("the first answer: %s %s", said, said.body)
	}
	if said := late.decide(c.agent, steady, ""); !said.allowed {
		t.Errorf("it knows nobody: %s %s", said, said.body)
	}
	w.revoked("after", late.name, c.revoke(late, "after").asOf)
	c.everywhere("after", "deny revoked")
	c.sameDigest()
	late.kill()
	w.now("C comes back by itself")
	late.start()
	c.everywhere("gone", "deny revoked")
	c.sameDigest()
	w.end()
}
