package rules

import (
	"io/fs"
	"os"
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
		return bundle, nil, errs
	}
	set, errs := Compile(bundle)
	return bundle, set, errs
}
