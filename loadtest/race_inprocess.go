package main

import (
	"fmt"
	"strconv"
	"sync"
	"testing/fstest"
	"time"

	"vigil/authz"
	"vigil/engine"
	"vigil/posture"
	"vigil/rules"
)

// house is an engine in this process, with its posture: what is left of Vigil without
// the wire and the log. Its mode may be engine.CacheUnchecked, which no configuration
// names: the same race then finds the anomaly that checking prevents.
type house struct {
	engine *engine.Engine
	store  *posture.Store
	begin  time.Time

	// applying guards applied, and keeps positions in the order of the changes.
	applying sync.Mutex
	applied  uint64
}

func newHouse(w *Workload, mode engine.CacheMode, entries int, agents []Agent, begin time.Time) (*house, error) {
	files := fstest.MapFS{}
	for name, text := range w.Bundle {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	_, set, problems := rules.Load(files)
	if len(problems) > 0 {
		return nil, fmt.Errorf("the workload's bundle: %w", problems)
	}
	h := &house{store: posture.NewStore(), begin: begin}
	var err error
	if h.engine, err = engine.New(engine.Config{Cache: mode, CacheEntries: entries, Now: h.now}); err != nil {
		return nil, err
	}
	h.engine.Use(set, h.store)
	for i := range agents {
		a := &agents[i]
		h.apply(change{ref: "agent:" + a.ID, fact: posture.Fact{
			Facet: posture.Registration, Source: "client:race", ID: "reg-" + a.ID, Time: h.now(), Until: authz.Forever,
			Registration: &posture.Registered{Class: a.Class, Labels: a.Labels, Scopes: a.Scopes},
		}})
	}
	return h, nil
}

// now never goes back: it adds monotonic time to the wall clock of the beginning.
func (h *house) now() authz.Instant { return authz.InstantOf(h.begin).Add(time.Since(h.begin)) }

// apply brings one change into force and publishes its position, as the applier of signals
// does.
func (h *house) apply(c change) uint64 {
	h.applying.Lock()
	defer h.applying.Unlock()
	if c.heard != 0 {
		h.store.Hear(raceSource, c.heard, h.now())
	} else {
		ref, err := authz.ParseRef(c.ref)
		if err != nil {
			panic(err) // the race makes its own names
		}
		h.store.Apply(h.now(), []posture.Change{{Key: ref.In(authz.DefaultTenant), Facts: []posture.Fact{c.fact}}})
	}
	h.applied++
	h.store.PublishAsOf(strconv.FormatUint(h.applied, 10))
	return h.applied
}

// position is that of the last fact in force.
func (h *house) position() uint64 {
	h.applying.Lock()
	defer h.applying.Unlock()
	return h.applied
}

var raceCaller = &authz.Caller{Name: "race", Tenants: []string{authz.DefaultTenant}}

// decide asks what the workloads that this program generates race with.
func (h *house) decide(agent, session string) (string, uint64, error) {
	request := authz.Request{
		Subject: authz.Party{Type: "agent", ID: agent}, Action: authz.Action{Name: "read"}, Resource: authz.Party{Type: "document", ID: "d-1"},
	}
	answer := h.engine.Decide(raceCaller, &request, &authz.Principal{Tenant: authz.DefaultTenant, Agent: agent, Session: session})
	position, err := strconv.ParseUint(answer.AsOf, 10, 64)
	return answer.Effect.String(), position, err
}
