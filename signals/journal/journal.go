package journal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/disk"
	"vigil/signals"
)

// Options of a journal. Zero values mean the defaults.
type Options struct {
	// SegmentBytes is the size from which on a segment is followed by the next; 64 MiB.
	SegmentBytes int64
	// GroupBytes bounds what is written and synced at once (a single append may be
	// larger); 4 MiB.
	GroupBytes int
	// MaxPending and MaxPendingBytes bound the appends that wait; what exceeds them is
	// refused with signals.ErrOverloaded. 65,536 and 64 MiB.
	MaxPending      int
	MaxPendingBytes int
	// MarkAfter is how long the writer waits for another group before it writes the
	// watermark by itself; 10 ms.
	MarkAfter time.Duration
	// RetryAfter and RetryAtMost are the first and the longest pause before the journal
	// tries to recover from a failed write; 100 ms and 5 s.
	RetryAfter, RetryAtMost time.Duration
	// FollowBytes bounds the records that are kept in memory for a follower that has
	// not come to them; beyond that it reads the files. 16 MiB.
	FollowBytes int
	// Now dates the records. It is called by one goroutine at a time. nil means the
	// wall clock.
	Now func() authz.Instant
	// Logger is told of torn tails, failures and recoveries; nil tells nobody.
	Logger *slog.Logger
	// FS holds the folder; nil means the machine's.
	FS disk.FS
}

func (o Options) withDefaults() (Options, error) {
	for name, v := range map[string]int64{
		"SegmentBytes": o.SegmentBytes, "GroupBytes": int64(o.GroupBytes), "MaxPending": int64(o.MaxPending),
		"MaxPendingBytes": int64(o.MaxPendingBytes), "MarkAfter": int64(o.MarkAfter), "RetryAfter": int64(o.RetryAfter),
		"RetryAtMost": int64(o.RetryAtMost), "FollowBytes": int64(o.FollowBytes),
	} {
		if v < 0 {
			return o, fmt.Errorf("journal: %s is negative", name)
		}
	}
	orDefault(&o.SegmentBytes, 64<<20)
	orDefault(&o.GroupBytes, 4<<20)
	orDefault(&o.MaxPending, 1<<16)
	orDefault(&o.MaxPendingBytes, 64<<20)
	orDefault(&o.MarkAfter, 10*time.Millisecond)
	orDefault(&o.RetryAfter, 100*time.Millisecond)
	orDefault(&o.RetryAtMost, 5*time.Second)
	orDefault(&o.FollowBytes, 16<<20)
	if o.Now == nil {
		o.Now = func() authz.Instant { return authz.InstantOf(time.Now()) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = disk.OS
	}
	return o, nil
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Journal is a log in a folder. It is safe for concurrent use.
//
// One goroutine, the writer, started by Open and ended by Close, does all writing. Lock
// order: trimming before mu. mu is never held over I/O.
type Journal struct {
	dir      string
	opt      Options
	identity *identity
	lock     io.Closer
	latest   authz.Instant // the latest append time found by Open

	// health is what is wrong, or nil. It is stored by the writer alone.
	health atomic.Pointer[error]

	wake   chan struct{} // one token: the queue is no longer empty, or closing
	ended  chan struct{} // closed when the writer has ended
	closed error         // what Close returns; written before ended is closed

	mu struct {
		sync.Mutex
		queue      []*request
		queueBytes int
		queueCount int   // records
		failed     error // appends are refused with it; set and cleared by the writer
		closing    bool

		// segments and head change together. Readers may read the segments' files up
		// to size, from which on only the writer knows what stands there.
		segments []segment
		head     int64 // the next offset; every record before is durable

		grown     chan struct{} // closed and replaced when head grows, closed by Close
		following bool
		recent    recent
		stats     Stats
	}

	trimming sync.Mutex // held over the I/O of Trim
}

var _ signals.Log = (*Journal)(nil)

// Stats are counts since Open, but for Records and Bytes, which are of what is retained.
type Stats struct {
	Records, Bytes     int64 // in the retained segments
	Segments           int
	Appended           uint64 // records
	AppendedBytes      uint64 // of payload
	Groups             uint64
	Fsyncs             uint64 // of records and of the watermark
	Failures           uint64 // groups, segments and watermarks that could not be written
	LastError          string // of the last failure, also when it is over
	LastErrorAt        authz.Instant
	LastSync           time.Duration // how long the last sync of a group took
	LongestSync        time.Duration
	PendingRecords     int
	PendingBytes       int
	FollowedFromMemory uint64 // records delivered without reading a file
	FollowedFromFiles  uint64
}

// ID is the log's identity.
func (j *Journal) ID() signals.LogID { return j.identity.log }

// Continues is nil when a view that was taken at a position of log is a view of this
// journal: log is this one, or one that this one continues past that position. Otherwise
// it is a *ForeignError.
func (j *Journal) Continues(log signals.LogID, at signals.Positions) error {
	return j.identity.continues(log, at)
}

// Head is the offset of the next record. Every record before is durable.
func (j *Journal) Head() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.head
}

// Heads is Head, by partition: only this process writes the journal.
func (j *Journal) Heads() signals.Positions { return signals.Positions{0: j.Head()} }

// FirstOffset is the offset of the oldest retained record, or Head when there is none.
func (j *Journal) FirstOffset() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.firstLocked()
}

func (j *Journal) firstLocked() int64 { return j.mu.segments[0].header.first }

// LastAppended is the latest append time that Open found, or 0. A clock must not be
// before it.
func (j *Journal) LastAppended() authz.Instant { return j.latest }

// Health says what is wrong with the journal, or nil. It neither locks nor allocates.
func (j *Journal) Health() error {
	if err := j.health.Load(); err != nil {
		return *err
	}
	return nil
}

// Stats reports what the journal has done.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.mu.stats
	s.Records = j.mu.head - j.firstLocked()
	s.Segments = len(j.mu.segments)
	for _, seg := range j.mu.segments {
		s.Bytes += seg.size
	}
	s.PendingRecords, s.PendingBytes = j.mu.queueCount, j.mu.queueBytes
	return s
}

// Close makes what was appended durable, ends the writer and frees the folder. Followers
// end with ErrClosed. It may be called more than once.
func (j *Journal) Close() error {
	j.mu.Lock()
	if !j.mu.closing {
		j.mu.closing = true
		close(j.mu.grown)
	}
	j.mu.Unlock()
	j.signal()
	<-j.ended
	return j.closed
}

// signal wakes the writer. One token is enough: it looks at everything when it wakes.
func (j *Journal) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// unavailable wraps an error into one that says that nothing was written.
func unavailable(err error) error {
	if errors.Is(err, signals.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", signals.ErrUnavailable, err)
}
