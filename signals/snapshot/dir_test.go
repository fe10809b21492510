package snapshot

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vigil/disk"
	"vigil/disk/disktest"
	"vigil/signals"
)

// folder is a Dir in memory that remembers what was logged.
func folder() (Dir, *disktest.Memory, *bytes.Buffer) {
	m, log := disktest.New(), &bytes.Buffer{}
	return Dir{Path: "/s", FS: m, Logger: slog.New(slog.NewTextHandler(log, nil))}, m, log
}

// save saves a snapshot of n agents at position n.
func save(t *testing.T, d Dir, n int) string {
	t.Helper()
	meta := metaAt(int64(n))
	meta.Now += 1 // not yet expired, and another name than the clock alone would give
	path, err := d.Save(meta, storeOf(t, n))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func wantNewest(t *testing.T, d Dir, n int) {
	t.Helper()
	meta, store, err := d.Newest(Of(ours), now)
	if err != nil {
		t.Fatal(err)
	}
	if meta.Positions[0] != int64(n) || store.Digest(now) != storeOf(t, n).Digest(now) {
		t.Fatalf("the snapshot at %d, want %d", meta.Positions[0], n)
	}
}

func TestNewestIsTheOneFarthestInTheLog(t *testing.T) {
	d, _, _ := folder()
	if _, _, err := d.Newest(Of(ours), now); !errors.Is(err, ErrNone) {
		t.Errorf("an empty folder: %v", err)
	}
	for _, n := range []int{5, 30, 7} {
		save(t, d, n)
	}
	wantNewest(t, d, 30)
}

func TestNewestOfAFolderThatIsMissing(t *testing.T) {
	d := Dir{Path: filepath.Join(t.TempDir(), "none")}
	if _, _, err := d.Newest(Of(ours), now); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
	if _, err := d.Save(metaAt(3), storeOf(t, 3)); err != nil {
		t.Fatal(err)
	}
	wantNewest(t, d, 3)
}

func TestDamagedSnapshotFallsBackToAnOlderOneAndSaysSo(t *testing.T) {
	d, m, log := folder()
	for _, n := range []int{1, 2, 3} {
		save(t, d, n)
	}
	for i, n := range []int{3, 2} {
		path := filepath.Join("/s", fileNameOf(t, m, i))
		data := m.Contents(path)
		data[len(data)/2] ^= 1
		m.Put(path, data)
		wantNewest(t, d, n-1)
		if !strings.Contains(log.String(), path) || !strings.Contains(log.String(), "damaged snapshot") {
			t.Errorf("logged: %s", log)
		}
		log.Reset()
	}
	last := filepath.Join("/s", fileNameOf(t, m, 2))
	m.Put(last, m.Contents(last)[:50])
	_, _, err := d.Newest(Of(ours), now)
	if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), last) {
		t.Errorf("all damaged: %v", err)
	}
}

// fileNameOf gives the i-th newest snapshot.
func fileNameOf(t *testing.T, m *disktest.Memory, i int) string {
	t.Helper()
	names, err := Dir{Path: "/s", FS: m}.names()
	if err != nil || i >= len(names) {
		t.Fatalf("%v, %v", names, err)
	}
	return names[i]
}

func TestSnapshotOfAnotherLogIsRefusedClearly(t *testing.T) {
	d, _, log := folder()
	save(t, d, 3)
	meta := metaAt(9)
	meta.Log = theirs
	if _, err := d.Save(meta, storeOf(t, 9)); err != nil {
		t.Fatal(err)
	}
	wantNewest(t, d, 3)
	if !strings.Contains(log.String(), "it is of log 09090900, not of log 01020300") {
		t.Errorf("logged: %s", log)
	}
	_, _, err := d.Newest(Of(signals.LogID{5}), now)
	if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "not of log 05000000") {
		t.Errorf("both of other logs: %v", err)
	}
	// Nor does it count, or go, when old ones are removed.
	save(t, d, 4)
	kept, err := d.Retain(2, Of(ours))
	if err != nil || len(kept.Good) != 2 || len(kept.Removed) != 0 || kept.TrimBefore[0] != 3 {
		t.Errorf("%+v, %v", kept, err)
	}
}

func TestRetainKeepsTheNewestGoodOnesAndTrimsToTheOlderOfTwo(t *testing.T) {
	d, m, _ := folder()
	kept, err := d.Retain(2, Of(ours))
	if err != nil || kept.TrimBefore != nil {
		t.Errorf("empty: %+v, %v", kept, err)
	}
	save(t, d, 10)
	if kept, err = d.Retain(2, Of(ours)); err != nil || kept.TrimBefore != nil || len(kept.Good) != 1 {
		t.Errorf("one alone must not let the log be trimmed: %+v, %v", kept, err)
	}
	for _, n := range []int{20, 30, 40, 50} {
		save(t, d, n)
	}
	// The newest is damaged: it neither counts nor lets a good one go.
	newest := filepath.Join("/s", fileNameOf(t, m, 0))
	whole := m.Contents(newest)
	bad := bytes.Clone(whole)
	bad[200] ^= 4
	m.Put(newest, bad)
	kept, err = d.Retain(1, Of(ours)) // fewer than two is two
	if err != nil {
		t.Fatal(err)
	}
	if len(kept.Good) != 2 || kept.Good[0].Meta.Positions[0] != 40 || kept.TrimBefore[0] != 30 || len(kept.Removed) != 3 {
		t.Errorf("%+v", kept)
	}
	wantNewest(t, d, 40)
	if names, _ := m.ReadDir("/s"); len(names) != 2 {
		t.Errorf("left: %v", names)
	}
}

func TestRetainRemovesNothingWhileTooFewAreGood(t *testing.T) {
	d, m, _ := folder()
	for _, n := range []int{1, 2, 3} {
		save(t, d, n)
	}
	for i := range 2 {
		m.Put(filepath.Join("/s", fileNameOf(t, m, i)), []byte("damaged"))
	}
	kept, err := d.Retain(2, Of(ours))
	if err != nil || len(kept.Removed) != 0 || kept.TrimBefore != nil || len(kept.Good) != 1 {
		t.Errorf("%+v, %v", kept, err)
	}
}

func TestRetainDoesNotTakeAnUnreadableDiskForDamage(t *testing.T) {
	d, m, _ := folder()
	for _, n := range []int{1, 2, 3, 4} {
		save(t, d, n)
	}
	newest := fileNameOf(t, m, 0)
	m.SetFault(func(op disktest.Op, name string, n int) (int, error) {
		if op == disktest.OpRead && filepath.Base(name) == newest {
			return 0, syscall.EIO
		}
		return n, nil
	})
	kept, err := d.Retain(2, Of(ours))
	if !errors.Is(err, syscall.EIO) || slices.Contains(kept.Removed, filepath.Join("/s", newest)) || kept.TrimBefore[0] != 2 {
		t.Errorf("%+v, %v", kept, err)
	}
}

func TestPositionsOfSeveralPartitionsTrimEachToItsLower(t *testing.T) {
	got := lower(signals.Positions{0: 10, 1: 5, 2: 3}, signals.Positions{0: 8, 1: 6})
	if len(got) != 3 || got[0] != 8 || got[1] != 5 || got[2] != 0 {
		t.Error(got)
	}
}

// Whatever fails or is forgotten while one is saved, the newest good one is found: the new
// one if Save succeeded, else that or the one before.
func TestSaveIsAllOrNothing(t *testing.T) {
	for _, crash := range []bool{false, true} {
		for step := range 14 {
			d, m, _ := folder()
			save(t, d, 1)
			call := 0
			m.SetFault(func(_ disktest.Op, _ string, asked int) (int, error) {
				if call++; call > step {
					return asked / 2, syscall.ENOSPC
				}
				return asked, nil
			})
			_, saveErr := d.Save(metaAt(2), storeOf(t, 2))
			if crash {
				m.Crash(rand.New(rand.NewPCG(7, uint64(step))))
			}
			m.SetFault(nil)
			meta, _, err := d.Newest(Of(ours), now)
			if err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			if saveErr == nil && meta.Positions[0] != 2 {
				t.Fatalf("step %d: saved, and not found", step)
			}
			if saveErr == nil {
				break
			}
			if _, err := d.Save(metaAt(3), storeOf(t, 3)); err != nil {
				t.Fatalf("step %d: the next one: %v", step, err)
			}
			if names, _ := m.ReadDir("/s"); slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".tmp") }) {
				t.Errorf("left: %v", names)
			}
		}
	}
}

// A disk that takes the bytes and gives back others must not count as a saved snapshot.
func TestSaveReadsBackWhatItWrote(t *testing.T) {
	d, m, _ := folder()
	liar := &flipping{FS: m}
	d.FS = liar
	if path, err := d.Save(metaAt(2), storeOf(t, 2)); err == nil {
		t.Fatalf("saved %s", path)
	}
	if names, _ := m.ReadDir("/s"); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}

// flipping changes a byte of every file after it was written.
type flipping struct{ disk.FS }

func (f *flipping) Rename(oldName, newName string) error {
	if err := f.FS.Rename(oldName, newName); err != nil {
		return err
	}
	m := f.FS.(*disktest.Memory)
	data := m.Contents(newName)
	data[len(data)-100] ^= 1
	m.Put(newName, data)
	return nil
}

// A snapshot whose name is not durable does not let the log be trimmed.
func TestRetainCountsOnlyWhatACrashLeaves(t *testing.T) {
	d, m, _ := folder()
	save(t, d, 1)
	m.SetFault(func(op disktest.Op, _ string, n int) (int, error) {
		if op == disktest.OpSyncDir {
			return 0, syscall.EIO
		}
		return n, nil
	})
	if _, err := d.Save(metaAt(2), storeOf(t, 2)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("saved: %v", err)
	}
	if kept, err := d.Retain(2, Of(ours)); !errors.Is(err, syscall.EIO) || kept.TrimBefore != nil {
		t.Errorf("%+v, %v", kept, err)
	}
	m.SetFault(nil)
	kept, err := d.Retain(2, Of(ours))
	if err != nil || kept.TrimBefore[0] != 1 {
		t.Fatalf("%+v, %v", kept, err)
	}
	m.Crash(rand.New(rand.NewPCG(3, 3)))
	wantNewest(t, d, 2)
}
