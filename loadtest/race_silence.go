package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"vigil/authz"
	"vigil/loadtest/history"
	"vigil/posture"
)

// Every other agent of a race in process needs a source, which speaks and falls silent. The
// wire has no part in it: there whoever pushes the signals is heard by that.
const (
	raceSource    = "client:watch"
	raceSourceRef = "source:" + raceSource
	raceSilence   = time.Second // the shortest that rules can say
	raceClass     = "watched"

	raceManifest = `vigil: 1
files: [rules.yaml]
sources:
  client:watch: {max_silence: 1s}
profiles:
  default: {max_feed_age: 30s, on_stale: deny}
  watched: {max_feed_age: 30s, on_stale: deny, needs: [client:watch]}
`
)

// needs reports whether the i-th agent needs the source.
func (r *race) needs(i int) bool { return r.silences && i%2 == 1 }

// nextOfSource makes the next signal about the source: mostly a heartbeat, and now and then
// an exception, or the lift of one that is in force. A race is over before a second is, so
// the log is made to have taken a heartbeat long ago, and it lapses soon. before is what it
// gave last, or nil.
func (r *race) nextOfSource(before *history.Signal, random *rand.Rand, round uint64, n int, now history.Time) history.Signal {
	soon := history.Time(random.IntN(3000)) * history.Time(time.Microsecond)
	s := history.Signal{
		ID: fmt.Sprintf("%s-%d-source-%d", r.prefix, round, n), Source: raceSource, Entities: []string{raceSourceRef}, At: time.Now().UnixNano(),
		Facet: history.Heartbeat, Heard: now + soon - history.Time(raceSilence),
	}
	switch {
	case before != nil && before.Facet == history.Waive && random.IntN(2) == 0:
		s.Facet, s.Heard, s.Source, s.Lifts, s.Until = history.Lift, 0, r.source, before.ID, before.Until
	case random.IntN(6) == 0:
		s.Facet, s.Heard, s.Source, s.Until = history.Waive, 0, r.source, now+2*soon
	}
	return s
}

// watched makes every other agent one that needs the source, and has the rules say what that
// means.
func (w *Workload) watched(agents []Agent) []Agent {
	w.Bundle["bundle.yaml"] = raceManifest
	agents = slices.Clone(agents)
	for i := range agents {
		if i%2 == 1 {
			agents[i].Class = raceClass
		}
	}
	return agents
}

// changeOf is what a signal of a race means to a house that began when the race did.
func (c *crowd) changeOf(s *history.Signal) change {
	at := func(t history.Time) authz.Instant { return authz.InstantOf(c.begin).Add(time.Duration(t)) }
	f := posture.Fact{Facet: posture.Hold, Source: s.Source, ID: s.ID, Time: authz.Instant(s.At), Until: authz.Forever, Held: s.Held}
	switch s.Facet {
	case history.Revoke:
		f.Facet, f.Held = posture.Revoke, false
	case history.Heartbeat:
		return change{heard: at(s.Heard)}
	case history.Waive:
		f.Facet, f.Until = posture.Waive, at(s.Until)
	case history.Lift:
		f.Facet, f.Lifts = posture.Lift, &posture.Target{Facet: posture.Waive, Source: s.Source, ID: s.Lifts}
	}
	return change{ref: s.Entities[0], fact: f}
}
