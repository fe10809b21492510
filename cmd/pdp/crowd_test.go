package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"vigil/authz"
	"vigil/clock"
	"vigil/disk/disktest"
	"vigil/engine"
	"vigil/loadtest/history"
	"vigil/posture"
	"vigil/rules"
	"vigil/signals"
	"vigil/signals/journal"
)

// crowd is many at once: some decide, some demand positions, some ask batches, some push, one
// is a source that beats and falls silent, one loads rules, one starts the view anew from
// snapshot and log. All that they see goes
// into a history checker, which knows nothing of how any of it works.
//
// One engine decides all the time; nodes come and go behind it, each over the same disk.
type crowd struct {
	disk    *disktest.Memory
	time    func() (authz.Instant, time.Duration) // of all clocks
	clock   *clock.Clock
	engine  *engine.Engine
	sets    []*rules.Set
	checker *history.Checker
	perItem bool // ask the items of a batch one by one, which is wrong
	most    int  // decisions of one reader in one round

	node atomic.Pointer[running] // caught up, and its posture is the engine's

	using      sync.Mutex // over set and every Use
	set        int
	generation atomic.Int64 // counts Uses: whatever was cached before is not

	newest atomic.Pointer[string] // position of the latest acknowledgement
	serial atomic.Uint64
	over   atomic.Bool

	made, acknowledged atomic.Int64 // decisions and signals of the round
}

// Two agents, each with a session of every reader's own, whose questions nobody else asks.
const (
	crowdAgents  = 2
	crowdReaders = 2
	crowdRisk    = 70 // from which on an agent is denied
	crowdPushers = 3

	// Every second agent needs the source, which may be silent for a second of the crowd's
	// time. That is fast, or nobody could wait for it.
	crowdSource  = "source:client:watch"
	crowdSilence = history.Time(time.Second)
	crowdHaste   = 100
)

// hasty is a machine's time that goes crowdHaste times as fast as it should.
func hasty() func() (authz.Instant, time.Duration) {
	begun := time.Now()
	return func() (authz.Instant, time.Duration) {
		gone := crowdHaste * time.Since(begun)
		return authz.InstantOf(begun).Add(gone), gone
	}
}

// needing is whether an agent needs the source.
func needing(agent int) bool { return agent%2 == 1 }

// crowdJudge is what the rule sets of a crowd say.
func crowdJudge(_ string, standings []history.Standing) string {
	if standings[0].Risk >= crowdRisk {
		return history.Deny
	}
	return history.AllowUnlessHeld("", standings)
}

func newCrowd(t *testing.T, mode engine.CacheMode) *crowd {
	t.Helper()
	c := &crowd{disk: disktest.New(), most: 5000, checker: history.New(crowdJudge), time: hasty()}
	c.checker.Require(crowdSource, crowdSilence)
	for _, when := range []string{"agent.risk < 70", "!(agent.risk >= 70) && user.risk >= 0"} {
		_, set, problems := rules.Load(fstest.MapFS{
			"bundle.yaml": {Data: []byte("vigil: 1\nfiles: [rules.yaml]\nsources:\n  client:watch: {max_silence: 1s}\nprofiles:\n  default: {}\n  watched: {needs: [client:watch]}\n")},
			"rules.yaml":  {Data: []byte("vigil: 1\nattributes:\n  subject.agent: {}\n  resource.thing: {}\nactions:\n  look: {}\nrules:\n  - {id: all, effect: allow, when: '" + when + "'}\n")},
		})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		c.sets = append(c.sets, set)
	}
	var err error
	c.clock, err = clock.New(clock.Config{Source: c.time})
	must(t, err)
	c.engine, err = engine.New(engine.Config{Cache: mode, CacheEntries: 256, Now: c.slowNow})
	must(t, err)
	t.Cleanup(c.engine.Close)
	c.start(t)
	t.Cleanup(func() { c.node.Load().halt() })
	return c
}

// start starts a node and, once it has caught up, decides by its posture.
func (c *crowd) start(t *testing.T) {
	t.Helper()
	cfg := &config{DataDir: "data", Snapshot: snapshotConfig{Keep: 2}, CacheEntries: 1}
	n, err := startNode(cfg, machine{fs: c.disk, time: c.time, journal: journal.Options{SegmentBytes: 20_000}}, c.sets[0])
	if err != nil {
		t.Error(err)
		return
	}
	c.use(func() {}, n)
	c.node.Store(n)
}

// use makes the engine decide by what change leaves, and by the posture of n.
func (c *crowd) use(change func(), n *running) {
	c.using.Lock()
	defer c.using.Unlock()
	change()
	if n == nil {
		n = c.node.Load()
	}
	c.generation.Add(1)
	c.engine.Use(c.sets[c.set], n.posture)
	c.generation.Add(1)
}

// slowNow is the engine's clock. Now and then it takes long, so that much happens between
// what a decision does before it reads the clock and what it does after.
func (c *crowd) slowNow() authz.Instant {
	if rand.IntN(50) == 0 {
		time.Sleep(50 * time.Microsecond)
	}
	return c.clock.Now()
}

func (c *crowd) now() history.Time { return history.Time(c.clock.Now()) }

func agentRef(i int) string   { return fmt.Sprint("agent:", i) }
func sessionRef(s int) string { return fmt.Sprint("session:", s) }

// look is a question of an agent in a session, for the user. A long one names grants, too,
// of which the last may be held: between the reading of the agent and of that one is time
// for something to happen.
func look(agent, session int, long bool) (*authz.Request, *authz.Principal, history.Item) {
	a, s := strconv.Itoa(agent), strconv.Itoa(session)
	req := &authz.Request{
		Subject: authz.Party{Type: "agent", ID: a}, Action: authz.Action{Name: "look"}, Resource: authz.Party{Type: "thing", ID: "1"},
	}
	p := &authz.Principal{Tenant: authz.DefaultTenant, Agent: a, Session: s, User: "u"}
	item := history.Item{Question: a + "/" + s, Entities: []string{agentRef(agent), sessionRef(session), "user:u"}}
	if needing(agent) {
		item.Entities = append(item.Entities, crowdSource)
	}
	if long {
		p.Grants, item.Question = longChain, item.Question+"/z"
		item.Entities = append(item.Entities, lastGrant)
	}
	return req, p, item
}

const lastGrant = "grant:z"

var longChain = func() (all []authz.Delegation) {
	for i := range 150 {
		all = append(all, authz.Delegation{ID: fmt.Sprint("g", i)})
	}
	return append(all, authz.Delegation{ID: "z"})
}()

// crowdWide are entities that nobody asks about. Where a signal is about all of them, there
// is a while between its first and its last.
var crowdWide = func() (all []string) {
	for i := range 60 {
		all = append(all, fmt.Sprint("token:w", i))
	}
	return all
}()

func offset(asOf string) uint64 {
	_, at, err := signals.ParseAsOf(asOf)
	if err != nil {
		return 0
	}
	return uint64(at[0])
}

// witnessed is what one member of the crowd has seen in a round.
type witnessed struct {
	decisions []history.Decision
	signals   []history.Signal
	hits      int
	allowed   int
}

// read asks until the round is over: single questions, batches, and after positions.
func (c *crowd) read(own int, random *rand.Rand, out *witnessed) {
	asked := map[string]int64{} // the generation at which an own question was asked last
	for n := 0; !c.over.Load() && len(out.decisions) < c.most; n++ {
		if n%8 == 0 {
			time.Sleep(time.Microsecond) // the others are to have a turn, too
		}
		switch agent := random.IntN(crowdAgents); random.IntN(6) {
		default: // a question of one's own
			c.ask(agent, own, false, 0, asked, out)
		case 1: // one that all ask
			c.ask(agent, crowdReaders, random.IntN(2) == 0, 0, nil, out)
		case 2:
			c.batch(random, out)
		case 3:
			newest := c.newest.Load()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			if newest != nil && c.node.Load().feed.WaitFor(ctx, *newest) == nil {
				c.ask(agent, crowdReaders, false, offset(*newest), nil, out)
			}
			cancel()
		}
	}
}

// ask asks one question. asked is not nil for one that nobody else asks.
func (c *crowd) ask(agent, session int, long bool, atLeast uint64, asked map[string]int64, out *witnessed) {
	req, p, item := look(agent, session, long)
	d := history.Decision{ID: c.serial.Add(1), AtLeast: atLeast, Start: c.now()}
	generation := c.generation.Load()
	a := c.engine.Decide(gateway, req, p)
	after := c.generation.Load()
	d.End = c.now()
	d.AsOf, item.Outcome, item.Until = offset(a.AsOf), a.Effect.String(), history.Time(a.ValidUntil)
	if asked != nil && !needing(agent) { // what is decided in a silence is never kept
		last, before := asked[item.Question]
		item.Recomputed = a.Cache == authz.MissStale && before && last == generation && generation == after && generation%2 == 0
		asked[item.Question] = generation
		if generation != after {
			delete(asked, item.Question)
		}
	}
	if a.Cache == authz.Hit {
		out.hits++
	}
	if a.Effect == authz.Allow {
		out.allowed++
	}
	d.Items = []history.Item{item}
	out.decisions = append(out.decisions, d)
	c.made.Add(1)
}

func (c *crowd) batch(random *rand.Rand, out *witnessed) {
	var items []engine.Item
	d := history.Decision{ID: c.serial.Add(1)}
	first := random.IntN(crowdAgents)
	for i := range 2 + random.IntN(2) {
		req, p, item := look((first+i)%crowdAgents, crowdReaders, random.IntN(3) == 0)
		items = append(items, engine.Item{Request: req, Principal: p})
		d.Items = append(d.Items, item)
	}
	var answers []authz.Answer
	d.Start = c.now()
	if c.perItem {
		for _, it := range items {
			time.Sleep(20 * time.Microsecond)
			answers = append(answers, c.engine.Decide(gateway, it.Request, it.Principal))
		}
	} else {
		answers = c.engine.DecideBatch(gateway, items, nil, nil)
	}
	d.End = c.now()
	d.AsOf = offset(answers[0].AsOf)
	for i, a := range answers {
		d.Items[i].Outcome, d.Items[i].Until = a.Effect.String(), history.Time(a.ValidUntil)
	}
	out.decisions = append(out.decisions, d)
}

// push sends signals until the round is over. What has no definite answer it sends again,
// to whichever node is there, as a good client does.
func (c *crowd) push(who int, random *rand.Rand, out *witnessed) {
	sender := soar
	sender.Source.Name = fmt.Sprint("soar-", who)
	var held []string
	for !c.over.Load() || held != nil { // what is held for good is released at last
		s := c.draw(sender.Source.String(), random, held)
		held = nil
		if s.Held && s.Until == 0 {
			held = s.Entities
		}
		c.send(&s, sender, out)
		if random.IntN(8) == 0 { // once more, which says nothing
			_, _ = c.node.Load().intake.Push(context.Background(), sender, []byte(s.body))
		}
		time.Sleep(time.Duration(random.IntN(200)) * time.Microsecond)
	}
}

// send pushes a signal until it is acknowledged. A heartbeat that is sent again is another one,
// for the log may take both, each at its time, and the answer is there when both are in force.
// One that changes nothing is none: it is answered by one before it, which is there already.
func (c *crowd) send(s *sent, sender signals.Sender, out *witnessed) {
	var before []history.Signal
	shared := false
	s.Begun = c.now()
	for tries := 0; s.Acknowledged == 0 && tries < 10_000; tries++ {
		receipt, err := c.node.Load().intake.Push(context.Background(), sender, []byte(s.body))
		switch {
		case err == nil:
			s.Acknowledged, s.Position = c.now()+1, offset(receipt.AsOf)
			c.newest.Store(&receipt.AsOf)
			shared = s.Facet == history.Heartbeat && receipt.Results[0].Outcome == posture.NoChange
		case errors.Is(err, signals.ErrUnavailable), errors.Is(err, signals.ErrUnknownOutcome):
			time.Sleep(100 * time.Microsecond) // until another node is there
			if s.Facet == history.Heartbeat && errors.Is(err, signals.ErrUnknownOutcome) {
				before = append(before, s.Signal)
				s.Begun = c.now()
			}
		default:
			panic(err) // the crowd says nothing that may be refused
		}
	}
	for _, earlier := range before {
		earlier.ID = fmt.Sprint(earlier.ID, "/", earlier.Begun)
		earlier.Acknowledged = s.Acknowledged
		out.signals = append(out.signals, earlier)
	}
	if !shared {
		out.signals = append(out.signals, s.Signal)
	}
	c.acknowledged.Add(1)
}

// beat is the source: it says that it is there, or for a while nothing; and now and then
// there is an exception, which ends or is lifted. When the log took a heartbeat nobody is told.
func (c *crowd) beat(random *rand.Rand, out *witnessed) {
	pause := func() { time.Sleep(time.Duration(random.IntN(15)) * time.Millisecond) }
	for ; !c.over.Load(); pause() {
		if random.IntN(4) > 0 {
			c.heartbeat(out)
			continue
		}
		now := c.clock.Now()
		ends := now.Add(time.Duration(1+random.IntN(1500)) * time.Millisecond)
		s := history.Signal{Facet: history.Waive, At: int64(now), Until: history.Time(ends)}
		waived := c.aboutSource(s, boss, fmt.Sprintf(`"type":"waive","reason":"r","expires":%q`, ends), out)
		if random.IntN(2) == 0 {
			pause()
			s.Facet, s.Lifts, s.At = history.Lift, waived, int64(c.clock.Now())
			c.aboutSource(s, boss, fmt.Sprintf(`"type":"lift","lifts":{"type":"waive","id":%q}`, waived), out)
		}
	}
}

func (c *crowd) heartbeat(out *witnessed) {
	watch := signals.Sender{Source: signals.Source{Kind: "client", Name: "watch"}, Authority: everyKind}
	c.aboutSource(history.Signal{Facet: history.Heartbeat, At: int64(c.clock.Now())}, watch, `"type":"heartbeat"`, out)
}

// aboutSource sends a signal about the source, and gives its id.
func (c *crowd) aboutSource(s history.Signal, sender signals.Sender, more string, out *witnessed) (id string) {
	s.ID, s.Source, s.Entities = fmt.Sprint("s", c.serial.Add(1)), sender.Source.String(), []string{crowdSource}
	body := fmt.Sprintf(`{"v":1,"id":%q,"entities":[%q],"time":%q,%s}`, s.ID, crowdSource, authz.Instant(s.At), more)
	c.send(&sent{s, body}, sender, out)
	return s.ID
}

type sent struct {
	history.Signal
	body string
}

// draw makes a signal: the release of what its source holds for good, or one of several kinds, about one to three entities, some that end, some
// that are older than what their source said before.
func (c *crowd) draw(source string, random *rand.Rand, undo []string) sent {
	now := c.clock.Now()
	late := crowdHaste * int64(time.Millisecond)
	if random.IntN(4) == 0 {
		late *= 20
	}
	s := sent{Signal: history.Signal{ID: fmt.Sprint("s", c.serial.Add(1)), Source: source, At: int64(now) - random.Int64N(late)}}
	// Mostly about what only some questions touch, so that much is allowed.
	all := []string{agentRef(0), agentRef(1), agentRef(0), agentRef(1), lastGrant, sessionRef(random.IntN(crowdReaders))}
	if random.IntN(8) == 0 {
		all = append(all, sessionRef(crowdReaders), "user:u")
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	s.Entities = slices.Compact(slices.Sorted(slices.Values(all[:1+random.IntN(3)])))
	about := slices.Clone(s.Entities)
	random.Shuffle(len(about), func(i, j int) { about[i], about[j] = about[j], about[i] })
	if len(about) > 1 && random.IntN(3) > 0 {
		about = slices.Insert(about, 1, crowdWide...)
	}
	more := ""
	ends := func() {
		s.Until = history.Time(now.Add(crowdHaste * time.Duration(100+random.IntN(3000)) * time.Microsecond))
		more += fmt.Sprintf(`,"expires":%q`, authz.Instant(s.Until))
	}
	switch kind := random.IntN(5); {
	case undo != nil:
		s.At, s.Entities, about = int64(now), undo, undo
		more = `"type":"release"`
	case kind == 0:
		s.Facet, s.Risk = history.Risk, []int{0, 50, 70, 95}[random.IntN(4)]
		more = fmt.Sprintf(`"type":"risk","risk":%d`, s.Risk)
		ends()
	case kind == 1:
		more = `"type":"release"`
	default:
		s.Held = true
		more = `"type":"quarantine"`
		if random.IntN(4) > 0 {
			ends()
		}
	}
	s.body = fmt.Sprintf(`{"v":1,"id":%q,"entities":[%s],"time":%q,%s}`, s.ID, quotedTexts(about), authz.Instant(s.At), more)
	return s
}

// settleIn makes every entity known, for the birth of one may cost another a recomputation,
// lets the source be heard, and asks everything while it is allowed.
func (c *crowd) settleIn(t *testing.T) {
	refs := []string{"user:u", "tenant:default", "everything", lastGrant}
	for s := range crowdReaders + 1 {
		refs = append(refs, sessionRef(s))
	}
	agent := fmt.Sprintf(`{"v":1,"id":"r0","type":"register","entities":["agent:0"],"time":%q,"class":"default"}`, c.clock.Now())
	watched := fmt.Sprintf(`{"v":1,"id":"r1","type":"register","entities":["agent:1"],"time":%q,"class":"watched"}`, c.clock.Now())
	others := fmt.Sprintf(`{"v":1,"id":"o","type":"risk","risk":0,"entities":[%s],"time":%q}`, quotedTexts(refs), c.clock.Now())
	wide := fmt.Sprintf(`{"v":1,"id":"w","type":"risk","risk":0,"entities":[%s],"time":%q}`, quotedTexts(crowdWide), c.clock.Now())
	for _, body := range []string{agent, watched, others, wide} {
		_, err := c.node.Load().intake.Push(context.Background(), soar, []byte(body))
		must(t, err)
	}
	var out witnessed
	c.heartbeat(&out)
	c.checker.Signal(out.signals[0])
	c.quiet()
}

// restart starts the view anew behind the engine: the old node ends as by a kill, or in
// order, and another reads its snapshot and its log.
func (c *crowd) restart(t *testing.T, random *rand.Rand) {
	old := c.node.Load()
	if random.IntN(2) == 0 {
		old.store.snapshot()
	}
	old.halt()
	c.disk.Kill()
	c.start(t)
}

// round lets everybody do what they do until there are so many decisions and signals, and
// gives the checker what they saw.
func (c *crowd) round(t *testing.T, seed uint64, decisions, signals int64) (hits, allowed int) {
	t.Helper()
	c.over.Store(false)
	c.made.Store(0)
	c.acknowledged.Store(0)
	all := make([]witnessed, crowdReaders+crowdPushers+1)
	var group sync.WaitGroup
	for i := range all {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() {
			switch {
			case i < crowdReaders:
				c.read(i, random, &all[i])
			case i < crowdReaders+crowdPushers:
				c.push(i, random, &all[i])
			default:
				c.beat(random, &all[i])
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, 1000))
	begun := time.Now()
	for n := 0; n < 8 || c.made.Load() < decisions || c.acknowledged.Load() < signals; n++ {
		if time.Since(begun) > 30*time.Second {
			t.Errorf("%d decisions and %d signals in half a minute", c.made.Load(), c.acknowledged.Load())
			break
		}
		time.Sleep(time.Duration(2+random.IntN(8)) * time.Millisecond)
		switch random.IntN(6) {
		case 0, 1:
			c.use(func() { c.set = 1 - c.set }, nil)
		case 2:
			c.restart(t, random)
		case 3:
			c.node.Load().store.snapshot()
		}
	}
	c.over.Store(true)
	group.Wait()
	for i := range all {
		for _, d := range all[i].decisions {
			c.checker.Decision(d)
		}
		for _, s := range all[i].signals {
			c.checker.Signal(s)
		}
		hits, allowed = hits+all[i].hits, allowed+all[i].allowed
	}
	c.quiet()
	return hits, allowed
}

// quiet asks everything while nothing is under way, so that a cached answer and a fresh one
// can be compared.
func (c *crowd) quiet() {
	for agent := range crowdAgents {
		for session := range crowdReaders + 1 {
			req, p, item := look(agent, session, session == crowdReaders)
			d := history.Decision{ID: c.serial.Add(1), Start: c.now()}
			a := c.engine.Decide(gateway, req, p)
			fresh := c.engine.Explain(gateway, req, p).Answer
			d.End = c.now()
			d.AsOf, item.Outcome, item.Until = offset(a.AsOf), a.Effect.String(), history.Time(a.ValidUntil)
			if fresh.At < a.GoodUntil() { // else time alone may have changed it in between
				item.Fresh = fresh.Effect.String()
			}
			d.Items = []history.Item{item}
			c.checker.Decision(d)
		}
	}
}

// crowdRounds is how many rounds a crowd has: VIGIL_CROWD_ROUNDS says more for a night.
func crowdRounds(t *testing.T, few int) int {
	if n, err := strconv.Atoi(os.Getenv("VIGIL_CROWD_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return few
}

// C1, C2, C3, C5, C8 and C10 while everything happens at once, by the judgement of who only
// looks on.
func TestACrowdBreaksNothing(t *testing.T) {
	for name, mode := range map[string]engine.CacheMode{"cached": engine.CacheOn, "verified": engine.CacheVerify} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, mode)
			c.settleIn(t)
			hits, allowed := 0, 0
			var found history.Findings
			for round := range crowdRounds(t, 5) {
				h, a := c.round(t, uint64(round), 500, 60)
				hits, allowed = hits+h, allowed+a
				found = c.checker.Settle()
			}
			for _, story := range found.Stories {
				t.Error(story)
			}
			t.Logf("%d decisions, %d allowed, %d from the cache, %d signals, %d undecided, %d pieces of view", found.Decisions, allowed, hits, found.Signals, found.Undecided, c.generation.Load()/2)
			if n := c.engine.Stats().Mismatch; n > 0 {
				t.Errorf("the engine itself found %d cached decisions that are not fresh", n)
			}
			if found.Signals < 50 || found.Undecided > found.Decisions/10 || hits < 100 && mode == engine.CacheOn {
				t.Error("hardly anything was tested")
			}
		})
	}
}

// The same crowd finds what goes wrong where a mechanism is off.
func TestACrowdFindsWhatIsBroken(t *testing.T) {
	for _, tc := range []struct {
		name    string
		mode    engine.CacheMode
		perItem bool
		want    []history.Property // one of these
	}{
		{"the cache is not checked", engine.CacheUnchecked, false, []history.Property{history.C1, history.C5}},
		{"the cache is not checked, and a source falls silent", engine.CacheUnchecked, false, []history.Property{history.C10}},
		{"a batch is gathered item by item", engine.CacheOn, true, []history.Property{history.C8}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCrowd(t, tc.mode)
			c.perItem, c.most = tc.perItem, 1000 // to blame takes longer than to find nothing
			c.settleIn(t)
			for round := range 40 {
				c.round(t, uint64(round), 200, 20)
				found := c.checker.Settle()
				for _, p := range tc.want {
					if found.Broken[p] > 0 {
						t.Logf("in round %d, of %d decisions: %v\n%s", round, found.Decisions, found.Broken, found.Stories[p])
						return
					}
				}
			}
			t.Error("nothing was found: the crowd does not reach what it is meant to test")
		})
	}
}
