package rules

import (
	"fmt"
	"strings"
	"testing"
)

// TestRulesCompileBesideMistakes compiles, on several goroutines, rules with macros beside
// rules with unknown names. Under the race detector it is the guard of fillCatalog.
func TestRulesCompileBesideMistakes(t *testing.T) {
	var text strings.Builder
	text.WriteString("vigil: 1\nactions: {pay: {}}\nlists: {names: [a, b]}\nrules:\n")
	const rules = 40
	for i := range rules {
		when := `lists.names.exists(n, n == agent.id)`
		if i%2 == 1 {
			when = `agent.no_such.member == "x"`
		}
		fmt.Fprintf(&text, "  - {id: r%d, effect: deny, on: {actions: [pay]}, when: '%s'}\n", i, when)
	}
	for range 5 {
		_, errs := compileFile(t, text.String())
		if len(errs) != rules/2 {
			t.Fatalf("%d errors, want one for each of the %d mistakes: %v", len(errs), rules/2, errs)
		}
	}
}
