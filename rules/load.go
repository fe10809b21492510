package rules

import "io/fs"

// LoadDir parses and compiles the bundle in dir. The Bundle is returned as far as it
// could be parsed even when errs is not empty; the Set only when it is.
func LoadDir(dir string) (*Bundle, *Set, Errors) { panic("unwritten") }

// Load is LoadDir for any file system.
func Load(fsys fs.FS) (*Bundle, *Set, Errors) {
	bundle, errs := Parse(fsys)
	if len(errs) > 0 {
		return bundle, nil, errs
	}
	set, errs := Compile(bundle)
	return bundle, set, errs
}

// Parse reads bundle.yaml and the files it lists, strictly, and gathers every error.
func Parse(fsys fs.FS) (*Bundle, Errors) { panic("unwritten") }

// Compile checks a bundle's meaning and makes a Set of it, gathering every error.
func Compile(b *Bundle) (*Set, Errors) { panic("unwritten") }
