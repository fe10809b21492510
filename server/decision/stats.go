package decision

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
)

// The counters are in shards, one of which each pooled state writes, so that requests on
// different processors do not fight over cache lines. All are statistics: no atomic here
// orders anything else.

const (
	numEffects = int(authz.Allow) + 1
	numClasses = int(authz.ClassStale) + 1
	numShards  = 32
	// maxRules bounds the rules that are counted by name, over all reloads.
	maxRules = 20_000
)

// DurationBuckets are the upper bounds of the histogram of durations. One more bucket
// holds what took longer.
var DurationBuckets = [...]time.Duration{
	5 * time.Microsecond, 10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second,
}

// statuses are the HTTP statuses that this port answers.
var statuses = [...]int{200, 400, 401, 403, 404, 405, 408, 413, 415, 421, 431, 500, 503}

// Stats is what the port counted since its start.
type Stats struct {
	// Decisions counts by authz.Effect and authz.Class. An item of a batch counts as one.
	Decisions [numEffects][numClasses]uint64
	// Responses counts by HTTP status, also those that carry no decision.
	Responses map[int]uint64
	// Durations counts requests for decisions by the first of DurationBuckets that they
	// fit in, the last one being for those that fit none; not cumulative. It is the time
	// within the handler: from the whole request read to the answer written to a buffer.
	Durations [len(DurationBuckets) + 1]uint64
	// Duration is the sum of what Durations counts.
	Duration time.Duration
	// RuleErrors counts rules that could not be evaluated, by id; Observed what observing
	// rules would have said.
	RuleErrors map[string]uint64
	Observed   map[authz.Observation]uint64

	Overloaded  uint64 // requests for which there was no place
	Unavailable uint64 // requests that came while there could be no decision; the above included
	Panics      uint64

	InFlight    int // requests at work now
	Waiting     int // of them, those that wait for Vigil-At-Least
	Connections int // open now
}

type shard struct {
	decisions   [numEffects][numClasses]atomic.Uint64
	responses   [len(statuses) + 1]atomic.Uint64
	durations   [len(DurationBuckets) + 1]atomic.Uint64
	duration    atomic.Int64
	overloaded  atomic.Uint64
	unavailable atomic.Uint64
	panics      atomic.Uint64

	rules struct {
		sync.Mutex // almost never contended: a shard has few writers
		errors     map[string]uint64
		observed   map[authz.Observation]uint64
	}
	_ [64]byte // keeps the next shard off the last cache line
}

// decided is on the hot path: one addition, and more only where rules erred or observed.
func (s *shard) decided(d *authz.Decision) {
	s.decisions[d.Effect][d.Class].Add(1)
	if len(d.Errors) > 0 || len(d.Observed) > 0 {
		s.ruled(d)
	}
}

func (s *shard) ruled(d *authz.Decision) {
	s.rules.Lock()
	defer s.rules.Unlock()
	if s.rules.errors == nil {
		s.rules.errors, s.rules.observed = make(map[string]uint64), make(map[authz.Observation]uint64)
	}
	for i := range d.Errors {
		if _, known := s.rules.errors[d.Errors[i].Rule]; known || len(s.rules.errors) < maxRules {
			s.rules.errors[d.Errors[i].Rule]++
		}
	}
	for _, o := range d.Observed {
		if _, known := s.rules.observed[o]; known || len(s.rules.observed) < maxRules {
			s.rules.observed[o]++
		}
	}
}

func (s *shard) responded(status int) {
	for i, known := range statuses {
		if status == known {
			s.responses[i].Add(1)
			return
		}
	}
	s.responses[len(statuses)].Add(1)
}

func (s *shard) took(d time.Duration) {
	i := 0
	for i < len(DurationBuckets) && d > DurationBuckets[i] {
		i++
	}
	s.durations[i].Add(1)
	s.duration.Add(int64(d))
}

// Stats adds up the counters. They are read one by one, while requests go on.
func (s *Server) Stats() Stats {
	out := Stats{
		Responses:   make(map[int]uint64),
		RuleErrors:  make(map[string]uint64),
		Observed:    make(map[authz.Observation]uint64),
		InFlight:    int(s.inFlight.Load()),
		Waiting:     int(s.waiting.Load()),
		Connections: s.conns.count(),
	}
	for i := range s.shards {
		from := &s.shards[i]
		for e := range from.decisions {
			for c := range from.decisions[e] {
				out.Decisions[e][c] += from.decisions[e][c].Load()
			}
		}
		for j := range from.responses {
			status := 0 // any other
			if j < len(statuses) {
				status = statuses[j]
			}
			if n := from.responses[j].Load(); n > 0 {
				out.Responses[status] += n
			}
		}
		for j := range from.durations {
			out.Durations[j] += from.durations[j].Load()
		}
		out.Duration += time.Duration(from.duration.Load())
		out.Overloaded += from.overloaded.Load()
		out.Unavailable += from.unavailable.Load()
		out.Panics += from.panics.Load()
		from.rules.Lock()
		add(out.RuleErrors, from.rules.errors)
		add(out.Observed, from.rules.observed)
		from.rules.Unlock()
	}
	return out
}

func add[K comparable](to, from map[K]uint64) {
	for k, n := range maps.All(from) {
		to[k] += n
	}
}
