package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// lateReplicas are servers that deny a session so many questions after it was revoked. They
// answer as the ports do.
type lateReplicas struct {
	mu      sync.Mutex
	revoked map[string]bool
	left    []map[string]int // for each replica: questions until it knows
}

func (l *lateReplicas) serve(t *testing.T, replica, late int) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		body := readAll(r)
		switch {
		case r.URL.Path == "/v1/status":
			fmt.Fprint(w, `{"feed":{"as_of":"v1.none"}}`)
		case r.URL.Path == signalsPath:
			if _, rest, ok := strings.Cut(body, `"session:`); ok {
				session, _, _ := strings.Cut(rest, `"`)
				l.revoked[session] = true
			}
			fmt.Fprint(w, `{"results":[{"outcome":"applied"}]}`)
		default:
			_, rest, _ := strings.Cut(body, `"session":"`)
			session, _, _ := strings.Cut(rest, `"`)
			if l.revoked[session] {
				if n := l.left[replica][session]; n >= late {
					fmt.Fprint(w, `{"decision":false,"context":{"effect":"deny","code":"revoked"}}`)
					return
				}
				l.left[replica][session]++
			}
			fmt.Fprint(w, bareAnswer)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func readAll(r *http.Request) string {
	data, _ := io.ReadAll(r.Body)
	return string(data)
}

// The delay of a round is that of the slowest replica, from before the push.
func TestTheDelayIsThatOfTheLastReplicaToKnow(t *testing.T) {
	l := &lateReplicas{revoked: map[string]bool{}, left: []map[string]int{{}, {}, {}}}
	m := &spread{timeout: 10 * time.Second, think: 2 * time.Millisecond, body: func(session string) []byte { return fmt.Appendf(nil, `{"session":"%s"}`, session) }}
	for replica, late := range []int{0, 1, 30} {
		to, err := parseTarget(l.serve(t, replica, late), false)
		if err != nil {
			t.Fatal(err)
		}
		m.replicas = append(m.replicas, to)
	}
	m.start(t.Context())
	defer m.end()
	for i := range 3 {
		session := fmt.Sprintf("s-%d", i)
		if err := m.allowed(session, ""); err != nil {
			t.Fatal(err)
		}
		delays, err := m.time(session, func() error {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.revoked[session] = true
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if delays[2] < 30*m.think || delays[0] >= delays[2] || delays[1] >= delays[2] {
			t.Errorf("%v: the last replica was 30 questions late, each %s after the one before", delays, m.think)
		}
	}
	if err := m.allowed("s-0", ""); err == nil {
		t.Error("what was revoked passes for what nobody has revoked")
	}
	if _, err := m.time("s-9", func() error { return errors.New("no broker") }); err == nil || err.Error() != "no broker" {
		t.Error(err)
	}
}

func TestReplicasThatNeverDenyOrDenyForAnotherReasonAreReported(t *testing.T) {
	for name, c := range map[string]struct {
		late    int
		timeout string // only for who never denies is it waited for
	}{"never": {1 << 30, "2s"}, "at once": {0, "30s"}} {
		l := &lateReplicas{revoked: map[string]bool{}, left: []map[string]int{{}, {}}}
		code, out := command(t, "replicas", "--decision-url", l.serve(t, 0, 0), "--control-url", l.serve(t, 0, 0), "--replica", l.serve(t, 1, c.late),
			"--rounds", "5", "--timeout", c.timeout, "--think", "0s")
		switch name {
		case "never":
			if code != exitMissed || !strings.Contains(out, "still allows") {
				t.Errorf("%s: code %d\n%s", name, code, out)
			}
		default:
			if code != exitOK || !strings.Contains(out, "replicas.sent_to_deny_on_every.p99") {
				t.Errorf("%s: code %d\n%s", name, code, out)
			}
		}
	}
}

// Tokens of one replica are told apart by how far they are.
func TestTheNewestPositionIsDemanded(t *testing.T) {
	token := func(offset byte) []byte {
		raw := append(make([]byte, 16), 0, offset)
		return fmt.Appendf(nil, `{"as_of":"v1.%s"}`, base64.RawURLEncoding.EncodeToString(raw))
	}
	var n newest
	if n.demand() != "" {
		t.Error("something is demanded before anything is known")
	}
	for _, offset := range []byte{5, 9, 7} {
		n.learn(token(offset))
	}
	n.learn([]byte(`{"as_of":"v1.nonsense"}`))
	if want := "Vigil-At-Least: " + string(member(token(9), asOfMember)); n.demand() != want {
		t.Errorf("%q is demanded, want %q", n.demand(), want)
	}
}
