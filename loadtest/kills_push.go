package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// act is one signal on its way into the ledger: of a line, or a revocation of sessions.
type act struct {
	signal   signalBody
	line     lineKey // agent is "" for a revocation
	serial   int     // in the line
	sessions []string
	found    bool // a revocation that had no answer, and is in force
}

// killPusher pushes signals until the engine is killed under it. It is for one goroutine
// at a time.
type killPusher struct {
	name    string
	ledger  *ledger
	random  *rand.Rand
	agents  []string // about which it alone speaks
	serials map[lineKey]int
	count   int       // signals made
	at      time.Time // of the last one; each is later than the one before
	unsure  []act     // the last push, where no answer came
	newest  string    // the newest as_of that was acknowledged

	pushes, acknowledged, unknown, kept, repeated int64
}

// pushResult is what is read of an answer to POST /v1/signals.
type pushResult struct {
	Results []struct {
		ID      string `json:"id"`
		Outcome string `json:"outcome"`
	} `json:"results"`
	AsOf string `json:"as_of"`
}

// until pushes until over reports true. It returns an error for what is not explained by
// the engine's end.
func (p *killPusher) until(s *site, timeout time.Duration, over func() bool) error {
	c := conn{to: s.control, timeout: timeout}
	defer c.close()
	for !over() {
		batch, again := p.unsure, p.unsure != nil
		if !again {
			batch = p.batch()
		}
		result, err := p.push(s, &c, batch)
		if err != nil {
			if !again {
				p.unsure = batch
				p.unknown += int64(len(batch))
			}
			if over() {
				return nil
			}
			return err
		}
		for i := range batch {
			a, r := &batch[i], &result.Results[i]
			if again {
				p.repeated++
			}
			if r.ID != a.signal.ID || !a.fits(r.Outcome, again) {
				return fmt.Errorf("%s, sent again %t, seen in force %t: %+v", a.signal.ID, again, a.found, *r)
			}
			if !a.found {
				p.ledger.holds(a)
			}
		}
		p.unsure, p.newest = nil, result.AsOf
		p.pushes++
		p.acknowledged += int64(len(batch))
	}
	return nil
}

// fits says whether an outcome is what a signal may have: what is there already is a
// duplicate, and nothing else is. Of a line it was not looked for by itself, and a newer
// one of the same push may be there besides.
func (a *act) fits(outcome string, again bool) bool {
	switch {
	case a.found:
		return outcome == "duplicate"
	case again && a.line.agent != "":
		return outcome == "applied" || outcome == "duplicate" || outcome == "superseded"
	}
	return outcome == "applied"
}

func (p *killPusher) push(s *site, c *conn, batch []act) (*pushResult, error) {
	bodies := make([]signalBody, len(batch))
	for i := range batch {
		bodies[i] = batch[i].signal
	}
	body, err := json.Marshal(bodies)
	if err != nil {
		return nil, err
	}
	status, answer, err := c.do(s.control.request(http.MethodPost, signalsPath, s.token, body))
	if err != nil {
		return nil, err
	}
	var result pushResult
	if err := json.Unmarshal(answer, &result); status != http.StatusOK || err != nil || len(result.Results) != len(batch) {
		return nil, fmt.Errorf("signals: status %d: %.300s", status, answer)
	}
	return &result, nil
}

// batch makes the next signals: one to three, mostly of lines.
func (p *killPusher) batch() []act {
	batch := make([]act, 1+p.random.IntN(3))
	for i := range batch {
		p.count++
		now := time.Now()
		if !now.After(p.at) {
			now = p.at.Add(time.Nanosecond)
		}
		p.at = now
		a := &batch[i]
		a.signal = signalBody{V: 1, Time: wireTime(now)}
		if p.random.IntN(8) == 0 {
			p.revocation(a)
			continue
		}
		a.line = lineKey{p.agents[p.random.IntN(len(p.agents))], []string{facetHold, facetRisk}[p.random.IntN(2)]}
		p.serials[a.line]++
		a.serial = p.serials[a.line]
		a.signal.ID = lineID(a.line, strconv.Itoa(a.serial))
		a.signal.Entities = []string{"agent:" + a.line.agent}
		switch {
		case a.line.facet == facetRisk:
			risk := a.serial * 37 % 101 // another one each time
			a.signal.Type, a.signal.Risk = "risk", &risk
		case a.serial%2 == 1:
			a.signal.Type = "quarantine"
		default:
			a.signal.Type = "release"
		}
		p.ledger.pushing(a.line, a.serial)
	}
	return batch
}

// revocation makes one about one to three sessions, all of which it must hit.
func (p *killPusher) revocation(a *act) {
	a.signal.ID, a.signal.Type = fmt.Sprintf("%s-revoke-%d", p.name, p.count), "revoke"
	for n := range 1 + p.random.IntN(3) {
		session := fmt.Sprintf("%s-%d-%d", p.name, p.count, n)
		a.sessions = append(a.sessions, session)
		a.signal.Entities = append(a.signal.Entities, "session:"+session)
	}
}

// look sees after a restart what has become of the push that had no answer: each signal is
// there whole or not at all, and what is there counts as acknowledged from now on.
func (p *killPusher) look(s *site, c *conn) error {
	for i := range p.unsure {
		a := &p.unsure[i]
		if a.line.agent != "" {
			continue // looked at with its line
		}
		seen := 0
		for _, session := range a.sessions {
			e, err := s.entity(c, "session:"+session)
			if err != nil {
				return err
			}
			if e.revokes(a.signal.ID) {
				seen++
			}
		}
		switch seen {
		case 0:
		case len(a.sessions):
			if !a.found {
				a.found = true
				p.kept++
				p.ledger.holds(a)
			}
		default:
			p.ledger.loss("%s revokes %d of its %d sessions", a.signal.ID, seen, len(a.sessions))
		}
	}
	return nil
}
