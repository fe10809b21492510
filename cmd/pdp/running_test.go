package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"vigil/engine"
	"vigil/rules"
)

// running is a node that was started as serve starts it, but for its ports: the clock, the
// engine, the log with its snapshots, the feed and the intake are the real ones.
type running struct {
	*node
	stopWork, stopFollowing func()
	ending                  sync.Once
}

// startNode starts a node on a machine and waits until it has caught up. With an error
// nothing of it runs any more.
func startNode(cfg *config, on machine, set *rules.Set) (_ *running, err error) {
	n := newNode(cfg, &app{stderr: io.Discard})
	n.on = on
	work, stopWork := context.WithCancel(context.Background())
	following, stopFollowing := context.WithCancel(work)
	r := &running{node: n, stopWork: stopWork, stopFollowing: stopFollowing}
	defer func() {
		if err != nil {
			r.halt()
		}
	}()
	if err := n.openClock(work); err != nil {
		return nil, err
	}
	n.engine, err = engine.New(engine.Config{Cache: cfg.Cache, CacheEntries: cfg.CacheEntries, Now: n.now, FeedAge: n.feed.Age})
	if err != nil {
		return nil, err
	}
	n.use(set)
	soon, cancel := context.WithTimeout(work, 5*time.Second)
	defer cancel()
	if err := n.openStorage(soon); err != nil {
		return nil, err
	}
	n.followLog(following)
	if err := errors.Join(n.catchUp(soon), soon.Err()); err != nil {
		return nil, err
	}
	if n.intake, err = n.newIntake(nil); err != nil {
		return nil, err
	}
	n.setReady(n.clock.Err())
	return r, nil
}

// halt ends what runs, without another word to the disk but those that closing takes. It
// may be called again.
func (r *running) halt() {
	if r == nil {
		return
	}
	r.ending.Do(func() {
		r.stopFollowing()
		if r.store != nil {
			r.followers.Wait()
			r.closeLog() // of a machine that may have stopped
			r.closeLetters()
		}
		if r.engine != nil {
			r.engine.Close()
		}
		r.stopWork()
		r.background.Wait()
	})
}
