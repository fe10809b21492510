package signals

import (
	"context"
	"errors"
)

// The ways waiting for a position can fail besides ErrBadAsOf, ErrOverloaded and
// ErrUnavailable.
var (
	// ErrOtherLog: the position is one of another log.
	ErrOtherLog = errors.New("the position is one of another log")
	// ErrPastHead: the log does not reach so far, or this replica did not come to the
	// position in time.
	ErrPastHead = errors.New("this replica has not come to that position")
)

// waiter is one call of WaitApplied.
type waiter struct {
	at   Positions
	done chan struct{} // closed by whoever removes it from the applier's set
}

// WaitApplied returns nil as soon as everything up to the position of the token is in
// force here: at once, without a lock, where it is already. Otherwise it waits, no longer
// than ctx and the configured bound allow; not at all for what is past the end of a log
// that only this process writes. A decision that starts after it knows at least
// what the token names. The errors are ErrBadAsOf, ErrOtherLog, ErrPastHead,
// ErrOverloaded and ErrUnavailable.
func (a *Applier) WaitApplied(ctx context.Context, asOf string) error {
	r := a.reached.Load()
	if r != nil && r.asOf == asOf {
		return nil
	}
	log, at, err := ParseAsOf(asOf)
	switch {
	case err != nil:
		return err
	case r == nil:
		return ErrUnavailable
	case r.log != log:
		return ErrOtherLog
	case r.at.Covers(at):
		return nil
	}
	w := &waiter{at: at, done: make(chan struct{})}
	if err := a.enlist(w); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.MaxWait)
	defer cancel()
	select {
	case <-w.done:
	case <-ctx.Done():
		a.mu.Lock()
		delete(a.mu.waiters, w)
		a.mu.Unlock()
	}
	if a.reached.Load().at.Covers(at) {
		return nil
	}
	return ErrPastHead
}

// enlist adds w to the waiters. What is applied between its caller's look and the lock
// would not wake it, so it looks again under the lock that deliver holds while waking.
func (a *Applier) enlist(w *waiter) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.reached.Load().at.Covers(w.at):
		close(w.done)
	case a.Err() != nil, a.mu.heads != nil && !a.mu.heads.Heads().Covers(w.at):
		return ErrPastHead
	case len(a.mu.waiters) >= a.cfg.MaxWaiters:
		return ErrOverloaded
	default:
		a.mu.waiters[w] = struct{}{}
	}
	return nil
}
