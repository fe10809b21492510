package control

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// metricDeclarations are the metrics of this port, by name, each as it stands in the source
// with its labels.
func metricDeclarations(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// Labels are on the same line or, of the counters of the port itself, on the next.
		for _, m := range regexp.MustCompile(`"(vigil_\w+)"[^\n]*(?:\n\s*\}, [^\n]*)?`).FindAllStringSubmatch(string(source), -1) {
			all[m[1]] = m[0]
		}
	}
	return all
}

type dashboardTarget struct {
	Expr, LegendFormat string
}

type dashboardPanel struct {
	ID          int
	Type        string
	Title       string
	Description string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct {
		Defaults struct{ Unit string }
	}
	Targets []dashboardTarget
}

var (
	metricName  = regexp.MustCompile(`\b(vigil|process|go)_\w+`)
	selector    = regexp.MustCompile(`(\w+)\{([^}]*)\}`)
	matcher     = regexp.MustCompile(`(\w+)(?:=~|!~|!=|=)"`)
	grouping    = regexp.MustCompile(`by \(([^)]*)\)`)
	placeholder = regexp.MustCompile(`\{\{(\w+)\}\}`)
	histogram   = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// TestTheDashboardShowsMetricsThatAreThere: a panel on a name or a label that nobody has stays
// empty, and looks like silence.
func TestTheDashboardShowsMetricsThatAreThere(t *testing.T) {
	text, err := os.ReadFile("../../examples/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct{ Panels []dashboardPanel }
	if err := json.Unmarshal(text, &board, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	declared := metricDeclarations(t)
	scraped := newWorld(t).get("/metrics", kimToken).want(200).body
	shown := map[string]bool{}
	ids := map[int]bool{}
	for i, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || p.FieldConfig.Defaults.Unit == "" {
			t.Errorf("%q does not say all", p.Title)
		}
		g := p.GridPos
		if g.W <= 0 || g.H <= 0 || g.X+g.W > 24 {
			t.Errorf("%s: out of the grid: %+v", p.Title, g)
		}
		for _, q := range board.Panels[:i] {
			if o := q.GridPos; g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
				t.Errorf("%s lies over %s", p.Title, q.Title)
			}
		}
		for _, target := range p.Targets {
			for _, name := range checkQuery(t, p.Title, target, declared, scraped) {
				shown[name] = true
			}
		}
	}
	alerts, err := os.ReadFile("../../docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`vigil_\w+`).FindAllString(string(alerts), -1) {
		if !shown[name] {
			t.Errorf("an alert is about %s, and no panel shows it", name)
		}
	}
	// A panel names its alerts as they are called.
	for _, name := range regexp.MustCompile(`\bVigil[A-Z]\w+`).FindAllString(string(text), -1) {
		if !strings.Contains(string(alerts), "alert: "+name+"\n") {
			t.Errorf("there is no alert %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(alerts), -1) {
		if !strings.Contains(string(text), m[1]) {
			t.Errorf("no panel names the alert %s", m[1])
		}
	}
	if len(shown) < 30 {
		t.Errorf("only %d metrics are shown", len(shown))
	}
}

// checkQuery gives the metrics of a query, and faults what it asks for and is not there.
func checkQuery(t *testing.T, panel string, target dashboardTarget, declared map[string]string, scraped string) (names []string) {
	t.Helper()
	if strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") || strings.Count(target.Expr, "{") != strings.Count(target.Expr, "}") {
		t.Errorf("%s: brackets: %s", panel, target.Expr)
	}
	ofTarget := []string{"instance", "job"} // which Prometheus adds
	has := func(label string, metrics []string) bool {
		return slices.Contains(ofTarget, label) || !slices.ContainsFunc(metrics, func(m string) bool { return !strings.Contains(declared[m], `"`+label+`"`) })
	}
	for _, name := range metricName.FindAllString(target.Expr, -1) {
		if !strings.HasPrefix(name, "vigil_") {
			if !strings.Contains(scraped, "\n"+name+" ") {
				t.Errorf("%s: there is no %s", panel, name)
			}
			continue
		}
		if declared[name] == "" {
			base := histogram.ReplaceAllString(name, "")
			if !strings.Contains(scraped, "# TYPE "+base+" histogram\n") {
				t.Errorf("%s: there is no %s", panel, name)
			}
			name, ofTarget = base, append(ofTarget, "le")
		}
		names = append(names, name)
	}
	for _, m := range selector.FindAllStringSubmatch(target.Expr, -1) {
		for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
			if m[1] != "ALERTS" && !has(label[1], []string{histogram.ReplaceAllString(m[1], "")}) {
				t.Errorf("%s: %s has no label %s", panel, m[1], label[1])
			}
		}
		if !strings.Contains(m[2], `instance=~"$instance"`) {
			t.Errorf("%s: %s is not that of the replicas that are chosen", panel, m[1])
		}
	}
	grouped := grouping.FindAllStringSubmatch(target.Expr, -1)
	for _, m := range grouped {
		for label := range strings.SplitSeq(m[1], ", ") {
			if !has(label, names) {
				t.Errorf("%s: no label %s to group by", panel, label)
			}
		}
	}
	for _, m := range placeholder.FindAllStringSubmatch(target.LegendFormat, -1) {
		if !has(m[1], names) || len(grouped) > 0 && !slices.ContainsFunc(strings.Split(grouped[0][1], ", "), func(l string) bool { return l == m[1] }) {
			t.Errorf("%s: the legend's %s is not there", panel, m[1])
		}
	}
	return names
}
