package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// measured is a report with every metric that the page needs, each with a value of its own.
func measured() *Report {
	r := newReport("scaling")
	r.aboutf("a machine")
	for i, name := range []string{
		"empty.start", "empty.start_cpu", "empty.heap", "empty.resident", "idle.connections", "idle.requests", "idle.received", "idle.cores",
		"beside_0.decisions", "beside_0.p50", "beside_0.p99", "beside_0.p99_ratio", "beside_0.replica_cores", "beside_0.generator_cores", "beside_0.broker_cores", "beside_0.machine_cores",
		"broker.cpu_per_fetch", "log.cpu_per_signal", "log.received_per_signal", "log.taker_cpu_per_signal",
		"held.agent", "held.agent_received", "held.fact", "held.session", "held.resident_to_heap",
		"away.caught_up", "away.bare", "away.to_bare", "away.cpu_per_signal", "away.bare_cpu_per_signal",
		"snapshot.per_entity", "snapshot.take_per_million", "snapshot.take_cpu_per_million", "bootstrap.per_million", "bootstrap.cpu_per_million",
	} {
		r.add(name, count, float64(i+1))
	}
	for _, rate := range rates {
		for i, name := range []string{"signals", "cores", "cpu_per_signal", "received_per_signal", "received", "requests"} {
			r.add(fmt.Sprintf("rate_%.0f.%s", rate, name), count, rate+float64(i))
		}
	}
	return r
}

func set(r *Report, name string, value float64) {
	for i := range r.Metrics {
		if r.Metrics[i].Name == name {
			r.Metrics[i].Value = value
		}
	}
}

func TestWhatManyReplicasCostIsComputedFromWhatOneCosts(t *testing.T) {
	r := measured()
	for name, value := range map[string]float64{
		"idle.connections": 10, "idle.requests": 12, "idle.received": 1000, "broker.cpu_per_fetch": 100e-6,
		"rate_10.received": 4000, "rate_10.requests": 20, "rate_10.cores": 0.01,
		"rate_50000.received": 7.5e6, "rate_50000.requests": 100,
		"empty.resident": 40e6, "held.agent": 250, "held.fact": 50, "held.session": 200, "held.resident_to_heap": 2, "snapshot.per_entity": 20,
		"bootstrap.per_million": 3, "away.caught_up": 100_000,
	} {
		set(r, name, value)
	}
	text, err := r.scalingTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 10 | 1,000 | 10,000 | 4 MB/s | 20,000/s | 2 | 10 |", // a thousand replicas
		"| 1,000,000 | ", "1.04 GB", // 40 MB and a million of 500 bytes twice
		"| 40 MB | 6s |",        // two entities for each agent
		"| 0 | 10,000 | 10,000", // half of 24 processors, 10,000 fetches each, 12 by each replica
		"| 50,000 | 1,200 | they come faster than answers go | 500 | links of the brokers | 50.0 % |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
}

func TestAPageIsNotWrittenFromResultsThatLackSomething(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	const kept = "before\n" + scalingBegin + "what was there\n" + scalingEnd + "after\n"
	if err := os.WriteFile(page, []byte(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	r := measured()
	for i := range r.Metrics {
		if r.Metrics[i].Name == "held.fact" {
			r.Metrics[i].Name = "held.something"
		}
	}
	if err := writePage(page, r); err == nil || !strings.Contains(err.Error(), "held.fact") {
		t.Errorf("the error is %v", err)
	}
	if text, _ := os.ReadFile(page); string(text) != kept {
		t.Errorf("it was written all the same:\n%s", text)
	}
	if err := writePage(page, measured()); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(page)
	if s := string(text); !strings.HasPrefix(s, "before\n") || !strings.HasSuffix(s, "after\n") || strings.Contains(s, "what was there") || strings.Contains(s, "NaN") {
		t.Errorf("what was written:\n%s", s)
	}
}

// What the page says was measured is what the results beside it say.
func TestThePageAboutScalingIsMadeFromItsResults(t *testing.T) {
	r, err := readReport("results/scaling.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := r.scalingTables()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(page, []byte(scalingBegin))
	got, _, _ := bytes.Cut(rest, []byte(scalingEnd))
	if string(got) != want {
		t.Error("docs/scaling.md does not say what loadtest/results/scaling.json says; write it again: loadtest scaling --from loadtest/results/scaling.json --page docs/scaling.md")
	}
}

func TestNumbersAreForPeople(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 0.0031: "0.003", 0.31: "0.31", 2: "2", 2.345: "2.35", 12.3: "12", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := number(x); got != want {
			t.Errorf("number(%v) = %s, want %s", x, got, want)
		}
	}
	for x, want := range map[float64]string{0: "0 B", 154: "154 B", 7.49e6: "7.49 MB", 999.9e6: "999 MB", 1.19e12: "1.19 TB"} {
		if got := size(x); got != want {
			t.Errorf("size(%v) = %s, want %s", x, got, want)
		}
	}
}

func TestScalingIsCalledRightly(t *testing.T) {
	for name, flags := range map[string][]string{
		"no brokers":        {"--pdp", "x"},
		"no program":        {"--brokers", "127.0.0.1:1"},
		"no partition":      {"--brokers", "127.0.0.1:1", "--pdp", "x", "--partitions", "0"},
		"too few entities":  {"--brokers", "127.0.0.1:1", "--pdp", "x", "--entities", "1"},
		"no time":           {"--brokers", "127.0.0.1:1", "--pdp", "x", "--step", "0s"},
		"results, no page":  {"--from", "results/scaling.json"},
		"no such results":   {"--from", filepath.Join(t.TempDir(), "none"), "--page", "x"},
		"what is no number": {"--brokers", "127.0.0.1:1", "--pdp", "x", "--rate", fmt.Sprint(math.NaN())},
	} {
		if code, out := command(t, append([]string{"scaling"}, flags...)...); code != exitUsage {
			t.Errorf("%s: code %d\n%s", name, code, out)
		}
	}
}

// The kernel's count of this process's own connection is what went over it.
func TestWhatAProcessReceivesIsCounted(t *testing.T) {
	testSockets(t)
}
