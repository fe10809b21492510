package journal

import (
	"context"
	"fmt"
	"time"

	"vigil/authz"
	"vigil/signals"
)

// request is one append on its way. The appender makes it, the writer answers it.
type request struct {
	// frames are the frames of all records, complete but for append time and CRC. The
	// writer fills those in; from then on they are not changed, for entries refer to them.
	frames    []byte
	ends      []int // in frames, of each record
	positions []signals.Position
	entries   []signals.Entry
	dated     bool // the append times are in entries already

	done chan error // one element; answered once

	// Guarded by Journal.mu.
	taken, cancelled bool
}

// entryOverhead is about what a record takes in memory besides its frame.
const entryOverhead = 100

// MaxAppend bounds the payload of one append in bytes.
const MaxAppend = 16 << 20

func newRequest(records [][]byte) (*request, error) {
	size := 0
	for i, record := range records {
		if len(record) > MaxRecord {
			return nil, &TooLargeError{fmt.Sprintf("record %d has %d bytes; the journal takes at most %d", i, len(record), MaxRecord)}
		}
		size += recordFrame + len(record)
	}
	if size > MaxAppend {
		return nil, &TooLargeError{fmt.Sprintf("an append of %d bytes; the journal takes at most %d", size, MaxAppend)}
	}
	return layOut(records), nil
}

// layOut copies records into frames. The copy leaves the caller free to use its bytes
// again, also when it has gone before the writer came.
func layOut(records [][]byte) *request {
	size := 0
	for _, record := range records {
		size += recordFrame + len(record)
	}
	r := &request{
		frames:    make([]byte, 0, size),
		ends:      make([]int, len(records)),
		positions: make([]signals.Position, len(records)),
		entries:   make([]signals.Entry, len(records)),
		done:      make(chan error, 1),
	}
	var blank [recordFrame]byte
	blank[frameHead] = kindRecord
	for i, record := range records {
		r.frames = append(r.frames, blank[:]...)
		r.frames = append(r.frames, record...)
		end := len(r.frames)
		r.ends[i] = end
		r.entries[i].Record = r.frames[end-len(record) : end : end]
	}
	return r
}

// complete gives the records their places and times, and returns the running hash
// behind them.
func (r *request) complete(first int64, now authz.Instant, salted uint32, running digest, chain chainer) digest {
	start := 0
	for i, end := range r.ends {
		r.positions[i] = signals.Position{Offset: first + int64(i)}
		entry := &r.entries[i]
		entry.Position = r.positions[i]
		if !r.dated {
			entry.Appended = now
		}
		frame := r.frames[start:end]
		le.PutUint64(frame[frameHead+1:], uint64(entry.Appended))
		seal(frame, salted)
		chain.advance(&running, frame[frameHead:])
		start = end
	}
	return running
}

// Append makes the records durable, in this order and next to each other, and returns
// their positions. Records of concurrent appends share a sync.
//
// With an error that wraps signals.ErrUnavailable none of them is in the log, and none
// will be: ill health, a full queue (signals.ErrOverloaded too), an end of ctx before
// their turn, or Close. A *TooLargeError says the same. With signals.ErrUnknownOutcome
// they may be in it. The caller may use the records again when it returns.
func (j *Journal) Append(ctx context.Context, records [][]byte) ([]signals.Position, error) {
	if len(records) == 0 {
		return nil, nil
	}
	r, err := newRequest(records)
	if err != nil {
		return nil, err
	}
	if err := j.enqueue(ctx, r); err != nil {
		return nil, err
	}
	select {
	case err = <-r.done:
	case <-ctx.Done():
		err = j.abandon(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	return r.positions, nil
}

func (j *Journal) enqueue(ctx context.Context, r *request) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	q := &j.mu
	switch {
	case ctx.Err() != nil:
		return unavailable(context.Cause(ctx))
	case q.closing:
		return unavailable(ErrClosed)
	case q.failed != nil:
		return unavailable(q.failed)
	case len(q.queue) > 0 && (q.queueCount+len(r.ends) > j.opt.MaxPending ||
		q.queueBytes+len(r.frames) > j.opt.MaxPendingBytes):
		return unavailable(signals.ErrOverloaded)
	}
	q.queue = append(q.queue, r)
	q.queueCount += len(r.ends)
	q.queueBytes += len(r.frames)
	j.signal()
	return nil
}

// abandon answers for a request whose caller has gone.
func (j *Journal) abandon(ctx context.Context, r *request) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !r.taken {
		r.cancelled = true // the writer passes over it
		return unavailable(context.Cause(ctx))
	}
	select {
	case err := <-r.done:
		return err
	default:
		return fmt.Errorf("%w: %w", signals.ErrUnknownOutcome, context.Cause(ctx))
	}
}

// takeGroup takes what is written next from the queue.
func (j *Journal) takeGroup(into []*request) []*request {
	j.mu.Lock()
	defer j.mu.Unlock()
	q := &j.mu
	bytes, n := 0, 0
	for _, r := range q.queue {
		if bytes > 0 && bytes+len(r.frames) > j.opt.GroupBytes {
			break
		}
		n++
		q.queueCount -= len(r.ends)
		q.queueBytes -= len(r.frames)
		if r.cancelled {
			continue
		}
		r.taken = true
		bytes += len(r.frames)
		into = append(into, r)
	}
	rest := copy(q.queue, q.queue[n:])
	clear(q.queue[rest:])
	q.queue = q.queue[:rest]
	return into
}

// drained reports whether the journal is closing and nothing is queued.
func (j *Journal) drained() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.closing && len(j.mu.queue) == 0
}

// refuse makes appends fail with err before they are queued, or not.
func (j *Journal) refuse(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.failed = err
}

func (j *Journal) count(f func(*Stats)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.mu.stats)
}

// join adds a segment to the chain.
func (j *Journal) join(s segment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.segments = append(j.mu.segments, s)
}

// publish shows what the writer has made durable to followers.
func (j *Journal) publish(w *writer, group []*request, took time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	q := &j.mu
	active := &q.segments[len(q.segments)-1]
	active.end, active.size = w.head, w.end
	q.head = w.head
	q.stats.Groups++
	q.stats.LastSync = took
	q.stats.LongestSync = max(q.stats.LongestSync, took)
	for _, r := range group {
		q.stats.Appended += uint64(len(r.ends))
		q.stats.AppendedBytes += uint64(len(r.frames) - len(r.ends)*recordFrame)
		if q.following {
			q.recent.push(r.entries, len(r.frames)+entryOverhead*len(r.entries), j.opt.FollowBytes)
		}
	}
	if !q.closing { // Close has closed it
		close(q.grown)
		q.grown = make(chan struct{})
	}
}
