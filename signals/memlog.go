package signals

import (
	"context"
	"crypto/rand"
	"sync"

	"vigil/authz"
)

// MemoryLog is a Log of one partition in memory, for tests and dry runs: nothing is
// durable. It is safe for concurrent use.
type MemoryLog struct {
	id  LogID
	now func() authz.Instant

	mu      sync.Mutex
	entries []Entry
	grown   chan struct{} // closed and replaced when entries grows
	health  error
	fail    []appendFault
}

type appendFault struct {
	err     error
	written bool
}

// NewMemoryLog returns an empty log with an identity of its own. now dates what it takes.
func NewMemoryLog(now func() authz.Instant) *MemoryLog {
	l := &MemoryLog{now: now, grown: make(chan struct{})}
	rand.Read(l.id[:]) // never fails
	return l
}

// ID is the log's identity.
func (l *MemoryLog) ID() LogID { return l.id }

// SetHealth makes err what Health says. A log in ill health takes nothing.
func (l *MemoryLog) SetHealth(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health = err
}

// FailAppend makes the next Append return err, having written its records or not.
func (l *MemoryLog) FailAppend(err error, written bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = append(l.fail, appendFault{err, written})
}

// Health says what SetHealth said.
func (l *MemoryLog) Health() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health
}

// Append adds the records to the end.
func (l *MemoryLog) Append(ctx context.Context, records [][]byte) ([]Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.health != nil || ctx.Err() != nil {
		return nil, ErrUnavailable
	}
	var fault appendFault
	if len(l.fail) > 0 {
		fault, l.fail = l.fail[0], l.fail[1:]
		if !fault.written {
			return nil, fault.err
		}
	}
	now := l.now()
	at := make([]Position, len(records))
	for i, record := range records {
		at[i] = Position{Offset: int64(len(l.entries))}
		l.entries = append(l.entries, Entry{Position: at[i], Appended: now, Record: append([]byte(nil), record...)})
	}
	close(l.grown)
	l.grown = make(chan struct{})
	return at, fault.err
}

// Follow delivers from the offset of partition 0 on. It returns ctx's error when ctx ends.
func (l *MemoryLog) Follow(ctx context.Context, from Positions, deliver func([]Entry) error, caughtUp func()) error {
	next := int(from[0])
	for first := true; ; first = false {
		l.mu.Lock()
		var batch []Entry
		if next < len(l.entries) {
			batch = l.entries[next:len(l.entries):len(l.entries)]
		}
		grown := l.grown
		l.mu.Unlock()
		if len(batch) > 0 {
			if err := deliver(batch); err != nil {
				return err
			}
			next += len(batch)
		}
		if first {
			caughtUp()
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grown:
		}
	}
}
