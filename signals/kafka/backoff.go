package kafka

import (
	"context"
	"math/rand/v2"
	"time"
)

// The pauses before something that failed is tried again. They double, and are shortened
// at random by up to a half, so that replicas do not come back all at once.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// backoff paces one loop.
type backoff struct{ next time.Duration }

// wait pauses, longer each time, and reports whether ctx still goes on.
func (b *backoff) wait(ctx context.Context) bool {
	b.next = min(max(b.next, firstPause), longestPause)
	d := b.next/2 + rand.N(b.next/2)
	b.next *= 2
	return sleep(ctx, d)
}

// reset makes the next pause short again.
func (b *backoff) reset() { b.next = 0 }

// sleep waits, and reports whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// said is what a loop has said last of why it fails, so that it does not say the same of each
// try.
type said struct {
	text string
	at   time.Time
}

// sayEvery is how often a loop says the same.
const sayEvery = 10 * time.Second

// news reports whether err is to be said now.
func (s *said) news(err error) bool {
	text := err.Error()
	if text == s.text && time.Since(s.at) < sayEvery {
		return false
	}
	s.text, s.at = text, time.Now()
	return true
}
