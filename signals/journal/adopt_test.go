package journal

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vigil/disk/disktest"
	"vigil/signals"
)

// closedJournal has twelve acknowledged records in several segments.
func closedJournal(t *testing.T) (*disktest.Memory, signals.LogID) {
	t.Helper()
	m := disktest.New()
	j := mustOpen(t, m, segmentsOf(400))
	appendSome(t, j, 0, 12)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return m, j.ID()
}

func mustAdopt(t *testing.T, m *disktest.Memory, snapshot *SnapshotAt) Adoption {
	t.Helper()
	a, err := Adopt(dir, Options{FS: m}, snapshot)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func at(offset int64) signals.Positions { return signals.Positions{0: offset} }

func TestAdoptGivesASoundLogAnotherIdentityAndKeepsItsRecords(t *testing.T) {
	m, old := closedJournal(t)
	a := mustAdopt(t, m, nil)
	if a.Old != old || a.New == old || a.From != 12 || a.First != 0 || a.Damage != nil || a.LostFrom != a.LostTo || len(a.Void) != 0 {
		t.Errorf("%+v", a)
	}
	for life := range 3 {
		j := mustOpen(t, m)
		if j.ID() != a.New {
			t.Fatal("not the new identity")
		}
		wantRecords(t, contents(t, j), 0, 12+2*life)
		appendSome(t, j, 12+2*life, 14+2*life)
		for _, c := range []struct {
			log  signals.LogID
			next int64
			ok   bool
		}{{a.New, 3, true}, {a.New, 999, true}, {old, 12, true}, {old, 0, true}, {old, 13, false}, {signals.LogID{1}, 0, false}} {
			if err := j.Continues(c.log, at(c.next)); (err == nil) != c.ok || err != nil && !errors.As(err, new(*ForeignError)) {
				t.Errorf("continues %x at %d: %v", c.log[:2], c.next, err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAdoptAgainRemembersAllAncestors(t *testing.T) {
	m, first := closedJournal(t)
	second := mustAdopt(t, m, nil).New
	j := mustOpen(t, m)
	appendSome(t, j, 12, 20)
	_ = j.Close()
	mustAdopt(t, m, nil)
	j = mustOpen(t, m)
	wantRecords(t, contents(t, j), 0, 20)
	if j.Continues(first, at(12)) != nil || j.Continues(first, at(13)) == nil || j.Continues(second, at(20)) != nil || j.Continues(second, at(21)) == nil {
		t.Error("ancestors are confused")
	}
	if _, err := j.Trim(20); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, contents(t, j), 20, 20)
	_ = j.Close()
	wantRecords(t, contents(t, mustOpen(t, m)), 20, 20)
}

// Whatever byte is damaged so that Open refuses, Adopt makes a log of the records before,
// says what is lost, and sets aside what it does not keep.
func TestAdoptKeepsWhatStandsBeforeTheDamage(t *testing.T) {
	sound, old := closedJournal(t)
	for _, name := range sound.Names() {
		data := sound.Contents(name)
		for i := 0; i < len(data); i += 3 {
			m := sound.Clone()
			flipped := bytes.Clone(data)
			flipped[i] ^= 0x40
			m.Put(name, flipped)
			j, err := openIn(t, m)
			if err == nil {
				_ = j.Close()
				continue
			}
			var damage *DamageError
			if !errors.As(err, &damage) {
				t.Fatal(err)
			}
			a := mustAdopt(t, m, nil)
			j, err = openIn(t, m)
			if err != nil {
				t.Fatalf("%s byte %d: adopted, and does not open: %v", name, i, err)
			}
			got := contents(t, j)
			wantRecords(t, got, 0, len(got))
			if a.From != int64(len(got)) || a.Old != old {
				t.Fatalf("%s byte %d: %+v, and %d records", name, i, a, len(got))
			}
			if strings.HasSuffix(name, segmentSuffix) {
				if a.Damage == nil || a.Damage.Record != a.From {
					t.Fatalf("%s byte %d: %+v; Open said %v", name, i, a, err)
				}
				if len(got) < 12 && (a.LostFrom != int64(len(got)) || a.LostTo != 12) {
					t.Fatalf("%s byte %d: lost %d to %d, and %d records are left", name, i, a.LostFrom, a.LostTo, len(got))
				}
			} else if len(got) != 12 {
				t.Fatalf("%s byte %d: %d records of a log whose segments are sound", name, i, len(got))
			}
			appendSome(t, j, len(got), len(got)+2)
			_ = j.Close()
			wantRecords(t, contents(t, mustOpen(t, m)), 0, len(got)+2)
		}
	}
}

func TestAdoptBehindASnapshot(t *testing.T) {
	for name, c := range map[string]struct {
		damage   bool
		snapshot func(old signals.LogID) *SnapshotAt
		from     int64
		first    int64
		void     bool
	}{
		"within the log":           {false, func(old signals.LogID) *SnapshotAt { return &SnapshotAt{old, 7} }, 12, 0, false},
		"past the end":             {false, func(old signals.LogID) *SnapshotAt { return &SnapshotAt{old, 50} }, 50, 50, true},
		"past the damage":          {true, func(old signals.LogID) *SnapshotAt { return &SnapshotAt{old, 10} }, 10, 10, true},
		"of another log":           {false, func(signals.LogID) *SnapshotAt { return &SnapshotAt{signals.LogID{7}, 5} }, 5, 5, true},
		"of another, at its start": {false, func(signals.LogID) *SnapshotAt { return &SnapshotAt{signals.LogID{7}, 0} }, 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			m, old := closedJournal(t)
			if c.damage {
				path := filepath.Join(dir, segmentName(2, 4))
				data := m.Contents(path)
				if data == nil {
					t.Fatalf("no such segment: %v", m.Names())
				}
				data[headerSize+5] ^= 1
				m.Put(path, data)
			}
			s := c.snapshot(old)
			a := mustAdopt(t, m, s)
			if a.From != c.from || a.First != c.first || (len(a.Void) > 0) != c.void {
				t.Errorf("%+v", a)
			}
			for _, path := range a.Void {
				if m.Contents(path) == nil || !strings.HasSuffix(path, ".void") {
					t.Errorf("set aside, and not there: %s", path)
				}
			}
			j := mustOpen(t, m)
			if err := j.Continues(s.Log, at(s.Next)); err != nil {
				t.Errorf("the snapshot that it was made for: %v", err)
			}
			if err := j.Continues(s.Log, at(s.Next+1)); c.void && err == nil {
				t.Error("a later snapshot of the old log is accepted")
			}
			if j.Head() != c.from || j.FirstOffset() != c.first {
				t.Errorf("from %d to %d", j.FirstOffset(), j.Head())
			}
			appendSome(t, j, int(c.from), int(c.from)+3)
			got, err := follow(j, s.Next)
			if err != nil {
				t.Fatal(err)
			}
			wantRecords(t, got, int(s.Next), int(c.from)+3)
			_ = j.Close()
			wantRecords(t, contents(t, mustOpen(t, m)), int(c.first), int(c.from)+3)
		})
	}
}

func TestAdoptWhereNothingIs(t *testing.T) {
	if _, err := Adopt(dir, Options{FS: disktest.New()}, nil); err == nil || !strings.Contains(err.Error(), "no journal") {
		t.Error(err)
	}
	// A backup may be a snapshot alone.
	m := disktest.New()
	a := mustAdopt(t, m, &SnapshotAt{signals.LogID{7}, 30})
	j := mustOpen(t, m)
	if j.ID() != a.New || j.FirstOffset() != 30 || j.Head() != 30 || j.Continues(signals.LogID{7}, at(30)) != nil {
		t.Errorf("%+v: from %d to %d", a, j.FirstOffset(), j.Head())
	}
}

// Wherever it is cut short, the folder opens as the old log, or as the new one, or says
// that it must be run again; and then it can.
func TestAdoptThatIsCutShortIsRunAgain(t *testing.T) {
	sound, old := closedJournal(t)
	path := filepath.Join(dir, segmentName(2, 4))
	damaged := sound.Contents(path)
	if damaged == nil {
		t.Fatalf("no such segment: %v", sound.Names())
	}
	damaged[len(damaged)/2] ^= 1
	again := 0
	for step := range 60 {
		for seed := range uint64(3) {
			m := sound.Clone()
			m.Put(path, damaged)
			m.StopAfter(step)
			_, err := Adopt(dir, Options{FS: m}, nil)
			m.Crash(newRandom(seed<<32 + uint64(step)))
			j, openErr := openIn(t, m)
			if err == nil && openErr != nil {
				t.Fatalf("step %d: adopted, and does not open: %v", step, openErr)
			}
			if openErr == nil {
				if j.ID() == old {
					t.Fatalf("step %d: the damage is gone, and the identity is the old one", step)
				}
			} else {
				if !errors.As(openErr, new(*DamageError)) {
					t.Fatal(openErr)
				}
				if strings.Contains(openErr.Error(), "run it again") {
					again++
				}
				a := mustAdopt(t, m, nil)
				j = mustOpen(t, m)
				if a.Old != old || j.Continues(old, at(a.From)) != nil {
					t.Fatalf("step %d: the old log is not known any more: %+v", step, a)
				}
			}
			got := contents(t, j)
			wantRecords(t, got, 0, len(got))
			if len(got) < 4 || len(got) > 6 {
				t.Fatalf("step %d: %d records", step, len(got))
			}
			_ = j.Close()
		}
	}
	if again == 0 {
		t.Error("never cut short in the middle")
	}
}

func TestIdentityFileHasOneSpelling(t *testing.T) {
	id := newIdentity(7)
	id.ancestors = []ancestor{{signals.LogID{1}, 3}, {signals.LogID{2}, 7}}
	id.adopting = true
	whole := id.encode()
	got, err := decodeIdentity(whole)
	if err != nil || got.log != id.log || got.since != 7 || !slices.Equal(got.ancestors, id.ancestors) || !got.adopting {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range whole {
		for mask := 1; mask < 256; mask <<= 1 {
			flipped := bytes.Clone(whole)
			flipped[i] ^= byte(mask)
			if _, err := decodeIdentity(flipped); err == nil {
				t.Fatalf("accepted with byte %d changed: %q", i, flipped)
			}
		}
		if _, err := decodeIdentity(whole[:i]); err == nil {
			t.Fatalf("accepted when cut at %d", i)
		}
	}
	many := newIdentity(9)
	for i := range maxAncestors {
		many.ancestors = append(many.ancestors, ancestor{signals.LogID{byte(i)}, 1 << 62})
	}
	if n := len(many.encode()); n > maxIdentityFile {
		t.Errorf("an identity of %d bytes does not read back", n)
	}
}
