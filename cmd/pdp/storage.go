package main

import (
	"context"
	"encoding/hex"
	"errors"
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
	"vigil/signals/snapshot"
)

// storage is what is durable: the log, and snapshots that shorten its reading. Where a
// start begins depends on the kind of the log, see journalStorage and kafkaStorage.
type storage struct {
	signals signals.Log
	dir     snapshot.Dir
	keep    int
	store   *posture.Store
	from    signals.Positions // where the log is followed from
	now     func() authz.Instant
	raise   func(authz.Instant) // makes now at least that
	applied func() signals.Progress
	log     *slog.Logger

	// continues says whether the log goes on from where a snapshot stands.
	continues snapshot.Accept
	// marks are what the log knows its own records again by; nil where it needs none.
	marks func() []byte
	// trim lets go of what no start needs any more; nil for a log that this process does
	// not trim.
	trim func(before signals.Positions)

	// saving is held over a whole snapshot; saved are the positions of the last one.
	saving sync.Mutex
	saved  signals.Positions
}

// openStorage opens the log, finds where to begin, and gives the engine its records. It
// may wait for the log until ctx ends.
func (n *node) openStorage(ctx context.Context) (err error) {
	n.openDeadLetters()
	defer func() {
		if err != nil {
			n.closeLetters()
		}
	}()
	if n.cfg.Log.Kind == "kafka" {
		return n.openKafka(ctx)
	}
	return n.openJournal()
}

// furnishStorage gives a storage what those of all kinds of log have in common.
func (n *node) furnishStorage(s *storage) {
	s.dir = snapshot.Dir{Path: filepath.Join(n.cfg.DataDir, snapshotsName), FS: n.on.fs, Logger: n.log}
	s.keep, s.now, s.raise, s.log = n.cfg.Snapshot.Keep, n.now, n.clock.Raise, n.log
}

// attach puts what a storage has read in use.
func (n *node) attach(s *storage) error {
	applier, err := signals.NewApplier(signals.ApplierConfig{
		Store: s.store, Now: n.now, DeadLetter: n.deadLetter, Observe: n.tail.Signal,
		PartitionName: n.feed.partitionNames, Logger: n.log,
	})
	if err != nil {
		return err
	}
	if n.spoolJournal != nil {
		if err := n.attachSpool(applier); err != nil {
			return err
		}
	}
	s.applied = applier.Progress
	n.store = s
	n.useStore(s.store)
	n.feed.attach(applier, s.signals)
	return nil
}

// begin takes what a snapshot has to begin with.
func (s *storage) begin(meta snapshot.Meta, store *posture.Store, took time.Duration) {
	// What had expired then is not in the snapshot: no now may be before.
	s.raise(meta.Now)
	s.store, s.from, s.saved = store, meta.Positions, maps.Clone(meta.Positions)
	s.log.Info("snapshot read", "of", meta.String(), "took", took.Round(time.Millisecond))
}

// beginEmpty begins at the beginning of a log that is whole.
func (s *storage) beginEmpty() { s.store, s.from = posture.NewStore(), signals.Positions{} }

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
	if s.trim != nil {
		s.trim(kept.TrimBefore)
	}
}

// meta says where the view stands. The positions are taken before the records are
// walked: what is applied meanwhile is read from the log again, which changes nothing.
// The marks are taken after the positions, so that none is of an earlier record.
func (s *storage) meta() (snapshot.Meta, bool) {
	p := s.applied()
	if p.Applied == nil {
		return snapshot.Meta{}, false
	}
	meta := snapshot.Meta{Log: p.Log, Positions: p.Applied, Now: s.now(), Entities: uint64(total(s.store.Len()))}
	if s.marks != nil {
		meta.Marks = s.marks()
	}
	return meta, true
}

// writeSnapshot writes what a backup or another replica needs to start from here.
func (s *storage) writeSnapshot(_ context.Context, w io.Writer) error {
	meta, ok := s.meta()
	if !ok {
		return errors.New("nothing has been read yet")
	}
	return snapshot.Write(w, meta, s.store)
}

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

// closeStorage takes a last snapshot and closes the log. Nothing is pushed any more, and
// whoever followed the log was told to end.
func (n *node) closeStorage() {
	n.followers.Wait()
	n.store.snapshot()
	n.closeLog()
	n.closeLetters()
}

// closeLog closes the log that is open.
func (n *node) closeLog() {
	if n.journal != nil {
		if err := n.journal.Close(); err != nil {
			n.log.Error("closing the signal log", "error", err)
		}
	}
	if n.kafka != nil {
		n.closeKafka()
	}
}

func shortLog(id signals.LogID) string { return hex.EncodeToString(id[:4]) }
