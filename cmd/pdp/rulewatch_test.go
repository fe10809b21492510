package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// watched watches dir and gives a channel that hears of every reload.
func watched(t *testing.T, dir string) chan struct{} {
	t.Helper()
	changed := make(chan struct{}, 100)
	w, err := newRuleWatcher(dir, func() { changed <- struct{}{} }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		w.Run(ctx)
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return changed
}

func hear(t *testing.T, changed chan struct{}, what string) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatalf("%s was not noticed", what)
	}
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatcherNoticesFilesThatAreWrittenReplacedAndRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rules")
	put(t, filepath.Join(dir, "a.yaml"), "1")
	changed := watched(t, dir)
	put(t, filepath.Join(dir, "a.yaml"), "2")
	hear(t, changed, "a written file")
	put(t, filepath.Join(dir, ".a.yaml.tmp"), "3")
	must(t, os.Rename(filepath.Join(dir, ".a.yaml.tmp"), filepath.Join(dir, "a.yaml")))
	hear(t, changed, "a replaced file")
	must(t, os.Remove(filepath.Join(dir, "a.yaml")))
	hear(t, changed, "a removed file")
}

// TestWatcherNoticesTheSwapOfAKubernetesVolume does what kubelet's atomic writer does:
// the files are links through ..data, which is replaced by a rename.
func TestWatcherNoticesTheSwapOfAKubernetesVolume(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rules")
	put(t, filepath.Join(dir, "..v1", "a.yaml"), "1")
	must(t, os.Symlink("..v1", filepath.Join(dir, "..data")))
	must(t, os.Symlink(filepath.Join("..data", "a.yaml"), filepath.Join(dir, "a.yaml")))
	changed := watched(t, dir)
	for _, next := range []string{"..v2", "..v3"} {
		put(t, filepath.Join(dir, next, "a.yaml"), next)
		must(t, os.Symlink(next, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		hear(t, changed, "the swap to "+next)
		if got, err := os.ReadFile(filepath.Join(dir, "a.yaml")); err != nil || string(got) != next {
			t.Fatalf("read %q, %v after the swap to %s", got, err, next)
		}
	}
}

// TestWatcherFollowsTheNameOfTheFolder: git-sync and deployments by link replace the
// folder itself, more than once.
func TestWatcherFollowsTheNameOfTheFolder(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "rules")
	put(t, filepath.Join(root, "v1", "a.yaml"), "1")
	must(t, os.Symlink("v1", dir))
	changed := watched(t, dir)
	for _, next := range []string{"v2", "v3"} {
		put(t, filepath.Join(root, next, "a.yaml"), next)
		must(t, os.Symlink(next, filepath.Join(root, "tmp")))
		must(t, os.Rename(filepath.Join(root, "tmp"), dir))
		hear(t, changed, "the folder "+next)
		put(t, filepath.Join(root, next, "a.yaml"), next+" changed")
		hear(t, changed, "a file written in "+next)
	}
	// Gone, and back.
	must(t, os.Remove(dir))
	hear(t, changed, "that the folder is gone")
	put(t, filepath.Join(dir, "a.yaml"), "back")
	hear(t, changed, "that the folder is back")
}

func TestWatcherTakesManyWritesAsFew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rules")
	put(t, filepath.Join(dir, "a.yaml"), "0")
	changed := watched(t, dir)
	const writes = 200
	for i := range writes {
		put(t, filepath.Join(dir, "a.yaml"), string(rune('a'+i%26)))
	}
	hear(t, changed, "the writes")
	if n := len(changed); n > writes/10 {
		t.Errorf("%d reloads for %d writes at once", n+1, writes)
	}
}
