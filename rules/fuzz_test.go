package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzParse gives the parser arbitrary files. It may refuse them; it may not panic, hang or
// hand out a bundle with holes.
func FuzzParse(f *testing.F) {
	manifest, _ := os.ReadFile("testdata/good/payments/bundle.yaml")
	rules, _ := os.ReadFile("testdata/good/payments/payments.yaml")
	tests, _ := os.ReadFile("testdata/good/payments/payments_test.yaml")
	f.Add(manifest, rules, tests)
	f.Add([]byte("vigil: 1\nfiles: [payments.yaml]\nprofiles: {default: {}}"), rules, []byte("a: &a [*a]"))
	for _, hostile := range []string{
		"", "---\n---\n", "a: &a [*a, *a]", "{", "[[[[", "? ? ? ?", "\xff\xfe", "\xef\xbb\xbfvigil: 1", "a: !!binary x",
		"vigil: 1\nrules: [{id: r, effect: deny, when: |2\n    x}]", "%TAG ! !\n---\nvigil: 1", "<<: {a: b}", "\r", "- \t- a",
	} {
		f.Add([]byte(hostile), []byte(hostile), []byte(hostile))
		f.Add(manifest, []byte(hostile), tests)
		f.Add(manifest, rules, []byte(hostile))
	}
	paths, _ := filepath.Glob("testdata/bad/*.txtar")
	for _, path := range paths {
		if archive, err := txtar.ParseFile(path); err == nil {
			for _, file := range archive.Files {
				f.Add(manifest, file.Data, tests)
				f.Add(manifest, rules, file.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, manifest, rules, tests []byte) {
		fsys := fstest.MapFS{
			manifestName:         {Data: manifest},
			"payments.yaml":      {Data: rules},
			"payments_test.yaml": {Data: tests},
		}
		b, errs := Parse(fsys)
		if len(errs) > 0 {
			errs = withConditions(b, errs)
		}
		if len(errs) > maxErrors+1 {
			t.Fatalf("%d errors", len(errs))
		}
		for _, e := range errs {
			if text := e.String(); e.Message == "" || strings.ContainsAny(text, "\x1b\x00") {
				t.Fatalf("%q", text)
			}
			if e.Pos.Line > 0 {
				if _, ok := b.text(e.Pos.File).line(e.Pos.Line); !ok {
					t.Fatalf("%s is not in the file", e.Pos)
				}
			}
		}
		for _, r := range b.Rules {
			for line := range strings.Count(r.When, "\n") + 2 {
				b.whenError(r, line, 3, "x")
			}
			if len(errs) == 0 && (r.ID == "" || r.When == "" || r.Pos.Line == 0) {
				t.Fatalf("%+v", r)
			}
		}
		for _, file := range b.Tests {
			for _, c := range file.Cases {
				if c.Request == nil || c.Entities == nil {
					t.Fatalf("%+v", c)
				}
			}
		}
	})
}
