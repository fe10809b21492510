package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
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
	told  map[signals.Position][]posture.Change

	// What each replica must have applied.
	owed []signals.Positions
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
	h.twin = &enginetest.Twin{Said: map[authz.Key][]posture.Fact{}, Rules: h.rules[0].plain, FeedAge: h.n.feed.Age(h.now())}
	for p, part := range h.log.parts {
		for o := range min(applied[p], part.end()) {
			at := signals.Position{Partition: p, Offset: o}
			if _, read := h.told[at]; !read {
				h.told[at] = said(&part.entries[o])
				h.tally.told(h.told[at], &part.entries[o])
			}
			for _, c := range h.told[at] {
				h.twin.Said[c.Key] = append(h.twin.Said[c.Key], c.Facts...)
			}
		}
	}
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

// push sends p to replica i, and demands of another what that acknowledged.
func (h *histories) push(i int, p *pushed) {
	if receipt, ok := h.send(i, p); ok {
		h.demand(receipt.AsOf)
	}
}

// send is push without a demand. It reports whether p was acknowledged.
func (h *histories) send(i int, p *pushed) (receipt signals.Receipt, acknowledged bool) {
	n := h.nodes[i]
	h.tally.pushes++
	receipt, err := n.intake.Push(context.Background(), p.sender, []byte(p.body))
	h.t.Logf("replica %d, %v, now %v: %s: %v", i, p.sender.Source, n.now(), p.body, err)
	h.n = n.running
	var bad *signals.DecodeError
	switch {
	case err == nil && !h.tooEarly(p, nil):
		h.owe(i, receipt.AsOf)
		return receipt, true
	case h.tooEarly(p, err):
	case errors.As(err, &bad) && slices.ContainsFunc(p.statements, func(s *statement) bool { return s.dated }):
		// What it overrules is not here, or not any more.
	case errors.Is(err, signals.ErrUnknownOutcome) && n.behind.Load() != 0:
		h.count("a push to a replica that lags: unknown")
	default:
		h.t.Fatalf("replica %d: %s: %v", i, p.body, err)
	}
	return receipt, false
}

// owe notes that a replica has come to a position, and stays there.
func (h *histories) owe(i int, asOf string) {
	_, at, err := signals.ParseAsOf(asOf)
	if err != nil {
		h.t.Fatal(err)
	}
	for partition, offset := range at {
		h.owed[i][partition] = max(h.owed[i][partition], offset)
	}
}

// demand has another replica come to a position, or lag and not decide.
func (h *histories) demand(asOf string) {
	i := rapid.IntRange(0, len(h.nodes)-1).Draw(h.t, "demanded of")
	if !h.up[i] {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := h.nodes[i].feed.WaitFor(ctx, asOf)
	switch {
	case err == nil:
		h.count("at least")
		h.owe(i, asOf)
	case h.nodes[i].behind.Load() == 0:
		h.t.Fatalf("replica %d does not come to %s: %v", i, asOf, err)
	default:
		h.count("at least, in vain")
	}
}

// signal pushes something new to a replica, and now and then the same to another.
func (h *histories) signal(i int) {
	h.at(i)
	sender := rapid.SampledFrom([]signals.Sender{soar, soar, siem, boss}).Draw(h.t, "sender")
	var all []*statement
	if rapid.IntRange(0, 3).Draw(h.t, "words that overlap") == 2 {
		all = h.overlapping(sender)
	} else {
		all = []*statement{h.statement(sender)}
	}
	p := h.bundle(sender, all...)
	h.push(i, p)
	h.keep(p)
	if j := h.someUp(); rapid.IntRange(0, 4).Draw(h.t, "to another, too") == 3 {
		h.count("the same to another replica")
		h.push(j, p)
	}
}

func (h *histories) keep(p *pushed) {
	h.sent = append(h.sent, p)
	if len(h.sent) > 20 {
		h.sent = h.sent[1:]
	}
}

// write has somebody write a signal to the input, or nonsense, perhaps twice.
func (h *histories) write(i int) {
	h.at(i)
	l := h.draft(rapid.SampledFrom([]posture.Facet{posture.Risk, posture.Risk, posture.Hold, posture.Hold, posture.Taint, posture.Revoke, posture.Narrow}).Draw(h.t, "facet"),
		authz.DefaultTenant, []authz.Ref{{Kind: rapid.SampledFrom([]authz.Kind{authz.KindAgent, authz.KindAgent, authz.KindTool, authz.KindSession}).Draw(h.t, "kind"), ID: "1"}}, h.when())
	if l.fact.Facet == posture.Revoke {
		l.keys[0] = authz.Ref{Kind: authz.KindSession, ID: "2"}.In(authz.DefaultTenant)
	}
	h.value(l, signals.Sender{Source: riskTopic.Source})
	l.fact.Source = riskTopic.Source.String()
	record := l.encode(signals.Sender{})
	switch rapid.IntRange(0, 11).Draw(h.t, "record") {
	case 9:
		record = "this is no signal"
	case 10, 11:
		if len(h.raw) > 0 {
			h.count("an old record again")
			record = rapid.SampledFrom(h.raw).Draw(h.t, "again")
		}
	}
	h.raw = append(h.raw, record)
	for range rapid.SampledFrom([]int{1, 1, 2}).Draw(h.t, "times") {
		partition := int32(rapid.IntRange(firstOfInput, partitionsOfAll-1).Draw(h.t, "partition"))
		h.t.Logf("partition %d: %s", partition, record)
		h.log.produce(partition, record)
		h.tally.steps["a record of the input"]++
	}
}

// ahead has a source whose clock is far ahead hold an agent, and let it go again once its
// clock has been put right: its first word counts as of no more than 5 s ahead.
func (h *histories) ahead(i int) {
	about := []authz.Ref{{Kind: authz.KindAgent, ID: rapid.SampledFrom([]string{"1", "2"}).Draw(h.t, "id")}}
	outside := rapid.Bool().Draw(h.t, "by the input")
	say := func(held bool, ahead time.Duration) {
		h.at(i)
		s := h.draft(posture.Hold, authz.DefaultTenant, about, h.now().Add(ahead))
		s.fact.Held, s.permissive = held, !held
		if !outside {
			p := h.bundle(siem, s)
			h.push(i, p)
			h.keep(p)
			return
		}
		h.log.produce(int32(rapid.IntRange(firstOfInput, partitionsOfAll-1).Draw(h.t, "partition")), s.encode(signals.Sender{}))
	}
	say(true, time.Duration(rapid.SampledFrom([]int{6, 60, 86_400}).Draw(h.t, "seconds ahead"))*time.Second)
	h.look()
	time.Sleep(10 * time.Second)
	say(false, 0)
}

// undo has a replica take something back, while a source may have another word elsewhere.
func (h *histories) undo(i int) {
	h.at(i)
	u := h.someUndoing()
	if u == nil {
		h.signal(i)
		return
	}
	time.Sleep(10 * time.Second) // what is dated ahead of one clock is behind another's
	synctest.Wait()
	h.at(i)
	drafts := h.drafts(u)
	if p := (*pushed)(nil); rapid.IntRange(0, 3).Draw(h.t, "meanwhile") == 2 {
		if p = h.interruption(u); p != nil {
			h.push(h.someUp(), p)
			h.keep(p)
			synctest.Wait()
		}
	}
	h.at(i)
	if len(drafts) == 0 {
		h.without(u)()
		return
	}
	p, hopeless := h.undoOf(u, drafts)
	if hopeless {
		h.mustRefuse(p)
		return
	}
	check, back := h.without(u), h.twin.Said
	arrived := h.onTheWay(u)
	receipt, ok := h.send(i, p)
	arrived()
	if !ok {
		if h.nodes[i].behind.Load() == 0 {
			h.t.Fatalf("replica %d does not take back %+v: %s", i, u, p.body) // nothing of it is ahead any more
		}
		return
	}
	h.at(i)
	check()
	h.keep(p)
	for _, key := range u.keys {
		for _, f := range back[key] {
			if u.takes(f) && f.Until > h.now() {
				h.tally.undone(u, f)
			}
		}
	}
	h.demand(receipt.AsOf)
}

// onTheWay looks at every replica after each delivery, until arrived is called: of nobody is
// less in force than before and after, and nothing is allowed that is allowed neither before
// nor after.
func (h *histories) onTheWay(u *undoing) (arrived func()) {
	type view struct {
		of      []*posture.Effective
		answers []authz.Effect
	}
	ways := make([][]view, len(h.nodes))
	asked, begun := slices.Clone(h.asked), time.Now()
	see := func(i int) {
		n, v := h.nodes[i].running, view{}
		for _, key := range u.keys {
			v.of = append(v.of, n.posture.Get(key).At(n.now()))
		}
		for _, q := range asked {
			v.answers = append(v.answers, n.engine.Decide(q.caller, q.request, q.principal).Effect)
		}
		ways[i] = append(ways[i], v)
	}
	for i := range h.nodes {
		if h.up[i] {
			see(i)
			f := func() { see(i) } // by the one goroutine that follows the log for i
			h.nodes[i].delivered.Store(&f)
		}
	}
	return func() {
		synctest.Wait()
		for i := range h.nodes {
			if h.nodes[i].delivered.Swap(nil) == nil || time.Since(begun) > 0 {
				continue // in time something may end, and a view that ages denies
			}
			see(i)
			first, last := ways[i][0], ways[i][len(ways[i])-1]
			for _, v := range ways[i][1 : len(ways[i])-1] {
				h.tally.steps["a look on the way"]++
				for k, e := range v.of {
					if was, is := first.of[k], last.of[k]; lessInForce(e, was, is) {
						h.t.Fatalf("replica %d, %v: less in force on the way than before and after: %s, then %s, then %s", i, u.keys[k], standing(was), standing(e), standing(is))
					}
				}
				for k, effect := range v.answers {
					if effect == authz.Allow && first.answers[k] != authz.Allow && last.answers[k] != authz.Allow {
						h.t.Fatalf("replica %d allows on the way what it allows neither before nor after: %+v", i, asked[k].request)
					}
				}
			}
		}
	}
}

func lessInForce(e, was, is *posture.Effective) bool {
	both := func(of func(*posture.Effective) bool) bool { return of(was) && of(is) && !of(e) }
	return e.Status < min(was.Status, is.Status) || e.Risk < min(was.Risk, is.Risk) ||
		both(func(e *posture.Effective) bool { return e.Tainted }) ||
		both(func(e *posture.Effective) bool { return e.Narrowed }) ||
		both(func(e *posture.Effective) bool { return len(e.ApprovalFor) > 0 })
}

func standing(e *posture.Effective) string {
	return fmt.Sprint(e.Status, " risk ", e.Risk, " tainted ", e.Tainted, " narrowed ", e.Narrowed, " approval for ", e.ApprovalFor)
}

// resend pushes what was pushed before, anywhere.
func (h *histories) resend(i int) {
	if len(h.sent) == 0 {
		h.signal(i)
		return
	}
	h.push(i, rapid.SampledFrom(h.sent).Draw(h.t, "again"))
}

func (h *histories) someUp() int {
	var all []int
	for i, up := range h.up {
		if up {
			all = append(all, i)
		}
	}
	return rapid.SampledFrom(all).Draw(h.t, "replica")
}

// boot starts a replica, to which all gets through meanwhile: it is ready when it has all.
func (h *histories) boot(i int) {
	h.nodes[i].behind.Store(0)
	if err := h.nodes[i].boot(); err != nil {
		h.t.Fatalf("replica %d does not start: %v", i, err)
	}
	h.up[i] = true
	applied := h.nodes[i].feed.Progress().Applied
	for p, part := range h.log.parts {
		if applied[p] != part.end() {
			h.t.Fatalf("replica %d is ready with %v, and partition %d ends at %d", i, applied, p, part.end())
		}
	}
}

func (h *histories) count(step string) {
	h.tally.steps[step]++
	h.t.Logf("%v: %s", authz.InstantOf(time.Now()), step)
}

func (h *histories) step() {
	i := h.someUp()
	switch step := rapid.IntRange(0, 25).Draw(h.t, "step"); step {
	default:
		h.count("signals")
		h.signal(i)
	case 4, 5, 6, 7:
		h.count("writes to the input")
		h.write(i)
	case 8, 9, 10, 11, 12:
		h.count("undo")
		h.undo(i)
	case 13, 14, 15:
		h.count("resend")
		h.resend(i)
	case 16, 17:
		which := uint64(rapid.IntRange(0, 1<<partitionsOfAll-1).Draw(h.t, "partitions that do not get through"))
		h.count("a replica lags")
		h.nodes[i].behind.Store(which)
	case 18, 19:
		h.count("all gets through to a replica")
		h.nodes[i].behind.Store(0)
	case 20:
		h.count("time passes")
		time.Sleep(time.Duration(rapid.SampledFrom([]int{100, 1000, 7000, 31_000, 90_000}).Draw(h.t, "milliseconds")) * time.Millisecond)
	case 21:
		h.count("snapshot")
		h.nodes[i].store.snapshot()
	case 22:
		h.count("prune")
		h.nodes[i].posture.Prune(h.nodes[i].now())
	case 25:
		h.count("a clock far ahead")
		h.ahead(i)
	case 23, 24:
		if down := slices.Index(h.up, false); down >= 0 {
			h.count("start")
			h.boot(down)
		} else if h.up[i] = false; step == 23 {
			h.count("stop")
			h.nodes[i].stop()
		} else {
			h.count("kill")
			h.nodes[i].kill()
		}
	}
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
	fresh := &sharer{brokers: h.log, disk: disktest.New(), rules: h.rules[0]}
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
	"at least", "at least, in vain", "the same to another replica", "a record of the input", "an old record again", "a look on the way",
	"undo of own quarantine", "undo of own risk", "undo of another's quarantine", "undo of another's risk", "undo raced by another word",
	"kill", "stop", "snapshot", "prune", "resend", "a replica lags", "a clock far ahead",
	"a record that says nothing", "a record dated back to 5 s ahead", "a record dated ahead", "a record of long ago",
}

// liveTogether lives one history in a bubble of its own.
func liveTogether(r *rapid.T, t *testing.T, rules []*ruleSet, sum *tally) {
	h := &histories{
		life: life{t: r, rules: rules, tally: sum, undone: map[string]bool{}},
		up:   make([]bool, 3), told: map[signals.Position][]posture.Change{},
	}
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
			n := &sharer{t: t, brokers: h.log, disk: disktest.New(), rules: rules[0], cache: engine.CacheVerify}
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
