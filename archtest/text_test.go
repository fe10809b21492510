package archtest

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// machinePath finds paths that exist on one machine only. Built from parts, for this
// file is read too.
var machinePath = regexp.MustCompile(`(^|[^\w./-])(` + strings.Join([]string{
	"/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/[a-z]", "/Us" + "ers/[A-Za-z]", `[A-Z]:\\Us` + `ers\\`, `\.\./sha` + "red/",
}, "|") + ")")

func TestNoFileNamesAPlaceOnSomebodysMachine(t *testing.T) {
	walk(t, func(path string) {
		for number, line := range readLines(t, path) {
			if found := machinePath.Find(line); found != nil {
				t.Errorf("%s:%d: %q is a place on somebody's machine", path, number+1, found)
			}
		}
	})
}

func TestNoFileHoldsConflictMarkers(t *testing.T) {
	walk(t, func(path string) {
		for number, line := range readLines(t, path) {
			if bytes.HasPrefix(line, []byte("<<"+"<<<<< ")) || bytes.HasPrefix(line, []byte(">>"+">>>>> ")) {
				t.Errorf("%s:%d: a conflict that was not resolved", path, number+1)
			}
		}
	})
}

// link finds links of Markdown to files.
var link = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)\s]*)?\)`)

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	walk(t, func(path string) {
		if !strings.HasSuffix(path, ".md") {
			return
		}
		for number, line := range readLines(t, path) {
			for _, m := range link.FindAllSubmatch(line, -1) {
				target := filepath.Join(root, filepath.Dir(path), string(m[1]))
				if _, err := os.Stat(target); err != nil {
					t.Errorf("%s:%d: the link to %s leads nowhere", path, number+1, m[1])
				}
			}
		}
	})
}

// readLines gives the lines of a text file; none of one that holds no text.
func readLines(t *testing.T, path string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil
	}
	return bytes.Split(data, []byte("\n"))
}
