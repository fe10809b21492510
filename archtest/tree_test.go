package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// root is the folder of go.mod, seen from this package.
const root = ".."

// module is the path of the module.
const module = "vigil"

// source is one Go file of the module.
type source struct {
	path  string // from the root, with slashes
	pkg   string // folder from the root; "." for the root itself
	test  bool
	file  *ast.File
	lines int
}

// skipped are folders that hold no part of the project.
var skipped = []string{".git", "bin", "run", "vendor", "node_modules"}

// walk calls visit for every regular file of the project, with its path from the root.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains(skipped, name) {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.Type().IsRegular() && name != ".git" { // which is a file in a second work tree
			visit(filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var parsed struct {
	sync.Once
	fset  *token.FileSet
	files []source
}

// sources parses every Go file of the module but those of nested modules and testdata.
func sources(t *testing.T) []source {
	t.Helper()
	parsed.Do(func() {
		parsed.fset = token.NewFileSet()
		var nested []string
		walk(t, func(path string) {
			if strings.HasSuffix(path, "/go.mod") {
				nested = append(nested, strings.TrimSuffix(path, "go.mod"))
			}
		})
		walk(t, func(path string) {
			within := func(folder string) bool { return strings.HasPrefix(path, folder) }
			if !strings.HasSuffix(path, ".go") || strings.Contains("/"+path, "/testdata/") || slices.ContainsFunc(nested, within) {
				return
			}
			data, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				t.Fatal(err)
			}
			file, err := parser.ParseFile(parsed.fset, path, data, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			pkg := "."
			if i := strings.LastIndexByte(path, '/'); i >= 0 {
				pkg = path[:i]
			}
			parsed.files = append(parsed.files, source{
				path: path, pkg: pkg, test: strings.HasSuffix(path, "_test.go"), file: file, lines: strings.Count(string(data), "\n"),
			})
		})
	})
	if len(parsed.files) < 20 {
		t.Fatalf("found only %d Go files; is the root wrong?", len(parsed.files))
	}
	return parsed.files
}

func (s *source) at(pos token.Pos) string {
	return parsed.fset.Position(pos).String()
}

// imports gives the paths that a file imports, with the name each is used by.
func (s *source) imports() map[string]string {
	all := map[string]string{}
	for _, spec := range s.file.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		name := path[strings.LastIndexByte(path, '/')+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		all[path] = name
	}
	return all
}
