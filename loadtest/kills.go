package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// killsOptions is what `kills` can be told besides.
type killsOptions struct {
	options
	kills            int
	pushers, readers int
	longest          time.Duration
	keep             bool
}

func killsCommand(ctx context.Context, args []string, out, log io.Writer) error {
	var o killsOptions
	set := newFlags("kills", log)
	o.flags(set)
	set.IntVar(&o.kills, "kills", 100, "how often to kill -9 the engine, 1 to 1,000,000")
	set.IntVar(&o.pushers, "pushers", 8, "connections that push signals as fast as they are acknowledged, 1 to 100")
	set.IntVar(&o.readers, "readers", 4, "connections that ask for decisions all the time, also while the engine is down and starts, 1 to 100")
	set.DurationVar(&o.snapshotEvery, "snapshot-every", time.Second, "how often the engine takes a snapshot, at least 1s")
	set.DurationVar(&o.longest, "longest", 500*time.Millisecond, "an engine is killed after a random part of this; one in four a little before or after its first snapshot")
	set.BoolVar(&o.keep, "keep", false, "keep the engine's folder")
	if err := parse(set, args); err != nil {
		return err
	}
	return o.run(ctx, out, log)
}

func (o *killsOptions) check() error {
	if err := o.options.check(); err != nil {
		return err
	}
	if !o.start {
		return badUsage("this kills; it goes with --start only")
	}
	for _, err := range []error{
		checkRange("kills", o.kills, 1, 1_000_000), checkRange("pushers", o.pushers, 1, 100), checkRange("readers", o.readers, 1, 100),
		checkDuration("longest", o.longest), checkDuration("snapshot-every", o.snapshotEvery),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// killing is a run of kills. Its goroutines are the readers, for the whole of it, and the
// pushers, for one life of the engine each.
type killing struct {
	o       *killsOptions
	w       *Workload
	s       *site
	ledger  *ledger
	pushers []*killPusher
	random  *rand.Rand
	// life is odd while the engine is up. What fails in a life that is still the same
	// afterwards was not the kill.
	life    atomic.Int64
	readers killReaders

	kills, snapshots, unfinished int
	seen                         map[string]bool // files of snapshots
	restarts                     histogram
}

// agentsPerPusher is how many agents each pusher speaks about.
const agentsPerPusher = 8

// olderClaims is how many claims that were there before are looked for after each restart.
const olderClaims = 200

func (o *killsOptions) run(ctx context.Context, out, log io.Writer) (err error) {
	o.unix = true // one address for every life, so that readers are there while it starts
	if err := o.check(); err != nil {
		return err
	}
	report := newReport("kills")
	w, err := o.load()
	if err != nil {
		return err
	}
	s, err := o.open(ctx, w, log)
	if err != nil {
		return err
	}
	defer closing(&err, s.close)
	s.process.keep = o.keep
	k := &killing{o: o, w: w, s: s, ledger: newLedger(), random: rand.New(rand.NewPCG(o.shape.seed, 0x6b31)), seen: map[string]bool{}}
	id := newRun()
	for n := range o.pushers {
		p := &killPusher{name: fmt.Sprintf("%s-p%d", id, n), ledger: k.ledger, random: rand.New(rand.NewPCG(o.shape.seed, uint64(n))), serials: map[lineKey]int{}}
		for a := range agentsPerPusher {
			p.agents = append(p.agents, fmt.Sprintf("%s-a%d", p.name, a))
		}
		k.pushers = append(k.pushers, p)
	}
	report.aboutf("%d kills within %s of a life, %d pushers, %d readers, a snapshot every %s", o.kills, o.longest, o.pushers, o.readers, o.snapshotEvery)
	stop := progress(log, o.quiet, func(time.Duration) string { return k.readers.text.load() })
	problem := k.run(ctx, id)
	stop()
	k.report(report)
	if problem != nil && ctx.Err() == nil {
		report.missf("%v", problem)
	}
	report.Interrupted = ctx.Err() != nil
	if len(report.Missed) > 0 {
		s.process.keep = true
		report.aboutf("the engine's folder is kept: %s", s.process.dir)
	}
	return report.finish(&o.options, out)
}

// run kills the engine as often as it is wanted to, and looks in the end for everything
// that was ever acknowledged.
func (k *killing) run(ctx context.Context, id string) error {
	live := k.w.raceAgents(id, 1)
	if err := k.s.register(ctx, id, live); err != nil {
		return err
	}
	reading, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	k.life.Store(1)
	decision := k.s.decision // the same in every life; the site itself changes
	for n := range k.o.readers {
		random := rand.New(rand.NewPCG(k.o.shape.seed, uint64(1000+n)))
		group.Go(func() { k.read(reading, decision, live[0].ID, random) })
	}
	for k.kills < k.o.kills && ctx.Err() == nil {
		if err := k.liveAndDie(ctx); err != nil {
			return fmt.Errorf("life %d: %w", k.kills+1, err)
		}
		k.kills++
		if err := k.rise(ctx); err != nil {
			return fmt.Errorf("after kill %d: %w", k.kills, err)
		}
		if err := k.verify(k.kills == k.o.kills); err != nil {
			return fmt.Errorf("after kill %d: %w", k.kills, err)
		}
		k.readers.text.store(fmt.Sprintf("%d of %d kills, %d claims, %d lost; %d decisions, %d stale allows", k.kills, k.o.kills,
			k.ledger.checked, k.ledger.lost, k.readers.answered.Load(), k.readers.stale.Load()))
	}
	return nil
}

// lifetime is how long the engine lives once it has answered.
func (k *killing) lifetime() time.Duration {
	if k.random.IntN(4) == 0 { // about when a snapshot is taken
		return k.o.snapshotEvery - 50*time.Millisecond + time.Duration(k.random.Int64N(int64(150*time.Millisecond)))
	}
	return time.Duration(k.random.Int64N(int64(k.o.longest)))
}

// liveAndDie pushes until the engine is killed.
func (k *killing) liveAndDie(ctx context.Context) error {
	life := k.life.Load()
	over := func() bool { return k.life.Load() != life || ctx.Err() != nil }
	errs := make([]error, len(k.pushers)+1)
	var group sync.WaitGroup
	for n, p := range k.pushers {
		group.Go(func() { errs[n] = p.until(k.s, k.o.timeout, over) })
	}
	timer := time.NewTimer(k.lifetime())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.s.process.ended:
	case <-ctx.Done():
	}
	k.life.Add(1) // before the kill: what fails from here on is no wonder
	errs[len(k.pushers)] = k.s.process.kill()
	group.Wait()
	return errors.Join(errs...)
}

// rise starts the engine again on what the killed one has left.
func (k *killing) rise(ctx context.Context) error {
	folder := filepath.Join(k.s.process.dir, "data", "snapshots")
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case k.seen[name]: // one half written lies there until the next is saved
		case strings.HasSuffix(name, ".tmp"):
			k.unfinished++
		default:
			k.snapshots++
		}
		k.seen[e.Name()] = true
	}
	begin := time.Now()
	if err := k.s.process.launch(); err != nil {
		return err
	}
	if err := k.s.meet(ctx); err != nil {
		return err
	}
	k.restarts.record(time.Since(begin))
	k.life.Add(1)
	return nil
}

// verify looks for what was acknowledged.
func (k *killing) verify(all bool) error {
	c := conn{to: k.s.control, timeout: k.o.timeout}
	defer c.close()
	for _, p := range k.pushers {
		if err := p.look(k.s, &c); err != nil {
			return err
		}
		if p.newest == "" {
			continue
		}
		// The log is the same one, and no shorter than it was.
		status, body, err := c.do(k.s.control.requestWith(http.MethodGet, "/v1/entities/agent:"+p.agents[0], k.s.token, "Vigil-At-Least: "+p.newest, nil))
		if err != nil {
			return err
		}
		if status != http.StatusOK && !strings.Contains(string(body), `"unknown_entity"`) {
			k.ledger.loss("the position %s was acknowledged; now: status %d: %.300s", p.newest, status, body)
		}
	}
	return k.ledger.verify(k.s, k.o, k.ledger.due(k.random, olderClaims, all))
}

// killReaders is what the readers of all lives have seen.
type killReaders struct {
	answered, allowed, denied, unready, stale, failed atomic.Int64
	staleExample, failedExample                       line
	text                                              line
}

// line is a text that one goroutine writes and others read.
type line struct{ p atomic.Pointer[string] }

func (l *line) store(text string) { l.p.Store(&text) }

func (l *line) load() string {
	if text := l.p.Load(); text != nil {
		return *text
	}
	return ""
}

// read asks for decisions until ctx ends: about sessions whose revocation has been
// acknowledged, and one that nobody ever revokes. It asks on while the engine is down and
// while it starts, when 503 is an answer and a guess is none.
func (k *killing) read(ctx context.Context, to target, agent string, random *rand.Rand) {
	r := &k.readers
	c := conn{to: to, timeout: k.o.timeout}
	defer c.close()
	for ctx.Err() == nil {
		session, want := "never-revoked", allow
		if random.IntN(4) != 0 {
			if revoked := k.ledger.revoked(random); revoked != "" {
				session, want = revoked, deny
			}
		}
		life := k.life.Load()
		status, body, err := c.do(to.request(http.MethodPost, evaluationPath, "", k.w.Race.body(agent, session)))
		switch effect := effectOf(body); {
		case err != nil:
			if life%2 == 1 && k.life.Load() == life && ctx.Err() == nil {
				r.failed.Add(1)
				r.failedExample.store(err.Error())
			}
			time.Sleep(time.Millisecond) // whoever is refused at once must not spin
		case status == http.StatusServiceUnavailable:
			r.unready.Add(1)
			if life%2 == 1 {
				r.failed.Add(1)
				r.failedExample.store(fmt.Sprintf("status %d: %.300s", status, body))
			}
		case status == http.StatusOK && effect == want:
			r.answered.Add(1)
			if effect == allow {
				r.allowed.Add(1)
			} else {
				r.denied.Add(1)
			}
		case status == http.StatusOK && effect == allow:
			r.stale.Add(1)
			r.staleExample.store(fmt.Sprintf("session %s was revoked: %.300s", session, body))
		default:
			r.failed.Add(1)
			r.failedExample.store(fmt.Sprintf("session %s: status %d: %.300s", session, status, body))
		}
	}
}

func (k *killing) report(r *Report) {
	r.add("kills.done", count, float64(k.kills))
	r.add("kills.snapshots_left", count, float64(k.snapshots))
	r.add("kills.in_a_snapshot", count, float64(k.unfinished))
	var pushes, acknowledged, unknown, kept, repeated int64
	for _, p := range k.pushers {
		pushes, acknowledged, unknown = pushes+p.pushes, acknowledged+p.acknowledged, unknown+p.unknown
		kept, repeated = kept+p.kept, repeated+p.repeated
	}
	l := k.ledger
	r.add("signals.pushes", count, float64(pushes))
	r.add("signals.acknowledged", count, float64(acknowledged))
	r.add("signals.without_answer", count, float64(unknown))
	r.add("signals.sent_again", count, float64(repeated))
	r.add("signals.revocations_without_answer_in_force", count, float64(kept))
	r.add("signals.revoked_sessions", count, float64(len(l.claims)))
	r.add("signals.recovered_sessions", count, float64(l.checked))
	r.add("signals.lost", count, float64(l.lost))
	r.add("decisions.answered", count, float64(k.readers.answered.Load()))
	r.add("decisions.allowed", count, float64(k.readers.allowed.Load()))
	r.add("decisions.denied", count, float64(k.readers.denied.Load()))
	r.add("decisions.not_ready", count, float64(k.readers.unready.Load()))
	r.add("decisions.stale_allows", count, float64(k.readers.stale.Load()))
	r.add("decisions.failed", count, float64(k.readers.failed.Load()))
	r.latency("restart", &k.restarts)
	r.aboutf("%d kills: %d signals acknowledged, %d lost; %d decisions, %d stale allows", k.kills, acknowledged, l.lost, k.readers.answered.Load(), k.readers.stale.Load())
	if l.lost > 0 {
		r.missf("C4: %d acknowledged things were lost, such as:\n%s", l.lost, strings.Join(l.examples, "\n"))
	}
	if n := k.readers.stale.Load(); n > 0 {
		r.missf("C1: %d stale allows, such as: %s", n, k.readers.staleExample.load())
	}
	if n := k.readers.failed.Load(); n > 0 {
		r.missf("%d decisions failed while the engine was up, such as: %s", n, k.readers.failedExample.load())
	}
	if acknowledged == 0 || len(l.claims) == 0 || k.readers.answered.Load() == 0 {
		r.missf("nothing was acknowledged or decided, so nothing could be lost")
	}
}
