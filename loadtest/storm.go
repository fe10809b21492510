package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
)

// storm is signals that are pushed beside a load. Each says something new of an agent of
// the workload's, so that its cached decisions have to be computed again, and nothing
// that changes an answer: expected decisions stay what they are.
type storm struct {
	rate        float64 // signals per second, all batches together
	batch       int
	connections int
}

// stormRisk gives a risk on the same side of what the rules look at: 70 and 90.
func stormRisk(random *rand.Rand, risk int) int {
	switch {
	case risk >= 90:
		return 90 + random.IntN(11)
	case risk >= 70:
		return 70 + random.IntN(20)
	}
	return random.IntN(70)
}

// load makes the load of the storm. Latencies are those of a push, from when it was due
// until it was acknowledged.
func (st storm) load(s *site, w *Workload, run string, duration, timeout time.Duration, seed uint64) *load {
	return &load{
		to: s.control, connections: st.connections, rate: st.rate / float64(st.batch), duration: duration,
		timeout: timeout, slow: 0, seed: seed ^ 0x5707,
		next: func(random *rand.Rand, _ int, i int64) ([]byte, int) {
			batch := make([]signalBody, st.batch)
			now := wireTime(time.Now())
			for n := range batch {
				agent := &w.Agents[random.IntN(len(w.Agents))]
				risk := stormRisk(random, agent.Risk)
				batch[n] = signalBody{V: 1, ID: fmt.Sprintf("%s-storm-%d-%d", run, i, n), Type: "risk", Entities: []string{"agent:" + agent.ID}, Time: now, Risk: &risk}
			}
			body, err := json.Marshal(batch)
			if err != nil {
				panic(err) // signalBody has nothing that cannot be marshalled
			}
			return s.control.request(http.MethodPost, signalsPath, s.token, body), 0
		},
		check: func(_, _, status int, body []byte) string {
			if status != http.StatusOK {
				return fmt.Sprintf("status %d: %.200s", status, body)
			}
			return ""
		},
	}
}
