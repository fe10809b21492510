//go:build e2e && linux

package e2e

import (
	"os/exec"
	"strings"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
)

// A producer that knows nothing of Vigil writes a signal to an input, and it is in force on
// all replicas. kcat is one where it is there, kafka-go otherwise.
func TestASignalOfAnOutsideProducerIsInForceEverywhere(t *testing.T) {
	c := newCluster(t, 3)
	w := c.watch(1)
	produce := func(value string) {
		t.Helper()
		if kcat, err := exec.LookPath("kcat"); err == nil {
			write := exec.CommandContext(t.Context(), kcat, "-P", "-b", kafka.Address(), "-t", c.risk)
			write.Stdin = strings.NewReader(value + "\n")
			if out, err := write.CombinedOutput(); err != nil {
				t.Fatalf("kcat: %v %s", err, out)
			}
			t.Log("written by kcat")
			return
		}
		writer := &kafkago.Writer{Addr: kafkago.TCP(kafka.Address()), Topic: c.risk, RequiredAcks: kafkago.RequireAll, BatchSize: 1}
		must(t, writer.WriteMessages(t.Context(), kafkago.Message{Value: []byte(value)}))
		must(t, writer.Close())
		t.Log("there is no kcat: written by kafka-go")
	}
	w.now("an outsider revokes a session")
	produce(revocation("outside"))
	c.everywhere("outside", "deny revoked")
	w.now("an outsider quarantines an agent")
	other := "other-payer"
	registered := c.replicas[0].push(registration(other)...)
	for _, r := range c.replicas {
		if said := r.decide(other, "x", registered.asOf); !said.allowed {
			t.Errorf("%s: %s", r.name, said)
		}
	}
	produce(signal("q-1", "quarantine", "agent:"+other, ""))
	for _, r := range c.replicas {
		until(t, r.name+" denies", func() bool { return r.decide(other, "x", "").code == "quarantined" })
	}
	produce(signal("q-2", "release", "agent:"+other, ""))
	for _, r := range c.replicas {
		until(t, r.name+" allows again", func() bool { return r.decide(other, "x", "").allowed })
	}
	w.now("an outsider registers an agent, which it may not")
	produce(signal("reg-1", "register", "agent:mine", `,"class":"high-high","labels":{"role":"invoice-agent"},"scopes":["propose:payments"]`))
	for _, r := range c.replicas {
		until(t, r.name+" counts a dead letter", func() bool {
			s, err := r.status(false)
			return err == nil && s.Feed.DeadLetters == 1
		})
		if said := r.decide("mine", "x", ""); said.allowed {
			t.Errorf("%s: %s", r.name, said)
		}
	}
	c.sameDigest()
	w.end()
}
