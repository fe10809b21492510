package history

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"vigil/authz"
	"vigil/engine"
	"vigil/posture"
	"vigil/rules"
)

// room is a real engine over real posture, with signals that come into force step by step,
// so that any of the mechanisms that keep the contract can be left out. All of it is done
// by one goroutine in an order that a seed gives.
type room struct {
	broken  string // the mechanism that is left out
	random  *rand.Rand
	engine  *engine.Engine
	set     *rules.Set
	store   *posture.Store
	checker *Checker
	now     Time

	pending  []*underWay
	applied  uint64 // position of the last that is in force
	newest   uint64 // the greatest acknowledged
	arrivals int64
	serial   int
	asked    map[string]bool

	behind  *engine.Engine // another replica, which is slower
	late    []func()       // what it has not applied yet
	lateBy  *posture.Store
	waived  []string // exceptions that were begun
	lateTo  uint64
	earlier *posture.Store // as it was some time ago
}

// underWay is a signal between its beginning and its acknowledgement.
type underWay struct {
	Signal
	left    []string // entities of which it is not in force yet
	claimed bool     // it has its position
}

// The mechanisms that can be left out, and what that breaks.
var mechanisms = []struct {
	name string
	want []Property
}{
	{"the check of cached decisions", []Property{C1, C5}},
	{"the check of cached denials", []Property{C2}},
	{"applying before acknowledging", []Property{C1}},
	{"one view for a whole batch", []Property{C8}},
	{"one instant for all entities of a signal", []Property{C8}},
	{"applying before publishing the position", []Property{C8}},
	{"waiting for a demanded position", []Property{C8}},
	{"the order of event times", []Property{C5}},
	{"reading the log behind a snapshot", []Property{C5}},
	{"the identity of the entity", []Property{C3}},
	{"keeping what a signal did not touch", []Property{C3}},
	{"the check of cached decisions that rest on a source", []Property{C10}},
	{"the end of an exception", []Property{C10}},
	{"the end of an exception that was lifted", []Property{C10}},
	{"the time at which the log took what is heard", []Property{C10}},
	{"hearing before acknowledging", []Property{C10}},
}

// tick is the unit of time in a room, roomSilence how long the source that the agent b needs
// may be silent, which rules say in seconds.
const (
	tick        = Time(time.Second) / 30
	roomSilence = Time(time.Second)
	roomSource  = "client:z"
)

var roomRefs = []string{"agent:a", "agent:b", "session:s", "session:t"}

func newRoom(t *testing.T, set *rules.Set, broken string, seed uint64) *room {
	r := &room{
		broken: broken, random: rand.New(rand.NewPCG(seed, 4)), set: set, now: 1_000_000 * tick, asked: map[string]bool{},
		store: posture.NewStore(), lateBy: posture.NewStore(), applied: 1,
		checker: New(func(_ string, standings []Standing) string {
			if standings[0].Risk >= 70 {
				return Deny
			}
			return AllowUnlessHeld("", standings)
		}),
	}
	r.checker.Require("source:"+roomSource, roomSilence)
	mode := engine.CacheOn
	if strings.HasPrefix(broken, "the check of cached ") {
		mode = engine.CacheUnchecked
	}
	for _, e := range []**engine.Engine{&r.engine, &r.behind} {
		made, err := engine.New(engine.Config{Cache: mode, CacheEntries: 100, Now: func() authz.Instant { return authz.Instant(r.now) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(made.Close)
		*e = made
	}
	for _, store := range []*posture.Store{r.store, r.lateBy} {
		for _, ref := range append(roomRefs, "tenant:default", "everything", "source:"+roomSource) {
			f := posture.Fact{Facet: posture.Risk, Source: "client:start", ID: "start", Time: 1, Until: authz.Forever}
			change(store, ref, f)
			if ref == "agent:a" || ref == "agent:b" {
				f.Facet, f.Registration = posture.Registration, &posture.Registered{Class: map[string]string{"agent:a": "default", "agent:b": "watched"}[ref]}
				change(store, ref, f)
			}
		}
		store.PublishAsOf("1")
	}
	r.engine.Use(set, r.store)
	r.behind.Use(set, r.lateBy)
	return r
}

func change(store *posture.Store, ref string, f posture.Fact) {
	parsed, err := authz.ParseRef(ref)
	if err != nil {
		panic(err) // the test makes its own names
	}
	store.Apply(f.Time, []posture.Change{{Key: parsed.In(authz.DefaultTenant), Facts: []posture.Fact{f}}})
}

// begin sends a signal.
func (r *room) begin() {
	r.serial++
	s := &underWay{Signal: Signal{
		ID: fmt.Sprint("s", r.serial), Source: []string{"client:x", "client:y"}[r.random.IntN(2)],
		At: int64(r.now) - r.random.Int64N(40)*int64(tick), Begun: r.now,
	}}
	if r.random.IntN(4) == 0 {
		r.beginOfSource(s)
		return
	}
	refs := slices.Clone(roomRefs)
	r.random.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
	s.Entities = refs[:1+r.random.IntN(2)]
	switch r.random.IntN(6) {
	case 0:
		s.Facet, s.Risk = Risk, []int{0, 70, 95}[r.random.IntN(3)]
	case 1, 2:
		s.Held = true
		s.Until = r.now + Time(5+r.random.IntN(60))*tick
	case 3:
		s.Held = true
	}
	s.left = slices.Clone(s.Entities)
	r.pending = append(r.pending, s)
}

// beginOfSource makes s a signal about the source: mostly that it is heard, of which the log
// says when it took it, or an exception, or the lift of one.
func (r *room) beginOfSource(s *underWay) {
	s.Entities = []string{"source:" + roomSource}
	s.left = slices.Clone(s.Entities)
	switch n := r.random.IntN(6); {
	case n < 3:
		s.Facet, s.Source = Heartbeat, roomSource
	case n == 3 && len(r.waived) > 0:
		s.Facet, s.Lifts = Lift, r.waived[r.random.IntN(len(r.waived))]
	default:
		s.Facet, s.Until = Waive, r.now+Time(5+r.random.IntN(60))*tick
		s.At = int64(r.now)
		s.Source = "client:x"
		r.waived = append(r.waived, s.ID)
	}
	r.pending = append(r.pending, s)
}

// advance brings a signal one step further: into force, and then to its acknowledgement.
func (r *room) advance() {
	if len(r.pending) == 0 {
		return
	}
	i := r.random.IntN(len(r.pending))
	s := r.pending[i]
	if s.Facet == Heartbeat && s.Heard == 0 {
		s.Heard = r.now // the log takes it
		return
	}
	if (r.broken == "applying before acknowledging" || r.broken == "hearing before acknowledging" && s.Facet == Heartbeat) && s.Acknowledged == 0 {
		r.claim(s)
		r.acknowledge(s)
		return
	}
	if r.broken == "applying before publishing the position" && !s.claimed {
		r.claim(s)
		r.publish(s)
		return
	}
	if len(s.left) > 0 {
		r.apply(s)
		if len(s.left) > 0 {
			return
		}
		if !s.claimed {
			r.claim(s)
		}
		r.publish(s)
		if r.broken == "keeping what a signal did not touch" {
			r.engine.Use(r.set, r.store)
		}
		if s.Acknowledged == 0 {
			return
		}
	}
	r.acknowledge(s)
	r.pending = slices.Delete(r.pending, i, i+1)
	said := s.Signal
	if r.random.IntN(2) == 0 {
		said.Heard = 0 // not everybody is told
	}
	r.checker.Signal(said)
}

func (r *room) claim(s *underWay) { r.applied++; s.Position, s.claimed = r.applied, true }

func (r *room) acknowledge(s *underWay) {
	if s.Acknowledged == 0 {
		s.Acknowledged = r.now
		r.newest = max(r.newest, s.Position)
	}
}

func (r *room) publish(s *underWay) {
	r.store.PublishAsOf(strconv.FormatUint(s.Position, 10))
	late, position := *s, s.Position
	r.late = append(r.late, func() {
		r.bring(r.lateBy, late.Entities, &late)
		r.lateTo = max(r.lateTo, position)
		r.lateBy.PublishAsOf(strconv.FormatUint(r.lateTo, 10))
	})
}

// apply brings s into force, of all its entities at once.
func (r *room) apply(s *underWay) {
	n := len(s.left)
	if r.broken == "one instant for all entities of a signal" {
		n = 1
	}
	about := s.left[:n]
	s.left = s.left[n:]
	if r.broken == "the identity of the entity" && slices.Contains(roomRefs, about[0]) {
		about = []string{roomRefs[(slices.Index(roomRefs, about[0])+1)%len(roomRefs)]}
	}
	r.bring(r.store, about, s)
}

// bring brings s into force in one replica.
func (r *room) bring(store *posture.Store, about []string, s *underWay) {
	if s.Facet != Heartbeat {
		r.changeAll(store, about, r.fact(s))
		return
	}
	at := s.Heard
	if r.broken == "the time at which the log took what is heard" {
		at = r.now
	}
	store.Hear(roomSource, authz.Instant(at), authz.Instant(r.now))
}

func (r *room) changeAll(store *posture.Store, refs []string, f posture.Fact) {
	var changes []posture.Change
	for _, ref := range refs {
		parsed, err := authz.ParseRef(ref)
		if err != nil {
			panic(err)
		}
		changes = append(changes, posture.Change{Key: parsed.In(authz.DefaultTenant), Facts: []posture.Fact{f}})
	}
	store.Apply(authz.Instant(r.now), changes)
}

func (r *room) fact(s *underWay) posture.Fact {
	f := posture.Fact{Facet: posture.Hold, Source: s.Source, ID: s.ID, Time: authz.Instant(s.At), Until: authz.Forever, Held: s.Held, Risk: s.Risk}
	if s.Until != 0 {
		f.Until = authz.Instant(s.Until)
	}
	switch s.Facet {
	case Risk:
		f.Facet = posture.Risk
	case Waive:
		f.Facet = posture.Waive
		if r.broken == "the end of an exception" {
			f.Until = authz.Forever
		}
	case Lift:
		f.Facet, f.Lifts = posture.Lift, &posture.Target{Facet: posture.Waive, Source: "client:x", ID: s.Lifts}
		if r.broken == "the end of an exception that was lifted" {
			f.Lifts.ID = "another"
		}
	}
	if r.broken == "the order of event times" {
		r.arrivals++
		f.Time = authz.Instant(int64(r.now) + 1000 + r.arrivals) // what comes last speaks
	}
	return f
}

func (r *room) question() (*authz.Request, *authz.Principal, Item) {
	agent, session := string("ab"[r.random.IntN(2)]), string("st"[r.random.IntN(2)])
	it := Item{Question: agent + session, Entities: []string{"agent:" + agent, "session:" + session, "tenant:default", "everything"}}
	if r.random.IntN(2) == 0 {
		session, it = "", Item{Question: agent, Entities: []string{"agent:" + agent, "tenant:default", "everything"}}
	}
	if agent == "b" {
		it.Entities = append(it.Entities, "source:"+roomSource)
	}
	req := &authz.Request{Subject: authz.Party{Type: "agent", ID: agent}, Action: authz.Action{Name: "look"}, Resource: authz.Party{Type: "thing", ID: "1"}}
	return req, &authz.Principal{Tenant: authz.DefaultTenant, Agent: agent, Session: session}, it
}

var onlooker = &authz.Caller{Name: "onlooker", Tenants: []string{authz.DefaultTenant}}

func (r *room) decide(e *engine.Engine, atLeast uint64) {
	req, p, it := r.question()
	d := Decision{ID: uint64(r.now), AtLeast: atLeast, Start: r.now}
	a := e.Decide(onlooker, req, p)
	it.Outcome, it.Fresh = a.Effect.String(), e.Explain(onlooker, req, p).Answer.Effect.String()
	if r.broken == "the check of cached decisions" {
		it.Fresh = "" // to be found without it, too
	}
	if e == r.behind {
		it.Question = "behind " + it.Question // it has a cache of its own
	} else {
		it.Recomputed = a.Cache == authz.MissStale && r.asked[it.Question]
		r.asked[it.Question] = r.kept(it, a)
	}
	it.Until = Time(a.ValidUntil)
	r.answered(d, []Item{it}, a)
}

// kept reports whether an answer may be cached: one that was given in a silence is not, and
// is computed again whatever happens.
func (r *room) kept(it Item, a authz.Answer) bool {
	return !slices.Contains(it.Entities, "source:"+roomSource) || Time(a.At) < Time(r.store.Heard(roomSource))+roomSilence
}

func (r *room) batch() {
	d := Decision{ID: uint64(r.now), Start: r.now}
	var asked []engine.Item
	var items []Item
	var answers []authz.Answer
	for range 2 {
		req, p, it := r.question()
		asked, items = append(asked, engine.Item{Request: req, Principal: p}), append(items, it)
		if r.broken == "one view for a whole batch" {
			answers = append(answers, r.engine.Decide(onlooker, req, p))
			r.now += tick
			r.advance()
		}
	}
	if answers == nil {
		answers = r.engine.DecideBatch(onlooker, asked, nil, nil)
	}
	for i, a := range answers {
		items[i].Outcome, items[i].Until = a.Effect.String(), Time(a.ValidUntil)
		r.asked[items[i].Question] = r.kept(items[i], a)
	}
	r.answered(d, items, answers[0])
}

func (r *room) answered(d Decision, items []Item, a authz.Answer) {
	r.now += tick
	d.End, d.Items = r.now, items
	d.AsOf, _ = strconv.ParseUint(a.AsOf, 10, 64)
	r.checker.Decision(d)
}

// live does some steps and gives what the checker finds.
func (r *room) live() Findings {
	for n := range 150 {
		r.now += Time(1+r.random.IntN(4)) * tick
		switch r.random.IntN(10) {
		case 0, 1:
			if len(r.pending) < 3 {
				r.begin()
			}
		case 2, 3, 4:
			r.advance()
		case 5:
			r.batch()
		case 6: // the other replica, by who has an acknowledgement in hand
			waits := len(r.late)
			if r.broken == "waiting for a demanded position" {
				waits = min(waits, 1)
			}
			for ; waits > 0; waits-- {
				r.late[0]()
				r.late = r.late[1:]
			}
			if r.newest > 0 {
				r.decide(r.behind, r.newest)
			}
		default:
			r.decide(r.engine, 0)
		}
		if r.broken == "reading the log behind a snapshot" && n == 110 {
			r.forget()
		}
		r.snapshot(n)
	}
	for len(r.pending) > 0 {
		r.now += tick
		r.advance()
	}
	return r.checker.Settle()
}

// snapshot keeps a copy of posture in the middle of a life, and starts from one later.
func (r *room) snapshot(step int) {
	if step != 60 && step != 100 {
		return
	}
	var b bytes.Buffer
	if err := r.store.WriteSnapshot(&b, authz.Instant(r.now)); err != nil {
		panic(err)
	}
	copied, err := posture.ReadSnapshot(&b, authz.Instant(r.now))
	if err != nil {
		panic(err)
	}
	copied.PublishAsOf(r.store.AsOf())
	if step == 60 {
		r.earlier = copied
		return
	}
	r.start(copied)
}

// forget starts from the snapshot of before, as if nothing had come since.
func (r *room) forget() {
	r.earlier.PublishAsOf(r.store.AsOf())
	r.start(r.earlier)
}

func (r *room) start(store *posture.Store) {
	r.store = store
	r.engine.Use(r.set, store)
	clear(r.asked) // whatever is computed again now is so for that
}

func roomRules(t *testing.T) *rules.Set {
	t.Helper()
	_, set, problems := rules.Load(fstest.MapFS{
		"bundle.yaml": {Data: []byte("vigil: 1\nfiles: [rules.yaml]\nsources:\n  client:z: {max_silence: 1s}\nprofiles:\n  default: {}\n  watched: {needs: [client:z]}\n")},
		"rules.yaml":  {Data: []byte("vigil: 1\nattributes:\n  subject.agent: {}\n  resource.thing: {}\nactions:\n  look: {}\nrules:\n  - {id: all, effect: allow, when: agent.risk < 70}\n")},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

// Each mechanism is there for a property: without it the checker finds that one broken.
func TestWithoutAMechanismItsPropertyBreaks(t *testing.T) {
	set := roomRules(t)
	for _, m := range mechanisms {
		t.Run(m.name, func(t *testing.T) {
			for seed := range uint64(100) {
				found := newRoom(t, set, m.name, seed).live()
				for _, p := range m.want {
					if found.Broken[p] > 0 {
						t.Logf("in history %d: %v\n%s", seed, found.Broken, found.Stories[p])
						return
					}
				}
			}
			t.Errorf("nothing of %v was found", m.want)
		})
	}
}

// With all of them nothing is found, in as many histories; VIGIL_HISTORIES says more for
// a night.
func TestWithEveryMechanismNothingBreaks(t *testing.T) {
	set := roomRules(t)
	histories := 100
	if n, err := strconv.Atoi(os.Getenv("VIGIL_HISTORIES")); err == nil && n > 0 {
		histories = n
	} else if testing.Short() {
		histories = 50
	}
	var decisions int
	for seed := range uint64(histories) {
		found := newRoom(t, set, "", seed).live()
		for _, story := range found.Stories {
			t.Fatalf("history %d: %s", seed, story)
		}
		if found.Undecided > 0 {
			t.Fatalf("history %d: %d undecided", seed, found.Undecided)
		}
		decisions += found.Decisions
	}
	t.Logf("%d histories, %d decisions", histories, decisions)
}
