package main

import (
	"context"
	"os"
	"time"
)

// obeyHangups loads the rules again on SIGHUP.
func (n *node) obeyHangups(ctx context.Context, hangup <-chan os.Signal) {
	n.start(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				n.log.Info("told to load the rules again")
				_, _ = n.rules.Reload(ctx, "") // it says itself how it went
			}
		}
	})
}

// maintain keeps house: readiness follows the clock, what has expired is forgotten, a
// copy of the rules is kept, snapshots are taken, and it is said which sources fall silent.
func (n *node) maintain(ctx context.Context) {
	second := time.NewTicker(time.Second)
	prune := time.NewTicker(time.Minute)
	snapshot := time.NewTicker(n.cfg.Snapshot.Every)
	defer second.Stop()
	defer prune.Stop()
	defer snapshot.Stop()
	silent := n.followSources(n.now(), nil)
	for {
		select {
		case <-ctx.Done():
			return
		case <-second.C:
			n.followClock()
			silent = n.followSources(n.now(), silent)
		case <-prune.C:
			n.posture.Prune(n.now())
			n.rules.keepCopy()
		case <-snapshot.C:
			n.store.snapshot()
		}
	}
}

// followClock stops decisions while now is too far ahead of the wall clock.
func (n *node) followClock() {
	was, is := n.ready(), n.clock.Err()
	if (was == nil) == (is == nil) {
		return
	}
	n.setReady(is)
	if is != nil {
		n.log.Error("no decisions", "error", is)
	} else {
		n.log.Info("deciding again: the wall clock has caught up")
	}
}
