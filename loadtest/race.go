package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vigil/loadtest/history"
)

// racer is one contestant of a race: it asks for decisions or pushes signals, over HTTP or
// in process. It is for one goroutine.
type racer interface {
	// decide asks whether an agent may act in a session. It gives the effect and the
	// position that the answer names, 0 for none.
	decide(agent, session string) (effect string, position uint64, err error)
	// signal pushes one signal and gives the position that its acknowledgement names. After
	// an error it may or may not be in force.
	signal(s *history.Signal) (position uint64, err error)
	close()
}

// race lets readers decide about a few agents while pushers quarantine, release and revoke,
// and gives all that was seen to a history checker. It goes in rounds, between which
// nothing is under way, so that one of any length needs little memory.
type race struct {
	agents, readers, pushers int
	decisions                int64         // to be raced
	duration                 time.Duration // bound in time
	gap                      func(n int)   // lets decisions happen between two signals, n of them or a little while
	think                    time.Duration // between two decisions of one reader; 0 for none
	prefix, source           string
	seed                     uint64
	replicas                 int                     // 1 or more; signals are pushed to the first, 0
	racer                    func(replica int) racer // that asks one of them
	undemanded               bool                    // no position is demanded of the others
	silences                 bool                    // every other agent needs raceSource
	begin                    time.Time               // of all times; when it runs, where not set

	raced, stale, broken atomic.Int64 // for progress
}

// roundDecisions is how many decisions a round has, about.
const roundDecisions = 20_000

// raceResult is what became of a race.
type raceResult struct {
	found               history.Findings // but for replicas of which nothing is demanded:
	elsewhere           history.Findings // what they say is as late as it is
	asked, behind       int64            // decisions of replicas but the first, and those that were "stale"
	needing, let        int64            // decisions of agents that need a source, and those that were allowed
	failed, refused     int64            // decisions and signals without an answer
	sentToDeny          histogram
	acknowledgedToDeny  histogram
	acknowledged        histogram // sent to acknowledged
	took                time.Duration
	quarantines, denied int // quarantines that some decision of the same round could show
	example             string
}

// raceAgent is one agent that is raced about. Each has one pusher.
type raceAgent struct {
	id      string
	session atomic.Int64 // the number of the one in use; all before it are revoked
	held    bool         // owned by its pusher
}

func (a *raceAgent) sessionID(n int64) string { return fmt.Sprintf("%s-s%d", a.id, n) }

// asked is a decision with what the measurement of delays needs.
type asked struct {
	history.Decision
	agent   int
	current bool
	effect  string
}

// raceRound is what one round has seen: each slice is one goroutine's, until all have ended.
type raceRound struct {
	stop    atomic.Bool
	count   atomic.Int64
	hot     atomic.Int64 // the agent that was signalled last
	asked   [][]asked
	signals [][]history.Signal
}

// run races until all decisions are raced, the time is over or ctx ends.
func (r *race) run(ctx context.Context) *raceResult {
	begin := r.begin
	if begin.IsZero() {
		begin = time.Now()
	}
	clock := func() history.Time { return history.Time(time.Since(begin)) } // monotonic
	result := &raceResult{}
	checkers := make([]*history.Checker, r.replicas)
	for i := range checkers {
		checkers[i] = history.New(history.AllowUnlessHeld)
		checkers[i].Require(raceSourceRef, history.Time(raceSilence))
	}
	pushers := r.pushers
	if r.silences {
		pushers++ // the last one is about the source
	}
	agents := make([]*raceAgent, r.agents)
	for i := range agents {
		agents[i] = &raceAgent{id: fmt.Sprintf("%s-%d", r.prefix, i)}
	}
	racers := make([]racer, r.readers+pushers)
	for i := range racers {
		racers[i] = r.racer(r.replicaOf(i))
		defer racers[i].close()
	}
	var failed, refused atomic.Int64
	var example atomic.Pointer[string]
	note := func(err error) {
		text := err.Error()
		example.CompareAndSwap(nil, &text)
	}
	var serial atomic.Uint64
	for n := uint64(0); r.raced.Load() < r.decisions && time.Since(begin) < r.duration && ctx.Err() == nil; n++ {
		round := &raceRound{asked: make([][]asked, r.readers), signals: make([][]history.Signal, pushers)}
		// Raced to the last one, and no round so long that little is known in between.
		quota := min(roundDecisions, r.decisions-r.raced.Load())
		deadline := min(time.Since(begin)+5*time.Second, r.duration)
		over := func() bool {
			return round.stop.Load() || ctx.Err() != nil || time.Since(begin) > deadline
		}
		push := func(p int, s *history.Signal) (acknowledged bool) {
			s.Begun = clock()
			position, err := racers[r.readers+p].signal(s)
			if err == nil {
				s.Acknowledged, s.Position = clock(), position
			} else if ctx.Err() == nil {
				refused.Add(1)
				note(err)
			}
			round.signals[p] = append(round.signals[p], *s)
			return err == nil
		}
		// Readers begin when pushers have, or on one processor a short race might be over
		// before the first signal.
		var started, pushing, reading sync.WaitGroup
		started.Add(pushers)
		for p := range r.pushers {
			random := rand.New(rand.NewPCG(r.seed+n, uint64(p)))
			pushing.Go(func() {
				started.Done()
				for !over() {
					i := p + r.pushers*random.IntN((r.agents-p+r.pushers-1)/r.pushers)
					s := r.next(agents[i], random, n, len(round.signals[p]), p)
					round.hot.Store(int64(i))
					if push(p, &s) {
						agents[i].took(&s)
					}
					r.gap(random.IntN(30))
				}
			})
		}
		if r.silences {
			random := rand.New(rand.NewPCG(r.seed+n, 500))
			pushing.Go(func() {
				started.Done()
				var before *history.Signal
				for !over() {
					s := r.nextOfSource(before, random, n, len(round.signals[r.pushers]), clock())
					push(r.pushers, &s)
					before = &s
					r.gap(random.IntN(200))
				}
			})
		}
		for k := range r.readers {
			random := rand.New(rand.NewPCG(r.seed+n, uint64(1000+k)))
			reading.Go(func() {
				started.Wait()
				for !over() {
					i := int(round.hot.Load())
					if random.IntN(4) == 0 {
						i = random.IntN(r.agents)
					}
					d := asked{agent: i}
					d.Start = clock()
					session := agents[i].session.Load()
					d.current = session == 0 || random.IntN(4) != 0
					if !d.current {
						session = random.Int64N(session) // revoked: it must never come back
					}
					id := agents[i].sessionID(session)
					effect, position, err := racers[k].decide(agents[i].id, id)
					d.End = clock()
					if err != nil {
						if ctx.Err() == nil {
							failed.Add(1)
							note(err)
						}
						time.Sleep(time.Millisecond) // whoever is refused at once must not spin
						continue
					}
					d.ID, d.AsOf, d.effect = serial.Add(1), position, effect
					d.Items = []history.Item{{Question: id, Entities: []string{"agent:" + agents[i].id, "session:" + id}, Outcome: effect}}
					if r.needs(i) {
						d.Items[0].Entities = append(d.Items[0].Entities, raceSourceRef)
					}
					round.asked[k] = append(round.asked[k], d)
					r.raced.Add(1)
					if round.count.Add(1) >= quota {
						round.stop.Store(true)
					}
					if r.think > 0 {
						time.Sleep(r.think)
					}
				}
			})
		}
		pushing.Wait()
		reading.Wait()
		r.settle(round, checkers, result)
	}
	result.failed, result.refused = failed.Load(), refused.Load()
	if e := example.Load(); e != nil {
		result.example = *e
	}
	result.took = time.Since(begin)
	return result
}

// replicaOf says which replica a racer asks: readers take turns, pushers go to the first.
func (r *race) replicaOf(racer int) int {
	if racer >= r.readers {
		return 0
	}
	return racer % r.replicas
}

// next makes the next signal about an agent: mostly a quarantine or a release, in turn, and
// now and then the revocation of the session in use.
func (r *race) next(a *raceAgent, random *rand.Rand, round uint64, n, pusher int) history.Signal {
	s := history.Signal{
		ID: fmt.Sprintf("%s-%d-%d-%d", r.prefix, round, pusher, n), Source: r.source, Entities: []string{"agent:" + a.id},
		Facet: history.Hold, Held: !a.held, At: time.Now().UnixNano(),
	}
	if random.IntN(8) == 0 {
		s.Facet, s.Held = history.Revoke, false
		s.Entities = []string{"session:" + a.sessionID(a.session.Load())}
	}
	return s
}

// took notes that a signal was acknowledged. The same signal is not repeated after a
// failure: another quarantine or revocation of the same follows, which says as much.
func (a *raceAgent) took(s *history.Signal) {
	if s.Facet == history.Revoke {
		a.session.Add(1)
		return
	}
	a.held = s.Held
}

// settle judges a round. Each replica has a checker of its own: what one is seen to know
// says nothing of another, unless it was demanded.
func (r *race) settle(round *raceRound, checkers []*history.Checker, result *raceResult) {
	byAgent := make([][]*asked, r.agents)
	for k, all := range round.asked {
		replica := r.replicaOf(k)
		for i := range all {
			d := &all[i]
			checkers[replica].Decision(d.Decision)
			if r.needs(d.agent) {
				result.needing++
				if d.effect == allow {
					result.let++
				}
			}
			if replica > 0 {
				result.asked++
				if d.effect == history.Stale {
					result.behind++
				}
			} else if d.current && !r.needs(d.agent) { // whose denials may be for a silence
				byAgent[d.agent] = append(byAgent[d.agent], d)
			}
		}
	}
	for _, all := range byAgent {
		slices.SortFunc(all, func(a, b *asked) int { return cmp.Compare(a.Start, b.Start) })
	}
	for _, signals := range round.signals {
		for i := range signals {
			s := &signals[i]
			for _, c := range checkers {
				c.Signal(*s)
			}
			if s.Acknowledged == 0 {
				continue
			}
			result.acknowledged.record(time.Duration(s.Acknowledged - s.Begun))
			var agent int
			if _, err := fmt.Sscanf(s.Entities[0], "agent:"+r.prefix+"-%d", &agent); err == nil && s.Held && !r.needs(agent) {
				result.delays(s, byAgent[agent])
			}
		}
	}
	result.found, result.elsewhere = checkers[0].Settle(), history.Findings{}
	for _, c := range checkers[1:] {
		if found := c.Settle(); r.undemanded {
			result.elsewhere = addFindings(result.elsewhere, found)
		} else {
			result.found = addFindings(result.found, found)
		}
	}
	r.stale.Store(int64(result.found.StaleAllow))
	broken := 0
	for _, n := range result.found.Broken {
		broken += n
	}
	r.broken.Store(int64(broken))
}

// addFindings adds what was found of another replica in the same race, so that its signals
// are the same ones.
func addFindings(a, b history.Findings) history.Findings {
	sum := history.Findings{
		Decisions: a.Decisions + b.Decisions, Signals: b.Signals, Undecided: a.Undecided + b.Undecided, StaleAllow: a.StaleAllow + b.StaleAllow,
		Broken: map[history.Property]int{}, Stories: maps.Clone(b.Stories),
	}
	for _, f := range []history.Findings{a, b} {
		for p, n := range f.Broken {
			sum.Broken[p] += n
		}
	}
	maps.Copy(sum.Stories, a.Stories)
	return sum
}

// delays measures from when a quarantine was sent, and from when it was acknowledged, until
// somebody had the first deny. A decision that was asked for before counts, for the first
// of the two, if it was answered later.
func (result *raceResult) delays(s *history.Signal, about []*asked) {
	result.quarantines++
	first, after := history.Never, history.Never
	i, _ := slices.BinarySearchFunc(about, s.Begun, func(d *asked, at history.Time) int { return cmp.Compare(d.Start, at) })
	for _, d := range about[i:] {
		if d.Start > min(first, after) && after != history.Never || d.Start > s.Acknowledged+history.Time(time.Second) {
			break
		}
		if d.effect == deny {
			first = min(first, d.End)
			if d.Start >= s.Acknowledged {
				after = min(after, d.End)
			}
		}
	}
	if first != history.Never {
		result.denied++
		result.sentToDeny.record(time.Duration(first - s.Begun))
	}
	if after != history.Never {
		result.acknowledgedToDeny.record(time.Duration(after - s.Acknowledged))
	}
}
