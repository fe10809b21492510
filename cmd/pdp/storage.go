package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
	"vigil/signals/journal"
	"vigil/signals/snapshot"
)

// storage is what is durable: the log, and snapshots that shorten its reading.
type storage struct {
	journal *journal.Journal
	dir     snapshot.Dir
	keep    int
	store   *posture.Store
	from    signals.Positions // where the log is followed from
	now     func() authz.Instant
	raise   func(authz.Instant) // makes now at least that
	applied func() signals.Progress
	log     *slog.Logger

	// saving is held over a whole snapshot; saved are the positions of the last one.
	saving sync.Mutex
	saved  signals.Positions
}

// openStorage opens the log, reads the newest good snapshot that it continues, and gives
// the engine its records.
func (n *node) openStorage() error {
	if n.cfg.Log.Kind == "kafka" {
		return badInput("%s: this build follows no log of kind %s", n.cfg.where("log.kind"), n.cfg.Log.Kind)
	}
	dir := filepath.Join(n.cfg.DataDir, journalName)
	options := n.on.journal
	options.Now, options.Logger, options.FS = n.now, n.log, n.on.fs
	j, err := journal.Open(dir, options)
	if err != nil {
		return &failure{code: exitInput, err: fmt.Errorf("the signal log: %w", err), hint: logHint(n.cfg.DataDir, err)}
	}
	n.clock.Raise(j.LastAppended())
	s := &storage{
		journal: j, dir: snapshot.Dir{Path: filepath.Join(n.cfg.DataDir, snapshotsName), FS: n.on.fs, Logger: n.log},
		keep: n.cfg.Snapshot.Keep, now: n.now, raise: n.clock.Raise, log: n.log,
	}
	if err := s.restore(); err != nil {
		return &failure{code: exitInput, err: errors.Join(err, j.Close()), hint: logHint(n.cfg.DataDir, err)}
	}
	applier, err := signals.NewApplier(signals.ApplierConfig{Store: s.store, Now: n.now, Logger: n.log})
	if err != nil {
		return errors.Join(err, j.Close())
	}
	s.applied = applier.Progress
	n.store = s
	n.useStore(s.store)
	n.feed.attach(applier, j)
	return nil
}

// restore reads the newest good snapshot, or starts from nothing where the log is whole.
// A hole between the two is an error: what stood there may have been a revocation.
func (s *storage) restore() error {
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
		s.store, s.from = posture.NewStore(), signals.Positions{}
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
	// What had expired then is not in the snapshot: no now may be before.
	s.raise(meta.Now)
	s.store, s.from, s.saved = store, meta.Positions, maps.Clone(meta.Positions)
	s.log.Info("snapshot read", "of", meta.String(), "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// continues says whether the log goes on from where a snapshot stands.
func (s *storage) continues(m snapshot.Meta) error { return s.journal.Continues(m.Log, m.Positions) }

// collectSeldom makes the collector run less often until the function that it gives is
// called. While a snapshot is read the heap grows from nothing to the whole store, and all
// but the file's own bytes stays: collecting at each doubling is a sixth of the start, and
// finds nothing. Memory stays bounded by five times what is alive, which is within the
// store that is being read; in effect a twentieth more is used. Who set a laxer limit, or
// one of memory, keeps it.
func collectSeldom() (asBefore func()) {
	const percent = 400
	collector.Lock()
	before := debug.SetGCPercent(percent)
	if before < 0 || before > percent {
		debug.SetGCPercent(before)
	}
	return func() {
		debug.SetGCPercent(before)
		collector.Unlock()
	}
}

// collector is held while the limit is another: two that change it at once, as tests do
// that start several engines, could put back each other's.
var collector sync.Mutex

// logHint says what an operator can do about a log that does not open.
func logHint(dataDir string, err error) string {
	if hint := lockedHint(err); hint != "" {
		return hint
	}
	return "Nothing was changed. Put back what is missing. If it is lost for good, start a new log behind what is there: `pdp journal adopt --data-dir " + dataDir + "` (docs/operations.md). If the snapshots do not belong here, move them away."
}

// snapshot saves where the view stands, unless that was saved already, and lets go of
// what is then needed no more.
func (s *storage) snapshot() {
	s.saving.Lock()
	defer s.saving.Unlock()
	meta, ok := s.meta()
	if !ok || maps.Equal(meta.Positions, s.saved) {
		return
	}
	begun := time.Now()
	path, err := s.dir.Save(meta, s.store)
	if err != nil {
		s.log.Error("no snapshot: the next start has more of the log to read", "error", err)
		return
	}
	s.saved = meta.Positions
	s.log.Info("snapshot saved", "file", path, "of", meta.String(), "took", time.Since(begun).Round(time.Millisecond))
	kept, err := s.dir.Retain(s.keep, s.continues)
	if err != nil {
		s.log.Error("old snapshots", "error", err)
		return
	}
	if before, ok := kept.TrimBefore[0]; ok {
		if trimmed, err := s.journal.Trim(before); err != nil {
			s.log.Error("old segments of the log stay", "error", err)
		} else if trimmed > 0 {
			s.log.Info("old segments of the log removed", "segments", trimmed, "before", before)
		}
	}
}

// meta says where the view stands. The positions are taken before the records are
// walked: what is applied meanwhile is read from the log again, which changes nothing.
func (s *storage) meta() (snapshot.Meta, bool) {
	p := s.applied()
	if p.Applied == nil {
		return snapshot.Meta{}, false
	}
	return snapshot.Meta{Log: p.Log, Positions: p.Applied, Now: s.now(), Entities: uint64(total(s.store.Len()))}, true
}

// writeSnapshot writes what a backup needs to start from here.
func (s *storage) writeSnapshot(_ context.Context, w io.Writer) error {
	meta, ok := s.meta()
	if !ok {
		return errors.New("nothing has been read yet")
	}
	return snapshot.Write(w, meta, s.store)
}

// closeStorage takes a last snapshot and closes the log. Nothing is pushed any more.
func (n *node) closeStorage() {
	n.store.snapshot()
	if err := n.store.journal.Close(); err != nil {
		n.log.Error("closing the signal log", "error", err)
	}
}

func shortLog(id signals.LogID) string { return hex.EncodeToString(id[:4]) }
