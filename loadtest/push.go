package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
)

// signalBody is a signal as POST /v1/signals takes it.
type signalBody struct {
	V        int               `json:"v"`
	ID       string            `json:"id"`
	Type     string            `json:"type"`
	Entities []string          `json:"entities"`
	Time     string            `json:"time"`
	Class    string            `json:"class,omitzero"`
	Labels   map[string]string `json:"labels,omitzero"`
	Scopes   []string          `json:"scopes,omitzero"`
	Risk     *int              `json:"risk,omitzero"`
}

// newRun gives a prefix for the ids of signals that no other run has.
func newRun() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	return "load-" + hex.EncodeToString(b[:])
}

func wireTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// registrationBatch is how many signals are pushed at once before the load; well below
// what a body may have.
const registrationBatch = 400

// register makes agents known to the engine, with their risk.
func (s *site) register(ctx context.Context, run string, agents []Agent) error {
	now := wireTime(time.Now())
	var batch []signalBody
	flush := func() error {
		body, err := json.Marshal(batch, json.Deterministic(true))
		if err != nil {
			return err
		}
		if _, err := s.ask(ctx, http.MethodPost, signalsPath, body); err != nil {
			return fmt.Errorf("registering agents: %w", err)
		}
		batch = batch[:0]
		return nil
	}
	for i := range agents {
		a := &agents[i]
		ref := []string{"agent:" + a.ID}
		batch = append(batch, signalBody{V: 1, ID: fmt.Sprintf("%s-reg-%s", run, a.ID), Type: "register", Entities: ref, Time: now, Class: a.Class, Labels: a.Labels, Scopes: a.Scopes})
		if a.Risk > 0 {
			batch = append(batch, signalBody{V: 1, ID: fmt.Sprintf("%s-risk-%s", run, a.ID), Type: "risk", Entities: ref, Time: now, Risk: &a.Risk})
		}
		if len(batch) >= registrationBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return flush()
}
