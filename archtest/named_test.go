package archtest

import (
	"bytes"
	"go/ast"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Names of tests, and of stories told with the real program, as documents have them.
var (
	namedTest  = regexp.MustCompile("`(Test[A-Z]\\w*|Fuzz[A-Z]\\w*)`")
	namedStory = regexp.MustCompile("`(\\w+\\.txtar)`")
)

// TestTestsThatDocumentsNameAreThere: a promise that names its test is empty when the test
// has another name by now.
func TestTestsThatDocumentsNameAreThere(t *testing.T) {
	known := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test && f.Recv == nil {
				known[f.Name.Name] = true
			}
		}
	}
	walk(t, func(path string) {
		if strings.HasSuffix(path, ".txtar") {
			known[filepath.Base(path)] = true
		}
	})
	found := 0
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".md") {
			return
		}
		for number, line := range readLines(t, path) {
			for _, pattern := range []*regexp.Regexp{namedTest, namedStory} {
				for _, m := range pattern.FindAllSubmatch(line, -1) {
					if found++; !known[string(m[1])] {
						t.Errorf("%s:%d: there is no %s", path, number+1, m[1])
					}
				}
			}
		}
	})
	if found < 40 {
		t.Errorf("only %d tests are named in documents; are they written otherwise now?", found)
	}
}

// TestEveryRowOfWhatHappensWhenNamesATest: the table is a list of promises.
func TestEveryRowOfWhatHappensWhenNamesATest(t *testing.T) {
	rows, within := 0, false
	for number, line := range readLines(t, "docs/contract.md") {
		if bytes.HasPrefix(line, []byte("## ")) {
			within = string(line) == "## What happens when"
		}
		if !within || !bytes.HasPrefix(line, []byte("| ")) {
			continue
		}
		cells := bytes.Split(bytes.Trim(line, "| "), []byte(" | "))
		if string(cells[0]) == "when" {
			continue
		}
		if rows++; len(cells) != 3 || !namedTest.Match(cells[2]) {
			t.Errorf("docs/contract.md:%d: no test holds this row", number+1)
		}
	}
	if rows < 10 {
		t.Errorf("%d rows", rows)
	}
}
