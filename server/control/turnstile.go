package control

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// turnstile lets a bounded number of requests work at once, and a bounded number wait for
// a bounded time. Each kind of slow work has its own, so that none can starve another.
type turnstile struct {
	places  chan struct{}
	waiting atomic.Int64
	queue   int64
	patient time.Duration
}

func newTurnstile(places, queue int, patient time.Duration) *turnstile {
	return &turnstile{places: make(chan struct{}, places), queue: int64(queue), patient: patient}
}

// enter takes a place, which leave gives back, or reports false.
func (t *turnstile) enter(ctx context.Context) bool {
	if t.tryEnter() {
		return true
	}
	if t.waiting.Add(1) > t.queue {
		t.waiting.Add(-1)
		return false
	}
	defer t.waiting.Add(-1)
	timer := time.NewTimer(t.patient)
	defer timer.Stop()
	select {
	case t.places <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (t *turnstile) tryEnter() bool {
	select {
	case t.places <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t *turnstile) leave() { <-t.places }

// budget bounds a sum of bytes.
type budget struct {
	used atomic.Int64
	max  int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.max {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// spared runs what is dear and dispensable: at most a tenth of the time.
type spared struct {
	mu   sync.Mutex
	next time.Time // guarded by mu
}

// spare runs f and reports true, or does nothing: f is running, or ended less than ten
// times its own duration ago. What takes no longer than a millisecond is not dear.
func (s *spared) spare(f func()) bool {
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	begun := time.Now()
	if begun.Before(s.next) {
		return false
	}
	f()
	if took := time.Since(begun); took > time.Millisecond {
		s.next = begun.Add(11 * took)
	}
	return true
}
