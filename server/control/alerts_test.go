package control

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestAlertsAreAboutMetricsThatAreThere: an alert on a name or a label that nobody has never
// fires.
func TestAlertsAreAboutMetricsThatAreThere(t *testing.T) {
	text, err := os.ReadFile("../../docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	events, err := os.ReadFile("events.go")
	if err != nil {
		t.Fatal(err)
	}
	source = append(source, events...)
	labels := map[string]string{} // of each metric, as they stand in the source
	for _, m := range regexp.MustCompile(`"(vigil_\w+)"[^\n]*`).FindAllStringSubmatch(string(source), -1) {
		labels[m[1]] = m[0]
	}
	var names []string
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			names = append(names, rule.Alert)
			if rule.Expr == "" || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s does not say all", rule.Alert)
			}
			metrics := regexp.MustCompile(`vigil_\w+`).FindAllString(rule.Expr, -1)
			if len(metrics) == 0 {
				t.Errorf("%s is about nothing", rule.Alert)
			}
			wanted := regexp.MustCompile(`\{(\w+)=|\(instance, (\w+)\)`).FindAllStringSubmatch(rule.Expr, -1)
			for _, metric := range metrics {
				if labels[metric] == "" {
					t.Errorf("%s: there is no %s", rule.Alert, metric)
				}
				for _, m := range wanted {
					if label := m[1] + m[2]; !strings.Contains(labels[metric], `"`+label+`"`) {
						t.Errorf("%s: %s has no label %s", rule.Alert, metric, label)
					}
				}
			}
		}
	}
	tests, err := os.ReadFile("../../examples/monitoring/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.Contains(string(tests), `labels: '{alertname="`+name+`"`) {
			t.Errorf("alerts_test.yaml does not show %s firing", name)
		}
	}
	if slices.Sort(names); len(slices.Compact(names)) < 9 || !slices.Contains(names, "VigilDeadLetters") {
		t.Errorf("alerts: %v", names)
	}
}
