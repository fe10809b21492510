package signals

import (
	"context"
	"errors"
	"fmt"
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

// push is the records of one Push on their way through the log. Its members are guarded
// by the applier's lock until done is closed, and do not change after.
type push struct {
	first   uint64 // Seq of the first record
	results []applied
	left    int
	asOf    string
	err     error
	done    chan struct{}
}

type pushSlot struct {
	push  *push
	index int
}

// waiter is one call of WaitApplied.
type waiter struct {
	at   Positions
	done chan struct{} // closed by whoever removes it from the applier's set
}

// expect announces n records and gives the push that will hear of them. It must be
// followed by forget when nobody waits any more.
func (a *Applier) expect(n int) (*push, error) {
	p := &push{results: make([]applied, n), left: n, done: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.acceptingLocked(); err != nil {
		return nil, err
	}
	p.first = a.mu.nextSeq + 1
	a.mu.nextSeq += uint64(n)
	for i := range n {
		a.mu.pushes[p.first+uint64(i)] = pushSlot{p, i}
	}
	return p, nil
}

// accepting says why no signal can be accepted now, or nil.
func (a *Applier) accepting() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acceptingLocked()
}

func (a *Applier) acceptingLocked() error {
	switch err := a.Err(); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case !a.mu.running:
		return fmt.Errorf("%w: nobody follows it", ErrUnavailable)
	case !a.mu.ready:
		return fmt.Errorf("%w: it is still being read", ErrUnavailable)
	}
	return nil
}

// forget drops a push that nobody waits for any more.
func (a *Applier) forget(p *push) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range p.results {
		delete(a.mu.pushes, p.first+uint64(i))
	}
}

// settleLocked hands a result to whoever pushed the record. The last one of a push ends
// its waiting: asOf is published by then and covers them all.
func (a *Applier) settleLocked(out *applied, asOf string) {
	if out.origin != a.origin {
		return
	}
	slot, ok := a.mu.pushes[out.seq]
	if !ok {
		return
	}
	delete(a.mu.pushes, out.seq)
	p := slot.push
	p.results[slot.index] = *out
	if p.left--; p.left == 0 {
		p.asOf = asOf
		close(p.done)
	}
}

// abandonLocked ends the waiting for a feed that has stopped.
func (a *Applier) abandonLocked() {
	for seq, slot := range a.mu.pushes {
		delete(a.mu.pushes, seq)
		if p := slot.push; p.err == nil {
			p.err = ErrUnknownOutcome
			close(p.done)
		}
	}
	for w := range a.mu.waiters {
		delete(a.mu.waiters, w)
		close(w.done)
	}
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
