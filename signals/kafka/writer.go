package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"vigil/signals"
)

const (
	// requestBytes is what one request to write carries of records at most, but for a single
	// one that is larger.
	requestBytes = 512 << 10
	// maxQueued and maxQueuedBytes bound what waits to be written or answered.
	maxQueued      = 200_000
	maxQueuedBytes = 64 << 20

	// findPatience is how long a call looks for a partition that takes its records while
	// nothing was sent. Nobody waits longer than that for a cluster that is away.
	findPatience = 700 * time.Millisecond
	// sendPatience is how long what may have been written is sent again.
	sendPatience = 5 * time.Second
	// hang is how long the answer to a request may take before other calls go elsewhere, if
	// there is somewhere else, and hedge how long before the partition counts as one that takes
	// nothing, and what the request carries is sent elsewhere, too.
	hang  = 300 * time.Millisecond
	hedge = time.Second
	// queuePatience is how long a call waits behind a request that hangs.
	queuePatience = 2 * time.Second
)

// writer appends to the log's topic. A call's records go to one partition; each partition
// has a lane, whose goroutine sends one request at a time with whatever waits. There is no
// delay that is not the broker's: what comes while a request is under way goes with the next.
//
// Lanes send each thing once and say what became of it. The calls, each in its caller's
// goroutine, decide whether and where to send it again. That may leave a record there twice,
// which is harmless: posture is a join.
type writer struct {
	l       *Log
	t       *topic
	running sync.WaitGroup
	errors  atomic.Int64
	turn    atomic.Uint32

	mu      sync.Mutex
	lanes   []*lane // by partition
	changed chan struct{}
	queued  int // records and bytes of calls that have not returned
	bytes   int
}

func newWriter(l *Log) *writer {
	return &writer{l: l, t: l.topics[0], changed: make(chan struct{})}
}

// start makes lanes, now and as partitions are added, until the log is closed.
func (w *writer) start() {
	w.running.Go(func() {
		for {
			changed := w.l.cluster.changes()
			w.grow()
			select {
			case <-w.l.ctx.Done():
				return
			case <-changed:
			}
		}
	})
}

func (w *writer) stop() { w.running.Wait() }

// grow makes a lane for each partition of the log that has none, and tells all what the
// brokers say of them.
func (w *writer) grow() {
	numbers, _ := w.l.cluster.numbers()
	w.mu.Lock()
	for _, number := range numbers {
		if t, p := topicOf(w.l.topics, number); t == w.t && int(p) == len(w.lanes) {
			ln := &lane{w: w, partition: p, number: number, wake: make(chan struct{}, 1), why: errNotReached}
			w.lanes = append(w.lanes, ln)
			w.running.Go(ln.run)
		}
	}
	lanes := w.lanes
	w.mu.Unlock()
	for _, ln := range lanes {
		err := w.l.cluster.writable(w.t, ln.number)
		ln.said.Store(&err)
	}
	w.change()
}

// change tells those who look for a lane to look again.
func (w *writer) change() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

// find gives a lane that can send now, each in its turn, or nil; and what to wait for. One
// that waits for an answer longer than others usually do is the last choice.
func (w *writer) find() (*lane, <-chan struct{}) {
	w.mu.Lock()
	lanes, changed := w.lanes, w.changed
	w.mu.Unlock()
	first := int(w.turn.Add(1) % max(1, uint32(len(lanes))))
	now := time.Now()
	var slow *lane
	for i := range lanes {
		ln := lanes[(first+i)%len(lanes)]
		switch {
		case ln.ill(now) != nil:
		case ln.hangs(now, hang):
			slow = ln
		default:
			return ln, changed
		}
	}
	return slow, changed
}

// elsewhere reports whether another lane than ln can send at once.
func (w *writer) elsewhere(ln *lane) bool {
	other, _ := w.find()
	return other != nil && other != ln && !other.hangs(time.Now(), hang)
}

// health says why no lane can send, or nil.
func (w *writer) health() error {
	w.mu.Lock()
	lanes := w.lanes
	w.mu.Unlock()
	err := errNotReached
	for i, ln := range lanes {
		ill := ln.ill(time.Now())
		if ill == nil {
			return nil
		}
		if i == 0 {
			err = ill
		}
	}
	return fmt.Errorf("kafka: no partition of %s can take records: %w", w.t.name, err)
}

// reserve takes room for a call, or says that there is none.
func (w *writer) reserve(records, bytes int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queued > 0 && (w.queued+records > maxQueued || w.bytes+bytes > maxQueuedBytes) {
		return fmt.Errorf("%w: %w", signals.ErrUnavailable, signals.ErrOverloaded)
	}
	w.queued += records
	w.bytes += bytes
	return nil
}

func (w *writer) release(records, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queued -= records
	w.bytes -= bytes
}

func (w *writer) append(ctx context.Context, records [][]byte) ([]signals.Position, error) {
	bytes := 0
	for _, r := range records {
		if len(r) > signals.MaxRecord {
			return nil, fmt.Errorf("%w: a record of %d bytes, more than %d", signals.ErrUnavailable, len(r), signals.MaxRecord)
		}
		bytes += len(r) + recordOverhead
	}
	if len(records) == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil { // else it might be sent for one who has gone
		return nil, fmt.Errorf("%w: kafka: %w", signals.ErrUnavailable, err)
	}
	if err := w.reserve(len(records), bytes); err != nil {
		return nil, err
	}
	defer w.release(len(records), bytes)
	c := call{w: w, began: time.Now(), at: make([]signals.Position, len(records))}
	rest := split(records, requestBytes)
	for {
		var err error
		if rest, err = c.try(ctx, rest); err != nil {
			return nil, c.verdict(err)
		}
		if len(rest) == 0 {
			return c.at, nil
		}
	}
}

// call is one Append.
type call struct {
	w      *writer
	began  time.Time
	at     []signals.Position
	unsure bool // something may have been written
	last   error
}

// verdict is the error of a call that gives up.
func (c *call) verdict(err error) error {
	if c.last != nil && !errors.Is(err, c.last) {
		err = fmt.Errorf("%w: %w", err, c.last)
	}
	if !c.unsure {
		return fmt.Errorf("%w: kafka: %w", signals.ErrUnavailable, err)
	}
	return fmt.Errorf("kafka: some may have been written: %w", err)
}

var (
	errNoLane  = errors.New("no partition takes records")
	errGaveUp  = errors.New("no broker has confirmed it in time")
	errClosing = errors.New("the log is being closed")
	errHangs   = errors.New("the broker does not answer")
	// errNotReached is what a lane or a Consumer is ill with before it has reached a broker.
	errNotReached = errors.New("no broker was reached yet")
)

// try sends what is left through one lane, and returns what is left then. An error is final.
func (c *call) try(ctx context.Context, parts []*portion) ([]*portion, error) {
	ln, err := c.lane(ctx)
	if err != nil {
		return nil, err
	}
	ln.put(parts)
	var rest []*portion
	for i, p := range parts {
		err := c.await(ctx, ln, p)
		switch {
		case err == nil && p.code == errNone:
			for j := range p.records {
				c.at[p.first+j] = signals.Position{Partition: ln.number, Offset: p.base + int64(j)}
			}
			c.unsure = true // from now on something is there
			continue
		case err != nil && ctx.Err() != nil:
			for _, later := range parts[i+1:] {
				if !ln.withdraw(later) {
					c.unsure = true
				}
			}
			return nil, err
		}
		c.last = err
		if err == nil {
			c.last = p.code
		}
		if err == nil && tooLarge(p.code) {
			if len(p.records) == 1 {
				return nil, p.code
			}
			rest = append(rest, p.halves()...)
			continue
		}
		if err == nil && hopeless(p.code) {
			return nil, p.code
		}
		rest = append(rest, p.again())
	}
	return rest, nil
}

// lane waits for one that can send, as long as the call's patience lasts.
func (c *call) lane(ctx context.Context) (*lane, error) {
	patience := findPatience
	if c.unsure {
		patience = sendPatience
	}
	if ln, _ := c.w.find(); ln != nil && c.last == nil {
		return ln, nil
	}
	left := patience - time.Since(c.began)
	if left <= 0 && c.last != nil {
		if c.unsure {
			return nil, errGaveUp
		}
		return nil, errNoLane
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	for {
		ln, changed := c.w.find()
		if ln != nil {
			return ln, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.w.l.ctx.Done():
			return nil, errClosing
		case <-timer.C:
			return nil, fmt.Errorf("%w: %w", errNoLane, c.w.health())
		case <-changed:
		}
	}
}

// await waits for what becomes of a part. An error says that the broker's answer is not
// known: then, unless it was withdrawn, it may be written.
func (c *call) await(ctx context.Context, ln *lane, p *portion) error {
	hurry := time.NewTimer(hang)
	defer hurry.Stop()
	for {
		select {
		case <-p.done:
			if p.err != nil && !errors.Is(p.err, errNotSent) || unknown(p.code) {
				c.unsure = true
			}
			return p.err
		case <-ctx.Done():
			if !ln.withdraw(p) {
				c.unsure = true
			}
			return ctx.Err()
		case <-hurry.C:
			// What still waits behind a request that hangs can go elsewhere. What is in it can,
			// too, but may then be there twice.
			waited, elsewhere := time.Since(c.began), c.w.elsewhere(ln)
			if (elsewhere || waited > queuePatience) && ln.withdraw(p) {
				return errHangs
			}
			if waited > sendPatience || elsewhere && ln.hangs(time.Now(), hedge) {
				c.unsure = true
				return errHangs
			}
			hurry.Reset(hang)
		}
	}
}

// unknown tells of answers that leave open whether the records are in the log, or that say
// that fewer replicas than needed have them.
func unknown(code errorCode) bool {
	switch code {
	case errRequestTimedOut, errNotEnoughAfterAppend, errUnknownServer, errNetworkException:
		return true
	}
	return false
}

func tooLarge(code errorCode) bool {
	return code == errMessageTooLarge || code == errRecordListTooLarge
}

// hopeless tells of refusals that no other partition and no second try will change.
func hopeless(code errorCode) bool {
	switch code {
	case errTopicAuthorization, errClusterAuthorization, errInvalidTopic, errUnsupportedVersion,
		errInvalidTimestamp, errInvalidRequiredAcks, errInvalidRecord, errPolicyViolation:
		return true
	}
	return false
}
