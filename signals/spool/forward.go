package spool

import (
	"context"
	"log/slog"

	"vigil/signals"
)

// A batch of the forwarder ends at either.
const (
	batchRecords = 500
	batchBytes   = 512 << 10
)

// forward sends what waits to the log of all replicas, in order, until ctx ends. What was
// sent is forgotten once how far that is was tried to be written down: where it could not be,
// the next start sends it again.
func (s *Spool) forward(ctx context.Context, to signals.Log) {
	pause, unmarked := s.cfg.RetryAfter, int64(0)
	for {
		records, next := s.oldest()
		switch {
		case len(records) > 0:
			if err := s.send(ctx, to, records); err != nil {
				if !s.sleep(ctx, pause) {
					return
				}
				pause = min(2*pause, s.cfg.RetryAtMost)
				continue
			}
			unmarked, pause = next, s.cfg.RetryAfter
		case unmarked == 0:
			select {
			case <-ctx.Done():
				return
			case <-s.wake:
			}
			continue
		default: // all is sent, and the mark could not be written
			if !s.sleep(ctx, pause) {
				return
			}
			pause = min(2*pause, s.cfg.RetryAtMost)
		}
		if s.marked(unmarked) {
			unmarked = 0
		}
		s.forget(len(records))
	}
}

// oldest gives the oldest records that wait, and the offset after them.
func (s *Spool) oldest() (records [][]byte, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := 0
	for _, e := range s.mu.waiting {
		if size += len(e.Record); len(records) == batchRecords || size > batchBytes && len(records) > 0 {
			break
		}
		records, next = append(records, e.Record), e.Position.Offset+1
	}
	return records, next
}

// send appends records to the log of all replicas. When it fails some may be there all the
// same; they are sent again, which changes nothing.
func (s *Spool) send(ctx context.Context, to signals.Log, records [][]byte) error {
	attempt, cancel := context.WithTimeout(ctx, s.cfg.AppendTime)
	defer cancel()
	_, err := to.Append(attempt, records)
	s.mu.Lock()
	before := s.mu.away
	s.mu.away = err
	if err != nil {
		s.mu.stats.Retries++
	}
	s.mu.Unlock()
	if err != nil && before == nil && ctx.Err() == nil {
		s.log.Warn("signals wait in the spool: the log cannot be written", slog.Any("error", err))
	}
	return err
}

// forget lets go of the n oldest records.
func (s *Spool) forget(n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	for _, e := range s.mu.waiting[:n] {
		s.mu.bytes -= int64(len(e.Record))
	}
	clear(s.mu.waiting[:n])
	s.mu.waiting = s.mu.waiting[n:]
	if len(s.mu.waiting) == 0 {
		s.mu.waiting = nil
	}
	left, sent := len(s.mu.waiting), s.mu.stats.Forwarded+uint64(n)
	s.mu.stats.Forwarded = sent
	s.mu.Unlock()
	if left == 0 {
		s.log.Info("all signals of the spool are in the log", slog.Uint64("since_the_start", sent))
	}
}

// marked writes down that the log of all replicas has every record below next, and lets go
// of those. It reports whether that is durable.
func (s *Spool) marked(next int64) bool {
	if err := s.mark(next); err != nil {
		s.log.Error("how far the spool has been forwarded could not be written: the next start forwards again", slog.Any("error", err))
		return false
	}
	if _, err := s.cfg.Log.Trim(next); err != nil {
		s.log.Error("old segments of the spool stay", slog.Any("error", err))
	}
	return true
}
