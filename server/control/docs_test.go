package control

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestAPIDocumentNamesEveryCodeAndMetric holds docs/api.md against the sources.
func TestAPIDocumentNamesEveryCodeAndMetric(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	document := read("../../docs/api.md")
	for file, pattern := range map[string]string{
		"api.go":                  `\n\tCode\w+ += "(\w+)"`,
		"metrics.go":              `"(vigil_\w+)"`,
		"../../authz/decision.go": `Code += "(\w+)"|Code     = "(\w+)"`,
		"../../authzen/errors.go": `\n\tCode\w+ += "(\w+)"`,
		// Answers without a decision: "code: what is wrong".
		"../decision/handler.go":  `"([a-z]+(?:_[a-z]+)*): `,
		"../decision/evaluate.go": `"([a-z]+(?:_[a-z]+)*): `,
	} {
		for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(file), -1) {
			name := strings.Join(match[1:], "")
			if !strings.Contains(document, "`"+name+"`") {
				t.Errorf("docs/api.md does not name %s of %s", name, file)
			}
		}
	}
}
