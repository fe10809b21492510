package signals

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/posture"
)

// ApplierConfig is what an applier needs.
type ApplierConfig struct {
	// Store is what signals are joined into. Required.
	Store *posture.Store
	// Now reads the clock. It never goes back. Required.
	Now func() authz.Instant
	// DeadLetter is told of each record that could not be applied, in order, by the goroutine
	// that applies: it must not wait for anything. The letter is its to keep. Reading the log
	// again tells it again. nil for nobody; see also Applier.DeadLetters.
	DeadLetter func(DeadLetter)
	// Observe is told of each record that was applied or could not be, in order, by the
	// goroutine that applies: after the as-of position that covers it was published and those
	// who wait were told. It must not wait for anything and keeps nothing of the Observation.
	// nil for nobody.
	Observe func(*Observation)
	// PartitionName names a partition for people; nil for none.
	PartitionName func(partition int32) string
	// Logger is told of dead letters and of signals that could not be read; nil for none.
	Logger *slog.Logger
	// MaxWaiters bounds the calls of WaitApplied that wait at once; 0 for 1024.
	MaxWaiters int
	// MaxWait bounds each of them, whatever its context says; 0 for 2 s.
	MaxWait time.Duration
}

// Applier follows a log and joins what it delivers into a store.
//
// One goroutine at a time applies: that of Run, which follows the log, or that of
// FollowSpool. For each batch that the log delivers Run's applies every signal, then
// publishes the as-of position, and only then tells those who wait. All methods are safe
// for concurrent use.
type Applier struct {
	cfg    ApplierConfig
	log    *slog.Logger
	origin uint64 // marks this process's own records
	// lastSeq is the last number that such a record has.
	lastSeq atomic.Uint64

	// reached is stored after the records up to it are in the store and its token is
	// published there. Whoever loads it sees a store that has them.
	reached atomic.Pointer[reached]
	// broken is what ended the last Run, or nil from when a Run has caught up. Decisions
	// load it; it orders nothing.
	broken atomic.Pointer[fault]

	caughtUp chan struct{} // closed by the first Run that catches up

	// applying is held by the goroutine that applies, over a whole batch. Lock order:
	// applying, then mu, then the store's.
	applying sync.Mutex

	mu struct {
		sync.Mutex
		running bool
		spooled bool       // FollowSpool runs
		heads   soleWriter // the log of the last Run; nil where it is not one
		ready   bool       // caughtUp is closed
		last    authz.Instant
		counts  map[SignalCount]uint64
		dead    deadLetters
		pushes  []*push // that somebody waits for, in the order of their records
		waiters map[*waiter]struct{}
	}

	// Guarded by applying.
	sources  map[Source]string // interned strings
	expected []*push           // pushes as they were when a batch came: all whose records can be in it
	done     []applied         // of the batch
	warnings warnings
}

// fault is what stopped a feed, and when. It is immutable.
type fault struct {
	err   error
	since authz.Instant
}

// reached is a position of a log that the store has come to. It is immutable.
type reached struct {
	log  LogID
	at   Positions
	asOf string
}

// Progress is how far an applier has come.
type Progress struct {
	Log         LogID
	Applied     Positions
	AsOf        string
	CaughtUp    bool
	Last        authz.Instant // append time of the last applied record
	Counts      map[SignalCount]uint64
	DeadLetters uint64 // since the start
	Err         error  // what stopped it
}

// SignalCount labels a counter of applied signals. Outcome is a posture.Outcome, or
// "dead_letter". Type is "unreadable" for signals of a newer version. There are at most
// maxCounts combinations; beyond that Source is "other".
type SignalCount struct {
	Type, Source, Outcome string
}

const maxCounts = 2048

// NewApplier makes an applier. It does nothing before Run.
func NewApplier(cfg ApplierConfig) (*Applier, error) {
	if cfg.Store == nil || cfg.Now == nil {
		return nil, errors.New("signals: an applier needs a store and a clock")
	}
	if cfg.MaxWaiters <= 0 {
		cfg.MaxWaiters = 1024
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 2 * time.Second
	}
	a := &Applier{cfg: cfg, log: cfg.Logger, caughtUp: make(chan struct{}), sources: make(map[Source]string)}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	var random [8]byte
	rand.Read(random[:]) // never fails
	a.origin = binary.LittleEndian.Uint64(random[:]) | 1
	a.mu.counts = make(map[SignalCount]uint64)
	a.mu.waiters = make(map[*waiter]struct{})
	return a, nil
}

// CaughtUp is closed once everything that was in the log at the start of a Run has been
// applied.
func (a *Applier) CaughtUp() <-chan struct{} { return a.caughtUp }

// Err is what stopped the feed, or nil where nothing did or a later Run has caught up. It
// takes no lock and does not allocate.
func (a *Applier) Err() error {
	if f := a.broken.Load(); f != nil {
		return f.err
	}
	return nil
}

// BrokenSince is when the feed first stopped for the fault that Err says, and 0 while Err
// is nil. It takes no lock and does not allocate.
func (a *Applier) BrokenSince() authz.Instant {
	if f := a.broken.Load(); f != nil {
		return f.since
	}
	return 0
}

// Progress reports how far a has come. The maps are the caller's.
func (a *Applier) Progress() Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := Progress{
		CaughtUp:    a.mu.ready,
		Last:        a.mu.last,
		Counts:      maps.Clone(a.mu.counts),
		DeadLetters: a.mu.dead.total,
		Err:         a.Err(),
	}
	if r := a.reached.Load(); r != nil {
		p.Log, p.Applied, p.AsOf = r.log, r.at.Clone(), r.asOf
	}
	return p
}

// DeadLetters are the latest records that could not be applied, oldest first.
func (a *Applier) DeadLetters() []DeadLetter {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.dead.list()
}

// Run applies the log from the given positions on, which must be those that the store
// stands for, until ctx ends or the log fails. It returns nil when ctx ended. It may be
// called again, after a failure, with the positions of Progress; not twice at once, and
// not for another log.
func (a *Applier) Run(ctx context.Context, log Log, from Positions) (err error) {
	a.mu.Lock()
	r := a.reached.Load()
	switch {
	case a.mu.running:
		err = errors.New("signals: the applier is running already")
	case r != nil && r.log != log.ID():
		err = fmt.Errorf("signals: the applier follows another log: %w", ErrOtherLog)
	case r != nil && !r.at.Covers(from):
		err = errors.New("signals: the applier has not come to where it should start")
	}
	if err != nil {
		if !a.mu.running { // else the other Run says how old the view is
			a.breakLocked(err)
		}
		a.mu.Unlock()
		return err
	}
	a.mu.running = true
	a.mu.heads, _ = log.(soleWriter)
	first := r == nil
	if first {
		r = &reached{log: log.ID(), at: from.Clone(), asOf: FormatAsOf(log.ID(), from)}
		a.cfg.Store.PublishAsOf(r.asOf)
		a.reached.Store(r)
	}
	a.mu.Unlock()

	if first {
		a.reread()
	}
	err = log.Follow(ctx, from, a.deliver, a.catchUp)
	if ctx.Err() != nil {
		err = nil
	} else if err == nil {
		err = errors.New("the log ended")
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.running = false
	if err != nil {
		err = fmt.Errorf("signals: following the log: %w", err)
		a.breakLocked(err)
	}
	a.abandonLocked(false)
	return err
}

// breakLocked notes that nobody follows the log, since now or since an earlier fault.
func (a *Applier) breakLocked(err error) {
	since := a.BrokenSince()
	if since == 0 {
		since = a.cfg.Now()
	}
	a.broken.Store(&fault{err, since})
}

// catchUp is called by the log.
func (a *Applier) catchUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken.Store(nil)
	if !a.mu.ready {
		a.mu.ready = true
		close(a.caughtUp)
	}
}

// deliver takes a batch of the log. The order of its three steps is the contract of the
// package: applied, then published, then acknowledged.
func (a *Applier) deliver(entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	a.applying.Lock()
	defer a.applying.Unlock()
	defer a.clearScratch()
	if err := a.applyAll(entries); err != nil {
		return err
	}
	before := a.reached.Load()
	at := before.at.Clone()
	for i := range entries {
		p := entries[i].Position
		at[p.Partition] = max(at[p.Partition], p.Offset+1)
	}
	r := &reached{log: before.log, at: at, asOf: FormatAsOf(before.log, at)}
	a.cfg.Store.PublishAsOf(r.asOf)
	a.reached.Store(r)

	a.acknowledge(r, entries[len(entries)-1].Appended)
	a.observe(entries)
	return nil
}

// acknowledge tells those who wait for what r covers.
func (a *Applier) acknowledge(r *reached, last authz.Instant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.last = max(a.mu.last, last)
	a.settleLocked(r.asOf)
	for w := range a.mu.waiters {
		if r.at.Covers(w.at) {
			delete(a.mu.waiters, w)
			close(w.done)
		}
	}
}

// applyAll joins entries into the store. What came of each is in done. The caller holds
// applying, and calls clearScratch in the end.
func (a *Applier) applyAll(entries []Entry) error {
	a.mu.Lock()
	a.expected = append(a.expected[:0], a.mu.pushes...)
	a.mu.Unlock()
	for i := range entries {
		if i%turn == turn-1 {
			runtime.Gosched() // with applying held, which no decision waits for
		}
		e := &entries[i]
		out, err := a.apply(e)
		if err != nil {
			return fmt.Errorf("partition %d, offset %d: %w", e.Position.Partition, e.Position.Offset, err)
		}
		a.done = append(a.done, out)
		if out.dead != nil && a.cfg.DeadLetter != nil {
			a.cfg.DeadLetter(*out.dead)
		}
	}
	return nil
}

// clearScratch lets go of what a batch needed: the scratch must keep nothing alive.
func (a *Applier) clearScratch() {
	clear(a.expected)
	clear(a.done)
	a.expected, a.done = a.expected[:0], a.done[:0]
}

// settleLocked counts what was done, and tells those who wait for it.
func (a *Applier) settleLocked(asOf string) {
	for i := range a.done {
		out := &a.done[i]
		a.countLocked(out.count)
		if out.dead != nil {
			a.mu.dead.add(*out.dead)
		}
		out.settleLocked(asOf)
	}
}

func (a *Applier) countLocked(c SignalCount) {
	if _, there := a.mu.counts[c]; !there && len(a.mu.counts) >= maxCounts {
		c.Source = "other"
	}
	a.mu.counts[c]++
}
