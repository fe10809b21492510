package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
)

// ledger is everything that an engine has acknowledged, so that it can be held to it. It is
// safe for concurrent use.
//
// Two sorts of signals are kept apart. A revocation is about sessions of its own and stands
// for good: each is a claim that is looked for by itself. Quarantines, releases and risks
// come in lines, one for each agent and facet, in which a newer one speaks in place of the
// older: of a line it is looked at where it has come to.
type ledger struct {
	mu       sync.Mutex
	claims   []claim               // acknowledged, or seen in force once
	fresh    int                   // claims from here on have not been looked for yet
	lines    map[lineKey]*lineMark // of each agent and facet
	lost     int
	examples []string
	checked  int // claims that were found at least once
}

// claim is one entity of one acknowledged revocation.
type claim struct {
	session string
	id      string // of the signal
}

type lineKey struct{ agent, facet string }

// lineMark is how far a line has come. Serials only rise.
type lineMark struct {
	acknowledged int // the newest that must be there
	pushed       int // the newest that may be there
}

// facets of the lines.
const (
	facetHold = "hold"
	facetRisk = "risk"
)

func newLedger() *ledger { return &ledger{lines: map[lineKey]*lineMark{}} }

// pushing notes that a signal of a line is about to be sent.
func (l *ledger) pushing(key lineKey, serial int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mark := l.lines[key]
	if mark == nil {
		mark = &lineMark{}
		l.lines[key] = mark
	}
	mark.pushed = max(mark.pushed, serial)
}

// holds notes what was acknowledged, or what was seen and must never go away again.
func (l *ledger) holds(a *act) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.line.agent != "" {
		l.lines[a.line].acknowledged = max(l.lines[a.line].acknowledged, a.serial)
		return
	}
	for _, session := range a.sessions {
		l.claims = append(l.claims, claim{session, a.signal.ID})
	}
}

// revoked gives a session whose revocation has been acknowledged, or "".
func (l *ledger) revoked(random *rand.Rand) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.claims) == 0 {
		return ""
	}
	if random.IntN(2) == 0 { // the newest are in the most danger
		return l.claims[len(l.claims)-1-random.IntN(min(len(l.claims), 64))].session
	}
	return l.claims[random.IntN(len(l.claims))].session
}

// due gives the claims to look for after a restart: all that have not been looked for, and
// some older ones; every one where all is wanted.
func (l *ledger) due(random *rand.Rand, older int, all bool) []claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	if all {
		l.checked += len(l.claims) - l.fresh
		l.fresh = len(l.claims)
		return slices.Clone(l.claims)
	}
	due := slices.Clone(l.claims[l.fresh:])
	for range min(older, l.fresh) {
		due = append(due, l.claims[random.IntN(l.fresh)])
	}
	l.checked += len(l.claims) - l.fresh
	l.fresh = len(l.claims)
	return due
}

// loss notes something acknowledged that is not there.
func (l *ledger) loss(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost++
	if len(l.examples) < 10 {
		l.examples = append(l.examples, fmt.Sprintf(format, args...))
	}
}

// entityAnswer is what is read of GET /v1/entities/{ref}.
type entityAnswer struct {
	Effective struct {
		Status string `json:"status"`
		Risk   int    `json:"risk"`
	} `json:"effective"`
	Facts []struct {
		Type   string `json:"type"`
		ID     string `json:"id"`
		Active bool   `json:"active"`
		Risk   int    `json:"risk"`
	} `json:"facts"`
}

// entity asks what is known of one; nil where nothing is.
func (s *site) entity(c *conn, ref string) (*entityAnswer, error) {
	status, body, err := c.do(s.control.request(http.MethodGet, "/v1/entities/"+ref, s.token, nil))
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusNotFound && strings.Contains(string(body), `"unknown_entity"`):
		return nil, nil
	case status != http.StatusOK:
		return nil, fmt.Errorf("GET %s: status %d: %.300s", ref, status, body)
	}
	var answer entityAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("GET %s: %w", ref, err)
	}
	return &answer, nil
}

// revokes reports whether the entity is revoked by the signal.
func (e *entityAnswer) revokes(id string) bool {
	if e == nil || e.Effective.Status != "revoked" {
		return false
	}
	for _, f := range e.Facts {
		if f.Type == "revoke" && f.ID == id && f.Active {
			return true
		}
	}
	return false
}

// newest finds the newest fact of a line, and says what about the entity does not fit it.
// 0: there is none.
func (e *entityAnswer) newest(key lineKey, prefix string) (serial int, problem string) {
	if e == nil {
		return 0, ""
	}
	var held bool
	var risk int
	for _, f := range e.Facts {
		facet := facetHold
		switch f.Type {
		case "risk":
			facet = facetRisk
		case "quarantine", "release":
		default:
			continue
		}
		var n int
		if facet != key.facet || !strings.HasPrefix(f.ID, prefix) {
			continue
		}
		if _, err := fmt.Sscanf(f.ID[len(prefix):], "%d", &n); err == nil && n > serial {
			serial, held, risk = n, f.Type == "quarantine", f.Risk
		}
	}
	switch {
	case serial == 0:
	case key.facet == facetHold && held != (e.Effective.Status == "quarantined"):
		problem = fmt.Sprintf("its newest hold is %t, its status %s", held, e.Effective.Status)
	case key.facet == facetRisk && e.Effective.Risk != risk:
		problem = fmt.Sprintf("its newest risk is %d, its effective one %d", risk, e.Effective.Risk)
	}
	return serial, problem
}

// verifiers is how many connections look for what was acknowledged.
const verifiers = 4

// verify looks for what was acknowledged: claims, and every line. It returns an error where
// it could not look.
func (l *ledger) verify(s *site, o *killsOptions, due []claim) error {
	l.mu.Lock()
	lines := make([]lineKey, 0, len(l.lines))
	for key := range l.lines {
		lines = append(lines, key)
	}
	l.mu.Unlock()
	var group sync.WaitGroup
	errs := make([]error, verifiers)
	for n := range verifiers {
		group.Go(func() {
			c := conn{to: s.control, timeout: o.timeout}
			defer c.close()
			for i := n; i < len(due) && errs[n] == nil; i += verifiers {
				e, err := s.entity(&c, "session:"+due[i].session)
				if errs[n] = err; err == nil && !e.revokes(due[i].id) {
					l.loss("session:%s is not revoked by %s, which was acknowledged: %+v", due[i].session, due[i].id, e)
				}
			}
			for i := n; i < len(lines) && errs[n] == nil; i += verifiers {
				errs[n] = l.verifyLine(s, &c, lines[i])
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) verifyLine(s *site, c *conn, key lineKey) error {
	e, err := s.entity(c, "agent:"+key.agent)
	if err != nil {
		return err
	}
	serial, problem := e.newest(key, lineID(key, ""))
	l.mu.Lock()
	mark := *l.lines[key]
	// What is in force now must stay in force.
	l.lines[key].acknowledged = max(mark.acknowledged, serial)
	l.mu.Unlock()
	switch {
	case serial < mark.acknowledged:
		l.loss("agent:%s: the %s stands at %d, and %d was acknowledged", key.agent, key.facet, serial, mark.acknowledged)
	case serial > mark.pushed:
		l.loss("agent:%s: the %s stands at %d, which nobody sent", key.agent, key.facet, serial)
	case problem != "":
		l.loss("agent:%s: %s", key.agent, problem)
	}
	return nil
}

// lineID is the id of a signal of a line, but for its serial.
func lineID(key lineKey, serial string) string { return key.agent + "/" + key.facet + "/" + serial }
