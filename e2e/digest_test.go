//go:build e2e && linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Everybody speaks about the same few agents and sessions at once: three replicas through
// the log, and an outsider through an input, over four partitions of each. One replica is
// started again in between, one begins from nothing at the end. All hold the same.
func TestReplicasThatAppliedTheSameRecordsHoldTheSamePosture(t *testing.T) {
	c := newCluster(t, 4)
	w := c.watch(1)
	w.now("everybody speaks")
	const each = 400
	text := func(random *rand.Rand, who string, i int) string {
		id := fmt.Sprintf("%s-%d", who, i)
		agent := fmt.Sprintf("agent:g-%d", random.IntN(5))
		switch random.IntN(5) {
		case 0:
			return signal(id, "quarantine", agent, fmt.Sprintf(`,"expires":%q`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
		case 1:
			return signal(id, "release", agent, "")
		case 2:
			return signal(id, "revoke", fmt.Sprintf("session:g-%d", random.IntN(50)), "")
		default:
			return signal(id, "risk", agent, fmt.Sprintf(`,"risk":%d`, random.IntN(101)))
		}
	}
	var group sync.WaitGroup
	refused := make([]string, len(c.replicas))
	for n, r := range c.replicas {
		random := rand.New(rand.NewPCG(7, uint64(n)))
		group.Go(func() {
			for i := range each {
				if a := r.push(text(random, r.name, i)); (a.err != nil || a.status != http.StatusOK) && r.name != "C" {
					refused[n] = a.String() + a.body
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(7, 99))
	writer := outsider(t)
	for i := range each {
		record := &kgo.Record{Topic: c.risk, Partition: int32(random.IntN(int(c.partitions))), Value: []byte(text(random, "outside", i))}
		must(t, writer.ProduceSync(t.Context(), record).FirstErr())
		if i == each/2 {
			c.replicas[2].kill()
			c.replicas[2].start()
		}
	}
	group.Wait()
	for n, said := range refused {
		if said != "" {
			t.Errorf("%s: %s", c.replicas[n].name, said)
		}
	}
	w.now("afterwards")
	running := c.sameDigest()
	w.now("C begins from nothing")
	c.replicas[2].kill()
	c.replicas[2].wipe()
	c.replicas[2].start()
	if fresh := c.sameDigest(); fresh != running {
		t.Errorf("whoever begins from nothing has another posture: %s, %s", running, fresh)
	}
	w.end()
}
