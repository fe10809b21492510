package rules

import (
	"fmt"
	"strings"
	"testing"
)

// A panic in one of the compiler's own goroutines would end the process, whoever called. It
// has to come to whoever called instead, for they can recover from it.
func TestAPanicOfACompilingGoroutineIsTheCallers(t *testing.T) {
	bundle, _, errs := LoadDir("../examples/invoice/rules")
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for i := range bundle.Rules {
		whole := *bundle.Rules[i]
		func() {
			defer func() {
				v := fmt.Sprint(recover())
				if !strings.Contains(v, "nil pointer") || !strings.Contains(v, "compile_rule.go") {
					t.Errorf("rule %s: %s", whole.ID, v)
				}
			}()
			// A bundle that no parser makes stands for a defect.
			c := &compiler{bundle: bundle, lists: map[string]*constantList{}}
			c.table = newSlotTable(bundle, c.lists)
			c.scopes = newScopeBuilder(bundle, c.table, c.lists)
			c.bundle = nil
			bundle.Rules[i].When = "nothing("
			c.rules(bundle.Rules)
			t.Errorf("rule %s compiles", whole.ID)
		}()
		*bundle.Rules[i] = whole
	}
	if _, errs := Compile(bundle); len(errs) > 0 {
		t.Error(errs)
	}
}
