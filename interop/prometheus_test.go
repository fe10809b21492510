package interop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program finds one of Prometheus, or skips.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("VIGIL_REQUIRE_INTEROP") != "":
		t.Fatalf("there is no %s", name)
	}
	t.Skipf("there is no %s (on Debian: apt-get install prometheus); `make interop` gets it where apt-get is", name)
	return ""
}

// promtool runs it, and demands that it is content and says nothing that is a complaint.
func promtool(t *testing.T, stdin io.Reader, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, "promtool"), args...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	t.Logf("promtool %s: %s", strings.Join(args, " "), out)
}

// TestPromtoolFindsTheAlertsInOrder: the rules are read, and each alert fires when it should
// and not else.
func TestPromtoolFindsTheAlertsInOrder(t *testing.T) {
	promtool(t, nil, "check", "rules", "../docs/alerts.yaml")
	promtool(t, nil, "test", "rules", "../examples/monitoring/alerts_test.yaml")
}

// scraped is a running engine, and a client that may read it and no more.
func newScraped(t *testing.T) (e *engine, prometheus, admin secret) {
	t.Helper()
	prometheus, admin = newSecret(), newSecret()
	return start(t, fmt.Sprintf(`
clients:
  - {name: prometheus, token_sha256: [%q], scopes: [read]}
  - {name: ops, token_sha256: [%q], scopes: [admin], may: {types: ["*"], kinds: ["*"]}}
`, prometheus.hash(), admin.hash())), prometheus, admin
}

// TestPromtoolFindsTheMetricsInOrder: as to format, names and units.
func TestPromtoolFindsTheMetricsInOrder(t *testing.T) {
	program(t, "promtool")
	e, token, _ := newScraped(t)
	e.expect("before it is scraped", "allowed")
	status, text := e.get(e.control+"/metrics", token)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	promtool(t, strings.NewReader(string(text)), "check", "metrics")
}

// monitoring lays out docs/alerts.yaml and examples/monitoring/prometheus.yml below a folder,
// for this engine and in a hurry: each is changed in what a user changes, and in its times.
func monitoring(t *testing.T, e *engine, token secret) (config string) {
	t.Helper()
	change := func(name string, patterns ...string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		must(t, err)
		for i := 0; i < len(patterns); i += 2 {
			pattern := regexp.MustCompile(patterns[i])
			if !pattern.Match(text) {
				t.Fatalf("%s: there is no %s", name, pattern)
			}
			text = pattern.ReplaceAll(text, []byte(patterns[i+1]))
		}
		e.write(name, string(text))
	}
	change("docs/alerts.yaml", `for: \d+m`, "for: 0s")
	change("examples/monitoring/prometheus.yml", `127\.0\.0\.1:7071`, strings.TrimPrefix(e.control, "http://"),
		`scrape_interval: 15s, evaluation_interval: 15s`, `scrape_interval: 1s, evaluation_interval: 1s`)
	e.write("examples/monitoring/vigil.token", string(token))
	return e.path("examples/monitoring/prometheus.yml")
}

// prometheus is a running one.
type prometheus struct {
	*engine
	url string
}

// listening is what it logs of where it listens.
var listening = regexp.MustCompile(`msg="Listening on".* address=(\S+)`)

func startPrometheus(t *testing.T, e *engine, config string) *prometheus {
	t.Helper()
	cmd := exec.Command(program(t, "prometheus"), "--config.file", config, "--storage.tsdb.path", e.path("tsdb"),
		"--web.listen-address", "127.0.0.1:0")
	output, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	address, ended := make(chan string, 1), make(chan struct{})
	var log strings.Builder
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			fmt.Fprintln(&log, lines.Text())
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case address <- m[1]:
				default:
				}
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("prometheus: %s", log.String())
		}
	})
	select {
	case at := <-address:
		p := &prometheus{e, "http://" + at}
		p.eventually("Prometheus is ready", func() bool {
			status, _ := p.get(p.url+"/-/ready", "")
			return status == http.StatusOK
		})
		return p
	case <-ended:
		t.Fatal("prometheus ended")
	case <-time.After(patience):
		t.Fatal("prometheus does not say where it listens")
	}
	return nil
}

// ask asks its API, and takes the data of the answer.
func (p *prometheus) ask(path string, query url.Values, data any) error {
	p.t.Helper()
	status, answer := p.get(p.url+"/api/v1/"+path+"?"+query.Encode(), "")
	var said struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(answer, &said); err != nil || said.Status != "success" {
		return fmt.Errorf("%d %s", status, answer)
	}
	return json.Unmarshal(said.Data, data)
}

// sample is one series of an answer.
type sample struct {
	Metric map[string]string
	Value  []any
}

func (p *prometheus) query(expr string) (samples []sample, err error) {
	p.t.Helper()
	var data struct{ Result json.RawMessage }
	if err := p.ask("query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, err
	}
	return samples, json.Unmarshal(data.Result, &samples)
}

// eventually polls: what Prometheus does next has no condition to wait on.
func (p *prometheus) eventually(what string, done func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s never came about", what)
		}
	}
}

// until waits for an expression to have a result.
func (p *prometheus) until(expr string) {
	p.t.Helper()
	p.eventually(expr, func() bool {
		samples, err := p.query(expr)
		must(p.t, err)
		return len(samples) > 0
	})
}

// requireSource has a profile of the engine's rules need a source that is heard.
func requireSource(t *testing.T, e *engine, admin secret) {
	t.Helper()
	text, err := os.ReadFile(e.path("rules/bundle.yaml"))
	must(t, err)
	e.write("rules/bundle.yaml", strings.NewReplacer("profiles:\n", "sources: {\"client:ops\": {max_silence: 1h}}\nprofiles:\n",
		"requires: [session]}", "requires: [session], needs: [\"client:ops\"]}").Replace(string(text)))
	if status, answer := e.post(e.control+"/v1/rules/reload", admin, "application/json", "{}"); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
}

// TestPrometheusScrapesWhatTheDashboardShows: with the files of examples/monitoring a real one
// finds the target, all rules are evaluated without fault, and every query of the dashboard is
// answered, with something where an engine with a journal has it.
func TestPrometheusScrapesWhatTheDashboardShows(t *testing.T) {
	program(t, "prometheus")
	e, token, admin := newScraped(t)
	config := monitoring(t, e, token)
	promtool(t, nil, "check", "config", config)
	p := startPrometheus(t, e, config)

	// Something of everything that is counted.
	traffic := func() {
		e.expect("while it is scraped", "allowed")
		for _, body := range []string{
			`{"subject":{"type":"user","id":"kim","properties":{"scope":"propose:payments","act":{"sub":"payer"}}},"action":{"name":"pay"},"resource":{"type":"payment","id":"inv-1"},"context":{"session":"s-1"}}`,
			`{"subject":{"type":"agent","id":"nobody"},"action":{"name":"pay"},"resource":{"type":"payment","id":"inv-1"}}`,
		} {
			if code := e.asks(body); code == "allowed" {
				t.Errorf("%s is allowed", body)
			}
		}
		if status, _ := e.get(e.control+"/metrics", newSecret()); status != http.StatusUnauthorized {
			t.Errorf("with a wrong token: %d", status)
		}
	}
	signal := func(id, more string) {
		body := fmt.Sprintf(`{"v":1,"id":%q,"time":%q,%s}`, id, time.Now().Format(time.RFC3339Nano), more)
		if status, answer := e.post(e.control+"/v1/signals", admin, "application/json", body); status != http.StatusOK {
			t.Errorf("%d %s", status, answer)
		}
	}
	traffic()
	signal("risk-1", `"type":"risk","risk":60,"entities":["agent:payer"]`) // which a rule observes
	signal("hold-1", `"type":"quarantine","entities":["agent:other"]`)
	requireSource(t, e, admin) // which has just been heard
	p.until(`min_over_time(up{job="vigil"}[10s]) == 1`)
	traffic()
	// What is counted last has to be scraped twice for a rate.
	p.until(`count_over_time(vigil_observed_total{job="vigil"}[1m]) > 2`)

	var labels []string
	if err := p.ask("label/job/values", url.Values{"match[]": {"vigil_build_info"}}, &labels); err != nil || !slices.Equal(labels, []string{"vigil"}) {
		t.Errorf("the jobs to choose from: %v %v", labels, err)
	}
	notHere := regexp.MustCompile(`vigil_(kafka|spool|feed_lag|events|dead_letters_(skipped|dropped))|^ALERTS`)
	for _, expr := range dashboardQueries(t) {
		samples, err := p.query(strings.NewReplacer("$job", ".+", "$instance", ".+", "$__rate_interval", "1m").Replace(expr))
		switch {
		case err != nil:
			t.Errorf("%s: %v", expr, err)
		case len(samples) == 0 && !notHere.MatchString(expr):
			t.Errorf("%s shows nothing", expr)
		}
		for _, s := range samples {
			if s.Value[1] == "NaN" && !strings.Contains(expr, "histogram_quantile") {
				t.Errorf("%s: NaN", expr)
			}
		}
	}
	// One of the requests lacked what a rule reads.
	p.until(`ALERTS{alertname="VigilRuleErrors", alertstate="firing"}`)
	if names := p.alerts(); !slices.Equal(names, []string{"VigilRuleErrors"}) {
		t.Errorf("of an engine that is well there fire %v", names)
	}

	// A bundle that is broken shows as an alert, and on the dashboard.
	e.write("rules/payments.yaml", "vigil: 1\nrules: [{id: broken}]\n")
	if status, answer := e.post(e.control+"/v1/rules/reload", admin, "application/json", "{}"); status == http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	p.until(`ALERTS{alertname="VigilRulesNotReloaded", alertstate="firing", job="vigil"}`)
	if names := p.alerts(); !slices.Equal(names, []string{"VigilRulesNotReloaded", "VigilRuleErrors"}) {
		t.Errorf("of a broken bundle: %v", names)
	}
	e.expect("a broken bundle", "allowed")
}

// alerts are the names of those that fire. All rules must be in order.
func (p *prometheus) alerts() (firing []string) {
	p.t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, State, Health, LastError string }
		}
	}
	must(p.t, p.ask("rules", nil, &data))
	known := 0
	for _, group := range data.Groups {
		for _, rule := range group.Rules {
			known++
			if rule.Health != "ok" {
				p.t.Errorf("%s: %s %s", rule.Name, rule.Health, rule.LastError)
			}
			if rule.State == "firing" {
				firing = append(firing, rule.Name)
			}
		}
	}
	if known < 10 {
		p.t.Errorf("%d alerts are known", known)
	}
	return firing
}

// dashboardQueries are all of the dashboard, that of its annotations too.
func dashboardQueries(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../examples/monitoring/dashboard.json")
	must(t, err)
	var board struct {
		Annotations struct{ List []struct{ Expr string } }
		Panels      []struct{ Targets []struct{ Expr string } }
	}
	must(t, json.Unmarshal(text, &board))
	for _, a := range board.Annotations.List {
		all = append(all, a.Expr)
	}
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			all = append(all, target.Expr)
		}
	}
	if len(all) < 40 {
		t.Fatalf("%d queries", len(all))
	}
	return all
}
