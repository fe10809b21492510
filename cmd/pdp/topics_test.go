package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/twmb/franz-go/pkg/kfake"

	"vigil/signals/kafka"
)

// topicsConfig writes a configuration for brokers, with an input and dead letters.
func topicsConfig(t *testing.T, brokers []string, weak string) string {
	t.Helper()
	if weak != "" {
		weak = "allow_weak: [" + weak + "]"
	}
	dir := folderWith(t, map[string]string{"vigil.yaml": fmt.Sprintf(`vigil: 1
rules: {dir: rules}
log:
  kind: kafka
  kafka:
    brokers: [%s]
    topic: vigil-signals
    dead_letter_topic: dead
    %s
    inputs: [{topic: risk, may: [{types: [risk], kinds: [agent]}]}]
`, strings.Join(brokers, ", "), weak)})
	return dir + "/vigil.yaml"
}

// run runs one command.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, said bytes.Buffer
	code = (&app{env: environment{"HOME=/nowhere"}}).Run(t.Context(), args, &out, &said)
	return code, out.String(), said.String()
}

func brokersOf(t *testing.T, n int) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(n))
	must(t, err)
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

func TestTopicsAreMadeAsTheCheckWantsThem(t *testing.T) {
	config := topicsConfig(t, brokersOf(t, 3), "")
	code, out, said := run(t, "topics", "check", "--config", config)
	if code != exitDeny || strings.Count(out, "not there") != 2 || !strings.Contains(out, "pdp topics create") || !strings.Contains(said, "weaker") {
		t.Errorf("before: exit %d\n%s%s", code, out, said)
	}
	code, out, said = run(t, "topics", "create", "--config", config, "--partitions", "2")
	for _, want := range []string{"created: vigil-signals, partitions 2, copies 3\n", "created: risk, ", "created: dead, ", "ok, as the contract needs them: vigil-signals, risk\n"} {
		if code != exitOK || !strings.Contains(out, want) || said != "" {
			t.Errorf("create: exit %d, no %q in\n%s%s", code, want, out, said)
		}
	}
	code, out, _ = run(t, "topics", "create", "--config", config, "-o", "json")
	var report topicsReport
	must(t, json.Unmarshal([]byte(out), &report, json.RejectUnknownMembers(true)))
	if code != exitOK || len(report.Created) != 3 || !report.Created[0].Existed || report.Created[0].Partitions != 2 || report.Findings == nil {
		t.Errorf("again: exit %d\n%s", code, out)
	}
	if code, out, _ := run(t, "topics", "check", "--config", config); code != exitOK || !strings.HasPrefix(out, "ok") {
		t.Errorf("afterwards: exit %d\n%s", code, out)
	}
}

// TestTopicsOfIssuersAreMade, and how they are set is not checked.
func TestTopicsOfIssuersAreMade(t *testing.T) {
	config := topicsConfig(t, brokersOf(t, 3), "")
	text, err := os.ReadFile(config)
	must(t, err)
	must(t, os.WriteFile(config, append(text, issuerOf("", "{name: events, authentic: acl}")...), 0o600))
	code, out, said := run(t, "topics", "create", "--config", config)
	for _, want := range []string{"created: events, partitions 3, copies 3\n", "ok, as the contract needs them: vigil-signals, risk\n"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("create: exit %d, no %q in\n%s%s", code, want, out, said)
		}
	}
}

func TestOneBrokerIsRefusedUnlessThatIsAllowed(t *testing.T) {
	brokers := brokersOf(t, 1)
	strict, lax := topicsConfig(t, brokers, ""), topicsConfig(t, brokers, "all")
	code, out, said := run(t, "topics", "create", "--config", strict)
	if code != exitDeny || !strings.Contains(out, "replication") || !strings.Contains(said, "log.kafka.allow_weak") {
		t.Errorf("strict: exit %d\n%s%s", code, out, said)
	}
	code, out, said = run(t, "topics", "create", "--config", lax)
	if code != exitOK || !strings.Contains(out, "copies 1") || !strings.Contains(out, " yes ") || strings.Contains(out, " NO ") {
		t.Errorf("lax: exit %d\n%s%s", code, out, said)
	}
	if code, _, _ := run(t, "topics", "check", "--config", strict, "--allow-weak-log"); code != exitOK {
		t.Errorf("--allow-weak-log: exit %d", code)
	}
	code, out, _ = run(t, "topics", "check", "--config", strict, "-o", "json")
	var report topicsReport
	must(t, json.Unmarshal([]byte(out), &report))
	if code != exitDeny || len(report.Findings) != 4 || report.Findings[0].Allowed { // of two topics, replication and min.insync.replicas
		t.Errorf("strict check: exit %d\n%s", code, out)
	}
}

func TestTopicsSayWhatIsWrongWithTheirFlags(t *testing.T) {
	journal := folderWith(t, map[string]string{"vigil.yaml": "vigil: 1\nrules: {dir: rules}\n"}) + "/vigil.yaml"
	nobody := topicsConfig(t, []string{"127.0.0.1:1"}, "")
	one := topicsConfig(t, brokersOf(t, 1), "all")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"check", "--config", journal}, exitInput, "log.kind is journal"},
		{[]string{"create", "--config", journal}, exitInput, "log.kind is journal"},
		{[]string{"check", "--config", nobody}, exitUnreachable, "127.0.0.1:1"},
		{[]string{"create", "--config", nobody}, exitUnreachable, "127.0.0.1:1"},
		{[]string{"create", "--config", one, "--partitions", "201"}, exitInput, "1 to 200 partitions"},
		{[]string{"create", "--config", one, "--partitions", "-1"}, exitInput, "partitions"},
		{[]string{"create", "--config", one, "--replication", "2"}, exitInput, "need as many brokers"},
		{[]string{"check", "--config", one, "--timeout", "soon"}, exitInput, "--timeout"},
		{[]string{"check", "--config", "/nowhere.yaml"}, exitInput, "/nowhere.yaml"},
	} {
		if code, out, said := run(t, append([]string{"topics"}, c.args...)...); code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%v: exit %d\n%s%s", c.args, code, out, said)
		}
	}
}

// TestTheCheckNamesSettingsAsTheConfigurationAllowsThem: a name that differs could not be
// allowed.
func TestTheCheckNamesSettingsAsTheConfigurationAllowsThem(t *testing.T) {
	if want := append(kafka.WeakSettings(), "all"); !slices.Equal(weakWords, want) {
		t.Errorf("%v, want %v", weakWords, want)
	}
}
