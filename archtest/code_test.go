package archtest

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// uses reports every use of package path's members in a file, as "Name".
func uses(s *source, path string, visit func(name string, node ast.Node)) {
	local, ok := s.imports()[path]
	if !ok {
		return
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == local {
				visit(sel.Sel.Name, n)
			}
		}
		return true
	})
}

// pure are the packages whose answer is a function of what they are given.
var pure = []string{"authz", "authzen", "posture", "rules", "cache", "identity", "engine"}

func TestPurePackagesReadNoClock(t *testing.T) {
	clocks := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Sleep"}
	for _, s := range sources(t) {
		if s.test || !slices.Contains(pure, s.pkg) {
			continue
		}
		uses(&s, "time", func(name string, n ast.Node) {
			if slices.Contains(clocks, name) {
				t.Errorf("%s: time.%s: package %s reads no clock; every now is an argument, so that a decision can be made again", s.at(n.Pos()), name, s.pkg)
			}
		})
	}
}

func TestPurePackagesStartNoGoroutine(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !slices.Contains(pure, s.pkg) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: package %s starts no goroutine; its caller decides what runs beside what", s.at(n.Pos()), s.pkg)
			}
			return true
		})
	}
}

func TestOnlyTheProgramReadsTheEnvironment(t *testing.T) {
	reads := []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "UserHomeDir", "UserCacheDir", "UserConfigDir"}
	for _, s := range sources(t) {
		if s.test || s.pkg == "cmd/pdp" {
			continue
		}
		uses(&s, "os", func(name string, n ast.Node) {
			if slices.Contains(reads, name) {
				t.Errorf("%s: os.%s: only cmd/pdp reads the environment; what configures a package is an argument", s.at(n.Pos()), name)
			}
		})
	}
}

func TestOnlyMainEndsTheProcess(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.path == "cmd/pdp/main.go" || s.path == "loadtest/main.go" || s.path == "e2e/broker/kafka/main.go" ||
			s.path == "examples/soc/idp/main.go" {
			continue
		}
		uses(&s, "os", func(name string, n ast.Node) {
			if name == "Exit" {
				t.Errorf("%s: os.Exit: return an error instead; only main ends the process", s.at(n.Pos()))
			}
		})
	}
}

func TestNothingIsLeftUnwritten(t *testing.T) {
	marks := []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", `panic("un` + `written")`}
	for _, s := range sources(t) {
		for _, group := range s.file.Comments {
			for _, mark := range marks {
				if strings.Contains(group.Text(), mark) {
					t.Errorf("%s: a comment says %s: do it, or write down where it stands as a limit", s.at(group.Pos()), mark)
				}
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Value == `"un`+`written"` {
				t.Errorf("%s: unwritten", s.at(n.Pos()))
			}
			return true
		})
	}
}

func TestEveryPackageHasExactlyOneComment(t *testing.T) {
	comments := map[string][]string{}
	names := map[string]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		names[s.pkg] = s.file.Name.Name
		if s.file.Doc != nil {
			comments[s.pkg] = append(comments[s.pkg], s.path)
			begin := fmt.Sprintf("Package %s ", s.file.Name.Name)
			if s.file.Name.Name == "main" {
				begin = "Command "
			}
			if !strings.HasPrefix(s.file.Doc.Text(), begin) {
				t.Errorf("%s: the package comment should begin with %q", s.path, begin)
			}
		}
	}
	for pkg := range names {
		if len(comments[pkg]) != 1 {
			t.Errorf("package %s has %d package comments, want one: %v", pkg, len(comments[pkg]), comments[pkg])
		}
	}
}

// A file has one idea. One that is longer than 400 lines probably has two.
const (
	longFile    = 400
	tooLongFile = 450
	tooLongTest = 700
)

func TestNoFileHasOutgrownItsIdea(t *testing.T) {
	for _, s := range sources(t) {
		switch {
		case s.lines > tooLongFile && !s.test, s.lines > tooLongTest:
			t.Errorf("%s has %d lines: split it by idea", s.path, s.lines)
		case s.lines > longFile && !s.test:
			t.Logf("%s has %d lines: is it still one idea?", s.path, s.lines)
		}
		for _, vague := range []string{"utils", "util", "helpers", "helper", "common", "misc"} {
			if base := s.path[strings.LastIndexByte(s.path, '/')+1:]; strings.TrimSuffix(strings.TrimSuffix(base, ".go"), "_test") == vague {
				t.Errorf("%s: name a file for what is in it", s.path)
			}
		}
	}
}
