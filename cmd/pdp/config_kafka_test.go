package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"vigil/authz"
	"vigil/signals"
	"vigil/signals/kafka"
)

const kafkaYAML = `vigil: 1
rules: {dir: r}
data_dir: /d
log:
  kind: kafka
  kafka:
    brokers: ["127.0.0.1:19092", "b.internal:9093"]
    topic: vigil-signals
    tls: {enabled: true, ca: ca.pem, cert: c.pem, key: c-key.pem}
    sasl: {mechanism: SCRAM-SHA-512, user: vigil, password_file: secret.txt}
    allow_weak: [replication, min_insync_replicas]
    dead_letter_topic: vigil-dead-letters
    inputs:
      - topic: risk
        tenants: [acme, default]
        may:
          - {types: [risk, quarantine, release], kinds: [agent, session], from: 2026-01-01T00:00:00Z, until: 2026-06-01T00:00:00+02:00}
          - {types: ["*"], kinds: ["*", everything], from: 2026-06-01T00:00:00+02:00}
      - topic: soc.alerts
        may: [{types: [quarantine], kinds: [agent]}]
`

// folderWith makes a folder with a configuration and files beside it.
func folderWith(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// certificateFiles gives a self-signed certificate and its key, in PEM.
func certificateFiles(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
}

func TestTheKafkaSectionReachesTheLog(t *testing.T) {
	cert, key := certificateFiles(t)
	dir := folderWith(t, map[string]string{
		"vigil.yaml": kafkaYAML, "ca.pem": cert, "c.pem": cert, "c-key.pem": key, "secret.txt": "  pass word \r\n",
	})
	c, err := loadConfig(filepath.Join(dir, "vigil.yaml"), environment{"HOME=/nowhere"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.kafka(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.TLS == nil || got.TLS.RootCAs == nil || len(got.TLS.Certificates) != 1 || got.TLS.InsecureSkipVerify || got.TLS.ServerName != "" {
		t.Errorf("TLS: %+v", got.TLS)
	}
	if got.SASL == nil || *got.SASL != (kafka.Credentials{Mechanism: "SCRAM-SHA-512", User: "vigil", Password: "  pass word "}) {
		t.Errorf("SASL: %+v", got.SASL)
	}
	got.TLS, got.SASL = nil, nil
	change := authz.InstantOf(time.Date(2026, 5, 31, 22, 0, 0, 0, time.UTC))
	want := kafka.Config{
		Brokers: []string{"127.0.0.1:19092", "b.internal:9093"}, Topic: "vigil-signals", AllowWeak: []string{"replication", "min_insync_replicas"},
		Inputs: []kafka.Input{
			{Topic: "risk", Grants: []signals.Grant{
				{From: authz.InstantOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), Until: change,
					Authority: signals.Authority{Types: []string{"risk", "quarantine", "release"}, Kinds: []string{"agent", "session"}, Tenants: []string{"acme", "default"}}},
				{From: change, Authority: signals.Authority{Types: []string{"*"}, Kinds: []string{"*", "everything"}, Tenants: []string{"acme", "default"}}},
			}},
			{Topic: "soc.alerts", Grants: []signals.Grant{
				{Authority: signals.Authority{Types: []string{"quarantine"}, Kinds: []string{"agent"}, Tenants: []string{"default"}}},
			}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestWhatIsWrongWithTheKafkaSectionIsSaidWithItsPlace(t *testing.T) {
	const head = "vigil: 1\nrules: {dir: r}\nlog:\n  kind: kafka\n  kafka:\n    brokers: [\"127.0.0.1:9\"]\n    topic: log\n    "
	input := func(members string) string { return head + "inputs: [{topic: risk, " + members + "}]" }
	may := func(grants string) string { return input("may: [" + grants + "]") }
	for _, c := range []struct{ name, yaml, want string }{
		{"no broker", "vigil: 1\nlog: {kind: kafka, kafka: {topic: t}}", `:2:13: log.kind: kafka without log.kafka.brokers`},
		{"no topic", "vigil: 1\nlog: {kind: kafka, kafka: {brokers: [\"a:1\"]}}", `:2:13: log.kind: kafka without log.kafka.topic`},
		{"a broker without port", "vigil: 1\nlog: {kind: kafka, kafka: {topic: t, brokers: [a]}}", `:2:47: log.kafka.brokers: want brokers as host:port, not "a"`},
		{"a broker without host", "vigil: 1\nlog: {kind: kafka, kafka: {topic: t, brokers: [\":9\"]}}", `want brokers as host:port`},
		{"a URL for a broker", "vigil: 1\nlog: {kind: kafka, kafka: {topic: t, brokers: [\"kafka://a:9\"]}}", `want brokers as host:port`},
		{"a list in words", "vigil: 1\nlog: {kind: kafka, kafka: {topic: t, brokers: a:9}}", `want a list`},
		{"a broker alone wrong", "vigil: 1\nlog: {kind: kafka, kafka: {topic: t, brokers: [\"a:99999\"]}}", `want brokers as host:port, not "a:99999"`},
		{"a bad topic", "vigil: 1\nlog: {kind: kafka, kafka: {topic: a/b, brokers: [\"a:9\"]}}", `:2:35: log.kafka.topic: want a topic of`},
		{"kafka for the journal", "vigil: 1\nlog: {kafka: {topic: t, inputs: []}}", `:2:22: log.kafka.topic has no meaning with log.kind: journal`},
		{"inputs for the journal", "vigil: 1\nlog: {kafka: {topic: t, inputs: []}}", `:2:33: log.kafka.inputs has no meaning`},
		{"a misspelt kind", "vigil: 1\nlog: {kind: kafak}", `did you mean "kafka"?`},
		{"a misspelt key", head + "inptus: []", `unknown key "inptus"; did you mean "inputs"?`},
		{"another misspelt key", head + "brokrs: []", `unknown key "brokrs"; did you mean "brokers"?`},
		{"tls not enabled", head + "tls: {ca: x}", `log.kafka.tls names files and is not enabled`},
		{"a certificate alone", head + "tls: {enabled: true, cert: x}", `cert and key go together`},
		{"half of sasl", head + "sasl: {user: x}", `want mechanism, user and password_file; mechanism is missing`},
		{"a mechanism that is none", head + "sasl: {mechanism: SCRAM}", `want PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, not "SCRAM"`},
		{"a weakness that is none", head + "allow_weak: [replicaton]", `not "replicaton"; did you mean "replication"?`},
		{"dead letters into the log", head + "dead_letter_topic: log", `the dead letters would go back into the log`},
		{"the log as an input", head + "inputs: [{topic: log, may: [{types: [risk], kinds: [agent]}]}]", `:8:14: the topic log is the log`},
		{"dead letters as an input", head + "dead_letter_topic: d\n    inputs: [{topic: d, may: [{types: [risk], kinds: [agent]}]}]", `the dead letters would come back as signals`},
		{"one topic twice", head + "inputs: [{topic: a, may: [{types: [risk], kinds: [agent]}]}, {topic: a, may: [{types: [risk], kinds: [agent]}]}]", `another input from the topic "a"; the first is at`},
		{"a format that is none", input("format: cloudevent, may: [{types: [risk], kinds: [agent]}]"), `:8:36: format: want signal, cloudevents, not "cloudevent"; did you mean "cloudevents"?`},
		{"an input without topic", head + "inputs: [{may: [{types: [risk], kinds: [agent]}]}]", `:8:14: an input without a topic`},
		{"an input that is a word", head + "inputs: [risk]", `want a mapping with topic and may`},
		{"an input that may nothing", input("tenants: [a]"), `:8:14: the input "risk" does not say what it may`},
		{"an empty may", may(""), `may: want a list of grants`},
		{"a may as clients have it", input("may: {types: [risk], kinds: [agent]}"), `may: want a list of grants`},
		{"no types", may("{kinds: [agent]}"), `may.types is missing`},
		{"no kinds", may("{types: [risk]}"), `may.kinds is missing`},
		{"an unknown type", may("{types: [rsk], kinds: [agent]}"), `unknown signal type "rsk"; did you mean "risk"?`},
		{"classes", may("{types: [risk], kinds: [agent], classes: [a]}"), `:8:66: classes cannot be asked of an input: what class an agent has when a record is applied may differ`},
		{"overrule", may("{types: [risk], kinds: [agent], overrule: true}"), `an input cannot overrule`},
		{"a time that is none", may("{types: [risk], kinds: [agent], from: yesterday}"), `want a time such as 2026-11-23T00:00:00Z, not "yesterday"`},
		{"an empty stretch", may("{types: [risk], kinds: [agent], from: 2026-02-01T00:00:00Z, until: 2026-02-01T00:00:00Z}"), `until is not after from`},
		{"a stretch that ends before it begins", may("{types: [risk], kinds: [agent], from: 2026-02-01T00:00:00Z, until: 2026-01-01T00:00:00Z}"), `until is not after from`},
		{"two grants that never end", may("{types: [risk], kinds: [agent]}, {types: [taint], kinds: [agent]}"), `this grant and the one at`},
		{"two grants that meet for an hour", may("{types: [risk], kinds: [agent], until: 2026-01-02T01:00:00Z}, {types: [taint], kinds: [agent], from: 2026-01-02T00:00:00Z}"), `this grant and the one at`},
		{"one within another", may("{types: [risk], kinds: [agent], from: 2026-01-01T00:00:00Z, until: 2026-01-09T00:00:00Z}, {types: [taint], kinds: [agent], from: 2026-01-02T00:00:00Z, until: 2026-01-03T00:00:00Z}"), `this grant and the one at`},
		{"a peer for the journal", "vigil: 1\nlog: {bootstrap_from: [\"https://a:1\"]}", `:2:23: log.bootstrap_from has no meaning with log.kind: journal`},
		{"a peer that is no URL", "vigil: 1\nlog: {kind: kafka, bootstrap_from: [\"a:1\"]}", `want control ports as https://host:port, http://host:port or unix:/path, not "a:1"`},
		{"a peer with a password", "vigil: 1\nlog: {kind: kafka, bootstrap_from: [\"https://u:p@a:1\"]}", `want control ports as`},
		{"no tenant", input("tenants: [], may: [{types: [risk], kinds: [agent]}]"), `want at least one tenant`},
	} {
		_, err := load(t, c.yaml+"\n", nil, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	for format, decodes := range map[string]bool{"format: signal, ": false, "format: cloudevents, ": true, "": false} {
		c, err := load(t, input(format+"may: [{types: [risk], kinds: [agent]}]"), environment{"VIGIL_RULES_DIR=/r"}, nil)
		if err != nil || (c.Log.Kafka.Inputs[0].Decode != nil) != decodes {
			t.Errorf("%s: %+v, %v", format, c, err)
		}
	}
	if _, err := load(t, may("{types: [risk], kinds: [agent], until: 2026-01-02T00:00:00Z}, {types: [taint], kinds: [agent], from: 2026-01-02T00:00:00Z}"), environment{"VIGIL_RULES_DIR=/r"}, nil); err != nil {
		t.Errorf("two grants, one after the other: %v", err)
	}
}

func TestTheKafkaSettingsComeFromEveryLayer(t *testing.T) {
	c, err := load(t, "vigil: 1\nrules: {dir: r}\n", environment{"VIGIL_LOG_KAFKA_BROKERS=a:1, b:2", "VIGIL_LOG_KIND=kafka"}, map[string]string{"log.kafka.topic": "t"})
	if err != nil || c.Log.Kafka.Topic != "t" || !reflect.DeepEqual(c.Log.Kafka.Brokers, []string{"a:1", "b:2"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestAPeerInTheClearIsWarnedOf: whoever is on the way gets a token of an administrator.
func TestAPeerInTheClearIsWarnedOf(t *testing.T) {
	for address, warned := range map[string]bool{
		"http://far.example:7071": true, "https://far.example:7071": false, "http://127.0.0.1:7071": false, "unix:/run/v.sock": false,
	} {
		b := bootstrapConfig{From: []string{address}}
		if got := b.warnings(); (len(got) == 1) != warned {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// A password shows nowhere: not in a problem, a warning, a log line or what is printed.
func TestAPasswordIsNeverRepeated(t *testing.T) {
	const secret = "topsecretpassword"
	head := "vigil: 1\nrules: {dir: r}\nlog: {kind: kafka, kafka: {topic: t, brokers: [\"far.example:9\"], sasl: {mechanism: PLAIN, user: u, "
	_, err := load(t, head+"password: "+secret+"}}}\n", nil, nil)
	if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "password_file") {
		t.Errorf("got %v", err)
	}
	dir := folderWith(t, map[string]string{"vigil.yaml": head + "password_file: s}}}\n", "s": secret})
	if err := os.Chmod(filepath.Join(dir, "s"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(filepath.Join(dir, "vigil.yaml"), environment{"HOME=/nowhere"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	warnings := strings.Join(c.warnings(), "\n")
	for _, want := range []string{"the password of u", "is open to all users (mode 0644)", "whoever is on the way can change them"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("no warning %q in %s", want, warnings)
		}
	}
	var logged bytes.Buffer
	made, err := c.kafka(nil, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil || made.SASL.Password != secret {
		t.Fatalf("%v", err)
	}
	if strings.Contains(warnings+c.Log.Kafka.shown()+logged.String(), secret) {
		t.Error("the password is repeated")
	}
}

func TestFilesThatCannotBeReadAreNamedWithTheirSetting(t *testing.T) {
	for _, c := range []struct{ members, want string }{
		{"tls: {enabled: true, ca: none.pem}", `:3:81: `},
		{"tls: {enabled: true, ca: empty}", `holds no certificate in PEM`},
		{"tls: {enabled: true, cert: empty, key: empty}", `empty: tls: `},
		{"sasl: {mechanism: PLAIN, user: u, password_file: none}", `none: no such file`},
		{"sasl: {mechanism: PLAIN, user: u, password_file: empty}", `it is empty`},
	} {
		dir := folderWith(t, map[string]string{"empty": "\n", "vigil.yaml": "vigil: 1\nrules: {dir: r}\nlog: {kind: kafka, kafka: {topic: t, brokers: [\"a:9\"], " + c.members + "}}\n"})
		cfg, err := loadConfig(filepath.Join(dir, "vigil.yaml"), environment{"HOME=/nowhere"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cfg.kafka(nil, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.members, err, c.want)
		}
	}
}
