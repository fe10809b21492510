package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"vigil/server/control"
)

// served is `pdp serve` in this process, over a log on Kafka.
type served struct {
	t    *testing.T
	dir  string // the data folder
	stop func() int

	decision, control, token string
	stderr                   *buffer
}

// launch starts `pdp serve` over the topics "log" and "risk". Arguments that are VIGIL_...
// are its environment.
func launch(t *testing.T, k *gatedKafka, dir string, args ...string) *served {
	t.Helper()
	return launchConfigured(t, k, dir, `, inputs: [{topic: risk, may: [{types: [revoke, risk], kinds: [session, agent]}]}]`, "", args...)
}

func launchWith(t *testing.T, dir string, args ...string) *served {
	t.Helper()
	s := &served{t: t, dir: dir, stderr: new(buffer)}
	env := environment{"HOME=" + dir}
	args = slices.DeleteFunc(args, func(a string) bool {
		if strings.HasPrefix(a, "VIGIL_") {
			env = append(env, a)
			return true
		}
		return false
	})
	_ = os.Remove(s.addresses()) // those of an earlier start
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	code := -1
	go func() {
		defer close(ended)
		a := &app{env: env, stdin: &buffer{}}
		code = a.Run(ctx, append([]string{"serve", "--address-file", s.addresses()}, args...), &buffer{}, s.stderr)
	}()
	s.stop = func() int {
		cancel()
		<-ended
		return code
	}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("%s printed:\n%s", filepath.Base(dir), s.stderr.String())
		}
	})
	return s
}

func (s *served) addresses() string { return s.dir + ".json" }

// ready waits until it decides.
func (s *served) ready() *served {
	s.t.Helper()
	s.until("it is ready", func() bool {
		data, err := os.ReadFile(s.addresses())
		if err != nil {
			return false
		}
		var at struct {
			Decision string `json:"decision"`
			Control  string `json:"control"`
		}
		must(s.t, json.Unmarshal(data, &at))
		token, err := os.ReadFile(filepath.Join(s.dir, localTokenName))
		must(s.t, err)
		s.decision, s.control, s.token = at.Decision, at.Control, strings.TrimSpace(string(token))
		return true
	})
	return s
}

// refused waits until it has ended by itself, and gives what it printed.
func (s *served) refused() string {
	s.t.Helper()
	s.until("it has ended", func() bool { return strings.Contains(s.stderr.String(), "pdp: ") })
	if code := s.stop(); code != exitInput {
		s.t.Errorf("it ended with code %d", code)
	}
	return s.stderr.String()
}

func (s *served) until(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	s.t.Fatalf("in vain: %s:\n%s", what, s.stderr.String())
}

func (s *served) do(method, url, body string, header ...string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	must(s.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.token)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	must(s.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(s.t, err)
	return resp.StatusCode, string(data)
}

// decide asks about the agent payer in a session; "allow" or the code of the denial.
func (s *served) decide(session string, header ...string) string {
	s.t.Helper()
	status, body := s.do("POST", s.decision+"/access/v1/evaluation",
		fmt.Sprintf(`{"subject":{"type":"user","id":"kim","properties":{"role":"AP-analyst","scope":"propose:payments","act":{"sub":"payer"}}},`+
			`"action":{"name":"pay"},"resource":{"type":"payment","id":"inv-88","properties":{"amount":4200,"supplier":"acme"}},"context":{"session":%q}}`, session), header...)
	var out struct {
		Decision bool `json:"decision"`
		Context  struct {
			Code  string `json:"code"`
			Admin string `json:"reason_admin"`
		} `json:"context"`
	}
	if status != 200 {
		return fmt.Sprint(status)
	}
	must(s.t, json.Unmarshal([]byte(body), &out))
	if out.Decision {
		return "allow"
	}
	return out.Context.Code
}

func (s *served) push(body string) (status int, out control.SignalsResponse) {
	s.t.Helper()
	status, text := s.do("POST", s.control+"/v1/signals", body)
	if status == 200 {
		must(s.t, json.Unmarshal([]byte(text), &out))
	}
	return status, out
}

func (s *served) mustPush(body string) control.SignalsResponse {
	s.t.Helper()
	status, out := s.push(body)
	if status != 200 {
		s.t.Fatalf("%s: %d\n%s", body, status, s.stderr.String())
	}
	return out
}

func (s *served) status() (out control.StatusResponse) {
	s.t.Helper()
	_, text := s.do("GET", s.control+"/v1/status?digest=1", "")
	must(s.t, json.Unmarshal([]byte(text), &out))
	return out
}

func about(id, kind, ref, more string) string {
	return fmt.Sprintf(`{"v":1,"id":%q,"type":%q,"entities":[%q],"time":%q%s}`, id, kind, ref, time.Now().UTC().Format(time.RFC3339Nano), more)
}

func revoked(session string) string { return about(session, "revoke", "session:"+session, "") }

// know makes the agent known, so that it may pay.
func (s *served) know() string {
	s.t.Helper()
	return s.mustPush("[" + about("r", "register", "agent:payer", `,"class":"high-high","labels":{"role":"invoice-agent"}`) + "," +
		about("a", "attest", "agent:payer", `,"result":"pass"`) + "]").AsOf
}

// topics makes the log and an input.
func (k *gatedKafka) topics(partitions int32) {
	for _, name := range []string{"log", "risk"} {
		must(k.t, k.CreateTopic(name, partitions, map[string]string{"message.timestamp.type": "LogAppendTime"}))
	}
}

func (k *gatedKafka) client() *kgo.Client {
	k.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(k.t, err)
	k.t.Cleanup(cl.Close)
	return cl
}

// cut removes what the partitions of a topic hold.
func (k *gatedKafka) cut(name string, partitions int32) {
	k.t.Helper()
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = name
	for p := range partitions {
		topic.Partitions = append(topic.Partitions, kmsg.DeleteRecordsRequestTopicPartition{Partition: p, Offset: -1})
	}
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis, req.Topics = 30_000, append(req.Topics, topic)
	resp, err := req.RequestWith(k.t.Context(), k.client())
	must(k.t, err)
	for _, p := range resp.Topics[0].Partitions {
		must(k.t, kerr.ErrorForCode(p.ErrorCode))
	}
}

func (k *gatedKafka) produce(topic string, partition int32, value string) {
	k.t.Helper()
	must(k.t, k.client().ProduceSync(k.t.Context(), &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}).FirstErr())
}

func dataDir(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(t.TempDir(), name)
}

func TestTwoEnginesOverOneLogOnKafka(t *testing.T) {
	k := newGatedKafka(t)
	k.topics(2)
	one, two := launch(t, k, dataDir(t, "one")), launch(t, k, dataDir(t, "two"))
	one.ready()
	two.ready()
	at := one.know()
	if said := two.decide("s-1", "Vigil-At-Least", at); said != "allow" {
		t.Errorf("the other, once it knows the agent: %s", said)
	}
	for i := range 10 {
		session := fmt.Sprint("gone-", i)
		at := one.mustPush(revoked(session)).AsOf
		if said := one.decide(session); said != "revoked" {
			t.Errorf("who took it: %s", said)
		}
		if said := two.decide(session, "Vigil-At-Least", at); said != "revoked" {
			t.Errorf("the other, at least as new: %s", said)
		}
	}
	k.produce("risk", 1, revoked("by-an-input"))
	for _, s := range []*served{one, two} {
		s.until("an input revokes", func() bool { return s.decide("by-an-input") == "revoked" })
		s.until("it stands at the end", func() bool {
			st := s.status()
			return st.Feed.Positions["risk/1"] == 1 && st.Feed.Positions["log/0"]+st.Feed.Positions["log/1"] == 12 && len(st.Feed.Lag) == 0
		})
	}
	a, b := one.status(), two.status()
	if a.Feed.Kind != "kafka" || a.Feed.Log != b.Feed.Log || a.Feed.AsOf != b.Feed.AsOf || a.Feed.Spool == nil || a.Feed.Health != "ok" || len(a.Degraded) != 0 {
		t.Errorf("%+v\n%+v", a.Feed, b.Feed)
	}
	if now := a.Feed.Age; now < 0 || now > 5 {
		t.Errorf("the view is %f s old", now)
	}
	if _, metrics := one.do("GET", one.control+"/metrics", ""); !strings.Contains(metrics, "vigil_feed_partitions 4\n") || !strings.Contains(metrics, `vigil_feed_position{partition="risk/1"} 1`) {
		t.Errorf("the metrics lack something:\n%s", metrics)
	}
	if code := one.stop(); code != exitOK {
		t.Errorf("code %d", code)
	}
	// It comes back to what it knew and to what it missed.
	two.mustPush(revoked("missed"))
	again := launch(t, k, one.dir).ready()
	for _, session := range []string{"gone-3", "by-an-input", "missed"} {
		if said := again.decide(session); said != "revoked" {
			t.Errorf("%s, started again: %s", session, said)
		}
	}
	if !strings.Contains(again.stderr.String(), "snapshot read") {
		t.Error("no snapshot was read")
	}
}

// TestAReplicaWhoseLogWasCutTakesASnapshotFromAnother, or refuses to start and says why.
func TestAReplicaWhoseLogWasCutTakesASnapshotFromAnother(t *testing.T) {
	k := newGatedKafka(t)
	k.topics(2)
	one, old := launch(t, k, dataDir(t, "one")).ready(), launch(t, k, dataDir(t, "old")).ready()
	at := one.know()
	if said := old.decide("s-1", "Vigil-At-Least", at); said != "allow" {
		t.Fatal(said)
	}
	if code := old.stop(); code != exitOK { // with a snapshot
		t.Fatal(code)
	}
	for i := range 6 {
		one.mustPush(revoked(fmt.Sprint("gone-", i)))
	}
	k.cut("log", 2)

	text := launch(t, k, dataDir(t, "fresh")).refused()
	if !strings.Contains(text, "the partition log/0 begins at offset") || !strings.Contains(text, "--bootstrap-from") {
		t.Errorf("it says:\n%s", text)
	}
	text = launch(t, k, old.dir).refused()
	if !strings.Contains(text, "it stands at offset") || !strings.Contains(text, "what is between is gone") {
		t.Errorf("with an old snapshot it says:\n%s", text)
	}
	text = launch(t, k, dataDir(t, "stranger"), "--bootstrap-from", one.control).refused()
	if !strings.Contains(text, "no snapshot of what was before: "+one.control) {
		t.Errorf("without a token it says:\n%s", text)
	}

	token := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(token, []byte(one.token+"\n"), 0o600))
	for _, dir := range []string{dataDir(t, "new"), old.dir} {
		s := launch(t, k, dir, "--bootstrap-from", one.control, "VIGIL_LOG_BOOTSTRAP_TOKEN_FILE="+token).ready()
		for i := range 6 {
			if said := s.decide(fmt.Sprint("gone-", i)); said != "revoked" {
				t.Errorf("%s, with a snapshot of another: %s", filepath.Base(dir), said)
			}
		}
		if said := s.decide("s-1"); said != "allow" {
			t.Error(said)
		}
		if a, b := s.status(), one.status(); a.Feed.AsOf != b.Feed.AsOf {
			t.Errorf("%+v\n%+v", a.Feed, b.Feed)
		}
		s.mustPush(revoked("after-" + filepath.Base(dir)))
		one.until("the other learns of it", func() bool { return one.decide("after-"+filepath.Base(dir)) == "revoked" })
		if code := s.stop(); code != exitOK {
			t.Error(code)
		}
	}
}

// TestASavedSnapshotIsLoadedForALogOnKafka, which needs no new log behind it.
func TestASavedSnapshotIsLoadedForALogOnKafka(t *testing.T) {
	k := newGatedKafka(t)
	k.topics(1)
	one := launch(t, k, dataDir(t, "one")).ready()
	one.know()
	one.mustPush(revoked("gone"))
	file := filepath.Join(t.TempDir(), "saved.vigil")
	_, data := one.do("GET", one.control+"/v1/snapshot", "")
	must(t, os.WriteFile(file, []byte(data), 0o600))
	k.cut("log", 1)
	two := dataDir(t, "two")
	var out, errs bytes.Buffer
	if code := (&app{env: environment{"HOME=" + two}}).Run(t.Context(), []string{"snapshot", "load", file, "--data-dir", two}, &out, &errs); code != exitOK {
		t.Fatal(errs.String())
	}
	if text := out.String(); !strings.Contains(text, "on Kafka") {
		t.Errorf("it says:\n%s", text)
	}
	if said := launch(t, k, two).ready().decide("gone"); said != "revoked" {
		t.Error(said)
	}
}

// TestWhileKafkaIsAwayRevocationsAreSpooledAndTheViewAges, and all is well again afterwards.
func TestWhileKafkaIsAwayRevocationsAreSpooledAndTheViewAges(t *testing.T) {
	for _, c := range []struct {
		name       string
		held, gone bool
	}{{"gone", false, true}, {"silent", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newGatedKafka(t)
			k.topics(1)
			one, two := launch(t, k, dataDir(t, "one")).ready(), launch(t, k, dataDir(t, "two")).ready()
			at := one.know()
			if said := two.decide("s-1", "Vigil-At-Least", at); said != "allow" {
				t.Fatal(said)
			}
			one.decide("s-1")
			k.set(c.held, c.gone)
			defer k.set(false, false)
			if c.gone {
				// The first may have an unknown outcome; it is sent again as it was.
				body := revoked("spooled")
				one.until("a revocation is spooled", func() bool {
					status, out := one.push(body)
					return status == 200 && out.Spooled
				})
				if said := one.decide("spooled"); said != "revoked" {
					t.Errorf("who took it: %s", said)
				}
				if status, _ := one.push(about("n", "register", "agent:new", `,"class":"high-high"`)); status != 503 {
					t.Errorf("a registration: %d", status)
				}
			}
			for _, s := range []*served{one, two} { // the same question is in the cache
				s.until("the view is too old", func() bool { return s.decide("s-1") == "stale" })
			}
			if status, body := one.do("GET", one.control+"/readyz?strict", ""); status != 503 || !strings.Contains(body, "older than the rules allow") {
				t.Errorf("strict readiness: %d %s", status, body)
			}
			if status, _ := one.do("GET", one.control+"/readyz", ""); status != 200 {
				t.Errorf("readiness, which would fail everywhere at once: %d", status)
			}
			k.set(false, false)
			for _, s := range []*served{one, two} {
				s.until("the view is fresh", func() bool { return s.decide("s-1") == "allow" })
				if c.gone {
					s.until("it is revoked", func() bool { return s.decide("spooled") == "revoked" })
				}
			}
			one.until("nothing waits", func() bool { st := one.status(); return st.Feed.Spool.Waiting == 0 && len(st.Degraded) == 0 })
		})
	}
}

// TestAnEngineWaitsForKafkaWithItsPortsOpen, and ends when it is told to.
func TestAnEngineWaitsForKafkaWithItsPortsOpen(t *testing.T) {
	k := newGatedKafka(t)
	k.topics(1)
	k.set(false, true)
	s := launch(t, k, dataDir(t, "one"))
	s.until("it waits", func() bool { return strings.Contains(s.stderr.String(), "waiting for the Kafka cluster") })
	if code := s.stop(); code != exitOK {
		t.Errorf("told to stop, it ended with %d", code)
	}
	s = launch(t, k, dataDir(t, "two"))
	s.until("it waits", func() bool { return strings.Contains(s.stderr.String(), "waiting for the Kafka cluster") })
	k.set(false, false)
	s.ready()
}

// TestAnEngineEndsWhileKafkaIsSilent, with what waits in its spool, which is in force when it
// comes back although Kafka has not.
func TestAnEngineEndsWhileKafkaIsSilent(t *testing.T) {
	t.Parallel()
	k := newGatedKafka(t)
	k.topics(1)
	one := launch(t, k, dataDir(t, "one")).ready()
	one.know()
	k.set(true, false)
	defer k.set(false, false)
	body := revoked("spooled")
	one.until("a revocation is spooled", func() bool {
		status, out := one.push(body)
		return status == 200 && out.Spooled
	})
	begun := time.Now()
	if code := one.stop(); code != exitOK || time.Since(begun) > 20*time.Second {
		t.Errorf("it ended with %d after %s", code, time.Since(begun))
	}
	again := launch(t, k, one.dir)
	again.until("it waits", func() bool { return strings.Contains(again.stderr.String(), "waiting for the Kafka cluster") })
	k.set(false, false)
	if said := again.ready().decide("spooled"); said != "revoked" {
		t.Error(said)
	}
}

// TestATopicThatIsWeakRefusesTheStart, and says what to do.
func TestATopicThatIsWeakRefusesTheStart(t *testing.T) {
	k := newGatedKafka(t)
	k.topics(1)
	text := launch(t, k, dataDir(t, "one"), "VIGIL_LOG_KAFKA_ALLOW_WEAK=retention").refused()
	if !strings.Contains(text, "weaker than the contract needs") || !strings.Contains(text, "log.kafka.allow_weak: [") || !strings.Contains(text, "replication is 1, want") {
		t.Errorf("it says:\n%s", text)
	}
}
