package rules

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/authz"
)

const reportRules = `vigil: 1
attributes: {resource.doc: {}}
actions: {read: {}}
rules:
  - {id: allow-a, effect: allow, when: "true"}
  - {id: deny-b, effect: deny, when: "true"}
  - {id: deny-c, effect: deny, when: "true"}
  - {id: ask-d, effect: require, when: "true", obligations: [{type: t}]}
`

const reportHead = `vigil: 1
now: 2026-11-23T09:00:00Z
request: {subject: {type: agent, id: a}, action: {name: read}, resource: {type: doc, id: d}}
cases:
`

// reportBundle has two test files; the id of a case's rules is what the fake decider says.
func reportBundle(t *testing.T) *Bundle {
	return mustParse(t, bundleOf(map[string]string{
		"a.yaml": reportRules,
		"z_test.yaml": reportHead + `
  - {name: right, expect: {effect: allow, code: allowed, rules: [allow-a]}}
  - {name: panics, expect: {effect: deny}}
`,
		"b_test.yaml": reportHead + `
  - {name: wrong effect, expect: {effect: allow}}
  - {name: wrong code & <rules>, expect: {effect: deny, code: quarantined, rules: [deny-c, ask-d]}}
  - {name: not checked, expect: {effect: deny}}
  - {name: no rules, expect: {effect: deny, rules: []}}
`,
	}))
}

func fakeDecide(c TestCase) (authz.Decision, []string) {
	switch c.Name {
	case "right":
		return authz.Decision{Effect: authz.Allow, Class: authz.ClassAllow, Code: authz.Allowed, Rules: []string{"allow-a"}}, []string{"allow-a", "allow-a"}
	case "panics":
		panic("the engine broke")
	}
	return authz.Decision{
		Code: authz.DeniedByRule, Rules: []string{"deny-b", "deny-c"}, Input: "resource.size",
		Entity: authz.Ref{Kind: authz.KindAgent, ID: "a"}, ReasonAdmin: "it is late",
		Errors: []authz.RuleError{{Rule: "deny-b", Input: "resource.size", Message: "is missing"}},
	}, []string{"deny-b"}
}

// fakeClock gives times that are a millisecond apart.
func fakeClock() func() time.Time {
	now := time.Unix(0, 0)
	return func() time.Time {
		now = now.Add(time.Millisecond)
		return now
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata/report", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestReports(t *testing.T) {
	report := TestRun{Now: fakeClock()}.Run(reportBundle(t), fakeDecide)
	if report.OK() || report.Failed() != 4 || len(report.Results) != 6 {
		t.Errorf("%d of %d failed", report.Failed(), len(report.Results))
	}
	// The stack of a panic differs from build to build.
	for i := range report.Results {
		if r := &report.Results[i]; r.Name == "panics" {
			if len(r.Diff) < 3 || !strings.Contains(strings.Join(r.Diff, "\n"), "fakeDecide") {
				t.Errorf("the stack is missing: %q", r.Diff)
			}
			r.Diff = r.Diff[:1]
		}
	}
	for name, write := range map[string]func(io.Writer) error{
		"table.txt": report.WriteTable, "junit.xml": report.WriteJUnit, "report.json": report.WriteJSON,
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
		switch name {
		case "junit.xml":
			if err := xml.Unmarshal(b.Bytes(), new(junitSuites)); err != nil {
				t.Error(err)
			}
		case "report.json":
			var back reportJSON
			if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.Failed != 4 {
				t.Errorf("%v, %+v", err, back)
			}
		}
	}
	if got := report.Uncovered(authz.Deny); !slices.Equal(got, []string{"deny-c"}) {
		t.Errorf("uncovered deny rules: %q", got)
	}
	if got := report.Uncovered(authz.Allow); got != nil {
		t.Errorf("uncovered allow rules: %q", got)
	}
}

func TestARunChoosesItsCases(t *testing.T) {
	b := reportBundle(t)
	report := TestRun{Match: regexp.MustCompile(`^z_test.yaml/right$`)}.Run(b, fakeDecide)
	if !report.OK() || len(report.Results) != 1 || report.Elapsed != 0 {
		t.Errorf("%+v", report)
	}
	if got := report.Uncovered(authz.Deny); len(got) != 2 {
		t.Errorf("cases that were not run exercised something: %q", got)
	}
	none := TestRun{Match: regexp.MustCompile("nothing")}.Run(b, fakeDecide)
	if none.OK() {
		t.Error("a run of no tests is a success")
	}
	var table strings.Builder
	if err := none.WriteTable(&table); err != nil || !strings.HasPrefix(table.String(), "no test was run\n0 passed, 0 failed\n") {
		t.Errorf("%v\n%s", err, table.String())
	}
}
