package main

import (
	"flag"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"vigil/authz"
	"vigil/disk/disktest"
	"vigil/engine"
	"vigil/engine/enginetest"
	"vigil/posture"
	"vigil/signals"
)

// histories are what three replicas of one log and the writers of its input do, at random:
// signals are pushed to any replica, and the same one to another; others are written to the
// input, twice and in any order, by clocks that are wrong; all kinds of things are taken
// back; replicas lag, partition by partition, stop, are killed, and begin from snapshots.
//
// The twin of a replica has read exactly the records that the replica says it has applied,
// in no order, and knows of nothing else. So after every step
//
//   - each replica holds of every entity what its twin does, and decides as its twin does;
//   - what it has acknowledged, and what was demanded of it, is among what it has applied.
//
// Who takes something back is in the world in which that was never said, and nobody is in
// one with less in force on the way there.
type histories struct {
	life  // draws; its node and its twin are those of the replica that is looked at
	log   *cluster
	nodes []*sharer
	up    []bool
	sent  []*pushed
	raw   []string // records of the input
	told  map[signals.Position]saying

	// What each replica must have applied.
	owed []signals.Positions
}

// saying is what a record says, and the source that it shows alive.
type saying struct {
	changes []posture.Change
	heard   string
}

// Partitions of the log are 0 and 1, of the input 2 and 3.
const firstOfInput, partitionsOfAll = 2, 4

var riskTopic = &signals.Input{
	Source: signals.Source{Kind: "topic", Name: "risk"},
	Grants: []signals.Grant{{Authority: signals.Authority{
		Types: []string{"risk", "quarantine", "release", "taint", "revoke"}, Kinds: []string{"agent", "session", "tool"}, Tenants: []string{authz.DefaultTenant},
	}}},
}

// at makes a replica the one that is looked at: its twin reads what it has applied.
func (h *histories) at(i int) {
	h.n = h.nodes[i].running
	applied := h.n.feed.Progress().Applied
	h.twin = &enginetest.Twin{Said: map[authz.Key][]posture.Fact{}, Heard: map[string]authz.Instant{}, Rules: h.rules[h.set].plain, FeedAge: h.n.feed.Age(h.now())}
	for p, part := range h.log.parts {
		for o := range min(applied[p], part.end()) {
			at := signals.Position{Partition: p, Offset: o}
			if _, read := h.told[at]; !read {
				changes, heard := said(&part.entries[o])
				h.told[at] = saying{changes, heard}
				h.tally.told(changes, &part.entries[o])
			}
			for _, c := range h.told[at].changes {
				h.twin.Said[c.Key] = append(h.twin.Said[c.Key], c.Facts...)
			}
			if heard := h.told[at].heard; heard != "" {
				h.twin.Heard[heard] = max(h.twin.Heard[heard], part.entries[o].Appended)
			}
		}
	}
	for source, dated := range h.twin.Heard {
		h.twin.Heard[source] = h.counts(i, source, dated)
	}
}

// counts gives when a replica counts a source as heard that the log has dated so: then, or when
// it learned of it by its own clock, which may be behind the brokers'.
func (h *histories) counts(i int, source string, dated authz.Instant) authz.Instant {
	got, byLog := h.n.posture.Heard(source), h.n.posture.HeardByLog(source)
	earliest := dated.Add(min(0, time.Duration(h.nodes[i].skew.Load())))
	if byLog != dated || got > dated || got > h.now() || got < earliest {
		h.t.Fatalf("replica %d at %v has heard %s at %v, and by the log at %v, not %v", i, h.now(), source, got, byLog, dated)
	}
	return got
}

// told counts the clocks of those who wrote what a record says.
func (c *tally) told(changes []posture.Change, e *signals.Entry) {
	if len(changes) == 0 {
		c.steps["a record that says nothing"]++
		return
	}
	switch f := &changes[0].Facts[0]; {
	case f.Time > e.Appended && e.Appended.Add(5*time.Second) == f.Time:
		c.steps["a record dated back to 5 s ahead"]++
	case f.Time > e.Appended:
		c.steps["a record dated ahead"]++
	case f.Time < e.Appended.Add(-time.Minute):
		c.steps["a record of long ago"]++
	}
}

// look holds every replica against its twin, and demands of it what it owes.
func (h *histories) look() {
	synctest.Wait()
	for i := range h.nodes {
		if !h.up[i] {
			continue
		}
		h.at(i)
		if applied := h.n.feed.Progress().Applied; !applied.Covers(h.owed[i]) {
			h.t.Fatalf("replica %d has applied %v, and has acknowledged or was asked for %v", i, applied, h.owed[i])
		}
		now := h.now()
		for key := range h.twin.Said {
			if wrong := h.twin.Differs(key, now, h.n.posture.Get(key).At(now)); wrong != "" {
				h.t.Fatalf("replica %d: %s", i, wrong)
			}
		}
		for range 2 {
			h.compare(i, h.asks())
		}
	}
}

// asks picks a question, mostly one that was asked before.
func (h *histories) asks() *question {
	if q := h.again(); q != nil {
		return q
	}
	h.asked = append(h.asked, h.question())
	if len(h.asked) > 8 {
		h.asked = h.asked[1:]
	}
	return &h.asked[len(h.asked)-1]
}

// compare decides at replica i, which is the one that is looked at.
func (h *histories) compare(i int, q *question) {
	now := h.now()
	a := h.n.engine.Decide(q.caller, q.request, q.principal)
	h.tally.decisions++
	h.tally.codes[a.Code]++
	if a.Cache == authz.Hit {
		h.tally.hits++
	}
	if got, want := enginetest.OutcomeOf(a.Decision), h.twin.Decide(q.caller, q.request, q.principal, now); got != want {
		h.t.Fatalf("replica %d at %v, %v\n%+v\n%+v\nthe engine says %+v\n  the twin says %+v\n%s", i, now, a.Cache, q.request, q.principal, got, want, a.ReasonAdmin)
	}
}

func (h *histories) count(step string) {
	h.tally.steps[step]++
	h.t.Logf("%v: %s", authz.InstantOf(time.Now()), step)
}

func (h *histories) live() {
	h.tally.lives++
	for i := range h.nodes {
		h.boot(i)
	}
	for _, tenant := range everyKind.Tenants {
		h.at(0)
		s := h.draft(posture.Registration, tenant, []authz.Ref{{Kind: authz.KindAgent, ID: "1"}, {Kind: authz.KindAgent, ID: "2"}}, birthOfAll())
		s.fact.Registration = &posture.Registered{Class: "default", Scopes: []string{"propose:payments"}, Code: "sha256:c0", Labels: map[string]string{"role": "reader"}}
		h.push(0, h.bundle(soar, s))
	}
	for range rapid.IntRange(5, 40).Draw(h.t, "steps") {
		h.step()
		h.look()
	}
	h.settle()
}

// birthOfAll is early enough for every clock.
func birthOfAll() authz.Instant { return authz.InstantOf(time.Now()).Add(-time.Hour) }

// settle has all replicas run and read all: they hold the same, by their digest and by the
// twin, and so do those that begin from nothing.
func (h *histories) settle() {
	for i := range h.nodes {
		if !h.up[i] {
			h.boot(i)
		}
		h.nodes[i].behind.Store(0)
	}
	time.Sleep(time.Second)
	ends := signals.Positions{}
	for p, part := range h.log.parts {
		if part.end() > 0 {
			ends[p] = part.end()
		}
	}
	for i, owed := range h.owed {
		maps.Copy(owed, ends)
		if !h.nodes[i].feed.Progress().Applied.Covers(ends) {
			h.t.Fatalf("replica %d has not read all", i)
		}
	}
	h.look()
	fresh := &sharer{brokers: h.log, disk: disktest.New(), rules: h.rules[h.set]}
	if err := fresh.boot(); err != nil {
		h.t.Fatal(err)
	}
	defer fresh.halt()
	now := fresh.now()
	for _, n := range h.nodes {
		now = max(now, n.now())
	}
	want := fresh.posture.Digest(now)
	for i, n := range h.nodes {
		if n.posture.Digest(now) != want {
			h.t.Fatalf("replica %d holds another posture than one that begins from nothing", i)
		}
		if n := n.engine.Stats().Mismatch; n > 0 {
			h.t.Fatalf("the engine of replica %d found %d cached decisions that are not fresh", i, n)
		}
	}
}

// TestHistoriesOfReplicas is C1, C2, C5 and C8 over three replicas of one log, with what
// others write, what is taken back, and clocks that differ. More histories: go test -run
// TestHistoriesOfReplicas -rapid.checks=10000.
func TestHistoriesOfReplicas(t *testing.T) {
	if checks := flag.Lookup("rapid.checks").Value; raceDetector && checks.String() == "100" { // as nobody asked for
		must(t, checks.Set("25"))
		defer func() { must(t, checks.Set("100")) }()
	}
	rules := loadRuleSets(t)
	sum := &tally{codes: map[authz.Code]int{}, steps: map[string]int{}}
	rapid.Check(t, func(r *rapid.T) { liveTogether(r, t, rules, sum) })
	t.Logf("%d histories; %d pushes; %d decisions, %d from the cache", sum.lives, sum.pushes, sum.decisions, sum.hits)
	t.Log(fmt.Sprint(sum.steps), fmt.Sprint(sum.codes))
	for _, step := range historiesAreFullOf {
		if sum.lives >= 1000 && sum.steps[step] == 0 {
			t.Errorf("%d histories without one %q", sum.lives, step)
		}
	}
}

var historiesAreFullOf = []string{
	"at least", "at least, in vain", "a heartbeat", "the same to another replica", "a record of the input", "an old record again", "a look on the way",
	"undo of own quarantine", "undo of own risk", "undo of another's quarantine", "undo of another's risk", "undo raced by another word",
	"kill", "stop", "snapshot", "prune", "resend", "a replica lags", "a clock far ahead",
	"a record that says nothing", "a record dated back to 5 s ahead", "a record dated ahead", "a record of long ago",
}

// liveTogether lives one history in a bubble of its own.
func liveTogether(r *rapid.T, t *testing.T, rules []*ruleSet, sum *tally) {
	h := &histories{
		life: life{t: r, rules: rules, tally: sum, undone: map[string]bool{}},
		up:   make([]bool, 3), told: map[signals.Position]saying{},
	}
	// The first rules allow much, and these the same while sources are heard.
	h.set = rapid.SampledFrom([]int{0, len(lifeRules)}).Draw(r, "rule set")
	most := rapid.SampledFrom([]int{1, 1, 3}).Draw(r, "delivered at once")
	var ahead []int
	for range h.up {
		ahead = append(ahead, rapid.SampledFrom([]int{0, 0, -4000, -900, 900, 4000}).Draw(r, "milliseconds that its clock is ahead"))
	}
	var failed any
	synctest.Test(t, func(t *testing.T) {
		h.log = inBubble(firstOfInput)
		h.log.most = most
		h.log.input(riskTopic, firstOfInput, firstOfInput+1)
		for i := range h.up {
			n := &sharer{t: t, brokers: h.log, disk: disktest.New(), rules: rules[h.set], cache: engine.CacheVerify}
			n.skew.Store(int64(ahead[i]) * int64(time.Millisecond))
			h.nodes, h.owed = append(h.nodes, n), append(h.owed, signals.Positions{})
		}
		defer func() {
			failed = recover() // a panic would end the process from here
			for i, n := range h.nodes {
				if h.up[i] {
					n.halt()
				}
			}
		}()
		h.live()
	})
	switch fmt.Sprintf("%T", failed) { // as in live
	case "<nil>":
	case "rapid.invalidData":
		panic(failed)
	default:
		panic(failed)
	}
}
