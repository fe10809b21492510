//go:build e2e && linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicsReport is what pdp topics prints as JSON, as far as it is looked at here.
type topicsReport struct {
	Created []struct {
		Topic       string `json:"topic"`
		Replication int    `json:"replication"`
		Existed     bool   `json:"existed"`
	} `json:"created"`
	Findings []struct {
		Topic   string `json:"topic"`
		Setting string `json:"setting"`
		Value   string `json:"value"`
		Never   bool   `json:"never"`
		Allowed bool   `json:"allowed"`
	} `json:"findings"`
}

// refused are the settings of the log that were found weak and not allowed.
func (r *topicsReport) refused() []string {
	var names []string
	for _, f := range r.Findings {
		if !f.Allowed {
			names = append(names, f.Setting)
		}
	}
	return names
}

// topicsCommand runs pdp topics and gives its exit code.
func topicsCommand(t *testing.T, verb, config string) (report topicsReport, code int) {
	t.Helper()
	out, err := exec.Command(pdp, "topics", verb, "--config", config, "-o", "json").Output()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	if ended != nil {
		code = ended.ExitCode()
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("topics %s: exit %d: %v in %q, %s", verb, code, err, out, ended.Stderr)
	}
	return report, code
}

// setTopic changes one setting of a topic; "" takes the broker's default.
func setTopic(t *testing.T, topic, name, value string) {
	t.Helper()
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Op, config.Value = name, kmsg.IncrementalAlterConfigOpSet, kmsg.StringPtr(value)
	if value == "" {
		config.Op, config.Value = kmsg.IncrementalAlterConfigOpDelete, nil
	}
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	resource.Configs = append(resource.Configs, config)
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, resource)
	resp, err := req.RequestWith(t.Context(), outsider(t))
	must(t, err)
	must(t, kerr.ErrorForCode(resp.Resources[0].ErrorCode))
}

// TestTopicsOfARealBrokerAreCheckedSettingBySetting: the names and values are a real
// broker's, and so are its defaults.
func TestTopicsOfARealBrokerAreCheckedSettingBySetting(t *testing.T) {
	needKafka(t)
	const topic = "checked"
	config := filepath.Join(t.TempDir(), "vigil.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `vigil: 1
rules: {dir: rules}
log:
  kind: kafka
  kafka: {brokers: [%q], topic: %s, allow_weak: [replication, min_insync_replicas]}
`, kafka.Address(), topic), 0o600))

	if report, code := topicsCommand(t, "check", config); code != 1 || !slices.Equal(report.refused(), []string{"topic"}) {
		t.Errorf("before: exit %d, %+v", code, report)
	}
	report, code := topicsCommand(t, "create", config)
	if code != 0 || len(report.Created) != 1 || report.Created[0].Existed || report.Created[0].Replication != 1 || len(report.Findings) != 2 {
		t.Fatalf("create: exit %d, %+v", code, report)
	}
	if report, code := topicsCommand(t, "create", config); code != 0 || !report.Created[0].Existed {
		t.Errorf("create again: exit %d, %+v", code, report)
	}
	for _, c := range []struct{ name, weak, good, setting string }{
		{"unclean.leader.election.enable", "true", "false", "unclean_election"},
		{"message.timestamp.type", "CreateTime", "LogAppendTime", "timestamp_type"},
		{"message.timestamp.type", "", "LogAppendTime", "timestamp_type"},
		{"cleanup.policy", "compact", "delete", "cleanup_policy"},
		{"cleanup.policy", "compact,delete", "delete", "cleanup_policy"},
		{"retention.ms", "3600000", "-1", "retention"},
		{"retention.bytes", "1000000", "-1", "retention"},
		{"max.message.bytes", "1000", "1048576", "max_message_bytes"},
		{"max.message.bytes", "104857600", "1048576", "max_message_bytes"},
	} {
		setTopic(t, topic, c.name, c.weak)
		// The broker that is asked learns of it a moment later.
		until(t, fmt.Sprintf("%s %q is found", c.name, c.weak), func() bool {
			report, code := topicsCommand(t, "check", config)
			return code == 1 && slices.Equal(report.refused(), []string{c.setting})
		})
		setTopic(t, topic, c.name, c.good)
		until(t, c.name+" is good again", func() bool {
			_, code := topicsCommand(t, "check", config)
			return code == 0
		})
	}
}
