package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vigil/authz"
)

// Workload is everything that a load needs to know: the rules that an engine decides by,
// the agents that it knows, and requests with the decisions expected.
type Workload struct {
	V    int    `json:"v"` // 1
	Name string `json:"name"`
	// Bundle is the files of the rules by name, for an engine that is started; one that
	// runs already has its own.
	Bundle map[string]string `json:"bundle"`
	Agents []Agent           `json:"agents"`
	// Requests are in the order of their popularity.
	Requests []Request `json:"requests"`
	// Zipf is the exponent of their popularity, above 1 and at most 10: request k is asked
	// for in proportion to 1/k^Zipf. 0: all alike.
	Zipf float64 `json:"zipf"`
	Race Race    `json:"race"`
}

// Agent is one that is registered before the load.
type Agent struct {
	ID     string            `json:"id"`
	Class  string            `json:"class"`
	Labels map[string]string `json:"labels,omitzero"`
	Scopes []string          `json:"scopes,omitzero"`
	Risk   int               `json:"risk,omitzero"` // 0 to 100
}

// Request is one body for POST /access/v1/evaluation and what it has to be answered.
type Request struct {
	Body   jsontext.Value `json:"body"`
	Expect string         `json:"expect"` // allow, deny or require
}

// Race is what the race of decisions with revocations asks. Its agents are its own.
type Race struct {
	Agent Agent `json:"agent"` // how they are registered; the id is a prefix
	// Body is a request that is allowed unless the agent or the session is held or revoked.
	// $AGENT and $SESSION stand for their ids.
	Body string `json:"body"`
}

// Bounds of a workload.
const (
	maxWorkload     = 1 << 30
	maxAgents       = 1_000_000
	maxRequests     = 1_000_000
	maxRequestBody  = 64 << 10
	maxBundle       = 256 // files
	agentMark       = "$AGENT"
	sessionMark     = "$SESSION"
	evaluationPath  = "/access/v1/evaluation"
	signalsPath     = "/v1/signals"
	workloadVersion = 1
)

// readWorkload reads a workload from a file.
func readWorkload(name string) (*Workload, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, usageError{err}
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxWorkload+1))
	if err != nil {
		return nil, err
	}
	w, err := decodeWorkload(data)
	if err != nil {
		return nil, badUsage("%s: %w", name, err)
	}
	return w, nil
}

// decodeWorkload is strict: unknown and repeated members, wrong types and values out of
// range are errors that name the place.
func decodeWorkload(data []byte) (*Workload, error) {
	if len(data) > maxWorkload {
		return nil, fmt.Errorf("it has more than %d bytes", maxWorkload)
	}
	w := &Workload{}
	if err := json.Unmarshal(data, w, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	return w, w.check()
}

func (w *Workload) check() error {
	switch {
	case w.V != workloadVersion:
		return fmt.Errorf("/v: version %d; this program reads version %d", w.V, workloadVersion)
	case len(w.Agents) > maxAgents:
		return fmt.Errorf("/agents: %d of them, at most %d", len(w.Agents), maxAgents)
	case len(w.Requests) == 0 || len(w.Requests) > maxRequests:
		return fmt.Errorf("/requests: %d of them, want 1 to %d", len(w.Requests), maxRequests)
	case w.Zipf != 0 && !(w.Zipf > 1 && w.Zipf <= 10):
		return fmt.Errorf("/zipf: %v; want 0, or above 1 and at most 10", w.Zipf)
	case len(w.Bundle) > maxBundle:
		return fmt.Errorf("/bundle: %d files, at most %d", len(w.Bundle), maxBundle)
	}
	for name := range w.Bundle {
		if name != filepath.Base(name) || !strings.HasSuffix(name, ".yaml") || strings.HasPrefix(name, ".") || strings.ContainsAny(name, `\/:`+"\x00") {
			return fmt.Errorf("/bundle: %q is no name of a YAML file", name)
		}
	}
	ids := make(map[string]bool, len(w.Agents))
	for i := range w.Agents {
		a := &w.Agents[i]
		if err := a.check(); err != nil {
			return fmt.Errorf("/agents/%d: %w", i, err)
		}
		if ids[a.ID] {
			return fmt.Errorf("/agents/%d: %q is there twice", i, a.ID)
		}
		ids[a.ID] = true
	}
	for i := range w.Requests {
		r := &w.Requests[i]
		if r.Body.Kind() != '{' || len(r.Body) > maxRequestBody {
			return fmt.Errorf("/requests/%d/body: want an object of at most %d bytes", i, maxRequestBody)
		}
		if r.Expect != allow && r.Expect != deny && r.Expect != require {
			return fmt.Errorf("/requests/%d/expect: want allow, deny or require, not %q", i, r.Expect)
		}
	}
	if err := w.Race.Agent.check(); err != nil {
		return fmt.Errorf("/race/agent: %w", err)
	}
	if !strings.Contains(w.Race.Body, agentMark) || !strings.Contains(w.Race.Body, sessionMark) || len(w.Race.Body) > maxRequestBody {
		return fmt.Errorf("/race/body: it does not name %s and %s, or has more than %d bytes", agentMark, sessionMark, maxRequestBody)
	}
	if !jsontext.Value(w.Race.body("a", "s")).IsValid() {
		return errors.New("/race/body: it is no JSON")
	}
	return nil
}

func (a *Agent) check() error {
	if err := authz.CheckID(a.ID); err != nil {
		return fmt.Errorf("id: %w", err)
	}
	if a.Class == "" {
		return errors.New("class: it is empty")
	}
	if a.Risk < 0 || a.Risk > 100 {
		return fmt.Errorf("risk: want 0 to 100, not %d", a.Risk)
	}
	return nil
}

func (r *Race) body(agent, session string) []byte {
	return []byte(strings.NewReplacer(agentMark, agent, sessionMark, session).Replace(r.Body))
}

// write writes the workload to a file, or to out where name is "-".
func (w *Workload) write(name string, out io.Writer) error {
	var data bytes.Buffer
	if err := json.MarshalWrite(&data, w, json.Deterministic(true), jsontext.Multiline(true), jsontext.WithIndent(" ")); err != nil {
		return err
	}
	data.WriteByte('\n')
	if name == "-" {
		_, err := out.Write(data.Bytes())
		return err
	}
	return os.WriteFile(name, data.Bytes(), 0o644)
}

// picker gives the index of the next request. The generator of random numbers is the
// caller's; a picker is for one goroutine.
func (w *Workload) picker(random *rand.Rand) func() int {
	if w.Zipf == 0 {
		return func() int { return random.IntN(len(w.Requests)) }
	}
	zipf := rand.NewZipf(random, w.Zipf, 1, uint64(len(w.Requests)-1))
	return func() int { return int(zipf.Uint64()) }
}
