package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/engine"
	"vigil/posture"
	"vigil/signals"
)

// What the bar is about.
const (
	signalRate    = 50_000
	decisionRate  = 20_000
	signalAgents  = 10_000
	signalsInPush = 500
	pushers       = 4
	deciders      = 2
)

// measureSignals decides as an open loop, without and with signals beside it in turn, and
// then finds out what a signal costs.
func (b *bench) measureSignals(ctx context.Context) error {
	n, err := b.newNode(ctx, newFleet(signalAgents))
	if err != nil {
		return err
	}
	defer n.close()
	items, err := itemsOf(signalAgents, signalAgents)
	if err != nil {
		return err
	}
	if _, err := n.warm(items); err != nil {
		return err
	}
	w := &storm{node: n, items: items, order: byPopularity(len(items))}
	if err := b.compareStorm(ctx, w); err != nil {
		return err
	}
	return b.measureSignalCost(ctx, w)
}

// storm is decisions and signals on one node.
type storm struct {
	*node
	items  []engine.Item
	order  []uint32
	serial atomic.Int64 // of the next signal
}

func (b *bench) compareStorm(ctx context.Context, w *storm) error {
	each := choose(b, time.Second, 3*time.Second)
	var with, without latencies
	var p99, quiet, reached []float64
	for round := range choose(b, 5, 9) {
		b.say("signals: round %d", round+1)
		alone := w.decide(ctx, each)
		stop, pushed := w.push(ctx, each)
		beside := w.decide(ctx, each)
		stop()
		rate, err := pushed()
		if err != nil {
			return err
		}
		with.merge(beside)
		without.merge(alone)
		p99, quiet = append(p99, float64(beside.quantile(.99))), append(quiet, float64(alone.quantile(.99)))
		reached = append(reached, rate)
	}
	rate := median(reached)
	stats := w.journal.Stats()
	b.add(ratio("signals.p99", fmt.Sprintf("p99 of %s decisions/s beside %s signals/s", thousands(decisionRate), thousands(rate)), "without signals", nanoseconds, p99, quiet,
		fmt.Sprintf("from when each was meant to start; signals are durable in the journal before they are acknowledged (%s syncs, the longest %s)", thousands(float64(stats.Fsyncs)), stats.LongestSync.Round(10*time.Microsecond))))
	b.add(alone("signals.rate", fmt.Sprintf("signals/s acknowledged meanwhile, of %s meant", thousands(signalRate)), perSecond, rate, ""))
	b.add(alone("signals.p50", "p50 of the decisions beside signals", nanoseconds, float64(with.quantile(.5)), fmt.Sprintf("%s without", quantity(float64(without.quantile(.5)), nanoseconds))))
	b.add(alone("signals.p999", "p99.9 of the decisions beside signals", nanoseconds, float64(with.quantile(.999)), fmt.Sprintf("%s without", quantity(float64(without.quantile(.999)), nanoseconds))))
	b.plot(Series{ID: "signals", Title: "Latency of decisions at 20,000/s, by quantile", X: "quantile", Y: "µs", LogY: true, Lines: []Line{
		{Name: "without signals", Points: quantiles(&without)}, {Name: "beside signals", Points: quantiles(&with)}}})
	return nil
}

// quantiles are points of a plot whose x is the number of nines.
func quantiles(l *latencies) (points []Point) {
	for i, q := range []float64{.5, .9, .99, .999, .9999} {
		points = append(points, Point{float64(i), float64(l.quantile(q)) / 1e3})
	}
	return points
}

// decide is the open loop: each decider has a time at which each of its decisions is meant
// to start, whatever became of the one before, and latencies count from there.
func (w *storm) decide(ctx context.Context, each time.Duration) *latencies {
	all := make([]latencies, deciders)
	var group sync.WaitGroup
	begin := time.Now().Add(time.Millisecond)
	const gap = deciders * time.Second / decisionRate
	for k := range deciders {
		group.Go(func() {
			runtime.LockOSThread() // a thread that naps precisely; it ends with the goroutine
			precise()
			due := begin.Add(gap * time.Duration(k) / deciders)
			for i := k * 7919; due.Sub(begin) < each && ctx.Err() == nil; i++ {
				if wait := time.Until(due); wait > 0 {
					nap(wait)
				}
				it := &w.items[w.order[i&(orders-1)]]
				if a := w.Decide(caller, it.Request, it.Principal); a.Effect == authz.Allow {
					all[k].add(time.Since(due))
				}
				due = due.Add(gap)
			}
		})
	}
	group.Wait()
	for k := range all[1:] {
		all[0].merge(&all[k+1])
	}
	return &all[0]
}

// push keeps pushing at the rate of the bar, or as fast as is acknowledged where that is
// slower, until stop; pushed then gives how many a second were acknowledged.
func (w *storm) push(ctx context.Context, most time.Duration) (stop func(), pushed func() (float64, error)) {
	ctx, cancel := context.WithTimeout(ctx, most+5*time.Second)
	var group sync.WaitGroup
	var next, done atomic.Int64
	errs := make([]error, pushers)
	begin := time.Now()
	const gap = signalsInPush * time.Second / signalRate
	var ended atomic.Bool
	for k := range pushers {
		group.Go(func() {
			batch := newSignalBatch(signalsInPush)
			for !ended.Load() && ctx.Err() == nil {
				due := begin.Add(gap * time.Duration(next.Add(1)-1))
				if wait := time.Until(due); wait > 0 {
					time.Sleep(wait)
				}
				if errs[k] = w.send(ctx, batch, signalsInPush); errs[k] != nil {
					return
				}
				done.Add(signalsInPush)
			}
		})
	}
	var took time.Duration
	return func() {
			ended.Store(true)
			group.Wait()
			took = time.Since(begin)
			cancel()
		}, func() (float64, error) {
			for _, err := range errs {
				if err != nil {
					return 0, err
				}
			}
			return float64(done.Load()) / took.Seconds(), nil
		}
}

// send pushes one batch and waits until it is acknowledged.
func (w *storm) send(ctx context.Context, batch *signalBatch, size int) error {
	serial := int(w.serial.Add(int64(size))) - size
	receipt, err := w.intake.Push(ctx, sender, batch.fill(serial, signalAgents, time.Now()))
	if err == nil && receipt.Results[0].Outcome == posture.Duplicate {
		err = fmt.Errorf("signal %d was there before", serial)
	}
	return err
}

// measureSignalCost pushes as fast as it is acknowledged, with nothing beside, and times
// the parts.
func (b *bench) measureSignalCost(ctx context.Context, w *storm) error {
	b.say("signals: as many as can be")
	each := choose(b, 1500*time.Millisecond, 5*time.Second)
	var group sync.WaitGroup
	var done atomic.Int64
	errs := make([]error, pushers)
	used, begin := processorTime(os.Getpid()), time.Now()
	before := w.journal.Stats()
	for k := range pushers {
		group.Go(func() {
			batch := newSignalBatch(signals.MaxBatch)
			for time.Since(begin) < each && ctx.Err() == nil {
				if errs[k] = w.send(ctx, batch, signals.MaxBatch); errs[k] != nil {
					return
				}
				done.Add(signals.MaxBatch)
			}
		})
	}
	group.Wait()
	took, cost := time.Since(begin).Seconds(), processorTime(os.Getpid())-used
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	after, n := w.journal.Stats(), float64(done.Load())
	b.add(alone("signals.most", "signals/s acknowledged, nothing beside them", perSecond, n/took,
		fmt.Sprintf("%d pushers, %d in a push; %.0f syncs/s of %.0f kB each", pushers, signals.MaxBatch, float64(after.Fsyncs-before.Fsyncs)/took,
			float64(after.AppendedBytes-before.AppendedBytes)/1e3/float64(max(1, after.Fsyncs-before.Fsyncs)))))
	if cost > 0 {
		b.add(alone("signals.cpu", "processor time of one signal, from its JSON to its acknowledgement", nanoseconds, float64(cost)/n,
			fmt.Sprintf("%s signals/s for one processor; the collector's work and that of who sends them is in it", thousands(n/cost.Seconds()))))
		// Why fewer than were meant to be may be all that there can be.
		find(b.results.Rows, "signals.rate").Note = fmt.Sprintf("a signal costs %s of processor time, so that %s/s alone need %s of the %d processors here, which the decisions, the disk and whoever else is on the machine want too",
			quantity(float64(cost)/n, nanoseconds), thousands(signalRate), number(signalRate*cost.Seconds()/n), runtime.NumCPU())
	}
	return b.measureSignalParts(ctx, w)
}

// measureSignalParts times what the processor does for a signal, one part at a time.
func (b *bench) measureSignalParts(ctx context.Context, w *storm) error {
	// So few that reading them gives way to nobody: what is timed has a thread of its own, and
	// to change threads costs more than to read a signal.
	const few = 8
	batch := newSignalBatch(few)
	body := batch.fill(1, signalAgents, time.Now())
	record := signals.Record{Source: sender.Source, Tenant: authz.DefaultTenant, Body: body[1:batch.width], Seq: 1, Origin: 1}
	encoded := signals.EncodeRecord(nil, &record)
	store, at := newFleet(signalAgents), registered()
	var failed error
	serial := 0
	times, err := interleave(ctx, b.rounds,
		subject{name: "decode", step: few, run: func(n int) {
			for done := 0; done < n; done += few {
				if _, err := signals.Decode(body); err != nil {
					failed = err
				}
			}
		}},
		subject{name: "record", run: func(n int) {
			for range n {
				encoded = signals.EncodeRecord(encoded[:0], &record)
				if r, err := signals.DecodeRecord(encoded); err != nil || len(r.Body) == 0 {
					failed = fmt.Errorf("a record: %w", err)
				}
			}
		}},
		subject{name: "apply", run: func(n int) {
			for range n {
				serial++
				store.Apply(at, []posture.Change{{Key: agentKey(serial % signalAgents), Facts: []posture.Fact{{
					Facet: posture.Risk, Source: "client:ueba", ID: "r", Time: at + authz.Instant(serial), Until: authz.Forever, Risk: serial % 60}}}})
			}
		}})
	if err != nil || failed != nil {
		return fmt.Errorf("the parts of a signal: %w", firstOf(err, failed))
	}
	for i, part := range []struct{ id, what string }{
		{"signals.decode", "of a signal: strict decoding of its JSON, once"},
		{"signals.record", "of a signal: its record encoded and decoded"},
		{"signals.apply", "of a signal: joined into posture, and made ready"},
	} {
		b.add(alone(part.id, part.what, nanoseconds, median(times[i]), ""))
	}
	return nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
