package main

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"vigil/authz"
	"vigil/engine"
	"vigil/loadtest/history"
	"vigil/posture"
)

// crowd is replicas in this process: houses on one log. What is signalled is in force in the
// first at once, and in the others as soon as they come to it.
//
// Goroutines: newCrowd starts one for each house but the first, which end has end.
type crowd struct {
	begin   time.Time // of all houses' clocks
	houses  []*house
	demands bool // what the first has acknowledged is demanded of the others
	behind  sync.WaitGroup

	appending    sync.Mutex // keeps the order of log in every house
	log          []chan change
	acknowledged atomic.Uint64 // the position of the first house
}

// change is a fact about an entity, or that the source was heard.
type change struct {
	ref   string
	fact  posture.Fact
	heard authz.Instant // 0 for a fact
}

// maxBehind is how far a house may be behind the first, in signals, before the first waits.
const maxBehind = 1024

func newCrowd(w *Workload, mode engine.CacheMode, agents []Agent, replicas int, demands bool) (*crowd, error) {
	c := &crowd{begin: time.Now(), demands: demands}
	for i := range replicas {
		h, err := newHouse(w, mode, 1024, agents, c.begin)
		if err != nil {
			c.end()
			return nil, err
		}
		c.houses = append(c.houses, h)
		c.acknowledged.Store(h.applied)
		if i == 0 {
			continue
		}
		log := make(chan change, maxBehind)
		c.log = append(c.log, log)
		c.behind.Go(func() {
			for entry := range log {
				for range 200 { // others run meanwhile: nobody is told at once
					runtime.Gosched()
				}
				h.apply(entry)
			}
		})
	}
	return c, nil
}

func (c *crowd) end() {
	for _, log := range c.log {
		close(log)
	}
	c.behind.Wait()
	for _, h := range c.houses {
		h.engine.Close()
	}
}

func (c *crowd) racer(replica int) racer { return &crowdRacer{c, c.houses[replica], replica} }

// crowdRacer asks one house and pushes to the first.
type crowdRacer struct {
	*crowd
	house   *house
	replica int
}

func (r *crowdRacer) decide(agent, session string) (string, uint64, error) {
	if r.replica > 0 && r.demands {
		for at := r.acknowledged.Load(); r.house.position() < at; {
			runtime.Gosched()
		}
	}
	return r.house.decide(agent, session)
}

func (r *crowdRacer) signal(s *history.Signal) (uint64, error) {
	if len(s.Entities) != 1 {
		return 0, fmt.Errorf("a signal about %d entities", len(s.Entities))
	}
	entry := r.changeOf(s)
	r.appending.Lock()
	defer r.appending.Unlock()
	position := r.houses[0].apply(entry)
	for _, log := range r.log {
		log <- entry
	}
	r.acknowledged.Store(position)
	return position, nil
}

func (r *crowdRacer) close() {}
