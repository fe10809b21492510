package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/loadtest/history"
	"vigil/signals"
)

// wireRacer races over HTTP. It asks one replica, pushes to the site, and demands of the
// replica what the site has acknowledged to any racer.
type wireRacer struct {
	site              *site
	race              *Race
	decision, control conn
	positions         positions
	newest            *newest // shared by all racers
	demands           bool
}

func newWireRacer(s *site, to target, w *Workload, timeout time.Duration) *wireRacer {
	return &wireRacer{site: s, race: &w.Race, decision: conn{to: to, timeout: timeout}, control: conn{to: s.control, timeout: timeout}}
}

// newest is the newest position that one replica has named, as an as-of token. It is safe
// for concurrent use.
type newest struct {
	token atomic.Pointer[string]
	mu    sync.Mutex // guards sum
	sum   int64      // of its offsets: a replica's view only grows, so of two of its positions the newer one has the larger
}

// learn notes the position that an answer names. When it returns, whoever loads the token
// gets this position or a newer one.
func (n *newest) learn(body []byte) {
	token := string(member(body, asOfMember))
	_, at, err := signals.ParseAsOf(token)
	if err != nil {
		return
	}
	sum := int64(0)
	for _, offset := range at {
		sum += offset
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.token.Load() == nil || sum > n.sum {
		n.sum = sum
		n.token.Store(&token)
	}
}

// demand gives the header that demands the newest position, "" where none is known.
func (n *newest) demand() string {
	if token := n.token.Load(); token != nil {
		return "Vigil-At-Least: " + *token
	}
	return ""
}

func (r *wireRacer) close() {
	r.decision.close()
	r.control.close()
}

func (r *wireRacer) decide(agent, session string) (string, uint64, error) {
	header := ""
	if r.demands {
		header = r.newest.demand()
	}
	status, body, err := r.decision.do(r.decision.to.requestWith(http.MethodPost, evaluationPath, "", header, r.race.body(agent, session)))
	if err != nil {
		return "", 0, err
	}
	effect := effectOf(body)
	if r.demands && effect == deny && bytes.Contains(body, codeStale) {
		effect = history.Stale
	}
	if status != http.StatusOK || effect == "" {
		return "", 0, fmt.Errorf("decision: status %d: %.200s", status, body)
	}
	return effect, r.positions.of(body), nil
}

func (r *wireRacer) signal(s *history.Signal) (uint64, error) {
	kind := "release"
	switch {
	case s.Facet == history.Revoke:
		kind = "revoke"
	case s.Held:
		kind = "quarantine"
	}
	body, err := json.Marshal(signalBody{V: 1, ID: s.ID, Type: kind, Entities: s.Entities, Time: wireTime(time.Unix(0, s.At))})
	if err != nil {
		return 0, err
	}
	status, answer, err := r.control.do(r.site.control.request(http.MethodPost, signalsPath, r.site.token, body))
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK || !strings.Contains(string(answer), `"outcome":"applied"`) {
		return 0, fmt.Errorf("signal: status %d: %.300s", status, answer)
	}
	if r.newest != nil {
		r.newest.learn(answer)
	}
	return r.positions.of(answer), nil
}

// codeStale is how a replica says that it is not as new as was demanded.
var codeStale = []byte(`"code":"stale"`)

// raceAgents gives the agents of a race as they are registered.
func (w *Workload) raceAgents(prefix string, n int) []Agent {
	agents := make([]Agent, n)
	for i := range agents {
		agents[i] = w.Race.Agent
		agents[i].ID = fmt.Sprintf("%s-%d", prefix, i)
	}
	return agents
}
