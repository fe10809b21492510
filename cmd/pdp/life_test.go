package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/clock"
	"vigil/disk/disktest"
	"vigil/engine"
	"vigil/engine/enginetest"
	"vigil/posture"
	"vigil/signals/journal"
)

// life is one long random life of a node: the real rooms, wired as serve wires them, over
// a disk that fails and forgets, under a clock that jumps. Every signal goes through the
// intake, the journal and the applier; after every step decisions are held against a twin
// that knows nothing of any of these and remembers only what was acknowledged.
//
// A life is lived in a bubble of fake time, by one goroutine, so that what happens is a
// function of what rapid draws, and a failing one can be lived again and shortened.
type life struct {
	t       *rapid.T
	disk    *disktest.Memory
	cfg     *config
	journal journal.Options
	born    time.Time
	skew    atomic.Int64 // of the wall clock, against the bubble's
	rules   []*ruleSet
	set     int

	n      *running
	boots  int
	faulty bool          // the disk fails now and then, or is about to stop
	floor  authz.Instant // no now may be before, whatever ends
	rotten bool          // a snapshot was damaged

	appended authz.Instant // when the log took its last record

	twin     *enginetest.Twin
	unsure   *pushed // whose outcome nobody knows
	sure     int     // so many of its signals are in force for certain
	accepted []*pushed
	last     *statement
	newest   string // the position of the last acknowledgement
	serial   int
	asked    []question
	undone   map[string]bool // ids of signals that were taken back
	tally    *tally
}

// tally is what all lives together have seen.
type tally struct {
	lives, pushes, unknown, refused, restarts, failedBoots int
	decisions, hits, batches, denied                       int
	codes                                                  map[authz.Code]int
	steps                                                  map[string]int
}

// birth is when every life begins.
var birth = authz.InstantOf(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))

func (l *life) wall() authz.Instant {
	return birth.Add(time.Since(l.born)).Add(time.Duration(l.skew.Load()))
}

func (l *life) now() authz.Instant { return l.n.now() }

// boot starts a node on what the disk holds. With an error nothing of it runs any more.
func (l *life) boot() error {
	on := machine{fs: l.disk, journal: l.journal, time: func() (authz.Instant, time.Duration) {
		return l.wall(), time.Since(l.born)
	}}
	n, err := startNode(l.cfg, on, l.rules[l.set].set)
	if err != nil {
		return err
	}
	l.n, l.twin.Rules = n, l.rules[l.set].plain
	l.boots++
	return nil
}

// The ways in which a life's node ends.
const (
	stopped   = iota // as SIGTERM stops it
	killed           // kill -9
	powerless        // and the disk forgets what was not synced
)

func (l *life) end(how int, seed uint64) {
	if how == stopped && !l.faulty {
		l.n.stopFollowing()
		l.n.store.snapshot()
		l.floor = max(l.floor, l.now()) // the clock writes its floor when it ends
	} else {
		l.disk.StopAfter(0)
	}
	l.n.halt()
	if how == killed {
		l.disk.Kill()
	} else {
		l.disk.Crash(rand.New(rand.NewPCG(seed, 1))) // a stopped node's work survives it
	}
	l.faulty = false
}

// restart ends the node and starts another, which may have to try twice: the machine can
// stop again while it starts.
func (l *life) restart(how int) {
	l.tally.restarts++
	l.end(how, rapid.Uint64().Draw(l.t, "what is forgotten"))
	if !l.rotten && rapid.IntRange(0, 5).Draw(l.t, "a snapshot rots") == 4 {
		l.rot()
	}
	if again := rapid.IntRange(0, 30).Draw(l.t, "stops while it starts"); again > 20 {
		l.disk.StopAfter(again - 20)
		l.faulty = true
		if l.boot() == nil {
			l.end(powerless, rapid.Uint64().Draw(l.t, "what is forgotten then"))
		} else {
			l.tally.failedBoots++
			l.disk.Crash(rand.New(rand.NewPCG(uint64(again), 2)))
			l.faulty = false
		}
	}
	if err := l.boot(); err != nil {
		l.t.Fatalf("it does not start on a disk that is well: %v", err)
	}
	l.t.Logf("started, end %d, at %v, wall %v, log to %d, from %v", how, l.now(), l.wall(), l.n.journal.Head(), l.n.store.from)
	if now := l.now(); now < l.floor {
		l.t.Fatalf("now is %v after a restart, and was %v at least before", now, l.floor)
	}
	if l.newest != "" {
		if err := l.n.feed.WaitFor(context.Background(), l.newest); err != nil {
			l.t.Fatalf("the position of an acknowledgement, %s, after a restart: %v", l.newest, err)
		}
	}
}

// rot damages the newest snapshot; the one before and the log make up for one.
func (l *life) rot() {
	names := l.disk.Names()
	for _, name := range slices.Backward(names) {
		if data := l.disk.Contents(name); strings.HasSuffix(name, ".vigil") && len(data) > 0 {
			data[rapid.IntRange(0, len(data)-1).Draw(l.t, "byte")] ^= 0x10
			l.disk.Put(name, data)
			l.rotten, l.floor = true, l.appended // only the log says now what time it was
			l.t.Logf("%s rots", name)
			return
		}
	}
}

// jump moves the wall clock.
func (l *life) jump(d time.Duration) {
	before := l.now()
	l.skew.Add(int64(d))
	if now := l.now(); now < before {
		l.t.Fatalf("now went back from %v to %v", before, now)
	}
	l.n.followClock()
	var ahead *clock.AheadError
	lead := time.Duration(l.now() - l.wall())
	if err := l.n.ready(); (err != nil) != (lead > time.Minute) || err != nil && !errors.As(err, &ahead) {
		l.t.Fatalf("now is %v ahead of the wall clock, and it says: %v", lead, err)
	}
}

// pass lets time pass: timers fire, the floor of the clock is written.
func (l *life) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	if !l.faulty && d > time.Second {
		l.floor = max(l.floor, l.now().Add(-time.Second))
	}
}

// step does one thing.
func (l *life) step() {
	t := l.t
	draw := func(label string, from ...int) int { return rapid.SampledFrom(from).Draw(t, label) }
	if l.disk.Stopped() && rapid.Bool().Draw(t, "the machine has stopped") {
		l.count("restart of a stopped machine")
		l.restart(draw("how it ends", killed, powerless))
		return
	}
	if l.faulty && l.unsure == nil && !l.disk.Stopped() && rapid.Bool().Draw(t, "before the disk is well again") {
		l.count("signals on a bad disk")
		l.signal()
		return
	}
	switch step := rapid.IntRange(0, 23).Draw(t, "step"); step {
	default:
		l.count("signals")
		l.signal()
	case 6, 7:
		l.count("undo")
		l.undo()
	case 8, 9, 10:
		l.count("resend")
		l.resend()
	case 11:
		l.count("pass")
		l.pass(time.Duration(draw("milliseconds", 5, 200, 1100, 6000)) * time.Millisecond)
	case 12, 13, 14:
		l.count("jump ahead")
		l.jump(time.Duration(draw("seconds ahead", 1, 5, 20, 61, 400)) * time.Second)
	case 15:
		l.count("jump back")
		l.jump(-time.Duration(draw("seconds back", 1, 5, 20, 50, 200)) * time.Second)
	case 16:
		l.count("reload")
		l.use(rapid.IntRange(0, len(l.rules)-1).Draw(t, "rules"))
	case 17:
		l.count("snapshot")
		l.snapshot()
	case 18:
		l.count("prune")
		l.n.posture.Prune(l.now())
	case 19, 20:
		l.count("restart")
		l.restart(draw("how it ends", stopped, killed, powerless, powerless))
	case 21:
		l.count("stop soon")
		l.disk.StopAfter(rapid.IntRange(0, 15).Draw(t, "calls until the machine stops"))
		l.faulty = true
	case 22:
		if l.faulty && !l.disk.Stopped() {
			l.count("a good disk")
			l.disk.SetFault(nil)
			l.disk.StopAfter(-1)
			l.faulty = false
			l.pass(12 * time.Second) // the journal and the feed try again by then
			break
		}
		l.count("a bad disk")
		l.disk.SetFault(someFaults(rapid.Uint64().Draw(t, "faults")))
		l.faulty = true
	case 23:
		l.count("from elsewhere")
		l.stray()
	}
}

func (l *life) count(step string) {
	l.tally.steps[step]++
	l.t.Logf("%v: %s", l.now(), step)
}

// snapshot is what a node does every few minutes.
func (l *life) snapshot() {
	before, now := l.n.store.saved[0], l.now()
	l.n.store.snapshot()
	if !l.faulty {
		if l.n.store.saved[0] != l.n.feed.Progress().Applied[0] {
			l.t.Fatalf("no snapshot was saved on a disk that is well")
		}
		if l.n.store.saved[0] > before {
			l.floor = max(l.floor, now)
		}
	}
}

// someFaults fails one call in six, of some sorts, with one error or another.
func someFaults(seed uint64) disktest.Fault {
	random := rand.New(rand.NewPCG(seed, 1))
	only := []disktest.Op{disktest.OpWrite, disktest.OpSync, disktest.OpRead, disktest.OpTruncate, disktest.OpRename, disktest.OpSyncDir}[random.IntN(6)]
	all := random.IntN(3) > 0
	return func(op disktest.Op, _ string, asked int) (int, error) {
		if !all && op != only || random.IntN(6) > 0 {
			return asked, nil
		}
		return random.IntN(asked + 1), errors.New("a fault")
	}
}

// live lives one life in a bubble of its own.
func live(t *rapid.T, bubble *testing.T, rules []*ruleSet, sum *tally) {
	l := &life{
		t: t, disk: disktest.New(), rules: rules, tally: sum,
		set: rapid.SampledFrom([]int{0, 0, 0, 3}).Draw(t, "rules at first"),
		cfg: &config{
			DataDir: "data", Snapshot: snapshotConfig{Keep: 2},
			CacheEntries: rapid.SampledFrom([]int{1, 2, 5, 1000, 1000}).Draw(t, "cache entries"),
			Cache:        rapid.SampledFrom([]engine.CacheMode{engine.CacheOn, engine.CacheOn, engine.CacheOn, engine.CacheVerify}).Draw(t, "cache mode"),
		},
		journal: journal.Options{
			SegmentBytes: rapid.SampledFrom([]int64{1, 700, 3000, 64 << 20}).Draw(t, "segment"),
			FollowBytes:  rapid.SampledFrom([]int{1, 16 << 20, 16 << 20}).Draw(t, "follow bytes"),
		},
		twin:   &enginetest.Twin{Said: map[authz.Key][]posture.Fact{}, Heard: map[string]authz.Instant{}},
		undone: map[string]bool{},
	}
	var failed any
	synctest.Test(bubble, func(*testing.T) {
		l.born = time.Now()
		defer func() {
			failed = recover() // a panic would end the process from here
			l.disk.StopAfter(0)
			l.n.halt() // also where it has ended already
		}()
		l.live()
	})
	// rapid tells failures apart by where they come from: a shortened life that has run
	// out of numbers is none.
	switch fmt.Sprintf("%T", failed) {
	case "<nil>":
	case "rapid.invalidData":
		panic(failed)
	default:
		panic(failed)
	}
}

func (l *life) live() {
	l.tally.lives++
	if err := l.boot(); err != nil {
		l.t.Fatal(err)
	}
	l.settleIn()
	for range rapid.IntRange(5, 45).Draw(l.t, "steps") {
		l.step()
		l.observe()
	}
	// Whatever happened, what was acknowledged is there after the last loss of power.
	l.restart(powerless)
	l.resolve()
	l.observe()
	if n := l.n.engine.Stats().Mismatch; n > 0 {
		l.t.Fatalf("the engine itself found %d cached decisions that are not fresh", n)
	}
}

// livesAreFullOf is what must have come about in many lives, for it is what they are for.
var livesAreFullOf = []string{
	"a signal sent again", "a signal late", "a signal long ago", "a signal ahead", "a signal ahead, dated back",
	"a risk rises", "a risk falls", "a risk rises at an end to come", "a risk falls at an end to come, to another",
	"undo of own quarantine", "undo of own risk", "undo of own taint", "undo of own narrow", "undo of own require_approval",
	"undo of another's quarantine", "undo of another's risk", "undo of another's taint", "undo of another's narrow", "undo of another's require_approval",
	"undo of an undo", "undo raced by another word", "a signal sent again once taken back",
}

// TestLivesOfANode is C1 to C5, C8 and C9 over everything at once. More lives, and
// another seed: go test -run TestLivesOfANode -rapid.checks=10000 -rapid.seed=1.
func TestLivesOfANode(t *testing.T) {
	if checks := flag.Lookup("rapid.checks").Value; raceDetector && checks.String() == "100" { // as nobody asked for
		must(t, checks.Set("30"))
		defer func() { must(t, checks.Set("100")) }()
	}
	rules := loadRuleSets(t)
	sum := &tally{codes: map[authz.Code]int{}, steps: map[string]int{}}
	rapid.Check(t, func(r *rapid.T) { live(r, t, rules, sum) })
	t.Logf("%d lives, %d restarts and %d failed starts; %d pushes, %d of unknown outcome, %d refused for the disk; %d decisions, %d denied, %d from the cache, %d batches",
		sum.lives, sum.restarts, sum.failedBoots, sum.pushes, sum.unknown, sum.refused, sum.decisions, sum.denied, sum.hits, sum.batches)
	t.Log(fmt.Sprint(sum.steps), fmt.Sprint(sum.codes))
	if sum.hits < sum.lives || sum.decisions < 10*sum.lives {
		t.Errorf("hardly anything was tested")
	}
	for _, step := range livesAreFullOf {
		if sum.lives >= 2000 && sum.steps[step] == 0 {
			t.Errorf("%d lives without one %q", sum.lives, step)
		}
	}
}
