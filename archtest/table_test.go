package archtest

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTheTableOfPackagesIsWhatTheyMayImport holds docs/architecture.md to mayImport, package
// by package and arrow by arrow. Modules of their own have rows there, and no arrows here.
func TestTheTableOfPackagesIsWhatTheyMayImport(t *testing.T) {
	page := filepath.Join("docs", "architecture.md")
	told := map[string][]string{}
	for _, line := range readLines(t, page) {
		cells := strings.Split(strings.Trim(string(line), "| "), " | ")
		name, isPackage := strings.CutPrefix(cells[0], "`")
		name = strings.TrimSuffix(name, "`")
		if len(cells) != 3 || !isPackage || strings.Contains(name, ".") {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, name, "go.mod")); err == nil {
			continue
		}
		switch arrows := cells[2]; arrows {
		case "std":
			told[name] = nil
		case "all":
			told[name] = []string{"*"}
		default:
			told[name] = strings.Split(arrows, ", ")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(mayImport)) {
		arrows, there := told[name]
		if delete(told, name); !there {
			t.Errorf("%s: the table has no row for the package %s", page, name)
			continue
		}
		if want := mayImport[name]; !slices.Equal(slices.Sorted(slices.Values(arrows)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %s may import %v; the table says %v", page, name, want, arrows)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(told)) {
		t.Errorf("%s: the table has a row for %s, which is no package of this module", page, name)
	}
}
