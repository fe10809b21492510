//go:build unix

package broker

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestJarsThatAreNotThereWholeAreFetchedAnew(t *testing.T) {
	jar := "kafka_2.13-" + Version + ".jar"
	folder := func() string {
		dir := t.TempDir()
		for name, text := range map[string]string{jar: "the broker", "other.jar": "what it needs"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := writeManifest(dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, c := range map[string]struct {
		harm func(dir string) error
		want bool
	}{
		"untouched":     {func(string) error { return nil }, true},
		"one more file": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) }, true},
		"one is gone":   {func(dir string) error { return os.Remove(filepath.Join(dir, "other.jar")) }, false},
		"one is cut":    {func(dir string) error { return os.Truncate(filepath.Join(dir, jar), 3) }, false},
		"one is a folder": {func(dir string) error {
			os.Remove(filepath.Join(dir, jar))
			return os.Mkdir(filepath.Join(dir, jar), 0o700)
		}, false},
		"no manifest":       {func(dir string) error { return os.Remove(filepath.Join(dir, manifestName)) }, false},
		"an empty manifest": {func(dir string) error { return os.Truncate(filepath.Join(dir, manifestName), 0) }, false},
		"the manifest is nonsense": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, manifestName), []byte("all is well\n"), 0o600)
		}, false},
		"no folder": {os.RemoveAll, false},
	} {
		dir := folder()
		if err := c.harm(dir); err != nil {
			t.Fatal(err)
		}
		if got := whole(dir); got != c.want {
			t.Errorf("%s: whole says %t", name, got)
		}
	}
	empty := t.TempDir()
	if err := writeManifest(empty); err == nil {
		t.Error("a folder without Kafka has got a manifest")
	}
}

// The usual folder is in a place where anyone may make one, and what is run is written there.
func TestAFolderThatOthersMayWriteIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := New(Config{Dir: filepath.Join(dir, "ours")}); err != nil {
		t.Error(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "ours"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{open, link} {
		if _, err := New(Config{Dir: path}); err == nil {
			t.Errorf("%s is taken", path)
		}
	}
}

// A pid that a broker has left behind may be another program's by now.
func TestAPidOfAnotherProgramIsNoBroker(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "x", "0", "-1", "1", "99999999999999999999"} {
		if err := os.WriteFile(filepath.Join(dir, pidName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := New(Config{Dir: dir}); err != nil || b.Pid() != 0 {
			t.Errorf("%q: %v, %v", text, b, err)
		}
	}
	own := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(filepath.Join(dir, pidName), []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{Dir: dir})
	if err != nil || b.Pid() != 0 || b.Stop() != nil || b.Kill() != nil {
		t.Errorf("%v, %v", b, err)
	}
}
