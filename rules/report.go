package rules

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

// allEffects are the effects, strongest first.
var allEffects = []authz.Effect{authz.Deny, authz.Require, authz.Allow}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	width := 0
	for _, c := range r.Results {
		width = max(width, len([]rune(c.title())))
	}
	for _, c := range r.Results {
		verdict := "PASS"
		if !c.Passed {
			verdict = "FAIL"
		}
		line := fmt.Sprintf("%s  %-*s  %s", verdict, width, c.title(), c.Got)
		if c.Elapsed > 0 {
			line += "  " + rounded(c.Elapsed)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		for _, d := range c.Diff {
			fmt.Fprintf(&b, "      %s\n", d)
		}
		if !c.Passed {
			fmt.Fprintf(&b, "      at %s\n", c.Pos)
		}
	}
	if len(r.Results) == 0 {
		b.WriteString("no test was run\n")
	}
	failed := r.Failed()
	fmt.Fprintf(&b, "%d passed, %d failed", len(r.Results)-failed, failed)
	if r.Elapsed > 0 {
		fmt.Fprintf(&b, " in %s", rounded(r.Elapsed))
	}
	b.WriteByte('\n')
	for _, effect := range allEffects {
		if ids := r.Uncovered(effect); len(ids) > 0 {
			fmt.Fprintf(&b, "%s rules that no case exercised: %s\n", effect, strings.Join(ids, ", "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *CaseResult) title() string { return c.File + "/" + c.Name }

func rounded(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// The form of JUnit that CI systems read: suites of cases, of which the failed ones hold a
// failure.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	ClassName string        `xml:"classname,attr"`
	File      string        `xml:"file,attr"`
	Line      int           `xml:"line,attr"`
	Time      string        `xml:"time,attr"`
	Failure   *junitFailure `xml:"failure,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the report as JUnit XML, a suite for each test file.
func (r *Report) WriteJUnit(w io.Writer) error {
	all := junitSuites{Name: "rules", Tests: len(r.Results), Failures: r.Failed(), Time: seconds(r.Elapsed)}
	for first := 0; first < len(r.Results); {
		file := r.Results[first].File
		suite := junitSuite{Name: file}
		var elapsed time.Duration
		for ; first < len(r.Results) && r.Results[first].File == file; first++ {
			c := &r.Results[first]
			elapsed += c.Elapsed
			entry := junitCase{Name: c.Name, ClassName: file, File: file, Line: c.Pos.Line, Time: seconds(c.Elapsed)}
			if !c.Passed {
				suite.Failures++
				entry.Failure = &junitFailure{Message: c.Diff[0], Text: strings.Join(c.Diff, "\n")}
			}
			suite.Cases = append(suite.Cases, entry)
		}
		suite.Tests = len(suite.Cases)
		suite.Time = seconds(elapsed)
		all.Suites = append(all.Suites, suite)
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(slices.Concat([]byte(xml.Header), text, []byte("\n")))
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

// The JSON form of a report, version 1.
type reportJSON struct {
	Version   int                 `json:"v"`
	Passed    int                 `json:"passed"`
	Failed    int                 `json:"failed"`
	Seconds   float64             `json:"seconds"`
	Cases     []caseJSON          `json:"cases"`
	Uncovered map[string][]string `json:"uncovered"` // by effect
	Rules     []ruleJSON          `json:"rules"`
}

type caseJSON struct {
	File    string   `json:"file"`
	Line    int      `json:"line"`
	Name    string   `json:"name"`
	Passed  bool     `json:"passed"`
	Got     string   `json:"got"`
	Diff    []string `json:"diff"`
	Seconds float64  `json:"seconds"`
}

type ruleJSON struct {
	Rule   string `json:"rule"`
	Effect string `json:"effect"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	Cases  int    `json:"cases"`
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	failed := r.Failed()
	out := reportJSON{
		Version: 1, Passed: len(r.Results) - failed, Failed: failed, Seconds: r.Elapsed.Seconds(),
		Uncovered: make(map[string][]string),
	}
	for _, c := range r.Results {
		out.Cases = append(out.Cases, caseJSON{c.File, c.Pos.Line, c.Name, c.Passed, c.Got, c.Diff, c.Elapsed.Seconds()})
	}
	for _, c := range r.Rules {
		out.Rules = append(out.Rules, ruleJSON{c.Rule, c.Effect.String(), c.Pos.File, c.Pos.Line, c.Cases})
	}
	for _, effect := range allEffects {
		out.Uncovered[effect.String()] = r.Uncovered(effect)
	}
	text, err := json.Marshal(out, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}
