//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// workload is what loadtest asks replicas with the rules of the example. The action needs no
// attestation, for loadtest registers agents and no more.
const workload = `{"v":1,"name":"reads of invoices","bundle":{},"agents":[],"zipf":0,
 "requests":[{"body":{},"expect":"deny"}],
 "race":{"agent":{"id":"reader","class":"high-high","labels":{"role":"invoice-agent"},"scopes":["view:invoices"]},
  "body":"{\"subject\":{\"type\":\"user\",\"id\":\"kim\",\"properties\":{\"role\":\"AP-analyst\",\"scope\":\"view:invoices\",\"act\":{\"sub\":\"$AGENT\"}}},\"action\":{\"name\":\"read_invoice\"},\"resource\":{\"type\":\"invoice\",\"id\":\"inv-88\"},\"context\":{\"session\":\"$SESSION\"}}"}}`

// load runs loadtest against the cluster, logs what it reports and gives its metrics.
func (c *cluster) load(command string, flags ...string) map[string]float64 {
	c.t.Helper()
	dir := c.t.TempDir()
	file, results := filepath.Join(dir, "workload.json"), filepath.Join(dir, "results.json")
	must(c.t, os.WriteFile(file, []byte(workload), 0o600))
	first := c.replicas[0].at.Load()
	args := []string{command, "--quiet", "--workload", file, "--json", results, "--decision-url", first.decision, "--control-url", first.control,
		"--token-file", filepath.Join(c.replicas[0].dir, "data", "local.token"), "--timeout", "20s"}
	for _, r := range c.replicas[1:] {
		args = append(args, "--replica", r.at.Load().decision)
	}
	out, err := exec.CommandContext(c.t.Context(), loadtest, append(args, flags...)...).CombinedOutput()
	c.t.Logf("loadtest %s\n%s", command, out)
	if err != nil {
		c.t.Errorf("loadtest %s: %v", command, err)
	}
	data, err := os.ReadFile(results)
	must(c.t, err)
	var report struct {
		Metrics []struct {
			Name  string  `json:"name"`
			Value float64 `json:"value"`
		} `json:"metrics"`
	}
	must(c.t, json.Unmarshal(data, &report))
	metrics := map[string]float64{}
	for _, m := range report.Metrics {
		metrics[m.Name] = m.Value
	}
	return metrics
}

// The history checker judges every answer of three replicas in a race with quarantines,
// releases and revocations, pushed to the first of them.
func TestARaceOverThreeReplicasBreaksNothingThatIsDemanded(t *testing.T) {
	c := newCluster(t, 1)
	found := c.load("race", "--decisions", "30000", "--readers", "6")
	if found["race.stale_allows"] != 0 || found["race.replica_decisions"] == 0 {
		t.Errorf("%.0f stale allows in %.0f decisions, %.0f of them on the replicas that took no signal",
			found["race.stale_allows"], found["race.decisions"], found["race.replica_decisions"])
	}
	// The same without the demand finds what the demand is for.
	if undemanded := c.load("race", "--decisions", "30000", "--readers", "6", "--undemanded"); undemanded["race.undemanded_stale_allows"] == 0 {
		t.Error("nothing was demanded, and no replica was ever behind: the race would not show what demanding is for")
	}
}

// From the hand of a producer to the first denial on every replica, beside a round trip with
// nothing but the broker in between. How long that is, is reported and not judged: a machine
// may be busy.
func TestARevocationThatIsProducedIsDeniedOnEveryReplica(t *testing.T) {
	rounds := fromEnv(t, "VIGIL_E2E_ROUNDS", 300)
	c := newCluster(t, 1)
	bare := "bare-" + c.log
	createTopic(t, bare, 1)
	found := c.load("replicas", "--rounds", strconv.Itoa(rounds), "--brokers", kafka.Address(), "--topic", c.risk, "--bare-topic", bare)
	if n := found["replicas.rounds"]; n != float64(rounds) {
		t.Errorf("%.0f of %d revocations were denied everywhere", n, rounds)
	}
	var words []string
	for _, q := range []string{"p50", "p99", "max"} {
		every, alone := found["replicas.sent_to_deny_on_every."+q], found["replicas.bare_kafka."+q]
		words = append(words, fmt.Sprintf("%s %s beside %s, ratio %.2f", q, time.Duration(every*1e9).Round(time.Microsecond),
			time.Duration(alone*1e9).Round(time.Microsecond), every/alone))
	}
	t.Logf("produced to denied on every replica, beside a bare round trip: %s", strings.Join(words, "; "))
	pushed := c.load("replicas", "--rounds", strconv.Itoa(rounds))
	if n := pushed["replicas.rounds"]; n != float64(rounds) {
		t.Errorf("%.0f of %d revocations pushed over HTTP were denied everywhere", n, rounds)
	}
}
