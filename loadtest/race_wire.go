package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"vigil/loadtest/history"
)

// wireRacer races over HTTP.
type wireRacer struct {
	site              *site
	race              *Race
	decision, control conn
	positions         positions
}

func newWireRacer(s *site, w *Workload, timeout time.Duration) *wireRacer {
	return &wireRacer{site: s, race: &w.Race, decision: conn{to: s.decision, timeout: timeout}, control: conn{to: s.control, timeout: timeout}}
}

func (r *wireRacer) close() {
	r.decision.close()
	r.control.close()
}

func (r *wireRacer) decide(agent, session string) (string, uint64, error) {
	status, body, err := r.decision.do(r.site.decision.request(http.MethodPost, evaluationPath, "", r.race.body(agent, session)))
	if err != nil {
		return "", 0, err
	}
	effect := effectOf(body)
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
	return r.positions.of(answer), nil
}

// raceAgents gives the agents of a race as they are registered.
func (w *Workload) raceAgents(prefix string, n int) []Agent {
	agents := make([]Agent, n)
	for i := range agents {
		agents[i] = w.Race.Agent
		agents[i].ID = fmt.Sprintf("%s-%d", prefix, i)
	}
	return agents
}
