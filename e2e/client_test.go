//go:build e2e && linux

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
)

// client asks one replica, wherever it listens at the time. It is safe for concurrent use.
type client struct {
	http http.Client
	at   atomic.Pointer[place]
}

// place is where a replica listens, from one start to the next.
type place struct{ decision, control, token string }

// answerTime bounds one question; whoever is suspended answers none.
const answerTime = 20 * time.Second

// answer is what a replica said to one question.
type answer struct {
	err     error // none came
	status  int
	allowed bool
	code    string // of a decision
	asOf    string
	body    string
}

// String is the answer in a word, for tallies.
func (a answer) String() string {
	switch {
	case a.err != nil:
		return "no answer"
	case a.status != http.StatusOK:
		return fmt.Sprintf("status %d", a.status)
	case a.allowed:
		return "allow"
	}
	return "deny " + a.code
}

// denied reports whether a decision was made and is a no.
func (a answer) denied() bool { return a.err == nil && a.status == http.StatusOK && !a.allowed }

// decide asks whether an agent may pay in a session, from a view at least as new as
// atLeast; "" for any.
func (c *client) decide(agent, session, atLeast string) answer {
	body := fmt.Sprintf(`{"subject":{"type":"user","id":"kim","properties":{"role":"AP-analyst","scope":"propose:payments","act":{"sub":%q}}},`+
		`"action":{"name":"pay"},"resource":{"type":"payment","id":"inv-88","properties":{"amount":4200,"supplier":"acme"}},"context":{"session":%q}}`, agent, session)
	header := http.Header{}
	if atLeast != "" {
		header.Set("Vigil-At-Least", atLeast)
	}
	a := c.do(http.MethodPost, c.at.Load().decision+"/access/v1/evaluation", body, header)
	if a.err != nil || a.status != http.StatusOK {
		return a
	}
	var said struct {
		Decision bool `json:"decision"`
		Context  struct {
			Code string `json:"code"`
			AsOf string `json:"as_of"`
		} `json:"context"`
	}
	a.err = json.Unmarshal([]byte(a.body), &said)
	a.allowed, a.code, a.asOf = said.Decision, said.Context.Code, said.Context.AsOf
	return a
}

// push sends signals, given as the texts of JSON objects.
func (c *client) push(signals ...string) answer {
	at := c.at.Load()
	header := http.Header{"Authorization": {"Bearer " + at.token}}
	a := c.do(http.MethodPost, at.control+"/v1/signals", "["+strings.Join(signals, ",")+"]", header)
	if a.err != nil || a.status != http.StatusOK {
		return a
	}
	var said struct {
		AsOf string `json:"as_of"`
	}
	a.err = json.Unmarshal([]byte(a.body), &said)
	a.asOf = said.AsOf
	return a
}

func (c *client) get(path string) answer {
	at := c.at.Load()
	return c.do(http.MethodGet, at.control+path, "", http.Header{"Authorization": {"Bearer " + at.token}})
}

func (c *client) do(method, url, body string, header http.Header) answer {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	var all bytes.Buffer
	_, err = io.Copy(&all, io.LimitReader(resp.Body, 1<<20))
	return answer{err: err, status: resp.StatusCode, body: all.String()}
}

// signal is the text of one signal.
func signal(id, kind, ref, more string) string {
	return fmt.Sprintf(`{"v":1,"id":%q,"type":%q,"entities":[%q],"time":%q%s}`, id, kind, ref, time.Now().UTC().Format(time.RFC3339Nano), more)
}

func revocation(session string) string {
	return signal("revoke-"+session, "revoke", "session:"+session, "")
}

// registration makes an agent known, attested as its class demands.
func registration(agent string) []string {
	return []string{signal("att-"+agent, "attest", "agent:"+agent, `,"result":"pass"`), signal("reg-"+agent, "register", "agent:"+agent, `,"class":"high-high","labels":{"role":"invoice-agent"},"scopes":["propose:payments"]`)}
}

// status is what is read of GET /v1/status.
type status struct {
	Ready    bool     `json:"ready"`
	Degraded []string `json:"degraded"`
	Feed     struct {
		Log         string           `json:"log"`
		AsOf        string           `json:"as_of"`
		Positions   map[string]int64 `json:"positions"`
		Age         float64          `json:"age_seconds"`
		Broken      string           `json:"broken"`
		Health      string           `json:"health"`
		DeadLetters uint64           `json:"dead_letters"`
	} `json:"feed"`
	Posture struct {
		Digest string `json:"digest"`
	} `json:"posture"`
}

func (c *client) status(digest bool) (s status, err error) {
	path := "/v1/status"
	if digest {
		path += "?digest=1"
	}
	a := c.get(path)
	if a.err != nil || a.status != http.StatusOK {
		return s, fmt.Errorf("%s: %s %w", path, a, a.err)
	}
	return s, json.Unmarshal([]byte(a.body), &s)
}
