package rules

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
)

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// onDisk gives the files of a small bundle with n as its rule's id.
func onDisk(n string) map[string]string {
	return map[string]string{
		manifestName: "vigil: 1\nfiles: [a.yaml]\nprofiles: {default: {}}\n",
		"a.yaml":     "vigil: 1\nrules: [{id: " + n + ", effect: deny, when: 'true'}]\n",
	}
}

// mount lays out files as Kubernetes lays out a ConfigMap: every name is a link into ..data,
// which is a link to a directory with the time in its name.
func mount(t *testing.T, dir, version string, files map[string]string) {
	t.Helper()
	writeFiles(t, filepath.Join(dir, version), files)
	swap(t, dir, version)
	for name := range files {
		link := filepath.Join(dir, name)
		if _, err := os.Lstat(link); err != nil {
			if err := os.Symlink(filepath.Join(currentLink, name), link); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func swap(t *testing.T, dir, version string) {
	t.Helper()
	fresh := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(version, fresh); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, filepath.Join(dir, currentLink)); err != nil {
		t.Fatal(err)
	}
}

func TestAKubernetesVolumeIsOneVersion(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "..2026_11_23_09", onDisk("first"))
	b := mustParse(t, os.DirFS(dir))
	if b.Rules[0].ID != "first" {
		t.Fatalf("got %s", b.Rules[0].ID)
	}
	// The volume is swapped after the manifest was read.
	writeFiles(t, filepath.Join(dir, "..2026_11_23_10"), onDisk("second"))
	swapping := &swappingFS{FS: os.DirFS(dir), on: "a.yaml", do: func() { swap(t, dir, "..2026_11_23_10") }}
	b = mustParse(t, swapping)
	if !swapping.done {
		t.Fatal("the test did not swap")
	}
	if b.Rules[0].ID != "second" || !strings.Contains(string(b.Sources["a.yaml"]), "second") {
		t.Errorf("got %s of a volume that was swapped while it was read", b.Rules[0].ID)
	}
}

// swappingFS does something once, before a file is opened.
type swappingFS struct {
	fs.FS
	on   string
	do   func()
	done bool
}

func (f *swappingFS) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, f.on) && !f.done {
		f.done = true
		f.do()
	}
	return f.FS.Open(name)
}

func (f *swappingFS) ReadLink(name string) (string, error)   { return fs.ReadLink(f.FS, name) }
func (f *swappingFS) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(f.FS, name) }

func TestWhatLiesBesideAVolumeIsNoticed(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "..v1", onDisk("first"))
	writeFiles(t, dir, map[string]string{"deny-everything.yaml": "vigil: 1\n"})
	_, errs := Parse(os.DirFS(dir))
	if want := "deny-everything.yaml: lies beside ..data, which does not hold it: it is no part of the bundle"; errs.Error() != want {
		t.Errorf("got %s\nwant %s", errs, want)
	}
}

func TestAVolumeThatPointsElsewhereIsRefused(t *testing.T) {
	for _, target := range []string{"/etc", "../other", "a/b", "visible", ".."} {
		dir := t.TempDir()
		if err := os.Symlink(target, filepath.Join(dir, currentLink)); err != nil {
			t.Fatal(err)
		}
		if _, errs := Parse(os.DirFS(dir)); !strings.Contains(errs.Error(), "..data points to") {
			t.Errorf("%s: %v", target, errs)
		}
	}
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, onDisk("first"))
	if err := syscall.Mkfifo(filepath.Join(dir, "b.yaml"), 0o644); err != nil {
		t.Skip("no pipes here:", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "c.yaml")); err != nil {
		t.Fatal(err)
	}
	_, errs := Parse(os.DirFS(dir)) // opening the pipe would wait for ever
	want := "b.yaml: is not a regular file\nc.yaml: cannot be read: no such file or directory\nsub: is a directory; a bundle has none"
	if got := errs.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDotNamesAreNoPartOfABundle(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, onDisk("first"))
	writeFiles(t, dir, map[string]string{".a.yaml.swp": "junk", ".gitignore": "x"})
	writeFiles(t, filepath.Join(dir, ".git"), map[string]string{"config": "x"})
	b := mustParse(t, os.DirFS(dir))
	if got := keys(b.Sources); !slices.Equal(got, []string{"a.yaml", manifestName}) {
		t.Errorf("sources: %q", got)
	}
}

func TestADirectoryThatIsNotThere(t *testing.T) {
	_, errs := Parse(os.DirFS(filepath.Join(t.TempDir(), "nowhere")))
	if got, want := errs.Error(), "the bundle cannot be read: there is no such folder"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFilesAreReadOnce: what is parsed, what is digested and what is shown are the same
// bytes.
func TestFilesAreReadOnce(t *testing.T) {
	counting := &countingFS{FS: os.DirFS("testdata/good/payments"), opened: map[string]int{}}
	mustParse(t, counting)
	for _, name := range []string{manifestName, "payments.yaml", "payments_test.yaml"} {
		if counting.opened[name] != 1 {
			t.Errorf("%s was opened %d times", name, counting.opened[name])
		}
	}
}

type countingFS struct {
	fs.FS
	opened map[string]int
}

func (f *countingFS) Open(name string) (fs.File, error) {
	f.opened[name]++
	return f.FS.Open(name)
}

func (f *countingFS) Stat(name string) (fs.FileInfo, error) { return fs.Stat(f.FS, name) }

func TestSaveAndLoadGiveTheSameBytes(t *testing.T) {
	b := mustParse(t, os.DirFS("testdata/good/everything"))
	dir := filepath.Join(t.TempDir(), "deep", "last-good")
	for range 3 {
		if err := b.Save(dir); err != nil {
			t.Fatal(err)
		}
		again := mustParse(t, os.DirFS(dir))
		for _, name := range keys(b.Sources) {
			if string(again.Sources[name]) != string(b.Sources[name]) {
				t.Errorf("%s differs", name)
			}
		}
		if len(again.Sources) != len(b.Sources) {
			t.Errorf("sources: %q", keys(again.Sources))
		}
	}
	other := mustParse(t, os.DirFS("testdata/good/payments"))
	if err := other.Save(dir); err != nil {
		t.Fatal(err)
	}
	if again := mustParse(t, os.DirFS(dir)); len(again.Rules) != 3 {
		t.Errorf("got %d rules of the bundle that was saved last", len(again.Rules))
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("what earlier saves wrote is still there: %v %v", entries, err)
	}
}

// TestASaveThatStopsHalfWayChangesNothing lays out what a crash in the middle of Save leaves.
func TestASaveThatStopsHalfWayChangesNothing(t *testing.T) {
	b := mustParse(t, os.DirFS("testdata/good/payments"))
	dir := t.TempDir()
	if err := b.Save(dir); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, savedPrefix+"half")
	writeFiles(t, half, map[string]string{manifestName: "vigil: 1\nfiles: [deny.y"})
	if err := os.Symlink(filepath.Base(half), half+".link"); err != nil {
		t.Fatal(err)
	}
	if again := mustParse(t, os.DirFS(dir)); len(again.Rules) != 3 {
		t.Errorf("got %d rules", len(again.Rules))
	}
	if err := b.Save(dir); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("the remains are still there: %v", entries)
	}
}

func TestSaveDoesNotTouchADirectoryOfSomebodyElse(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"precious.yaml": "x"})
	b := mustParse(t, os.DirFS("testdata/good/payments"))
	if err := b.Save(dir); err == nil || !strings.Contains(err.Error(), "precious.yaml") {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("it holds %v", entries)
	}
}

func TestHostileFileNamesAreShownHarmlessly(t *testing.T) {
	_, errs := Parse(fstest.MapFS{
		manifestName:              {Data: []byte("vigil: 1\nfiles: []\nprofiles: {default: {}}\n")},
		"evil\x1b[2J.yaml":        {Data: []byte("x")},
		"evil\x1b_test.yaml":      {Data: []byte("x")},
		strings.Repeat("x", 2000): {Data: []byte("x")},
	})
	if len(errs) != 3 || strings.Contains(errs.Error(), "\x1b") || len(errs.Error()) > 2000 {
		t.Errorf("got %q", errs.Error())
	}
}
