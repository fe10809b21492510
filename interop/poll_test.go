package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
)

// stream is the poll endpoint (RFC 8936) of a transmitter. It holds back its answer until
// there is something to say.
type stream struct {
	t       *testing.T
	token   secret
	changed chan struct{} // a token, where sets may have come
	settled chan settled

	mu      sync.Mutex
	sets    map[string]string // by jti
	decides func() string     // asked when something is acknowledged, before that is answered
}

// settled is what the receiver said of one SET: the error, or what it decided when it
// acknowledged.
type settled struct{ id, said string }

func newStream(t *testing.T) *stream {
	return &stream{t: t, token: newSecret(), changed: make(chan struct{}, 1), settled: make(chan settled, 100), sets: map[string]string{}}
}

func (s *stream) offer(decides func() string, sets map[string]string) {
	s.mu.Lock()
	s.decides = decides
	for id, set := range sets {
		s.sets[id] = set
	}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// settle waits until the receiver has said something of so many SETs, and gives what, by jti.
func (s *stream) settle(n int) map[string]string {
	s.t.Helper()
	all := map[string]string{}
	timeout := time.After(patience)
	for len(all) < n {
		select {
		case one := <-s.settled:
			all[one.id] = one.said
		case <-timeout:
			s.t.Fatalf("of %d SETs only these were settled: %v", n, all)
		}
	}
	return all
}

func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct {
		MaxEvents         *int     `json:"maxEvents"`
		ReturnImmediately bool     `json:"returnImmediately"`
		Ack               []string `json:"ack"`
		SetErrs           map[string]struct {
			Err         string `json:"err"`
			Description string `json:"description"`
		} `json:"setErrs"`
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&q); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" ||
		r.Header.Get("Authorization") != "Bearer "+string(s.token) || q.MaxEvents == nil {
		s.t.Errorf("this is no request of RFC 8936: %s %v %v", r.Method, r.Header, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	for _, id := range q.Ack {
		if s.sets[id] == "" {
			continue // again, for the answer to the first time was held back
		}
		delete(s.sets, id)
		s.settled <- settled{id, s.decides()}
	}
	for id, e := range q.SetErrs {
		if e.Description == "" {
			s.t.Errorf("%s: an error without a description", id)
		}
		delete(s.sets, id)
		s.settled <- settled{id, e.Err}
	}
	for len(s.sets) == 0 && !q.ReturnImmediately {
		s.mu.Unlock()
		select {
		case <-s.changed:
		case <-r.Context().Done():
			return
		}
		s.mu.Lock()
	}
	answer, more := map[string]string{}, false
	for id, set := range s.sets {
		if more = len(answer) == *q.MaxEvents; more {
			break
		}
		answer[id] = set
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]any{"sets": answer, "moreAvailable": more}); err != nil {
		s.t.Error(err)
	}
}

// TestSETsThatArePolledAreAcknowledgedOnlyWhenTheyAreInForce: the transmitter is another's,
// and what it is told of each SET is what became of it.
func TestSETsThatArePolledAreAcknowledgedOnlyWhenTheyAreInForce(t *testing.T) {
	tr := newTransmitter(t, jwa.ES256())
	s := newStream(t)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	e := start(t, fmt.Sprintf(`
issuers:
  - name: idp
    issuer: %s
    audience: [%s]
    algorithms: [ES256]
    keys: {uri: %q}
    may: {types: [revoke, quarantine, release], kinds: [session, agent]}
    poll: {endpoint: %q, token_file: poll.token}
`, issuer, audience, tr.keysURL, server.URL+"/poll"), file{"poll.token", string(s.token)})
	e.expect("before", "allowed")

	payer := func() string { return e.decides("payer", "kim", "s-1") }
	id, set := tr.says(own+"quarantine", object{}, agentPayer)
	s.offer(payer, map[string]string{id: set})
	if said := s.settle(1)[id]; said != "quarantined" {
		t.Errorf("acknowledged, or refused, with %s", said)
	}
	e.expect("acknowledged", "quarantined")

	// One that is refused keeps none of the others.
	forged := *tr
	forged.key = newKey(t, tr.alg, "k-1")
	bad, forgery := forged.says(own+"release", object{}, agentPayer)
	denied, disabled := tr.says(risc+"account-disabled", object{}, userKim)
	good, release := tr.says(own+"release", object{}, agentPayer)
	s.offer(payer, map[string]string{bad: forgery, denied: disabled, good: release})
	said := s.settle(3)
	if said[bad] != "authentication_failed" || said[denied] != "access_denied" || said[good] != "allowed" {
		t.Errorf("%v", said)
	}
	e.expect("one good one among others", "allowed")

	id, set = tr.says(caep+"session-revoked", object{"reason_admin": object{"en": "impossible travel"}}, session1)
	s.offer(payer, map[string]string{id: set})
	if said := s.settle(1)[id]; said != "revoked" {
		t.Errorf("acknowledged, or refused, with %s", said)
	}
	e.expect("a session that is revoked", "revoked")
}
