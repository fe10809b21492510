package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"time"

	"vigil/engine"
	"vigil/loadtest/history"
)

// raceOptions is what `race` can be told besides.
type raceOptions struct {
	options
	decisions                int64
	duration                 time.Duration
	agents, readers, pushers int
	inProcess, unchecked     bool
	replicaURLs              []string // besides the one of --decision-url
	replicas                 int      // in process
	undemanded               bool
}

func raceCommand(ctx context.Context, args []string, out, log io.Writer) error {
	var o raceOptions
	set := newFlags("race", log)
	o.flags(set)
	set.Int64Var(&o.decisions, "decisions", 1_000_000, "decisions to race")
	set.DurationVar(&o.duration, "duration", 30*time.Minute, "stop after this time, raced or not; what was not raced is then missed")
	set.IntVar(&o.agents, "race-agents", 8, "agents to race about, 1 to 1,000; fewer is closer")
	set.IntVar(&o.readers, "readers", 4, "connections that ask for decisions, 1 to 1,000")
	set.IntVar(&o.pushers, "pushers", 2, "connections that push signals, 1 to 100, and no more than agents")
	set.BoolVar(&o.inProcess, "in-process", false, "race the engine in this process, without wire and log")
	set.BoolVar(&o.unchecked, "unchecked", false, "with --in-process: serve cached decisions without asking whether they are current, to see the race find stale allows; it fails if it finds none")
	set.Func("replica", "decision port of another replica on the same log, to which nothing is pushed; may be given several times. It is asked for decisions at least as new as what was acknowledged", func(url string) error {
		o.replicaURLs = append(o.replicaURLs, url)
		return nil
	})
	set.IntVar(&o.replicas, "replicas", 1, "with --in-process: replicas on one log, 1 to 16")
	set.BoolVar(&o.undemanded, "undemanded", false, "demand nothing of the other replicas, to see them allow what another has acknowledged as revoked; it fails if they never do")
	if err := parse(set, args); err != nil {
		return err
	}
	return o.run(ctx, out, log)
}

// many is how many replicas race.
func (o *raceOptions) many() int {
	if o.inProcess {
		return o.replicas
	}
	return 1 + len(o.replicaURLs)
}

func (o *raceOptions) check() error {
	if len(o.replicaURLs) > 0 && (o.inProcess || o.start) {
		return badUsage("--replica goes with --decision-url; --in-process has --replicas")
	}
	if o.replicas != 1 && !o.inProcess {
		return badUsage("--replicas goes with --in-process")
	}
	if o.undemanded && o.many() < 2 {
		return badUsage("--undemanded needs other replicas")
	}
	if err := checkRange("replicas", o.many(), 1, 16); err != nil {
		return err
	}
	if o.readers < o.many() {
		return badUsage("--readers: want one for each replica, %d, or more", o.many())
	}
	if o.inProcess {
		if o.start || o.decisionURL != "" || o.workload != "" {
			return badUsage("--in-process goes without --start, --decision-url and --workload")
		}
	} else if err := o.options.check(); err != nil {
		return err
	} else if !o.start && o.controlURL == "" {
		return badUsage("a race needs --control-url to push signals to")
	}
	if o.unchecked && !o.inProcess {
		return badUsage("--unchecked goes with --in-process: no engine that serves can be told to")
	}
	for _, err := range []error{
		checkRange("decisions", o.decisions, 1, 1e10), checkDuration("duration", o.duration), checkRange("race-agents", o.agents, 1, 1000),
		checkRange("readers", o.readers, 1, 1000), checkRange("pushers", o.pushers, 1, min(100, o.agents)),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *raceOptions) run(ctx context.Context, out, log io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	report := newReport("race")
	id := newRun()
	r := &race{
		agents: o.agents, readers: o.readers, pushers: o.pushers, decisions: o.decisions, duration: o.duration,
		prefix: id, source: "client:race", seed: o.shape.seed, replicas: o.many(), undemanded: o.undemanded,
	}
	where := "in process"
	if o.inProcess {
		w, err := o.load()
		if err != nil {
			return err
		}
		mode := map[string]engine.CacheMode{"on": engine.CacheOn, "off": engine.CacheOff, "verify": engine.CacheVerify}[o.cache]
		if o.unchecked {
			mode = engine.CacheUnchecked
			where += ", serving cached decisions unchecked"
		}
		crowd, err := newCrowd(w, mode, w.watched(w.raceAgents(id, o.agents)), o.replicas, !o.undemanded)
		if err != nil {
			return err
		}
		defer crowd.end()
		r.racer, r.begin, r.silences = crowd.racer, crowd.begin, true
		r.gap = func(n int) {
			for until := r.raced.Load() + int64(n); r.raced.Load() < until && ctx.Err() == nil && n > 0; n-- {
				runtime.Gosched()
			}
		}
	} else {
		w, s, err := o.prepare(ctx, log, id, func(w *Workload) []Agent { return w.raceAgents(id, o.agents) })
		if err != nil {
			return err
		}
		defer closing(&err, s.close)
		where = "over " + s.decision.network
		if r.racer, err = o.wireRacers(ctx, s, w); err != nil {
			return err
		}
		r.gap = func(n int) { nap(time.Duration(n) * 50 * time.Microsecond) }
	}
	report.aboutf("%d agents, %d readers, %d pushers, %s", o.agents, o.readers, o.pushers, where)
	if r.replicas > 1 {
		report.aboutf("%d replicas; signals are pushed to the first", r.replicas)
	}
	stop := progress(log, o.quiet, func(elapsed time.Duration) string {
		return fmt.Sprintf("%d of %d decisions raced, %.0f/s, %d broken, %d stale allows", r.raced.Load(), o.decisions, float64(r.raced.Load())/elapsed.Seconds(), r.broken.Load(), r.stale.Load())
	})
	result := r.run(ctx)
	stop()
	report.race(result)
	report.Interrupted = ctx.Err() != nil
	if r.raced.Load() < o.decisions {
		report.missf("%d of %d decisions were raced in the time", r.raced.Load(), o.decisions)
	}
	report.judge(result, o.unchecked, o.undemanded)
	return report.finish(&o.options, out)
}

// wireRacers gives the racers of a race over HTTP, by the replica that they ask.
func (o *raceOptions) wireRacers(ctx context.Context, s *site, w *Workload) (func(replica int) racer, error) {
	to := []target{s.decision}
	for _, url := range o.replicaURLs {
		t, err := parseTarget(url, o.remote)
		if err != nil {
			return nil, err
		}
		to = append(to, t)
	}
	shared := &newest{}
	if len(to) > 1 { // the agents have been registered: nobody may be asked without them
		status, err := s.ask(ctx, http.MethodGet, "/v1/status", nil)
		if err != nil {
			return nil, err
		}
		shared.learn(status)
		// Also where nothing else will be demanded.
		for _, t := range to[1:] {
			first := conn{to: t, timeout: o.timeout}
			status, body, err := first.do(t.requestWith(http.MethodPost, evaluationPath, "", shared.demand(), w.Race.body(w.Race.Agent.ID, "")))
			first.close()
			if err != nil || status != http.StatusOK || bytes.Contains(body, codeStale) {
				return nil, fmt.Errorf("%s does not come to where %s is: status %d: %.300s %w", t.address, s.decision.address, status, body, err)
			}
		}
	}
	return func(replica int) racer {
		r := newWireRacer(s, to[replica], w, o.timeout)
		r.newest, r.demands = shared, replica > 0 && !o.undemanded
		return r
	}, nil
}

// race adds the results of a race.
func (r *Report) race(result *raceResult) {
	f := &result.found
	r.add("race.decisions", count, float64(f.Decisions))
	r.add("race.signals", count, float64(f.Signals))
	r.add("race.stale_allows", count, float64(f.StaleAllow))
	for _, p := range history.Properties {
		r.add("race.broken_"+p.Name(), count, float64(f.Broken[p]))
	}
	r.add("race.undecided", count, float64(f.Undecided))
	r.add("race.failed_decisions", count, float64(result.failed))
	r.add("race.failed_signals", count, float64(result.refused))
	r.add("race.decisions_rate", perSecond, float64(f.Decisions)/result.took.Seconds())
	r.add("race.signals_rate", perSecond, float64(f.Signals)/result.took.Seconds())
	r.add("race.quarantines", count, float64(result.quarantines))
	r.add("race.quarantines_seen_denied", count, float64(result.denied))
	if result.asked > 0 {
		r.add("race.replica_decisions", count, float64(result.asked))
		r.add("race.replica_stale_answers", count, float64(result.behind))
		r.add("race.undemanded_stale_allows", count, float64(result.elsewhere.StaleAllow))
	}
	if result.needing > 0 {
		r.add("race.needing_a_source", count, float64(result.needing))
		r.add("race.needing_a_source_allowed", count, float64(result.let))
	}
	r.latency("race.sent_to_acknowledged", &result.acknowledged)
	r.latency("race.sent_to_first_deny", &result.sentToDeny)
	r.latency("race.acknowledged_to_first_deny", &result.acknowledgedToDeny)
	for _, p := range history.Properties {
		if story, ok := f.Stories[p]; ok {
			r.Stories = append(r.Stories, story.String())
		}
	}
	slices.Sort(r.Stories)
}

// judge says what of a race is not as it has to be.
func (r *Report) judge(result *raceResult, unchecked, undemanded bool) {
	f := &result.found
	if result.failed+result.refused > 0 {
		r.missf("race: %d decisions and %d signals had no answer, such as: %s", result.failed, result.refused, result.example)
	}
	if f.Signals == 0 || f.Decisions == 0 {
		r.missf("race: nothing was raced")
	}
	if undemanded && result.elsewhere.StaleAllow == 0 {
		r.missf("race: no replica ever allowed what another had acknowledged as revoked, so this race would not show what demanding is for")
	}
	if result.asked > 0 && result.asked == result.behind {
		r.missf("race: the other replicas were never as new as was demanded: nothing was raced there")
	}
	if unchecked {
		if f.Broken[history.C1]+f.Broken[history.C5] == 0 {
			r.missf("race: no stale allow was found without the check, so this race would not find any")
		}
		if result.needing > 0 && f.Broken[history.C10] == 0 {
			r.missf("race: nothing was allowed in a silence without the check, so this race would not find that")
		}
		return
	}
	for p, n := range f.Broken {
		r.missf("race: %s: broken %d times", p, n)
	}
}
