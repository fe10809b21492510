package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// load is requests sent to one target by a fixed number of connections.
//
// With a rate it is an open loop: request i is meant to start at begin + i/rate, whatever
// became of those before, and its latency counts from there, waiting for a free
// connection included. So a server that stalls is charged for every request that would
// have come meanwhile (no coordinated omission). Without a rate it is a closed loop: each
// connection sends as soon as it has its answer, which measures throughput; its
// latencies are those of a crowd that waits politely.
type load struct {
	to          target
	connections int
	rate        float64 // per second; 0 for a closed loop
	duration    time.Duration
	limit       int64 // requests; 0 for as many as the duration has
	timeout     time.Duration
	slow        time.Duration // slower requests make a stall; 0 for none
	seed        uint64

	// next gives worker's next request; check judges its answer, "" where it is right.
	// what next gives goes to check.
	next  func(random *rand.Rand, worker int, i int64) (request []byte, what int)
	check func(worker, what, status int, body []byte) string

	done atomic.Int64 // answered so far, for progress
}

// loadResult is what became of a load.
type loadResult struct {
	latency  histogram // from the intended start
	lateness histogram // of an open loop: how late the pacer itself was
	answered int64
	failed   int64 // no answer, or none in time
	wrong    int64 // answered wrongly
	unsent   int64 // were due and never sent; each is in latency with what it had waited
	dials    int
	took     time.Duration
	stalls   []stall
	example  string // of what went wrong
}

func (r *loadResult) throughput() float64 {
	if r.took <= 0 {
		return 0
	}
	return float64(r.answered) / r.took.Seconds()
}

// worker is one connection's share of a load.
type worker struct {
	*load
	result loadResult
	slow   []slow
	conn   conn
	random *rand.Rand
	number int
}

// due is one request of an open loop: its number and when it is meant to start.
type due struct {
	i  int64
	at time.Time
}

// run sends the load and waits for the last answer. It ends early with ctx, and what fails
// then is not counted.
func (l *load) run(ctx context.Context) *loadResult {
	begin := time.Now()
	end := begin.Add(l.duration)
	queue := make(chan due, l.connections)
	workers := make([]*worker, l.connections)
	var group sync.WaitGroup
	for n := range workers {
		w := &worker{load: l, number: n, random: rand.New(rand.NewPCG(l.seed, uint64(n))), conn: conn{to: l.to, timeout: l.timeout}}
		workers[n] = w
		group.Go(func() {
			defer w.conn.close()
			if l.rate > 0 {
				w.open(ctx, queue, end)
			} else {
				w.closed(ctx, end)
			}
		})
	}
	total := &loadResult{}
	if l.rate > 0 {
		l.pace(ctx, begin, queue, &total.lateness)
	}
	group.Wait()
	total.took = time.Since(begin)
	var all []slow
	for _, w := range workers {
		r := &w.result
		total.latency.merge(&r.latency)
		total.answered += r.answered
		total.failed += r.failed
		total.wrong += r.wrong
		total.unsent += r.unsent
		total.dials += w.conn.dials
		if total.example == "" {
			total.example = r.example
		}
		all = append(all, w.slow...)
	}
	total.stalls = stalls(begin, all)
	return total
}

// pace hands out the requests of an open loop when they are due. Where all connections are
// busy it waits for one; the times at which requests are due do not move with it.
func (l *load) pace(ctx context.Context, begin time.Time, queue chan<- due, lateness *histogram) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(queue)
	count := int64(l.rate * l.duration.Seconds())
	if l.limit > 0 {
		count = min(count, l.limit)
	}
	for i := range count {
		at := begin.Add(time.Duration(float64(i) / l.rate * float64(time.Second)))
		if wait := time.Until(at); wait > 0 {
			if ctx.Err() != nil {
				return
			}
			nap(wait)
			lateness.record(time.Since(at))
		}
		select {
		case queue <- due{i, at}:
		case <-ctx.Done():
			return
		}
	}
}

// grace is how long after its end an open loop goes on sending what was due before.
const grace = 2 * time.Second

func (w *worker) open(ctx context.Context, queue <-chan due, end time.Time) {
	for d := range queue {
		if ctx.Err() != nil {
			continue
		}
		if time.Now().After(end.Add(grace)) {
			w.result.unsent++
			w.result.latency.record(time.Since(d.at))
			continue
		}
		w.send(ctx, d.i, d.at)
	}
}

func (w *worker) closed(ctx context.Context, end time.Time) {
	each := int64(0)
	if w.limit > 0 {
		each = w.limit / int64(w.connections)
		if int64(w.number) < w.limit%int64(w.connections) {
			each++
		}
	}
	for n := int64(0); (w.limit == 0 || n < each) && ctx.Err() == nil; n++ {
		now := time.Now()
		if now.After(end) {
			return
		}
		w.send(ctx, n*int64(w.connections)+int64(w.number), now)
	}
}

// send makes one request and counts what came of it.
func (w *worker) send(ctx context.Context, i int64, intended time.Time) {
	request, what := w.next(w.random, w.number, i)
	status, body, err := w.conn.do(request)
	now := time.Now()
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		w.result.failed++
		w.result.latency.record(now.Sub(intended)) // it took that long to learn nothing
		w.note(fmt.Sprintf("no answer: %v", err))
		// Whoever is refused at once must not spin.
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
		return
	}
	took := now.Sub(intended)
	w.result.latency.record(took)
	w.result.answered++
	w.done.Add(1)
	if w.load.slow > 0 && took > w.load.slow && len(w.slow) < maxSlow {
		w.slow = append(w.slow, slow{intended, now})
	}
	if wrong := w.check(w.number, what, status, body); wrong != "" {
		w.result.wrong++
		w.note(wrong)
	}
}

func (w *worker) note(example string) {
	if w.result.example == "" {
		w.result.example = example
	}
}
