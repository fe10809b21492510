//go:build e2e && linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
	kafkago "github.com/segmentio/kafka-go"
)

// eventCluster is a cluster with an input of CloudEvents and an issuer whose events come by a
// topic.
type eventCluster struct {
	*cluster
	siem, events string // topics
	key          *ecdsa.PrivateKey
	n            int
}

func newEventCluster(t *testing.T) *eventCluster {
	t.Helper()
	needKafka(t)
	c := &eventCluster{cluster: nameCluster(t)}
	c.brokers, c.partitions, c.weak = []string{kafka.Address()}, 2, true
	c.siem, c.events = c.log+"-siem", c.log+"-events"
	for _, topic := range []string{c.log, c.risk, c.scores, c.siem, c.events} {
		createTopic(t, topic, c.partitions)
	}
	var err error
	c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	raw, err := c.key.PublicKey.Bytes() // 4, x, y
	must(t, err)
	b64 := base64.RawURLEncoding.EncodeToString
	keys := filepath.Join(t.TempDir(), "keys.json")
	must(t, os.WriteFile(keys, fmt.Appendf(nil, `{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","x":%q,"y":%q}]}`, b64(raw[1:33]), b64(raw[33:])), 0o600))
	section := c.section() + fmt.Sprintf(`      - topic: %s
        format: cloudevents
        may:
          - {types: [revoke], kinds: [session]}
issuers:
  - name: idp
    issuer: https://idp.example.com/
    audience: [https://pdp.example.com/ssf]
    algorithms: [ES256]
    keys: {file: %q}
    may: {types: [revoke], kinds: [session]}
    topic: {name: %s}
`, c.siem, keys, c.events)
	for _, name := range []string{"A", "B", "C"} {
		c.replicas = append(c.replicas, newReplica(t, name, section))
	}
	c.begin()
	return c
}

// set is a SET that revokes a session, signed by an implementation of others.
func (c *eventCluster) set(session string, key *ecdsa.PrivateKey) string {
	c.t.Helper()
	c.n++
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": "https://idp.example.com/", "aud": "https://pdp.example.com/ssf", "jti": fmt.Sprint("jti-", c.n), "iat": time.Now().Unix(),
		"sub_id": map[string]any{"format": "opaque", "id": session},
		"events": map[string]any{"https://schemas.openid.net/secevent/caep/event-type/session-revoked": map[string]any{}},
	})
	token.Header["typ"], token.Header["kid"] = "secevent+jwt", "k1"
	signed, err := token.SignedString(key)
	must(c.t, err)
	return signed
}

// produce writes a record with headers ("name=value"), by kcat where it is there.
func (c *eventCluster) produce(topic, value string, headers ...string) {
	c.t.Helper()
	if kcat, err := exec.LookPath("kcat"); err == nil {
		args := []string{"-P", "-b", kafka.Address(), "-t", topic}
		for _, h := range headers {
			args = append(args, "-H", h)
		}
		write := exec.CommandContext(c.t.Context(), kcat, args...)
		write.Stdin = strings.NewReader(value + "\n")
		if out, err := write.CombinedOutput(); err != nil {
			c.t.Fatalf("kcat: %v %s", err, out)
		}
		return
	}
	m := kafkago.Message{Value: []byte(value)}
	for _, h := range headers {
		name, text, _ := strings.Cut(h, "=")
		m.Headers = append(m.Headers, kafkago.Header{Key: name, Value: []byte(text)})
	}
	writer := &kafkago.Writer{Addr: kafkago.TCP(kafka.Address()), Topic: topic, RequiredAcks: kafkago.RequireAll, BatchSize: 1}
	must(c.t, writer.WriteMessages(c.t.Context(), m))
	must(c.t, writer.Close())
}

// topicOf shows how a replica reads the topic of the issuer.
func (c *eventCluster) topicOf(r *replica) (topic struct {
	Next    map[string]int64
	Behind  int64
	Taken   uint64
	Reading string
}) {
	c.t.Helper()
	a := r.get("/v1/events")
	var out struct {
		Issuers []struct{ Topic jsontext.Value }
	}
	if a.err != nil || a.status != http.StatusOK {
		c.t.Fatalf("%s: %s %s %v", r.name, a, a.body, a.err)
	}
	must(c.t, json.Unmarshal([]byte(a.body), &out, json.MatchCaseInsensitiveNames(true)))
	must(c.t, json.Unmarshal(out.Issuers[0].Topic, &topic, json.MatchCaseInsensitiveNames(true)))
	return topic
}

// Events of others come by topics of a real Kafka: signals in CloudEvents by an input, and SETs
// by the topic of their issuer, bare and in CloudEvents. Each changes the decisions of every
// replica, also of one that was killed while they came; a forged one changes none.
func TestEventsOnTopicsChangeTheDecisionsOfEveryReplica(t *testing.T) {
	c := newEventCluster(t)
	w := c.watch(1)
	now := time.Now().UTC().Format(time.RFC3339Nano)
	w.now("a SIEM sends CloudEvents")
	c.produce(c.siem, `{"reason":"beaconing"}`, "ce_specversion=1.0", "ce_id=1", "ce_source=https://siem.example.com/", "ce_type=vigil.signal.revoke",
		"ce_time="+now, "ce_subject=session:in-binary-mode", "content-type=application/json")
	c.everywhere("in-binary-mode", "deny revoked")
	c.produce(c.siem, `{"specversion":"1.0","id":"2","source":"https://siem.example.com/","type":"vigil.signal.revoke","time":"`+now+`","subject":"session:in-structured-mode"}`,
		"content-type=application/cloudevents+json; charset=UTF-8")
	c.everywhere("in-structured-mode", "deny revoked")

	w.now("an identity provider sends SETs")
	c.produce(c.events, c.set("by-a-set", c.key))
	c.everywhere("by-a-set", "deny revoked")
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c.produce(c.events, c.set("forged", stranger))
	c.produce(c.events, "\x00 what nobody can read")

	w.now("a replica is killed while they come")
	killed := c.replicas[2]
	killed.kill()
	c.produce(c.events, c.set("by-a-set-in-binary-mode", c.key), "ce_specversion=1.0", "ce_id=3", "ce_source=https://idp.example.com/", "ce_type=caep", "content-type=application/secevent+jwt")
	c.produce(c.events, `{"specversion":"1.0","id":"4","source":"https://idp.example.com/","type":"caep","datacontenttype":"application/secevent+jwt","data":"`+c.set("by-a-set-in-structured-mode", c.key)+`"}`,
		"content-type=application/cloudevents+json")
	for _, session := range []string{"by-a-set-in-binary-mode", "by-a-set-in-structured-mode"} {
		c.everywhereBut(killed, session, "deny revoked")
	}
	killed.start()
	sessions := []string{"in-binary-mode", "in-structured-mode", "by-a-set", "by-a-set-in-binary-mode", "by-a-set-in-structured-mode"}
	for _, session := range sessions {
		c.everywhere(session, "deny revoked")
	}
	for _, r := range c.replicas {
		until(t, r.name+" has taken all of the topic", func() bool {
			is := c.topicOf(r)
			return is.Next[c.events+"/0"]+is.Next[c.events+"/1"] == 5 && is.Behind == 0 && is.Reading == ""
		})
		if said := r.decide(c.agent, "forged", ""); !said.allowed {
			t.Errorf("%s: what was forged: %s", r.name, said)
		}
	}
	c.holds(sessions)
	c.sameDigest()
	w.end()
}
