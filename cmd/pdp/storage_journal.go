package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"vigil/signals"
	"vigil/signals/journal"
	"vigil/signals/snapshot"
)

// journalStorage is a storage whose log only this process writes.
type journalStorage struct {
	storage
	journal *journal.Journal
}

// openJournal opens the journal and reads the newest good snapshot that it continues.
func (n *node) openJournal() error {
	options := n.on.journal
	options.Now, options.Logger, options.FS = n.now, n.log, n.on.fs
	j, err := journal.Open(filepath.Join(n.cfg.DataDir, journalName), options)
	if err != nil {
		return &failure{code: exitInput, err: fmt.Errorf("the signal log: %w", err), hint: logHint(n.cfg.DataDir, err)}
	}
	n.clock.Raise(j.LastAppended())
	s := newJournalStorage(j)
	n.furnishStorage(&s.storage)
	if err := s.restore(); err != nil {
		return &failure{code: exitInput, err: errors.Join(err, j.Close()), hint: logHint(n.cfg.DataDir, err)}
	}
	if err := n.attach(&s.storage); err != nil {
		return errors.Join(err, j.Close())
	}
	n.journal = j
	return nil
}

func newJournalStorage(j *journal.Journal) *journalStorage {
	s := &journalStorage{journal: j}
	s.signals = j
	s.continues = func(m snapshot.Meta) error { return j.Continues(m.Log, m.Positions) }
	s.trim = s.trimJournal
	return s
}

// restore reads the newest good snapshot, or starts from nothing where the log is whole.
// A hole between the two is an error: what stood there may have been a revocation.
func (s *journalStorage) restore() error {
	begun := time.Now()
	defer collectSeldom()()
	var known, strange bool // there is a snapshot of this log or an ancestor; of no such log
	meta, store, err := s.dir.Newest(func(m snapshot.Meta) error {
		err := s.continues(m)
		var foreign *journal.ForeignError
		unknown := errors.As(err, &foreign) && foreign.Parted == 0
		known, strange = known || !unknown, strange || unknown
		return err
	}, s.now())
	if errors.Is(err, snapshot.ErrNone) {
		if err != snapshot.ErrNone && s.journal.Head() == 0 {
			return fmt.Errorf("the log is empty, and no snapshot can be used: the log was lost: %w", err)
		}
		if strange && !known {
			return fmt.Errorf("the log is not the one that the snapshots are of: the log was lost: %w", err)
		}
		if first := s.journal.FirstOffset(); first > 0 {
			return fmt.Errorf("the log begins at record %d, and there is no snapshot of what was before: %w", first, err)
		}
		s.beginEmpty()
		return nil
	}
	if err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	at := meta.Positions[0]
	if first := s.journal.FirstOffset(); at < first {
		return fmt.Errorf("the newest good snapshot stands at record %d, and the log begins at %d: what is between is gone", at, first)
	}
	if head := s.journal.Head(); at > head {
		return fmt.Errorf("the newest snapshot stands at record %d, and the log ends at %d: an older copy of the log was put back", at, head)
	}
	s.begin(meta, store, time.Since(begun))
	return nil
}

// trimJournal removes the segments that no snapshot needs.
func (s *journalStorage) trimJournal(before signals.Positions) {
	at, ok := before[0]
	if !ok {
		return
	}
	if trimmed, err := s.journal.Trim(at); err != nil {
		s.log.Error("old segments of the log stay", "error", err)
	} else if trimmed > 0 {
		s.log.Info("old segments of the log removed", "segments", trimmed, "before", at)
	}
}

// logHint says what an operator can do about a log that does not open.
func logHint(dataDir string, err error) string {
	if hint := lockedHint(err); hint != "" {
		return hint
	}
	return "Nothing was changed. Put back what is missing. If it is lost for good, start a new log behind what is there: `pdp journal adopt --data-dir " + dataDir + "` (docs/operations.md). If the snapshots do not belong here, move them away."
}
