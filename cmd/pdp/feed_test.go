package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vigil/authz"
	"vigil/posture"
	"vigil/signals"
)

// brokenLog fails to be followed while broken is set.
type brokenLog struct {
	broken atomic.Bool
	tries  atomic.Int64
}

func (l *brokenLog) ID() signals.LogID { return signals.LogID{1} }
func (l *brokenLog) Append(context.Context, [][]byte) ([]signals.Position, error) {
	return nil, signals.ErrUnavailable
}
func (l *brokenLog) Health() error { return nil }
func (l *brokenLog) Follow(ctx context.Context, _ signals.Positions, _ func([]signals.Entry) error, caughtUp func()) error {
	l.tries.Add(1)
	if l.broken.Load() {
		return errors.New("a hole")
	}
	caughtUp()
	<-ctx.Done()
	return ctx.Err()
}

// TestABrokenFeedAgesAndIsTriedAgain: decisions must be able to tell that the view stands
// still, from the instant at which it began to.
func TestABrokenFeedAgesAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := func() authz.Instant { return authz.InstantOf(time.Now()) }
		applier, err := signals.NewApplier(signals.ApplierConfig{Store: posture.NewStore(), Now: now})
		must(t, err)
		log := &brokenLog{}
		log.broken.Store(true)
		f := &feed{kind: "journal", logger: slog.New(slog.DiscardHandler)}
		if f.Age(now()) != 0 || f.wrong() != nil {
			t.Error("a feed that has not begun is neither old nor wrong")
		}
		f.attach(applier, log)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			f.Run(ctx, signals.Positions{})
			close(ended)
		}()
		synctest.Wait()
		if len(f.wrong()) != 1 {
			t.Errorf("a broken feed says %v", f.wrong())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if age := f.Age(now()); age != time.Minute {
			t.Errorf("the age is %s after a minute", age)
		}
		if n := log.tries.Load(); n < 10 || n > 20 {
			t.Errorf("tried %d times in a minute", n)
		}
		// It is followed again: the view is new again.
		log.broken.Store(false)
		time.Sleep(longestRetry)
		synctest.Wait()
		if age := f.Age(now()); age != 0 {
			t.Errorf("the age is %s though the log is followed", age)
		}
		if f.wrong() != nil {
			t.Errorf("it still says %v", f.wrong())
		}
		cancel()
		<-ended
	})
}
