package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"vigil/authz"
	"vigil/disk"
	"vigil/signals"
)

// Log is the local log that a spool keeps its records in, in partition 0.
// *journal.Journal is one. Its segments should be small, for only whole ones are trimmed.
type Log interface {
	signals.Log
	// FirstOffset is the offset of the oldest record, and Head that of the next.
	FirstOffset() int64
	Head() int64
	// Trim may remove records below an offset.
	Trim(before int64) (removed int, err error)
}

// Config is what a spool needs.
type Config struct {
	// Log keeps the records. It is open, and nobody else uses it. Required.
	Log Log
	// Applier joins the records into posture. Required.
	Applier *signals.Applier
	// Path is the file that says how far the log of all replicas has the records, in a
	// folder that is there. Required.
	Path string
	// FS holds that file; nil means the machine's.
	FS disk.FS
	// MaxRecords and MaxBytes bound what waits; 0 for 65,536 and 64 MiB.
	MaxRecords int
	MaxBytes   int64
	// AppendTime bounds each attempt to forward; 0 for 30 s. RetryAfter and RetryAtMost are
	// the first and the longest pause after one that failed; 0 for 100 ms and 2 s.
	AppendTime, RetryAfter, RetryAtMost time.Duration
	// Logger is told what goes wrong, and when all is forwarded; nil for none.
	Logger *slog.Logger
}

// Spool is a signals.Spool. It is safe for concurrent use.
type Spool struct {
	cfg   Config
	log   *slog.Logger
	start int64         // the end of what was there at Open
	wake  chan struct{} // one token: there is something to forward

	applied chan struct{} // closed once all that was there at the start is in force

	mu struct {
		sync.Mutex
		next    int64           // the offset to follow the log from
		waiting []signals.Entry // applied and not in the log of all replicas, in order
		bytes   int64           // of their records
		// reserved is what Append has taken and the follower has not seen yet.
		reserved      int
		reservedBytes int64
		replayed      bool // applied is closed
		running       bool
		broken        error // why the spool's own log is not followed
		away          error // why the last attempt to forward failed
		stats         Stats
	}
}

var _ signals.Spool = (*Spool)(nil)

// Stats are counts since the start, but for Waiting and what belongs to it.
type Stats struct {
	Waiting      int           // records that are in force here and not in the log of all replicas
	WaitingBytes int64         // of these
	Oldest       authz.Instant // when the oldest of them was taken; 0 for none
	Applied      uint64        // records
	Forwarded    uint64        // records
	Retries      uint64        // attempts to forward that failed
	LastError    string        // why the last attempt failed, until one succeeds
}

// Open makes a spool of an open log, from where the file at Path says that the log of all
// replicas has its records. Where that file is missing or damaged, or is another log's, all
// that the log has kept is forwarded again, which changes nothing.
func Open(cfg Config) (*Spool, error) {
	if cfg.Log == nil || cfg.Applier == nil || cfg.Path == "" {
		return nil, errors.New("spool: it needs a log, an applier, and a file for how far it has come")
	}
	orDefault(&cfg.MaxRecords, 1<<16)
	orDefault(&cfg.MaxBytes, 64<<20)
	orDefault(&cfg.AppendTime, 30*time.Second)
	orDefault(&cfg.RetryAfter, 100*time.Millisecond)
	orDefault(&cfg.RetryAtMost, 2*time.Second)
	if cfg.FS == nil {
		cfg.FS = disk.OS
	}
	s := &Spool{cfg: cfg, log: cfg.Logger, start: cfg.Log.Head(), wake: make(chan struct{}, 1), applied: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.mu.next = s.forwardedUpTo()
	return s, nil
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Applied is closed once everything that was in the spool at the start, and perhaps not in
// the log of all replicas, is in force here. No decision may be made before.
func (s *Spool) Applied() <-chan struct{} { return s.applied }

// Health says why the spool takes nothing, or nil.
func (s *Spool) Health() error {
	s.mu.Lock()
	running, broken := s.mu.running, s.mu.broken
	s.mu.Unlock()
	switch {
	case !running:
		return errors.New("nobody follows the spool")
	case broken != nil:
		return broken
	}
	return s.cfg.Log.Health()
}

// Stats reports what the spool has done.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.mu.stats
	st.Waiting, st.WaitingBytes = len(s.mu.waiting), s.mu.bytes
	if len(s.mu.waiting) > 0 {
		st.Oldest = s.mu.waiting[0].Appended
	}
	if s.mu.away != nil {
		st.LastError = s.mu.away.Error()
	}
	return st
}

// Append makes records durable; Run has them applied. The error is
// signals.ErrUnavailable where none of them is in the spool, among others because it is full.
func (s *Spool) Append(ctx context.Context, records [][]byte) error {
	if err := s.Health(); err != nil {
		return fmt.Errorf("%w: %w", signals.ErrUnavailable, err)
	}
	size := int64(0)
	for _, r := range records {
		size += int64(len(r))
	}
	if !s.reserve(len(records), size) {
		return fmt.Errorf("%w: the spool is full", signals.ErrUnavailable)
	}
	_, err := s.cfg.Log.Append(ctx, records)
	if err == nil {
		return nil // what is reserved is given back when the follower sees the records
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.reserved -= len(records)
	s.mu.reservedBytes -= size
	if errors.Is(err, signals.ErrOverloaded) {
		err = fmt.Errorf("%w: %w", signals.ErrUnavailable, err)
	}
	return err
}

func (s *Spool) reserve(n int, size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.waiting)+s.mu.reserved+n > s.cfg.MaxRecords || s.mu.bytes+s.mu.reservedBytes+size > s.cfg.MaxBytes {
		return false
	}
	s.mu.reserved += n
	s.mu.reservedBytes += size
	return true
}

// Run applies what the spool takes and forwards it to the log of all replicas, until ctx
// ends. A spool has one Run at a time.
func (s *Spool) Run(ctx context.Context, to signals.Log) {
	s.setRunning(true)
	defer s.setRunning(false)
	var forwarder sync.WaitGroup
	forwarder.Go(func() { s.forward(ctx, to) })
	s.follow(ctx)
	forwarder.Wait()
}

func (s *Spool) setRunning(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.running = is
}

// follow applies what is in the spool's log, and what is appended. When that breaks, nothing
// is taken until it is followed again.
func (s *Spool) follow(ctx context.Context) {
	for pause := s.cfg.RetryAfter; ; pause = min(2*pause, s.cfg.RetryAtMost) {
		s.mu.Lock()
		next := s.mu.next
		s.mu.Unlock()
		err := s.cfg.Applier.FollowSpool(ctx, s.cfg.Log, signals.Positions{0: next}, s.take, s.caughtUp)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the log of the spool ended")
		}
		s.log.Error("THE SPOOL IS BROKEN: signals that the log cannot take are refused", "error", err, "retry_in", pause)
		s.mu.Lock()
		s.mu.broken = err
		s.mu.Unlock()
		if !s.sleep(ctx, pause) {
			return
		}
	}
}

// take hands over what was applied to the forwarder. It is called before those who pushed
// it are told.
func (s *Spool) take(entries []signals.Entry) {
	s.mu.Lock()
	for _, e := range entries {
		size := int64(len(e.Record))
		s.mu.waiting = append(s.mu.waiting, e)
		s.mu.bytes += size
		if e.Position.Offset >= s.start { // else it was there before any Append
			s.mu.reserved = max(0, s.mu.reserved-1)
			s.mu.reservedBytes = max(0, s.mu.reservedBytes-size)
		}
		s.mu.next = e.Position.Offset + 1
	}
	s.mu.stats.Applied += uint64(len(entries))
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default: // one token is enough: the forwarder takes all there is
	}
}

// caughtUp is called when all that was there has been applied.
func (s *Spool) caughtUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.broken = nil
	if !s.mu.replayed {
		s.mu.replayed = true
		close(s.applied)
	}
}

// sleep waits for a pause, or less by up to a half, so that replicas which failed together
// do not come back together. It reports whether ctx goes on.
func (s *Spool) sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause - time.Duration(rand.Int64N(int64(pause)/2+1)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
