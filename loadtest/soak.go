package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// soakOptions is what `soak` can be told besides.
type soakOptions struct {
	options
	duration, probe, reload, sample time.Duration
	connections                     int
	share, rate, signals            float64
	batch                           int
}

func soakCommand(ctx context.Context, args []string, out, log io.Writer) error {
	var o soakOptions
	set := newFlags("soak", log)
	o.flags(set)
	set.DurationVar(&o.duration, "duration", 15*time.Minute, "how long to soak, the warm-up of a third included")
	set.DurationVar(&o.probe, "probe", 10*time.Second, "how long to look for saturation first")
	set.Float64Var(&o.share, "share", 0.5, "share of saturation to load, above 0 and at most 1")
	set.Float64Var(&o.rate, "rate", 0, "requests per second, instead of a share of saturation")
	set.IntVar(&o.connections, "connections", 16, "connections, 1 to 10,000")
	set.Float64Var(&o.signals, "signals", 1000, "signals per second to push beside the load; 0 for none")
	set.IntVar(&o.batch, "signal-batch", 10, "signals in one push, 1 to 1,000")
	set.DurationVar(&o.reload, "reload", 10*time.Second, "how often the rules are loaded again; 0 for never")
	set.DurationVar(&o.sample, "sample", 2*time.Second, "how often memory, goroutines and descriptors are looked at, at least every 100ms")
	if err := parse(set, args); err != nil {
		return err
	}
	return o.run(ctx, out, log)
}

func (o *soakOptions) check() error {
	if err := o.options.check(); err != nil {
		return err
	}
	for _, err := range []error{
		checkDuration("duration", o.duration), checkDuration("probe", o.probe), checkRange("share", o.share, 0.01, 1), checkRange("rate", o.rate, 0, 1e7),
		checkRange("connections", o.connections, 1, 10_000), checkRange("signals", o.signals, 0, 1e6), checkRange("signal-batch", o.batch, 1, 1000),
	} {
		if err != nil {
			return err
		}
	}
	if o.reload < 0 || o.sample < 100*time.Millisecond || o.sample > o.duration/12 {
		return badUsage("--reload or --sample is out of range; at least a dozen samples are needed")
	}
	if !o.start && o.controlURL == "" {
		return badUsage("a soak needs --control-url, to push signals to and to watch")
	}
	return nil
}

// soakRaceAgents is how many agents are raced about during a soak.
const soakRaceAgents = 4

func (o *soakOptions) run(ctx context.Context, out, log io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	report := newReport("soak")
	id := newRun()
	w, s, err := o.prepare(ctx, log, id, func(w *Workload) []Agent {
		return slices.Concat(w.Agents, w.raceAgents(id, soakRaceAgents))
	})
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	if o.signals > 0 && len(w.Agents) == 0 {
		return badUsage("--signals: the workload has no agents to signal about")
	}
	decisions := runOptions{options: o.options, connections: o.connections, stall: 50 * time.Millisecond}
	rate := o.rate
	if rate == 0 {
		fmt.Fprintf(log, "looking for saturation for %s\n", o.probe)
		probe := o.saturate(ctx, &decisions, w, s, id)
		report.add("soak.saturation", perSecond, probe.throughput())
		if rate = o.share * probe.throughput(); rate < 1 {
			return fmt.Errorf("no load to take a share of: %s", probe.example)
		}
	}
	report.aboutf("%s: %.0f requests per second over %s, %.0f signals per second, a reload every %s, a slow race beside it, for %s", w.Name, rate, s.decision.network, o.signals, o.reload, o.duration)

	decisions.rate = rate
	load := decisions.decisions(w, s.decision, o.duration)
	contest := &race{
		agents: soakRaceAgents, readers: 2, pushers: 1, decisions: math.MaxInt64, duration: o.duration, think: time.Millisecond,
		prefix: id, source: "client:race", seed: o.shape.seed,
		replicas: 1, racer: func(int) racer { return newWireRacer(s, s.decision, w, o.timeout) },
		gap: func(n int) { nap(time.Duration(n) * time.Millisecond) },
	}
	var watched watch
	var reloads reloader
	stop := progress(log, o.quiet, func(elapsed time.Duration) string {
		return fmt.Sprintf("%d answered, %.0f/s; %d raced, %d stale allows; %s", load.done.Load(), float64(load.done.Load())/elapsed.Seconds(),
			contest.raced.Load(), contest.stale.Load(), watched.last())
	})
	// All of them end with the load, or with ctx.
	within, end := context.WithTimeout(ctx, o.duration)
	defer end()
	var group sync.WaitGroup
	var stormed *loadResult
	var raced *raceResult
	if o.signals > 0 {
		storm := storm{rate: o.signals, batch: o.batch, connections: 4}.load(s, w, id, o.duration, o.timeout, o.shape.seed)
		group.Go(func() { stormed = storm.run(ctx) })
	}
	group.Go(func() { raced = contest.run(ctx) })
	group.Go(func() { watched.run(within, s, o.sample) })
	if o.reload > 0 {
		group.Go(func() { reloads.run(within, s, o.reload) })
	}
	result := load.run(ctx)
	end()
	group.Wait()
	stop()

	report.load("soak", result)
	if stormed != nil {
		report.load("signals", stormed)
	}
	report.race(raced)
	report.judge(raced, false, false)
	report.add("reloads.done", count, float64(reloads.done))
	report.add("reloads.failed", count, float64(reloads.failed))
	if reloads.failed > 0 {
		report.missf("%d reloads failed, such as: %v", reloads.failed, reloads.err)
	}
	report.Interrupted = ctx.Err() != nil
	watched.judge(report)
	return report.finish(&o.options, out)
}

// saturate measures what the engine can do at most, with the same signals beside it.
func (o *soakOptions) saturate(ctx context.Context, decisions *runOptions, w *Workload, s *site, id string) *loadResult {
	var group sync.WaitGroup
	if o.signals > 0 {
		storm := storm{rate: o.signals, batch: o.batch, connections: 4}.load(s, w, id+"-probe", o.probe, o.timeout, o.shape.seed)
		group.Go(func() { storm.run(ctx) })
	}
	result := decisions.decisions(w, s.decision, o.probe).run(ctx)
	group.Wait()
	return result
}

// reloader loads the rules again and again. It is read after its goroutine has ended.
type reloader struct {
	done, failed int
	err          error
}

func (l *reloader) run(ctx context.Context, s *site, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := s.ask(ctx, http.MethodPost, "/v1/rules/reload", []byte("{}")); err == nil {
			l.done++
		} else if ctx.Err() == nil {
			l.failed++
			l.err = err
		}
	}
}

// watchedMetrics is what must not grow, with how much growth is noise: a share of what it
// was, and some more for what comes in steps. The heap in use swings with every
// collection, and so does what is resident.
var watchedMetrics = []struct {
	name, metric string
	unit         unit
	share, step  float64
}{
	{"resident", "process_resident_memory_bytes", byteCount, 0.10, 8 << 20},
	{"heap", "go_memstats_heap_inuse_bytes", byteCount, 0.15, 8 << 20},
	{"goroutines", "go_goroutines", count, 0.05, 4},
	{"descriptors", "process_open_fds", count, 0.05, 4},
}

// watch is what was seen of an engine's own use. samples is its goroutine's until that
// has ended; text may be read at any time.
type watch struct {
	samples []scrape
	failed  int
	text    atomic.Pointer[string]
}

func (w *watch) last() string {
	if text := w.text.Load(); text != nil {
		return *text
	}
	return "not looked at yet"
}

func (w *watch) run(ctx context.Context, s *site, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		all, err := s.scrape(ctx)
		if err != nil {
			if ctx.Err() == nil {
				w.failed++
			}
			continue
		}
		w.samples = append(w.samples, all)
		text := fmt.Sprintf("%.0f MiB, %.0f goroutines, %.0f descriptors", all["process_resident_memory_bytes"]/(1<<20), all["go_goroutines"], all["process_open_fds"])
		w.text.Store(&text)
	}
}

// judge compares the last third with the middle one: the first is the warm-up.
func (w *watch) judge(r *Report) {
	r.add("watch.samples", count, float64(len(w.samples)))
	r.add("watch.failed", count, float64(w.failed))
	third := len(w.samples) / 3
	if third < 3 {
		r.missf("watch: %d samples are too few to judge growth by", len(w.samples))
		return
	}
	for _, m := range watchedMetrics {
		var values []float64
		for _, s := range w.samples[third:] {
			if v, ok := s[m.metric]; ok {
				values = append(values, v)
			}
		}
		if len(values) < 2*third {
			r.missf("watch: the engine does not say %s", m.metric)
			continue
		}
		before, after := median(values[:third]), median(values[len(values)-third:])
		r.add("watch."+m.name, m.unit, after)
		r.add("watch."+m.name+"_growth", ratio, after/max(before, 1))
		if after > before*(1+m.share)+m.step {
			r.missf("watch: %s grew from %.0f to %.0f after the warm-up", m.name, before, after)
		}
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
