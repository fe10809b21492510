package rules

import (
	"os"
	"testing"
)

func TestParseTheBundleOfTheDocumentation(t *testing.T) {
	b, errs := Parse(os.DirFS("testdata/good/payments"))
	if errs != nil {
		t.Fatal(errs)
	}
	if len(b.Rules) != 3 || b.Rules[2].Obligations[0].ID != "pay-large-approval" {
		t.Errorf("rules: %+v", b.Rules)
	}
}
