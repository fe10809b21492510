package main

import (
	"context"
	"os"
	"sync"

	"vigil/authz"
	"vigil/engine"
	"vigil/posture"
	"vigil/signals"
	"vigil/signals/journal"
)

// node is an engine with the way of a signal: a journal on the disk, its applier, and the
// intake that waits for both. It is what the program has, without ports.
type node struct {
	*house
	journal *journal.Journal
	intake  *signals.Intake

	stop    context.CancelFunc
	applied sync.WaitGroup // the goroutine that follows the journal
}

var sender = signals.Sender{
	Source:    signals.Source{Kind: "client", Name: "ueba"},
	Authority: signals.Authority{Types: []string{"*"}, Kinds: []string{"*"}, Tenants: []string{authz.DefaultTenant}},
}

// newNode opens a journal in a new folder.
func (b *bench) newNode(ctx context.Context, store *posture.Store) (*node, error) {
	_, set, err := loadBundle(policyFiles())
	if err != nil {
		return nil, err
	}
	h, err := newHouse(set, store, engine.Config{})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "journal-")
	if err != nil {
		return nil, err
	}
	n := &node{house: h}
	if n.journal, err = journal.Open(dir, journal.Options{Now: h.clock.Now}); err != nil {
		return nil, err
	}
	applier, err := signals.NewApplier(signals.ApplierConfig{Store: store, Now: h.clock.Now})
	if err != nil {
		return nil, err
	}
	following, stop := context.WithCancel(ctx)
	n.stop = stop
	n.applied.Go(func() { _ = applier.Run(following, n.journal, signals.Positions{}) })
	select {
	case <-applier.CaughtUp():
	case <-ctx.Done():
		n.close()
		return nil, ctx.Err()
	}
	n.intake, err = signals.NewIntake(signals.IntakeConfig{Log: n.journal, Applier: applier, Store: store, Now: h.clock.Now})
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *node) close() {
	n.stop()
	n.applied.Wait()
	_ = n.journal.Close()
	n.Engine.Close()
}
