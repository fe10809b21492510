//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A replica that was away comes back to very many signals. It is not ready before the last
// of them that was there when it started. How fast it is, is reported beside a follower that
// only reads.
func TestAReplicaThatWasAwayIsReadyOnlyWithEverythingItMissed(t *testing.T) {
	n := fromEnv(t, "VIGIL_E2E_MISSED", 100_000)
	c := newCluster(t, 1)
	w := c.watch(1)
	late := c.replicas[2]
	w.now("C is away")
	late.stop()
	writer := outsider(t, kgo.ProducerLinger(5*time.Millisecond))
	for sent := 0; sent < n; {
		batch := make([]*kgo.Record, min(10_000, n-sent))
		for i := range batch {
			k := sent + i
			batch[i] = &kgo.Record{Topic: c.risk, Value: []byte(signal(fmt.Sprintf("missed-%d", k), "risk", fmt.Sprintf("agent:m-%d", k%10_000), fmt.Sprintf(`,"risk":%d`, k%60)))}
		}
		must(t, writer.ProduceSync(t.Context(), batch...).FirstErr())
		sent += len(batch)
	}
	produce(t, c.risk, []byte(revocation("the-last-one")))
	w.now("C comes back")
	begun := time.Now()
	late.start()
	took := time.Since(begun)
	if said := late.decide(c.agent, "the-last-one", ""); !said.denied() || said.code != "revoked" {
		t.Errorf("C is ready without the last signal: %s %s", said, said.body)
	}
	reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{kafka.Address()}, Topic: c.risk, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: time.Second})
	defer reader.Close()
	begun = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range n {
		_, err := reader.ReadMessage(ctx)
		must(t, err)
	}
	bare := time.Since(begun)
	t.Logf("%d signals: ready %s after it was started, %.0f/s; a bare kafka-go reader %s, %.0f/s", n,
		took.Round(time.Millisecond), float64(n)/took.Seconds(), bare.Round(time.Millisecond), float64(n)/bare.Seconds())
	c.sameDigest()
	w.end()
}
