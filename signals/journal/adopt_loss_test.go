package journal

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"vigil/disk"
	"vigil/disk/disktest"
	"vigil/signals"
)

// What an operator is told to send again: neither less than what is gone nor, where that is
// known, more.
func TestAdoptSaysWhatIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		prepare  func(m *disktest.Memory, old signals.LogID)
		snapshot func(old signals.LogID) *SnapshotAt
		from, to int64
	}{
		"nothing": {from: 12, to: 12},
		"a damaged tail": {
			prepare: func(m *disktest.Memory, _ signals.LogID) { damageRecord(t, m) },
			from:    4, to: 12,
		},
		"a damaged tail, with a snapshot behind its beginning": {
			prepare:  func(m *disktest.Memory, _ signals.LogID) { damageRecord(t, m) },
			snapshot: func(old signals.LogID) *SnapshotAt { return &SnapshotAt{old, 10} },
			from:     10, to: 12,
		},
		"a sound log, with a snapshot of another": {
			snapshot: func(signals.LogID) *SnapshotAt { return &SnapshotAt{signals.LogID{7}, 5} },
			from:     0, to: 12,
		},
		"a sound log, with the watermark of another": {
			prepare: func(m *disktest.Memory, _ signals.LogID) {
				w := watermarkWriter{fsys: m, dir: dir}
				if err := w.replace(watermark{log: signals.LogID{7}, offset: 999}); err != nil {
					t.Fatal(err)
				}
			},
			from: 12, to: 12,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, old := closedJournal(t)
			if c.prepare != nil {
				c.prepare(m, old)
			}
			var snapshot *SnapshotAt
			if c.snapshot != nil {
				snapshot = c.snapshot(old)
			}
			if a := mustAdopt(t, m, snapshot); a.LostFrom != c.from || a.LostTo != c.to {
				t.Errorf("lost from %d to %d, want %d to %d", a.LostFrom, a.LostTo, c.from, c.to)
			}
			_ = mustOpen(t, m)
		})
	}
}

// damageRecord damages the first record of the segment that begins at record 4.
func damageRecord(t *testing.T, m *disktest.Memory) {
	path := filepath.Join(dir, segmentName(2, 4))
	data := m.Contents(path)
	if data == nil {
		t.Fatalf("no such segment: %v", m.Names())
	}
	data[headerSize+markFrame+5] ^= 1
	m.Put(path, data)
}

// What the page cache held when the old log was read is the past of a log of its own now: it
// must not go with the power.
func TestWhatIsAdoptedSurvivesTheLossOfPower(t *testing.T) {
	sound, _ := closedJournal(t)
	names, err := segmentNames(sound, dir)
	if err != nil {
		t.Fatal(err)
	}
	last := filepath.Join(dir, names[len(names)-1])
	whole := sound.Contents(last)
	for seed := range uint64(20) {
		m := sound.Clone()
		m.Put(last, whole[:headerSize])
		f, err := m.Open(last, 2, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(whole[headerSize:], headerSize); err != nil { // and not synced
			t.Fatal(err)
		}
		_ = f.Close()
		a := mustAdopt(t, m, nil)
		m.Crash(newRandom(seed))
		j, err := openIn(t, m)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		wantRecords(t, contents(t, j), 0, int(a.From))
		_ = j.Close()
	}
}

// What was acknowledged before an adoption counts as acknowledged after it: a loss of it is
// noticed, though nothing has been appended since.
func TestALossBehindAnAdoptionIsNoticed(t *testing.T) {
	m, _ := closedJournal(t)
	mustAdopt(t, m, nil)
	names, err := segmentNames(m, dir)
	if err != nil || len(names) < 3 {
		t.Fatal(names, err)
	}
	w, err := readWatermark(m, dir)
	if err != nil || w.offset != 12 {
		t.Errorf("watermark %+v, %v", w, err)
	}
	for _, gone := range [][]string{names[len(names)-2:], names[len(names)-2 : len(names)-1], names[:1]} { // the last one is empty
		broken := m.Clone()
		for _, name := range gone {
			broken.Delete(filepath.Join(dir, name))
		}
		if j, err := openIn(t, broken); err == nil && j.FirstOffset() == 0 || err != nil && !errors.As(err, new(*DamageError)) {
			t.Errorf("without %s: %v", gone, err)
		}
	}
}

// A log without segments that knows what it is, and a snapshot of its very beginning.
func TestAdoptWithoutSegmentsBehindASnapshotOfTheBeginning(t *testing.T) {
	m, old := closedJournal(t)
	names, err := segmentNames(m, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		m.Delete(filepath.Join(dir, name))
	}
	a := mustAdopt(t, m, &SnapshotAt{old, 0})
	j := mustOpen(t, m)
	if j.ID() != a.New || j.Head() != 0 || j.Continues(old, at(0)) != nil || a.LostTo != 12 {
		t.Errorf("%+v: from %d to %d", a, j.FirstOffset(), j.Head())
	}
	appendSome(t, j, 0, 3)
}

// Positions of the old logs beyond where a new one parted from them are never its own, also
// where a later adoption went back behind that.
func TestAncestorsEndWhereTheNewestLogBegins(t *testing.T) {
	m, first := closedJournal(t)
	second := mustAdopt(t, m, nil).New
	damageRecord(t, m)
	third := mustAdopt(t, m, nil) // begins at 4, before the second one did
	if third.From != 4 {
		t.Fatalf("%+v", third)
	}
	j := mustOpen(t, m)
	for _, log := range []signals.LogID{first, second} {
		if j.Continues(log, at(4)) != nil || j.Continues(log, at(5)) == nil || j.Continues(log, at(12)) == nil {
			t.Errorf("positions of %x behind the parting are taken for ours", log[:2])
		}
	}
}

// An identity remembers a bounded number of logs. Rather than forget one whose records are
// still there, and set them aside the next time, it refuses and changes nothing.
func TestAdoptNeverForgetsALogWhoseRecordsAreThere(t *testing.T) {
	m, first := closedJournal(t)
	adopted := 0
	var err error
	for err == nil && adopted <= 2*maxAncestors {
		if _, err = Adopt(dir, Options{FS: m}, nil); err == nil {
			adopted++
		}
	}
	if err == nil || !strings.Contains(err.Error(), "records of the first log are still in it") || adopted != maxAncestors {
		t.Fatalf("%d adoptions: %v", adopted, err)
	}
	j := mustOpen(t, m)
	wantRecords(t, contents(t, j), 0, 12)
	if j.Continues(first, at(12)) != nil {
		t.Error("the first log is forgotten")
	}
	// Once they are trimmed it goes on.
	appendSome(t, j, 12, 14)
	if _, err := j.Trim(12); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	for range 3 {
		mustAdopt(t, m, nil)
	}
	id, err := readIdentity(m, dir)
	if err != nil || len(id.ancestors) != maxAncestors {
		t.Errorf("%d ancestors, %v", len(id.ancestors), err)
	}
	j = mustOpen(t, m)
	if records, err := follow(j, 12); err != nil || len(records) != 2 {
		t.Errorf("%d records, %v", len(records), err)
	}
}

func TestAdoptIsRefusedWhileTheJournalIsInUse(t *testing.T) {
	m, _ := closedJournal(t)
	j := mustOpen(t, m)
	var locked *disk.LockedError
	if _, err := Adopt(dir, Options{FS: m}, nil); !errors.As(err, &locked) {
		t.Errorf("%v", err)
	}
	appendSome(t, j, 12, 14)
	_ = j.Close()
	mustAdopt(t, m, nil)
}
