package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/clock"
	"vigil/disk"
	"vigil/engine"
	"vigil/posture"
	"vigil/rules"
	"vigil/server/control"
	"vigil/server/credential"
	"vigil/server/decision"
	"vigil/server/recent"
	"vigil/signals"
	"vigil/signals/deadletter"
	"vigil/signals/journal"
	"vigil/signals/kafka"
	"vigil/signals/spool"
)

// node is one running engine: every room, wired.
//
// Goroutines: run starts each through n.start, which counts it in n.background, or through
// n.follow, which counts it in n.followers, too; they end with their context, and run waits
// for them before it closes what they use.
type node struct {
	cfg    *config
	app    *app
	log    *slog.Logger
	on     machine
	clock  *clock.Clock
	engine *engine.Engine
	rules  *ruleKeeper
	feed   *feed
	store  *storage // the log and the snapshots
	intake *signals.Intake

	// What the storage stands on, by the kind of the log; nil for what that has not.
	journal      *journal.Journal
	kafka        kafkaLog
	spoolJournal *journal.Journal
	spool        *spool.Spool
	letters      *deadletter.File // nil where it cannot be written
	forwarder    *kafka.Forwarder // of dead letters; nil where they go to no topic

	clients  *credential.Registry
	ring     *recent.Ring
	tail     *control.Tail // told of what is applied
	lines    *recent.Log
	decision *decision.Server
	control  *control.Server
	ports    ports

	// notReady says why no decision can be made, or points to nil. Both ports look at it
	// for each request. It becomes nil after the view has caught up and the engine was
	// given its rules and records: whoever loads nil finds them there.
	notReady atomic.Pointer[error]
	// draining makes the control port say not ready, while decisions go on. The decision
	// port knows it by itself.
	draining atomic.Bool

	// posture is set once, before the first Use; guarded by using with every Use, so
	// that rules and records always come together.
	using   sync.Mutex
	posture *posture.Store
	set     *rules.Set

	background sync.WaitGroup
	followers  sync.WaitGroup // those that use the log
	failed     chan error     // what ends the node before it is told to; room for one
	// abandon ends the waiting for a log that a start does. It is set before anything runs; nil for none.
	abandon context.CancelCauseFunc
}

// machine is what a node stands on. The zero machine is the one that the process runs on;
// tests put others underneath, with disks that fail and clocks that jump.
type machine struct {
	fs      disk.FS                                              // of the clock, the log and the snapshots
	time    func() (wall authz.Instant, monotonic time.Duration) // of the clock
	journal journal.Options                                      // its sizes and pauses
	kafka   func(context.Context, kafka.Config) (kafkaLog, error)
}

var (
	errStarting = errors.New("starting: the signal log is being read")
	errDraining = errors.New("stopping")
)

func newNode(cfg *config, a *app) *node {
	n := &node{cfg: cfg, app: a, log: newLogger(&cfg.Logging, a.stderr), failed: make(chan error, 1)}
	n.ring = recent.NewRing(recent.RingConfig{Record: n.record})
	n.tail = control.NewTail(n.now)
	n.feed = &feed{kind: cfg.Log.Kind, logger: n.log, refused: n.unfit}
	n.setReady(errStarting)
	for _, w := range cfg.warnings() {
		n.log.Warn(w)
	}
	return n
}

func (n *node) setReady(err error) { n.notReady.Store(&err) }

// ready says why no decision can be made, or nil. It is on the hot path: one load.
func (n *node) ready() error { return *n.notReady.Load() }

func (n *node) now() authz.Instant { return n.clock.Now() }

// run starts every room, serves until ctx ends or something fails, and puts every room
// in order again.
func (n *node) run(ctx context.Context, hangup <-chan os.Signal, seed, addressFile string) (err error) {
	var batch []byte
	if seed != "" {
		if batch, err = seedBatch(seed); err != nil {
			return err
		}
	}
	// What follows outlives ctx, which only says when to begin to stop.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer n.background.Wait()
	defer stopWork()

	starting, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	n.abandon = abandon

	if err := n.openClock(work); err != nil {
		return err
	}
	if err := n.openRules(work); err != nil {
		return err
	}
	defer n.engine.Close()
	if err := n.openPorts(); err != nil {
		return err
	}
	defer n.closePorts()
	n.servePorts()

	if err := n.openStorage(starting); err != nil {
		return n.startEnded(ctx, err)
	}
	defer n.closeStorage()
	following, stopFollowing := context.WithCancel(work)
	defer stopFollowing()
	n.followLog(following)
	if err := n.catchUp(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if err := n.furnish(); err != nil {
		return err
	}
	if batch != nil {
		if err := n.plant(work, seed, batch); err != nil {
			return err
		}
	}
	if err := n.receiveEvents(following); err != nil {
		return err
	}
	n.setReady(n.clock.Err())
	if err := n.announce(addressFile); err != nil {
		return err
	}
	n.start(func() { n.maintain(following) })
	n.obeyHangups(work, hangup)

	select {
	case <-ctx.Done():
		n.log.Info("stopping", "cause", context.Cause(ctx))
	case err = <-n.failed:
		n.log.Error("stopping", "error", err)
	}
	n.stop()
	stopFollowing()
	return err
}

// start runs f in a goroutine that run waits for.
func (n *node) start(f func()) {
	n.background.Add(1)
	go func() {
		defer n.background.Done()
		f()
	}()
}

// follow is start for what uses the log.
func (n *node) follow(f func()) {
	n.followers.Add(1)
	n.start(func() {
		defer n.followers.Done()
		f()
	})
}

// followLog has the log applied from where the storage begins, and what is in the spool.
func (n *node) followLog(ctx context.Context) {
	n.follow(func() { n.feed.Run(ctx, n.store.from) })
	if n.spool != nil {
		n.follow(func() { n.spool.Run(ctx, n.kafka) })
	}
}

// fail ends the node with err, a fault of what runs and not of what was given. Only the
// first counts.
func (n *node) fail(err error) { n.end(&failure{code: exitUnreachable, err: err}) }

func (n *node) end(err error) {
	select {
	case n.failed <- err:
	default:
	}
	if n.abandon != nil {
		n.abandon(err)
	}
}

// startEnded is why a start came to nothing: what ended it, where something did.
func (n *node) startEnded(ctx context.Context, err error) error {
	select {
	case failed := <-n.failed:
		return failed
	default:
	}
	select {
	case <-ctx.Done():
		n.log.Info("stopping", "cause", context.Cause(ctx))
		return nil
	default:
		return err
	}
}

// openClock starts the one clock. The floor is written while work lasts.
func (n *node) openClock(work context.Context) error {
	c, err := clock.New(clock.Config{
		Path: filepath.Join(n.cfg.DataDir, clockName), FS: n.on.fs, Source: n.on.time,
		SaveFailed: func(err error) {
			if err != nil {
				n.log.Error("the clock's floor cannot be written", "error", err)
			} else {
				n.log.Info("the clock's floor is written again")
			}
		},
	})
	if err != nil {
		return &failure{code: exitInput, err: err, hint: "If the wall clock is right: pdp journal reset-clock --data-dir " + n.cfg.DataDir}
	}
	n.clock = c
	n.start(func() {
		if err := c.Run(work); err != nil {
			n.log.Error("the clock's floor was not written at the end", "error", err)
		}
	})
	return nil
}

// openRules makes the engine and loads the rules. Without any good rules there is
// nothing to start.
func (n *node) openRules(work context.Context) error {
	var err error
	n.engine, err = engine.New(engine.Config{
		Cache: n.cfg.Cache, CacheEntries: n.cfg.CacheEntries, Now: n.now,
		FeedAge: n.feed.Age,
	})
	if err != nil {
		return &failure{code: exitInput, err: err}
	}
	n.rules = &ruleKeeper{
		dir: n.cfg.Rules.Dir, lastGood: filepath.Join(n.cfg.DataDir, lastGoodName),
		options: rules.LoadOptions{RequireSeal: n.cfg.Rules.RequireSeal},
		use:     n.use, check: n.cfg.undeclared, now: n.now, log: n.log,
	}
	// Watching begins before the first load, so that no change falls between the two.
	watch := func() {}
	if n.cfg.Rules.Watch {
		w, err := newRuleWatcher(n.cfg.Rules.Dir, func() { _, _ = n.rules.Reload(work, "") }, n.log)
		if err != nil {
			n.engine.Close()
			return &failure{code: exitInput, err: fmt.Errorf("rules.watch: %s: %w", n.cfg.Rules.Dir, err)}
		}
		watch = func() { n.start(func() { w.Run(work) }) }
	}
	defer watch()
	if err := n.rules.Start(); err != nil {
		n.engine.Close()
		return &failure{code: exitInput, err: err, hint: fmt.Sprintf("The rules in %s are broken and no good ones are kept in %s. Nothing was started.", n.cfg.Rules.Dir, n.cfg.DataDir)}
	}
	return nil
}

// use puts a rule set in use, together with the records, as soon as both are there.
func (n *node) use(set *rules.Set) {
	n.using.Lock()
	defer n.using.Unlock()
	n.set = set
	if n.posture != nil {
		n.engine.Use(set, n.posture)
	}
	n.ring.InUse(set.Digest())
}

// useStore is use for the records.
func (n *node) useStore(store *posture.Store) {
	n.using.Lock()
	defer n.using.Unlock()
	n.posture = store
	n.engine.Use(n.set, store)
}

// catchUp waits until everything that was in the log has been applied.
func (n *node) catchUp(ctx context.Context) error {
	begun := time.Now()
	select {
	case <-n.feed.applier.CaughtUp():
	case <-ctx.Done():
		return nil
	case err := <-n.failed:
		return err
	}
	if n.spool != nil { // what was taken here alone must be in force, too
		select {
		case <-n.spool.Applied():
		case <-ctx.Done():
			return nil
		case err := <-n.failed:
			return err
		}
	}
	p := n.feed.Progress()
	n.log.Info("caught up", "log", fmt.Sprintf("%x", p.Log), "as_of", p.AsOf, "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// furnish puts the rooms behind the control port.
func (n *node) furnish() error {
	var err error
	if n.intake, err = n.newIntake(n.rules.declares); err != nil {
		return err
	}
	parts := control.Parts{
		Intake: n.intake, Posture: n.posture, Engine: n.engine, CacheMode: n.cfg.Cache,
		Rules: n.rules, Recent: n.ring, Feed: n.feed, Tail: n.tail, Snapshot: n.store.writeSnapshot,
		Sources: n.sources,
	}
	if n.journal != nil {
		parts.Journal = n.journalCounts
	}
	if n.kafka != nil {
		parts.Kafka, parts.Spool = n.kafkaCounts, n.spoolCounts
	}
	parts.DeadLetters = n.letterCounts
	n.control.Attach(parts)
	return nil
}

// newIntake makes the way in for signals that are pushed.
func (n *node) newIntake(declares func(class string) bool) (*signals.Intake, error) {
	cfg := signals.IntakeConfig{
		Log: n.feed.log, Applier: n.feed.applier, Store: n.posture, Now: n.now, DeclaredClass: declares,
	}
	if n.spool != nil { // a nil *Spool in an interface is not nil
		cfg.Spool = n.spool
	}
	return signals.NewIntake(cfg)
}

// maxSeed bounds the file of a seed, in bytes.
const maxSeed = 1 << 20

// plant sends the signals of a seed, as the local client.
func (n *node) plant(ctx context.Context, name string, batch []byte) error {
	receipt, err := n.intake.Push(ctx, localSender(), batch)
	if err != nil {
		return badInput("--seed: %s: %s", name, err)
	}
	n.log.Info("seeded", "file", name, "signals", len(receipt.Results))
	return nil
}

// stop ends the ports: readiness first, so that load balancers turn away while decisions
// go on; then, after n.cfg.Drain, decisions; signals last, for a revocation must be taken as long as anything is decided.
func (n *node) stop() {
	n.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.Drain+stopTime)
	defer cancel()
	if err := n.decision.Shutdown(ctx); err != nil {
		n.log.Warn("decision port: not everything was answered", "error", err)
	}
	if err := n.control.Shutdown(ctx); err != nil {
		n.log.Warn("control port: not everything was answered", "error", err)
	}
}

// stopTime bounds what stopping takes besides draining.
const stopTime = 15 * time.Second

// degraded is what strict readiness objects to and what may hit all replicas at once.
func (n *node) degraded() []string {
	all := n.feed.wrong()
	s := n.rules.State()
	if s.Bundle != nil {
		all = append(all, n.feed.tooOld(n.now(), s.Bundle.Profiles)...)
	}
	all = append(all, n.silent(n.now())...)
	switch {
	case s.LastGood:
		all = append(all, "the rules are broken; the last good ones decide")
	case s.Err != nil:
		all = append(all, "the last load of the rules failed; the old ones decide")
	}
	if n.rules.unkept.Load() != nil {
		all = append(all, "no copy of the rules could be kept for a start that finds them broken")
	}
	return all
}

// undeclared says which classes clients may register and the rules do not declare, and
// which sources the rules require and this configuration has not.
func (c *config) undeclared(bundle *rules.Bundle) []string {
	var all []string
	for _, p := range c.checkAgainst(bundle) {
		all = append(all, p.String())
	}
	return slices.Clip(append(all, c.unheard(bundle)...))
}
