package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"vigil/loadtest/history"
)

// command runs a command of the program as a shell would.
func command(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

func TestWrongCallsAreRefused(t *testing.T) {
	for _, args := range []string{
		"", "dance", "run", "run --start --decision-url http://127.0.0.1:1", "run --decision-url http://10.1.2.3:7070", "run --start --rate -1",
		"run --start --duration 0s", "run --start --duration 1000h", "run --start --connections 0", "run --start extra", "run --start --cache maybe",
		"run --decision-url http://127.0.0.1:1 --signals 5", "race --unchecked --start", "race --in-process --start", "race --decision-url http://127.0.0.1:1",
		"race --in-process --pushers 9", "race --in-process --decisions 0", "run --start --signals 5 --brokers b:9092", "run --start --brokers b:9092 --topic t", "replicas --start --brokers b:9092 --topic t", "replicas --decision-url http://127.0.0.1:1", "replicas --start --rounds 0",
		"race --in-process --undemanded", "race --start --replicas 2", "race --start --replica http://127.0.0.1:1",
		"race --in-process --replicas 5", "race --decision-url http://127.0.0.1:1 --control-url http://127.0.0.1:1 --replica http://10.1.2.3:1 --workload missing.json", "soak --start --share 2", "kills --decision-url http://127.0.0.1:1", "kills --start --kills 0", "kills --start --pushers 0", "kills --start --longest 0s", "soak --start --duration 1s --sample 1s",
		"gen --rules 1", "gen --agents 0", "run --start --rate NaN", "run --start --workload missing.json", "run --start --thresholds",
	} {
		if code, out := command(t, strings.Fields(args)...); code != exitUsage {
			t.Errorf("%s: code %d\n%s", args, code, out)
		}
	}
}

// anomaly runs a race that is to find what goes wrong with a mechanism off. How many decisions
// that takes is the scheduler's affair, so one that finds nothing is run with more.
func anomaly(t *testing.T, decisions int, args ...string) (code int, out string) {
	t.Helper()
	for range 6 {
		if code, out = command(t, append(slices.Clone(args), "--decisions", strconv.Itoa(decisions))...); code == exitOK {
			break
		}
		t.Logf("nothing was found in %d decisions", decisions)
		decisions *= 2
	}
	return code, out
}

func TestTheRaceInProcessFindsStaleAllowsOnlyWithoutTheCheck(t *testing.T) {
	if code, out := command(t, "race", "--in-process", "--quiet", "--decisions", "15000"); code != exitOK || strings.Contains(out, "Stories") {
		t.Errorf("checked: code %d\n%s", code, out)
	}
	code, out := anomaly(t, 15_000, "race", "--in-process", "--quiet", "--unchecked")
	stale := strings.Contains(out, "C1 no stale allow\n") || strings.Contains(out, "C5 never un-revoked\n")
	if code != exitOK || !stale || !strings.Contains(out, "C10 no allow outlives a silence\n") {
		t.Errorf("unchecked: code %d\n%s", code, out)
	}
}

func TestTheRaceOfReplicasFindsStaleAllowsOnlyWhereNothingIsDemanded(t *testing.T) {
	race := []string{"race", "--in-process", "--quiet", "--replicas", "3", "--readers", "6", "--decisions", "15000"}
	if code, out := command(t, race...); code != exitOK || strings.Contains(out, "Stories") {
		t.Errorf("demanded: code %d\n%s", code, out)
	}
	if code, out := anomaly(t, 60_000, append(race, "--undemanded")...); code != exitOK || strings.Contains(out, "Stories") {
		t.Errorf("undemanded: code %d\n%s", code, out)
	}
	// What demanding is for is not found where nobody is behind.
	report := newReport("race")
	report.judge(&raceResult{found: history.Findings{Decisions: 1, Signals: 1}}, false, true)
	if len(report.Missed) != 1 {
		t.Errorf("no anomaly was found, and it says %q", report.Missed)
	}
}

// The whole program against a real engine, for a few seconds.
func TestAgainstAnEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts engines")
	}
	dir := t.TempDir()
	pdp := filepath.Join(dir, "pdp")
	if out, err := exec.Command("go", "build", "-o", pdp, "vigil/cmd/pdp").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	strict := file("strict.json", `{"v":1,"limits":[{"metric":"run.wrong","max":0,"why":"every answer is known"},{"metric":"engine.cache_hits","min":0.01,"why":"the cache is on"}]}`)
	impossible := file("impossible.json", `{"v":1,"limits":[{"metric":"run.answered","max":0,"why":"to see it missed"}]}`)
	results, workload := filepath.Join(dir, "results.json"), filepath.Join(dir, "workload.json")
	start := []string{"--start", "--pdp", pdp, "--quiet", "--timeout", "30s"}

	if code, out := command(t, "gen", "--agents", "50", "--requests", "100", "--out", workload); code != exitOK {
		t.Fatalf("gen: code %d\n%s", code, out)
	}
	run := append([]string{"run"}, start...)
	code, out := command(t, append(run, "--workload", workload, "--unix", "--duration", "500ms", "--warmup", "100ms", "--signals", "50", "--requests-max", "2000",
		"--thresholds", strict, "--json", results)...)
	if code != exitOK {
		t.Fatalf("run: code %d\n%s", code, out)
	}
	data, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	var report Report
	if err := json.Unmarshal(data, &report, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if m, ok := report.metric("run.answered"); !ok || m.Value == 0 || m.Value > 2000 {
		t.Errorf("%+v", m)
	}
	if code, out := command(t, append(run, "--duration", "200ms", "--warmup", "0s", "--rate", "100", "--thresholds", impossible)...); code != exitMissed || !strings.Contains(out, "to see it missed") {
		t.Errorf("a threshold missed: code %d\n%s", code, out)
	}
	if code, out := command(t, append([]string{"race", "--decisions", "1500", "--json", results}, start...)...); code != exitOK {
		t.Errorf("race: code %d\n%s", code, out)
	}
	if code, out := command(t, append([]string{"soak", "--duration", "1500ms", "--sample", "100ms", "--rate", "50", "--signals", "20", "--reload", "300ms"}, start...)...); code != exitOK {
		t.Errorf("soak: code %d\n%s", code, out)
	}
}
