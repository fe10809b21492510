package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func example() *Results {
	reference := 1000.0
	return &Results{V: 1, Kind: "quick", Date: "2026-01-02 03:04", Took: "1m0s", Dependencies: map[string]string{"example.com/b": "v1", "example.com/a": "v2"},
		Rows: []Row{
			{ID: "http.cached.throughput", What: "cached <&> decisions", Section: "http", Measured: 900, Reference: &reference, Unit: perSecond, Beside: "a | b", Value: .9, Low: .8, High: .95, IsRatio: true, Note: "a note"},
			{ID: "cached.16.allocs", What: "allocations", Section: "process", Unit: allocated, Value: 1, Measured: 1},
			{ID: "cached.16", What: strings.Repeat("long ", 40), Section: "process", Unit: nanoseconds, Measured: 1234, Reference: &reference, Value: 1.234, IsRatio: true},
		},
		Series: []Series{
			{ID: "rules", Title: "a < b & c", X: "rules", Y: "ns", LogX: true, LogY: true, Lines: []Line{{Name: "<one>", Points: []Point{{10, 100}, {10_000, 120}}}, {Name: "two", Points: []Point{{10, 0}}}}},
			{ID: "signals", Title: "t", X: "quantile", Y: "µs", Lines: []Line{{Name: "q", Points: []Point{{0, 1}, {4, 9}}}}},
			{ID: "agents", Title: "nothing"},
		}}
}

func TestPicturesAreWellFormed(t *testing.T) {
	for name, svg := range example().pictures() {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Errorf("%s: %v\n%s", name, err, svg)
				break
			}
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("%s has a place that is none:\n%s", name, svg)
		}
	}
}

func TestPicturesShowEveryLineAndEveryBar(t *testing.T) {
	pictures := example().pictures()
	for _, want := range []string{"&lt;one&gt;", "two", "prefers-color-scheme"} {
		if !strings.Contains(pictures["rules.svg"], want) {
			t.Errorf("rules.svg lacks %q", want)
		}
	}
	if bars := pictures["bars.svg"]; strings.Count(bars, "<rect") != 2 || strings.Count(bars, `class="short"`) != 1 {
		t.Errorf("want two bars, one of them short:\n%s", bars)
	}
	if !strings.Contains(pictures["signals.svg"], "p99.99") {
		t.Error("quantiles have no names")
	}
}

func TestTheReportReplacesWhatIsBetweenTheMarkersAndNothingElse(t *testing.T) {
	page := "before\n" + beginMark + "old\n" + endMark + "after\n"
	once, err := between(page, "new\n")
	if err != nil || once != "before\n"+beginMark+"new\n"+endMark+"after\n" {
		t.Fatal(once, err)
	}
	if twice, err := between(once, "new\n"); err != nil || twice != once {
		t.Error(twice, err)
	}
	for _, bad := range []string{"", beginMark, endMark + beginMark, beginMark + endMark + beginMark} {
		if _, err := between(bad, "x"); err == nil {
			t.Errorf("accepted: %q", bad)
		}
	}
}

func TestTheReportHasEveryRowWithItsVerdict(t *testing.T) {
	text := example().markdown()
	for _, want := range []string{"cached <&> decisions", "a \\| b", "0.90 (0.80–0.95)", "≥ 0.85", "ok", "SHORT", "a note", "example.com/a v2, example.com/b v1"} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != len(heads)+1 {
			t.Errorf("a row with other columns: %s", line)
		}
	}
}

func TestResultsComeBackAsTheyWereWritten(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.json")
	r := example()
	if err := r.write(name); err != nil {
		t.Fatal(err)
	}
	back, err := readResults(name)
	if err != nil {
		t.Fatal(err)
	}
	if back.markdown() != r.markdown() {
		t.Error("the report is another one")
	}
	if err := os.WriteFile(name, []byte(`{"v":1,"kinds":"full"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readResults(name); err == nil {
		t.Error("an unknown member was read")
	}
}

// The page and the plots are those of the results that are kept.
func TestTheDocumentationShowsTheKeptResults(t *testing.T) {
	r, err := readResults("results/full.json")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if whole, err := between(string(page), r.markdown()); err != nil || whole != string(page) {
		t.Errorf("docs/performance.md is not of results/full.json: go -C benchmarks run . report (%v)", err)
	}
	for name, svg := range r.pictures() {
		if have, err := os.ReadFile(filepath.Join("../docs/plots", name)); err != nil || string(have) != svg {
			t.Errorf("docs/plots/%s is not of results/full.json: %v", name, err)
		}
	}
}

func TestNumbersArePrintedForPeople(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit Unit
		want string
	}{
		{0, allocated, "0 allocs"}, {123.4, nanoseconds, "123 ns"}, {1234, nanoseconds, "1.23 µs"}, {2.5e6, nanoseconds, "2.50 ms"}, {3e9, nanoseconds, "3 s"},
		{1234567, perSecond, "1,234,567/s"}, {999, perSecond, "999/s"}, {246.4, byteCount, "246 B"}, {0.0123, counted, "0.012"},
	} {
		if got := quantity(c.v, c.unit); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}
