package rules

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// catalogueBundle declares one of everything; its rule lacks the condition.
const catalogueBundle = `
vigil: 1
attributes:
  subject.user:
    role: {type: string, default: ""}
    nick: {type: string}
  resource.payment:
    amount:   {type: number, min: 0, required: true}
    count:    {type: int, required: true}
    supplier: {type: string, max: 64, required: true}
    note:     {type: string}
    due:      {type: timestamp, required: true}
    grace:    {type: duration, required: true}
    items:    {type: list, of: string, required: true}
    tags:     {type: map, of: string, required: true}
    urgent:   {type: bool, default: false}
    mixed:    {type: string, required: true}
  resource.invoice:
    total: {type: number, required: true}
    mixed: {type: number, required: true}
  action.pay:
    dry: {type: bool, default: false}
  context:
    geo: {type: string}
    ip:  {type: string, required: true}
actions: {pay: {}, read: {}}
lists: {approved_suppliers: [acme, globex], limits: [1, 2.5]}
rules:
  - id: r
    effect: allow
    on: {actions: [pay], resources: [ON]}
    when: |
`

func catalogue(on, when string) string {
	lines := strings.Split(strings.TrimRight(when, "\n"), "\n")
	file := strings.Replace(catalogueBundle, "ON", on, 1)
	if on == "*" { // any
		file = strings.Replace(catalogueBundle, ", resources: [ON]", "", 1)
	}
	return file + "      " + strings.Join(lines, "\n      ") + "\n"
}

var updateWhen = flag.Bool("update-when", false, "rewrite testdata/when_errors.txt")

// TestConditionErrors holds every message about a condition, with its place, against a
// catalogue. A block is an expression, then what is said of it; "on" in brackets before
// the expression gives the rule's resources.
func TestConditionErrors(t *testing.T) {
	const path = "testdata/when_errors.txt"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(strings.TrimSpace(string(data)), "\n\n")
	for i, block := range blocks[1:] {
		when, want, ok := strings.Cut(block, "\n=> ")
		if !ok {
			t.Fatalf("no answer in block %q", block)
		}
		on, expression := "payment", when
		if strings.HasPrefix(when, "{") {
			on, expression, _ = strings.Cut(strings.TrimPrefix(when, "{"), "} ")
		}
		_, errs := compileFile(t, catalogue(on, expression))
		var got []string
		for _, e := range errs {
			if e.Rule != "r" || e.Pos.File != "a.yaml" {
				t.Errorf("%s: the error does not say where: %v", when, e)
			}
			got = append(got, fmt.Sprintf("%d:%d %s", e.Pos.Line-firstWhenLine+1, e.Pos.Column-6, e.Message))
		}
		answer := strings.Join(got, "\n=> ")
		if answer != want && !*updateWhen {
			t.Errorf("%s\n got %s\nwant %s", when, answer, want)
		}
		blocks[i+1] = when + "\n=> " + answer
	}
	if *updateWhen {
		if err := os.WriteFile(path, []byte(strings.Join(blocks, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var firstWhenLine = strings.Count(strings.TrimPrefix(catalogueBundle, "\n"), "\n") + 1

// TestFormAndConditionsAreToldTogether: what is wrong with the form of one rule, and with a
// test, hides nothing that is wrong with the condition of another. Where a declaration is
// wrong, what reads it is not told of.
func TestFormAndConditionsAreToldTogether(t *testing.T) {
	rules := func(number string) string {
		return `vigil: 1
attributes: {resource.doc: {size: {type: ` + number + `, required: true}}}
actions: {read: {}}
rules:
  - {id: misspelt, effect: deny, on: {actions: [raed]}, when: "resource.siz > 1"}
  - {id: wrong, effect: deny, when: "resource.siz > 1"}
  - {id: right, effect: deny, when: "resource.size > 1"}
`
	}
	load := func(number string) string {
		_, set, errs := Load(bundleOf(map[string]string{"a.yaml": rules(number), "a_test.yaml": "vigil: 1\ncases: []\n"}))
		if set != nil || len(errs) == 0 {
			t.Fatal("the bundle was taken")
		}
		var lines []string
		for _, e := range errs {
			lines = append(lines, fmt.Sprintf("%s:%d %s: %s", e.Pos.File, e.Pos.Line, e.Rule, e.Message))
		}
		return strings.Join(lines, "\n")
	}
	if got, want := load("int"), `a.yaml:5 misspelt: unknown action "raed", did you mean "read"?
a.yaml:6 wrong: unknown "resource.siz", did you mean "size"?
`; !strings.HasPrefix(got, want) || !strings.Contains(got, "a_test.yaml:") || strings.Contains(got, "right") {
		t.Errorf("got\n%s", got)
	}
	if got := load("itn"); !strings.Contains(got, `a.yaml:2 : unknown type "itn"`) || strings.Contains(got, "siz") {
		t.Errorf("got\n%s", got)
	}
}

// TestAllErrorsAreCounted: those of conditions beside those of form, too.
func TestAllErrorsAreCounted(t *testing.T) {
	load := func(wrong int) Errors {
		var text strings.Builder
		text.WriteString("vigil: 1\nattributes: {resource.doc: {}}\nactions: {read: {}}\nrules:\n")
		for i := range wrong {
			fmt.Fprintf(&text, "  - {id: r%d, effect: deny, when: 'resource.siz'}\n", i)
		}
		_, _, errs := Load(bundleOf(map[string]string{"a.yaml": text.String(), "a_test.yaml": "vigil: 1\ncases: []\n"}))
		return errs
	}
	const wrong = maxErrors + 50
	of := len(load(1)) - 1 // what is wrong with the form
	errs := load(wrong)
	if got, want := errs[len(errs)-1].Message, fmt.Sprintf("and %d more errors", wrong+of-maxErrors); of == 0 || len(errs) != maxErrors+1 || got != want {
		t.Errorf("%d errors are shown, %q, want %q", len(errs), got, want)
	}
}
