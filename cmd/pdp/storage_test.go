package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
	"vigil/signals/journal"
	"vigil/signals/snapshot"
)

// someStorage opens a journal with so many records beside the snapshots of dir.
func someStorage(t *testing.T, dir string, records int) *journalStorage {
	t.Helper()
	j, err := journal.Open(filepath.Join(dir, journalName), journal.Options{})
	must(t, err)
	t.Cleanup(func() { j.Close() })
	for range records {
		_, err := j.Append(context.Background(), [][]byte{[]byte("a record")})
		must(t, err)
	}
	s := newJournalStorage(j)
	s.dir, s.log = snapshot.Dir{Path: filepath.Join(dir, snapshotsName)}, slog.New(slog.DiscardHandler)
	s.now, s.raise = func() authz.Instant { return 0 }, func(authz.Instant) {}
	return s
}

func TestNoNowIsBeforeTheSnapshotThatWasRead(t *testing.T) {
	s := someStorage(t, t.TempDir(), 2)
	const then = authz.Instant(1_800_000_000_000_000_000)
	_, err := s.dir.Save(snapshot.Meta{Log: s.journal.ID(), Positions: signals.Positions{0: 1}, Now: then}, posture.NewStore())
	must(t, err)
	var raised authz.Instant
	s.raise = func(at authz.Instant) { raised = at }
	must(t, s.restore())
	if raised != then {
		t.Errorf("the clock was raised to %v, want the snapshot's %v", raised, then)
	}
}

// A log that was lost must not be taken for one that is new or complete: what stood in it
// may have been a revocation.
func TestALostLogIsNoNewLog(t *testing.T) {
	stranger := snapshot.Meta{Log: signals.LogID{9}, Positions: signals.Positions{0: 5}, Now: 1}
	for _, c := range []struct {
		name    string
		records int
		save    func(t *testing.T, s *journalStorage)
		want    string // in the error; "" for a start
	}{
		{"nothing yet", 0, func(*testing.T, *journalStorage) {}, ""},
		{"a whole log, no snapshot", 3, func(*testing.T, *journalStorage) {}, ""},
		{"an empty log, an unreadable snapshot", 0, damagedSnapshot, "the log was lost"},
		{"a whole log, an unreadable snapshot", 3, damagedSnapshot, ""},
		{"an empty log, a snapshot of another", 0, func(t *testing.T, s *journalStorage) {
			_, err := s.dir.Save(stranger, posture.NewStore())
			must(t, err)
		}, "the log was lost"},
		{"a whole log, a snapshot of another", 3, func(t *testing.T, s *journalStorage) {
			_, err := s.dir.Save(stranger, posture.NewStore())
			must(t, err)
		}, "not the one that the snapshots are of"},
		{"a whole log, one of another and a bad one of its own", 3, func(t *testing.T, s *journalStorage) {
			_, err := s.dir.Save(stranger, posture.NewStore())
			must(t, err)
			path, err := s.dir.Save(snapshot.Meta{Log: s.journal.ID(), Positions: signals.Positions{0: 1}, Now: 1}, posture.NewStore())
			must(t, err)
			data, err := os.ReadFile(path)
			must(t, err)
			must(t, os.WriteFile(path, data[:len(data)-1], 0o600))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := someStorage(t, t.TempDir(), c.records)
			c.save(t, s)
			err := s.restore()
			if c.want == "" {
				must(t, err)
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("started, or said %v; want %q", err, c.want)
			}
		})
	}
}

func damagedSnapshot(t *testing.T, s *journalStorage) {
	t.Helper()
	must(t, os.MkdirAll(s.dir.Path, 0o700))
	must(t, os.WriteFile(filepath.Join(s.dir.Path, "snapshot-1.vigil"), []byte("damaged"), 0o600))
}
