//go:build e2e && linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// poison is what somebody who may write to a topic can put there. None of it is a signal
// that its source may send, and none may hold anything.
func poison() (names []string, values [][]byte) {
	add := func(name, value string) {
		names, values = append(names, name), append(values, []byte(value))
	}
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }
	score := func(more string) string {
		return `{"v":1,"id":"p-1","type":"risk","entities":["agent:payer"],"time":"` + at(-time.Second) + `"` + more + `}`
	}
	add("nothing", "")
	add("one zero", "\x00")
	garbage := make([]byte, 4096)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(garbage)
	add("garbage", string(garbage))
	add("no JSON", `{"v":1,"id":`)
	add("not UTF-8", "{\"v\":1,\"id\":\"\xff\"}")
	add("another schema", `{"kind":"alert","severity":9}`)
	add("a list", `[1,2,3]`)
	add("deep", strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000))
	add("a member twice", score(`,"risk":1,"risk":99`))
	add("NaN", score(`,"risk":NaN`))
	add("a number that is none", score(`,"risk":1e999`))
	add("risk of 101", score(`,"risk":101`))
	add("no risk", score(""))
	add("another member", score(`,"risk":1,"zeal":true`))
	add("the future", `{"v":1,"id":"p-2","type":"risk","entities":["agent:payer"],"time":"`+at(time.Hour)+`","risk":1}`)
	add("the year 9999", `{"v":1,"id":"p-3","type":"risk","entities":["agent:payer"],"time":"9999-12-31T23:59:59Z","risk":1}`)
	add("another version", `{"v":2,"id":"p-4","type":"risk","entities":["agent:payer"],"time":"`+at(-time.Second)+`","risk":1}`)
	add("a type that is not its own", `{"v":1,"id":"p-5","type":"quarantine","entities":["agent:payer"],"time":"`+at(-time.Second)+`"}`)
	add("a kind that is not its own", `{"v":1,"id":"p-6","type":"risk","entities":["user:kim"],"time":"`+at(-time.Second)+`","risk":99}`)
	add("another tenant", `{"v":1,"id":"p-7","type":"risk","tenant":"other","entities":["agent:payer"],"time":"`+at(-time.Second)+`","risk":99}`)
	add("a source of its own", score(`,"risk":1,"source":"client:soar"`))
	return names, values
}

// What nobody can read, in an input and in the log itself, stops no replica and changes no
// posture. It is counted.
func TestAPoisonedTopicStopsNobodyAndChangesNothing(t *testing.T) {
	letters := fromEnv(t, "VIGIL_E2E_LETTERS", 100_000)
	c := newCluster(t, 1)
	w := c.watch(1)
	w.revoked("gone", "A", c.revoke(c.replicas[0], "gone").asOf)
	c.everywhere("gone", "deny revoked")
	before := c.sameDigest()
	counted := make([]uint64, len(c.replicas))
	count := func(what string, more int, exact bool) {
		t.Helper()
		for i, r := range c.replicas {
			var now uint64
			until(t, fmt.Sprintf("%s counts %d dead letters of %s", r.name, more, what), func() bool {
				s, err := r.status(false)
				if err != nil {
					return false
				}
				if now = s.Feed.DeadLetters; s.Feed.Broken != "" {
					t.Fatalf("%s: %s broke the feed of %s: %s", what, what, r.name, s.Feed.Broken)
				}
				return now >= counted[i]+uint64(more)
			})
			if exact && now != counted[i]+uint64(more) {
				t.Errorf("%s: %s counts %d dead letters, want %d", what, r.name, now-counted[i], more)
			}
			counted[i] = now
			if said := r.decide(c.agent, steady, ""); !said.allowed {
				t.Errorf("%s, after %s: %s %s", r.name, what, said, said.body)
			}
			if said := r.decide(c.agent, "gone", ""); !said.denied() {
				t.Errorf("%s, after %s: %s %s", r.name, what, said, said.body)
			}
		}
	}

	names, values := poison()
	for _, topic := range []string{c.scores, c.log} {
		w.now("records that are no signals, in " + topic)
		for i, value := range values {
			produce(t, topic, value)
			count(names[i]+", in "+topic, 1, true)
		}
	}

	// 200 MB that are 27 kB on the wire, and pass every limit of the broker.
	bomb := make([]byte, 200<<20)
	for _, topic := range []string{c.scores, c.log} {
		what := "a bomb of zstd, in " + topic
		w.now(what)
		thrower := outsider(t, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(1<<30), kgo.BrokerMaxWriteBytes(1<<30))
		must(t, thrower.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: bomb}).FirstErr())
		count(what, 1, false)
	}
	for _, r := range c.replicas {
		most := r.mostMemory()
		t.Logf("%s has had %d MiB resident at most", r.name, most>>20)
		if most > len(bomb) {
			t.Errorf("%s has unpacked the bomb", r.name)
		}
	}

	// Transactions: what was aborted, and what was not.
	for _, topic := range []string{c.scores, c.log} {
		what := "transactions, in " + topic
		w.now(what)
		writer := outsider(t, kgo.TransactionalID("poison-"+topic), kgo.TransactionTimeout(10*time.Second))
		for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
			must(t, writer.BeginTransaction())
			must(t, writer.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(signal("txn", "risk", "agent:payer", `,"risk":99`))}).FirstErr())
			must(t, writer.EndTransaction(t.Context(), end))
		}
		count(what, 2, false)
	}

	w.now("very many dead letters")
	begun := time.Now()
	flood := outsider(t, kgo.ProducerLinger(5*time.Millisecond))
	for sent := 0; sent < letters; {
		batch := make([]*kgo.Record, min(10_000, letters-sent))
		for i := range batch {
			batch[i] = &kgo.Record{Topic: c.scores, Value: fmt.Appendf(nil, "letter %d that nobody can read", sent+i)}
		}
		must(t, flood.ProduceSync(t.Context(), batch...).FirstErr())
		sent += len(batch)
	}
	count("very many dead letters", letters, true)
	t.Logf("%d dead letters are counted everywhere after %s", letters, time.Since(begun).Round(time.Millisecond))

	w.now("afterwards")
	for _, r := range c.replicas {
		if s, err := r.status(false); err != nil || s.Feed.Broken != "" || !s.Ready {
			t.Errorf("%s: %+v %v", r.name, s, err)
		}
	}
	if after := c.sameDigest(); after != before {
		t.Errorf("poison changed posture from %s to %s", before, after)
	}
	// Who starts among all that gets through it, and knows what was revoked.
	c.replicas[1].kill()
	c.replicas[1].wipe()
	c.replicas[1].start()
	if said := c.replicas[1].decide(c.agent, "gone", ""); !said.denied() || said.code != "revoked" {
		t.Errorf("B, started on the poisoned topics: %s", said)
	}
	if after := c.sameDigest(); after != before {
		t.Errorf("a replica that starts among the poison has another posture: %s, %s", before, after)
	}
	w.revoked("last", "A", c.revoke(c.replicas[0], "last").asOf)
	c.everywhere("last", "deny revoked")
	w.end()
}
