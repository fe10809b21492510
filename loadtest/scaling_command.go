package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// scalingOptions is what `scaling` can be told.
type scalingOptions struct {
	runOptions
	brokerList   string
	brokerPid    int
	partitions   int
	entities     int
	missed       int
	step         time.Duration
	page, result string
}

// scalingBench measures what one replica costs: its replicas share topics that are made for
// the run and stay on the broker.
type scalingBench struct {
	scalingOptions
	w          *Workload
	dir        string // of everything that replicas keep; gone at the end
	brokers    []string
	log, input string // topics
	id         string
	replicas   []*replica
	report     *Report
	out        io.Writer // progress

	storms    int
	inputSent float64 // signals that the input has
	logSent   float64 // and the log
	// Of a replica that holds nothing, in bytes.
	emptyHeap, emptyResident float64
	empty                    spent // the start of a replica that has nothing to read
	idle                     spent // of a replica that nothing happens to
}

func scalingCommand(ctx context.Context, args []string, out, log io.Writer) error {
	var o scalingOptions
	set := newFlags("scaling", log)
	set.StringVar(&o.brokerList, "brokers", "", "Kafka brokers, host:port,...; topics are made for the run, and stay")
	set.StringVar(&o.pdp, "pdp", "", "program to start")
	set.IntVar(&o.brokerPid, "broker-pid", 0, "process of the one broker, where it runs on this machine: what it spends is measured too")
	set.IntVar(&o.partitions, "partitions", 3, "partitions of the log, and of the input, 1 to 100")
	set.IntVar(&o.entities, "entities", 200_000, "agents to register, and sessions to revoke, 1,000 to 2,000,000")
	set.IntVar(&o.missed, "missed", 600_000, "signals that a replica comes back to, in three rounds, 1,000 to 10,000,000")
	set.DurationVar(&o.step, "step", 5*time.Second, "how long to measure at each rate")
	set.Float64Var(&o.rate, "rate", 20_000, "decisions per second beside the signals")
	set.Float64Var(&o.signals, "signals", 50_000, "signals per second beside the decisions")
	set.IntVar(&o.connections, "connections", 32, "connections of the decisions, 1 to 10,000")
	set.DurationVar(&o.timeout, "timeout", 20*time.Second, "how long to wait for one answer, at most a minute")
	set.StringVar(&o.json, "json", "", "file to write the results to")
	set.StringVar(&o.page, "page", "", "page to write the results into, between its markers")
	set.StringVar(&o.result, "from", "", "measure nothing: write the page from this file of results")
	o.cache, o.start, o.quiet = "on", true, true
	o.shape = shape{agents: 1000, requests: 1024, rules: 12, zipf: 1.1, seed: 1}
	if err := parse(set, args); err != nil {
		return err
	}
	if o.result != "" {
		return rewrite(o.result, o.page, log)
	}
	return o.measure(ctx, out, log)
}

func (o *scalingOptions) check() error {
	for _, err := range []error{
		checkRange("partitions", o.partitions, 1, 100), checkRange("entities", o.entities, 1000, 2_000_000), checkRange("missed", o.missed, 1000, 10_000_000),
		checkDuration("step", o.step), checkRange("rate", o.rate, 1, 1e6), checkRange("signals", o.signals, 1, 1e6), checkRange("connections", o.connections, 1, 10_000),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case o.brokerList == "" || o.pdp == "":
		return badUsage("want --brokers and --pdp; `make scaling` starts a broker and names both")
	case o.timeout <= 0 || o.timeout > time.Minute:
		return badUsage("--timeout: want more than nothing and at most a minute")
	}
	return nil
}

func (o *scalingOptions) measure(ctx context.Context, out, log io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	b := &scalingBench{scalingOptions: *o, id: newRun(), report: newReport("scaling"), brokers: strings.Split(o.brokerList, ","), out: log}
	b.log, b.input = b.id+"-log", b.id+"-input"
	if b.w, err = generate(o.shape); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "vigil-scaling-"); err != nil {
		return err
	}
	defer closing(&err, b.close)
	b.describe()
	// What was measured before an interruption is reported all the same.
	if err := b.all(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	b.report.Interrupted = ctx.Err() != nil
	if err := b.report.finish(&o.options, out); err != nil || o.page == "" {
		return err
	}
	return writePage(o.page, b.report)
}

// all takes one measurement after the other; each finds what those before have left.
func (b *scalingBench) all(ctx context.Context) error {
	a, err := b.newReplica("a", "")
	if err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(context.Context, *replica) error
	}{
		{"an empty replica", b.measureEmpty},
		{"decisions beside signals", b.measureBeside},
		{"signals by the input, at rates", b.measureRates},
		{"what requests and bytes cost a broker", b.measureBroker},
		{"signals by the log", b.measureLog},
		{"a replica that was away", b.measureAway},
		{"what entities and facts take", b.measureHeld},
		{"a replica that is new", b.measureNew},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		fmt.Fprintf(b.out, "%6s  %s\n", time.Since(b.report.Started).Round(time.Second), step.what)
		if err := step.do(ctx, a); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// close ends the replicas and removes what they have kept.
func (b *scalingBench) close() error {
	var err error
	for _, r := range b.replicas {
		if r.runs {
			err = errors.Join(err, r.stop())
		}
		err = errors.Join(err, r.process.log.Close())
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// describe says what is measured and where.
func (b *scalingBench) describe() {
	r := b.report
	r.aboutf("processors: %s", processorName())
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.aboutf("load average when it began: %s", strings.Join(strings.Fields(string(load))[:1], " "))
	}
	r.aboutf("%d partitions of the log, %d of an input; broker, replicas and what sends share the processors", b.partitions, b.partitions)
	if commit, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output(); err == nil {
		changed := ""
		if status, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output(); err != nil || len(bytes.TrimSpace(status)) > 0 {
			changed = "+"
		}
		r.aboutf("commit %s%s", bytes.TrimSpace(commit), changed)
	}
	if out, err := exec.Command(b.pdp, "version").Output(); err == nil {
		r.aboutf("%s", strings.TrimSpace(string(out)))
	}
}

// processorName is what Linux calls the processor, "unknown" elsewhere.
func processorName() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
