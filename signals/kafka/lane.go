package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go/protocol/apiversions"
)

const (
	// produceTimeout is how long a leader may wait for the other replicas, and
	// produceMargin how much later its answer may come.
	produceTimeout = 3 * time.Second
	produceMargin  = time.Second
	// idle is how long a connection is not used before it is tried: brokers close those that
	// are silent, and a request that meets that has an unknown outcome.
	idle = 30 * time.Second
)

// portion is those records of a call that go with one request. What stands before the blank
// line never changes; the rest is the lane's until done is closed, and does not change after.
type portion struct {
	records [][]byte
	first   int // which of the call's records is the first
	size    int

	base int64     // the offset of the first
	code errorCode // the broker's refusal
	err  error     // why it is open what became of them; it wraps errNotSent where nothing was sent
	done chan struct{}

	state atomic.Int32 // waiting, taken or withdrawn; guards nothing
}

const (
	waiting int32 = iota
	sent
	withdrawn
)

func newPortion(records [][]byte, first int) *portion {
	p := &portion{records: records, first: first, done: make(chan struct{})}
	for _, r := range records {
		p.size += len(r) + recordOverhead
	}
	return p
}

// again is the same records for another try. The old one may still be a lane's.
func (p *portion) again() *portion { return newPortion(p.records, p.first) }

// halves are two portions for what was too large as one.
func (p *portion) halves() []*portion {
	n := len(p.records) / 2
	return []*portion{newPortion(p.records[:n], p.first), newPortion(p.records[n:], p.first+n)}
}

// split makes portions of at most so many bytes, but for single records.
func split(records [][]byte, most int) []*portion {
	var all []*portion
	start, size := 0, 0
	for i, r := range records {
		n := len(r) + recordOverhead
		if i > start && size+n > most {
			all = append(all, newPortion(records[start:i], start))
			start, size = i, 0
		}
		size += n
	}
	return append(all, newPortion(records[start:], start))
}

// lane writes to one partition. run is its goroutine's, which ends with the log's context;
// the rest is for those who append.
type lane struct {
	w         *writer
	partition int32
	number    int32
	wake      chan struct{} // holds one
	said      atomic.Pointer[error]
	buf       []byte // of run

	mu     sync.Mutex
	queue  []*portion
	why    error     // why there is no connection to the leader, nil where there is one
	since  time.Time // when the request was sent that is under way; zero for none
	closed bool
}

// ill says why the lane cannot send now, or nil.
func (ln *lane) ill(now time.Time) error {
	if said := ln.said.Load(); said != nil && *said != nil {
		return *said
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.why != nil {
		return fmt.Errorf("partition %s: %w", ln.w.t.partitionName(ln.partition), ln.why)
	}
	if ln.hangsLocked(now, hedge) {
		return fmt.Errorf("partition %s: %w", ln.w.t.partitionName(ln.partition), errHangs)
	}
	return nil
}

// hangs reports whether the request under way was sent longer ago than that.
func (ln *lane) hangs(now time.Time, than time.Duration) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.hangsLocked(now, than)
}

func (ln *lane) hangsLocked(now time.Time, than time.Duration) bool {
	return !ln.since.IsZero() && now.Sub(ln.since) > than
}

// answered notes that no request is under way. Those who look for a lane look again where
// one had kept them waiting.
func (ln *lane) answered() {
	ln.mu.Lock()
	late := ln.hangsLocked(time.Now(), hang)
	ln.since = time.Time{}
	ln.mu.Unlock()
	if late {
		ln.w.change()
	}
}

// put has portions sent once, in order. What becomes of each is in it when its done is closed.
func (ln *lane) put(parts []*portion) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.why != nil || ln.closed {
		settle(parts, func(p *portion) { p.err = fmt.Errorf("%w: %w", errNotSent, ln.why) })
		return
	}
	ln.queue = append(ln.queue, parts...)
	select {
	case ln.wake <- struct{}{}:
	default:
	}
}

// withdraw takes a portion back, and reports whether it was not sent, so that it never will.
func (ln *lane) withdraw(p *portion) bool { return p.state.CompareAndSwap(waiting, withdrawn) }

// take gives what goes with the next request.
func (ln *lane) take() []*portion {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	var parts []*portion
	size, n := 0, 0
	for _, p := range ln.queue {
		if len(parts) > 0 && size+p.size > requestBytes {
			break
		}
		if n++; p.state.CompareAndSwap(waiting, sent) {
			parts = append(parts, p)
			size += p.size
		}
	}
	clear(ln.queue[:n])
	if ln.queue = ln.queue[n:]; len(ln.queue) == 0 {
		ln.queue = nil
	}
	if len(parts) > 0 {
		ln.since = time.Now()
	}
	return parts
}

// settle says what became of portions.
func settle(parts []*portion, how func(*portion)) {
	for _, p := range parts {
		how(p)
		close(p.done)
	}
}

// run writes to one leader after the other.
func (ln *lane) run() {
	ctx := ln.w.l.ctx
	var pause backoff
	for {
		lead, address, err := ln.w.l.cluster.leader(ctx, ln.number)
		if err != nil {
			break
		}
		err = guard(func() error { return ln.serve(ctx, lead, address, &pause) })
		ln.bounce(err, false)
		if lead.over.Err() != nil || err == errAnew {
			continue
		}
		ln.w.l.cluster.ask()
		if !pause.wait(ctx) {
			break
		}
	}
	ln.bounce(errClosing, true)
}

// bounce notes why nothing can be sent now, and has what waits look elsewhere.
func (ln *lane) bounce(why error, closed bool) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.why, ln.closed, ln.since = why, closed, time.Time{}
	var parts []*portion
	for _, p := range ln.queue {
		if p.state.CompareAndSwap(waiting, sent) {
			parts = append(parts, p)
		}
	}
	ln.queue = nil
	settle(parts, func(p *portion) { p.err = fmt.Errorf("%w: %w", errNotSent, why) })
}

// serve sends what waits to one leader over one connection, until something goes wrong or
// another leader is known. A request that is under way then has a little time to be answered.
func (ln *lane) serve(ctx context.Context, lead *lead, address string, pause *backoff) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(lead.over, func() {
		if sleep(ctx, hang) {
			cancel()
		}
	})
	defer stop()
	cn, err := ln.w.l.cluster.dialer.dial(ctx, address)
	if err != nil {
		return err
	}
	defer cn.close()
	ln.mu.Lock()
	ln.why = nil
	ln.mu.Unlock()
	ln.w.change()
	quiet := time.NewTimer(idle)
	defer quiet.Stop()
	for {
		if lead.over.Err() != nil {
			return errMoved
		}
		if cn.ending() {
			return errAnew
		}
		if parts := ln.take(); len(parts) > 0 {
			if err := ln.send(ctx, cn, parts); err != nil {
				return err
			}
			pause.reset()
			continue
		}
		quiet.Reset(idle)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-lead.over.Done():
		case <-ln.wake:
		case <-quiet.C:
			if _, err := cn.roundTrip(ctx, &apiversions.Request{}); err != nil {
				return err
			}
		}
	}
}

// send writes portions with one request. It returns an error where the lane has to begin
// anew; the portions are settled in any case.
func (ln *lane) send(ctx context.Context, cn *conn, parts []*portion) error {
	var values [][]byte
	if len(parts) == 1 {
		values = parts[0].records
	} else {
		for _, p := range parts {
			values = append(values, p.records...)
		}
	}
	ln.buf = appendBatch(append(ln.buf[:0], 0, 0, 0, 0), values, ln.w.l.cfg.Now())
	limited, cancel := context.WithTimeout(ctx, produceTimeout+produceMargin)
	defer cancel()
	got, err := cn.produce(limited, ln.w.t.name, ln.partition, ln.buf, produceTimeout)
	if cap(ln.buf) > 2*requestBytes {
		ln.buf = nil
	}
	switch {
	case err != nil:
	case got.code == errNone:
		ln.answered()
		at := got.base
		settle(parts, func(p *portion) {
			p.base = at
			at += int64(len(p.records))
		})
		return nil
	case tooLarge(got.code) && len(parts) > 1:
		for i := range parts {
			if err := ln.send(ctx, cn, parts[i:i+1]); err != nil {
				settle(parts[i+1:], func(p *portion) { p.err = fmt.Errorf("%w: %w", errNotSent, err) })
				return err
			}
		}
		return nil
	case tooLarge(got.code):
		ln.answered()
		settle(parts, func(p *portion) { p.code = got.code })
		return nil
	default:
		if err = got.code; got.text != "" {
			err = fmt.Errorf("%w: %q", got.code, got.text)
		}
	}
	ln.w.errors.Add(1)
	ln.w.l.log.Warn("the log was not written to", slog.String("partition", ln.w.t.partitionName(ln.partition)), slog.Any("error", err))
	ln.mu.Lock()
	ln.why, ln.since = err, time.Time{} // before they are told, so that none comes back at once
	ln.mu.Unlock()
	settle(parts, func(p *portion) {
		if got.code != errNone && got.base < 0 {
			p.code = got.code
		} else {
			p.err = err // no answer, or of a leader that was deposed after it had written them
		}
	})
	return err
}
