package disk_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"vigil/disk"
	"vigil/disk/disktest"
)

// text writes s in small pieces, so that a fault can fall between them.
func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		for _, b := range []byte(s) {
			if _, err := w.Write([]byte{b}); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestWriteFileReplacesWholeAndRemovesUnfinished(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for _, content := range []string{"first", "the second, longer"} {
		if err := disk.WriteFile(disk.OS, name, 0o600, text(content)); err != nil {
			t.Fatal(err)
		}
		got, err := disk.ReadFile(disk.OS, name, 100)
		if err != nil || string(got) != content {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	if _, err := disk.ReadFile(disk.OS, name, 3); err == nil {
		t.Error("a file over the limit was read")
	}
	broken := errors.New("broken")
	if err := disk.WriteFile(disk.OS, name, 0o600, func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error of the writer: %v", err)
	}
	if err := os.WriteFile(name+".tmp", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := disk.RemoveUnfinished(disk.OS, dir); err != nil {
		t.Fatal(err)
	}
	names, err := disk.OS.ReadDir(dir)
	if err != nil || len(names) != 1 || names[0] != "f" {
		t.Errorf("left over: %v, %v", names, err)
	}
}

// A crash, or an error in any call, leaves the old contents or the new, never a mixture;
// after success a crash leaves the new.
func TestWriteFileIsAllOrNothing(t *testing.T) {
	const before, after = "the old contents", "the new and longer contents"
	for step := range 60 {
		for _, crashed := range []bool{true, false} {
			m := disktest.New()
			if err := disk.WriteFile(m, "/d/f", 0o600, text(before)); err != nil {
				t.Fatal(err)
			}
			call := 0
			m.SetFault(func(_ disktest.Op, _ string, asked int) (int, error) {
				if call++; call > step {
					return asked / 2, syscall.EIO
				}
				return asked, nil
			})
			err := disk.WriteFile(m, "/d/f", 0o600, text(after))
			if crashed {
				m.Crash(rand.New(rand.NewPCG(1, uint64(step))))
			}
			m.SetFault(nil)
			got, readErr := disk.ReadFile(m, "/d/f", 1000)
			if readErr != nil {
				t.Fatalf("step %d: %v", step, readErr)
			}
			if s := string(got); s != after && (s != before || err == nil) {
				t.Fatalf("step %d, crash %v, error %v: found %q", step, crashed, err, s)
			}
		}
	}
}

func TestLockNamesItsHolderAndEndsWithClose(t *testing.T) {
	name := filepath.Join(t.TempDir(), "LOCK")
	first, err := disk.OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = disk.OS.Lock(name)
	var locked *disk.LockedError
	if !errors.As(err, &locked) || locked.PID != strconv.Itoa(os.Getpid()) || !strings.Contains(err.Error(), "process "+locked.PID) {
		t.Fatalf("second lock: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := disk.OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

// The file system in memory must forget what was not synced, or tests on it prove nothing.
func TestMemoryForgetsWhatWasNotSynced(t *testing.T) {
	lostBytes, lostNames, lostAfterFailedSync := false, false, true
	for seed := range uint64(50) {
		m := disktest.New()
		f, _ := m.Open("/d/a", os.O_CREATE|os.O_RDWR, 0)
		_, _ = f.WriteAt([]byte("synced"), 0)
		_ = f.Sync()
		_ = m.SyncDir("/d")
		_, _ = f.WriteAt([]byte("unsynced"), 6)
		_, _ = m.Open("/d/b", os.O_CREATE, 0)
		m.Crash(rand.New(rand.NewPCG(seed, 0)))
		got := m.Contents("/d/a")
		if !bytes.HasPrefix(got, []byte("synced")) {
			t.Fatalf("seed %d: synced bytes are gone: %q", seed, got)
		}
		lostBytes = lostBytes || len(got) < len("syncedunsynced")
		lostNames = lostNames || len(m.Names()) == 1
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Fatal("a file outlived its process")
		}

		m = disktest.New()
		f, _ = m.Open("/d/a", os.O_CREATE|os.O_RDWR, 0)
		_ = m.SyncDir("/d")
		_, _ = f.WriteAt([]byte("x"), 0)
		m.SetFault(func(disktest.Op, string, int) (int, error) { return 0, syscall.EIO })
		if f.Sync() == nil {
			t.Fatal("the fault did not fail")
		}
		m.SetFault(nil)
		if err := f.Sync(); err != nil { // the kernel has forgotten the error
			t.Fatal(err)
		}
		m.Crash(rand.New(rand.NewPCG(seed, 0)))
		lostAfterFailedSync = lostAfterFailedSync && len(m.Contents("/d/a")) == 0
	}
	if !lostBytes || !lostNames || !lostAfterFailedSync {
		t.Errorf("forgot bytes %v, names %v, bytes after a failed sync %v", lostBytes, lostNames, lostAfterFailedSync)
	}
}

func TestMemoryRunsOutOfSpaceInTheMiddleOfAWrite(t *testing.T) {
	m := disktest.New()
	m.SetCapacity(4)
	f, err := m.Open("/d/a", os.O_CREATE|os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.WriteAt([]byte("123456"), 0)
	if n != 4 || !errors.Is(err, syscall.ENOSPC) || m.Used() != 4 {
		t.Errorf("wrote %d, %v; used %d", n, err, m.Used())
	}
	if _, err := m.Open("/d/missing", os.O_RDONLY, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
