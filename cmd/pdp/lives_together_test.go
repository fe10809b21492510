package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/disk/disktest"
	"vigil/signals"
)

// lives are two nodes over one log, whose brokers go away, fall silent, take nothing or lose
// their answers, and which are killed, stopped and started again. What anybody may count on
// is held after every step:
//
//   - a node that acknowledged a revocation denies, from then on and after any end;
//   - a node that was asked for at least its position denies from then on;
//   - nobody allows what any node acknowledged, but for the spooled, longer ago than a view
//     may be old;
//   - nobody allows from a view that is older than that.
type lives struct {
	t     *rapid.T
	log   *cluster
	nodes []*sharer
	up    []bool
	known []map[string]bool        // sessions that a node must deny
	blind []authz.Instant          // since when a node cannot have heard of anything; 0 for not
	acked map[string]authz.Instant // sessions that the log has for certain, and since when
	maybe map[string]bool          // sessions of which nobody knows
	next  int
	tally map[string]int
}

// mostAge is the max_feed_age of the class of the agent.
const mostAge = 30 * time.Second

func (l *lives) now() authz.Instant { return authz.InstantOf(time.Now()) }

func (l *lives) count(what string) {
	l.tally[what]++
	l.t.Logf("%v: %s", l.now(), what)
}

// boot starts a node, which may fail only while the brokers do not answer.
func (l *lives) boot(i int) {
	err := l.nodes[i].boot()
	if err == nil {
		l.up[i] = true
		for session := range l.known[i] { // before anything else that runs gets on
			if got := l.nodes[i].ask(session); got.Effect == authz.Allow {
				l.t.Fatalf("node %d allows %s with its first decision, and knew of its revocation", i, session)
			}
		}
		return
	}
	if !l.log.away && !l.log.silent && !l.nodes[i].alone.Load() {
		l.t.Fatalf("node %d does not start: %v", i, err)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		l.t.Fatalf("node %d does not wait for the brokers: %v", i, err)
	}
	l.count("a start in vain")
}

func (l *lives) revoke(i int) {
	n := l.nodes[i]
	session := fmt.Sprint("s", l.next)
	l.next++
	receipt, err := n.push("r-"+session, "revoke", "session:"+session, "")
	switch {
	case err == nil && receipt.Spooled:
		l.count("spooled")
		l.known[i][session] = true
	case err == nil:
		l.count("acknowledged")
		l.known[i][session], l.acked[session] = true, l.now()
		if other := 1 - i; l.up[other] && l.nodes[other].feed.WaitFor(context.Background(), receipt.AsOf) == nil {
			l.known[other][session] = true
			l.count("at least")
		}
	case errors.Is(err, signals.ErrUnknownOutcome):
		l.count("unknown")
		l.maybe[session] = true
	case errors.Is(err, signals.ErrUnavailable):
		l.count("refused")
		if l.log.away || l.log.silent || l.log.deaf || n.alone.Load() {
			return
		}
		if n.feed.Health() == nil && n.feed.applier.Err() == nil {
			l.t.Fatalf("node %d refuses a revocation though all is well: %v", i, err)
		}
	default:
		l.t.Fatal(err)
	}
}

func (l *lives) observe() {
	synctest.Wait()
	for i, n := range l.nodes {
		if !l.up[i] {
			continue
		}
		age := n.feed.Age(l.now())
		if l.blind[i] != 0 && age < time.Duration(l.now()-l.blind[i]) {
			l.t.Fatalf("node %d hears nothing since %v, and says that its view is %s old", i, l.blind[i], age)
		}
		for s := range l.next {
			session := fmt.Sprint("s", s)
			got := n.ask(session)
			l.tally[got.Effect.String()]++
			switch {
			case got.Effect == authz.Allow && l.known[i][session]:
				l.t.Fatalf("node %d allows %s, of whose revocation it knew", i, session)
			case got.Effect == authz.Allow && age > mostAge:
				l.t.Fatalf("node %d allows %s from a view that is %s old", i, session, age)
			case got.Effect == authz.Allow && l.acked[session] != 0 && time.Duration(l.now()-l.acked[session]) > mostAge:
				l.t.Fatalf("node %d allows %s, which was revoked %s ago; its view is %s old", i, session, time.Duration(l.now()-l.acked[session]), age)
			}
		}
		if got := n.ask("never"); (got.Effect == authz.Allow) != (age <= mostAge) {
			l.t.Fatalf("node %d, whose view is %s old: %v %s %s", i, age, got.Effect, got.Code, got.ReasonAdmin)
		}
	}
}

func (l *lives) step() {
	i := rapid.IntRange(0, 1).Draw(l.t, "node")
	n := l.nodes[i]
	switch step := rapid.IntRange(0, 19).Draw(l.t, "step"); {
	case !l.up[i] && step < 15:
		l.count("start")
		l.boot(i)
	case step < 8 && l.up[i]:
		l.revoke(i)
	case step < 12:
		what := rapid.SampledFrom([]string{"well", "well", "well", "away", "silent", "deaf", "lossy"}).Draw(l.t, "brokers")
		l.count("brokers: " + what)
		l.log.change(func() {
			l.log.away, l.log.silent, l.log.deaf, l.log.lossy = what == "away", what == "silent", what == "deaf", what == "lossy"
		})
		l.look()
	case step == 12:
		n.alone.Store(!n.alone.Load())
		l.count(fmt.Sprintf("node %d is cut off: %v", i, n.alone.Load()))
		l.look()
	case step < 15:
		d := rapid.SampledFrom([]int{1, 5, 20, 31, 90}).Draw(l.t, "seconds")
		l.count("time passes")
		time.Sleep(time.Duration(d) * time.Second)
	case step == 15 && l.up[i]:
		l.count("snapshot")
		n.store.snapshot()
	case step == 16 && l.up[0] && l.up[1]:
		l.count("the log is cut behind all snapshots")
		for _, n := range l.nodes {
			n.store.snapshot()
		}
		for p := range l.log.parts {
			least := min(l.nodes[0].store.saved[p], l.nodes[1].store.saved[p])
			l.log.change(func() {
				part := l.log.parts[p]
				part.entries = part.entries[max(0, least-part.start):]
				part.start = max(part.start, least)
			})
		}
	case step == 17 && l.up[i]:
		l.count("stop")
		n.stop()
		l.up[i] = false
	case step > 17 && l.up[i]:
		l.count("kill")
		n.kill()
		l.up[i] = false
	}
}

// look notes who hears nothing from now on.
func (l *lives) look() {
	for i, n := range l.nodes {
		switch blind := l.log.away || l.log.silent || n.alone.Load(); {
		case !blind:
			l.blind[i] = 0
		case l.blind[i] == 0:
			l.blind[i] = l.now()
		}
	}
}

func (l *lives) live() {
	l.boot(0)
	l.boot(1)
	receipt, err := l.nodes[0].push("r", "register", "agent:1", registered)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.nodes[1].feed.WaitFor(context.Background(), receipt.AsOf); err != nil {
		l.t.Fatal(err)
	}
	for range rapid.IntRange(5, 40).Draw(l.t, "steps") {
		l.step()
		l.observe()
	}
	// In the end all is well, and both know all.
	l.log.change(func() { l.log.away, l.log.silent, l.log.deaf, l.log.lossy = false, false, false, false })
	for _, n := range l.nodes {
		n.alone.Store(false)
	}
	l.look()
	for i := range l.nodes {
		if !l.up[i] {
			l.boot(i)
		}
	}
	time.Sleep(time.Minute)
	l.observe()
	for s := range l.next {
		session := fmt.Sprint("s", s)
		for i, n := range l.nodes {
			if got := n.ask(session); got.Effect == authz.Allow && (l.known[0][session] || l.known[1][session] || l.acked[session] != 0) {
				l.t.Fatalf("node %d allows %s in the end", i, session)
			}
		}
	}
	if l.nodes[0].posture.Digest(l.now()) != l.nodes[1].posture.Digest(l.now()) {
		l.t.Fatal("they hold different postures")
	}
	for i, n := range l.nodes {
		if c := n.spoolCounts(); c.Waiting != 0 {
			l.t.Fatalf("something waits at node %d: %+v", i, c)
		}
	}
}

// TestLivesOfNodesThatShareALog is C1, C5 and C6 over brokers that fail in every way that a
// node can see. More lives: go test -run TestLivesOfNodesThatShareALog -rapid.checks=10000.
func TestLivesOfNodesThatShareALog(t *testing.T) {
	set := loadRuleSets(t)[0]
	tally := map[string]int{}
	rapid.Check(t, func(r *rapid.T) {
		var failed any
		synctest.Test(t, func(t *testing.T) {
			l := &lives{
				t: r, log: inBubble(int32(rapid.IntRange(1, 3).Draw(r, "partitions"))), up: make([]bool, 2), blind: make([]authz.Instant, 2),
				known: []map[string]bool{{}, {}}, acked: map[string]authz.Instant{}, maybe: map[string]bool{}, tally: tally,
			}
			for range l.up {
				l.nodes = append(l.nodes, &sharer{t: t, brokers: l.log, disk: disktest.New(), rules: set})
			}
			defer func() {
				failed = recover() // a panic would end the process from here
				for i, n := range l.nodes {
					if l.up[i] {
						n.halt()
					}
				}
			}()
			l.live()
		})
		if failed != nil {
			panic(failed)
		}
	})
	t.Log(tally)
	if tally["allow"] < 100 || tally["spooled"] < 10 || tally["at least"] < 10 || tally["kill"] < 10 {
		t.Errorf("hardly anything was tested")
	}
}
