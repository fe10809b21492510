package ssf

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestTheDocumentedTableIsTheOneInUse keeps the table of docs/ssf.md true.
func TestTheDocumentedTableIsTheOneInUse(t *testing.T) {
	const path, begin, end = "../../docs/ssf.md", "-rewrite` -->\n", "<!-- end -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the marks of the table are gone")
	}
	want := "| event | when | about the first of | says |\n|---|---|---|---|\n"
	for _, r := range DefaultTable {
		about := r.About
		if about == anything {
			about = "any member"
		}
		want += fmt.Sprintf("| `%s` | %s | %s | %s |\n", r.Event, strings.ReplaceAll(r.When, "|", ", "), about, r.Say)
	}
	if got == want {
		return
	}
	if !*rewrite {
		t.Errorf("the table of %s is another; rewrite it", path)
		return
	}
	if err := os.WriteFile(path, []byte(head+begin+want+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestTheExampleOfTheDocumentsIsTaken: its JSON is a SET that says what it is said to.
func TestTheExampleOfTheDocumentsIsTaken(t *testing.T) {
	text, err := os.ReadFile("../../docs/ssf.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```json\n")
	payload, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("there is no example")
	}
	i := newIssuer(t)
	set, refused := i.parseClaims([]byte(payload))
	if refused != nil {
		t.Fatal(refused)
	}
	tr, err := i.Translate(set)
	if err != nil || len(tr.Signals) != 1 {
		t.Fatalf("%+v, %v", tr, err)
	}
	if got := string(tr.Signals[0].AppendJSON(nil)); !strings.Contains(got, `"type":"narrow","entities":["agent:invoice-agent"]`) || !strings.Contains(got, `"scopes":["view:invoices"]`) {
		t.Error(got)
	}
}
