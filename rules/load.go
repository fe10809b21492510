package rules

import (
	"io/fs"
	"os"
	"slices"
	"strings"
)

// LoadOptions says what is demanded of a bundle besides being right.
type LoadOptions struct {
	RequireSeal bool // bundle.yaml must hold the SHA-256 of the files it lists

	ignoreSeal bool
}

// LoadDir parses and compiles the bundle in dir. The Bundle is returned as far as it
// could be parsed even when errs is not empty; the Set only when it is. It reads each file
// once, through symbolic links as Kubernetes makes them.
func LoadDir(dir string) (*Bundle, *Set, Errors) { return LoadDirWith(dir, LoadOptions{}) }

// LoadDirWith is LoadDir with demands.
func LoadDirWith(dir string, options LoadOptions) (*Bundle, *Set, Errors) {
	return load(os.DirFS(dir), options)
}

// Load is LoadDir for any file system.
func Load(fsys fs.FS) (*Bundle, *Set, Errors) { return load(fsys, LoadOptions{}) }

func load(fsys fs.FS, options LoadOptions) (*Bundle, *Set, Errors) {
	bundle, errs := parseFolder(readFolder(fsys), options)
	if len(errs) > 0 {
		return bundle, nil, withConditions(bundle, errs)
	}
	set, errs := Compile(bundle)
	return bundle, set, errs
}

// withConditions adds to errs, which parsing found, what is wrong with the conditions of the
// rules that are otherwise right, so that an author hears of everything at once. Where
// anything but rules and tests is wrong it adds nothing: a condition that reads what could
// not be declared is not what is to be mended.
func withConditions(bundle *Bundle, errs Errors) Errors {
	broken := map[string]bool{}
	for _, e := range errs {
		switch {
		case e.Rule != "":
			broken[e.Rule] = true
		case !strings.HasSuffix(e.Pos.File, testSuffix):
			return errs
		}
	}
	rest := *bundle
	rest.Rules = slices.DeleteFunc(slices.Clone(bundle.Rules), func(r *Rule) bool { return broken[r.ID] })
	_, more := Compile(&rest)
	return finishErrors(slices.Concat(errs, more))
}
