package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"vigil/server/control"
	"vigil/signals"
	"vigil/signals/journal"
	"vigil/signals/spool"
)

// spoolSegment is the size of the spool's segments: small, for only whole ones are trimmed.
const spoolSegment = 1 << 20

// openSpool opens the journal of what the log of several replicas has not taken yet.
func (n *node) openSpool() error {
	dir := filepath.Join(n.cfg.DataDir, spoolName)
	options := n.on.journal
	options.SegmentBytes = spoolSegment
	options.Now, options.Logger, options.FS = n.now, n.log, n.on.fs
	j, err := journal.Open(dir, options)
	if err != nil {
		hint := lockedHint(err)
		if hint == "" {
			hint = "It holds revocations that were acknowledged here and that the other replicas may not have. Put back what is missing. If it is lost for good, move " + dir + " away and send the signals of this replica's last outage again."
		}
		return &failure{code: exitInput, err: fmt.Errorf("the spool: %w", err), hint: hint}
	}
	n.clock.Raise(j.LastAppended())
	n.spoolJournal = j
	return nil
}

// attachSpool makes the spool of that journal and of the applier.
func (n *node) attachSpool(applier *signals.Applier) (err error) {
	n.spool, err = spool.Open(spool.Config{
		Log: n.spoolJournal, Applier: applier, Path: filepath.Join(n.cfg.DataDir, forwardedName), FS: n.on.fs, Logger: n.log,
	})
	if err != nil {
		return fmt.Errorf("the spool: %w", err)
	}
	n.feed.spool = n.spool
	return nil
}

func (n *node) closeSpool() {
	if n.spoolJournal == nil {
		return
	}
	if err := n.spoolJournal.Close(); err != nil && !errors.Is(err, journal.ErrClosed) {
		n.log.Error("closing the spool", "error", err)
	}
}

// spoolCounts is how the spool does, in the words of the metrics.
func (n *node) spoolCounts() control.SpoolCounts {
	s := n.spool.Stats()
	return control.SpoolCounts{
		Waiting: s.Waiting, WaitingBytes: s.WaitingBytes, Oldest: s.Oldest, Forwarded: s.Forwarded, Retries: s.Retries,
		LastError: s.LastError, Health: n.spool.Health(),
	}
}
