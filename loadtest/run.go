package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// runOptions is what `run` can be told besides.
type runOptions struct {
	options
	connections      int
	rate             float64
	duration, warmup time.Duration
	limit            int64
	stall            time.Duration
	signals          float64
	batch            int
	brokers, topic   string
	reference        bool
}

func runCommand(ctx context.Context, args []string, out, log io.Writer) error {
	var o runOptions
	set := newFlags("run", log)
	o.flags(set)
	set.IntVar(&o.connections, "connections", 16, "connections, 1 to 10,000")
	set.Float64Var(&o.rate, "rate", 0, "requests per second of an open loop; 0 for a closed loop, which sends as fast as it is answered")
	set.DurationVar(&o.duration, "duration", 10*time.Second, "how long to measure")
	set.DurationVar(&o.warmup, "warmup", 2*time.Second, "how long to load before that; 0 for not at all")
	set.Int64Var(&o.limit, "requests-max", 0, "stop after this many requests; 0 for none but the duration")
	set.DurationVar(&o.stall, "stall", 20*time.Millisecond, "slower requests that overlap are reported as a stall")
	set.Float64Var(&o.signals, "signals", 0, "signals per second to push beside the load")
	set.IntVar(&o.batch, "signal-batch", 10, "signals in one push, 1 to 1,000")
	set.StringVar(&o.brokers, "brokers", "", "Kafka brokers, host:port,...: produce the signals to --topic instead of pushing them to --control-url")
	set.StringVar(&o.topic, "topic", "", "with --brokers: topic that the engine has as an input, which may send risk of agents")
	set.BoolVar(&o.reference, "reference", false, "measure a bare fasthttp server first, with the same load, and give ratios")
	if err := parse(set, args); err != nil {
		return err
	}
	return o.run(ctx, out, log)
}

func (o *runOptions) check() error {
	if err := o.options.check(); err != nil {
		return err
	}
	if o.warmup < 0 || o.warmup > maxDuration {
		return badUsage("--warmup: want 0 to %s", maxDuration)
	}
	for _, err := range []error{
		checkDuration("duration", o.duration), checkRange("connections", o.connections, 1, 10_000), checkRange("rate", o.rate, 0, 1e7),
		checkRange("requests-max", o.limit, 0, 1e12), checkRange("signals", o.signals, 0, 1e6), checkRange("signal-batch", o.batch, 1, 1000),
	} {
		if err != nil {
			return err
		}
	}
	if (o.brokers == "") != (o.topic == "") || o.brokers != "" && o.signals == 0 {
		return badUsage("--brokers and --topic go together, and with --signals")
	}
	if o.signals > 0 && !o.start && o.controlURL == "" {
		return badUsage("--signals needs --control-url")
	}
	return nil
}

// prepare gives the engine, with the workload's agents registered where there is a control
// port to do that on.
func (o *options) prepare(ctx context.Context, log io.Writer, run string, agents func(*Workload) []Agent) (*Workload, *site, error) {
	w, err := o.load()
	if err != nil {
		return nil, nil, err
	}
	s, err := o.open(ctx, w, log)
	if err != nil {
		return nil, nil, err
	}
	if s.hasControl {
		fmt.Fprintf(log, "registering %d agents\n", len(agents(w)))
		if err := s.register(ctx, run, agents(w)); err != nil {
			closing(&err, s.close)
			return nil, nil, err
		}
	}
	return w, s, nil
}

func (o *runOptions) run(ctx context.Context, out, log io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	report := newReport("run")
	id := newRun()
	w, s, err := o.prepare(ctx, log, id, func(w *Workload) []Agent { return w.Agents })
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	if o.signals > 0 && len(w.Agents) == 0 {
		return badUsage("--signals: the workload has no agents to signal about")
	}

	loop := fmt.Sprintf("closed loop of %d connections", o.connections)
	if o.rate > 0 {
		loop = fmt.Sprintf("open loop of %.0f requests per second, at most %d at a time", o.rate, o.connections)
	}
	report.aboutf("%s: %s, over %s, for %s", w.Name, loop, s.decision.network, o.duration)

	var bare *loadResult
	if o.reference {
		if bare, err = o.measureBare(ctx, w, log); err != nil {
			return err
		}
		report.load("bare", bare)
	}
	if o.warmup > 0 {
		warm := o.decisions(w, s.decision, o.warmup)
		warm.limit = 0
		fmt.Fprintf(log, "warming up for %s\n", o.warmup)
		warm.run(ctx)
	}
	before := s.look(ctx)
	load := o.decisions(w, s.decision, o.duration)
	stop := progress(log, o.quiet, func(elapsed time.Duration) string {
		return fmt.Sprintf("%d answered, %.0f/s", load.done.Load(), float64(load.done.Load())/elapsed.Seconds())
	})
	var group sync.WaitGroup
	var stormed *loadResult
	var produced *kafkaStormResult
	stream := kafkaStorm{rate: o.signals, brokers: strings.Split(o.brokers, ","), topic: o.topic}
	switch {
	case o.brokers != "":
		report.aboutf("%.0f signals per second beside it, produced to Kafka", o.signals)
		produced = &kafkaStormResult{}
		group.Go(func() { *produced = stream.run(ctx, w, id, o.duration, o.shape.seed) })
	case o.signals > 0:
		report.aboutf("%.0f signals per second beside it, %d in a push", o.signals, o.batch)
		storm := storm{rate: o.signals, batch: o.batch, connections: 4}.load(s, w, id, o.duration, o.timeout, o.shape.seed)
		group.Go(func() { stormed = storm.run(ctx) })
	}
	result := load.run(ctx)
	group.Wait()
	if produced != nil {
		stream.settle(ctx, s, stream.applied(before), produced)
	}
	stop()
	report.Interrupted = ctx.Err() != nil
	report.load("run", result)
	if stormed != nil {
		report.load("signals", stormed)
	}
	if produced != nil {
		report.kafkaStorm(produced)
	}
	if before != nil {
		usage(report, before, s.look(ctx), result.answered)
	}
	if bare != nil && bare.answered > 0 {
		report.add("run.throughput_to_bare", ratio, result.throughput()/bare.throughput())
		for _, q := range []float64{.5, .99} {
			report.add(fmt.Sprintf("run.p%.0f_to_bare", 100*q), ratio, float64(result.latency.quantile(q))/float64(max(1, bare.latency.quantile(q))))
		}
	}
	return report.finish(&o.options, out)
}

// look gives the metrics, or nil where there are none to be had.
func (s *site) look(ctx context.Context) scrape {
	if !s.hasControl {
		return nil
	}
	all, err := s.scrape(ctx)
	if err != nil {
		return nil
	}
	return all
}

// decisions makes the load of a workload's requests. Every answer is compared with what
// is expected.
func (o *runOptions) decisions(w *Workload, to target, duration time.Duration) *load {
	requests := make([][]byte, len(w.Requests))
	for i := range w.Requests {
		requests[i] = to.request(http.MethodPost, evaluationPath, "", w.Requests[i].Body)
	}
	l := &load{to: to, connections: o.connections, rate: o.rate, duration: duration, limit: o.limit, timeout: o.timeout, slow: o.stall, seed: o.shape.seed}
	l.next = pick(w, requests, l.connections, o.shape.seed)
	l.check = func(_, i, status int, body []byte) string {
		if status != http.StatusOK {
			return fmt.Sprintf("request %d: status %d: %.200s", i, status, body)
		}
		if effect := effectOf(body); effect != w.Requests[i].Expect {
			return fmt.Sprintf("request %d: %q where %s is expected: %.300s", i, effect, w.Requests[i].Expect, body)
		}
		return ""
	}
	return l
}

// pick chooses requests by their popularity, each worker for itself.
func pick(w *Workload, requests [][]byte, connections int, seed uint64) func(*rand.Rand, int, int64) ([]byte, int) {
	pickers := make([]func() int, connections)
	for i := range pickers {
		pickers[i] = w.picker(rand.New(rand.NewPCG(seed^0x21ff, uint64(i))))
	}
	return func(_ *rand.Rand, worker int, _ int64) ([]byte, int) {
		i := pickers[worker]()
		return requests[i], i
	}
}
