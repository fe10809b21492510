package rules

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what the tests got into their golden files")

// wantName is the file of an archive that holds the messages.
const wantName = "want"

// archiveFS gives the files of an archive, without what the test expects.
func archiveFS(a *txtar.Archive) fs.FS {
	files := make(fstest.MapFS)
	for _, f := range a.Files {
		if f.Name != wantName {
			files[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	return files
}

// TestEveryWrongBundleIsToldExactly is the catalogue of what can be wrong with a bundle
// without looking into expressions, with the messages that an author gets.
func TestEveryWrongBundleIsToldExactly(t *testing.T) {
	paths, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no catalogue", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, errs := Parse(archiveFS(archive))
			if len(errs) == 0 {
				t.Error("the bundle was accepted")
			}
			got := []byte(errs.Error() + "\n")
			var want []byte
			kept := archive.Files[:0]
			for _, f := range archive.Files {
				if f.Name == wantName {
					want = f.Data
				} else {
					kept = append(kept, f)
				}
			}
			if *update {
				archive.Files = append(kept, txtar.File{Name: wantName, Data: got})
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
