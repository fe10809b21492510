package spell

import (
	"strings"
	"testing"
)

func TestSuggestions(t *testing.T) {
	known := []string{"amount", "supplier", "actions", "on", "pay-small", "pay-large"}
	for name, want := range map[string]string{
		"amout": "amount", "Amount": "amount", "suplier": "supplier", "acitons": "actions", "no": "on",
		"pay-smal": "pay-small", "zebra": "", "": "", "x": "", "amount": "",
		strings.Repeat("a", 1000): "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := Nearest("pay-xarge", []string{"pay-large", "pay-barge"}); got != "pay-barge" {
		t.Errorf("of equally near names the first in the alphabet: got %q", got)
	}
}
